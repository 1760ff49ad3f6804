//! A client as a machine: it follows one of its servers, and sends its own updates to all of them.
//!
//! It is subscribed before it asks for a snapshot, and holds what is published until that has come; then it drops what
//! the snapshot has, and goes on. Of what it holds only the newest of each key counts, so that takes no more than
//! the state does. Subscribed to everything, it takes a gap in the sequence for a loss, and a snapshot again; below a
//! subtree gaps are normal, and it relies on the server, which hangs up on whoever misses something.
//!
//! Asking is a vote for the server that is asked. So a client that has the choice first listens, and asks a server that
//! publishes rather than one that does not; only active servers publish.
//!
//! An update of its own is sent again, with its uuid, until the server has published it or a snapshot holds it. Of
//! those of one key only the newest is sent again: an older one would undo it.

mod output;
mod own;
mod published;
mod seeking;
mod snapshot;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::patterns::{
    binary_star::{HEARTBEAT_NS, PEER_EXPIRY_NS},
    clone::{
        Now,
        state::{Key, Update, Value},
    },
    kvmsg::{KeyValue, Malformed, Uuid},
};
pub use output::{Counters, Output, TooLarge, Wishes};
use own::Own;
pub use own::{Fate, TooManyOwn};
use seeking::{Phase, Reach, Seeking, Subscription, Values};

/// After how long a server is asked again that has not answered, in nanoseconds: a passive one answers only once
/// it has become active.
const ASK_AGAIN_NS: u64 = HEARTBEAT_NS / 4;
/// For how long a server is asked before another one is, in nanoseconds: long enough for a passive one to find its
/// peer dead.
const ASK_FOR_NS: u64 = PEER_EXPIRY_NS + HEARTBEAT_NS / 2;
/// How long a client of several servers listens before it asks one that does not publish, in nanoseconds.
const LISTEN_FOR_NS: u64 = HEARTBEAT_NS + HEARTBEAT_NS / 4;
/// How long a server may take to be connected to before another one is asked, in nanoseconds.
const CONNECT_WITHIN_NS: u64 = HEARTBEAT_NS / 2;
/// The shortest time between two looks at what is due, in nanoseconds.
const TELL_AGAIN_NS: u64 = HEARTBEAT_NS / 100;
/// The longest silence within a snapshot, in nanoseconds.
const SNAPSHOT_SILENCE_NS: u64 = 2 * HEARTBEAT_NS;

/// A client.
#[derive(Debug)]
pub struct Machine {
    wishes: Wishes,
    servers: Vec<Reach>,
    current: usize,
    phase: Phase,
    subscription: Subscription,
    /// When the current server was last heard publishing.
    heard_ns: u64,
    /// When any server was last heard publishing; the start, if none was.
    listening_ns: u64,
    values: Values,
    sequence: u64,
    own: Own,
    outputs: VecDeque<Output>,
    counters: Counters,
    /// When time was last told, and whether to tell it at the end of the turn.
    told_ns: u64,
    may_be_due: bool,
}

impl Machine {
    /// Starts with the first of so many servers.
    #[must_use]
    pub fn new(servers: usize, wishes: Wishes, now: Now) -> Self {
        Self {
            wishes,
            servers: vec![Reach::default(); servers.max(1)],
            current: 0,
            phase: Phase::Seeking(Seeking {
                since_ns: now.ns,
                ..Seeking::default()
            }),
            subscription: Subscription::default(),
            heard_ns: now.ns,
            listening_ns: now.ns,
            values: Values::default(),
            sequence: 0,
            own: Own::default(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            told_ns: now.ns,
            may_be_due: false,
        }
    }

    /// Returns the state as it was last whole, with what came since if it is [ready](Self::is_ready).
    #[must_use]
    pub fn values(&self) -> &BTreeMap<Key, Arc<Value>> {
        &self.values.by_key
    }

    /// Tells whether the state is kept up to date.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready)
    }

    /// Returns the sequence of the last update.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the server that it follows, by its number.
    #[must_use]
    pub fn server(&self) -> usize {
        self.current
    }

    /// Returns how many updates of its own are not known to be published.
    #[must_use]
    pub fn own(&self) -> usize {
        self.own.len()
    }

    /// Returns what has been counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Notes whether snapshots can be asked of a server.
    pub fn on_reach(&mut self, server: usize, can_ask: bool, now: Now) {
        self.servers[server].can_ask = can_ask;
        if let Phase::Seeking(seeking) = &mut self.phase
            && server == self.current
            && !can_ask
        {
            // What came of a snapshot is of no use without the rest.
            *seeking = Seeking {
                since_ns: seeking.since_ns,
                asked_ns: seeking.asked_ns,
                held: std::mem::take(&mut seeking.held),
                ..Seeking::default()
            };
        }
        self.on_time(now);
    }

