//! A server as a machine.
//!
//! A turn is: [`Machine::on_time`], then whatever has come; [`Machine::changes`], which have to be on disk before
//! [`Machine::committed`] is called; then [`Machine::output`] until there is none. So all updates of a turn cost one
//! commit, and nothing is published that is not on disk. Of a pair, the active server also waits until the passive one
//! has an update on disk, as long as that keeps up; [`PEER_PATIENCE_NS`] at most.

mod follow;
mod output;
mod pair;
mod pending;
mod requests;

use std::collections::VecDeque;

use crate::patterns::{
    binary_star::{Freshness, HEARTBEAT_NS, Role, Star},
    clone::{
        Now,
        state::{Limits, State, Update},
    },
    kvmsg::{KeyValue, Malformed},
};
pub use output::{Changes, Counters, Output, Restored};
pub use pair::PEER_PATIENCE_NS;
use pair::Pair;
use requests::Requests;
pub use requests::{REQUESTS_MAX, SNAPSHOTS_MAX};

/// An update that is not published yet, with when it was made.
#[derive(Debug)]
struct Unpublished {
    update: Update,
    since_ns: u64,
}

/// A server.
#[derive(Debug)]
pub struct Machine<C> {
    state: State,
    epoch: u64,
    limits: Limits,
    pair: Option<Pair>,
    changes: Changes,
    is_changed: bool,
    /// The sequence up to which updates are on disk, and that up to which they are published.
    committed: u64,
    published: u64,
    unpublished: VecDeque<Unpublished>,
    /// Updates of the turn, for the peer.
    passed_on: Vec<Update>,
    requests: Requests<C>,
    /// Subscribers of the turn, who are told at once that this server publishes.
    newcomers: Vec<C>,
    outputs: VecDeque<Output<C>>,
    heartbeat_due_ns: u64,
    /// Whether the peer has to hear of the state as soon as it is on disk.
    owes_word: bool,
    counters: Counters,
}

impl<C: Copy + PartialEq> Machine<C> {
    /// Starts from what a store holds. Without a `star` it is on its own, and active.
    #[must_use]
    pub fn new(restored: &Restored, limits: Limits, star: Option<Star>, now: Now) -> Self {
        let mut state = State::default();
        for update in &restored.updates {
            state.insert(update);
        }
        for &(sequence, uuid) in &restored.recent {
            state.remember(sequence, uuid);
        }
        let Freshness { epoch, sequence } = restored.state;
        state.set_sequence(sequence);
        let is_alone = star.is_none();
        let mut machine = Self {
            state,
            epoch,
            limits,
            pair: star.map(Pair::new),
            changes: Changes::default(),
            is_changed: false,
            committed: sequence,
            published: sequence,
            unpublished: VecDeque::new(),
            passed_on: Vec::new(),
            requests: Requests::default(),
            newcomers: Vec::new(),
            outputs: VecDeque::new(),
            heartbeat_due_ns: now.ns,
            owes_word: false,
            counters: Counters::default(),
        };
        if is_alone {
            machine.epoch += 1;
            machine.note_changed();
        }
        machine
    }

