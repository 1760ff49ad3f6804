use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NO_LIMITS: Limits = Limits {
    topics_max: usize::MAX,
    bytes_max: usize::MAX,
};

type Message = Vec<Vec<u8>>;

fn put(store: &mut Store, message: &Message) -> bool {
    let frames: Vec<&[u8]> = message.iter().map(Vec::as_slice).collect();
    store.put(message[0].len(), &frames)
}

fn message(value: Value<'_>) -> Message {
    value.frames().map(<[u8]>::to_vec).collect()
}

fn cost_bytes(message: &Message) -> usize {
    let heads = message
        .iter()
        .map(|frame| if frame.len() > 255 { 9 } else { 2 });
    let frames = message.iter().map(Vec::len);
    heads.sum::<usize>() + frames.sum::<usize>() + MESSAGE_OVERHEAD_BYTES
}

/// A sorted map, and its topics by age.
#[derive(Default)]
struct Model {
    messages: BTreeMap<Vec<u8>, Message>,
    /// The oldest first.
    by_age: Vec<Vec<u8>>,
    counters: Counters,
}

impl Model {
    fn bytes(&self) -> usize {
        self.messages.values().map(cost_bytes).sum()
    }

    fn remove(&mut self, topic: &[u8]) -> bool {
        self.by_age.retain(|one| one != topic);
        self.messages.remove(topic).is_some()
    }

    fn put(&mut self, message: &Message, limits: Limits, evict: Evict) -> bool {
        let topic = &message[0];
        let was_there = self.remove(topic);
        let is_too_much = |model: &Self| {
            model.bytes() + cost_bytes(message) > limits.bytes_max
                || model.messages.len() >= limits.topics_max
        };
        while is_too_much(self) {
            let alone = cost_bytes(message) > limits.bytes_max || limits.topics_max == 0;
            if evict == Evict::Refuse || alone {
                self.counters.refused += 1;
                return false;
            }
            let oldest = self.by_age[0].clone();
            self.remove(&oldest);
            self.counters.evicted += 1;
        }
        if was_there {
            self.counters.updated += 1;
        } else {
            self.counters.added += 1;
        }
        self.by_age.push(topic.clone());
        self.messages.insert(topic.clone(), message.clone());
        true
    }
}

fn topic() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        30 => prop::collection::vec(b'a'..=b'c', 0..5),
        1 => prop::collection::vec(b'a'..=b'b', 255..258),
    ]
}

fn any_message() -> impl Strategy<Value = Message> {
    let further = prop_oneof![
        30 => prop::collection::vec(any::<u8>(), 0..20),
        1 => Just(vec![7; 300]),
    ];
    (topic(), prop::collection::vec(further, 0..3))
        .prop_map(|(topic, further)| [vec![topic], further].concat())
}

proptest! {
    #[test]
    fn a_store_is_a_sorted_map_within_limits(
        messages in prop::collection::vec(any_message(), 0..300),
        topics_max in prop_oneof![Just(usize::MAX), 0_usize..40],
        bytes_max in prop_oneof![Just(usize::MAX), 0_usize..4_000],
        evict in prop_oneof![Just(Evict::Oldest), Just(Evict::Refuse)],
        prefixes in prop::collection::vec(topic(), 1..10),
        take_every in 1_usize..20,
    ) {
        let limits = Limits { topics_max, bytes_max };
        let mut store = Store::new(limits, evict);
        store.note_changes();
        let mut model = Model::default();
        // What somebody knows who takes all changes, a part now and then.
        let mut copy: BTreeMap<Vec<u8>, Message> = BTreeMap::new();
        let take = |store: &mut Store, copy: &mut BTreeMap<_, _>, bytes_max| {
            let mut removed = Vec::new();
            let mut changed = Vec::new();
            let noted = |value: Value<'_>| changed.push((value.topic().to_vec(), message(value)));
            store.take_changes(bytes_max, |topic| removed.push(topic), noted);
            for topic in removed {
                copy.remove(&*topic);
            }
            copy.extend(changed);
        };
        for (index, one) in messages.iter().enumerate() {
            prop_assert_eq!(put(&mut store, one), model.put(one, limits, evict));
            prop_assert_eq!(store.counters(), model.counters);
            prop_assert_eq!(store.topics(), model.messages.len());
            prop_assert_eq!(store.bytes(), model.bytes());
            if index % take_every == 0 {
                take(&mut store, &mut copy, 50);
            }
            prop_assert!(store.changes.as_ref().is_some_and(|noted| noted.changed.len() <= store.slots.len()));
        }
        for (topic, one) in &model.messages {
            prop_assert_eq!(store.get(topic).map(message), Some(one.clone()));
        }
        for prefix in prefixes {
            let found: Vec<_> = store.under(&prefix, None).map(message).collect();
            let expected: Vec<_> = model.messages.values()
                .filter(|one| one[0].starts_with(&prefix)).cloned().collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(store.get(&prefix).map(message), model.messages.get(&prefix).cloned());
            for after in messages.iter().take(5) {
                let found: Vec<_> = store.under(&prefix, Some(&after[0])).map(message).collect();
                let behind = expected.iter().filter(|one| one[0] > after[0]).cloned();
                prop_assert_eq!(found, behind.collect::<Vec<_>>());
            }
        }
        take(&mut store, &mut copy, usize::MAX);
        prop_assert_eq!(&copy, &model.messages);
        prop_assert_eq!(store.changes(), 0);
    }
}

#[test]
fn a_topic_may_be_a_part_of_the_first_frame() {
    let mut store = Store::new(NO_LIMITS, Evict::Oldest);
    assert!(store.put(3, &[b"BTC 17", b"more"]));
    assert!(store.put(3, &[b"BTC 18"]));
    assert!(store.put(3, &[b"ETH 3"]));
    let value = store.get(b"BTC").unwrap();
    assert_eq!(
        (value.topic(), value.first_frame()),
        (&b"BTC"[..], &b"BTC 18"[..])
    );
    assert_eq!(store.topics(), 2);
}

#[test]
fn removals_that_nobody_asks_for_are_bounded_and_none_is_forgotten() {
    let limits = Limits {
        topics_max: 2,
        ..NO_LIMITS
    };
    let mut store = Store::new(limits, Evict::Oldest);
    assert!(put(&mut store, &vec![b"known".to_vec()]));
    store.note_changes();
    assert!(put(&mut store, &vec![b"taken".to_vec()]));
    store.take_changes(usize::MAX, |_| (), |_| ());
    for topic in 0..100_000_u32 {
        assert!(put(&mut store, &vec![topic.to_be_bytes().to_vec()]));
        assert!(store.changes() <= 4);
    }
    let mut removed = Vec::new();
    store.take_changes(usize::MAX, |topic| removed.push(topic), |_| ());
    assert_eq!(
        removed,
        [Box::from(&b"known"[..]), Box::from(&b"taken"[..])]
    );
}
