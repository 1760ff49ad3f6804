//! Goal: of two to four lines with random loss, duplication, delay, disorder, outages and restarts, every message
//! that one of them brought in time is delivered exactly once and in order, every other one that can be
//! known to be missing is reported lost exactly once, and nothing else is; over 20,000 histories, against
//! a model that knows what was published and what arrived, and nothing of how lines are merged. What heartbeats say
//! was published is known to be missing, too, and none that is held overtakes what it tells of. Where one of two
//! publishers restarts alone, what is of its new life and what the other line brings once it is gone is
//! delivered likewise, in another 10,000 histories; what the other brings meanwhile is passed by, since nothing tells
//! whether it is of the past. Where numbers alone tell lives apart, each line keeps its order, as a connection does.

mod history;
mod lone_restart;

use std::{
    collections::{BTreeMap, BTreeSet},
    ptr,
};

use pinfeed::{
    random::seeded,
    sequence::{
        Position,
        arbiter::{Arbiter, Released, Verdict},
    },
};
use rand::{RngExt, rngs::StdRng};

use self::history::{Copy, Rules, WAIT_NS, history, rules};

const HISTORIES: u64 = 10_000;

/// Epoch, series, number: what is told apart. With one series for all topics the series is 0.
type Key = (u64, u64, u64);

/// What an arbiter passes on.
#[derive(Clone, Copy, Debug)]
enum Item {
    Message(Key),
    /// All up to this was published.
    Heartbeat(Key),
}

#[derive(Debug, Default)]
struct Outcome {
    delivered: Vec<Key>,
    lost: Vec<Key>,
    heartbeats: usize,
    /// Heartbeats that were held, and how much was delivered and lost before each.
    heeded: Vec<(Key, usize, usize)>,
    /// Series, and the lives before and after.
    restarts: Vec<(u64, u64, u64)>,
}

/// What has to come of it, by arrivals alone.
struct Expected {
    delivered: BTreeSet<Key>,
    lost: BTreeSet<Key>,
    /// What may be known to be lost by then: what only heartbeats tell of that may have come before their life began for
    /// all lines, or after it.
    doubtful: BTreeSet<Key>,
    /// How many of the lost only heartbeats tell of.
    tails: usize,
}

fn expected(copies: &[Copy], rules: Rules) -> Expected {
    let start = rules.numbering.start.expect("the histories have a start");
    let (mut delivered, mut lost) = (BTreeSet::new(), BTreeSet::new());
    let (mut doubtful, mut tails) = (BTreeSet::new(), 0);
    let messages = || copies.iter().filter(|copy| !copy.is_heartbeat);
    let series: BTreeSet<u64> = messages().map(|copy| copy.series).collect();
    for series in series {
        let of_series = || messages().filter(|copy| copy.series == series);
        let first = of_series().next().expect("the series has arrivals");
        let mut by_epoch: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for copy in of_series() {
            let Position { epoch, sequence } = copy.position;
            by_epoch.entry(epoch).or_default().insert(sequence);
        }
        for (epoch, arrived) in by_epoch.range(first.position.epoch..) {
            let begins_here = *epoch == first.position.epoch && !rules.limits.from_start;
            let from = if begins_here {
                first.position.sequence
            } else {
                start
            };
            let last = *arrived.last().expect("the epoch has arrivals");
            let of_epoch = || of_series().filter(|copy| copy.position.epoch == *epoch);
            let last_ns = of_epoch().map(|copy| copy.arrives_ns).max();
            let heartbeats = copies.iter().filter(|copy| {
                copy.is_heartbeat && copy.series == series && copy.position.epoch == *epoch
            });
            let (mut surely, mut perhaps) = (last, last);
            for heartbeat in heartbeats {
                let reached = heartbeat.position.sequence;
                perhaps = perhaps.max(reached);
                // All that is of the life has been passed on, and nothing of the next has come.
                let is_late =
                    last_ns.is_some_and(|last_ns| heartbeat.arrives_ns > last_ns + WAIT_NS);
                let mut before = copies.iter().take_while(|it| !ptr::eq(*it, heartbeat));
                if is_late && before.all(|it| it.position.epoch <= *epoch) {
                    surely = surely.max(reached);
                }
            }
            for number in from..=perhaps {
                let key = (*epoch, series, number);
                if arrived.contains(&number) {
                    delivered.insert(key);
                } else if number <= surely {
                    lost.insert(key);
                    tails += usize::from(number > last);
                } else {
                    doubtful.insert(key);
                }
            }
        }
    }
    Expected {
        delivered,
        lost,
        doubtful,
        tails,
    }
}

