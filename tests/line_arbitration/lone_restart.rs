//! Two publishers, of which one restarts alone, and goes; then both restart.

use std::collections::{BTreeMap, BTreeSet};

use pinfeed::{
    random::seeded,
    sequence::{Position, Scope},
};
use rand::{RngExt, rngs::StdRng};

use crate::{
    HISTORIES, Key,
    history::{Copy, LAG_NS_MAX, Rules, WAIT_NS, rules},
    run,
};

/// What two publishers do of which one restarts alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Both are in their first life.
    Together,
    /// One has restarted, the other has not.
    Apart,
    /// The one that has is gone.
    Alone,
    /// Both have restarted.
    Anew,
}

/// What was published of a part on a line, and whether it arrived.
struct Sent {
    part: Part,
    key: Key,
    arrives_ns: Option<u64>,
    line: u8,
}

/// Everything that two publishers send, of which the one of the line `alone` restarts alone, and goes; then both restart.
fn lone_restart(random: &mut StdRng, rules: Rules, alone: u8) -> Vec<Sent> {
    let series_count = match rules.numbering.scope {
        Scope::Topic => random.random_range(1..4),
        Scope::Line => 1,
    };
    let start = rules.numbering.start.expect("the histories have a start");
    let loss = [0.0, 0.05, 0.3][random.random_range(0..3)];
    let (first, apart) = [(5, 7), (5, 3)][random.random_range(0..2)];
    let anew = [1, 9][random.random_range(0..2)];
    let mut sent = Vec::new();
    let mut next: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut now_ns = 1_000;
    for part in [Part::Together, Part::Apart, Part::Alone, Part::Anew] {
        // Each line's copies keep their order, as over a connection.
        let lags_ns = [(); 2].map(|()| random.random_range(0..=LAG_NS_MAX));
        let lives: &[(u64, &[u8])] = match part {
            Part::Together => &[(first, &[0, 1])],
            Part::Apart => &[(apart, &[alone]), (first, &[1 - alone])],
            Part::Alone => &[(first, &[1 - alone])],
            Part::Anew => &[(anew, &[0, 1])],
        };
        for index in 0..random.random_range(series_count..30) {
            // All series are heard of by both lines at the beginning of a life that both share.
            let is_first = index < series_count && lives[0].1.len() == 2;
            let series = if index < series_count {
                index
            } else {
                random.random_range(0..series_count)
            };
            let step_ns = [1, 30, 600][random.random_range(0..3)];
            now_ns += random.random_range(1..=step_ns);
            for &(epoch, lines) in lives {
                let number = next.entry((epoch, series)).or_insert(start);
                let key = (epoch, series, *number);
                *number += 1;
                for &line in lines {
                    let arrives = is_first || !random.random_bool(loss);
                    let arrives_ns = now_ns + lags_ns[usize::from(line)];
                    sent.push(Sent {
                        part,
                        key,
                        arrives_ns: arrives.then_some(arrives_ns),
                        line,
                    });
                }
            }
        }
        now_ns += 3 * WAIT_NS;
    }
    sent
}

fn arrivals(sent: &[Sent], start: u64) -> Vec<Copy> {
    let mut copies: Vec<Copy> = sent
        .iter()
        .filter_map(|sent| {
            let (epoch, series, sequence) = sent.key;
            Some(Copy {
                arrives_ns: sent.arrives_ns?,
                line: sent.line,
                series,
                position: Position { epoch, sequence },
                is_heartbeat: false,
                reconnects: sent.part == Part::Anew && sequence == start,
                is_alone: sent.part == Part::Alone,
            })
        })
        .collect();
    copies.sort_by_key(|copy| copy.arrives_ns);
    copies
}

#[test]
fn a_publisher_that_restarts_alone_takes_the_feed_until_it_is_gone() {
    let (mut returns, mut too_late) = (0, 0);
    for seed in 0..HISTORIES {
        let mut random = seeded(seed);
        let mut rules = rules(&mut random);
        rules.numbering.has_epoch = true;
        rules.limits.from_start = true;
        rules.lines = 2;
        let alone = random.random_range(0..2);
        let sent = lone_restart(&mut random, rules, alone);
        let start = rules.numbering.start.expect("the histories have a start");
        let copies = arrivals(&sent, start);
        let outcome = run(&mut random, rules, &copies);
        let context = format!("seed {seed}, {rules:?}");

        // Each life keeps its order, however often it is left, and all is told of once.
        let mut last: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let mut told: BTreeSet<Key> = BTreeSet::new();
        for &(epoch, series, number) in &outcome.delivered {
            let before = last.insert((epoch, series), number);
            assert!(before < Some(number), "{context}: {outcome:?}");
            told.insert((epoch, series, number));
        }
        for &key in &outcome.lost {
            assert!(told.insert(key), "{context}: {key:?} was told twice");
        }
        let delivered: BTreeSet<Key> = outcome.delivered.iter().copied().collect();
        let lost: BTreeSet<Key> = outcome.lost.iter().copied().collect();
        let arrived = |key: &Key| {
            sent.iter()
                .any(|it| it.key == *key && it.arrives_ns.is_some())
        };
        assert!(!lost.iter().any(arrived), "{context}: {outcome:?}");
        // The highest number of each series that arrived in a part of a life.
        let mut highest: BTreeMap<(u64, u64, bool), u64> = BTreeMap::new();
        let is_passed_by = |it: &Sent| it.part == Part::Apart && it.line != alone;
        for it in sent.iter().filter(|it| it.arrives_ns.is_some()) {
            let (epoch, series, number) = it.key;
            let highest = highest.entry((epoch, series, it.part == Part::Alone));
            if !is_passed_by(it) {
                let highest = highest.or_default();
                *highest = number.max(*highest);
            }
        }
        for it in sent.iter().filter(|it| !is_passed_by(it)) {
            let (epoch, series, number) = it.key;
            if arrived(&it.key) {
                assert!(
                    delivered.contains(&it.key),
                    "{context}: {:?} {outcome:?}",
                    it.key
                );
            } else if highest.get(&(epoch, series, it.part == Part::Alone)) > Some(&number) {
                assert!(lost.contains(&it.key), "{context}: {:?}", it.key);
            }
        }
        returns += outcome.restarts.iter().filter(|it| it.2 == 5).count();
        let passed_by = sent.iter().filter(|it| is_passed_by(it));
        too_late += passed_by.filter(|it| !delivered.contains(&it.key)).count();
    }
    // The histories are worth something.
    assert!(
        returns > 10_000 && too_late > 10_000,
        "{returns} {too_late}"
    );
}
