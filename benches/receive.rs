//! What a lane does with the bytes of small messages once the kernel has copied them, step by step:
//! cutting frames off, opening the envelope, hashing the topic, copying into a batch. Each step
//! includes the ones before it.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pinfeed::{
    envelope::{Envelope, pinfeed::seal},
    handoff::{BatchLimits, HandoffLimits, Received, ring},
    message::{Origin, Stamp},
    shard::topic_hash,
    wait::Wait,
    zmtp::{Cut, Frames, Limits, Splitter, frame::encode_message},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MESSAGES: usize = 4_096;

/// As many 64-byte messages as fit a read, over a thousand topics.
fn stream() -> Vec<u8> {
    let mut stream = Vec::new();
    for index in 0..MESSAGES {
        let mut frame = Vec::new();
        let topic = format!("sim.{:05}", index * 7 % 1_000);
        let stamp = Stamp {
            epoch: 1,
            sequence: index as u64,
            timestamp_ns: 1,
        };
        seal(&mut frame, topic.as_bytes(), &[b'x'; 26], stamp);
        assert_eq!(frame.len(), 64);
        encode_message(&mut stream, &[&frame]);
    }
    stream
}

/// Cuts all messages off the stream and gives each to `step`.
#[inline(always)]
fn cut_all(stream: &[u8], mut step: impl FnMut(&[&[u8]])) {
    let mut splitter = Splitter::new(Limits {
        frame_bytes_max: 1 << 20,
        message_bytes_max: 1 << 20,
        frames_max: 64,
    });
    let mut frames = Frames::default();
    let mut rest = stream;
    let mut count = 0;
    while let (Cut::Message, length) = splitter.cut(rest, &mut frames).expect("it is valid") {
        step(frames.as_slice());
        count += 1;
        rest = &rest[length..];
    }
    assert_eq!(count, MESSAGES);
}

fn steps(criterion: &mut Criterion) {
    let stream = stream();
    let mut group = criterion.benchmark_group("receive");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function("cut", |bencher| {
        bencher.iter(|| {
            cut_all(&stream, |frames| {
                black_box(frames);
            })
        });
    });
    group.bench_function("cut, open", |bencher| {
        bencher.iter(|| {
            cut_all(&stream, |frames| {
                black_box(&Envelope::Pinfeed.open(&[frames[0]]).expect("it is valid"));
            })
        });
    });
    group.bench_function("cut, open, hash", |bencher| {
        bencher.iter(|| {
            cut_all(&stream, |frames| {
                let fields = Envelope::Pinfeed.open(&[frames[0]]).expect("it is valid");
                let topic = &frames[0][fields.topic.start..fields.topic.end];
                black_box((topic_hash(topic), &fields));
            })
        });
    });
    let limits = HandoffLimits {
        batch: BatchLimits {
            messages: 1_024,
            bytes: 128 * 1024,
        },
        batches: 4,
    };
    let (mut outlets, mut inlet) = ring::connect(0, &[false], limits, Wait::Park);
    let mut outlet = outlets.pop().expect("one lane");
    group.bench_function("cut, open, hash, batch", |bencher| {
        bencher.iter(|| {
            let mut batch = outlet.spare().expect("a spare batch");
            cut_all(&stream, |frames| {
                let fields = Envelope::Pinfeed.open(&[frames[0]]).expect("it is valid");
                let topic = &frames[0][fields.topic.start..fields.topic.end];
                let hash = topic_hash(topic);
                batch.push(Origin { feed: 0, line: 0 }, 1, hash, &fields, &[frames[0]]);
                if batch.len() == 1_024 {
                    let full =
                        std::mem::replace(&mut batch, outlet.spare().expect("a spare batch"));
                    outlet.send(full);
                    let Received::Batch(back) = inlet.receive() else {
                        panic!("a batch was sent")
                    };
                    inlet.give_back(back);
                }
            });
            outlet.send(batch);
            let Received::Batch(back) = inlet.receive() else {
                panic!("a batch was sent")
            };
            inlet.give_back(back);
        });
    });
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
