//! Handing messages from a lane to a worker over inproc PUSH/PULL: one by one as libzmq messages, and
//! in batches as pinfeed does. Each measurement ends when the worker has seen everything.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pinfeed::{
    envelope::Envelope,
    handoff::{BatchLimits, HandoffLimits, Inlet, Outlet, Received, inproc, ring},
    libzmq::Context,
    message::Origin,
    shard::topic_hash,
    wait::Wait,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MESSAGES: u64 = 65_536;
const MESSAGE: [u8; 64] = [b'x'; 64];

/// Waits until the worker has seen `target` messages.
fn wait_for(seen: &AtomicU64, target: u64) {
    while seen.load(Relaxed) < target {
        thread::yield_now();
    }
}

fn one_by_one(criterion: &mut Criterion) {
    let context = Context::new(0, 2).expect("a context");
    let pull = context.socket(zmq::PULL).expect("a socket");
    pull.bind("inproc://one-by-one").expect("an endpoint");
    let push = context.socket(zmq::PUSH).expect("a socket");
    push.connect("inproc://one-by-one").expect("a connection");
    let seen = &AtomicU64::new(0);
    let mut sent = 0;
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut message = zmq::Message::new();
            while pull.recv(&mut message, 0).is_ok() && !message.is_empty() {
                seen.store(seen.load(Relaxed) + 1, Relaxed);
            }
        });
        let mut group = criterion.benchmark_group("handoff");
        group.throughput(Throughput::Elements(MESSAGES));
        group.bench_function("one by one", |bencher| {
            bencher.iter(|| {
                for _ in 0..MESSAGES {
                    push.send(&MESSAGE[..], 0).expect("the worker receives");
                }
                sent += MESSAGES;
                wait_for(seen, sent);
            });
        });
        group.finish();
        push.send("", 0).expect("the worker receives");
    });
    assert_eq!(seen.load(Relaxed), sent);
}

/// What makes a handoff from one lane to one worker.
type Connect = fn(&Context, HandoffLimits) -> (Outlet, Inlet);

fn over_inproc(context: &Context, limits: HandoffLimits) -> (Outlet, Inlet) {
    let (mut outlets, inlet) =
        inproc::connect(context, 0, 1, limits, Wait::Park).expect("a handoff");
    let outlet = outlets.pop().expect("one lane");
    (Outlet::Inproc(outlet), Inlet::Inproc(inlet))
}

fn over_ring(_context: &Context, limits: HandoffLimits) -> (Outlet, Inlet) {
    let (mut outlets, inlet) = ring::connect(0, &[false], limits, Wait::Park);
    let outlet = outlets.pop().expect("one lane");
    (Outlet::Ring(outlet), Inlet::Ring(inlet))
}

fn batched(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handoff");
    group.throughput(Throughput::Elements(MESSAGES));
    let kinds: [(&str, Connect); 2] = [("over inproc", over_inproc), ("over a ring", over_ring)];
    for (kind, connect) in kinds {
        for messages in [1, 16, 256, 1_024] {
            let limits = HandoffLimits {
                batch: BatchLimits {
                    messages,
                    bytes: 128 * 1024,
                },
                batches: 32,
            };
            let context = Context::new(0, 2).expect("a context");
            let (mut outlet, mut inlet) = connect(&context, limits);
            let seen = &AtomicU64::new(0);
            let mut sent = 0;
            thread::scope(|scope| {
                scope.spawn(move || {
                    loop {
                        match inlet.receive().expect("the context lives") {
                            Received::Batch(batch) => {
                                let bytes: usize =
                                    batch.messages().map(|m| m.payload().len()).sum();
                                assert_eq!(bytes, batch.len() * MESSAGE.len());
                                seen.store(seen.load(Relaxed) + batch.len() as u64, Relaxed);
                                inlet.give_back(batch);
                            }
                            Received::Idle => {}
                            Received::Ended => return,
                        }
                    }
                });
                let frames = [&MESSAGE[..]];
                let fields = Envelope::Raw.open(&frames).expect("raw takes anything");
                let hash = topic_hash(&MESSAGE);
                group.bench_function(BenchmarkId::new(kind, messages), |bencher| {
                    bencher.iter(|| {
                        for _ in 0..MESSAGES as usize / messages {
                            let mut batch = loop {
                                match outlet.wait_for_spare(std::time::Duration::from_secs(1)) {
                                    Ok(Some(batch)) => break batch,
                                    Ok(None) => {}
                                    Err(gone) => panic!("{gone}"),
                                }
                            };
                            for _ in 0..messages {
                                batch.push(Origin { feed: 0, line: 0 }, 1, hash, &fields, &frames);
                            }
                            outlet.send(batch).expect("the worker receives");
                        }
                        sent += MESSAGES;
                        wait_for(seen, sent);
                    });
                });
                drop(outlet);
            });
            assert_eq!(seen.load(Relaxed), sent);
        }
    }
    group.finish();
}

criterion_group!(benches, one_by_one, batched);
criterion_main!(benches);
