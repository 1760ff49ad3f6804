//! What is expected of a feed's numbers and of its silence.

use serde::Deserialize;

/// How the numbers of a feed's messages are judged, where its envelope has any.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sequence {
    /// Whether they are. Without, nothing is lost as far as anybody knows.
    pub track: bool,
    /// Whether what precedes the first message seen of a series is missing: for subscribers that are
    /// there before the publisher starts.
    pub from_start: bool,
    /// How many topics of a line are told apart. Messages of further ones are delivered and counted, but
    /// not judged.
    pub topics_max: usize,
}

impl Default for Sequence {
    fn default() -> Self {
        Self {
            track: true,
            from_start: false,
            topics_max: 1_000_000,
        }
    }
}

/// When a feed and its topics are to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QualityLimits {
    /// How long a line may be silent before it is stale, in milliseconds; 0 for ever.
    pub stale_after_ms: u32,
    /// How long a topic stays recovering after a gap, in milliseconds.
    pub recover_ms: u32,
    /// How long topics may be silent. The longest prefix that matches counts.
    #[serde(rename = "topic")]
    pub topics: Vec<StaleTopics>,
}

impl Default for QualityLimits {
    fn default() -> Self {
        Self {
            stale_after_ms: 0,
            recover_ms: 1_000,
            topics: Vec::new(),
        }
    }
}

/// How long topics with a prefix may be silent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaleTopics {
    /// What the topics begin with; empty for all.
    pub prefix: String,
    /// How long they may be silent before they are stale, in milliseconds.
    pub stale_after_ms: u32,
}

/// How the lines of a feed that are copies of each other are merged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Arbitration {
    /// How long a message missing on one line is waited for on the others, in milliseconds: not any more once none of
    /// them has had a connection for that long, and for a second at least.
    pub wait_ms: u32,
    /// How many messages may be held while others are waited for. Beyond that, the oldest missing ones
    /// are given up.
    pub held_messages_max: usize,
    /// The same in bytes.
    pub held_bytes_max: usize,
}

impl Default for Arbitration {
    fn default() -> Self {
        Self {
            wait_ms: 50,
            held_messages_max: 65_536,
            held_bytes_max: 64 << 20,
        }
    }
}
