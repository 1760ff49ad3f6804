//! One series of numbers, and what the next one says: in sequence, a gap, late, a copy, or a new life.
//!
//! The state is the number expected next and a bitmap of which of the 64 numbers before it are
//! missing. A number ahead of what is expected is a gap, a missing one that comes late is a reorder,
//! and another one behind is a copy, unless it tells of a restart:
//!
//! * with epochs, another epoch is a restart, and nothing else is; the life before is remembered, and where its
//!   epoch comes again, as where the old publisher still sends while the new one has begun, it goes on where it
//!   stood, unless it falls back there over a newer connection: then the epoch is used for another life;
//! * without them, a fall back is a restart where it reaches the first number of a series, where it is
//!   farther than [`NEAR`] numbers, and where the connection is newer than any that the series went on by before: but not
//!   where it is only the last number again, as caches send it to who connects, or one that is missing, which may have
//!   been read late. What an older connection still brings is of the life before, and of one before that delivered.
//! * a leap forward by more than [`GAP_COUNT_MAX`] is one too: no publisher lost that much.
//!
//! Numbers wrap: behind the highest of their width stands 0. What is within [`NEAR`] numbers of the
//! expected one across the wrap belongs to the same life, else the plain order of numbers decides, so
//! that a 32-bit series that starts anew above the middle of its range is no gap of billions.
//!
//! The trade-off: a number missing for longer than the bitmap remembers is taken for a copy when it
//! comes after all, and stays lost. TCP keeps the order within a connection, so only a publisher or
//! a proxy with several threads can bring messages out of order, and not by much. And a second copy
//! of a series' very first number is taken for a restart, as it is one far more often. A life that begins, as far as
//! it is heard of, above what was read of the one before shows as a gap, and what is still unread of that one as copies;
//! where nothing was read of the one before, what is unread of that shows as a gap, and the new life as copies of it.

use std::mem;

use crate::sequence::{Gap, Numbering, Position};

/// How far from the expected number, in numbers, a message may stand behind it, or before it across
/// the wrap, and still belong to the same life of a publisher without epochs.
pub const NEAR: u64 = 1 << 16;
/// The most messages that one gap can have. At ten million a second that is more than a day.
pub const GAP_COUNT_MAX: u64 = 1 << 40;
/// How many numbers before the expected one are known to be missing or not.
const REMEMBERED: u64 = u64::BITS as u64;
/// The connection of a series that no number has come of.
const UNSEEN: u32 = 0;

/// What a message's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is the one expected.
    InSequence,
    /// It is the first of its series that came.
    FirstSeen {
        /// What is missing before it, if the series is expected from its start.
        gap: Option<Gap>,
    },
    /// Those before it are missing.
    Gap(Gap),
    /// It came before: this is a copy.
    Duplicate,
    /// It was missing, and comes late: one less is lost.
    Reordered,
    /// The publisher has started anew.
    Restarted {
        /// The last position of the former life.
        from: Position,
        /// What is missing of the new life, if its first number is known.
        gap: Option<Gap>,
    },
}

/// The state of one series.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    epoch: u64,
    /// The number expected.
    next: u64,
    /// Bit `i` tells that `next - 1 - i` is missing.
    missing: u64,
    /// The newest connection that a message came by.
    connection: u32,
    /// The one that the publisher's restart came by, where numbers alone tell of it.
    begun_by: u32,
}

impl Default for Stream {
    fn default() -> Self {
        // No message stands there: `u64::MAX` is not a number.
        Self {
            epoch: u64::MAX,
            next: u64::MAX,
            missing: 0,
            connection: UNSEEN,
            begun_by: UNSEEN,
        }
    }
}

impl Stream {
    /// Tells whether a message at `position` is the one expected.
    #[inline(always)]
    #[must_use]
    pub fn expects(&self, position: Position) -> bool {
        self.next == position.sequence && self.epoch == position.epoch
    }

    /// Tells whether what comes by a connection is of this life, as far as connections tell.
    #[inline(always)]
    pub(super) fn is_of(&self, connection: u32) -> bool {
        connection >= self.begun_by
    }

