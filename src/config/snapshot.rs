//! Where a feed's past comes from.

use serde::Deserialize;

use crate::{
    config::{
        Feed, Lane, SocketKind, endpoint,
        limits::{BYTES_MAX, within},
    },
    error::{Error, Result},
    policy::Policy,
    sequence::Scope,
};

/// The least that may be held, in bytes.
const HELD_BYTES_MIN: usize = 16 * 1024;

/// Where a feed takes snapshots: on start, after messages were missing and after each reconnect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The endpoint of a server that answers `ICANHAZ?`, for instance that of `pinfeed clone serve`.
    pub connect: String,
    /// The most bytes of messages that are held while a snapshot is under way. Beyond, they are dropped and
    /// a newer snapshot is asked for.
    #[serde(default = "held_bytes_max")]
    pub held_bytes_max: usize,
}

fn held_bytes_max() -> usize {
    64 << 20
}

impl From<&str> for Snapshot {
    /// Snapshots from this endpoint, with the defaults.
    fn from(endpoint: &str) -> Self {
        Self {
            connect: endpoint.to_owned(),
            held_bytes_max: held_bytes_max(),
        }
    }
}

impl Snapshot {
    /// Returns what a feed asks for: the prefix that it is subscribed to.
    #[must_use]
    pub fn subtree(feed: &Feed) -> &[u8] {
        feed.subscribe
            .first()
            .map_or(&[], |prefix| prefix.as_bytes())
    }

    /// Checks it against its feed, whose key is given.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(super) fn check(&self, key: &str, feed: &Feed) -> Result<()> {
        let key = format!("{key}.snapshot");
        endpoint::check_connect(&format!("{key}.connect"), &self.connect, &Lane::named(""))?;
        let endpoints = feed
            .lines
            .iter()
            .map(|line| line.connect.len() + line.bind.len());
        within(
            &format!("{key}.held_bytes_max"),
            self.held_bytes_max,
            HELD_BYTES_MIN,
            BYTES_MAX,
        )?;
        let counts_all = feed.sequence.track
            && (feed.envelope.numbering()).is_some_and(|numbering| numbering.scope == Scope::Line);
        let problem = if endpoints.sum::<usize>() != 1 {
            "a snapshot goes with the messages of one publisher, and the feed has several endpoints"
        } else if feed.arbitration.is_some() {
            "lines that are copies of each other take no snapshots"
        } else if feed.socket != SocketKind::Sub {
            "what is pushed has no snapshot"
        } else if feed.subscribe.len() > 1 || !feed.topics.is_empty() {
            "a snapshot is of one prefix, and the feed wants several or whole topics"
        } else if counts_all && !Self::subtree(feed).is_empty() {
            return Err(Error::config(
                key,
                &self.connect,
                "the feed's numbers count all updates, and it takes those of one prefix: the others would be \
                 taken for lost, and a snapshot for each",
                "set `sequence.track = false`, or subscribe to all",
            ));
        } else if feed.envelope.inflation().is_some() {
            "what is compressed has no snapshot"
        } else if feed
            .policies
            .iter()
            .any(|rule| rule.policy == Policy::Snail)
        {
            "messages that are held for a snapshot are late, and `snail` would end the run for that"
        } else {
            return Ok(());
        };
        Err(Error::config(
            key,
            &self.connect,
            problem,
            "give the feed one endpoint, one `subscribe` prefix at most, no `arbitration` and no `snail`, or \
             leave `snapshot` out",
        ))
    }
}

/// Checks the number of policies that a configuration with snapshots has: handlers are told where one begins and
/// ends in its place among messages of one policy only.
///
/// # Errors
/// [`Error::Config`].
pub(super) fn check_policies(policies: usize) -> Result<()> {
    if policies == 1 {
        return Ok(());
    }
    Err(Error::config(
        "feed.snapshot",
        format!("{policies} policies"),
        "with several policies messages overtake each other, and so what says where a snapshot begins and ends",
        "give all topics the same policy, or leave `snapshot` out",
    ))
}
