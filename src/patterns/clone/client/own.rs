//! A client's own updates, until it knows what became of them.

use std::collections::{BTreeMap, HashMap};

use crate::patterns::{
    binary_star::HEARTBEAT_NS,
    clone::{
        RESEND_FOR_NS,
        state::{Key, Update},
    },
    kvmsg::{KeyValue, Uuid},
};

/// The most updates of a client's own that are under way.
const OWN_MAX: usize = 16_384;
/// After how long an update is sent again, in nanoseconds.
const RESEND_AFTER_NS: u64 = HEARTBEAT_NS;

/// Too many of a client's own updates are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{OWN_MAX} updates of this client are not published yet; wait until some are")]
pub struct TooManyOwn;

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server published it, or has it in its state, with this sequence.
    Published(u64),
    /// It was not heard of, and a newer one of the same key is under way or published: it may have been made before that.
    Superseded,
    /// It was not heard of for [`RESEND_FOR_NS`]: whether it was made is not known.
    GivenUp,
}

#[derive(Debug)]
struct One {
    uuid: Uuid,
    update: Update,
    since_ns: u64,
    sent_ns: u64,
}

/// Updates in the order that they were made.
#[derive(Debug, Default)]
pub(super) struct Own {
    by_order: BTreeMap<u64, One>,
    by_uuid: HashMap<Uuid, u64>,
    /// The newest of each key, published or not, as long as any of the key is under way.
    newest: HashMap<Key, (u64, usize)>,
    next: u64,
}

impl Own {
    pub(super) fn len(&self) -> usize {
        self.by_order.len()
    }

    pub(super) fn add(
        &mut self,
        uuid: Uuid,
        update: Update,
        now_ns: u64,
    ) -> Result<(), TooManyOwn> {
        if self.len() == OWN_MAX {
            return Err(TooManyOwn);
        }
        let order = self.next;
        self.next += 1;
        self.by_uuid.insert(uuid, order);
        let newest = self.newest.entry(update.key.clone()).or_default();
        *newest = (order, newest.1 + 1);
        let one = One {
            uuid,
            update,
            since_ns: now_ns,
            sent_ns: now_ns,
        };
        self.by_order.insert(order, one);
        Ok(())
    }

    fn remove(&mut self, order: u64) -> Option<One> {
        let one = self.by_order.remove(&order)?;
        self.by_uuid.remove(&one.uuid);
        if let Some((_, count)) = self.newest.get_mut(&one.update.key) {
            *count -= 1;
            if *count == 0 {
                self.newest.remove(&one.update.key);
            }
        }
        Some(one)
    }

    /// Takes out the update that a message is, and returns its uuid. Where servers know no uuids, key and body tell.
    pub(super) fn seen(&mut self, message: &KeyValue<'_>, is_plain: bool) -> Option<Uuid> {
        let order = if is_plain {
            if !self.newest.contains_key(message.key) {
                return None;
            }
            let mut all = self.by_order.iter();
            let same = |one: &One| {
                *one.update.key == *message.key && *one.update.value.body == *message.body
            };
            *all.find(|(_, one)| same(one))?.0
        } else {
            *self.by_uuid.get(&message.uuid?)?
        };
        Some(self.remove(order)?.uuid)
    }

    /// Returns when something is to be sent again or given up.
    pub(super) fn due_ns(&self) -> u64 {
        self.by_order
            .first_key_value()
            .map_or(u64::MAX, |(_, one)| one.sent_ns + RESEND_AFTER_NS)
    }

    /// Returns what is to be sent again, without a fate, and what is over, with one.
    pub(super) fn due(&mut self, now_ns: u64) -> Vec<(Update, Uuid, Option<Fate>)> {
        if self.due_ns() > now_ns {
            return Vec::new();
        }
        let (mut due, mut over) = (Vec::new(), Vec::new());
        for (&order, one) in &mut self.by_order {
            if now_ns < one.sent_ns + RESEND_AFTER_NS {
                continue;
            }
            let newest = self.newest.get(&one.update.key).map(|(newest, _)| *newest);
            let fate = if newest != Some(order) {
                Some(Fate::Superseded)
            } else if now_ns >= one.since_ns + RESEND_FOR_NS {
                Some(Fate::GivenUp)
            } else {
                one.sent_ns = now_ns;
                None
            };
            if fate.is_some() {
                over.push(order);
            }
            due.push((one.update.clone(), one.uuid, fate));
        }
        for order in over {
            self.remove(order);
        }
        due
    }
}
