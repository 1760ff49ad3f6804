//! Reading the clock, recording a time in a histogram, and what an interval of a log costs: two workers hand
//! over what they have recorded, and it is added up and written.

mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hdrhistogram::Histogram;
use pinfeed::{
    clock::{Clock, wall_ns},
    latency::{Stages, log::IntervalLog, recorder},
};
use std::{hint::black_box, time::Duration};
use support::EMPTY;

/// Times spread over three decades, as queue times are.
const TIMES: usize = 1024;

fn times() -> Vec<u64> {
    (0..TIMES as u64)
        .map(|index| 100 + index * index % 100_000)
        .collect()
}

fn clock(criterion: &mut Criterion) {
    let clock = Clock::start();
    let mut group = criterion.benchmark_group("clock");
    let mut last_ns = 0;
    group.bench_function("monotonic", |bencher| {
        bencher.iter(|| last_ns = clock.now_ns());
    });
    assert!(last_ns <= clock.now_ns());
    group.bench_function("wall", |bencher| bencher.iter(|| last_ns = wall_ns()));
    assert!(last_ns > 0);
    group.bench_function(EMPTY, |bencher| bencher.iter(|| last_ns = black_box(1)));
    assert_eq!(last_ns, 1);
    group.finish();
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
    let (mut looked_at, mut rounds) = (0, 0);
    group.bench_function(EMPTY, |bencher| {
        bencher.iter(|| {
            for &time in &times {
                looked_at += u64::from(black_box(time) > 0);
            }
            rounds += 1;
        });
    });
    assert_eq!(looked_at, rounds * TIMES as u64);
    group.finish();
}

fn interval(criterion: &mut Criterion) {
    let times = times();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.hlog");
    let mut log = IntervalLog::create(&path, 64 << 20).expect("a file");
    let mut workers = [recorder(), recorder()];
    let (mut total, mut share, mut interval) =
        (Stages::default(), Stages::default(), Stages::default());
    let mut recorded = 0;
    let record_all = |stages: &mut Stages| {
        for histogram in [&mut stages.queue, &mut stages.handler, &mut stages.feed] {
            for &time in &times {
                histogram.saturating_record(time);
            }
        }
    };
    let mut group = criterion.benchmark_group("interval");
    group.bench_function("2 workers", |bencher| {
        bencher.iter(|| {
            interval = Stages::default();
            for (recorder, collector) in &mut workers {
                record_all(recorder.stages());
                recorded += TIMES as u64;
                collector.request();
                recorder.offer();
                collector.collect(&mut interval);
            }
            total.merge(&interval);
            share.merge(&interval);
            let written = log.write(Duration::ZERO, Duration::from_secs(1), &interval.tagged());
            written.expect("there is room");
        });
    });
    assert_eq!((share.queue.len(), total.queue.len()), (recorded, recorded));
    // What is recorded for it, which is not the interval's.
    let (mut stages, mut recorded) = ([Stages::default(), Stages::default()], 0);
    group.bench_function(EMPTY, |bencher| {
        bencher.iter(|| {
            for stages in &mut stages {
                record_all(stages);
                recorded += TIMES as u64;
            }
        });
    });
    assert_eq!(stages[0].queue.len() + stages[1].queue.len(), recorded);
    group.finish();
}

criterion_group!(benches, clock, record, interval);
criterion_main!(benches);
