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

    /// Takes note of the hashes that the first messages' topics have, up to a message that can't be read. Returns those
    /// before it.
    ///
    /// `hash_of` is to have fetched what will be looked up for the topic.
    #[inline(always)]
    pub(super) fn hash<'a, M>(
        &mut self,
        messages: &'a [M],
        mut hash_of: impl FnMut(&M) -> Option<u64>,
    ) -> &'a [M] {
        let mut count = 0;
        for (kept, hash) in iter::zip(&mut self.hashes, messages.iter().map_while(&mut hash_of)) {
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_has_its_place_in_order(
            outlets in proptest::collection::vec(proptest::option::of(0..OUTLETS_MAX), 0..40),
            known in 0_usize..40,
            end in 0_usize..40,
        ) {
            let mut sorter = Sorter::new();
            let mut next = 0;
            let hashed = sorter.hash(&outlets, |_| {
                next += 1;
                (next <= known).then_some(next as u64)
            });
            let mut next = 0;
            let sorted = sorter.sort(hashed, |&outlet, hash| {
                next += 1;
                assert_eq!(hash, next as u64);
                match outlet {
                    _ if next > end => Destination::Unknown,
                    Some(outlet) => Destination::Outlet(outlet),
                    None => Destination::Nowhere,
                }
            });
            prop_assert_eq!(hashed.len(), outlets.len().min(known).min(RUN_MAX));
            prop_assert_eq!(sorted.messages, hashed.len().min(end));
            let mut seen = [false; RUN_MAX];
            for (outlet, picked) in sorter.by_outlet(sorted) {
                prop_assert!(picked.places.is_sorted());
                for (place, hash) in picked.iter() {
                    prop_assert_eq!(outlets[place], Some(outlet));
                    prop_assert_eq!(hash, place as u64 + 1);
                    prop_assert!(!std::mem::replace(&mut seen[place], true));
                }
            }
            for (seen, outlet) in seen.iter().zip(&outlets[..sorted.messages]) {
                prop_assert_eq!(*seen, outlet.is_some());
            }
        }
    }
}
