//! What keeping the newest message of a topic costs, and finding those under a prefix: by the number of
//! topics. Updates are of all topics in random order; a prefix has a hundred topics under it.

mod support;

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pinfeed::patterns::cache::{Evict, Limits, Store};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use support::EMPTY;

const TOPICS: [usize; 2] = [10_000, 1_000_000];
const PAYLOAD: [u8; 32] = [b'x'; 32];
/// Updates and look-ups of a round.
const ROUND: usize = 1_000;

fn topics(count: usize) -> Vec<Vec<u8>> {
    let mut topics: Vec<_> = (0..count)
        .map(|index| format!("exchange.{index:07}").into_bytes())
        .collect();
    topics.shuffle(&mut StdRng::seed_from_u64(1));
    topics
}

fn filled(topics: &[Vec<u8>]) -> Store {
    let limits = Limits {
        topics_max: topics.len(),
        bytes_max: usize::MAX,
    };
    let mut store = Store::new(limits, Evict::Refuse);
    for topic in topics {
        assert!(store.put(topic.len(), &[topic, &PAYLOAD]));
    }
    store
}

fn cache(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cache");
    group
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .throughput(Throughput::Elements(ROUND as u64));
    for count in TOPICS {
        let topics = topics(count);
        let mut store = filled(&topics);
        let (mut at, mut kept, mut rounds) = (0, 0, 0);
        group.bench_function(BenchmarkId::new("update", count), |bencher| {
            bencher.iter(|| {
                for topic in topics.iter().cycle().skip(at).take(ROUND) {
                    kept += u64::from(store.put(topic.len(), &[black_box(topic), &PAYLOAD]));
                }
                at = (at + ROUND) % topics.len();
                rounds += 1;
            });
        });
        assert_eq!(kept, rounds * ROUND as u64);
        assert_eq!(store.topics(), count);

        // Hundreds: the name without its last two digits.
        let prefix = |topic: &[u8]| topic[..topic.len() - 2].to_vec();
        let prefixes: Vec<_> = topics.iter().take(ROUND).map(|one| prefix(one)).collect();
        let (mut found, mut rounds) = (0, 0);
        group.bench_function(BenchmarkId::new("first under a prefix", count), |bencher| {
            bencher.iter(|| {
                for prefix in &prefixes {
                    let first = store.matching(black_box(prefix), None).next();
                    found += u64::from(first.is_some_and(|one| one.topic().ends_with(b"00")));
                }
                rounds += 1;
            });
        });
        assert_eq!(found, rounds * ROUND as u64);

        let (mut found, mut rounds) = (0, 0);
        group.bench_function(
            BenchmarkId::new("hundred under a prefix", count),
            |bencher| {
                bencher.iter(|| {
                    for prefix in &prefixes[..ROUND / 100] {
                        let all = store.matching(black_box(prefix), None);
                        found += all.map(|one| one.encoded().len() / 48).sum::<usize>();
                    }
                    rounds += 1;
                });
            },
        );
        assert_eq!(found, rounds * ROUND);
    }
    let topics = topics(TOPICS[0]);
    let (mut bytes, mut rounds) = (0, 0);
    group.bench_function(EMPTY, |bencher| {
        bencher.iter(|| {
            for topic in topics.iter().take(ROUND) {
                bytes += black_box(topic).len();
            }
            rounds += 1;
        });
    });
    assert_eq!(bytes, rounds * ROUND * topics[0].len());
    group.finish();
}

criterion_group!(stage, cache);
criterion_main!(stage);
