//! Where a feed's past comes from.

use serde::Deserialize;

use crate::{
    config::{Feed, Lane, SocketKind, endpoint},
    error::{Error, Result},
};

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
        let problem = if endpoints.sum::<usize>() != 1 {
            "a snapshot goes with the messages of one publisher, and the feed has several endpoints"
        } else if feed.arbitration.is_some() {
            "lines that are copies of each other take no snapshots"
        } else if feed.socket != SocketKind::Sub {
            "what is pushed has no snapshot"
        } else if feed.subscribe.len() > 1 || !feed.topics.is_empty() {
            "a snapshot is of one prefix, and the feed wants several or whole topics"
        } else {
            return Ok(());
        };
        Err(Error::config(
            key,
            &self.connect,
            problem,
            "give the feed one endpoint, one `subscribe` prefix at most and no `arbitration`, or leave \
             `snapshot` out",
        ))
    }
}
