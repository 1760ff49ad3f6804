//! Where a feed's past comes from.

use serde::Deserialize;

use crate::error::{Error, Result};

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
