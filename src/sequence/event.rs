//! What happened to a series of numbers, or to the trust in it.

use crate::sequence::{Gap, Position, Quality};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Messages are missing before the one that comes next.
    Gap(Gap),
    /// A message came again, and was not delivered again.
    Duplicate(Position),
    /// A message came that had been reported missing. It is delivered, late.
    Reordered(Position),
    /// The publisher began anew.
    Restarted {
        /// The last position before.
        from: Position,
        /// The first one after.
        to: Position,
    },
    /// The first message of a topic came.
    FirstSeen,
    /// Quality changed.
    Quality {
        /// What it was.
        from: Quality,
        /// What it is.
        to: Quality,
    },
}

/// What happened, and to which topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The topic; `None` where it concerns the whole line.
    pub topic: Option<&'a [u8]>,
    /// The topic's hash; 0 without one.
    pub hash: u64,
    /// What happened.
    pub kind: EventKind,
}