    /// Returns the state, with what is not published yet.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns how new the state is.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        Freshness {
            epoch: self.epoch,
            sequence: self.state.sequence(),
        }
    }

    /// Returns the role. A server on its own is active.
    #[must_use]
    pub fn role(&self) -> Role {
        self.pair
            .as_ref()
            .map_or(Role::Active, |pair| pair.star.role())
    }

    /// Tells whether it is one of a pair.
    #[must_use]
    pub fn is_one_of_a_pair(&self) -> bool {
        self.pair.is_some()
    }

    /// Tells whether each server of the pair has what the other one has, as far as this one knows.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.pair
            .as_ref()
            .is_none_or(|pair| match pair.star.role() {
                Role::Active => pair.together,
                Role::Passive => pair.follow.is_current(),
                Role::Primary | Role::Backup => false,
            })
    }

    /// Returns what has been counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns how many of a client's updates wait for the active server to tell of them.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pair.as_ref().map_or(0, |pair| pair.pending.len())
    }

    /// Returns when [`on_time`](Self::on_time) has something to do.
    #[must_use]
    pub fn due_ns(&self) -> u64 {
        let expiry = self.state.next_expiry_ns().filter(|_| self.accepts());
        expiry.map_or(self.heartbeat_due_ns, |at_ns| {
            at_ns.min(self.heartbeat_due_ns)
        })
    }

    /// Does what is due. Has to be called before anything else of a turn.
    pub fn on_time(&mut self, now: Now) {
        if let Some(pair) = &mut self.pair
            && let Some(change) = pair.star.on_time(now.ns)
        {
            self.change_role(change, now);
        }
        if let Some(pair) = &mut self.pair
            && pair
                .yields_until_ns
                .is_some_and(|until_ns| now.ns >= until_ns)
        {
            pair.yields_until_ns = None;
            if pair.star.role() == Role::Active {
                self.make_pending(now);
            }
        }
        if self.accepts() {
            while let Some(key) = self.state.expired(now.ns).cloned() {
                self.counters.expired += 1;
                let message = KeyValue {
                    key: &key,
                    sequence: 0,
                    uuid: None,
                    properties: b"",
                    body: b"",
                };
                self.accept(message, None, now);
            }
        }
        if let Some(pair) = &mut self.pair {
            self.counters.pending_dropped += pair.pending.forget_old(now.ns);
            if !pair.star.hears_peer(now.ns) {
                pair.together = false;
            }
            if pair.star.role() == Role::Passive && pair.follow.should_ask(now.ns) {
                self.outputs.push_back(Output::AskPeer);
            }
        }
        if self.heartbeat_due_ns <= now.ns {
            self.heartbeat_due_ns = now.ns + HEARTBEAT_NS;
            if self.role() == Role::Active {
                self.outputs.push_back(Output::Hugz(self.published));
            }
            self.tell(now);
        }
    }

    /// Takes a client's update.
    ///
    /// # Errors
    /// Why it is not accepted, which is counted, too.
    pub fn on_update(&mut self, message: KeyValue<'_>, now: Now) -> Result<(), Malformed> {
        let ttl = message.check_update();
        self.counters.malformed += u64::from(ttl.is_err());
        let expires_ns = ttl?.map(|ttl| now.ns + ttl.as_nanos() as u64);
        if !self.accepts() {
            self.keep(message, now);
            return Ok(());
        }
        if let Some(uuid) = message.uuid
            && let Some(sequence) = self.state.recent(&uuid)
        {
            self.counters.duplicate += 1;
            // Whoever sends it again has not seen it.
            if sequence <= self.published {
                let again = KeyValue {
                    sequence,
                    ..message
                };
                let again = Update::new(&again, None);
                self.outputs.push_back(Output::Publish(again));
            }
        } else if self.state.would_exceed(&message, self.limits) {
            self.counters.refused_full += 1;
        } else {
            self.accept(message, expires_ns, now);
        }
        Ok(())
    }

    fn accepts(&self) -> bool {
        let yields = |pair: &Pair| pair.yields_until_ns.is_some();
        self.role() == Role::Active && !self.pair.as_ref().is_some_and(yields)
    }

    /// Notes a subscriber to heartbeats. An active server sends it one at once, so that whoever has the choice of servers
    /// knows which one to ask without asking any.
    pub fn on_subscriber(&mut self, client: C) {
        self.newcomers.push(client);
    }

    /// Counts a message of a client that is no update.
    pub fn on_malformed(&mut self) {
        self.counters.malformed += 1;
    }

    fn accept(&mut self, message: KeyValue<'_>, expires_ns: Option<u64>, now: Now) {
        let sequence = self.state.sequence().saturating_add(1);
        let expires_ns = expires_ns.filter(|_| !message.body.is_empty());
        let update = Update::new(
            &KeyValue {
                sequence,
                ..message
            },
            expires_ns,
        );
        self.make(&update);
        self.passed_on.push(update.clone());
        let since_ns = now.ns;
        self.unpublished.push_back(Unpublished { update, since_ns });
        self.counters.accepted += 1;
    }

    /// Makes an update, and has it committed.
    fn make(&mut self, update: &Update) {
        self.state.apply(update);
        self.changes.updates.push(update.clone());
        self.note_changed();
    }

    fn note_changed(&mut self) {
        self.is_changed = true;
        self.changes.state = self.freshness();
    }

    /// Returns what has to be on disk before [`committed`](Self::committed) is called, if there is anything.
    pub fn changes(&mut self) -> Option<Changes> {
        std::mem::take(&mut self.is_changed).then(|| std::mem::take(&mut self.changes))
    }

    /// Notes that all changes are on disk, and releases what waited for that. `now` has to be read after the commit: a
    /// server that was stopped meanwhile publishes nothing.
    pub fn committed(&mut self, now: Now) {
        let was_behind = self.committed != self.state.sequence();
        let owes_word = std::mem::take(&mut self.owes_word) || was_behind;
        self.committed = self.state.sequence();
        if let Some(pair) = &mut self.pair
            && let Some(change) = pair.star.on_time(now.ns)
        {
            self.change_role(change, now);
        }
        let epoch = self.epoch;
        if let Some(pair) = &self.pair {
            for update in std::mem::take(&mut self.passed_on) {
                let sequence = update.value.sequence;
                self.outputs.push_back(Output::Tell {
                    role: Role::Active,
                    state: Freshness { epoch, sequence },
                    rounds: pair.star.rounds(),
                    current: false,
                    preempts: false,
                    update: Some(update),
                });
            }
        } else {
            self.passed_on.clear();
        }
        if owes_word && self.role() == Role::Passive {
            self.tell(now);
        }
        self.release(now);
        self.newcomers.clear();
        self.tell_step();
    }

    /// Publishes what may be, and begins snapshots.
    fn release(&mut self, now: Now) {
        if self.role() != Role::Active {
            return;
        }
        let mut limit = self.committed;
        if let Some(pair) = &mut self.pair {
            let oldest = self.unpublished.front();
            if oldest.is_some_and(|one| now.ns >= one.since_ns + PEER_PATIENCE_NS) {
                pair.together = false;
            }
            if pair.together {
                limit = limit.min(pair.peer_state.sequence);
            }
        }
        while let Some(one) = self.unpublished.front()
            && one.update.value.sequence <= limit
            && let Some(one) = self.unpublished.pop_front()
        {
            self.published = one.update.value.sequence;
            self.outputs.push_back(Output::Publish(one.update));
        }
        for client in std::mem::take(&mut self.newcomers) {
            let sequence = self.published;
            self.outputs.push_back(Output::Greet { client, sequence });
        }
        let ready = self
            .requests
            .take_ready(&self.state, self.published, self.committed);
        for (request, view) in ready {
            self.counters.snapshots += 1;
            self.outputs.push_back(Output::Snapshot {
                client: request.client,
                view,
                with_recent: request.with_recent,
            });
        }
    }

    /// Returns the next thing to do. Has to be asked until there is none after [`committed`](Self::committed).
    pub fn output(&mut self) -> Option<Output<C>> {
        self.outputs.pop_front()
    }
}

#[cfg(test)]
mod tests;
