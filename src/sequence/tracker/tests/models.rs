//! Random histories: what is counted as lost, against sets of numbers; and qualities, against a model
//! that looks at every topic at every tick.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

/// How one message fares: how late each of its copies is, in numbers; none if it is lost.
type Fate = Vec<u64>;

fn lives() -> impl Strategy<Value = Vec<Vec<Fate>>> {
    let fate = prop_oneof![
        6 => Just(vec![0]),
        2 => Just(vec![]),
        2 => vec(0..12_u64, 1..4),
    ];
    vec(vec(fate, 1..120), 1..4)
}

/// The numbers of one life in the order they arrive.
fn arrivals(fates: &[Fate]) -> Vec<u64> {
    let mut copies: Vec<(u64, u64)> = (0_u64..)
        .zip(fates)
        .flat_map(|(number, delays)| delays.iter().map(move |delay| (number + delay, number)))
        .collect();
    copies.sort_by_key(|&(arrival, _)| arrival);
    copies.into_iter().map(|(_, number)| number).collect()
}

/// Plays each life from number `base` on, and compares after each message. A life without epochs begins
/// with a new connection.
fn play(lives: &[Vec<Fate>], width_bits: u32, base: u64, has_epoch: bool) {
    let start = Some(base).filter(|_| lives.len() > 1);
    let mut bench = Bench::new(numbered(width_bits, start, has_epoch));
    let mask = u64::MAX >> (64 - width_bits);
    let (mut lost_before, mut is_first, mut duplicates) = (0, true, 0);
    for (life, fates) in (1..).zip(lives) {
        if !has_epoch {
            bench.connected(true, 0);
        }
        // Without epochs a life has to fall back to be told from the one before.
        let offset = if !has_epoch && lives.len() > 1 {
            1_000 * (lives.len() as u64 - life)
        } else {
            0
        };
        let mut seen = BTreeSet::new();
        let mut first = if is_first { None } else { Some(0) };
        let mut lost = 0;
        for number in arrivals(fates) {
            // A second copy of the very first number tells of a restart, and so does the first one where a
            // later number was the first that was heard of anything.
            let is_late = seen.contains(&number) || first.is_some_and(|first| first > 0);
            if !has_epoch && number + offset == 0 && is_late {
                continue;
            }
            let first = *first.get_or_insert(number + offset);
            let is_new = number + offset >= first && seen.insert(number);
            let epoch = if has_epoch { life } else { 0 };
            let sequence = (base + number + offset) & mask;
            let verdict = bench.message(1, Some(at(epoch, sequence)), 0);
            assert_eq!(
                verdict == Verdict::Deliver,
                is_new,
                "{number} of life {life}"
            );
            duplicates += u64::from(!is_new);
            let last = seen.last().expect("the first is new") + offset;
            lost = last + 1 - first - seen.len() as u64;
            assert_eq!(bench.lost(), lost_before + lost, "{number} of life {life}");
        }
        is_first &= seen.is_empty();
        lost_before += lost;
    }
    assert_eq!(bench.tracker.counts().duplicates, duplicates);
}

/// A topic, or the feed's own part, as the model sees it.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    known: bool,
    seen_ns: u64,
    gapped: bool,
    recovers_ns: Option<u64>,
    stale: bool,
}

impl Part {
    fn quality(&self) -> Quality {
        match (self.stale, self.gapped, self.recovers_ns) {
            (true, ..) => Quality::Stale,
            (_, true, _) => Quality::Gapped,
            (.., Some(_)) => Quality::Recovering,
            _ => Quality::Ok,
        }
    }
}

const LIMITS_NS: [Option<u64>; 4] = [Some(640), Some(640), Some(1_500), None];
const FEED_LIMIT_NS: u64 = 900;
const RECOVER_NS: u64 = 320;
const GRAIN_NS: u64 = RECOVER_NS / GRAINS;

#[derive(Clone, Copy, Debug)]
enum Act {
    /// Of a topic, after so many lost ones.
    Message(usize, u64),
    /// A copy of the last message.
    Copy(usize),
    Restart(usize),
    Wait(u64),
    Connect(bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..4_usize, prop_oneof![4 => Just(0), 1 => 1..3_u64])
            .prop_map(|(topic, skipped)| Act::Message(topic, skipped)),
        1 => (0..4_usize).prop_map(Act::Copy),
        1 => (0..4_usize).prop_map(Act::Restart),
        6 => (0..500_u64).prop_map(Act::Wait),
        1 => (900..3_000_u64).prop_map(Act::Wait),
        1 => any::<bool>().prop_map(Act::Connect),
    ];
    vec(act, 1..200)
}

#[derive(Default)]
struct Model {
    topics: [Part; 4],
    feed: Part,
    connections: u32,
    connected_ns: u64,
    awaits_first: bool,
}

impl Model {
    fn heard(&mut self, topic: usize, act: Act, now_ns: u64) {
        self.feed.seen_ns = now_ns;
        self.feed.stale = false;
        if self.awaits_first {
            self.awaits_first = false;
            self.feed.recovers_ns = Some(now_ns + RECOVER_NS);
        }
        let was_known = self.topics[topic].known;
        let part = &mut self.topics[topic];
        (part.known, part.seen_ns, part.stale) = (true, now_ns, false);
        let recovers = match act {
            _ if !was_known => false,
            Act::Message(_, 0) => std::mem::take(&mut part.gapped),
            Act::Message(..) => {
                (part.gapped, part.recovers_ns) = (true, None);
                false
            }
            Act::Restart(_) => {
                part.gapped = false;
                true
            }
            _ => false,
        };
        if recovers {
            part.recovers_ns = Some(now_ns + RECOVER_NS);
        }
    }

