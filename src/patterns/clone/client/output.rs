//! What a client wants, what its machine gives back, and what it has counted.

use crate::patterns::{
    clone::{
        client::Fate,
        state::{Limits, Update},
    },
    kvmsg::Uuid,
};

/// What a client is told or does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask this server for a snapshot, over a connection over which nothing was asked before.
    Ask(usize),
    /// Send an update to all servers.
    Send(Update),
    /// The state is whole, and goes on from this sequence.
    Synchronised {
        /// The server that it comes from.
        server: usize,
        /// The sequence.
        sequence: u64,
    },
    /// A key is set, or, where the body is empty, deleted.
    Changed(Update),
    /// The state is not kept up to date at the moment; what it was stays.
    Stale,
    /// What became of an update of this client's own.
    Own {
        /// Its uuid.
        uuid: Uuid,
        /// What became of it.
        fate: Fate,
    },
}

/// What a client wants.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// The keys that it follows all start with this; nothing means all keys.
    pub subtree: Vec<u8>,
    /// Whether servers send no heartbeats and no uuids, as in models 1 to 4.
    pub is_plain: bool,
    /// What the state may hold.
    pub limits: Limits,
}

impl Wishes {
    /// Checks that so many keys, of so many bytes together, are within the limits.
    pub(super) fn check(&self, keys: usize, bytes: usize) -> Result<(), TooLarge> {
        let Limits {
            keys_max,
            bytes_max,
        } = self.limits;
        if keys > keys_max || bytes > bytes_max {
            return Err(TooLarge {
                keys_max,
                bytes_max,
            });
        }
        Ok(())
    }
}

/// What became of messages, and how many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Updates that were published.
    pub published: u64,
    /// Those that the state had already.
    pub stale: u64,
    /// Gaps in the sequence.
    pub gaps: u64,
    /// Sequences that went back.
    pub backwards: u64,
    /// Messages that are malformed.
    pub malformed: u64,
    /// Snapshots that came in full.
    pub snapshots: u64,
    /// Changes to another server.
    pub switches: u64,
    /// Updates of its own that were sent again.
    pub resent: u64,
}

/// The state grew beyond the client's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the state holds more than this client takes ({keys_max} keys, {bytes_max} bytes); follow a subtree of it"
)]
pub struct TooLarge {
    /// The limit on keys.
    pub keys_max: usize,
    /// The limit on bytes.
    pub bytes_max: usize,
}
