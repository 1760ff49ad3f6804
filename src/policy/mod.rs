//! What happens where a worker is slow: a policy for each topic, chosen by prefix.
//!
//! A topic has one policy ([`Policy`]), and topics of one policy share a *class*: for each class in use, a
//! lane has an outlet of its own to each worker, so that what one class does to make room never touches
//! another's messages. Messages given up are counted where it happens, in all and [by topic](ByTopic);
//! messages superseded are told of in [receipts](crate::receipt::Receipt).

mod by_topic;
mod conflator;
mod lateness;
mod rules;

pub use by_topic::{ByTopic, TopicFate};
pub(crate) use by_topic::{Fate, TopicTally, only_feed, only_topic};
pub(crate) use conflator::Conflator;
pub(crate) use lateness::{Lateness, Verdict};
pub(crate) use rules::Rules;

use std::{fmt, str::FromStr};

/// What happens to the messages of a topic whose worker has no room for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The lane waits, and with it the publisher.
    #[default]
    Block,
    /// The message that has come is discarded.
    DropNewest,
    /// Those that have waited longest are discarded, a batch at once.
    DropOldest,
    /// Of those that wait, only the newest of each topic is kept, with a receipt for the others. The same
    /// when messages have waited for too long. Never for feeds whose every message counts, as orders or
    /// changes of a book do.
    Conflate,
    /// As [`Block`](Self::Block); but when messages are too late for too long, that is said, and the
    /// pipeline ends: the Guide's Suicidal Snail.
    Snail,
}

impl Policy {
    /// All policies.
    pub const ALL: [Self; 5] = [
        Self::Block,
        Self::DropNewest,
        Self::DropOldest,
        Self::Conflate,
        Self::Snail,
    ];

    /// Returns the policy's name in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::DropNewest => "drop-newest",
            Self::DropOldest => "drop-oldest",
            Self::Conflate => "conflate",
            Self::Snail => "snail",
        }
    }

    /// Tells whether a lane takes back what it has handed over, to give up what is old.
    #[must_use]
    pub fn takes_back(self) -> bool {
        matches!(self, Self::DropOldest | Self::Conflate)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The text was not the name of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a policy; give block, drop-newest, drop-oldest, conflate or snail")]
pub struct UnknownPolicy;

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == name)
            .ok_or(UnknownPolicy)
    }
}