    fn tick(&mut self, now_ns: u64) {
        let over = |at: &u64| *at <= now_ns;
        if !self.awaits_first {
            self.feed.recovers_ns = self.feed.recovers_ns.filter(|at| !over(at));
        }
        if self.connections == 0 {
            return;
        }
        let since_ns = self.feed.seen_ns.max(self.connected_ns);
        self.feed.stale |= since_ns + FEED_LIMIT_NS <= now_ns;
        let boundary_ns = now_ns / GRAIN_NS * GRAIN_NS;
        for (part, limit_ns) in self.topics.iter_mut().zip(LIMITS_NS) {
            part.recovers_ns = part.recovers_ns.filter(|&at| at > boundary_ns);
            if let (true, Some(limit_ns)) = (part.known, limit_ns) {
                part.stale |= part.seen_ns.max(self.connected_ns) + limit_ns <= boundary_ns;
            }
        }
    }

    fn connect(&mut self, up: bool, now_ns: u64) {
        if !up {
            self.connections = self.connections.saturating_sub(1);
            return;
        }
        self.connections += 1;
        if self.connections == 1 {
            self.connected_ns = now_ns;
            self.feed.stale = false;
        }
        self.awaits_first = true;
        self.feed.recovers_ns = Some(u64::MAX);
    }

    /// The qualities of the feed and its topics.
    fn qualities(&self) -> Vec<Quality> {
        let known = |part: &&Part| part.known;
        let gapped = self.topics.iter().any(|part| part.gapped);
        let recovering = self.topics.iter().any(|part| part.recovers_ns.is_some());
        let feed = match self.feed.quality() {
            _ if self.connections == 0 => Quality::Disconnected,
            Quality::Stale => Quality::Stale,
            _ if gapped => Quality::Gapped,
            Quality::Ok if recovering => Quality::Recovering,
            quality => quality,
        };
        let topics = self.topics.iter().map(|part| match known(&part) {
            true => part.quality(),
            false => Quality::Ok,
        });
        std::iter::once(feed).chain(topics).collect()
    }
}

fn compare(acts: &[Act]) {
    let mut options = numbered(64, None, true);
    options.stale_after_ns = Some(FEED_LIMIT_NS);
    options.recover_ns = RECOVER_NS;
    options.stale_rules = (1..)
        .zip(LIMITS_NS)
        .filter_map(|(hash, limit_ns)| {
            let prefix = name(hash);
            limit_ns.map(|after_ns| StaleRule { prefix, after_ns })
        })
        .collect();
    let mut bench = Bench::new(options);
    let mut model = Model::default();
    let mut positions = [at(1, 10); 4];
    let mut now_ns = 0;
    for &act in acts {
        let before = model.qualities();
        bench.told.clear();
        let mut ticked = Vec::new();
        match act {
            Act::Message(topic, _) | Act::Copy(topic) | Act::Restart(topic) => {
                let position = &mut positions[topic];
                match act {
                    Act::Message(_, skipped) => position.sequence += 1 + skipped,
                    Act::Restart(_) => *position = at(position.epoch + 1, 10),
                    _ => {}
                }
                bench.message(topic as u64 + 1, Some(*position), now_ns);
                model.heard(topic, act, now_ns);
            }
            Act::Wait(wait_ns) => {
                now_ns += wait_ns;
                ticked = bench.tick(now_ns);
                model.tick(now_ns);
            }
            Act::Connect(up) => {
                bench.connected(up, now_ns);
                model.connect(up, now_ns);
            }
        }
        let mut expected = Vec::new();
        for (hash, (from, to)) in (0..).zip(before.into_iter().zip(model.qualities())) {
            if from != to {
                expected.push((hash, quality(from, to)));
            }
        }
        let mut told: Vec<_> = bench.told.drain(..).chain(ticked).collect();
        told.retain(|(_, kind)| matches!(kind, EventKind::Quality { .. }));
        told.sort_by_key(|&(hash, _)| hash);
        assert_eq!(told, expected, "{act:?} at {now_ns}");
        let due_ns = bench.tracker.due_ns();
        if matches!(act, Act::Wait(_)) {
            assert!(due_ns.is_none_or(|due_ns| due_ns > now_ns), "{due_ns:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn one_life_loses_what_the_model_says(lives in lives(), base in 0..200_u64) {
        for (width_bits, base) in [(64, 1_000 + base), (32, u64::from(u32::MAX) - base)] {
            for has_epoch in [false, true] {
                play(&lives[..1], width_bits, base, has_epoch);
            }
        }
    }

    #[test]
    fn two_lives_that_alternate_lose_what_each_would_alone(
        lives in lives(),
        turns in vec(0..2_usize, 240),
        base in 0..3_u64,
    ) {
        let options = || TrackerOptions {
            from_start: true,
            ..numbered(64, Some(base), true)
        };
        let mut both = Bench::new(options());
        let mut alone = [Bench::new(options()), Bench::new(options())];
        let halves = [&lives[0], &lives[lives.len() - 1]];
        let mut numbers = halves.map(|fates| arrivals(fates).into_iter());
        for life in turns {
            let Some(number) = numbers[life].next() else { continue };
            let position = Some(at(life as u64 + 1, base + number));
            let verdict = alone[life].message(1, position, 0);
            prop_assert_eq!(both.message(1, position, 0), verdict);
            prop_assert_eq!(both.lost(), alone[0].lost() + alone[1].lost());
        }
    }

    #[test]
    fn several_lives_lose_what_the_model_says(lives in lives(), base in 0..200_u64) {
        play(&lives, 64, base, true);
        play(&lives, 32, 0, false);
    }

    #[test]
    fn qualities_change_as_a_full_scan_says(acts in acts()) {
        compare(&acts);
    }
}
