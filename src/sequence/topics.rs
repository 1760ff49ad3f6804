//! A bounded table of topics: what is kept of each, found by its hash.
//!
//! An entry holds what a message touches, unless its topic is in step (`awaited.rs`), and fills one cache line;
//! names stand apart, since only events ask for them. So a look-up costs one line of the table's control
//! bytes and one of entries.
//! The first message of a topic allocates, every later one does not. At the limit, new topics are not
//! tracked: their messages pass, counted.
//!
//! Topics are told apart by their 64-bit [hash](crate::shard::topic_hash) alone. That two of `n` topics
//! share theirs, and are taken for one, has a chance of about `n² / 2⁶⁵`: one in 37 million for a
//! million topics. To compare names would cost each message a second cache line.

use hashbrown::HashTable;

use crate::{
    prefetch::prefetch_found,
    sequence::{quality::TopicQuality, wheel::PLACES_MAX},
};

/// The longest name in bytes that is kept: a topic with a longer one is not tracked.
pub const NAME_BYTES_MAX: usize = 1_024;

/// What each message of a topic touches.
#[derive(Debug)]
#[repr(align(64))]
pub struct Topic<S> {
    /// The topic's hash.
    pub hash: u64,
    /// What the table's owner keeps of the topic.
    pub state: S,
    /// How far it can be trusted, and where its name stands.
    pub quality: TopicQuality,
}

/// What only events ask for.
#[derive(Debug)]
struct Name {
    hash: u64,
    bytes: Box<[u8]>,
}

/// The topics of one feed.
#[derive(Debug)]
pub struct Topics<S> {
    table: HashTable<Topic<S>>,
    /// By place.
    names: Vec<Name>,
    topics_max: usize,
}

impl<S> Topics<S> {
    /// Makes an empty table for at most `topics_max` topics.
    #[must_use]
    pub fn new(topics_max: usize) -> Self {
        Self {
            table: HashTable::new(),
            names: Vec::new(),
            topics_max: topics_max.min(PLACES_MAX),
        }
    }

    /// Returns how many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Finds a topic.
    #[inline(always)]
    #[must_use]
    pub fn get(&self, hash: u64) -> Option<&Topic<S>> {
        self.table.find(hash, |topic| topic.hash == hash)
    }

    /// Finds a topic, to change it.
    #[inline(always)]
    pub fn get_mut(&mut self, hash: u64) -> Option<&mut Topic<S>> {
        self.table.find_mut(hash, |topic| topic.hash == hash)
    }

    /// Has a topic's entry fetched, if it is there.
    #[inline(always)]
    pub(super) fn fetch(&self, hash: u64) {
        prefetch_found(&self.table, hash);
    }

    /// Adds a topic that is not there yet; `quality` gets its place. Returns `None` where the table is
    /// full or the name longer than [`NAME_BYTES_MAX`].
    #[cold]
    pub fn add(
        &mut self,
        name: &[u8],
        hash: u64,
        state: S,
        mut quality: TopicQuality,
    ) -> Option<&mut Topic<S>> {
        if self.names.len() >= self.topics_max || name.len() > NAME_BYTES_MAX {
            return None;
        }
        let place = self.names.len() as u32;
        self.names.push(Name {
            hash,
            bytes: name.into(),
        });
        quality.place = place;
        let topic = Topic {
            hash,
            state,
            quality,
        };
        let entry = self.table.insert_unique(hash, topic, |topic| topic.hash);
        Some(entry.into_mut())
    }

    /// Returns the topic at a place, and its name.
    pub(super) fn at(&mut self, place: u32) -> Option<(&mut Topic<S>, &[u8])> {
        let name = &self.names[place as usize];
        let topic = self
            .table
            .find_mut(name.hash, |topic| topic.hash == name.hash)?;
        Some((topic, &name.bytes))
    }

    /// Returns the bytes of memory that entries and names have taken, without their allocations' heads.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let names: usize = self.names.iter().map(|name| name.bytes.len()).sum();
        self.table.allocation_size() + self.names.capacity() * size_of::<Name>() + names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::stream::Stream;

    #[test]
    fn an_entry_fills_one_cache_line() {
        assert_eq!(size_of::<Topic<Stream>>(), 64);
    }

    #[test]
    fn topics_beyond_the_limit_are_refused_and_those_within_it_found() {
        let mut topics = Topics::new(2);
        let quality = TopicQuality::default();
        assert!(topics.add(b"a", 1, 10, quality).is_some());
        assert!(
            topics
                .add(&[b'x'; NAME_BYTES_MAX + 1], 9, 90, quality)
                .is_none()
        );
        assert!(topics.add(b"b", 2, 20, quality).is_some());
        assert!(topics.add(b"c", 3, 30, quality).is_none());
        assert_eq!(topics.len(), 2);
        assert_eq!(topics.get(2).map(|topic| topic.state), Some(20));
        assert!(topics.get(3).is_none());
        let (topic, name) = topics.at(1).expect("there are two");
        assert_eq!((topic.state, name), (20, &b"b"[..]));
    }

    #[test]
    fn ten_million_distinct_topics_take_no_more_memory_than_the_limit_allows() {
        let mut topics = Topics::new(1_000);
        let mut refused = 0;
        for number in 0..10_000_000_u64 {
            let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            if topics.get(hash).is_none() {
                let added = topics.add(b"topic", hash, (), TopicQuality::default());
                refused += u64::from(added.is_none());
            }
        }
        assert_eq!((topics.len(), refused), (1_000, 9_999_000));
        assert!(
            topics.memory_bytes() < 1_000 * 256,
            "{}",
            topics.memory_bytes()
        );
    }
}
