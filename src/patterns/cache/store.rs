//! The newest message of each topic, within limits.
//!
//! A message is kept as it goes over the wire, frames with their heads, in one allocation, and a message of
//! the same size takes the place of the one before it without another. Its topic is the start of its first
//! frame and is not kept apart. Beside it stand a slot of 32 bytes, a place in a hash table for updates,
//! and one in the [order](super::order) for prefixes: [`MESSAGE_OVERHEAD_BYTES`] in all. An ordered map alone
//! would save the hash table, but take an update through some twenty messages to find its own.

use hashbrown::HashTable;

use crate::{
    message::FRAMES_MAX,
    patterns::cache::order::{Order, Position},
    shard::topic_hash,
    zmtp::frame::{LONG, LONG_HEAD_BYTES, SHORT_HEAD_BYTES, decode_head, encode_message},
};

/// What a message costs beside the bytes of its frames and their heads, in bytes: its slot, its places in hash
/// table and order, and what the allocator adds. A process grew by 116 to 122 a topic with a million messages of
/// 52 bytes.
pub const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// No slot.
const NOWHERE: u32 = u32::MAX;

/// What a store may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most topics, up to 4,000,000,000.
    pub topics_max: usize,
    /// The most that messages may take, in bytes, each with [`MESSAGE_OVERHEAD_BYTES`].
    pub bytes_max: usize,
}

/// What makes room for a new topic where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evict {
    /// The topic that was updated the longest time ago goes.
    Oldest,
    /// None: the new topic is not kept.
    Refuse,
}

/// What a store has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that took the place of others of their topics.
    pub updated: u64,
    /// Messages of topics that were not there.
    pub added: u64,
    /// Topics that went to make room.
    pub evicted: u64,
    /// Messages that were not kept, for lack of room. What was kept of their topics before is gone as well.
    pub refused: u64,
}

/// A message that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    encoded: &'a [u8],
    topic: &'a [u8],
}

impl<'a> Value<'a> {
    /// Returns the topic.
    #[must_use]
    pub fn topic(&self) -> &'a [u8] {
        self.topic
    }

    /// Returns the message as it goes over the wire.
    #[must_use]
    pub fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// Returns the frames.
    pub fn frames(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        frames(self.encoded)
    }

    /// Returns the first frame, which subscriptions match on.
    #[must_use]
    pub fn first_frame(&self) -> &'a [u8] {
        self.frames().next().unwrap_or_default()
    }

    /// Puts the frames in front of `room`, and returns how many they are.
    #[must_use]
    pub fn fill(&self, room: &mut [&'a [u8]; FRAMES_MAX]) -> usize {
        let slots = room.iter_mut().zip(self.frames());
        slots.map(|(slot, frame)| *slot = frame).count()
    }
}

/// Returns the frames of a message that was encoded here.
fn frames(encoded: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = encoded;
    std::iter::from_fn(move || {
        let head = decode_head(rest, usize::MAX, 0).ok()??;
        let (frame, behind) = rest[head.head_bytes..].split_at_checked(head.body_bytes)?;
        rest = behind;
        Some(frame)
    })
}

/// Tells whether these bytes are a message: frames up to the last one, and nothing behind it.
fn ends_whole(encoded: &[u8]) -> bool {
    let mut rest = encoded;
    for _ in 0..FRAMES_MAX {
        let Ok(Some(head)) = decode_head(rest, usize::MAX, 0) else {
            return false;
        };
        let Some(behind) = rest
            .get(head.head_bytes..)
            .and_then(|body| body.get(head.body_bytes..))
        else {
            return false;
        };
        if head.command || !head.more {
            return !head.command && behind.is_empty();
        }
        rest = behind;
    }
    false
}

/// A topic's newest message and its neighbours in age, or no message.
#[derive(Debug)]
struct Slot {
    encoded: Box<[u8]>,
    topic_bytes: u32,
    hash: u32,
    /// The slot of the topic that was updated before this one; of a free slot the next free one.
    older: u32,
    /// The slot of the topic that was updated after this one.
    newer: u32,
}