    /// Takes the message that is [expected](Self::expects). `mask` is the highest number of the series.
    #[inline(always)]
    pub fn follow(&mut self, mask: u64, connection: u32) {
        self.next = self.next.wrapping_add(1) & mask;
        self.missing <<= 1;
        self.connection = self.connection.max(connection);
    }

    /// Returns the position [expected](Self::expects), and the newest connection that a message came by.
    pub(super) fn awaited(&self) -> (Position, u32) {
        let position = Position {
            epoch: self.epoch,
            sequence: self.next,
        };
        (position, self.connection)
    }

    /// Takes `count` messages in sequence on the same connection.
    pub(super) fn follow_many(&mut self, mask: u64, count: u64) {
        self.next = self.next.wrapping_add(count) & mask;
        self.missing = match count {
            0..REMEMBERED => self.missing << count,
            _ => 0,
        };
    }

    /// Goes on behind `position`, which is known from elsewhere, with nothing missing before it.
    pub(super) fn rebase(&mut self, mask: u64, position: Position, connection: u32) {
        self.epoch = position.epoch;
        self.next = position.sequence.wrapping_add(1) & mask;
        self.missing = 0;
        self.connection = self.connection.max(connection);
    }

    /// Tells whether a message at `position` came, or was missed, in this life of the series.
    pub(super) fn is_past(&self, mask: u64, position: Position) -> bool {
        let behind = self.next.wrapping_sub(position.sequence) & mask;
        let is_behind = self.epoch == position.epoch && behind <= mask >> 1 && behind > 0;
        // Epochs grow with time.
        self.connection != UNSEEN && (is_behind || position.epoch < self.epoch)
    }

    /// Takes a message at `position`, and says what its number tells.
    ///
    /// `connection` is the number, from 1, of the connection that it came by, and higher than those of the line's
    /// connections before it; `from_start` tells that the first message seen should be the first of its series, where
    /// that is known.
    pub fn advance(
        &mut self,
        numbering: &Numbering,
        from_start: bool,
        position: Position,
        connection: u32,
    ) -> Step {
        let mask = numbering.mask();
        let former = self.connection;
        self.connection = former.max(connection);
        if former == UNSEEN {
            let gap = self.begin(numbering, position);
            if !from_start {
                self.missing = 0;
            }
            return Step::FirstSeen {
                gap: gap.filter(|_| from_start),
            };
        }
        if numbering.has_epoch && position.epoch != self.epoch {
            return self.restart(numbering, position);
        }
        let ahead = position.sequence.wrapping_sub(self.next) & mask;
        let behind = self.next.wrapping_sub(position.sequence) & mask;
        if ahead == 0 {
            self.follow(mask, connection);
            return Step::InSequence;
        }
        let is_ahead = self.is_ahead(mask, position.sequence);
        if is_ahead && ahead <= GAP_COUNT_MAX {
            return Step::Gap(self.skip(mask, ahead));
        }
        let is_far = is_ahead || (!numbering.has_epoch && behind > near(mask));
        if !is_far && self.was_missing(behind) {
            self.connection = former;
            return Step::Reordered;
        }
        let is_renewed = connection > former && behind > 1;
        let is_start = numbering.start == Some(position.sequence);
        if is_far || (!numbering.has_epoch && (is_renewed || is_start)) {
            self.begun_by = if numbering.has_epoch {
                UNSEEN
            } else {
                connection
            };
            return self.restart(numbering, position);
        }
        // What falls back behind it is still a restart.
        self.connection = former;
        Step::Duplicate
    }

    /// Tells whether a number is the expected one or a later one of the same life.
    fn is_ahead(&self, mask: u64, sequence: u64) -> bool {
        if sequence > self.next {
            self.next.wrapping_sub(sequence) & mask > near(mask)
        } else {
            sequence.wrapping_sub(self.next) & mask <= near(mask)
        }
    }

