//! One stream of messages, and where it comes from.

use serde::Deserialize;

use crate::{
    config::{
        numbers::{Arbitration, QualityLimits, Sequence},
        policies::TopicPolicy,
        snapshot::Snapshot,
    },
    envelope::Envelope,
    error::{Error, Result},
};

/// One logical stream of messages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Its name.
    pub name: String,
    /// The format of its messages: a name, or a table that describes it.
    pub envelope: Envelope,
    /// What its publishers are connected with.
    #[serde(default)]
    pub socket: SocketKind,
    /// The prefixes of the topics wanted. Where both these and [`Feed::topics`] are empty: all.
    #[serde(default)]
    pub subscribe: Vec<String>,
    /// Topics wanted by their whole names: `BTC-USD`, and not `BTC-USDT` with it.
    #[serde(default)]
    pub topics: Vec<String>,
    /// How the numbers of its messages are judged.
    #[serde(default)]
    pub sequence: Sequence,
    /// When it and its topics are to be trusted.
    #[serde(default)]
    pub quality: QualityLimits,
    /// Given where its lines are copies of each other, A and B: how they are merged. Without, each line
    /// is a part of the feed.
    pub arbitration: Option<Arbitration>,
    /// Where its past comes from; without, it begins with what is published next.
    pub snapshot: Option<Snapshot>,
    /// Where it comes from.
    #[serde(rename = "line", default)]
    pub lines: Vec<Line>,
    /// What happens where a worker is slow, by topic; for the rest [`Policy::Block`](crate::policy::Policy::Block).
    #[serde(rename = "policy", default)]
    pub policies: Vec<TopicPolicy>,
}

impl Feed {
    /// Tells whether its messages have numbers that are looked at.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        self.sequence.track && self.envelope.numbering().is_some()
    }

    /// Tells whether its publishers' restarts are told by numbers and by which connection each message came: without
    /// epochs, nor snapshots, of which each new connection brings one that is gone on from.
    pub(crate) fn is_told_by_connections(&self) -> bool {
        let numbering = self.envelope.numbering();
        self.sequence.track
            && self.snapshot.is_none()
            && numbering.is_some_and(|numbering| !numbering.has_epoch)
    }

    /// Checks that publishers can be asked for what the feed is to get.
    pub(super) fn check_subscriptions(&self, key: &str) -> Result<()> {
        let prefixes = ("subscribe", &self.subscribe);
        for (name, wanted) in [prefixes, ("topics", &self.topics)] {
            let key = format!("{key}.{name}");
            match wanted.first() {
                Some(first) if self.socket == SocketKind::Pull => {
                    return Err(Error::config(
                        key,
                        first.escape_debug(),
                        "publishers that push take no subscriptions",
                        format!("remove `{name}`, or use `socket = \"sub\"`"),
                    ));
                }
                Some(first) if self.envelope.compresses_first() => {
                    return Err(Error::config(
                        key,
                        first.escape_debug(),
                        "subscriptions match on the first frame, which is compressed",
                        format!("remove `{name}`"),
                    ));
                }
                _ => {}
            }
        }
        for (index, topic) in self.topics.iter().enumerate() {
            if self.envelope.exact(topic.as_bytes()).is_none() {
                return Err(Error::config(
                    format!("{key}.topics[{index}]"),
                    topic.escape_debug(),
                    format!(
                        "with envelope {} no message starts with this as its topic",
                        self.envelope
                    ),
                    "give a topic without the delimiter, or use `subscribe`, which takes prefixes of the first frame",
                ));
            }
        }
        Ok(())
    }

    /// Returns what snapshots are asked for: the prefix that it is subscribed to.
    #[must_use]
    pub fn subtree(&self) -> &[u8] {
        self.subscribe
            .first()
            .map_or(&[], |prefix| prefix.as_bytes())
    }
}

/// The kind of socket that a feed is received with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SocketKind {
    /// SUB, from PUB or XPUB: every subscriber gets what it is subscribed to.
    #[default]
    Sub,
    /// PULL, from PUSH: each message goes to one of those that pull, whatever its topic.
    Pull,
}

/// Endpoints of a feed that one lane receives.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The name of the lane that receives it.
    pub lane: String,
    /// Endpoints of publishers to connect to.
    #[serde(default)]
    pub connect: Vec<String>,
    /// Endpoints to bind for publishers that connect to us.
    #[serde(default)]
    pub bind: Vec<String>,
}

impl Line {
    /// A line without endpoints on the lane with this name.
    #[must_use]
    pub fn on(lane: &str) -> Self {
        Self {
            lane: lane.to_owned(),
            connect: Vec::new(),
            bind: Vec::new(),
        }
    }
}
