use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::patterns::cache::store::{Evict, Limits};

#[derive(Clone, Debug)]
enum Step {
    Subscribe(u8, Vec<u8>),
    Cancel(u8, Vec<u8>),
    Leave(u8),
    Put(Vec<u8>),
    /// Lets a subscriber take so many messages.
    Take(u8, usize),
}

const SUBSCRIBERS: u8 = 3;

fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(b'a'..=b'b', 0..=longest)
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..SUBSCRIBERS;
    prop_oneof![
        4 => (who.clone(), bytes(2)).prop_map(|(who, prefix)| Step::Subscribe(who, prefix)),
        2 => (who.clone(), bytes(2)).prop_map(|(who, prefix)| Step::Cancel(who, prefix)),
        1 => who.clone().prop_map(Step::Leave),
        12 => bytes(3).prop_map(Step::Put),
        8 => (who, 0_usize..6).prop_map(|(who, count)| Step::Take(who, count)),
    ]
}

/// A publisher whose messages go through a store, with what each subscriber got.
struct World {
    store: Store,
    answers: Answers<u8>,
    /// What each subscriber asked for.
    wanted: Vec<Vec<Vec<u8>>>,
    /// The last version that each got of a topic.
    got: Vec<HashMap<Vec<u8>, u32>>,
    /// Whether each cancelled anything.
    cancelled: BTreeSet<u8>,
    version: u32,
}

fn matches(wanted: &[Vec<u8>], topic: &[u8]) -> bool {
    wanted.iter().any(|prefix| topic.starts_with(prefix))
}

impl World {
    fn new(limits: Limits, evict: Evict) -> Self {
        Self {
            store: Store::new(limits, evict),
            answers: Answers::default(),
            wanted: vec![Vec::new(); SUBSCRIBERS.into()],
            got: vec![HashMap::new(); SUBSCRIBERS.into()],
            cancelled: BTreeSet::new(),
            version: 0,
        }
    }

    fn deliver(&mut self, who: u8, topic: &[u8], version: u32) {
        let index = usize::from(who);
        assert!(
            matches(&self.wanted[index], topic),
            "only what it asked for"
        );
        let before = self.got[index].insert(topic.to_vec(), version);
        let oldest = if self.cancelled.contains(&who) {
            before
        } else {
            before.map(|before| before + 1)
        };
        assert!(
            Some(version) >= oldest,
            "{before:?}, then {version}, of {topic:?}"
        );
    }

    fn take(&mut self, who: u8, mut count: usize) -> Progress {
        let mut taken = Vec::new();
        let progress = self.answers.answer(who, &self.store, |value| {
            if count == 0 {
                return false;
            }
            count -= 1;
            let version = value
                .frames()
                .nth(1)
                .and_then(|frame| frame.first_chunk().copied());
            taken.push((value.topic().to_vec(), u32::from_be_bytes(version.unwrap())));
            true
        });
        for (topic, version) in taken {
            self.deliver(who, &topic, version);
        }
        progress
    }

