//! What a server's machine gives back: what to put on disk, what to do, and what it has counted.

use crate::patterns::{
    binary_star::{Freshness, Role},
    clone::state::{Update, View},
    kvmsg::Uuid,
};

/// What became of updates and requests, and how many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Updates that were made.
    pub accepted: u64,
    /// Updates that came again, and were not made again.
    pub duplicate: u64,
    /// Updates that are malformed, or have a key or a time to live that can't be.
    pub malformed: u64,
    /// Updates that the state has no room for.
    pub refused_full: u64,
    /// Values that expired.
    pub expired: u64,
    /// Updates that wait, or waited, for the active server to tell of them.
    pub pending: u64,
    /// Updates that a passive server kept no longer: there were too many, or they waited for too long.
    pub pending_dropped: u64,
    /// Updates that a passive server can't keep, because they have no uuid.
    pub without_uuid: u64,
    /// Snapshots begun.
    pub snapshots: u64,
    /// Requests that are none.
    pub unknown_requests: u64,
    /// Requests that were not answered: this server is not active, or too many waited.
    pub unanswered: u64,
    /// Times that this server, active, went on alone because the other one was no longer in step.
    pub left_behind: u64,
}

/// What has to be on disk before anything of it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether all that was there before is gone.
    pub replaces: bool,
    /// Values in the order that they were set or deleted.
    pub updates: Vec<Update>,
    /// Uuids of recent updates, besides those of `updates`, by sequence.
    pub recent: Vec<(u64, Uuid)>,
    /// How new the state is after that.
    pub state: Freshness,
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Values. They expire by the machine's clock.
    pub updates: Vec<Update>,
    /// Uuids of recent updates by sequence, in order.
    pub recent: Vec<(u64, Uuid)>,
    /// How new that is.
    pub state: Freshness,
}

/// What is to be done. `C` names a client's connection.
#[derive(Clone, Debug)]
pub enum Output<C> {
    /// Publish an update.
    Publish(Update),
    /// Publish a heartbeat with this sequence.
    Hugz(u64),
    /// Send a new subscriber a heartbeat of its own.
    Greet {
        /// Who subscribed.
        client: C,
        /// The sequence.
        sequence: u64,
    },
    /// Send a snapshot as the connection drains, then call [`Machine::snapshot_ended`](super::Machine::snapshot_ended).
    Snapshot {
        /// Who asked.
        client: C,
        /// What to send.
        view: View,
        /// Whether uuids of recent updates are to come as well.
        with_recent: bool,
    },
    /// Tell the peer.
    Tell {
        /// The role of this server.
        role: Role,
        /// How new its state is.
        state: Freshness,
        /// The rounds of this server and of the peer.
        rounds: (u64, u64),
        /// Whether it has all that the active one told it of.
        current: bool,
        /// Whether it wants the peer to step back.
        preempts: bool,
        /// An update to pass on.
        update: Option<Update>,
    },
    /// Ask the peer for a snapshot, over a connection of its own, with recent uuids.
    AskPeer,
    /// This server's role is another one now.
    Role(Role),
    /// Each of the two servers has what the other one has now, or no longer.
    Step {
        /// The role of this server.
        role: Role,
        /// Whether they are in step.
        in_step: bool,
    },
}
