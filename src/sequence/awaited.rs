//! What topics in step await: all that a message in sequence touches.
//!
//! Of a topic whose numbers come one after the other there is nothing to know but the next one. So such
//! topics have a slot beside their entry in the [table](super::topics): 8 bytes instead of 64, though half to three
//! quarters of the room are not used, so that two to four times as many stay in a cache that a lane's batches stream
//! through. Anything but the awaited number is for the table, which is brought up to date first.
//!
//! A position is kept as one number, its mark: odd multiples of the sequence number and of what is special to the life,
//! its epoch and the connection, in sum. Within a life marks differ as numbers do; that the first number of a new life
//! has the mark that the old one awaited has a chance of one in 2⁶⁴. A slot holds the sum of a topic's hash and the
//! mark, so that one comparison tells both: that the sum of another topic is met, whose slot is looked at, is no
//! more likely.
//!
//! Slots come in rows of a cache line, and each row knows a seed by which its topics have different places in it. So
//! a topic's slot is nearly always the first one looked at. Where slots are looked at one after the other until it is
//! found, the core can't foresee how many that are, and a wrong guess costs as much as all the rest. A topic that finds
//! no room in its row is in one of the next. One that finds none there either, as only topics chosen for their hashes
//! do, gets no slot, and is looked at as one out of step is.

use std::{iter, mem};

use crate::{prefetch::prefetch, sequence::Position};

/// An odd number without a pattern: the fraction of the golden ratio. The marks of numbers that follow each other are
/// so far apart.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// What times [`SPREAD`] is 1.
const SPREAD_INVERSE: u64 = 0xf1de_83e1_9937_733d;
const _: () = assert!(SPREAD.wrapping_mul(SPREAD_INVERSE) == 1);

/// What is in the slot of no topic: no more likely to be met than any other number.
const EMPTY: u64 = 0;
/// What is in the slot of a topic that is out of step. Likewise.
const NONE: u64 = SPREAD.rotate_left(17);
/// Slots a row.
const SLOTS: usize = 7;
/// Topics a row, at most, in the mean. One of forty is then in a row behind its own.
const TOPICS_A_ROW: usize = 4;
/// Rows at first.
const ROWS_MIN: usize = 4;
/// Seeds that are tried to give a row's topics different places. Seven get them with one of 160, fewer sooner.
const SEEDS_MAX: usize = 256;
/// The rows where a topic may be, that which its hash chooses and those behind it.
const ROWS_A_TOPIC: usize = 16;

/// The marks that topics await, by the topics' hashes: a hash table from which nothing is removed.
#[derive(Debug)]
pub(super) struct Awaited {
    /// As many as a power of two.
    rows: Vec<Row>,
    /// By row and slot: the hash of the topic whose slot it is. Messages in sequence don't ask for it.
    owners: Vec<[u64; SLOTS]>,
    topics: usize,
    /// Whether a larger table would have slots for all that have one.
    can_grow: bool,
    /// That of the last message: mostly the next one's, too.
    life: Life,
}

/// The slots of topics whose hashes choose this row, and of those that found no room in rows before.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Row {
    /// In the lowest bit whether topics found no room here, and may be in the next row.
    seed: u64,
    /// What is awaited.
    slots: [u64; SLOTS],
}

const _: () = assert!(size_of::<Row>() == 64);

impl Row {
    const EMPTY: Self = Self {
        seed: 0,
        slots: [EMPTY; SLOTS],
    };

    /// The place of a topic's slot.
    #[inline(always)]
    fn place(&self, hash: u64) -> usize {
        place(hash, self.seed)
    }

    #[inline(always)]
    fn has_overflowed(&self) -> bool {
        self.seed & 1 != 0
    }
}

/// The place that a seed, but for its lowest bit, gives a topic.
#[inline(always)]
fn place(hash: u64, seed: u64) -> usize {
    let turned = hash.wrapping_mul(seed | 1) >> 32;
    ((turned * SLOTS as u64) >> 32) as usize
}

/// What moves the numbers of one epoch on one connection.
#[derive(Clone, Copy, Debug)]
struct Life {
    epoch: u64,
    connection: u32,
    offset: u64,
}

