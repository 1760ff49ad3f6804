//! The envelope of `pinfeed publish`: one frame, the topic in front, everything else behind.
//!
//! For a topic of `t` bytes and a payload of `p` bytes the frame has `t + p + 29` bytes:
//!
//! | offset      | bytes | field                                                          |
//! |-------------|-------|----------------------------------------------------------------|
//! | 0           | t     | topic                                                          |
//! | t           | 1     | `00`, so that subscribing to `topic 00` matches that topic only |
//! | t + 1       | p     | payload                                                        |
//! | t + p + 1   | 8     | epoch of the publisher, unsigned, little-endian                |
//! | t + p + 9   | 8     | sequence number within topic and epoch, from 0, unsigned, little-endian |
//! | t + p + 17  | 8     | publisher's wall clock, ns since 1970, unsigned, little-endian |
//! | t + p + 25  | 2     | t, unsigned, little-endian                                     |
//! | t + p + 27  | 1     | version of this layout, `01`                                   |
//! | t + p + 28  | 1     | `70`                                                           |
//!
//! The topic has to come first because ZeroMQ matches subscriptions on a prefix. What follows it
//! has no fixed place counted from the front, so the numbers stand at a fixed distance from the
//! *end*: opening a message is a handful of loads, and no byte of the topic is looked at. One frame,
//! because libzmq pays for each frame what it pays for a message. Tried and slower to open
//! (`cargo bench --bench envelope`): the numbers behind the topic's `00`, which must then be searched
//! for. Sequence numbers count per topic, so that a subscriber to some topics sees no gaps.

use crate::{
    envelope::{Fields, Place},
    ledger::Rejection,
    message::Stamp,
};

/// The bytes that the envelope adds to topic and payload.
pub const OVERHEAD_BYTES: usize = 1 + TRAILER_BYTES;
/// The longest topic that the envelope carries.
pub const TOPIC_BYTES_MAX: usize = u16::MAX as usize;

/// The bytes behind the payload.
pub(crate) const TRAILER_BYTES: usize = 28;
const VERSION: u8 = 1;
const MARK: u8 = b'p';

/// Finds the fields of a frame in this layout.
///
/// # Errors
/// [`Rejection::TooShort`] or [`Rejection::NotThisFormat`].
#[inline]
pub fn open(frame: &[u8]) -> Result<Fields, Rejection> {
    let Some((body, trailer)) = frame.split_last_chunk::<TRAILER_BYTES>() else {
        return Err(Rejection::TooShort);
    };
    let topic_bytes = usize::from(u16::from_le_bytes([trailer[24], trailer[25]]));
    if trailer[26] != VERSION || trailer[27] != MARK || body.get(topic_bytes) != Some(&0) {
        return Err(Rejection::NotThisFormat);
    }
    Ok(Fields {
        topic: Place {
            frame: 0,
            start: 0,
            end: topic_bytes,
        },
        payload: Place {
            frame: 0,
            start: topic_bytes + 1,
            end: body.len(),
        },
        stamp: Stamp {
            epoch: number(trailer, 0),
            sequence: number(trailer, 8),
            timestamp_ns: number(trailer, 16),
        },
    })
}

#[inline]
fn number(trailer: &[u8; TRAILER_BYTES], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&trailer[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// Appends a frame in this layout to `frame`.
///
/// # Panics
/// Where the topic is longer than [`TOPIC_BYTES_MAX`].
pub fn seal(frame: &mut Vec<u8>, topic: &[u8], payload: &[u8], stamp: Stamp) {
    let topic_bytes = u16::try_from(topic.len()).expect("a topic has at most 65,535 bytes");
    frame.reserve(topic.len() + payload.len() + OVERHEAD_BYTES);
    frame.extend_from_slice(topic);
    frame.push(0);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&stamp.epoch.to_le_bytes());
    frame.extend_from_slice(&stamp.sequence.to_le_bytes());
    frame.extend_from_slice(&stamp.timestamp_ns.to_le_bytes());
    frame.extend_from_slice(&topic_bytes.to_le_bytes());
    frame.extend_from_slice(&[VERSION, MARK]);
}

/// Adds `step` to the sequence number of a sealed frame, and replaces its timestamp.
///
/// `frame` may start before the frame does: what matters is where it ends.
///
/// # Panics
/// Where `frame` is shorter than what follows a payload.
#[inline]
pub(crate) fn restamp(frame: &mut [u8], step: u64, timestamp_ns: u64) {
    let (_, trailer) = frame
        .split_last_chunk_mut::<TRAILER_BYTES>()
        .expect("a sealed frame is as long as its trailer");
    let sequence = number(trailer, 8).wrapping_add(step);
    trailer[8..16].copy_from_slice(&sequence.to_le_bytes());
    trailer[16..24].copy_from_slice(&timestamp_ns.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAMP: Stamp = Stamp {
        epoch: 0x0807_0605_0403_0201,
        sequence: 0x1817_1615_1413_1211,
        timestamp_ns: 0x2827_2625_2423_2221,
    };

    /// Pins the layout of the module's table, byte by byte.
    #[test]
    fn layout_is_as_documented() {
        let mut frame = Vec::new();
        seal(&mut frame, b"BTC", b"42", STAMP);
        let expected: Vec<u8> = [&b"BTC\0"[..], b"42"]
            .concat()
            .into_iter()
            .chain(0x01..=0x08)
            .chain(0x11..=0x18)
            .chain(0x21..=0x28)
            .chain([3, 0, 1, 0x70])
            .collect();
        assert_eq!(frame, expected);
        assert_eq!(frame.len(), 3 + 2 + OVERHEAD_BYTES);
    }

    #[test]
    fn what_is_restamped_opens_with_the_new_numbers() {
        let mut frame = Vec::new();
        seal(&mut frame, b"BTC", b"42", STAMP);
        restamp(&mut frame, 3, 9);
        let stamp = Stamp {
            sequence: STAMP.sequence + 3,
            timestamp_ns: 9,
            ..STAMP
        };
        let mut expected = Vec::new();
        seal(&mut expected, b"BTC", b"42", stamp);
        assert_eq!(frame, expected);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(topic: Vec<u8>, payload: Vec<u8>) {
            let mut frame = Vec::new();
            seal(&mut frame, &topic, &payload, STAMP);
            let fields = open(&frame).unwrap();
            prop_assert_eq!(&frame[fields.topic.start..fields.topic.end], &topic[..]);
            prop_assert_eq!(&frame[fields.payload.start..fields.payload.end], &payload[..]);
            prop_assert_eq!(fields.stamp, STAMP);
        }

        #[test]
        fn a_cut_frame_is_rejected_or_stays_in_bounds(payload: Vec<u8>, cut in 0usize..64) {
            let mut frame = Vec::new();
            seal(&mut frame, b"BTC-USD", &payload, STAMP);
            frame.truncate(frame.len().saturating_sub(cut + 1));
            if let Ok(fields) = open(&frame) {
                prop_assert!(fields.payload.end <= frame.len());
                prop_assert!(fields.topic.end < fields.payload.start);
            }
        }

        #[test]
        fn any_bytes_are_opened_or_rejected(frame: Vec<u8>) {
            if let Ok(fields) = open(&frame) {
                prop_assert!(fields.payload.start <= fields.payload.end);
                prop_assert!(fields.payload.end <= frame.len());
            }
        }
    }
}
