//! How far a configuration's numbers go.

use crate::{
    error::{Error, Result},
    libzmq::IO_THREADS_MAX,
    sequence::quality::StaleRules,
};

/// The most lanes: with libzmq each has an I/O thread.
pub(super) const LANES_MAX: usize = IO_THREADS_MAX;
/// The most feeds: a message carries its feed in 16 bits.
pub(super) const FEEDS_MAX: usize = 1 << 16;
/// The most lines of a feed: a message carries its line in 8 bits.
pub(super) const LINES_MAX: usize = 1 << 8;
/// The most messages in a batch.
pub(crate) const BATCH_MESSAGES_MAX: usize = 1 << 16;
/// The largest limit on messages and batches: offsets within a batch have 32 bits.
pub(super) const BYTES_MAX: usize = 1 << 30;
/// The most batches between a lane and a worker.
pub(super) const BATCHES_MAX: usize = 1 << 16;
/// The most topics to count apart.
pub(super) const POLICY_TOPICS_MAX: usize = 1 << 24;
/// The most bytes that all batches together may hold before one grows.
pub(super) const BATCHES_BYTES_MAX: usize = 64 << 30;

/// The most topics of a line that are told apart, some hundred bytes each.
pub(super) const TOPICS_MAX: usize = 1 << 28;
/// The most rules on how long topics may be silent.
pub(super) const STALE_RULES_MAX: usize = StaleRules::MAX;
/// The longest time that a limit may be.
pub(super) const MILLISECONDS_MAX: usize = 24 * 3_600_000;
/// The most messages that may be held while others are waited for.
pub(super) const HELD_MESSAGES_MAX: usize = 1 << 28;
/// The least that may be held while a snapshot is under way, in bytes.
pub(super) const HELD_BYTES_MIN: usize = 16 * 1024;

/// Refuses a number that is not from `least` to `most`.
pub(super) fn within(key: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::config(
        key,
        value,
        "it is out of range",
        format!("give from {least} to {most}"),
    ))
}
