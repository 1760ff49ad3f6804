//! Reading the clock, recording a time in a histogram, and what an interval of a log costs: two workers hand
//! over what they have recorded, and it is added up and written.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hdrhistogram::Histogram;
use pinfeed::{
    clock::{Clock, wall_ns},
    latency::{Stages, log::IntervalLog, recorder},
};
use std::{hint::black_box, time::Duration};

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

fn interval(criterion: &mut Criterion) {
    let times = times();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.hlog");
    let mut log = IntervalLog::create(&path, 64 << 20).expect("a file");
    let mut workers = [recorder(), recorder()];
    let (mut total, mut share, mut interval) =
        (Stages::default(), Stages::default(), Stages::default());
    let mut recorded = 0;
    criterion.bench_function("interval/2 workers", |bencher| {
        bencher.iter(|| {
            interval = Stages::default();
            for (recorder, collector) in &mut workers {
                let stages = recorder.stages();
                for histogram in [&mut stages.queue, &mut stages.handler, &mut stages.feed] {
                    for &time in &times {
                        histogram.saturating_record(time);
                    }
                }
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
}

criterion_group!(benches, clock, record, interval);
criterion_main!(benches);
