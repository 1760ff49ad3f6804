//! Numbers at a fixed place of a frame, and how a publisher counts its messages with them.
//!
//! A place is counted from the start of its frame, or, where it is negative, from the end. Offsets and
//! widths are in bytes.

use std::ops::Deref;

use crate::{ledger::Rejection, sequence::Scope};

/// The order of a number's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endian {
    /// The least significant byte first.
    #[default]
    Little,
    /// The most significant byte first: network order.
    Big,
}

/// The width of an unsigned number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Four bytes.
    Four,
    /// Eight bytes.
    Eight,
}

impl Width {
    /// Returns the number of bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// Where an unsigned number stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberAt {
    /// The frame, counted from 0.
    pub frame: usize,
    /// The offset of its first byte; where it is negative, from the frame's end.
    pub offset: i32,
    /// How wide it is.
    pub width: Width,
    /// The order of its bytes.
    pub endian: Endian,
}

impl NumberAt {
    /// Reads the number.
    ///
    /// # Errors
    /// [`Rejection::MissingFrame`] or [`Rejection::TruncatedField`].
    #[inline]
    pub fn read<F: Deref<Target = [u8]>>(&self, frames: &[F]) -> Result<u64, Rejection> {
        let frame = &**frames.get(self.frame).ok_or(Rejection::MissingFrame)?;
        let distance = self.offset.unsigned_abs() as usize;
        let start = if self.offset < 0 {
            frame.len().checked_sub(distance)
        } else {
            Some(distance)
        };
        let bytes = start
            .and_then(|start| frame.get(start..))
            .ok_or(Rejection::TruncatedField)?;
        match self.width {
            Width::Four => bytes.first_chunk().map(|&bytes| {
                u64::from(match self.endian {
                    Endian::Little => u32::from_le_bytes(bytes),
                    Endian::Big => u32::from_be_bytes(bytes),
                })
            }),
            Width::Eight => bytes.first_chunk().map(|&bytes| match self.endian {
                Endian::Little => u64::from_le_bytes(bytes),
                Endian::Big => u64::from_be_bytes(bytes),
            }),
        }
        .ok_or(Rejection::TruncatedField)
    }
}

/// Where a sequence number stands, and what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceAt {
    /// Where it stands.
    pub number: NumberAt,
    /// What it counts.
    pub scope: Scope,
    /// The first number that a publisher gives, where that is known.
    pub start: Option<u64>,
    /// The number that says that a message has none, such as a heartbeat among numbered messages.
    pub unnumbered: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i32, width: Width, endian: Endian) -> NumberAt {
        NumberAt {
            frame: 1,
            offset,
            width,
            endian,
        }
    }

    #[test]
    fn read_from_either_end_in_either_order() {
        let frames: [&[u8]; 2] = [b"", b"\x01\x02\x03\x04\x05\x06\x07\x08\x09"];
        for (number, expected) in [
            (at(0, Width::Four, Endian::Little), 0x0403_0201),
            (at(1, Width::Four, Endian::Big), 0x0203_0405),
            (at(-4, Width::Four, Endian::Big), 0x0607_0809),
            (at(-8, Width::Eight, Endian::Little), 0x0908_0706_0504_0302),
            (at(0, Width::Eight, Endian::Big), 0x0102_0304_0506_0708),
        ] {
            assert_eq!(number.read(&frames), Ok(expected), "{number:?}");
        }
    }

    #[test]
    fn rejected_where_it_does_not_fit() {
        let frames: [&[u8]; 2] = [b"12345678", b"123"];
        for offset in [0, 1, 3, 4, -1, -3, -4, i32::MIN, i32::MAX] {
            let number = at(offset, Width::Four, Endian::Little);
            assert_eq!(number.read(&frames), Err(Rejection::TruncatedField));
            assert_eq!(number.read(&frames[..1]), Err(Rejection::MissingFrame));
        }
    }
}
