//! What topics in step await: all that a message in sequence touches.
//!
//! Of a topic whose numbers come one after the other there is nothing to know but the next one. So such
//! topics have a slot beside their entry in the [table](super::topics): 8 bytes instead of 64, though half to three
//! quarters of the slots are empty, so that two to four times as many stay in a cache that a lane's batches stream
//! through. Anything but the awaited number is for the table, which is brought up to date first.
//!
//! A position is kept as one number, its mark: odd multiples of the sequence number and of what is special to the life,
//! its epoch and the connection, in sum. Within a life marks differ as numbers do; that the first number of a new life
//! has the mark that the old one awaited has a chance of one in 2⁶⁴. A slot holds the sum of a topic's hash and the
//! mark, so that one comparison tells both: that the sum of another topic is met, whose slot is looked at before, is no
//! more likely.

use std::{iter, mem};

use crate::sequence::Position;

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
/// Slots at first.
const SLOTS_MIN: usize = 16;
/// Slots a topic, at least.
const SLOTS_A_TOPIC: usize = 2;

/// The marks that topics await, by the topics' hashes: an open hash table with linear probing, from which nothing is
/// removed.
#[derive(Debug)]
pub(super) struct Awaited {
    /// By place: what is awaited. As many as a power of two.
    slots: Vec<u64>,
    /// By place: the hash of the topic whose slot it is. Messages in sequence don't ask for it.
    owners: Vec<u64>,
    topics: usize,
    /// That of the last message: mostly the next one's, too.
    life: Life,
}

/// What moves the numbers of one epoch on one connection.
#[derive(Clone, Copy, Debug)]
struct Life {
    epoch: u64,
    generation: u32,
    offset: u64,
}

impl Life {
    #[cold]
    fn new(epoch: u64, generation: u32) -> Self {
        let life = epoch ^ u64::from(generation).rotate_left(32);
        Self {
            epoch,
            generation,
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
        Self {
            slots: vec![EMPTY; SLOTS_MIN],
            owners: vec![0; SLOTS_MIN],
            topics: 0,
            life: Life::new(0, 0),
        }
    }

    /// Returns what takes messages in sequence that came by connection number `generation`.
    #[inline(always)]
    pub(super) fn followed(&mut self, generation: u32) -> Followed<'_> {
        if self.life.generation != generation {
            self.life = Life::new(self.life.epoch, generation);
        }
        Followed {
            slots: &mut self.slots,
            life: &mut self.life,
        }
    }

    /// Returns the place of a topic's slot, or of the one that it would get.
    fn place(&self, hash: u64) -> usize {
        let mut places = places(hash, self.slots.len());
        let place = places.find(|&place| self.slots[place] == EMPTY || self.owners[place] == hash);
        place.expect("some slots are empty")
    }

    /// From here on a topic awaits a position on connection number `generation`.
    pub(super) fn put(&mut self, hash: u64, position: Position, generation: u32) {
        let mark = Life::new(position.epoch, generation).mark(position.sequence);
        let mut place = self.place(hash);
        if self.slots[place] == EMPTY {
            self.topics += 1;
            if SLOTS_A_TOPIC * self.topics > self.slots.len() {
                self.grow();
                place = self.place(hash);
            }
        }
        self.slots[place] = hash.wrapping_add(mark);
        self.owners[place] = hash;
    }

    fn grow(&mut self) {
        let count = 2 * self.slots.len();
        let slots = mem::replace(&mut self.slots, vec![EMPTY; count]);
        let owners = mem::replace(&mut self.owners, vec![0; count]);
        for (slot, owner) in iter::zip(slots, owners).filter(|&(slot, _)| slot != EMPTY) {
            let place = self.place(owner);
            self.slots[place] = slot;
            self.owners[place] = owner;
        }
    }

    /// From here on a topic awaits nothing. Returns how many messages it has got since it awaited a position on
    /// connection number `generation`. Its slot stays, so that one that comes and goes does not wear out the table.
    pub(super) fn take(&mut self, hash: u64, since: Position, generation: u32) -> Option<u64> {
        let place = self.place(hash);
        let slot = &mut self.slots[place];
        if *slot == EMPTY {
            return None;
        }
        let awaited = mem::replace(slot, NONE);
        let mark = Life::new(since.epoch, generation).mark(since.sequence);
        let far = awaited.wrapping_sub(hash).wrapping_sub(mark);
        (awaited != NONE).then(|| far.wrapping_mul(SPREAD_INVERSE))
    }
}

/// The places among `count` where a topic's slot may be, that which it should have first.
#[inline(always)]
fn places(hash: u64, count: usize) -> impl Iterator<Item = usize> {
    let mask = count - 1;
    let first = hash as usize & mask;
    iter::successors(Some(first), move |place| Some((place + 1) & mask))
}

/// The slots of topics, for messages of one connection: all that the lane's innermost loop looks at.
#[derive(Debug)]
pub(crate) struct Followed<'a> {
    slots: &'a mut [u64],
    life: &'a mut Life,
}

impl Followed<'_> {
    /// Takes a message if its position is the one awaited.
    #[inline(always)]
    pub(crate) fn follow(&mut self, hash: u64, position: Position) -> bool {
        if self.life.epoch != position.epoch {
            *self.life = Life::new(position.epoch, self.life.generation);
        }
        let awaited = hash.wrapping_add(self.life.mark(position.sequence));
        for place in places(hash, self.slots.len()) {
            let slot = &mut self.slots[place];
            if *slot == awaited {
                *slot = awaited.wrapping_add(SPREAD);
                return true;
            }
            if *slot == EMPTY {
                break;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn at(epoch: u64, sequence: u64) -> Position {
        Position { epoch, sequence }
    }

    #[test]
    fn only_the_next_number_of_the_same_life_is_followed() {
        let mut awaited = Awaited::new();
        awaited.put(7, at(5, 10), 1);
        let mut follow = |hash, position, generation| {
            let mut followed = awaited.followed(generation);
            followed.follow(hash, position)
        };
        assert!(!follow(8, at(5, 10), 1), "another topic");
        for (position, generation) in [(at(5, 11), 1), (at(6, 10), 1), (at(5, 10), 2)] {
            assert!(!follow(7, position, generation));
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

    /// Hashes of which many have the same low bits, so that their slots are in each other's places.
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
                        model.insert(hash, (sequence, 0));
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
                        let follows = awaited.followed(1).follow(hash, position);
                        prop_assert_eq!(follows, next.is_some() && ahead == 0);
                        if follows && let Some((_, followed)) = next {
                            *followed += 1;
                        }
                    }
                }
            }
        }
    }
}
