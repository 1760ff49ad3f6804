//! How a passive server follows the active one: a snapshot first, then each update as it is passed on.
//!
//! A gap in the sequence, or a heartbeat that is ahead, means that something was lost: then it takes a snapshot again.
//! What it holds meanwhile is bounded.

use crate::patterns::{
    binary_star::{Freshness, HEARTBEAT_NS, wire::Tidings},
    clone::{
        Now,
        server::Machine,
        state::{State, Update},
    },
    kvmsg::{KTHXBAI, KeyValue, Malformed, Uuid, ttl},
};

/// The most bytes of updates that are held while a snapshot comes.
const HELD_BYTES_MAX: usize = 256 << 20;

#[derive(Debug, Default)]
pub(super) struct Follow {
    is_current: bool,
    /// What has come of a snapshot: values, and uuids of recent updates.
    gathered: Vec<Update>,
    recent: Vec<(u64, Uuid)>,
    /// Updates passed on since it was asked for.
    held: Vec<Update>,
    held_bytes: usize,
    /// When something of it came last.
    heard_ns: u64,
    has_failed: bool,
}

impl Follow {
    pub(super) fn is_current(&self) -> bool {
        self.is_current
    }

    /// Starts over, with a snapshot that is asked for.
    pub(super) fn start(&mut self, now_ns: u64) {
        *self = Self {
            heard_ns: now_ns,
            ..Self::default()
        };
    }

    /// Tells whether a snapshot has to be asked for, and takes it for done.
    pub(super) fn should_ask(&mut self, now_ns: u64) -> bool {
        let should =
            !self.is_current && (self.has_failed || now_ns >= self.heard_ns + HEARTBEAT_NS);
        if should {
            self.start(now_ns);
        }
        should
    }

    fn fail(&mut self) {
        self.is_current = false;
        self.has_failed = true;
    }
}

impl<C: Copy + PartialEq> Machine<C> {
    /// Takes what the active server tells of its state.
    pub(super) fn follow(&mut self, tidings: &Tidings<'_>, now: Now) {
        let own_sequence = self.state.sequence();
        let own_epoch = self.epoch;
        let Some(pair) = &mut self.pair else { return };
        let follow = &mut pair.follow;
        let Some(Freshness { epoch, sequence }) = tidings.state else {
            return;
        };
        let Some(message) = &tidings.update else {
            // Updates are passed on before a heartbeat that counts them.
            if follow.is_current && (sequence > own_sequence || epoch != own_epoch) {
                follow.fail();
            }
            return;
        };
        let expires_ns = ttl(message.properties).ok().flatten();
        let expires_ns = expires_ns.filter(|_| !message.body.is_empty());
        let expires_ns = expires_ns.map(|ttl| now.ns + ttl.as_nanos() as u64);
        let update = Update::new(message, expires_ns);
        pair.pending.settle(&update);
        if !follow.is_current {
            follow.held_bytes += update.bytes();
            follow.held.push(update);
            if follow.held_bytes > HELD_BYTES_MAX {
                follow.fail();
                follow.held.clear();
            }
        } else if epoch != own_epoch || message.sequence.saturating_sub(1) > own_sequence {
            follow.fail();
        } else if message.sequence > own_sequence {
            self.make(&update);
        }
    }

    /// Takes a part of the peer's snapshot.
    ///
    /// # Errors
    /// That it is no key-value message. The snapshot is asked for again.
    pub fn on_peer_snapshot(&mut self, frames: &[&[u8]], now: Now) -> Result<(), Malformed> {
        let Some(pair) = &mut self.pair else {
            return Ok(());
        };
        let follow = &mut pair.follow;
        if follow.is_current || follow.has_failed {
            return Ok(());
        }
        follow.heard_ns = now.ns;
        let message = KeyValue::decode(frames).inspect_err(|_| follow.fail())?;
        if message.key == KTHXBAI {
            self.install(message.sequence);
        } else if message.key.is_empty() {
            follow
                .recent
                .extend(message.uuid.map(|uuid| (message.sequence, uuid)));
        } else {
            let ttl = ttl(message.properties).ok().flatten();
            let expires_ns = ttl.map(|ttl| now.ns + ttl.as_nanos() as u64);
            follow.gathered.push(Update::new(&message, expires_ns));
        }
        Ok(())
    }

    /// Puts the peer's state, at a sequence, in place of the own.
    fn install(&mut self, sequence: u64) {
        let Some(pair) = &mut self.pair else { return };
        let held = std::mem::take(&mut pair.follow.held);
        let held = held
            .into_iter()
            .filter(|update| update.value.sequence > sequence);
        let held: Vec<Update> = held.collect();
        let numbers = held.iter().map(|update| update.value.sequence);
        // What is held is beyond the snapshot's sequence.
        if !numbers
            .zip(1..)
            .all(|(found, place)| found - sequence == place)
        {
            pair.follow.fail();
            return;
        }
        let gathered = std::mem::take(&mut pair.follow.gathered);
        let recent = std::mem::take(&mut pair.follow.recent);
        pair.follow.is_current = true;
        self.epoch = pair.peer_state.epoch;
        self.state = State::default();
        for update in &gathered {
            self.state.insert(update);
            pair.pending.settle(update);
        }
        for &(sequence, uuid) in &recent {
            self.state.remember(sequence, uuid);
        }
        self.state.set_sequence(sequence);
        self.changes.replaces = true;
        self.changes.updates = gathered;
        self.changes.recent = recent;
        self.note_changed();
        for update in &held {
            self.make(update);
        }
        // Even if the sequence is what it was.
        self.owes_word = true;
    }
}
