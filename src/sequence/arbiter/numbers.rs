//! Numbers that wrap, laid out on a line that does not.
//!
//! A number of a few bits stands for many: it is taken to be the one nearest to a number that is known,
//! as TCP does with its own (serial number arithmetic, RFC 1982). What comes out counts on past the
//! highest number of the publisher's field, so that plain comparisons hold.

use crate::sequence::Numbering;

/// The most bits a number is compared by: with one to spare, a difference keeps its sign.
const BITS_MAX: u32 = 63;
/// Where numbers that wrap begin: a multiple of every width that does, and far from zero.
const BASE: u64 = 1 << 62;
/// How far a number may jump over the end of its width and still be the same life of the publisher,
/// where nothing but the number tells.
const WRAP_WINDOW: u64 = 65_536;
/// How far a number may fall back on one line and still be the same life, where nothing but the number
/// tells.
const FALL_WINDOW: u64 = 1_024;

/// The rules by which numbers are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    shift: u32,
    mask: u64,
    base: u64,
    start: Option<u64>,
}

impl Numbers {
    pub(super) fn new(numbering: Numbering) -> Self {
        let bits = numbering.width_bits.clamp(1, BITS_MAX);
        let mask = (1 << bits) - 1;
        Self {
            shift: 64 - bits,
            mask,
            base: if bits < BITS_MAX { BASE } else { 0 },
            start: numbering.start.map(|start| start & mask),
        }
    }

    /// How far a publisher's number is ahead of one on the line; negative where it is behind.
    #[inline]
    pub(super) fn ahead(&self, of: u64, sequence: u64) -> i64 {
        ((sequence.wrapping_sub(of) << self.shift) as i64) >> self.shift
    }

    /// The place of a publisher's number nearest to one on the line.
    #[inline]
    pub(super) fn place(&self, near: u64, sequence: u64) -> u64 {
        near.wrapping_add_signed(self.ahead(near, sequence))
    }

    /// The place of a number that nothing is known about.
    pub(super) fn first(&self, sequence: u64) -> u64 {
        self.base + (sequence & self.mask)
    }

    /// The place of the first number of a series, where it is known.
    pub(super) fn start(&self) -> Option<u64> {
        self.start.map(|start| self.first(start))
    }

    /// The publisher's number at a place.
    pub(super) fn sequence(&self, number: u64) -> u64 {
        number & self.mask
    }

    /// Tells whether a line that has seen `highest` is plainly still in the same life with `sequence`.
    #[inline]
    pub(super) fn goes_on(&self, highest: u64, sequence: u64) -> bool {
        let step = sequence.wrapping_sub(highest) & self.mask;
        step == 1 || (step > 1 && step <= WRAP_WINDOW && !self.is_start(sequence))
    }

    /// Tells whether a line that has seen `highest` must be in another life with `sequence`. `remade`
    /// is whether its connection was lost and made again in between.
    pub(super) fn falls_back(&self, highest: u64, sequence: u64, remade: bool) -> bool {
        let (sequence, highest) = (sequence & self.mask, highest & self.mask);
        if self.goes_on(highest, sequence) || sequence > highest {
            return false;
        }
        let behind = highest - sequence;
        // The last number again is what caches send to who connects.
        behind > FALL_WINDOW || (behind > 0 && (remade || self.is_start(sequence)))
    }

    #[inline]
    fn is_start(&self, sequence: u64) -> bool {
        self.start == Some(sequence & self.mask)
    }
}

/// How far `number` is ahead of `of`, both on the line.
#[inline]
pub(super) fn distance(of: u64, number: u64) -> i64 {
    number.wrapping_sub(of) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::Scope;

    fn numbers(width_bits: u32) -> Numbers {
        Numbers::new(Numbering {
            scope: Scope::Line,
            width_bits,
            start: Some(0),
            has_epoch: false,
        })
    }

    #[test]
    fn after_the_highest_comes_zero() {
        for width_bits in [8, 32, 62] {
            let numbers = numbers(width_bits);
            let highest = numbers.first((1 << width_bits) - 1);
            assert_eq!(numbers.ahead(highest, 0), 1, "{width_bits} bits");
            assert_eq!(numbers.sequence(highest + 1), 0, "{width_bits} bits");
            assert_eq!(numbers.place(highest + 1, 3), highest + 4);
            assert!(numbers.goes_on(highest, 0));
            assert!(!numbers.falls_back(highest, 0, true));
        }
    }

    #[test]
    fn wide_numbers_compare_as_they_are() {
        for width_bits in [63, 64] {
            let numbers = numbers(width_bits);
            assert_eq!(numbers.ahead(numbers.first(5), 7), 2);
            assert_eq!(numbers.ahead(numbers.first(7), 5), -2);
            assert_eq!(numbers.place(1 << 40, 9), 9);
        }
    }

    #[test]
    fn what_is_another_life() {
        let numbers = numbers(32);
        let seen = numbers.first(3_000_000_000);
        // The start is never a straggler; anything else within the window may be.
        assert!(numbers.falls_back(seen, 0, false));
        assert!(numbers.falls_back(seen, 5, false));
        assert!(!numbers.falls_back(seen, 2_999_999_999, false));
        assert!(numbers.falls_back(seen, 2_999_999_999, true));
        assert!(!numbers.falls_back(seen, 3_000_000_000, true), "again");
        assert!(!numbers.falls_back(seen, 3_000_000_001, true));
        assert!(numbers.falls_back(numbers.first(3), 0, false));
    }
}
