//! Cutting messages of 64 bytes off what a read brought: in runs, as the native engine does with short ones,
//! and each by itself, as it does with all others.

mod support;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pinfeed::zmtp::{
    Cut, Frames, Limits, Splitter,
    frame::{SHORT_HEAD_BYTES, encode_message},
};
use support::{EMPTY, MESSAGE_BYTES, frames};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MESSAGES: usize = 4_096;
/// Messages cut off at once in a run.
const RUN: usize = 32;
const LIMITS: Limits = Limits {
    frame_bytes_max: 1 << 20,
    message_bytes_max: 1 << 20,
    frames_max: 64,
};

/// Cuts messages off one by one. Returns how many there were.
fn one_by_one(stream: &[u8]) -> u64 {
    let mut splitter = Splitter::new(LIMITS);
    let mut frames = Frames::default();
    let (mut rest, mut count) = (stream, 0);
    while let (Cut::Message, length) = splitter.cut(rest, &mut frames).expect("it is valid") {
        black_box(frames.as_slice());
        rest = &rest[length..];
        count += 1;
    }
    count
}

/// Cuts messages off in runs. Returns how many there were.
fn in_runs(stream: &[u8]) -> u64 {
    let splitter = Splitter::new(LIMITS);
    let mut run = [[&[][..]; 1]; RUN];
    let (mut rest, mut count) = (stream, 0);
    loop {
        let (cut, length) = splitter.cut_run(rest, &mut run);
        if cut == 0 {
            return count;
        }
        for frames in &run[..cut] {
            black_box(&frames[..]);
        }
        rest = &rest[length..];
        count += cut as u64;
    }
}

/// Goes over the same messages, whose length is known beforehand.
fn nothing(stream: &[u8]) -> u64 {
    let mut count = 0;
    for message in stream.chunks_exact(SHORT_HEAD_BYTES + MESSAGE_BYTES) {
        black_box(&[&message[SHORT_HEAD_BYTES..]][..]);
        count += 1;
    }
    count
}

/// How the messages of a stream are counted.
type Way = fn(&[u8]) -> u64;

fn decode(criterion: &mut Criterion) {
    let mut stream = Vec::new();
    for frame in frames(MESSAGES) {
        encode_message(&mut stream, &[&frame]);
    }
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    let ways: [(&str, Way); 3] = [
        ("in runs of 32", in_runs),
        ("one by one", one_by_one),
        (EMPTY, nothing),
    ];
    for (name, way) in ways {
        let (mut rounds, mut counted) = (0, 0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                counted += way(black_box(&stream));
                rounds += 1;
            });
        });
        assert_eq!(counted, rounds * MESSAGES as u64, "{name}");
    }
    group.finish();
}

criterion_group!(stage, decode);
criterion_main!(stage);
