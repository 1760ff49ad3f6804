//! Counts messages and bytes by topic, with a digest that shows whether payloads came whole and in
//! order.
//!
//! The digest of a topic chains XXH3-64 over its payloads: it starts at 0, and each payload's hash,
//! seeded with the digest so far, is the next. Any program with XXH3 can compute the same from the
//! source of a feed and compare.

use std::num::NonZeroU64;

use hashbrown::{HashTable, hash_table::Entry};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{message::Message, shard::topic_hash, worker::Handler};

/// The most topics one worker counts apart. Messages of further topics are counted together.
pub const TOPICS_MAX: usize = 1_000_000;

/// What was counted for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicCount {
    /// The topic.
    pub topic: Box<[u8]>,
    /// Its messages.
    pub messages: u64,
    /// The bytes of their payloads.
    pub payload_bytes: u64,
    /// The digest of their payloads, in the order delivered, or `None` where several workers had them.
    pub digest: Option<NonZeroU64>,
}

impl TopicCount {
    fn new(topic: &[u8]) -> Self {
        Self {
            topic: topic.into(),
            messages: 0,
            payload_bytes: 0,
            digest: None,
        }
    }
}

/// A handler that counts messages and bytes by topic.
#[derive(Clone, Debug, Default)]
pub struct Count {
    rows: Vec<TopicCount>,
    /// Where each topic's row is, by the topic's hash: half of a table's slots may be empty, and these are small.
    places: HashTable<u32>,
    uncounted: u64,
}

impl Count {
    /// Returns the counts by topic, in no order.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &TopicCount> {
        self.rows.iter()
    }

    /// Returns the messages whose topics came after [`TOPICS_MAX`] others.
    #[must_use]
    pub fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// Gathers the counts of several workers: most messages first, then by topic.
    ///
    /// A topic that several workers have seen, without keyed sharding or as its shard has moved, is one row without a
    /// digest: no worker knows the order.
    #[must_use]
    pub fn merge(handlers: impl IntoIterator<Item = Self>) -> Vec<TopicCount> {
        let mut handlers = handlers.into_iter();
        let mut rows = handlers.next().unwrap_or_default().rows;
        for handler in handlers {
            rows.extend(handler.rows);
        }
        rows.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
        rows.dedup_by(|later, kept| {
            let same = later.topic == kept.topic;
            if same {
                kept.messages += later.messages;
                kept.payload_bytes += later.payload_bytes;
                kept.digest = None;
            }
            same
        });
        // In place: there may be millions.
        rows.sort_unstable_by(|a, b| {
            let most_first = b.messages.cmp(&a.messages);
            most_first.then_with(|| a.topic.cmp(&b.topic))
        });
        rows
    }
}

impl Handler for Count {
    #[inline]
    fn on_message(&mut self, message: &Message<'_>) {
        let (topic, payload) = (message.topic(), message.payload());
        let rows = &mut self.rows;
        let place = match self.places.entry(
            message.topic_hash(),
            |&place| *rows[place as usize].topic == *topic,
            |&place| topic_hash(&rows[place as usize].topic),
        ) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(_) if rows.len() >= TOPICS_MAX => {
                self.uncounted += 1;
                return;
            }
            Entry::Vacant(vacant) => {
                let place = rows.len() as u32;
                vacant.insert(place);
                rows.push(TopicCount::new(topic));
                place
            }
        };
        let row = &mut rows[place as usize];
        row.messages += 1;
        row.payload_bytes += payload.len() as u64;
        let so_far = row.digest.map_or(0, NonZeroU64::get);
        row.digest = NonZeroU64::new(xxh3_64_with_seed(payload, so_far));
    }
}