    fn put(&mut self, topic: &[u8]) {
        self.version += 1;
        let (version, bytes) = (self.version, self.version.to_be_bytes());
        let is_kept = self.store.put(topic.len(), &[topic, &bytes]);
        for who in 0..SUBSCRIBERS {
            let held_back = is_kept
                && self
                    .store
                    .get(topic)
                    .is_some_and(|value| self.answers.holds_back(who, value));
            if matches(&self.wanted[usize::from(who)], topic) && !held_back {
                self.deliver(who, topic, version);
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Subscribe(who, prefix) => {
                let wanted = &mut self.wanted[usize::from(who)];
                let is_new = !wanted.contains(&prefix);
                assert_eq!(self.answers.subscribe(who, &prefix), is_new);
                if is_new {
                    wanted.push(prefix);
                }
            }
            Step::Cancel(who, prefix) => {
                self.answers.cancel(who, &prefix);
                let wanted = &mut self.wanted[usize::from(who)];
                if let Some(found) = wanted.iter().position(|one| *one == prefix) {
                    wanted.remove(found);
                    self.cancelled.insert(who);
                }
            }
            Step::Leave(who) => {
                self.answers.leave(who);
                self.wanted[usize::from(who)].clear();
                self.cancelled.insert(who);
            }
            Step::Put(topic) => self.put(&topic),
            Step::Take(who, count) => {
                self.take(who, count);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn everybody_gets_the_newest_once_and_nothing_older_after_it(
        steps in prop::collection::vec(step(), 0..120),
        topics_max in prop_oneof![Just(usize::MAX), 3_usize..8],
        evict in prop_oneof![Just(Evict::Oldest), Just(Evict::Refuse)],
    ) {
        let mut world = World::new(Limits { topics_max, bytes_max: usize::MAX }, evict);
        for step in steps {
            world.step(step);
        }
        for who in 0..SUBSCRIBERS {
            prop_assert_eq!(world.take(who, usize::MAX), Progress::Done);
            let subscriptions = &world.answers.subscribers.get(&who);
            let kept = subscriptions.map_or(0, |one| one.subscriptions.len());
            let mut wanted = world.wanted[usize::from(who)].clone();
            wanted.sort();
            wanted.dedup();
            prop_assert_eq!(kept, wanted.len(), "nothing is left of what was cancelled");
            for value in world.store.under(b"", None) {
                let newest = value.frames().nth(1).and_then(|frame| frame.first_chunk().copied());
                let newest = u32::from_be_bytes(newest.unwrap());
                if matches(&wanted, value.topic()) {
                    let got = world.got[usize::from(who)].get(value.topic());
                    prop_assert_eq!(got, Some(&newest), "{:?}", value.topic());
                }
            }
        }
        prop_assert!(world.answers.is_idle());
    }
}

#[test]
fn a_subscriber_that_takes_nothing_costs_only_its_place() {
    let mut world = World::new(
        Limits {
            topics_max: usize::MAX,
            bytes_max: usize::MAX,
        },
        Evict::Oldest,
    );
    for topic in 0_u32..3_000 {
        world.put(format!("{topic:04}").as_bytes());
    }
    world.step(Step::Subscribe(0, Vec::new()));
    assert_eq!(world.take(0, 0), Progress::Full);
    for topic in 0_u32..3_000 {
        world.put(format!("{topic:04}").as_bytes());
    }
    assert!(world.got[0].is_empty(), "an answer will bring them");
    // Not all at once, so that others have their turn.
    let mut turns = 0;
    while world.take(0, usize::MAX) == Progress::More {
        turns += 1;
    }
    assert_eq!((turns, world.got[0].len()), (2, 3_000));
    assert!(world.got[0].values().all(|&version| version > 3_000));
}

#[test]
fn parts_of_frames_are_answered_by_what_the_frame_says() {
    let limits = Limits {
        topics_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    let mut store = Store::new(limits, Evict::Oldest);
    for frame in [
        &b"B 1"[..],
        b"BTC 17",
        b"BTC 18",
        b"BTC 2 x",
        b"BT 17",
        b"ETH 1",
    ] {
        let topic_bytes = frame.iter().position(|&byte| byte == b' ').unwrap();
        store.put(topic_bytes, &[frame]);
    }
    let mut answers = Answers::default();
    for (who, (prefix, expected)) in [
        (&b"B"[..], &[&b"B 1"[..], b"BT 17", b"BTC 2 x"][..]),
        (b"BTC", &[b"BTC 2 x"]),
        (b"BTC 2", &[b"BTC 2 x"]),
        (b"BTC 17", &[]),
        (b"BT 17 and more", &[]),
        (b"", &[b"B 1", b"BT 17", b"BTC 2 x", b"ETH 1"]),
    ]
    .into_iter()
    .enumerate()
    {
        answers.subscribe(who, prefix);
        // One at a time, so that each answer is taken up where it was.
        let mut got: Vec<Vec<u8>> = Vec::new();
        while {
            let mut room = 1;
            let progress = answers.answer(who, &store, |value| {
                let fits = room > 0;
                if fits {
                    room = 0;
                    got.push(value.first_frame().to_vec());
                }
                fits
            });
            progress != Progress::Done
        } {}
        assert_eq!(got, expected, "{}", prefix.escape_ascii());
    }
}
