//! A snapshot: gathered as it comes, and taken up when it is whole, with what was held meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use crate::patterns::{
    clone::{
        Now,
        client::{
            Machine, Output, TooLarge,
            seeking::{Phase, Seeking},
        },
        state::{Key, Update, Value},
    },
    kvmsg::{KTHXBAI, KeyValue},
};

impl Machine {
    /// Takes a part of a server's snapshot.
    ///
    /// # Errors
    /// [`TooLarge`]; the client can't go on.
    pub fn on_snapshot(
        &mut self,
        server: usize,
        frames: &[&[u8]],
        now: Now,
    ) -> Result<(), TooLarge> {
        let Phase::Seeking(seeking) = &mut self.phase else {
            return Ok(());
        };
        if server != self.current || seeking.asked_ns.is_none() {
            return Ok(());
        }
        let message = match KeyValue::decode(frames) {
            Ok(message) => message,
            Err(_) => {
                self.counters.malformed += 1;
                return Ok(());
            }
        };
        seeking.heard_ns = Some(now.ns);
        if message.key == KTHXBAI {
            self.on_whole(message.sequence, now);
            return self.check_limits();
        }
        if !message.key.is_empty() && !message.body.is_empty() {
            seeking.gathered.set(Update::new(&message, None));
            let gathered = &seeking.gathered;
            self.wishes.check(gathered.by_key.len(), gathered.bytes)?;
        }
        Ok(())
    }

    /// Takes up the state of a snapshot that is whole.
    fn on_whole(&mut self, sequence: u64, now: Now) {
        if sequence < self.subscription.floor
            && let Phase::Seeking(seeking) = &mut self.phase
        {
            // It is from before something that was missed; what is held goes with the next one.
            self.counters.gaps += 1;
            *seeking = Seeking {
                since_ns: now.ns,
                held: std::mem::take(&mut seeking.held),
                ..Seeking::default()
            };
            self.on_time(now);
            return;
        }
        let ready = std::mem::replace(&mut self.phase, Phase::Ready);
        let Phase::Seeking(seeking) = ready else {
            return;
        };
        self.counters.snapshots += 1;
        self.heard_ns = now.ns;
        let mut held: Vec<_> = seeking.held.by_key.into_iter().collect();
        held.retain(|(_, value)| value.sequence > sequence);
        held.sort_unstable_by_key(|(_, value)| value.sequence);
        for (key, value) in &seeking.gathered.by_key {
            let update = Update {
                key: key.clone(),
                value: value.clone(),
            };
            self.note_seen(&update.message());
        }
        self.sequence = sequence;
        let before = std::mem::replace(&mut self.values, seeking.gathered);
        self.tell_difference(before.by_key);
        for (key, value) in held {
            self.sequence = value.sequence;
            self.set(Update { key, value });
        }
        self.outputs.push_back(Output::Synchronised {
            server: self.current,
            sequence: self.sequence,
        });
    }

    /// Tells what a snapshot changed.
    fn tell_difference(&mut self, before: BTreeMap<Key, Arc<Value>>) {
        for (key, value) in before
            .iter()
            .filter(|(key, _)| !self.values.by_key.contains_key(*key))
        {
            let gone = Value {
                body: Box::default(),
                uuid: None,
                sequence: self.sequence,
                ..(**value).clone()
            };
            self.outputs.push_back(Output::Changed(Update {
                key: key.clone(),
                value: Arc::new(gone),
            }));
        }
        for (key, value) in &self.values.by_key {
            let same = before.get(key).is_some_and(|old| {
                old.body == value.body && old.uuid == value.uuid && old.sequence == value.sequence
            });
            if !same {
                self.outputs.push_back(Output::Changed(Update {
                    key: key.clone(),
                    value: value.clone(),
                }));
            }
        }
    }
}
