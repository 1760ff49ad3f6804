//! Where a message's fields stand, and the hash of its topic, by which it finds its worker; if it is no larger than may
//! be.

use std::ops::Deref;

use crate::{
    envelope::{Envelope, Fields},
    ledger::Rejection,
    message::FRAMES_MAX,
    shard::topic_hash,
};

/// Finds a message's fields, and the hash of its topic.
#[inline(always)]
pub(super) fn find<F: Deref<Target = [u8]>>(
    envelope: &Envelope,
    bytes_max: usize,
    frames: &[F],
) -> std::result::Result<(Fields, u64), Rejection> {
    find_by(|frames| envelope.open(frames), bytes_max, frames)
}

/// As [`find`], by a format that is known beforehand.
#[inline(always)]
pub(super) fn find_by<F: Deref<Target = [u8]>>(
    open: impl Fn(&[F]) -> std::result::Result<Fields, Rejection>,
    bytes_max: usize,
    frames: &[F],
) -> std::result::Result<(Fields, u64), Rejection> {
    check_size(bytes_max, frames)?;
    let fields = open(frames)?;
    let hash = topic_hash(fields.topic.of(frames));
    Ok((fields, hash))
}

/// Refuses a message that is larger, or of more frames, than may be.
#[inline(always)]
pub(super) fn check_size<F: Deref<Target = [u8]>>(
    bytes_max: usize,
    frames: &[F],
) -> std::result::Result<(), Rejection> {
    if frames.len() > FRAMES_MAX {
        return Err(Rejection::TooManyFrames);
    }
    if frames.iter().map(|frame| frame.len()).sum::<usize>() > bytes_max {
        return Err(Rejection::TooLarge);
    }
    Ok(())
}
