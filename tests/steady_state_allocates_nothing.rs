//! Goal: after warm-up, nothing but libzmq allocates for a message, whatever the engine: not the lane, not
//! the envelope, inflating included, not the handoff, not the worker, not the handler that counts.
//!
//! The allocator counts for the whole process, so this is the only test in it, and the publisher is
//! another process.

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use flate2::{Compression, write::ZlibEncoder};
use pinfeed::{
    config::{Config, Engine},
    envelope::{
        Endian, Envelope, FieldName, NumberAt, TextTime, TimestampAt, TopicAt, Unit, Width,
    },
    handoff::HandoffKind,
    lane::Quota,
    pipeline::Pipeline,
    stop::Stop,
    worker::handlers::Count,
};
use support::{
    ENGINES, finish,
    peer::{Door, message},
    publisher, wait_until,
};

const WARM_UP: u64 = 200_000;
const MEASURED: u64 = 1_000_000;
const REST: u64 = 300_000;
/// What the whole process may allocate over a million messages: a thread that waits for the first
/// time for a full handoff makes itself known to the channel.
const ALLOWED: u64 = 16;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code)]
// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn over_a_million_messages() {
    for engine in ENGINES {
        for handoff in [HandoffKind::Ring, HandoffKind::Inproc] {
            // One frame, and two.
            for envelope in [Envelope::Pinfeed, Envelope::Raw] {
                published(engine, handoff, &envelope, &envelope);
            }
        }
        let described = Envelope::Layout(Arc::new(described()));
        let written = Envelope::Delimited(b' ');
        published(engine, HandoffKind::Ring, &written, &described);
        compressed(engine);
    }
}

/// A layout that looks at the whole message and rejects none.
fn described() -> pinfeed::envelope::Layout {
    let number = NumberAt {
        frame: 0,
        offset: -8,
        width: Width::Eight,
        endian: Endian::Little,
    };
    let unit = TextTime::Number(Unit::Seconds);
    pinfeed::envelope::Layout {
        name: "described".to_owned(),
        topic: TopicAt::Until(0, b" ".to_vec()),
        payload: 0,
        text: false,
        sequence: None,
        epoch: Some(number),
        timestamp: Some(TimestampAt::Json(FieldName::new("timestamp"), unit)),
        inflate: None,
    }
}

/// Measures over what `pinfeed publish` writes in one envelope and another one reads.
fn published(engine: Engine, handoff: HandoffKind, written: &Envelope, read: &Envelope) {
    let total = (WARM_UP + MEASURED + REST).to_string();
    let (_publisher, endpoint) = publisher(&[
        "--rate",
        "max",
        "--messages",
        &total,
        "--envelope",
        &written.to_string(),
    ]);
    measure(engine, handoff, &endpoint, read);
}

/// Measures over compressed messages, which are encoded beforehand: writing them allocates nothing.
fn compressed(engine: Engine) {
    const BLOCK_MESSAGES: u64 = 1_000;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&[b'x'; 300]).unwrap();
    let frame = encoder.finish().unwrap();
    let block = message(&[&frame]).repeat(BLOCK_MESSAGES as usize);
    let door = Door::open();
    let endpoint = door.endpoint.clone();
    let publisher = thread::spawn(move || {
        let mut peer = door.accept();
        peer.welcome(1);
        for _ in 0..(WARM_UP + MEASURED + REST) / BLOCK_MESSAGES {
            if !peer.try_send(&block) {
                break;
            }
        }
        // Closed before all is read, it would take the end with it.
        peer
    });
    let envelope = "eddn".parse().expect("a name");
    measure(engine, HandoffKind::Ring, &endpoint, &envelope);
    drop(publisher.join().expect("it has sent all"));
}

fn measure(engine: Engine, handoff: HandoffKind, endpoint: &str, envelope: &Envelope) {
    let mut config = Config::connect(endpoint, envelope.clone());
    config.engine = Some(engine);
    config.handoff.kind = handoff;
    let mut pipeline = Pipeline::start(
        &config,
        Quota::of(WARM_UP + MEASURED + REST),
        Stop::default(),
        |_| Count::default(),
    )
    .unwrap();
    wait_until("all is warm", || pipeline.look().delivered >= WARM_UP);
    let before = (ALLOCATIONS.load(Relaxed), pipeline.look().delivered);
    // Ending is not steady, and the rest keeps it away.
    wait_until("enough is measured", || {
        pipeline.look().delivered >= WARM_UP + MEASURED
    });
    let allocations = ALLOCATIONS.load(Relaxed) - before.0;
    let messages = WARM_UP + MEASURED - before.1;
    let outcome = finish(pipeline);
    assert_eq!(outcome.totals.delivered, WARM_UP + MEASURED + REST);
    assert!(messages > MEASURED / 2, "measured over {messages} messages");
    assert!(
        allocations <= ALLOWED,
        "{allocations} allocations over {messages} messages: {engine:?}, {handoff}, {envelope}"
    );
}