impl Life {
    #[cold]
    fn new(epoch: u64, connection: u32) -> Self {
        let life = epoch ^ u64::from(connection).rotate_left(32);
        Self {
            epoch,
            connection,
            // Turned, so that the next epoch is not as far away as the next number.
            offset: life.wrapping_mul(SPREAD).rotate_left(32),
        }
    }

    #[inline(always)]
    fn mark(self, sequence: u64) -> u64 {
        sequence.wrapping_mul(SPREAD).wrapping_add(self.offset)
    }
}

impl Awaited {
    pub(super) fn new() -> Self {
        Self::of_rows(ROWS_MIN)
    }

    fn of_rows(rows: usize) -> Self {
        Self {
            rows: vec![Row::EMPTY; rows],
            owners: vec![[0; SLOTS]; rows],
            topics: 0,
            can_grow: true,
            life: Life::new(0, 0),
        }
    }

    /// Returns what takes messages in sequence that came by connection number `connection`.
    #[inline(always)]
    pub(super) fn followed(&mut self, connection: u32) -> Followed<'_> {
        if self.life.connection != connection {
            self.life = Life::new(self.life.epoch, connection);
        }
        Followed {
            rows: &mut self.rows,
            life: &mut self.life,
        }
    }

    /// Returns the slot of a topic, if it has one.
    fn slot(&mut self, hash: u64) -> Option<&mut u64> {
        for at in rows_of(hash, self.rows.len()) {
            let row = &self.rows[at];
            let place = row.place(hash);
            if row.slots[place] != EMPTY && self.owners[at][place] == hash {
                return Some(&mut self.rows[at].slots[place]);
            }
            if !row.has_overflowed() {
                break;
            }
        }
        None
    }

    /// From here on a topic awaits a position on connection number `connection`, if there is a slot for it.
    pub(super) fn put(&mut self, hash: u64, position: Position, connection: u32) {
        let mark = Life::new(position.epoch, connection).mark(position.sequence);
        let awaited = hash.wrapping_add(mark);
        if let Some(slot) = self.slot(hash) {
            *slot = awaited;
            return;
        }
        if self.topics >= TOPICS_A_ROW * self.rows.len() && self.can_grow {
            self.grow();
        }
        self.settle(hash, awaited);
    }

    fn grow(&mut self) {
        let mut grown = Self::of_rows(2 * self.rows.len());
        grown.life = self.life;
        for (row, owners) in iter::zip(&self.rows, &self.owners) {
            for (&slot, &owner) in iter::zip(&row.slots, owners).filter(|&(&slot, _)| slot != EMPTY)
            {
                self.can_grow &= grown.settle(owner, slot);
            }
        }
        if self.can_grow {
            *self = grown;
        }
    }

    /// Gives a new topic a slot, and others of its row other ones where that takes another seed. Returns false where
    /// there is none.
    fn settle(&mut self, hash: u64, awaited: u64) -> bool {
        let settled = rows_of(hash, self.rows.len()).any(|at| {
            let settled = self.settle_in(at, hash, awaited);
            self.rows[at].seed |= u64::from(!settled);
            settled
        });
        self.topics += usize::from(settled);
        settled
    }

    /// Gives a new topic a slot in a row. Returns false where there is no room for it.
    fn settle_in(&mut self, at: usize, hash: u64, awaited: u64) -> bool {
        let (row, owners) = (&mut self.rows[at], &mut self.owners[at]);
        let wanted = row.place(hash);
        if row.slots[wanted] == EMPTY {
            (row.slots[wanted], owners[wanted]) = (awaited, hash);
            return true;
        }
        if !row.slots.contains(&EMPTY) {
            return false;
        }
        let mut topics = vec![(hash, awaited)];
        topics.extend(iter::zip(*owners, row.slots).filter(|&(_, slot)| slot != EMPTY));
        let tells_apart = |&seed: &u64| {
            let mut taken = 0_u8;
            topics.iter().all(|&(hash, _)| {
                let bit = 1 << place(hash, seed);
                let is_free = taken & bit == 0;
                taken |= bit;
                is_free
            })
        };
        let overflowed = row.seed & 1;
        let next = |seed: &u64| Some((seed | 1).wrapping_mul(SPREAD) & !1 | overflowed);
        let mut seeds = iter::successors(next(&row.seed), next).take(SEEDS_MAX);
        let Some(seed) = seeds.find(tells_apart) else {
            return false;
        };
        *row = Row { seed, ..Row::EMPTY };
        for (hash, awaited) in topics {
            let place = row.place(hash);
            (row.slots[place], owners[place]) = (awaited, hash);
        }
        true
    }

    /// From here on a topic awaits nothing. Returns how many messages it has got since it awaited a position on
    /// connection number `connection`. Its slot stays, so that one that comes and goes does not wear out the table.
    pub(super) fn take(&mut self, hash: u64, since: Position, connection: u32) -> Option<u64> {
        let awaited = mem::replace(self.slot(hash)?, NONE);
        let mark = Life::new(since.epoch, connection).mark(since.sequence);
        let far = awaited.wrapping_sub(hash).wrapping_sub(mark);
        (awaited != NONE).then(|| far.wrapping_mul(SPREAD_INVERSE))
    }
}