fn run(random: &mut StdRng, rules: Rules, copies: &[Copy]) -> Outcome {
    let mut arbiter: Arbiter<Item> =
        Arbiter::new(rules.numbering, rules.lines.into(), rules.limits);
    let mut outcome = Outcome::default();
    let on_time = random.random_bool(0.5);
    // What wraps is cut to its width, as on the wire.
    let epoch_base = u64::from(!rules.numbering.has_epoch);
    for (index, copy) in copies.iter().enumerate() {
        // Whoever merges lines is called when something is due; a copy makes up for a call that is late.
        while (on_time || copy.is_heartbeat) && arbiter.due_ns() < copy.arrives_ns {
            let due_ns = arbiter.due_ns();
            release(&mut arbiter, due_ns, epoch_base, &mut outcome);
        }
        if copy.is_alone {
            arbiter.disconnected(1 - copy.line, copy.arrives_ns);
        }
        if copy.reconnects && random.random() {
            arbiter.disconnected(copy.line, copy.arrives_ns);
            arbiter.connected(copy.line);
        }
        let key = (copy.position.epoch, copy.series, copy.position.sequence);
        let (item, verdict) = if copy.is_heartbeat {
            let verdict = arbiter.heed(copy.line, copy.position, copy.arrives_ns);
            (Item::Heartbeat(key), verdict)
        } else {
            let (line, now_ns) = (copy.line, copy.arrives_ns);
            let verdict = arbiter.offer(line, copy.series, copy.position, now_ns);
            (Item::Message(key), verdict)
        };
        match (verdict, item) {
            (Verdict::Pass, Item::Message(key)) => outcome.delivered.push(key),
            (Verdict::Pass, Item::Heartbeat(_)) => outcome.heartbeats += 1,
            (Verdict::Hold, item) => arbiter.hold(1, item),
            (Verdict::Duplicate | Verdict::TooLate, Item::Message(_)) => {}
            (Verdict::Duplicate | Verdict::TooLate, Item::Heartbeat(_)) => {
                panic!("a heartbeat is no copy: {copy:?}, {rules:?}")
            }
        }
        // Now and then the next copy comes first.
        if !random.random_bool(0.05) {
            if arbiter.due_ns() <= copy.arrives_ns {
                release(&mut arbiter, copy.arrives_ns, epoch_base, &mut outcome);
            }
            assert!(arbiter.due_ns() > copy.arrives_ns);
            assert!(arbiter.held() <= rules.limits.held_messages_max);
        }
        let counts = arbiter.lines().iter();
        let rest: u64 = counts.map(|it| it.duplicates + it.too_late).sum();
        let passed = outcome.delivered.len() + outcome.heartbeats;
        let accounted = passed + arbiter.held() + rest as usize;
        assert_eq!(accounted, index + 1, "{rules:?}");
    }
    release(&mut arbiter, u64::MAX, epoch_base, &mut outcome);
    assert_eq!((arbiter.held(), arbiter.due_ns()), (0, u64::MAX));
    assert_eq!(arbiter.lost(), outcome.lost.len() as u64);
    for line in arbiter.lines() {
        assert_eq!(line.copies, line.wins + line.duplicates + line.too_late);
    }
    let wins: u64 = arbiter.lines().iter().map(|line| line.wins).sum();
    assert_eq!(wins, outcome.delivered.len() as u64);
    outcome
}

fn release(arbiter: &mut Arbiter<Item>, now_ns: u64, epoch_base: u64, outcome: &mut Outcome) {
    arbiter.release(now_ns, &mut |released| match released {
        Released::Message(Item::Message(key)) => outcome.delivered.push(key),
        Released::Message(Item::Heartbeat(key)) => {
            let (delivered, lost) = (outcome.delivered.len(), outcome.lost.len());
            outcome.heeded.push((key, delivered, lost));
            outcome.heartbeats += 1;
        }
        Released::Restarted { from, to, before } => {
            let &Item::Message((epoch, series, sequence)) = before else {
                panic!("no heartbeat tells of a restart: {before:?}");
            };
            assert_eq!((to.epoch + epoch_base, to.sequence), (epoch, sequence));
            let from_epoch = from.epoch + epoch_base;
            outcome.restarts.push((series, from_epoch, epoch));
        }
        Released::Lost { gap, before } => {
            assert_eq!(gap.count, gap.to - gap.from + 1);
            let (Item::Message((_, series, _)) | Item::Heartbeat((_, series, _))) = *before;
            for number in gap.from..=gap.to {
                let key = (gap.epoch + epoch_base, series, number);
                outcome.lost.push(key);
            }
        }
    });
}