const _: () = assert!(size_of::<Slot>() == 32);

impl Slot {
    fn topic(&self) -> &[u8] {
        let at = if self.encoded[0] & LONG == 0 {
            SHORT_HEAD_BYTES
        } else {
            LONG_HEAD_BYTES
        };
        &self.encoded[at..at + self.topic_bytes as usize]
    }

    fn value(&self) -> Value<'_> {
        Value {
            encoded: &self.encoded,
            topic: self.topic(),
        }
    }

    fn is_free(&self) -> bool {
        self.encoded.is_empty()
    }

    fn cost_bytes(&self) -> usize {
        self.encoded.len() + MESSAGE_OVERHEAD_BYTES
    }
}

/// What was changed and not yet asked for, where somebody asks.
#[derive(Debug, Default)]
struct Changes {
    /// Of each slot.
    marks: Vec<Mark>,
    changed: std::collections::VecDeque<u32>,
    /// Topics that were handed over and are no longer kept: never more than there were when changes were last
    /// handed over.
    removed: Vec<Box<[u8]>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// Whether the slot is among those changed. One that is freed stays among them, so that they are never
    /// more than there are slots.
    is_changed: bool,
    /// Whether its topic was handed over, so that its removal has to be.
    is_handed_over: bool,
}

/// The newest message of each topic.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    evict: Evict,
    slots: Vec<Slot>,
    first_free: u32,
    by_hash: HashTable<u32>,
    order: Order,
    oldest: u32,
    newest: u32,
    cost_bytes: usize,
    /// A byte more than the longest topic had that was not a whole frame.
    part_bytes_max: usize,
    counters: Counters,
    changes: Option<Changes>,
    scratch: Vec<u8>,
}

