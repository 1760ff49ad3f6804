//! Whether an endpoint was ever reached, and why not: what somebody asks whose run received nothing.
//!
//! Written on cold paths only: when an attempt to connect comes to something, or to nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::lane::Assigned;

/// What an endpoint is to a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A publisher of its messages.
    Publisher,
    /// Publishers of its messages, which connect to it.
    Publishers,
    /// A server of its snapshots.
    Snapshots,
}

/// An endpoint that was never connected to, nobody came to, or no whole snapshot came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreached {
    /// The feed's name.
    pub feed: String,
    /// The line's place in its feed.
    pub line: usize,
    /// The endpoint, as the configuration has it.
    pub endpoint: String,
    /// What it is to the feed.
    pub source: Source,
    /// Attempts that came to nothing.
    pub attempts: u64,
    /// Why the last one did, as far as it is known.
    pub reason: String,
}

/// What came of an endpoint of a lane. Copies are of the same.
#[derive(Clone, Debug)]
pub(crate) struct Reach(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    reached: bool,
    so_far: Unreached,
}

impl Reach {
    /// Starts with no attempt. `reason` is what is said as long as none has failed with a better one.
    pub(super) fn new(assigned: &Assigned<'_>, endpoint: &str, reason: &str) -> Self {
        Self::of(Source::Publisher, assigned, endpoint, reason)
    }

    /// The same for an endpoint that is bound.
    pub(super) fn of_bound(assigned: &Assigned<'_>, endpoint: &str) -> Self {
        Self::of(Source::Publishers, assigned, endpoint, "nobody connected")
    }

    /// The same for a server of snapshots.
    pub(crate) fn of_snapshots(assigned: &Assigned<'_>, endpoint: &str) -> Self {
        let reason = "it was not asked, since there was no publisher";
        Self::of(Source::Snapshots, assigned, endpoint, reason)
    }

    fn of(source: Source, assigned: &Assigned<'_>, endpoint: &str, reason: &str) -> Self {
        let so_far = Unreached {
            feed: assigned.feed.name.clone(),
            line: assigned.origin.line.into(),
            endpoint: endpoint.to_owned(),
            source,
            attempts: 0,
            reason: reason.to_owned(),
        };
        Self(Arc::new(Mutex::new(State {
            reached: false,
            so_far,
        })))
    }

    /// Notes that there is a connection, its handshake done; or that a snapshot has come.
    pub(super) fn reached(&self) {
        self.state().reached = true;
    }

    /// Notes that a snapshot is asked for: until an attempt fails, that it has yet to come is all there is to say.
    pub(super) fn asked(&self) {
        let mut state = self.state();
        if state.so_far.attempts == 0 {
            state.so_far.reason = "it was asked, and no whole snapshot had come yet".to_owned();
        }
    }

    /// Notes that an attempt came to nothing, and why, where that is known.
    pub(super) fn failed(&self, reason: Option<String>) {
        let mut state = self.state();
        if state.reached {
            return;
        }
        state.so_far.attempts += 1;
        if let Some(reason) = reason {
            state.so_far.reason = reason;
        }
    }

    /// Returns what is known of the endpoint, if it was never reached.
    pub(crate) fn unreached(&self) -> Option<Unreached> {
        let state = self.state();
        (!state.reached).then(|| state.so_far.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked within has at worst left an attempt out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
