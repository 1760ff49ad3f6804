//! Copying messages of 64 bytes into a batch, with what is known of them beside.

mod support;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pinfeed::{
    envelope::{Envelope, Fields},
    handoff::{Batch, Inlet, Outlet, Received},
    libzmq::Context,
    shard::topic_hash,
};
use support::{EMPTY, ORIGIN, frames, limits, over_ring};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Messages of a batch.
const MESSAGES: usize = 1_024;

/// A message that was opened, with the hash of its topic.
type Opened<'a> = (u64, Fields, [&'a [u8]; 1]);

/// Fills a batch by `fill` and has it emptied. Returns how many messages it held.
fn round(outlet: &mut Outlet, inlet: &mut Inlet, fill: impl FnOnce(&mut Batch)) -> usize {
    let mut batch = outlet.spare().expect("all are spare");
    fill(&mut batch);
    outlet.send(batch).expect("the inlet is there");
    let Ok(Received::Batch(batch)) = inlet.receive() else {
        panic!("a batch was sent")
    };
    let messages = batch.len();
    inlet.give_back(batch);
    messages
}

fn batch(criterion: &mut Criterion) {
    let frames = frames(MESSAGES);
    let opened: Vec<Opened<'_>> = frames
        .iter()
        .map(|frame| {
            let frames = [&frame[..]];
            let fields = Envelope::Pinfeed.open(&frames).expect("it is valid");
            let topic = &frame[fields.topic.start..fields.topic.end];
            (topic_hash(topic), fields, frames)
        })
        .collect();
    let context = Context::new(0, 1).expect("a context");
    let (mut outlet, mut inlet) = over_ring(&context, limits(MESSAGES));
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    for (name, pushed) in [("fill", MESSAGES), (EMPTY, 1)] {
        let (mut rounds, mut counted) = (0, 0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                counted += round(&mut outlet, &mut inlet, |batch| {
                    for (hash, fields, frames) in &opened[..pushed] {
                        batch.push(ORIGIN, 1, *hash, fields, frames);
                    }
                    // Of an empty batch the others are only looked at.
                    for one in &opened[pushed..] {
                        black_box(one);
                    }
                });
                rounds += 1;
            });
        });
        assert_eq!(counted, rounds * pushed, "{name}");
    }
    group.finish();
}

criterion_group!(stage, batch);
criterion_main!(stage);
