//! From a topic to its worker: the hash, and the table with and without overrides.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pinfeed::shard::{Override, ShardTable, topic_hash};
use std::hint::black_box;

const TOPICS: [&str; 3] = [
    "BTC-USD",
    "binance.btcusdt@bookTicker",
    "COINBASE-l2_book-BTC-USD-with-a-long-name-beyond-64-bytes-of-topic",
];

fn hash(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hash");
    for topic in TOPICS {
        group.bench_with_input(
            BenchmarkId::from_parameter(topic.len()),
            topic,
            |bencher, topic| {
                bencher.iter(|| topic_hash(black_box(topic.as_bytes())));
            },
        );
    }
    group.finish();
}

fn worker_of(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hash and worker, by overrides");
    let topic = TOPICS[0].as_bytes();
    for count in [0, 4, 32] {
        let overrides = (0..count).map(|index| Override {
            prefix: format!("BTC-{index}").into_bytes(),
            worker: 0,
        });
        let table = ShardTable::new(4, overrides.collect()).expect("the workers exist");
        assert!(table.worker_of(topic, topic_hash(topic)) < 4);
        group.bench_with_input(
            BenchmarkId::from_parameter(count),
            topic,
            |bencher, topic| {
                bencher.iter(|| {
                    let topic = black_box(topic);
                    table.worker_of(topic, topic_hash(topic))
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, hash, worker_of);
criterion_main!(benches);
