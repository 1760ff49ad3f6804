//! How far a client has come: which connections there are, what a snapshot has brought so far, and whether what is
//! published goes with it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::patterns::{
    binary_star::PEER_EXPIRY_NS,
    clone::{
        Now,
        state::{Key, Update, Value, bytes},
    },
};

/// Which connections to a server there are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    pub(super) can_ask: bool,
    pub(super) is_subscribed: bool,
    /// When it was last heard publishing.
    pub(super) heard_ns: Option<u64>,
}

impl Reach {
    pub(super) fn is_whole(self) -> bool {
        self.can_ask && self.is_subscribed
    }

    pub(super) fn publishes(self, now: Now) -> bool {
        let is_recent = |heard_ns| now.ns < heard_ns + PEER_EXPIRY_NS;
        self.is_subscribed && self.heard_ns.is_some_and(is_recent)
    }
}

/// How far the client has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// A snapshot is wanted.
    Seeking(Seeking),
    /// The state is kept up to date.
    Ready,
}

#[derive(Debug, Default)]
pub(super) struct Seeking {
    pub(super) since_ns: u64,
    /// When the server was asked, if it was.
    pub(super) asked_ns: Option<u64>,
    /// When a part of the snapshot came last, if any did.
    pub(super) heard_ns: Option<u64>,
    pub(super) gathered: Values,
    /// What was published since.
    pub(super) held: Held,
}

/// Keys with their values.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) by_key: BTreeMap<Key, Arc<Value>>,
    /// What they take, as [`Update::bytes`] counts.
    pub(super) bytes: usize,
}

impl Values {
    /// Sets a key, or, where the body is empty, deletes it.
    pub(super) fn set(&mut self, Update { key, value }: Update) {
        let before = if value.body.is_empty() {
            self.by_key.remove(&key)
        } else {
            self.bytes += bytes(&key, &value);
            self.by_key.insert(key.clone(), value)
        };
        self.bytes -= before.map_or(0, |before| bytes(&key, &before));
    }
}

/// Updates, the newest of each key.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) by_key: HashMap<Key, Arc<Value>>,
    /// What they take, as [`Update::bytes`] counts.
    pub(super) bytes: usize,
}

impl Held {
    pub(super) fn hold(&mut self, Update { key, value }: Update) {
        self.bytes += bytes(&key, &value);
        let before = self.by_key.insert(key.clone(), value);
        self.bytes -= before.map_or(0, |before| bytes(&key, &before));
    }
}

/// What is known of the subscription to the current server.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    /// The sequence that a snapshot has to have at least to go with what is held.
    pub(super) floor: u64,
    /// The last sequence that came while a snapshot was wanted.
    pub(super) last: Option<u64>,
    /// The last sequence heard of. A heartbeat from before the snapshot may be under way, but none goes back behind this.
    pub(super) heard: u64,
    /// Whether a heartbeat has come, so that the subscription is known to hold.
    pub(super) is_proven: bool,
}

impl Subscription {
    /// Notes that what is published after a sequence is held, and nothing of before.
    pub(super) fn held_after(&mut self, sequence: u64) {
        self.floor = sequence;
        self.last = Some(sequence);
    }
}
