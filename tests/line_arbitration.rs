//! Goal: of two to four lines with random loss, duplication, delay, disorder, outages and restarts, every message
//! that one of them brought in time is delivered exactly once and in order, every other one that can be
//! known to be missing is reported lost exactly once, and nothing else is; over 20,000 histories, against
//! a model that knows what was published and what arrived, and nothing of how lines are merged. What heartbeats say
//! was published is known to be missing, too, and none that is held overtakes what it tells of. Where one of two
//! publishers restarts alone, what is of its new life and what the other line brings once it is gone is
//! delivered likewise, in another 10,000 histories; what the other brings meanwhile is passed by, since nothing tells
//! whether it is of the past. Where numbers alone tell lives apart, each line keeps its order, as a connection does.

use std::{
    collections::{BTreeMap, BTreeSet},
    ptr,
};

use pinfeed::{
    random::seeded,
    sequence::{
        Numbering, Position, Scope,
        arbiter::{Arbiter, Limits, Released, Verdict},
    },
};
use rand::{RngExt, rngs::StdRng};

const LINES_MAX: u8 = 4;
const WAIT_NS: u64 = 1_000;
/// How late a line is at most as a whole, and a message on top: together less than the wait.
const LAG_NS_MAX: u64 = 450;
const JITTER_NS_MAX: u64 = 450;
/// Where a late history's messages may go wherever they like.
const LATE_NS_MAX: u64 = 5_000;
const HISTORIES: u64 = 10_000;
/// A publisher pauses so long before the heartbeat at the end of a life that all that came before has been passed on, and
/// so long after it that the next life does not begin before it has come.
const PAUSE_NS: u64 = 3 * WAIT_NS;

/// Epoch, series, number: what is told apart. With one series for all topics the series is 0.
type Key = (u64, u64, u64);

#[derive(Clone, Copy, Debug)]
struct Copy {
    arrives_ns: u64,
    line: u8,
    series: u64,
    position: Position,
    /// It has the position of the last message published.
    is_heartbeat: bool,
    /// The line's connection is new.
    reconnects: bool,
    /// The other line has no connection any more.
    is_alone: bool,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    numbering: Numbering,
    limits: Limits,
    lines: u8,
    /// Whether copies may come later than the wait.
    late: bool,
}

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

fn rules(random: &mut StdRng) -> Rules {
    let has_epoch = random.random_bool(0.75);
    Rules {
        numbering: Numbering {
            scope: if random.random() {
                Scope::Topic
            } else {
                Scope::Line
            },
            width_bits: [16, 32, 64][random.random_range(0..3)],
            start: Some(random.random_range(0..3)),
            has_epoch,
        },
        limits: Limits {
            wait_ns: WAIT_NS,
            held_messages_max: 10_000,
            held_bytes_max: 1 << 20,
            topics_max: 100,
            from_start: random.random(),
        },
        lines: if random.random() {
            2
        } else {
            random.random_range(3..=LINES_MAX)
        },
        late: false,
    }
}

/// Everything that arrives, in order of arrival.
fn history(random: &mut StdRng, rules: Rules) -> Vec<Copy> {
    let epochs = random.random_range(1..4);
    let series_count = match rules.numbering.scope {
        Scope::Topic => random.random_range(1..4),
        Scope::Line => 1,
    };
    let start = rules.numbering.start.expect("the histories have a start");
    let loss = [0.0, 0.05, 0.3][random.random_range(0..3)];
    let duplication = [0.0, 0.1][random.random_range(0..2)];
    let jitter = [0, 20, JITTER_NS_MAX][random.random_range(0..3)];
    let late = if rules.late { LATE_NS_MAX } else { 0 };
    let heartbeats = match rules.numbering.scope {
        Scope::Topic => 0.0,
        Scope::Line => [0.0, 0.2][random.random_range(0..2)],
    };
    let mut copies = Vec::new();
    let mut published_ns = 1_000;
    let mut line_free_ns = [0; LINES_MAX as usize];
    for epoch in 1..=epochs {
        let step_ns = [1, 30, 600][random.random_range(0..3)];
        let messages = random.random_range(1..30);
        let mut numbers = BTreeMap::new();
        // When, of which series, with which number, and whether it is a heartbeat.
        let mut published = Vec::new();
        // Where only numbers tell, every line hears two messages of each series in every life: by one
        // a restart could not be told from a duplicate.
        let all = (0..2 * series_count).filter(|_| !rules.numbering.has_epoch);
        let all = all.map(|index| index % series_count);
        let chosen: Vec<u64> = all
            .chain((0..messages).map(|_| random.random_range(0..series_count)))
            .collect();
        for series in chosen {
            let number = numbers.entry(series).or_insert(start);
            published_ns += random.random_range(1..=step_ns);
            published.push((published_ns, series, *number, false));
            if random.random_bool(heartbeats) {
                published_ns += 1;
                published.push((published_ns, series, *number, true));
            }
            if *number == start && !rules.numbering.has_epoch {
                // Numbers alone tell lives apart only where lines are never two lives apart, and
                // were heard before the first restart.
                published_ns += WAIT_NS;
            }
            *number += 1;
        }
        let ends_with_heartbeat = heartbeats > 0.0 && random.random();
        if ends_with_heartbeat {
            published_ns += PAUSE_NS;
            published.push((published_ns, 0, numbers[&0] - 1, true));
        }
        // What all lines lose at the end, which only heartbeats show.
        let tail = [0, 1, 4][random.random_range(0..3)] * usize::from(ends_with_heartbeat);
        let tail_from = (published.len() - usize::from(ends_with_heartbeat)).saturating_sub(tail);
        for line in 0..rules.lines {
            let lag_ns = random.random_range(0..=LAG_NS_MAX);
            let outage = random.random_bool(0.2).then(|| {
                let from = random.random_range(0..published.len());
                from..random.random_range(from..=published.len())
            });
            let mut last_ns = line_free_ns[usize::from(line)];
            let mut free_ns = last_ns;
            let mut of_line = Vec::new();
            for (index, &(published_ns, series, number, is_heartbeat)) in
                published.iter().enumerate()
            {
                let by_numbers_alone = !rules.numbering.has_epoch;
                let is_needed = by_numbers_alone && number <= start + 1 && !is_heartbeat;
                let is_lost = !is_heartbeat && index >= tail_from;
                let is_out = is_lost || outage.as_ref().is_some_and(|it| it.contains(&index));
                let copies = 1 + usize::from(random.random_bool(duplication));
                for _ in 0..copies {
                    if !is_needed && (is_out || random.random_bool(loss)) {
                        continue;
                    }
                    let delay_ns = lag_ns + random.random_range(0..=jitter + late);
                    let mut arrives_ns = (published_ns + delay_ns).max(free_ns + 1);
                    if by_numbers_alone {
                        arrives_ns = arrives_ns.max(last_ns);
                    }
                    last_ns = last_ns.max(arrives_ns);
                    of_line.push(Copy {
                        arrives_ns,
                        line,
                        series,
                        position: Position {
                            epoch,
                            sequence: number,
                        },
                        is_heartbeat,
                        reconnects: false,
                        is_alone: false,
                    });
                }
            }
            of_line.sort_by_key(|copy| copy.arrives_ns);
            if let Some(first) = of_line.first_mut() {
                first.reconnects = true;
            }
            free_ns = free_ns.max(last_ns);
            line_free_ns[usize::from(line)] = free_ns;
            copies.extend(of_line);
        }
        if ends_with_heartbeat {
            published_ns += PAUSE_NS;
        }
    }
    copies.sort_by_key(|copy| copy.arrives_ns);
    copies
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
