//! What a tracker costs a message in sequence: by the number of topics, and where the line has one series for all. Each
//! message is of a topic drawn at random: where an order comes again, the core learns how far each topic's slot is.
//! Times are of [`MESSAGES`] messages.

mod support;

use std::{hint::black_box, iter, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pinfeed::{
    sequence::{
        Numbering, Position, Scope, TrackVerdict,
        quality::StaleRule,
        tracker::{Tracker, TrackerOptions},
    },
    shard::topic_hash,
};
use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};
use support::EMPTY;

const MESSAGES: usize = 100_000;

struct Topic {
    name: Vec<u8>,
    hash: u64,
    index: usize,
}

/// What a lane knows of a message: its topic, the topic's hash, and its position.
type Message<'a> = (&'a [u8], u64, Position);

impl Topic {
    fn message(&self, position: Position) -> Message<'_> {
        (&self.name, self.hash, position)
    }
}

fn options(scope: Option<Scope>, has_rules: bool) -> TrackerOptions {
    let numbering = scope.map(|scope| Numbering {
        scope,
        width_bits: 64,
        start: Some(0),
        has_epoch: true,
    });
    let rule = StaleRule {
        prefix: Vec::new(),
        after_ns: 5_000_000_000,
    };
    TrackerOptions {
        numbering,
        topics_max: 2_000_000,
        stale_after_ns: Some(1_000_000_000),
        stale_rules: if has_rules { vec![rule] } else { Vec::new() },
        recover_ns: 1_000_000_000,
        ..TrackerOptions::default()
    }
}

fn track(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a message in sequence");
    group
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .throughput(Throughput::Elements(MESSAGES as u64));
    for (name, scope, has_rules, topic_count) in [
        ("by topic", Some(Scope::Topic), false, 10_000),
        ("by topic", Some(Scope::Topic), false, 1_000_000),
        (
            "by topic, rules for silence",
            Some(Scope::Topic),
            true,
            10_000,
        ),
        ("by line", Some(Scope::Line), false, 10_000),
        (
            "by line, rules for silence",
            Some(Scope::Line),
            true,
            10_000,
        ),
        ("no numbers, rules for silence", None, true, 10_000),
    ] {
        let topics: Vec<_> = (0..topic_count)
            .map(|index| {
                let name = format!("exchange.symbol-{index}").into_bytes();
                let hash = topic_hash(&name);
                Topic { name, hash, index }
            })
            .collect();
        let by_line = scope == Some(Scope::Line);
        let mut numbers = vec![0_u64; topic_count];
        let mut now_ns = 0;
        let mut random = StdRng::seed_from_u64(2);
        let mut tracker = Tracker::new(options(scope, has_rules));
        tracker.connected(true, 0, &mut |_| {});
        let mut passed = 0;
        let mut round = |tracker: &mut Tracker, messages: &[Message<'_>]| {
            for (name, hash, position) in messages {
                now_ns += 100;
                let position = Some(*position);
                let verdict = tracker.track(name, *hash, position, now_ns, &mut |_| {});
                passed += u64::from(black_box(verdict) == TrackVerdict::Deliver);
            }
        };
        let mut next = |topic| {
            let number: &mut u64 = &mut numbers[if by_line { 0 } else { topic }];
            *number += 1;
            Position {
                epoch: 7,
                sequence: *number - 1,
            }
        };
        let first: Vec<_> = topics
            .iter()
            .map(|topic| topic.message(next(topic.index)))
            .collect();
        round(&mut tracker, &first);
        let mut prepare = |messages: usize| -> Vec<Message<'_>> {
            iter::repeat_with(|| topics.choose(&mut random).expect("there are topics"))
                .take(messages)
                .map(|topic| topic.message(next(topic.index)))
                .collect()
        };
        let mut prepared = topic_count as u64;
        group.bench_function(BenchmarkId::new(name, topic_count), |bencher| {
            bencher.iter_batched_ref(
                || {
                    prepared += MESSAGES as u64;
                    prepare(MESSAGES)
                },
                |messages| round(&mut tracker, messages),
                BatchSize::PerIteration,
            );
        });
        let counts = tracker.counts();
        assert_eq!(
            (counts.lost, counts.duplicates, counts.untracked),
            (0, 0, 0)
        );
        assert_eq!(passed, prepared, "{name}");
        if (name, topic_count) == ("by topic", 10_000) {
            let (messages, mut looked_at, mut rounds) = (prepare(MESSAGES), 0, 0);
            group.bench_function(BenchmarkId::new(EMPTY, topic_count), |bencher| {
                bencher.iter(|| {
                    for (name, hash, position) in &messages {
                        black_box((name.as_ptr(), hash, position.sequence));
                        looked_at += 1;
                    }
                    rounds += 1;
                });
            });
            assert_eq!(looked_at, rounds * MESSAGES);
        }
    }
    group.finish();
}

criterion_group!(benches, track);
criterion_main!(benches);
