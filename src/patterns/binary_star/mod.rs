//! Two servers, of which one is active: the Guide's Binary Star.
//!
//! Each tells the other its role with every heartbeat. A passive server becomes active when a client asks it
//! for something *and* it has not heard of its peer for [`PEER_EXPIRY_NS`]; so clients vote, and a cut between
//! the servers alone changes nothing as long as clients stay with the active one. To the Guide's rules this adds:
//!
//! - **Freshness**: of two servers that both start, or of a passive one whose peer starts, the one with the newer
//!   state becomes active, and the primary or the passive one where both are as new. A server that has not got its
//!   peer's state yet does not take over.
//! - **A lease**: an active server that has not sent its role for `PEER_EXPIRY_NS`, because it was stopped, may
//!   have been replaced: it starts over, and asks before it accepts anything.
//! - **Rounds**: what a peer says counts only if it has heard of this server since that started, or went on after it
//!   was stopped; so nothing that waited in a queue for it to go on is taken for news.
//!
//! What holds: as long as the servers see each other, or all clients see the same ones, at most one is active.
//! Where the network falls in two halves with a server and clients each, both become active, as with the Guide; when
//! they see each other again, the one whose activity began earlier, or the backup, ends with
//! [`Fatal::BothActive`], and what it accepted alone is lost.

pub mod wire;

use std::cmp::Ordering;

/// Between two heartbeats, in nanoseconds.
pub const HEARTBEAT_NS: u64 = 1_000_000_000;

/// After how long a silence a peer is taken for dead: two heartbeats, in nanoseconds.
pub const PEER_EXPIRY_NS: u64 = 2 * HEARTBEAT_NS;

/// Which of the two servers this is, by configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that is to be active.
    Primary,
    /// The one that takes over.
    Backup,
}

/// What a server does at the moment. The numbers are those of the Guide's wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The primary, started, waiting for its peer.
    Primary = 1,
    /// The backup, started, waiting for its peer.
    Backup = 2,
    /// Serving clients.
    Active = 3,
    /// Following the active one.
    Passive = 4,
}

/// How new a server's state is: how many times the pair changed its active server, and the sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Freshness {
    /// Goes up whenever a server becomes active.
    pub epoch: u64,
    /// The sequence of the last update.
    pub sequence: u64,
}

/// Why a server of a pair can't go on.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// Both servers were active, and this one is the one to yield.
    #[error(
        "both servers of the pair are active: the network between them was cut while clients saw one each, and the \
         other one stays; what this one accepted since then is lost; start it again to follow the other"
    )]
    BothActive,
    /// Both servers follow the other.
    #[error(
        "both servers of the pair are passive; stop both, then start the one with the newer state first"
    )]
    BothPassive,
    /// Both servers were started as the same side.
    #[error(
        "both servers of the pair were started as the same side; start one with --primary, the other with --backup"
    )]
    SameSide,
}

/// What an input changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The server is active from now on.
    BecameActive,
    /// The server follows its peer from now on.
    BecamePassive,
    /// The server stopped being active, or passive, and starts over.
    StartedOver,
}

/// One server of a pair, as a machine: what it hears goes in, what becomes of its role comes out. Times are
/// nanoseconds of any monotonic clock.
#[derive(Clone, Debug)]
pub struct Star {
    side: Side,
    role: Role,
    preempts: bool,
    /// When the peer is taken for dead.
    peer_expires_ns: u64,
    /// When the last role was sent.
    sent_ns: u64,
    peer_role: Option<Role>,
    /// Whether it was active or passive before, so that it knows what it misses.
    has_served: bool,
    /// Goes up when the server starts over.
    round: u64,
    /// The peer's, as far as it was heard of.
    peer_round: u64,
}

impl Star {
    /// Starts one. A primary that `preempts` becomes active again once it has its peer's state. `round` has to be
    /// higher than any that this server had before, as the wall clock is.
    #[must_use]
    pub fn new(side: Side, preempts: bool, round: u64, now_ns: u64) -> Self {
        Self {
            side,
            role: starting(side),
            preempts: preempts && side == Side::Primary,
            peer_expires_ns: now_ns + PEER_EXPIRY_NS,
            sent_ns: now_ns,
            peer_role: None,
            has_served: false,
            round,
            peer_round: 0,
        }
    }

    /// Returns the role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns what the peer last said of its role.
    #[must_use]
    pub fn peer_role(&self) -> Option<Role> {
        self.peer_role
    }

    /// Returns this server's round, and the peer's as far as it was heard of.
    #[must_use]
    pub fn rounds(&self) -> (u64, u64) {
        (self.round, self.peer_round)
    }

