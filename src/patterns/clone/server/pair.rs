//! One server of a pair: what it hears of the other one, and what becomes of its role.

use crate::patterns::{
    binary_star::{
        Change, Fatal, Freshness, HEARTBEAT_NS, PEER_EXPIRY_NS, Role, Star, wire::Tidings,
    },
    clone::{
        Now,
        server::{Machine, Output, follow::Follow, pending::Pending},
        state::Update,
    },
    kvmsg::KeyValue,
};

/// How long an active server waits until its peer has an update on disk before it goes on alone, in nanoseconds. Clients
/// that ask for a snapshot meanwhile wait, too, and must not turn to the peer.
pub const PEER_PATIENCE_NS: u64 = HEARTBEAT_NS;

/// One of a pair.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) star: Star,
    /// How new the peer's state is, as it said last.
    pub(super) peer_state: Freshness,
    /// Whether the peer has, on disk, all that is published.
    pub(super) together: bool,
    pub(super) follow: Follow,
    pub(super) pending: Pending,
    /// Until when an active server accepts nothing, for a primary that wants to be active again.
    pub(super) yields_until_ns: Option<u64>,
    /// Whether the world was told last that both servers have what is published.
    was_in_step: bool,
}

impl Pair {
    pub(super) fn new(star: Star) -> Self {
        Self {
            star,
            peer_state: Freshness::default(),
            together: false,
            follow: Follow::default(),
            pending: Pending::default(),
            yields_until_ns: None,
            was_in_step: false,
        }
    }
}

impl<C: Copy + PartialEq> Machine<C> {
    /// Takes what the peer tells.
    ///
    /// # Errors
    /// That the two servers can't go on together.
    pub fn on_peer(&mut self, tidings: &Tidings<'_>, now: Now) -> Result<(), Fatal> {
        let own = self.freshness();
        let Some(pair) = &mut self.pair else {
            return Ok(());
        };
        if tidings.state.is_some() {
            let (counts, is_new) = pair.star.on_rounds(tidings.rounds.0, tidings.rounds.1);
            if is_new {
                self.tell(now);
            }
            if !counts {
                return Ok(());
            }
        }
        let Some(pair) = &mut self.pair else {
            return Ok(());
        };
        // Nothing is known of a Guide's server: it is taken for as new.
        let peer_state = tidings.state.unwrap_or(own);
        pair.peer_state = peer_state;
        let change = pair.star.on_peer(tidings.role, peer_state, own, now.ns)?;
        let has_all =
            tidings.role == Role::Passive && tidings.current && peer_state.epoch == own.epoch;
        pair.together = has_all && (pair.together || peer_state.sequence >= self.published);
        if let Some(change) = change {
            self.change_role(change, now);
        }
        match self.role() {
            Role::Passive => self.follow(tidings, now),
            Role::Active => self.perhaps_step_back(tidings, now),
            Role::Primary | Role::Backup => {}
        }
        Ok(())
    }

    /// Leaves the active role to a primary that wants it back and has all there is.
    fn perhaps_step_back(&mut self, tidings: &Tidings<'_>, now: Now) {
        let own = self.freshness();
        let Some(pair) = &mut self.pair else { return };
        let has_all =
            tidings.role == Role::Passive && tidings.current && tidings.state == Some(own);
        if !tidings.preempts || !tidings.current {
            return;
        }
        // Or it would never have all under load. What comes meanwhile is kept.
        pair.yields_until_ns.get_or_insert(now.ns + PEER_EXPIRY_NS);
        if has_all && self.unpublished.is_empty() {
            let change = pair.star.start_over(now.ns);
            self.change_role(change, now);
        }
    }

    pub(super) fn change_role(&mut self, change: Change, now: Now) {
        self.requests.forget_all();
        // What was not published is in the state; who knows the sequence before it sees a gap.
        self.unpublished.clear();
        self.passed_on.clear();
        self.published = self.state.sequence();
        if let Some(pair) = &mut self.pair {
            pair.yields_until_ns = None;
            pair.together = false;
            pair.was_in_step = false;
        }
        let peer_epoch = self.pair.as_ref().map_or(0, |pair| pair.peer_state.epoch);
        match change {
            Change::BecameActive => {
                self.epoch = self.epoch.max(peer_epoch).saturating_add(1);
                self.note_changed();
                self.make_pending(now);
            }
            Change::BecamePassive => {
                if let Some(pair) = &mut self.pair {
                    pair.follow.start(now.ns);
                }
                self.outputs.push_back(Output::AskPeer);
            }
            Change::StartedOver => {}
        }
        self.outputs.push_back(Output::Role(self.role()));
        self.heartbeat_due_ns = now.ns;
        self.tell(now);
    }

    /// Makes the updates that clients sent and the former active server never told of.
    pub(super) fn make_pending(&mut self, now: Now) {
        let Some(pair) = &mut self.pair else { return };
        for update in pair.pending.take() {
            // What was checked when it came; its time to live begins now.
            let _ = self.on_update(update.message(), now);
        }
    }

    /// Tells the peer of the role and the state on disk.
    pub(super) fn tell(&mut self, now: Now) {
        let sequence = self.committed;
        let Some(pair) = &mut self.pair else { return };
        let current = pair.follow.is_current() && pair.star.role() == Role::Passive;
        pair.star.on_sent(now.ns);
        self.outputs.push_back(Output::Tell {
            role: pair.star.role(),
            state: Freshness {
                epoch: self.epoch,
                sequence,
            },
            rounds: pair.star.rounds(),
            current,
            preempts: pair.star.preempts(),
            update: None,
        });
    }

    /// Tells whether the two servers are in step, where that has changed.
    pub(super) fn tell_step(&mut self) {
        let (role, in_step) = (self.role(), self.is_in_step());
        let Some(pair) = &mut self.pair else { return };
        if std::mem::replace(&mut pair.was_in_step, in_step) == in_step {
            return;
        }
        if role == Role::Active && !in_step {
            self.counters.left_behind += 1;
        }
        self.outputs.push_back(Output::Step { role, in_step });
    }

    /// Keeps an update until the active server tells of it.
    pub(super) fn keep(&mut self, message: KeyValue<'_>, now: Now) {
        let Some(pair) = &mut self.pair else { return };
        let Some(uuid) = message.uuid else {
            self.counters.without_uuid += 1;
            return;
        };
        if self.state.recent(&uuid).is_some() {
            self.counters.duplicate += 1;
        } else if pair.pending.keep(uuid, Update::new(&message, None), now.ns) {
            self.counters.pending += 1;
        } else {
            self.counters.duplicate += 1;
        }
        self.counters.pending_dropped += pair.pending.take_dropped();
    }
}
