//! Updates that a passive server has from clients, and not from the active one yet.
//!
//! When it becomes active it makes them, oldest first. One that the active server tells of is forgotten, and so are
//! older ones of the same key: had they reached the active server they would come as well, and if not their clients
//! send them again. Both the number and the age of what is kept are bounded.

use std::collections::{BTreeMap, HashMap};

use crate::patterns::{
    clone::{
        RESEND_FOR_NS,
        state::{Key, Update},
    },
    kvmsg::Uuid,
};

/// The most updates that are kept.
const PENDING_MAX: usize = 65_536;
/// The most bytes that they take.
const PENDING_BYTES_MAX: usize = 256 << 20;

#[derive(Debug)]
struct Held {
    uuid: Uuid,
    update: Update,
    since_ns: u64,
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Pending {
    by_order: BTreeMap<u64, Held>,
    by_uuid: HashMap<Uuid, u64>,
    by_key: HashMap<Key, Vec<u64>>,
    next: u64,
    bytes: usize,
    dropped: u64,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.by_order.len()
    }

    /// Keeps an update; false if it is there already. Older ones make room, and count as dropped.
    pub(super) fn keep(&mut self, uuid: Uuid, update: Update, now_ns: u64) -> bool {
        if self.by_uuid.contains_key(&uuid) {
            return false;
        }
        let order = self.next;
        self.next += 1;
        self.bytes += update.bytes();
        self.by_uuid.insert(uuid, order);
        self.by_key
            .entry(update.key.clone())
            .or_default()
            .push(order);
        let since_ns = now_ns;
        self.by_order.insert(
            order,
            Held {
                uuid,
                update,
                since_ns,
            },
        );
        while self.len() > PENDING_MAX || self.bytes > PENDING_BYTES_MAX {
            self.drop_oldest();
        }
        true
    }

    fn drop_oldest(&mut self) {
        if let Some((&order, _)) = self.by_order.first_key_value() {
            self.remove(order);
            self.dropped += 1;
        }
    }

    fn remove(&mut self, order: u64) {
        let Some(held) = self.by_order.remove(&order) else {
            return;
        };
        self.bytes -= held.update.bytes();
        self.by_uuid.remove(&held.uuid);
        if let Some(orders) = self.by_key.get_mut(&held.update.key) {
            orders.retain(|one| *one != order);
            if orders.is_empty() {
                self.by_key.remove(&held.update.key);
            }
        }
    }

    /// Returns how many were dropped since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Forgets what the active server has told of.
    pub(super) fn settle(&mut self, update: &Update) {
        if let Some(uuid) = update.value.uuid
            && let Some(&order) = self.by_uuid.get(&uuid)
        {
            let of_key = self.by_key.get(&update.key).cloned().unwrap_or_default();
            for older in of_key.into_iter().filter(|one| *one <= order) {
                self.remove(older);
            }
            return;
        }
        // It overtook what clients sent here; all of the key that came before it is older.
        for older in self.by_key.get(&update.key).cloned().unwrap_or_default() {
            self.remove(older);
        }
    }

    /// Forgets what has waited for longer than clients send it again, and returns how many that were.
    pub(super) fn forget_old(&mut self, now_ns: u64) -> u64 {
        while let Some((_, oldest)) = self.by_order.first_key_value()
            && now_ns >= oldest.since_ns + RESEND_FOR_NS
        {
            self.drop_oldest();
        }
        self.take_dropped()
    }

    /// Returns all, oldest first, and keeps none.
    pub(super) fn take(&mut self) -> Vec<Update> {
        let taken = std::mem::take(self);
        taken
            .by_order
            .into_values()
            .map(|held| held.update)
            .collect()
    }
}
