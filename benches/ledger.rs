//! What it costs a message that it is counted: what a lane counts of each batch that it hands over, and its worker when
//! it is done with it, by messages a batch. Times are of [`MESSAGES`] messages; both sides count on one thread.

mod support;

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pinfeed::{
    ledger::Ledger,
    shard::{shard_of, topic_hash},
};
use support::{EMPTY, MESSAGE_BYTES};

const MESSAGES: usize = 65_536;
/// Of so many messages handed over, the shard of one is looked at.
const LOAD_OF: usize = 16;

fn count(ledger: &Ledger, hashes: &[u64], now_ns: u64) {
    let (lane, messages) = (&ledger.lanes[0], hashes.len() as u64);
    lane.received.add(messages);
    lane.received_bytes.add(messages * MESSAGE_BYTES as u64);
    for run in hashes.chunks(LOAD_OF) {
        lane.by_shard[shard_of(run[0])].add(run.len() as u64);
    }
    lane.ways[0].batches.add(1);
    lane.ways[0].messages.add(messages);
    let worker = &ledger.workers[0];
    worker.last_done_ns.set(now_ns);
    worker.delivered.add(messages);
    worker.batches.add(1);
}

fn account(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("messages accounted for");
    group
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .throughput(Throughput::Elements(MESSAGES as u64));
    let hashes: Vec<u64> = (0..MESSAGES)
        .map(|index| topic_hash(format!("sim.{:05}", index % 1_000).as_bytes()))
        .collect();
    for messages in [8, 64, 1_024] {
        let ledger = Ledger::new(1, 1);
        let mut counted = 0;
        group.bench_function(BenchmarkId::from_parameter(messages), |bencher| {
            bencher.iter(|| {
                for batch in hashes.chunks(messages) {
                    counted += batch.len() as u64;
                    count(black_box(&ledger), black_box(batch), counted);
                }
            });
        });
        let totals = ledger.totals();
        assert_eq!((totals.received, totals.delivered), (counted, counted));
        assert_eq!(totals.under_way(), 0);

        let mut counted = 0;
        group.bench_function(BenchmarkId::new(EMPTY, messages), |bencher| {
            bencher.iter(|| {
                for batch in hashes.chunks(messages) {
                    counted += black_box(batch).len() as u64;
                }
            });
        });
        assert_eq!(counted % MESSAGES as u64, 0);
    }
    group.finish();
}

criterion_group!(benches, account);
criterion_main!(benches);
