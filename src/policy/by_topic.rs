//! What became of messages that no handler saw, by topic: dropped, or superseded by a newer one.
//!
//! Each lane and each worker has a tally of its own, which only it writes and which is added up at the
//! end, so its lock is never waited for. It is written on cold paths only.

use std::{
    cmp::Reverse,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hashbrown::HashTable;

use crate::{
    handoff::Batch, message::Message, sequence::topics::NAME_BYTES_MAX, shard::topic_hash,
};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Dropped,
    Conflated,
}

/// What became of messages of a topic, those that were not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFate {
    /// The feed's place in the configuration.
    pub feed: u16,
    /// The topic.
    pub topic: Box<[u8]>,
    /// Messages dropped.
    pub dropped: u64,
    /// Messages superseded by a newer one of the topic.
    pub conflated: u64,
}

/// What became of messages that were not delivered, topic by topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByTopic {
    /// Most messages first.
    pub topics: Vec<TopicFate>,
    /// Messages dropped of topics beyond `policy.topics_max`, or longer than [`NAME_BYTES_MAX`].
    pub other_dropped: u64,
    /// Messages superseded of such topics.
    pub other_conflated: u64,
}

/// The tally of one lane or worker. Copies count in the same.
#[derive(Clone, Debug)]
pub(crate) struct TopicTally(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    topics_max: usize,
    topics: HashTable<TopicFate>,
    other_dropped: u64,
    other_conflated: u64,
}

impl Table {
    fn add(&mut self, feed: u16, hash: u64, topic: &[u8], fate: Fate, count: u64) {
        let same = |row: &TopicFate| row.feed == feed && *row.topic == *topic;
        if let Some(row) = self.topics.find_mut(hash, same) {
            match fate {
                Fate::Dropped => row.dropped += count,
                Fate::Conflated => row.conflated += count,
            }
        } else if self.topics.len() < self.topics_max && topic.len() <= NAME_BYTES_MAX {
            let (dropped, conflated) = match fate {
                Fate::Dropped => (count, 0),
                Fate::Conflated => (0, count),
            };
            let row = TopicFate {
                feed,
                topic: topic.into(),
                dropped,
                conflated,
            };
            self.topics
                .insert_unique(hash, row, |row| topic_hash(&row.topic));
        } else {
            match fate {
                Fate::Dropped => self.other_dropped += count,
                Fate::Conflated => self.other_conflated += count,
            }
        }
    }
}

impl TopicTally {
    /// Starts at zero. Topics beyond `topics_max`, and long ones, are counted together.
    pub(crate) fn new(topics_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Table {
            topics_max,
            topics: HashTable::new(),
            other_dropped: 0,
            other_conflated: 0,
        })))
    }

    /// Counts a message.
    pub(crate) fn add(&self, feed: u16, hash: u64, topic: &[u8], fate: Fate) {
        self.table().add(feed, hash, topic, fate, 1);
    }

    /// Counts the messages of a batch from `first` on as dropped.
    pub(crate) fn add_dropped(&self, batch: &Batch, first: usize) {
        let mut table = self.table();
        for message in batch.messages().skip(first) {
            let (feed, hash) = (message.origin().feed, message.topic_hash());
            table.add(feed, hash, message.topic(), Fate::Dropped, 1);
        }
    }

    /// Returns what counts messages as superseded. Nobody else counts until it is dropped.
    pub(crate) fn conflating(&self) -> impl FnMut(&Message<'_>) {
        let mut table = self.table();
        move |message| {
            let (feed, hash) = (message.origin().feed, message.topic_hash());
            table.add(feed, hash, message.topic(), Fate::Conflated, 1);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A thread that panicked within has at worst left a count out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the feed of all messages of a batch, if it is one.
pub(crate) fn only_feed(batch: &Batch) -> Option<u16> {
    let mut feeds = batch.headers().iter().map(|header| header.origin().feed);
    let first = feeds.next()?;
    feeds.all(|feed| feed == first).then_some(first)
}

/// Returns the topic of all messages of a batch, if it is one.
pub(crate) fn only_topic(batch: &Batch) -> Option<&[u8]> {
    let mut messages = batch.messages();
    let first = messages.next()?.topic();
    let is_same = |message: Message<'_>| message.topic() == first;
    messages.all(is_same).then_some(first)
}

impl ByTopic {
    /// Adds tallies up.
    pub(crate) fn merge<'a>(tallies: impl IntoIterator<Item = &'a TopicTally>) -> Self {
        let mut merged = Self::default();
        for tally in tallies {
            let table = tally.table();
            merged.topics.extend(table.topics.iter().cloned());
            merged.other_dropped += table.other_dropped;
            merged.other_conflated += table.other_conflated;
        }
        let topics = &mut merged.topics;
        topics.sort_unstable_by(|a, b| (a.feed, &a.topic).cmp(&(b.feed, &b.topic)));
        topics.dedup_by(|later, kept| {
            let same = (later.feed, &later.topic) == (kept.feed, &kept.topic);
            if same {
                kept.dropped += later.dropped;
                kept.conflated += later.conflated;
            }
            same
        });
        topics.sort_by_key(|row| Reverse(row.dropped + row.conflated));
        merged
    }

    /// Tells whether every message was delivered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.dropped() + self.conflated() == 0
    }

    /// Returns the messages dropped, of all topics.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.other_dropped + self.topics.iter().map(|row| row.dropped).sum::<u64>()
    }

    /// Returns the messages superseded, of all topics.
    #[must_use]
    pub fn conflated(&self) -> u64 {
        self.other_conflated + self.topics.iter().map(|row| row.conflated).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_its_sums_are_exact() {
        let (lane, worker) = (TopicTally::new(2), TopicTally::new(2));
        let count = |tally: &TopicTally, feed, topic: &[u8], fate| {
            tally.add(feed, topic_hash(topic), topic, fate);
        };
        for topic in [&b"a"[..], b"b", b"c", b"b"] {
            count(&lane, 0, topic, Fate::Dropped);
        }
        count(&worker, 0, b"b", Fate::Conflated);
        count(&worker, 1, b"b", Fate::Conflated);
        let merged = ByTopic::merge([&lane, &worker]);
        assert_eq!((merged.dropped(), merged.conflated()), (4, 2));
        assert_eq!((merged.other_dropped, merged.topics.len()), (1, 3));
        let first = &merged.topics[0];
        assert_eq!((first.feed, &*first.topic), (0, &b"b"[..]));
        assert_eq!((first.dropped, first.conflated), (2, 1));
    }

    #[test]
    fn keeps_no_long_topics_and_counts_their_messages() {
        let tally = TopicTally::new(10);
        for bytes in [NAME_BYTES_MAX, NAME_BYTES_MAX + 1, 1 << 20] {
            let topic = vec![b'x'; bytes];
            for fate in [Fate::Dropped, Fate::Conflated] {
                tally.add(0, topic_hash(&topic), &topic, fate);
            }
        }
        let merged = ByTopic::merge([&tally]);
        assert_eq!((merged.dropped(), merged.conflated()), (3, 3));
        assert_eq!((merged.other_dropped, merged.other_conflated), (2, 2));
        let kept = merged.topics.iter().map(|row| row.topic.len());
        assert_eq!(kept.collect::<Vec<_>>(), [NAME_BYTES_MAX]);
    }
}
