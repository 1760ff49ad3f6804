//! What happens where a worker is slow, and when.

use serde::Deserialize;

use crate::{config::name::from_name, policy::Policy};

/// What happens to topics whose worker is slow.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicPolicy {
    /// What the topics start with; the longest match decides. `*`, or without it: all, but
    /// [`Policy::Conflate`] has to be asked for by topic.
    pub topic: Option<String>,
    /// What happens.
    #[serde(deserialize_with = "from_name")]
    pub policy: Policy,
}

impl TopicPolicy {
    /// Returns the bytes that the topics start with.
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        match self.topic.as_deref() {
            None | Some("*") => &[],
            Some(prefix) => prefix.as_bytes(),
        }
    }
}

/// When policies act, and what they keep account of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyLimits {
    /// With [`Policy::Conflate`]: how long a message may have waited before its worker conflates what
    /// waits, in milliseconds.
    pub conflate_after_ms: u32,
    /// How old a message may be when its handler is done, in milliseconds since its publisher stamped it or since it
    /// was received, whichever is longer. With [`Policy::Snail`] the pipeline ends for it; with the other policies all
    /// that follows is an entry in the flight record.
    pub late_after_ms: u32,
    /// For how long all messages may be later than that, in milliseconds: of a feed with [`Policy::Snail`], of a line
    /// with the other policies.
    pub grace_ms: u32,
    /// With [`Policy::Snail`]: what happens then.
    pub on_late: OnLate,
    /// Topics, of up to [`NAME_BYTES_MAX`](crate::sequence::topics::NAME_BYTES_MAX) bytes, whose dropped and
    /// superseded messages each lane and each worker counts apart.
    pub topics_max: usize,
}

impl Default for PolicyLimits {
    fn default() -> Self {
        Self {
            conflate_after_ms: 10,
            late_after_ms: 1_000,
            grace_ms: 1_000,
            on_late: OnLate::Exit,
            topics_max: 10_000,
        }
    }
}

/// What happens when messages with [`Policy::Snail`] were too late for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLate {
    /// The pipeline stops and reports [`Error::Late`](crate::error::Error::Late); the worker discards and counts as
    /// dropped all but the message that it is at. A worker whose handler does not return is
    /// [abandoned](crate::pipeline::Pipeline::finish).
    Exit,
    /// It goes into the flight record, once a grace time.
    Alarm,
}
