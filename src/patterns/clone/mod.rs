//! Clone: a state that many programs share, as the Guide has it (RFC 12, CHP).
//!
//! A [server](server::Machine) keeps keys with values, and publishes each update under the next sequence. A
//! [client](client::Machine) subscribes, takes a snapshot, and goes on from its sequence; its own updates go to
//! the server, which publishes them to all. On port P answers a ROUTER requests for snapshots, on P+1 a PUB
//! publishes, on P+2 updates are collected, by PULL (model 5) and by SUB (model 6).
//!
//! Both are machines without sockets, files and clocks: what happens goes in, what is to be done comes out. Times are
//! nanoseconds of a monotonic clock; only what is stored goes by the wall clock, because it outlives the process.
//!
//! To the Guide's pattern this adds: what is published is on disk before; an update that comes twice is made once, by
//! its uuid; a client that misses an update, by a gap in the sequence, takes a snapshot again; and of a pair, the
//! backup has what is published, as long as it keeps up.

pub mod client;
mod member;
mod serve;
pub mod server;
pub mod state;
mod store;

pub use member::{Client, ClientPlan, Collector, Event, check_update};
pub use serve::{Bound, News, PairPlan, Server, ServerPlan, Summary};

use crate::patterns::binary_star::HEARTBEAT_NS;

/// How long a client sends its own update again before it gives up, and for how long a passive server keeps
/// one, in nanoseconds.
pub const RESEND_FOR_NS: u64 = 30 * HEARTBEAT_NS;

/// What may follow the subtree in a request for a snapshot between the servers of a pair: send the uuids of recent
/// updates as well, as messages without a key, before the last one.
pub const RECENT: &[u8] = b"RECENT";

/// Both clocks at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// A monotonic clock, in nanoseconds.
    pub ns: u64,
    /// The wall clock, in nanoseconds since 1970.
    pub wall_ns: u64,
}

impl Now {
    /// Returns when something of the monotonic clock is by the wall clock.
    #[must_use]
    pub fn to_wall_ns(self, at_ns: u64) -> u64 {
        (self.wall_ns + at_ns).saturating_sub(self.ns)
    }

    /// Returns when something of the wall clock is by the monotonic clock: now, if it is past.
    #[must_use]
    pub fn from_wall_ns(self, at_wall_ns: u64) -> u64 {
        self.ns + at_wall_ns.saturating_sub(self.wall_ns)
    }
}
