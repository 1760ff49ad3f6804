//! What servers publish: held while a snapshot is wanted, made when there is none to wait for.

use crate::patterns::{
    clone::{
        Now,
        client::{Machine, TooLarge, seeking::Phase},
        state::Update,
    },
    kvmsg::{HUGZ, KeyValue},
};

impl Machine {
    /// Takes what a server publishes.
    ///
    /// # Errors
    /// [`TooLarge`]; the client can't go on. What is malformed is counted.
    pub fn on_published(
        &mut self,
        server: usize,
        frames: &[&[u8]],
        now: Now,
    ) -> Result<(), TooLarge> {
        self.servers[server].heard_ns = Some(now.ns);
        self.listening_ns = now.ns;
        let heard = self.take_published(server, frames, now);
        // Whoever publishes may be asked; when the turn ends, so that nothing of an earlier answer is taken for
        // this one's.
        self.may_be_due |=
            matches!(&self.phase, Phase::Seeking(seeking) if seeking.asked_ns.is_none());
        heard
    }

    fn take_published(
        &mut self,
        server: usize,
        frames: &[&[u8]],
        now: Now,
    ) -> Result<(), TooLarge> {
        if server != self.current {
            let is_idle =
                matches!(&self.phase, Phase::Seeking(seeking) if seeking.heard_ns.is_none());
            if !is_idle || self.servers[self.current].publishes(now) {
                return Ok(());
            }
            self.turn_to(server, now);
        }
        let message = match KeyValue::decode(frames) {
            Ok(message) => message,
            Err(_) => {
                self.counters.malformed += 1;
                return Ok(());
            }
        };
        self.heard_ns = now.ns;
        if message.key == HUGZ {
            self.on_heartbeat(message.sequence, now);
            return Ok(());
        }
        self.counters.published += 1;
        self.subscription.heard = message.sequence;
        self.note_seen(&message);
        if !message.key.starts_with(&self.wishes.subtree) {
            return Ok(());
        }
        let is_whole = self.wishes.subtree.is_empty();
        let update = Update::new(&message, None);
        match &mut self.phase {
            Phase::Seeking(seeking) => {
                let subscription = &mut self.subscription;
                let missed = subscription
                    .last
                    .is_none_or(|last| is_whole && message.sequence.saturating_sub(1) > last);
                if missed {
                    subscription.floor = subscription.floor.max(message.sequence.saturating_sub(1));
                }
                if subscription.last.is_none_or(|last| message.sequence > last) {
                    subscription.last = Some(message.sequence);
                    seeking.held.hold(update);
                    let held = &seeking.held;
                    self.wishes.check(held.by_key.len(), held.bytes)?;
                }
            }
            Phase::Ready if message.sequence <= self.sequence => self.counters.stale += 1,
            Phase::Ready if is_whole && message.sequence.saturating_sub(1) > self.sequence => {
                self.counters.gaps += 1;
                self.subscription.held_after(message.sequence);
                self.seek(now);
            }
            Phase::Ready => {
                self.sequence = message.sequence;
                self.set(update);
                self.check_limits()?;
            }
        }
        Ok(())
    }

    fn on_heartbeat(&mut self, sequence: u64, now: Now) {
        let is_first = !std::mem::replace(&mut self.subscription.is_proven, true);
        if sequence == 0 {
            // The Guide's servers in C give no number, and nothing comes before the first update. A server that
            // starts over hangs up.
            return;
        }
        let heard = std::mem::replace(&mut self.subscription.heard, sequence);
        let is_whole = self.wishes.subtree.is_empty();
        match &self.phase {
            Phase::Seeking(_) => {
                let missed = self
                    .subscription
                    .last
                    .is_none_or(|last| is_whole && sequence > last);
                if is_first || missed {
                    self.subscription.floor = self.subscription.floor.max(sequence);
                    let last = self.subscription.last.unwrap_or(0);
                    self.subscription.last = Some(last.max(sequence));
                }
            }
            Phase::Ready if sequence < heard => {
                self.counters.backwards += 1;
                self.subscription.held_after(sequence);
                self.seek(now);
            }
            Phase::Ready if sequence > self.sequence && (is_whole || is_first) => {
                self.counters.gaps += 1;
                self.subscription.held_after(sequence);
                self.seek(now);
            }
            Phase::Ready => {}
        }
    }
}
