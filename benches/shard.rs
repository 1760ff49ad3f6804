//! From a topic to its worker: the hash, by the length of topics, and the table with and without overrides.

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pinfeed::shard::{Override, ShardTable, topic_hash};
use support::EMPTY;

const TOPICS: usize = 1_000;
const WORKERS: usize = 4;

/// Topics as long as `BTC-USD`, `binance.btcusdt@bookTicker` and some beyond 64 bytes.
const TOPIC_BYTES: [usize; 3] = [7, 26, 66];

fn topics(topic_bytes: usize) -> Vec<Vec<u8>> {
    (0..TOPICS)
        .map(|index| format!("{index:0topic_bytes$}").into_bytes())
        .collect()
}

/// Measures a way from topics to workers, which has to find one for each.
fn measure(
    criterion: &mut Criterion,
    id: BenchmarkId,
    topic_bytes: usize,
    worker_of: impl Fn(usize, &[u8]) -> usize,
) {
    let topics = topics(topic_bytes);
    let mut by_worker = [0_u64; WORKERS];
    let mut rounds = 0;
    let mut group = criterion.benchmark_group("shard");
    group.throughput(Throughput::Elements(TOPICS as u64));
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            for (index, topic) in topics.iter().enumerate() {
                by_worker[worker_of(index, black_box(topic))] += 1;
            }
            rounds += 1;
        });
    });
    group.finish();
    assert_eq!(by_worker.iter().sum::<u64>(), rounds * TOPICS as u64);
    assert!(by_worker.iter().all(|&count| rounds == 0 || count > 0));
}

fn shard(criterion: &mut Criterion) {
    for topic_bytes in TOPIC_BYTES {
        let id = BenchmarkId::new("hash, by bytes", topic_bytes);
        let worker_of = |_, topic: &[u8]| topic_hash(topic) as usize % WORKERS;
        measure(criterion, id, topic_bytes, worker_of);
    }
    for count in [0, 4, 32] {
        let overrides = (0..count).map(|index| Override {
            prefix: format!("BTC-{index}").into_bytes(),
            worker: 0,
        });
        let table = ShardTable::new(WORKERS, overrides.collect()).expect("the workers exist");
        let id = BenchmarkId::new("hash and worker, by overrides", count);
        let worker_of = |_, topic: &[u8]| table.worker_of(topic, topic_hash(topic));
        measure(criterion, id, TOPIC_BYTES[0], worker_of);
    }
    let in_turn = |index, _: &[u8]| index % WORKERS;
    measure(
        criterion,
        BenchmarkId::from_parameter(EMPTY),
        TOPIC_BYTES[0],
        in_turn,
    );
}

criterion_group!(stage, shard);
criterion_main!(stage);