/// The rows among `count` where a topic may be, that which its hash chooses first.
#[inline(always)]
fn rows_of(hash: u64, count: usize) -> impl Iterator<Item = usize> {
    (0..ROWS_A_TOPIC).map(move |behind| (hash as usize).wrapping_add(behind) & (count - 1))
}

/// The slots of topics, for messages of one connection: all that the lane's innermost loop looks at.
#[derive(Debug)]
pub(crate) struct Followed<'a> {
    rows: &'a mut [Row],
    life: &'a mut Life,
}

impl Followed<'_> {
    /// Has the slot of a topic fetched.
    #[inline(always)]
    pub(crate) fn fetch(&self, hash: u64) {
        prefetch(&self.rows[hash as usize & (self.rows.len() - 1)]);
    }

    /// Takes a message if its position is the one awaited.
    #[inline(always)]
    pub(crate) fn follow(&mut self, hash: u64, position: Position) -> bool {
        if self.life.epoch != position.epoch {
            *self.life = Life::new(position.epoch, self.life.connection);
        }
        let awaited = hash.wrapping_add(self.life.mark(position.sequence));
        for at in rows_of(hash, self.rows.len()) {
            let row = &mut self.rows[at];
            let slot = &mut row.slots[row.place(hash)];
            if *slot == awaited {
                *slot = awaited.wrapping_add(SPREAD);
                return true;
            }
            if !row.has_overflowed() {
                break;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    fn at(epoch: u64, sequence: u64) -> Position {
        Position { epoch, sequence }
    }

    #[test]
    fn only_the_next_number_of_the_same_life_is_followed() {
        let mut awaited = Awaited::new();
        awaited.put(7, at(5, 10), 1);
        let mut follow = |hash, position, connection| {
            let mut followed = awaited.followed(connection);
            followed.follow(hash, position)
        };
        assert!(!follow(8, at(5, 10), 1), "another topic");
        for (position, connection) in [(at(5, 11), 1), (at(6, 10), 1), (at(5, 10), 2)] {
            assert!(!follow(7, position, connection));
        }
        assert!(follow(7, at(5, 10), 1));
        assert!(!follow(7, at(5, 10), 1), "it came before");
        assert!(follow(7, at(5, 11), 1));
        assert_eq!(awaited.take(7, at(5, 10), 1), Some(2));
        assert_eq!(awaited.take(7, at(5, 10), 1), None);
    }

    #[derive(Clone, Debug)]
    enum Act {
        Put(u64, u64),
        Take(u64),
        /// A message, this far from the number that its topic awaits.
        Follow(u64, u64),
    }

    #[test]
    fn nearly_all_topics_of_a_feed_are_found_at_once() {
        // As many as there may be before the table grows.
        const ROWS: usize = 32_768;
        const TOPICS: u64 = (TOPICS_A_ROW * ROWS) as u64;
        let hash = |topic: u64| xxh3_64(format!("exchange.symbol-{topic}").as_bytes());
        let mut awaited = Awaited::new();
        for topic in 0..TOPICS {
            awaited.put(hash(topic), at(1, topic), 1);
        }
        assert_eq!(awaited.rows.len(), ROWS);
        let is_in_its_row = |hash: u64| {
            let row = hash as usize % ROWS;
            awaited.owners[row][awaited.rows[row].place(hash)] == hash
        };
        let found = (0..TOPICS).filter(|&topic| is_in_its_row(hash(topic)));
        let found = found.count() as f64 / TOPICS as f64;
        assert!(found > 0.97, "{found}");
        for topic in 0..TOPICS {
            assert!(awaited.followed(1).follow(hash(topic), at(1, topic)));
        }
    }

    /// Who can choose topics by their hashes can have them all choose one row, or places that no seed tells apart.
    #[test]
    fn topics_that_find_no_room_are_left_out_and_others_are_not() {
        const TOPICS: u64 = 20_000;
        let one_row = |topic: u64| topic << 40;
        let one_place = |topic: u64| (topic % 8) << 61 | topic >> 3;
        for hash in [one_row, one_place] {
            let mut awaited = Awaited::new();
            for topic in 0..TOPICS {
                awaited.put(hash(topic), at(1, topic), 1);
            }
            let mut settled = 0;
            for topic in 0..TOPICS {
                let has_slot = awaited.slot(hash(topic)).is_some();
                let follows = awaited.followed(1).follow(hash(topic), at(1, topic));
                assert_eq!(follows, has_slot, "{topic}");
                settled += usize::from(has_slot);
            }
            assert_eq!(settled, awaited.topics);
            assert!(settled > ROWS_A_TOPIC * SLOTS / 2, "{settled}");
            assert!(awaited.rows.len() * TOPICS_A_ROW <= 2 * settled.max(TOPICS_A_ROW * ROWS_MIN));
        }
    }

    /// Hashes of which many have the same low bits, so that they choose the same rows.
    fn hash() -> impl Strategy<Value = u64> {
        (0..24_u64, 0..8_u64).prop_map(|(high, low)| high << 56 | low)
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (hash(), 0..1_000_u64).prop_map(|(hash, sequence)| Act::Put(hash, sequence)),
            hash().prop_map(Act::Take),
            (hash(), 0..2_u64).prop_map(|(hash, ahead)| Act::Follow(hash, ahead)),
        ]
    }

    proptest! {
        #[test]
        fn it_is_as_a_map(acts in proptest::collection::vec(act(), 0..400)) {
            const EPOCH: u64 = 3;
            let mut awaited = Awaited::new();
            let mut model = HashMap::new();
            for act in acts {
                match act {
                    Act::Put(hash, sequence) => {
                        awaited.put(hash, at(EPOCH, sequence), 1);
                        if awaited.slot(hash).is_some() {
                            model.insert(hash, (sequence, 0));
                        } else {
                            prop_assert!(!model.contains_key(&hash), "it had a slot");
                        }
                    }
                    Act::Take(hash) => {
                        let (since, followed) = model.remove(&hash).unzip();
                        let since = at(EPOCH, since.unwrap_or(0));
                        prop_assert_eq!(awaited.take(hash, since, 1), followed);
                    }
                    Act::Follow(hash, ahead) => {
                        let next = model.get_mut(&hash);
                        let sequence = next.as_ref().map_or(0, |(since, followed)| since + followed);
                        let position = at(EPOCH, sequence + ahead);
                        let mut followed = awaited.followed(1);
                        followed.fetch(hash);
                        let follows = followed.follow(hash, position);
                        prop_assert_eq!(follows, next.is_some() && ahead == 0);
                        if follows && let Some((_, followed)) = next {
                            *followed += 1;
                        }
                    }
                }
            }
            let slots = iter::zip(&awaited.rows, &awaited.owners)
                .flat_map(|(row, owners)| iter::zip(row.slots, owners))
                .filter(|&(slot, _)| slot != EMPTY);
            let owners: Vec<u64> = slots.map(|(_, &owner)| owner).collect();
            prop_assert_eq!(owners.len(), awaited.topics);
            prop_assert_eq!(owners.iter().collect::<HashSet<_>>().len(), awaited.topics);
        }
    }
}