/// The hash a table is asked with, which has to be found again from what a slot keeps.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(limits: Limits, evict: Evict) -> Self {
        Self {
            limits: Limits {
                topics_max: limits.topics_max.min(NOWHERE as usize),
                ..limits
            },
            evict,
            slots: Vec::new(),
            first_free: NOWHERE,
            by_hash: HashTable::new(),
            order: Order::default(),
            oldest: NOWHERE,
            newest: NOWHERE,
            cost_bytes: 0,
            part_bytes_max: 0,
            counters: Counters::default(),
            changes: None,
            scratch: Vec::new(),
        }
    }

    /// Has changes noted from now on, for [`take_changes`](Self::take_changes), by somebody who knows what is kept
    /// so far.
    pub fn note_changes(&mut self) {
        let known = Mark {
            is_handed_over: true,
            ..Mark::default()
        };
        self.changes = Some(Changes {
            marks: vec![known; self.slots.len()],
            ..Changes::default()
        });
    }

    /// Keeps a message in place of the one before it of its topic, which is the first `topic_bytes` of its
    /// first frame. Returns whether it is kept.
    ///
    /// # Panics
    /// Where the first frame is shorter than that, or there is none.
    pub fn put(&mut self, topic_bytes: usize, frames: &[&[u8]]) -> bool {
        let topic = &frames[0][..topic_bytes];
        self.note_part(topic_bytes, frames[0].len());
        let mut encoded = std::mem::take(&mut self.scratch);
        encoded.clear();
        encode_message(&mut encoded, frames);
        let is_kept = self.put_encoded(topic, &encoded);
        self.scratch = encoded;
        is_kept
    }

    /// Keeps a message that was kept before, as long as there is room without eviction and it is one. Returns
    /// whether it is kept.
    pub(super) fn restore(&mut self, topic: &[u8], encoded: &[u8]) -> bool {
        let is_message = ends_whole(encoded)
            && frames(encoded)
                .next()
                .is_some_and(|first| first.starts_with(topic));
        let has_room = self.cost_bytes + encoded.len() + MESSAGE_OVERHEAD_BYTES
            <= self.limits.bytes_max
            && self.topics() < self.limits.topics_max;
        if !is_message || !has_room {
            return false;
        }
        let first_bytes = frames(encoded).next().map_or(0, <[u8]>::len);
        self.note_part(topic.len(), first_bytes);
        self.put_encoded(topic, encoded)
    }

    /// Notes that a topic may be a part of its first frame.
    fn note_part(&mut self, topic_bytes: usize, frame_bytes: usize) {
        if topic_bytes < frame_bytes {
            self.part_bytes_max = self.part_bytes_max.max(topic_bytes + 1);
        }
    }

    fn put_encoded(&mut self, topic: &[u8], encoded: &[u8]) -> bool {
        let hash = topic_hash(topic) as u32;
        let place = self.find(topic, hash);
        let cost_bytes = encoded.len() + MESSAGE_OVERHEAD_BYTES;
        let kept_bytes = place.map_or(0, |place| self.slots[place as usize].cost_bytes());
        let is_small_enough = |store: &Self| {
            store.cost_bytes - kept_bytes + cost_bytes <= store.limits.bytes_max
                && (place.is_some() || store.by_hash.len() < store.limits.topics_max)
        };
        if let Some(place) = place {
            self.become_newest(place);
        }
        let may_evict = self.evict == Evict::Oldest
            && cost_bytes <= self.limits.bytes_max
            && self.limits.topics_max > 0;
        while !is_small_enough(self) {
            if !may_evict {
                self.counters.refused += 1;
                // What is kept of the topic is out of date.
                if let Some(place) = place {
                    self.remove(place);
                }
                return false;
            }
            self.counters.evicted += 1;
            self.remove(self.oldest);
        }
        match place {
            Some(place) => {
                let slot = &mut self.slots[place as usize];
                if slot.encoded.len() == encoded.len() {
                    slot.encoded.copy_from_slice(encoded);
                } else {
                    slot.encoded = encoded.into();
                }
                self.cost_bytes = self.cost_bytes - kept_bytes + cost_bytes;
                self.counters.updated += 1;
                self.note_changed(place);
            }
            None => self.add(topic, hash, encoded),
        }
        true
    }

    /// Returns the message that is kept of a topic.
    #[must_use]
    pub fn get(&self, topic: &[u8]) -> Option<Value<'_>> {
        let place = self.find(topic, topic_hash(topic) as u32)?;
        Some(self.slots[place as usize].value())
    }

    /// Returns the messages of all topics that start with `prefix`, in the order of topics; those behind
    /// `after` if it is given.
    pub fn under<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let position = self.order.position(|place| {
            let topic = self.slots[place as usize].topic();
            topic < prefix || after.is_some_and(|after| topic <= after)
        });
        let places = self.order.behind(position);
        let values = places.map(|place| self.slots[place as usize].value());
        values.take_while(move |value| value.topic().starts_with(prefix))
    }

    /// Returns the messages that a subscription to `prefix` matches, in the order of topics; those behind
    /// `after` if it is given. These are the messages [under](Self::under) it, and where topics are parts of
    /// first frames those whose topics it starts with, if the rest of the frame agrees.
    pub fn matching<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let shorter = prefix.len().min(self.part_bytes_max);
        let first = after.map_or(0, |after| {
            if prefix.starts_with(after) {
                after.len() + 1
            } else if after < prefix {
                let alike = prefix
                    .iter()
                    .zip(after)
                    .take_while(|(one, other)| one == other);
                alike.count() + 1
            } else {
                shorter
            }
        });
        let parts = (first..shorter).filter_map(|bytes| self.get(&prefix[..bytes]));
        parts
            .filter(|value| value.first_frame().starts_with(prefix))
            .chain(self.under(prefix, after))
    }

    /// Returns how many topics there are.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.by_hash.len()
    }

    /// Returns what messages take, in bytes, each with [`MESSAGE_OVERHEAD_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.cost_bytes
    }

    /// Returns what was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns how many changes are noted that were not taken.
    #[must_use]
    pub fn changes(&self) -> usize {
        let changes = self.changes.as_ref();
        changes.map_or(0, |changes| changes.changed.len() + changes.removed.len())
    }

    /// Hands over the topics that were handed over before and are no longer kept, then the newest messages of those
    /// that were changed, the first changed first, until they are `bytes_max` or more.
    pub fn take_changes(
        &mut self,
        bytes_max: usize,
        mut removed: impl FnMut(Box<[u8]>),
        mut changed: impl FnMut(Value<'_>),
    ) {
        let Some(changes) = &mut self.changes else {
            return;
        };
        let slots = &self.slots;
        // One that was added again since is among the changed.
        changes.removed.drain(..).for_each(&mut removed);
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some(place) = changes.changed.pop_front()
        {
            let slot = &slots[place as usize];
            changes.marks[place as usize] = Mark {
                is_changed: false,
                is_handed_over: !slot.is_free(),
            };
            if !slot.is_free() {
                bytes += slot.encoded.len();
                changed(slot.value());
            }
        }
    }

    fn find(&self, topic: &[u8], hash: u32) -> Option<u32> {
        let is_same = |&place: &u32| {
            let slot = &self.slots[place as usize];
            slot.hash == hash && slot.topic() == topic
        };
        self.by_hash.find(spread(hash), is_same).copied()
    }

    fn position_of(&self, topic: &[u8]) -> Position {
        let slots = &self.slots;
        let is_before = |place: u32| slots[place as usize].topic() < topic;
        self.order.position(is_before)
    }

    fn add(&mut self, topic: &[u8], hash: u32, encoded: &[u8]) {
        let position = self.position_of(topic);
        let slot = Slot {
            encoded: encoded.into(),
            topic_bytes: topic.len() as u32,
            hash,
            older: NOWHERE,
            newer: NOWHERE,
        };
        self.cost_bytes += slot.cost_bytes();
        let place = if self.first_free == NOWHERE {
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        } else {
            let place = self.first_free;
            let free = std::mem::replace(&mut self.slots[place as usize], slot);
            self.first_free = free.older;
            place
        };
        let slots = &self.slots;
        let hash_of = |&place: &u32| spread(slots[place as usize].hash);
        self.by_hash.insert_unique(spread(hash), place, hash_of);
        self.order.insert(position, place);
        self.link_as_newest(place);
        self.counters.added += 1;
        self.note_changed(place);
    }

    fn remove(&mut self, place: u32) {
        let position = self.position_of(self.slots[place as usize].topic());
        self.order.remove(position);
        self.unlink(place);
        let slot = &mut self.slots[place as usize];
        self.cost_bytes -= slot.cost_bytes();
        if let Ok(entry) = self
            .by_hash
            .find_entry(spread(slot.hash), |&one| one == place)
        {
            entry.remove();
        }
        if let Some(changes) = &mut self.changes
            && std::mem::take(&mut changes.marks[place as usize].is_handed_over)
        {
            changes.removed.push(slot.topic().into());
        }
        slot.encoded = Box::default();
        slot.older = self.first_free;
        self.first_free = place;
    }

    fn note_changed(&mut self, place: u32) {
        let Some(changes) = &mut self.changes else {
            return;
        };
        let at = place as usize;
        if changes.marks.len() <= at {
            changes.marks.resize(at + 1, Mark::default());
        }
        if !std::mem::replace(&mut changes.marks[at].is_changed, true) {
            changes.changed.push_back(place);
        }
    }

    fn become_newest(&mut self, place: u32) {
        if self.newest != place {
            self.unlink(place);
            self.link_as_newest(place);
        }
    }

    fn link_as_newest(&mut self, place: u32) {
        let before = std::mem::replace(&mut self.newest, place);
        let slot = &mut self.slots[place as usize];
        (slot.older, slot.newer) = (before, NOWHERE);
        match self.slots.get_mut(before as usize) {
            Some(before) => before.newer = place,
            None => self.oldest = place,
        }
    }

    fn unlink(&mut self, place: u32) {
        let Slot { older, newer, .. } = self.slots[place as usize];
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests;
