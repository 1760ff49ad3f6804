//! What topics in step await: all that a message in sequence touches.
//!
//! Of a topic whose numbers come one after the other there is nothing to know but the next one. So such
//! topics have a small entry beside that of the [table](super::topics): 16 bytes of it instead of 64, of which
//! four times as many stay in a cache that a lane's batches stream through. Anything but the awaited
//! number is for the table, which is brought up to date first.
//!
//! A position is kept as one number, its mark: the sequence number, moved by an odd multiple of the epoch
//! and the connection. Within a life marks differ as numbers do; that the first number of a new life has the mark
//! that the old one awaited has a chance of one in 2⁶⁴.

use hashbrown::HashTable;

use crate::sequence::Position;

/// An odd number without a pattern: the fraction of the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The mark of a topic that is out of step: no more likely to be met than any other.
const NONE: u64 = SPREAD.rotate_left(17);

/// The marks that topics await, by the topics' hashes.
#[derive(Debug)]
pub(super) struct Awaited {
    table: HashTable<Entry>,
    /// That of the last message: mostly the next one's, too.
    life: Life,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    mark: u64,
}

/// Returns the mark of a position on a line's connection number `generation`.
pub(super) fn mark(position: Position, generation: u32) -> u64 {
    Life::new(position.epoch, generation).mark(position.sequence)
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
            offset: life.wrapping_mul(SPREAD),
        }
    }

    #[inline(always)]
    fn mark(self, sequence: u64) -> u64 {
        sequence.wrapping_add(self.offset)
    }
}

impl Awaited {
    pub(super) fn new() -> Self {
        Self {
            table: HashTable::new(),
            life: Life::new(0, 0),
        }
    }

    /// Takes a message if its position is the one awaited.
    #[inline(always)]
    pub(super) fn follow(&mut self, hash: u64, position: Position, generation: u32) -> bool {
        if (self.life.epoch, self.life.generation) != (position.epoch, generation) {
            self.life = Life::new(position.epoch, generation);
        }
        let mark = self.life.mark(position.sequence);
        match self.table.find_mut(hash, |entry| entry.hash == hash) {
            Some(entry) if entry.mark == mark => {
                entry.mark = mark.wrapping_add(1);
                true
            }
            _ => false,
        }
    }

    /// From here on a topic awaits a mark.
    pub(super) fn put(&mut self, hash: u64, mark: u64) {
        match self.table.find_mut(hash, |entry| entry.hash == hash) {
            Some(entry) => entry.mark = mark,
            None => {
                let entry = Entry { hash, mark };
                self.table.insert_unique(hash, entry, |entry| entry.hash);
            }
        }
    }

    /// From here on a topic awaits nothing. Returns what it did. Its entry stays, so that one that comes and
    /// goes does not wear out the table.
    pub(super) fn take(&mut self, hash: u64) -> Option<u64> {
        let entry = self.table.find_mut(hash, |entry| entry.hash == hash)?;
        let mark = std::mem::replace(&mut entry.mark, NONE);
        (mark != NONE).then_some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_entries_fill_a_cache_line() {
        assert_eq!(size_of::<Entry>(), 16);
    }

    #[test]
    fn only_the_next_number_of_the_same_life_is_followed() {
        let at = |epoch, sequence| Position { epoch, sequence };
        let mut awaited = Awaited::new();
        awaited.put(7, mark(at(5, 10), 1));
        assert!(!awaited.follow(8, at(5, 10), 1), "another topic");
        for (position, generation) in [(at(5, 11), 1), (at(6, 10), 1), (at(5, 10), 2)] {
            assert!(!awaited.follow(7, position, generation));
        }
        assert!(awaited.follow(7, at(5, 10), 1));
        assert!(!awaited.follow(7, at(5, 10), 1), "it came before");
        assert!(awaited.follow(7, at(5, 11), 1));
        assert_eq!(awaited.take(7), Some(mark(at(5, 12), 1)));
        assert_eq!(awaited.take(7), None);
    }
}