    /// Notes that a subscription has begun, or has ended.
    pub fn on_subscription(&mut self, server: usize, has_begun: bool, now: Now) {
        let was_subscribed = std::mem::replace(&mut self.servers[server].is_subscribed, has_begun);
        if server == self.current {
            if has_begun {
                self.subscription = Subscription::default();
                self.seek(now);
            } else if was_subscribed {
                self.next_server(now);
            }
        }
        self.may_be_due = true;
    }

    /// Makes an update of its own. `uuid` has to be one that nobody has used.
    ///
    /// # Errors
    /// [`TooManyOwn`] are under way.
    pub fn make(&mut self, message: KeyValue<'_>, uuid: Uuid, now: Now) -> Result<(), TooManyOwn> {
        let message = KeyValue {
            sequence: 0,
            uuid: Some(uuid),
            ..message
        };
        let update = Update::new(&message, None);
        self.own.add(uuid, update.clone(), now.ns)?;
        self.outputs.push_back(Output::Send(update));
        Ok(())
    }

    fn set(&mut self, update: Update) {
        self.values.set(update.clone());
        self.outputs.push_back(Output::Changed(update));
    }

    fn check_limits(&self) -> Result<(), TooLarge> {
        let values = &self.values;
        self.wishes.check(values.by_key.len(), values.bytes)
    }

    fn note_seen(&mut self, message: &KeyValue<'_>) {
        if let Some(uuid) = self.own.seen(message, self.wishes.is_plain) {
            let fate = Fate::Published(message.sequence);
            self.outputs.push_back(Output::Own { uuid, fate });
        }
    }

    /// Wants a snapshot of the current server.
    fn seek(&mut self, now: Now) {
        if self.is_ready() {
            self.outputs.push_back(Output::Stale);
        }
        self.phase = Phase::Seeking(Seeking {
            since_ns: now.ns,
            ..Seeking::default()
        });
    }

    /// Turns to the next server.
    fn next_server(&mut self, now: Now) {
        self.turn_to((self.current + 1) % self.servers.len(), now);
    }

    fn turn_to(&mut self, server: usize, now: Now) {
        if server != self.current {
            self.counters.switches += 1;
        }
        self.current = server;
        // What is published from now on is held.
        self.subscription = Subscription::default();
        self.heard_ns = now.ns;
        self.seek(now);
    }

    /// Returns when [`on_time`](Self::on_time) has something to do.
    #[must_use]
    pub fn due_ns(&self) -> u64 {
        if self.may_be_due {
            return 0;
        }
        let phase_ns = match &self.phase {
            Phase::Seeking(seeking) => {
                let since_ns = seeking.asked_ns.unwrap_or(seeking.since_ns);
                since_ns + ASK_AGAIN_NS
            }
            Phase::Ready if self.wishes.is_plain => u64::MAX,
            Phase::Ready => self.heard_ns + PEER_EXPIRY_NS,
        };
        // However long ago that was, time is not told without end.
        phase_ns
            .min(self.own.due_ns())
            .max(self.told_ns + TELL_AGAIN_NS)
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Now) {
        self.told_ns = now.ns;
        self.may_be_due = false;
        match &mut self.phase {
            Phase::Ready if !self.wishes.is_plain && now.ns >= self.heard_ns + PEER_EXPIRY_NS => {
                self.next_server(now);
            }
            Phase::Ready => {}
            Phase::Seeking(seeking) => {
                let silent_ns = seeking.heard_ns.map(|heard_ns| now.ns - heard_ns);
                let for_ns = now.ns - seeking.since_ns;
                let is_over = match silent_ns {
                    Some(silent_ns) => silent_ns >= SNAPSHOT_SILENCE_NS,
                    None if self.servers[self.current].is_whole() => for_ns >= ASK_FOR_NS,
                    None => for_ns >= CONNECT_WITHIN_NS && self.servers.len() > 1,
                };
                if is_over {
                    self.next_server(now);
                }
            }
        }
        if self.may_ask(now)
            && let Phase::Seeking(seeking) = &mut self.phase
            && seeking.heard_ns.is_none()
            && seeking
                .asked_ns
                .is_none_or(|asked_ns| now.ns >= asked_ns + ASK_AGAIN_NS)
        {
            seeking.asked_ns = Some(now.ns);
            self.outputs.push_back(Output::Ask(self.current));
        }
        for (update, uuid, fate) in self.own.due(now.ns) {
            match fate {
                None => {
                    self.counters.resent += 1;
                    self.outputs.push_back(Output::Send(update));
                }
                Some(fate) => self.outputs.push_back(Output::Own { uuid, fate }),
            }
        }
    }

    fn may_ask(&self, now: Now) -> bool {
        let server = self.servers[self.current];
        let has_listened = self.servers.len() == 1 || now.ns >= self.listening_ns + LISTEN_FOR_NS;
        server.is_whole() && (has_listened || server.publishes(now))
    }

    /// Counts a message that is no key-value message.
    pub fn on_malformed(&mut self, _why: &Malformed) {
        self.counters.malformed += 1;
    }

    /// Returns the next thing to do or to know.
    pub fn output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

#[cfg(test)]
mod tests;
