//! What benches of stages share: the messages, and how a handoff is measured.
//!
//! Each bench has a case named [`EMPTY`]: what its loop costs without the stage. A stage's cost is the
//! difference. What was counted is compared with what should have been when the measurement is over.

#![allow(dead_code, reason = "each bench uses a part")]
#![allow(missing_docs)]

use std::{
    hint::{self, black_box},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, Throughput};
use pinfeed::{
    clock::Clock,
    envelope::{Envelope, Fields, pinfeed::seal},
    handoff::{Batch, BatchLimits, HandoffLimits, Inlet, Outlet, Received, ring},
    libzmq::Context,
    message::{Origin, Stamp},
    shard::topic_hash,
    wait::Wait,
};

/// The case that shows what the loop itself costs.
pub const EMPTY: &str = "empty";
/// Messages of a round of a handoff.
pub const HANDED_OVER: u64 = 65_536;
pub const MESSAGE_BYTES: usize = 64;
pub const ORIGIN: Origin = Origin { feed: 0, line: 0 };

/// Messages of 64 bytes in the envelope `pinfeed`, over a thousand topics.
pub fn frames(count: usize) -> Vec<Vec<u8>> {
    let frame = |index: usize| {
        let mut frame = Vec::new();
        let topic = format!("sim.{:05}", index * 7 % 1_000);
        let stamp = Stamp {
            epoch: 1,
            sequence: index as u64,
            timestamp_ns: 1,
        };
        seal(&mut frame, topic.as_bytes(), &[b'x'; 26], stamp);
        assert_eq!(frame.len(), MESSAGE_BYTES);
        frame
    };
    (0..count).map(frame).collect()
}

pub fn limits(messages: usize) -> HandoffLimits {
    HandoffLimits {
        batch: BatchLimits {
            messages,
            bytes: 128 * 1024,
        },
        batches: 32,
    }
}

/// What makes a handoff from one lane to one worker.
pub type Connect = fn(&Context, HandoffLimits) -> (Outlet, Inlet);

pub fn over_ring(_context: &Context, limits: HandoffLimits) -> (Outlet, Inlet) {
    let (mut outlets, inlet) = ring::connect(0, &[false], limits, Wait::Park);
    let outlet = outlets.pop().expect("one lane");
    (Outlet::Ring(outlet), Inlet::Ring(inlet))
}

/// How long the worker is left alone, so that it sleeps.
const REST: Duration = Duration::from_micros(200);

/// Measures batches of several sizes on their way to a worker's thread, and the same batches filled and
/// looked at without leaving theirs; and how long a message takes to one that sleeps.
pub fn measure_handoff(criterion: &mut Criterion, name: &str, connect: Connect) {
    measure_wake(criterion, name, connect);
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(HANDED_OVER));
    for messages in [1, 16, 256, 1_024] {
        let (mut sent, seen) = (0, &AtomicU64::new(0));
        let context = Context::new(0, 2).expect("a context");
        let (mut outlet, mut inlet) = connect(&context, limits(messages));
        thread::scope(|scope| {
            scope.spawn(move || while look_at_next(&mut inlet, seen) {});
            group.bench_function(BenchmarkId::from_parameter(messages), |bencher| {
                bencher.iter(|| {
                    for _ in 0..HANDED_OVER as usize / messages {
                        send(&mut outlet, messages);
                    }
                    sent += HANDED_OVER;
                    while seen.load(Relaxed) < sent {
                        thread::yield_now();
                    }
                });
            });
            drop(outlet);
        });
        assert_eq!(seen.load(Relaxed), sent);

        let (mut sent, seen) = (0, AtomicU64::new(0));
        let (mut outlet, mut inlet) = over_ring(&context, limits(messages));
        group.bench_function(BenchmarkId::new(EMPTY, messages), |bencher| {
            bencher.iter(|| {
                for _ in 0..HANDED_OVER as usize / messages {
                    send(&mut outlet, messages);
                    look_at_next(&mut inlet, &seen);
                }
                sent += HANDED_OVER;
            });
        });
        assert_eq!(seen.load(Relaxed), sent);
    }
    group.finish();
}

/// Measures how long it takes from handing one message over to a worker that sleeps until that has looked at it.
fn measure_wake(criterion: &mut Criterion, name: &str, connect: Connect) {
    let (mut sent, seen) = (0, &AtomicU64::new(0));
    let context = Context::new(0, 2).expect("a context");
    let (mut outlet, mut inlet) = connect(&context, limits(1));
    let clock = Clock::start();
    thread::scope(|scope| {
        scope.spawn(move || while look_at_next(&mut inlet, seen) {});
        criterion.bench_function(&format!("{name}/a worker that sleeps"), |bencher| {
            bencher.iter_custom(|times| {
                let mut taken_ns = 0;
                for _ in 0..times {
                    thread::sleep(REST);
                    let start_ns = clock.now_ns();
                    send(&mut outlet, 1);
                    sent += 1;
                    while seen.load(Relaxed) < sent {
                        hint::spin_loop();
                    }
                    taken_ns += clock.now_ns() - start_ns;
                }
                Duration::from_nanos(taken_ns)
            });
        });
        drop(outlet);
    });
    assert_eq!(seen.load(Relaxed), sent);
}

fn send(outlet: &mut Outlet, messages: usize) {
    let mut batch = loop {
        match outlet.wait_for_spare(Duration::from_secs(1)) {
            Ok(Some(batch)) => break batch,
            Ok(None) => {}
            Err(gone) => panic!("{gone}"),
        }
    };
    let frames = [&[b'x'; MESSAGE_BYTES][..]];
    let fields = Envelope::Raw.open(&frames).expect("raw takes anything");
    for _ in 0..messages {
        push(&mut batch, &fields, black_box(&frames));
    }
    outlet.send(batch).expect("the worker receives");
}

fn push(batch: &mut Batch, fields: &Fields, frames: &[&[u8]]) {
    batch.push(ORIGIN, 1, topic_hash(frames[0]), fields, frames);
}

/// Looks at the next batch's payloads and counts its messages. Returns false at the end.
fn look_at_next(inlet: &mut Inlet, seen: &AtomicU64) -> bool {
    match inlet.receive().expect("the context lives") {
        Received::Batch(batch) => {
            let bytes: usize = batch.messages().map(|one| one.payload().len()).sum();
            // What was not handed over whole is not counted.
            let messages = (bytes / MESSAGE_BYTES) as u64;
            seen.store(seen.load(Relaxed) + messages, Relaxed);
            inlet.give_back(batch);
            true
        }
        Received::Idle => true,
        Received::Ended => false,
    }
}
