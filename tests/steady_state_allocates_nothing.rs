//! Goal: after warm-up, nothing on our side of libzmq allocates for a message: not the lane, not the
//! handoff, not the worker, not the handler that counts.
//!
//! The allocator counts for the whole process, so this is the only test in it, and the publisher is
//! another process.

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use pinfeed::{
    config::Config, envelope::Envelope, lane::Quota, pipeline::Pipeline, stop::Stop,
    worker::handlers::Count,
};
use support::publisher;

const WARM_UP: u64 = 200_000;
const MEASURED: u64 = 1_000_000;
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
    let total = (WARM_UP + MEASURED).to_string();
    let (_publisher, endpoint) =
        publisher(&["--rate", "max", "--topics", "1000", "--messages", &total]);
    let mut pipeline = Pipeline::start(
        &Config::connect(&endpoint, Envelope::Pinfeed),
        Quota::of(WARM_UP + MEASURED),
        Stop::default(),
        |_| Count::default(),
    )
    .unwrap();
    while pipeline.look().delivered < WARM_UP {
        std::thread::yield_now();
    }
    let (allocations_before, delivered_before) =
        (ALLOCATIONS.load(Relaxed), pipeline.look().delivered);
    let (mut allocations, mut delivered) = (allocations_before, delivered_before);
    while !pipeline.is_finished() {
        // The last look before threads end: ending is not steady.
        let now = pipeline.look();
        if now.received < WARM_UP + MEASURED {
            (allocations, delivered) = (ALLOCATIONS.load(Relaxed), now.delivered);
        }
        std::thread::yield_now();
    }
    let outcome = pipeline.finish();
    assert_eq!(outcome.totals.delivered, WARM_UP + MEASURED);
    let (allocations, messages) = (
        allocations - allocations_before,
        delivered - delivered_before,
    );
    assert!(messages > MEASURED / 2, "measured over {messages} messages");
    assert!(
        allocations <= ALLOWED,
        "{allocations} allocations over {messages} messages"
    );
}
