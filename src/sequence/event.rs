//! What numbers, silence and connections tell.

use crate::sequence::{Gap, Position, Quality};

/// Something to tell handlers, the log and the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The topic it is about; `None` if it is about the feed, or about a series that its line shares.
    pub topic: Option<&'a [u8]>,
    /// The topic's hash; 0 without a topic.
    pub hash: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Messages are missing.
    Gap(Gap),
    /// A copy came, and was not delivered.
    Duplicate(Position),
    /// A message came that was missing: one less is lost.
    Reordered(Position),
    /// The publisher has started anew. What is missing of its new life is a gap of its own.
    Restarted {
        /// The last position of the former life.
        from: Position,
        /// The first position seen of the new one.
        to: Position,
    },
    /// The first message of a series came.
    FirstSeen,
    /// The feed's past comes from a snapshot.
    Snapshot(SnapshotMark),
    /// What is known of the topic, or of the feed, is to be trusted more or less than before. A topic
    /// starts as [`Quality::Ok`], a feed as [`Quality::Disconnected`]. A topic's own quality does not say
    /// that its feed is disconnected or silent: the worse of both holds.
    Quality {
        /// What it was.
        from: Quality,
        /// What it is.
        to: Quality,
    },
}

/// A snapshot's place among the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMark {
    /// What follows is state. A snapshot that begins before another has ended takes its place.
    Begins {
        /// Whether it is the state of all topics, so that one that does not come until the end is no more.
        /// Where each topic has numbers of its own, only what is news of it comes.
        is_whole: bool,
    },
    /// All of it has come. What follows goes on behind it.
    Ends {
        /// The number of the last update in it, as its server counts.
        sequence: u64,
        /// The values that it had.
        messages: u64,
    },
}

impl<'a> Event<'a> {
    pub(crate) fn new(topic: Option<(&'a [u8], u64)>, kind: EventKind) -> Self {
        Self {
            topic: topic.map(|(name, _)| name),
            hash: topic.map_or(0, |(_, hash)| hash),
            kind,
        }
    }
}
