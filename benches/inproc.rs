//! Handing messages from a lane to a worker over inproc PUSH/PULL: in batches as pinfeed does, by their size,
//! and one by one as libzmq messages. The difference to the empty case is the way from thread to thread.

mod support;

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pinfeed::{
    handoff::{HandoffLimits, Inlet, Outlet, inproc},
    libzmq::Context,
    wait::Wait,
};
use support::{HANDED_OVER, MESSAGE_BYTES};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn over_inproc(context: &Context, limits: HandoffLimits) -> (Outlet, Inlet) {
    let (mut outlets, inlet) =
        inproc::connect(context, 0, 1, limits, Wait::Park).expect("a handoff");
    let outlet = outlets.pop().expect("one lane");
    (Outlet::Inproc(outlet), Inlet::Inproc(inlet))
}

fn batches(criterion: &mut Criterion) {
    support::measure_handoff(criterion, "inproc", over_inproc);
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
        let mut group = criterion.benchmark_group("inproc");
        group.throughput(Throughput::Elements(HANDED_OVER));
        group.bench_function("messages one by one", |bencher| {
            bencher.iter(|| {
                for _ in 0..HANDED_OVER {
                    push.send(&[b'x'; MESSAGE_BYTES][..], 0)
                        .expect("the worker receives");
                }
                sent += HANDED_OVER;
                while seen.load(Relaxed) < sent {
                    thread::yield_now();
                }
            });
        });
        group.finish();
        push.send("", 0).expect("the worker receives");
    });
    assert_eq!(seen.load(Relaxed), sent);
}

criterion_group!(stages, batches, one_by_one);
criterion_main!(stages);