/// Asserts what holds whatever happens: order, nothing twice, and each restart told.
fn check_order(outcome: &Outcome, context: &str) {
    let mut last: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut restarts = Vec::new();
    for &(epoch, series, number) in &outcome.delivered {
        let before = last.insert(series, (epoch, number));
        assert!(before < Some((epoch, number)), "{context}: {outcome:?}");
        if let Some((before, _)) = before
            && before != epoch
        {
            restarts.push((series, before, epoch));
        }
    }
    let sorted = |mut restarts: Vec<(u64, u64, u64)>| {
        restarts.sort_by_key(|&(series, ..)| series);
        restarts
    };
    let told = sorted(outcome.restarts.clone());
    assert_eq!(told, sorted(restarts), "{context}");
    let mut told: BTreeSet<Key> = outcome.delivered.iter().copied().collect();
    for &key in &outcome.lost {
        assert!(told.insert(key), "{context}: {key:?} was told twice");
    }
    for &((epoch, series, reached), delivered, lost) in &outcome.heeded {
        let mut after = outcome.delivered[delivered..]
            .iter()
            .chain(&outcome.lost[lost..]);
        let overtaken = after.find(|key| (key.0, key.1) == (epoch, series) && key.2 <= reached);
        assert_eq!(
            overtaken, None,
            "{context}: behind a heartbeat of {reached}"
        );
    }
}

#[test]
fn one_stream_comes_out_of_several_lines() {
    let (mut delivered, mut lost, mut restarts, mut tails) = (0, 0, 0, 0);
    for seed in 0..HISTORIES {
        let mut random = seeded(seed);
        let rules = rules(&mut random);
        let copies = history(&mut random, rules);
        let outcome = run(&mut random, rules, &copies);
        let context = format!("seed {seed}, {rules:?}");
        check_order(&outcome, &context);
        let expected = expected(&copies, rules);
        let got: BTreeSet<Key> = outcome.delivered.iter().copied().collect();
        assert_eq!(got, expected.delivered, "{context}");
        let got: BTreeSet<Key> = outcome.lost.iter().copied().collect();
        let got: BTreeSet<Key> = got.difference(&expected.doubtful).copied().collect();
        assert_eq!(got, expected.lost, "{context}");
        delivered += expected.delivered.len();
        lost += expected.lost.len();
        restarts += outcome.restarts.len();
        tails += expected.tails;
    }
    // The histories are worth something.
    assert!(
        delivered > 100_000 && lost > 5_000 && restarts > 5_000 && tails > 1_000,
        "{delivered} {lost} {restarts} {tails}"
    );
}

/// Here arrivals do not bound what has to come; but order, and that all is told of once, still hold.
#[test]
fn late_copies_and_tight_limits_break_no_order() {
    for seed in 0..HISTORIES {
        let mut random = seeded(seed);
        let mut rules = rules(&mut random);
        rules.late = true;
        // Numbers alone cannot tell which life a line is in that is late by more than the wait.
        rules.numbering.has_epoch = true;
        rules.limits.held_messages_max = random.random_range(0..6);
        if random.random() {
            let started = history(&mut random, rules);
            rules.numbering.start = None;
            check_late(&mut random, rules, &started, seed);
        } else {
            let copies = history(&mut random, rules);
            check_late(&mut random, rules, &copies, seed);
        }
    }
}

fn check_late(random: &mut StdRng, rules: Rules, copies: &[Copy], seed: u64) {
    let outcome = run(random, rules, copies);
    let context = format!("seed {seed}, {rules:?}");
    check_order(&outcome, &context);
    let told: BTreeSet<Key> = outcome
        .delivered
        .iter()
        .chain(&outcome.lost)
        .copied()
        .collect();
    // Between two numbers of a life that were told of, all were.
    let keys: Vec<Key> = told.into_iter().collect();
    for pair in keys.windows(2) {
        let [(epoch, series, number), next] = [pair[0], pair[1]];
        if (next.0, next.1) == (epoch, series) {
            assert_eq!(next.2, number + 1, "{context}");
        }
    }
}