    /// Takes the message behind `count` missing ones.
    fn skip(&mut self, mask: u64, count: u64) -> Gap {
        let gap = self.miss(mask, count);
        self.follow(mask, self.connection);
        gap
    }

    /// Goes on behind `count` missing messages.
    fn miss(&mut self, mask: u64, count: u64) -> Gap {
        let from = self.next;
        let to = from.wrapping_add(count - 1) & mask;
        self.missing = if count >= REMEMBERED {
            u64::MAX
        } else {
            (self.missing << count) | ((1 << count) - 1)
        };
        self.next = to.wrapping_add(1) & mask;
        Gap {
            epoch: self.epoch,
            from,
            to,
            count,
        }
    }

    /// Goes on behind `position`, up to which all was published, and says what is missing: nothing where that has
    /// come, or is of another life, or nothing of the series has come so far.
    pub(super) fn miss_to(&mut self, mask: u64, position: Position) -> Option<Gap> {
        let ahead = position.sequence.wrapping_sub(self.next) & mask;
        let is_news = self.connection != UNSEEN
            && self.epoch == position.epoch
            && self.is_ahead(mask, position.sequence)
            && ahead < GAP_COUNT_MAX;
        is_news.then(|| self.miss(mask, ahead + 1))
    }

    /// Tells whether the number that stands `behind` the expected one is missing, and takes it.
    fn was_missing(&mut self, behind: u64) -> bool {
        if behind > REMEMBERED {
            return false;
        }
        let bit = 1 << (behind - 1);
        let was_missing = self.missing & bit != 0;
        self.missing &= !bit;
        was_missing
    }

    fn restart(&mut self, numbering: &Numbering, position: Position) -> Step {
        Step::Restarted {
            from: self.last(numbering),
            gap: self.begin(numbering, position),
        }
    }

    /// The last position of this life.
    fn last(&self, numbering: &Numbering) -> Position {
        Position {
            epoch: self.epoch,
            sequence: self.next.wrapping_sub(1) & numbering.mask(),
        }
    }

    /// Tells whether a message at `position` is of another life than the last, as epochs tell.
    pub(super) fn is_left_by(&self, numbering: &Numbering, position: Position) -> bool {
        numbering.has_epoch && self.connection != UNSEEN && position.epoch != self.epoch
    }

    /// Tells whether a message at `position` is of this life, which was left: it came by a connection that brought it
    /// before, or goes on from where it stood.
    pub(super) fn is_resumed_by(&self, mask: u64, position: Position, connection: u32) -> bool {
        let goes_on = self.is_ahead(mask, position.sequence);
        position.epoch == self.epoch && (connection <= self.connection || goes_on)
    }

    /// Takes a message of the life before, in which it stands where it does there: one that is late there, or a
    /// copy, does not end this one. Otherwise the two change places.
    pub(super) fn resume(
        &mut self,
        former: &mut Self,
        numbering: &Numbering,
        position: Position,
        connection: u32,
    ) -> Step {
        let gap = match former.advance(numbering, false, position, connection) {
            step @ (Step::Duplicate | Step::Reordered) => return step,
            Step::InSequence => None,
            Step::Gap(gap) => Some(gap),
            Step::FirstSeen { gap } | Step::Restarted { gap, .. } => gap,
        };
        mem::swap(self, former);
        Step::Restarted {
            from: former.last(numbering),
            gap,
        }
    }

    /// Starts a life with the message at `position`, and returns what is missing before it.
    fn begin(&mut self, numbering: &Numbering, position: Position) -> Option<Gap> {
        let mask = numbering.mask();
        self.epoch = position.epoch;
        self.missing = 0;
        self.next = position.sequence.wrapping_add(1) & mask;
        let start = numbering.start.filter(|&start| start < position.sequence)?;
        let count = position.sequence - start;
        if count > GAP_COUNT_MAX {
            return None;
        }
        self.next = start;
        Some(self.skip(mask, count))
    }
}

/// How far from the expected number a message of the same life may be, in a series of this highest number.
fn near(mask: u64) -> u64 {
    NEAR.min(mask >> 2)
}
