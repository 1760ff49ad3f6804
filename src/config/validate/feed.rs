//! Checking a feed: what is expected of its numbers and of its silence.

use crate::{
    config::{
        Feed,
        limits::{BATCHES_BYTES_MAX, within},
    },
    error::{Error, Result},
    sequence::arbiter,
};

/// The most topics of a line that are told apart, some hundred bytes each.
const TOPICS_MAX: usize = 1 << 28;
/// The longest time that a limit may be.
const MILLISECONDS_MAX: usize = 24 * 3_600_000;
/// The most messages that may be held while others are waited for.
const HELD_MESSAGES_MAX: usize = 1 << 28;

/// Checks what is expected of a feed's numbers and of its silence.
pub(super) fn check_numbers(key: &str, feed: &Feed) -> Result<()> {
    let topics_key = format!("{key}.sequence.topics_max");
    within(&topics_key, feed.sequence.topics_max, 1, TOPICS_MAX)?;
    for (index, rule) in feed.quality.topics.iter().enumerate() {
        let key = format!("{key}.quality.topic[{index}].stale_after_ms");
        within(&key, rule.stale_after_ms as usize, 1, MILLISECONDS_MAX)?;
    }
    let limits = [
        ("stale_after_ms", feed.quality.stale_after_ms),
        ("recover_ms", feed.quality.recover_ms),
    ];
    for (name, value) in limits {
        within(
            &format!("{key}.quality.{name}"),
            value as usize,
            0,
            MILLISECONDS_MAX,
        )?;
    }
    let Some(arbitration) = &feed.arbitration else {
        return Ok(());
    };
    let key = format!("{key}.arbitration");
    if feed.lines.len() < 2 {
        return Err(Error::config(
            key,
            format!("{} line", feed.lines.len()),
            "there is nothing to choose from",
            "add a second [[feed.line]] that carries a copy of the first, or remove the table",
        ));
    }
    within(
        &format!("{key} (lines)"),
        feed.lines.len(),
        2,
        arbiter::LINES_MAX,
    )?;
    if !feed.is_numbered() {
        return Err(Error::config(
            key,
            &feed.envelope,
            "only numbers tell which messages are copies, and this feed's have none that are looked at",
            "give an envelope with sequence numbers and `track = true`, or remove the table",
        ));
    }
    within(
        &format!("{key}.wait_ms"),
        arbitration.wait_ms as usize,
        1,
        MILLISECONDS_MAX,
    )?;
    let held = arbitration.held_messages_max;
    within(
        &format!("{key}.held_messages_max"),
        held,
        1,
        HELD_MESSAGES_MAX,
    )?;
    let held = arbitration.held_bytes_max;
    within(&format!("{key}.held_bytes_max"), held, 1, BATCHES_BYTES_MAX)
}
