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
        Endian, Envelope, FieldName, NumberAt, SequenceAt, TextTime, TimestampAt, TopicAt, Unit,
        Width,
    },
    handoff::HandoffKind,
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    sequence::Scope,
    stop::Stop,
    worker::{Handler, handlers::Count},
};
use support::{
    ENGINES, Gate, finish,
    peer::{Door, message},
    publisher, wait_until,
};

/// How many messages there are, by what part of the run they belong to.
#[derive(Clone, Copy)]
struct Scale {
    warm_up: u64,
    measured: u64,
    /// Ending is not steady, and this keeps it away.
    rest: u64,
}

impl Scale {
    const fn all(self) -> u64 {
        self.measured_to() + self.rest
    }

    const fn measured_to(self) -> u64 {
        self.warm_up + self.measured
    }
}

const SMALL: Scale = Scale {
    warm_up: 200_000,
    measured: 1_000_000,
    rest: 300_000,
};
/// Each larger than a batch.
const LARGE: Scale = Scale {
    warm_up: 400,
    measured: 1_000,
    rest: 300,
};
const LARGE_BYTES: usize = 300_000;
/// What the whole process may allocate meanwhile: a thread that waits for the first
/// time for a full handoff makes itself known to the channel.
const ALLOWED: u64 = 16;
/// What an entry of the flight record may: a busy machine holds lanes and workers up, and that is noted.
const ALLOWED_FOR_AN_ENTRY: u64 = 16;

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

/// What the process had allocated, as the handlers saw it.
#[derive(Default)]
struct Marks {
    messages: AtomicU64,
    before: AtomicU64,
    after: AtomicU64,
}

/// Counts, and marks where measuring begins and ends.
struct Marking {
    count: Count,
    marks: Arc<Marks>,
    scale: Scale,
    /// Closed until all batches of a worker have been filled once.
    gate: Gate,
}

impl Handler for Marking {
    fn on_message(&mut self, message: &Message<'_>) {
        self.gate.pass();
        self.count.on_message(message);
        let marks = &self.marks;
        let mark = match marks.messages.fetch_add(1, Relaxed) + 1 {
            count if count == self.scale.warm_up => &marks.before,
            count if count == self.scale.measured_to() => &marks.after,
            _ => return,
        };
        mark.store(ALLOCATIONS.load(Relaxed), Relaxed);
    }
}

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
        let numbered = Envelope::Layout(Arc::new(numbered()));
        published(engine, HandoffKind::Ring, &Envelope::Pinfeed, &numbered);
        compressed(engine);
        large(engine);
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
        heartbeat: None,
        inflate: None,
    }
}

/// The numbers of `pinfeed publish` without its epochs, so that which connection each message came by is looked at.
fn numbered() -> pinfeed::envelope::Layout {
    let number = NumberAt {
        frame: 0,
        offset: -20,
        width: Width::Eight,
        endian: Endian::Little,
    };
    pinfeed::envelope::Layout {
        name: "numbered".to_owned(),
        topic: TopicAt::Until(0, vec![0]),
        sequence: Some(SequenceAt {
            number,
            scope: Scope::Topic,
            start: Some(0),
            unnumbered: None,
        }),
        epoch: None,
        timestamp: None,
        ..described()
    }
}

/// Measures over what `pinfeed publish` writes in one envelope and another one reads.
fn published(engine: Engine, handoff: HandoffKind, written: &Envelope, read: &Envelope) {
    let total = SMALL.all().to_string();
    let (_publisher, endpoint) = publisher(&[
        "--rate",
        "max",
        "--messages",
        &total,
        "--envelope",
        &written.to_string(),
    ]);
    measure(engine, handoff, &endpoint, read, SMALL);
}

/// Measures over compressed messages, which are encoded beforehand: writing them allocates nothing.
fn compressed(engine: Engine) {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&[b'x'; 300]).unwrap();
    let frame = encoder.finish().unwrap();
    let envelope = "eddn".parse().expect("a name");
    repeated(engine, &message(&[&frame]), &envelope, SMALL);
}

/// Measures over messages that no batch was made for.
fn large(engine: Engine) {
    let sent = message(&[b"topic", &vec![7; LARGE_BYTES]]);
    repeated(engine, &sent, &Envelope::Raw, LARGE);
}

/// Measures over a message that is sent over and over, which allocates nothing.
fn repeated(engine: Engine, sent: &[u8], envelope: &Envelope, scale: Scale) {
    const BLOCK_MESSAGES: u64 = 100;
    let block = sent.repeat(BLOCK_MESSAGES as usize);
    let door = Door::open();
    let endpoint = door.endpoint.clone();
    let publisher = thread::spawn(move || {
        let mut peer = door.accept();
        peer.welcome(1);
        for _ in 0..scale.all() / BLOCK_MESSAGES {
            if !peer.try_send(&block) {
                break;
            }
        }
        // Closed before all is read, it would take the end with it.
        peer
    });
    measure(engine, HandoffKind::Ring, &endpoint, envelope, scale);
    drop(publisher.join().expect("it has sent all"));
}

fn measure(
    engine: Engine,
    handoff: HandoffKind,
    endpoint: &str,
    envelope: &Envelope,
    scale: Scale,
) {
    let mut config = Config::connect(endpoint, envelope.clone());
    config.engine = Some(engine);
    config.handoff.kind = handoff;
    let marks = Arc::new(Marks::default());
    let gate = Gate::default();
    let mut pipeline = Pipeline::start(&config, Quota::of(scale.all()), Stop::default(), |_| {
        Marking {
            count: Count::default(),
            marks: marks.clone(),
            scale,
            gate: gate.clone(),
        }
    })
    .unwrap();
    wait_until("the lane waits for a batch", || pipeline.look().blocked > 0);
    gate.open();
    let outcome = finish(pipeline);
    assert_eq!(outcome.totals.delivered, scale.all());
    let allocations = marks.after.load(Relaxed) - marks.before.load(Relaxed);
    let entries = outcome.flight.entries();
    let noted = entries.len() as u64 + outcome.flight.forgotten();
    assert!(
        allocations <= ALLOWED + noted * ALLOWED_FOR_AN_ENTRY,
        "{allocations} allocations over {} messages: {engine:?}, {handoff}, {envelope}, {entries:?}",
        scale.measured
    );
}
