//! Reading the clock, and recording a time in a histogram.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hdrhistogram::Histogram;
use pinfeed::{
    clock::{Clock, wall_ns},
    latency::Stages,
};
use std::hint::black_box;

/// Times spread over three decades, as queue times are.
const TIMES: usize = 1024;

fn times() -> Vec<u64> {
    (0..TIMES as u64)
        .map(|index| 100 + index * index % 100_000)
        .collect()
}

fn clock(criterion: &mut Criterion) {
    let clock = Clock::start();
    criterion.bench_function("clock/monotonic", |bencher| bencher.iter(|| clock.now_ns()));
    criterion.bench_function("clock/wall", |bencher| bencher.iter(wall_ns));
}

fn record(criterion: &mut Criterion) {
    let times = times();
    let mut group = criterion.benchmark_group("histogram");
    group.throughput(Throughput::Elements(TIMES as u64));
    let mut histogram: Histogram<u64> = Stages::default().queue;
    let mut recorded = 0;
    group.bench_function("record", |bencher| {
        bencher.iter(|| {
            for &time in &times {
                histogram.saturating_record(black_box(time));
            }
            recorded += TIMES as u64;
        });
    });
    assert_eq!(histogram.len(), recorded);
    group.finish();
}

criterion_group!(benches, clock, record);
criterion_main!(benches);