    /// Tells whether it wants the peer to step back.
    #[must_use]
    pub fn preempts(&self) -> bool {
        self.preempts
    }

    /// Tells whether the peer was heard of lately.
    #[must_use]
    pub fn hears_peer(&self, now_ns: u64) -> bool {
        self.peer_role.is_some() && now_ns < self.peer_expires_ns
    }

    /// Notes that the role is sent to the peer.
    pub fn on_sent(&mut self, now_ns: u64) {
        self.sent_ns = now_ns;
    }

    /// Has to be called before anything else is looked at: notices whether the server was stopped for so long that
    /// its peer may have taken over, in which case an active one starts over.
    pub fn on_time(&mut self, now_ns: u64) -> Option<Change> {
        if now_ns < self.sent_ns + PEER_EXPIRY_NS {
            return None;
        }
        if self.role == Role::Active {
            return Some(self.start_over(now_ns));
        }
        self.listen_anew(now_ns);
        None
    }

    /// Steps back, for a peer that preempts or may have taken over.
    pub fn start_over(&mut self, now_ns: u64) -> Change {
        self.role = starting(self.side);
        self.listen_anew(now_ns);
        Change::StartedOver
    }

    fn listen_anew(&mut self, now_ns: u64) {
        self.round += 1;
        self.peer_role = None;
        self.sent_ns = now_ns;
        self.peer_expires_ns = now_ns + PEER_EXPIRY_NS;
    }

    /// Notes the rounds that come with what the peer says. Returns whether it counts, and whether the peer
    /// has to be told at once, so that what this server says counts for it.
    pub fn on_rounds(&mut self, peer: u64, own: u64) -> (bool, bool) {
        let is_new = self.peer_round != peer;
        self.peer_round = peer;
        (own == self.round, is_new)
    }

    /// Takes what the peer says of its role and state.
    ///
    /// # Errors
    /// That the two can't go on together.
    pub fn on_peer(
        &mut self,
        peer: Role,
        peer_state: Freshness,
        own_state: Freshness,
        now_ns: u64,
    ) -> Result<Option<Change>, Fatal> {
        self.peer_expires_ns = now_ns + PEER_EXPIRY_NS;
        self.peer_role = Some(peer);
        let newer = own_state.cmp(&peer_state);
        let is_primary = self.side == Side::Primary;
        match (self.role, peer) {
            (Role::Primary, Role::Primary) | (Role::Backup, Role::Backup) => Err(Fatal::SameSide),
            (Role::Primary | Role::Backup, Role::Active) => Ok(Some(self.become_passive())),
            // Both start: the newer state, or the primary.
            (Role::Primary | Role::Backup, Role::Primary | Role::Backup) => {
                let wins = newer == Ordering::Greater || newer == Ordering::Equal && is_primary;
                Ok(wins.then(|| self.become_active()))
            }
            // The passive one wins where both are as new.
            (Role::Primary | Role::Backup, Role::Passive) => {
                let wins = newer == Ordering::Greater;
                Ok(wins.then(|| self.become_active()))
            }
            (Role::Passive, Role::Primary | Role::Backup) => {
                let wins = newer != Ordering::Less;
                Ok(wins.then(|| self.become_active()))
            }
            (Role::Active, Role::Active) => {
                let (own, other) = (own_state.epoch, peer_state.epoch);
                if own < other || own == other && !is_primary {
                    return Err(Fatal::BothActive);
                }
                Ok(None)
            }
            (Role::Passive, Role::Passive) => Err(Fatal::BothPassive),
            (Role::Active, _) | (Role::Passive, Role::Active) => Ok(None),
        }
    }

    /// Takes a client's request, which is a vote, and tells whether to answer it. `is_current` is whether this
    /// server has, as far as it knows, all that its peer had.
    pub fn on_request(&mut self, is_current: bool, now_ns: u64) -> (bool, Option<Change>) {
        match self.role {
            Role::Active => (true, None),
            // A backup that never saw its primary does not know what it misses.
            Role::Backup if !self.has_served => (false, None),
            Role::Passive if !is_current => (false, None),
            _ if now_ns < self.peer_expires_ns => (false, None),
            _ => (true, Some(self.become_active())),
        }
    }

    fn become_active(&mut self) -> Change {
        self.role = Role::Active;
        self.has_served = true;
        Change::BecameActive
    }

    fn become_passive(&mut self) -> Change {
        self.role = Role::Passive;
        Change::BecamePassive
    }
}

fn starting(side: Side) -> Role {
    match side {
        Side::Primary => Role::Primary,
        Side::Backup => Role::Backup,
    }
}

#[cfg(test)]
mod tests;
