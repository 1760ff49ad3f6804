//! The messages of a run, sorted by outlet before they are copied.
//!
//! What a lane does a message is bounded by its stores. Messages of one outlet that are copied together cost a
//! third of them less, since where they go is kept in registers meanwhile. And by what it waits for: so all topics of a
//! run are hashed before the first is looked up, and what will be looked at is on its way from memory by then.

use std::iter;

use crate::handoff::Picked;

/// Short messages that are cut off at once.
pub(super) const RUN_MAX: usize = 32;
/// The outlets that a run can be sorted by: as many as their counts fit into one number.
pub(super) const OUTLETS_MAX: usize = 8;
/// The bits of an outlet's count.
const COUNT_BITS: usize = u64::BITS as usize / OUTLETS_MAX;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

// A count may be that of the whole run, and a place is one byte.
const _: () = assert!(RUN_MAX as u64 <= COUNT_MASK && RUN_MAX <= 1 << u8::BITS);

/// The places of messages in their run, by outlet and in order, and the hashes of their topics.
///
/// It is kept from run to run, because to clear it would be more stores.
pub(super) struct Sorter {
    hashes: [u64; RUN_MAX],
    places: [[u8; RUN_MAX]; OUTLETS_MAX],
}

/// Where a message goes.
pub(super) enum Destination {
    /// This outlet.
    Outlet(usize),
    /// None: it is a copy of another one.
    Nowhere,
    /// It needs a closer look to tell.
    Unknown,
}

/// How many messages were sorted, and for which outlets.
#[derive(Clone, Copy, Default)]
pub(super) struct Sorted {
    pub messages: usize,
    /// By outlet, the first in the lowest bits: in a register, since in memory each would wait for the one before.
    counts: u64,
}

impl Sorter {
    pub(super) fn new() -> Self {
        Self {
            hashes: [0; RUN_MAX],
            places: [[0; RUN_MAX]; OUTLETS_MAX],
        }
    }

    /// Takes note of the hashes that topics have, of [`RUN_MAX`] messages at most, up to one that can't be read. Returns
    /// those before it. `fetch` is to have fetched what will be looked up for a hash.
    #[inline(always)]
    pub(super) fn hash<'a, M>(
        &mut self,
        messages: &'a [M],
        hash_of: impl FnMut(&M) -> Option<u64>,
        fetch: impl Fn(u64),
    ) -> &'a [M] {
        let mut count = 0;
        for (kept, hash) in iter::zip(&mut self.hashes, messages.iter().map_while(hash_of)) {
            fetch(hash);
            *kept = hash;
            count += 1;
        }
        &messages[..count]
    }

    /// Sorts [hashed](Self::hash) messages, up to one that it is unknown of where it goes.
    #[inline(always)]
    pub(super) fn sort<M>(
        &mut self,
        messages: &[M],
        mut find: impl FnMut(&M, u64) -> Destination,
    ) -> Sorted {
        let mut sorted = Sorted::default();
        for (message, &hash) in messages.iter().zip(&self.hashes) {
            match find(message, hash) {
                Destination::Outlet(outlet) => {
                    // Both are below that: so that nothing has to be checked.
                    let outlet = outlet % OUTLETS_MAX;
                    let count = sorted.count(outlet) % RUN_MAX;
                    self.places[outlet][count] = sorted.messages as u8;
                    sorted.counts += 1 << (outlet * COUNT_BITS);
                }
                Destination::Nowhere => {}
                Destination::Unknown => break,
            }
            sorted.messages += 1;
        }
        sorted
    }

    /// The outlets that messages were sorted to, each with its messages.
    #[inline]
    pub(super) fn by_outlet(&self, sorted: Sorted) -> impl Iterator<Item = (usize, Picked<'_>)> {
        let places = self.places.iter().enumerate();
        places
            .map(move |(outlet, places)| {
                let places = &places[..sorted.count(outlet).min(RUN_MAX)];
                let hashes = &self.hashes;
                (outlet, Picked { places, hashes })
            })
            .filter(|(_, picked)| !picked.places.is_empty())
    }
}

impl Sorted {
    #[inline(always)]
    fn count(self, outlet: usize) -> usize {
        (self.counts >> (outlet * COUNT_BITS) & COUNT_MASK) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Message {
        hash: u64,
        is_readable: bool,
        outlet: Option<usize>,
    }

    /// Messages, and how many of them it is known of where they go.
    fn run() -> impl Strategy<Value = (Vec<Message>, usize)> {
        let outlet = proptest::option::of(0..OUTLETS_MAX);
        let message = (any::<u64>(), proptest::bool::weighted(0.98), outlet);
        let message = message.prop_map(|(hash, is_readable, outlet)| Message {
            hash,
            is_readable,
            outlet,
        });
        (proptest::collection::vec(message, 0..40), 0_usize..40)
    }

    proptest! {
        #[test]
        fn each_has_its_place_in_order(runs in proptest::collection::vec(run(), 1..4)) {
            // One for all: what it keeps of a run must not show in the next.
            let mut sorter = Sorter::new();
            for (messages, end) in runs {
                let fetched = RefCell::new(Vec::new());
                let hash_of = |message: &Message| message.is_readable.then_some(message.hash);
                let hashed = sorter.hash(&messages, hash_of, |hash| fetched.borrow_mut().push(hash));
                let readable = messages.iter().take(RUN_MAX).take_while(|one| one.is_readable);
                let hashes: Vec<u64> = readable.map(|message| message.hash).collect();
                prop_assert_eq!(hashed.len(), hashes.len());
                prop_assert_eq!(fetched.into_inner(), hashes);
                let mut left = end;
                let sorted = sorter.sort(hashed, |message, hash| {
                    assert_eq!(hash, message.hash);
                    match message.outlet {
                        _ if left == 0 => return Destination::Unknown,
                        _ => left -= 1,
                    }
                    message.outlet.map_or(Destination::Nowhere, Destination::Outlet)
                });
                prop_assert_eq!(sorted.messages, hashed.len().min(end));
                let mut seen = [false; RUN_MAX];
                for (outlet, picked) in sorter.by_outlet(sorted) {
                    prop_assert!(picked.places.is_sorted());
                    for (place, hash) in picked.iter() {
                        prop_assert_eq!(messages[place].outlet, Some(outlet));
                        prop_assert_eq!(hash, messages[place].hash);
                        prop_assert!(!std::mem::replace(&mut seen[place], true));
                    }
                }
                for (seen, message) in iter::zip(seen, &messages[..sorted.messages]) {
                    prop_assert_eq!(seen, message.outlet.is_some());
                }
            }
        }
    }
}
