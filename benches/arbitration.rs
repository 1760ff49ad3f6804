//! What it costs to arbitrate a copy: two lines in turn, nothing lost, one series for all and a series
//! for each of 10,000 topics. The empty case goes over the same copies.

mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pinfeed::{
    sequence::{
        Numbering, Position, Scope,
        arbiter::{Arbiter, Limits, Verdict},
    },
    shard::topic_hash,
};
use std::hint::black_box;
use support::EMPTY;

const TOPICS: usize = 10_000;
/// Messages that the second line is behind.
const BEHIND: [usize; 2] = [1, 500];
const LIMITS: Limits = Limits {
    wait_ns: 1_000_000,
    held_messages_max: 1_000,
    held_bytes_max: 1 << 20,
    topics_max: TOPICS,
    from_start: true,
};

fn numbering(scope: Scope) -> Numbering {
    Numbering {
        scope,
        width_bits: 64,
        start: Some(0),
        has_epoch: true,
    }
}

/// One round over all topics: line, topic, and whether the number is the round's or the one before.
fn round(hashes: &[u64], behind: usize) -> Vec<(u8, u64, usize)> {
    let copies = (0..TOPICS).flat_map(|index| {
        let late = (index + TOPICS - behind) % TOPICS;
        [(0, hashes[index], index), (1, hashes[late], late)]
    });
    copies.collect()
}

fn arbitrate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("arbitrate");
    group.throughput(Throughput::Elements(2 * TOPICS as u64));
    let hashes: Vec<u64> = (0..TOPICS)
        .map(|topic| topic_hash(format!("topic-{topic}").as_bytes()))
        .collect();
    for behind in BEHIND {
        let copies = round(&hashes, behind);
        for scope in [Scope::Line, Scope::Topic] {
            let mut arbiter: Arbiter<u64> = Arbiter::new(numbering(scope), 2, LIMITS);
            let (mut rounds, mut passed) = (0, 0);
            let name = format!("{scope:?}, second line {behind} behind");
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    for (at, &(line, hash, topic)) in copies.iter().enumerate() {
                        let is_last_round = line == 1 && topic >= TOPICS - behind;
                        let round =
                            u64::wrapping_sub(rounds, u64::from(is_last_round && at < 2 * behind));
                        if round == u64::MAX {
                            continue;
                        }
                        let sequence = match scope {
                            Scope::Topic => round,
                            Scope::Line => round * TOPICS as u64 + topic as u64,
                        };
                        let position = Position { epoch: 1, sequence };
                        let now_ns = black_box(at as u64);
                        let verdict = arbiter.offer(line, hash, position, now_ns);
                        passed += u64::from(verdict == Verdict::Pass);
                        black_box(arbiter.due_ns());
                    }
                    rounds += 1;
                });
            });
            assert_eq!(passed, rounds * TOPICS as u64);
            assert_eq!(arbiter.due_ns(), u64::MAX, "nothing is missing");
            let late = arbiter.lines()[0].duplicates + arbiter.lines()[0].too_late;
            assert_eq!((late, arbiter.lines()[1].wins), (0, 0));
        }
    }
    let copies = round(&hashes, 1);
    let (mut rounds, mut looked_at) = (0, 0);
    group.bench_function(EMPTY, |bencher| {
        bencher.iter(|| {
            for &copy in &copies {
                black_box(copy);
                looked_at += 1;
            }
            rounds += 1;
        });
    });
    assert_eq!(looked_at, rounds * copies.len());
    group.finish();
}

criterion_group!(benches, arbitrate);
criterion_main!(benches);
