//! Which topic follows which: the places of topics in their order, so that all under a prefix stand together.
//!
//! Two levels: runs of up to [`RUN_PLACES_MAX`] places, in a list of runs. A search halves the list, then a
//! run; an insertion moves part of one run, and part of the list where a run is split. A balanced tree would
//! hold pointers beside its places, and std's holds its own keys; here a place is four bytes. What a place
//! stands for is asked of the caller.

/// The most places of a run.
const RUN_PLACES_MAX: usize = 512;

/// Places of topics, in the topics' order.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// None is empty.
    runs: Vec<Vec<u32>>,
}

/// A position between two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    run: usize,
    at: usize,
}

impl Order {
    /// Finds the position before the first place that does not satisfy `is_before`, which holds for all
    /// places in front of some position and for none behind it.
    pub(super) fn position(&self, mut is_before: impl FnMut(u32) -> bool) -> Position {
        // The run whose first place is the last first place in front.
        let following = self.runs.partition_point(|run| is_before(run[0]));
        let Some(run) = following.checked_sub(1) else {
            return Position { run: 0, at: 0 };
        };
        let at = self.runs[run].partition_point(|&place| is_before(place));
        Position { run, at }
    }

    /// Puts a place at a position.
    pub(super) fn insert(&mut self, position: Position, place: u32) {
        let Position { run, at } = position;
        if self.runs.is_empty() {
            self.runs.push(vec![place]);
            return;
        }
        let places = &mut self.runs[run];
        if places.len() < RUN_PLACES_MAX {
            places.insert(at, place);
            return;
        }
        // Topics that come in order fill their runs.
        let is_last = run + 1 == self.runs.len() && at == RUN_PLACES_MAX;
        let places = &mut self.runs[run];
        let middle = if is_last { at } else { RUN_PLACES_MAX / 2 };
        let mut behind = places.split_off(middle);
        if at < middle {
            places.insert(at, place);
        } else {
            behind.insert(at - middle, place);
        }
        self.runs.insert(run + 1, behind);
    }

    /// Removes the place behind a position.
    pub(super) fn remove(&mut self, position: Position) {
        let Position { mut run, mut at } = position;
        if at == self.runs[run].len() {
            (run, at) = (run + 1, 0);
        }
        self.runs[run].remove(at);
        if self.runs[run].is_empty() {
            self.runs.remove(run);
        }
    }

    /// Returns the places behind a position, in order.
    pub(super) fn behind(&self, position: Position) -> impl Iterator<Item = u32> {
        let first = self.runs.get(position.run);
        let first = first.map_or(&[][..], |run| &run[position.at..]);
        let others = self.runs.iter().skip(position.run + 1);
        first.iter().chain(others.flatten()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a sorted list, each place standing for itself.
        #[test]
        fn places_stand_in_order(changes in prop::collection::vec((0_u32..4_000, any::<bool>()), 0..6_000)) {
            let mut order = Order::default();
            let mut model = std::collections::BTreeSet::new();
            for (place, is_wanted) in changes {
                let position = order.position(|one| one < place);
                let found = order.behind(position).next() == Some(place);
                prop_assert_eq!(found, model.contains(&place));
                match (found, is_wanted) {
                    (false, true) => order.insert(position, place),
                    (true, false) => order.remove(position),
                    _ => continue,
                }
                if is_wanted { model.insert(place); } else { model.remove(&place); }
            }
            for from in [0, 1, 2_000, 3_999] {
                let position = order.position(|one| one < from);
                prop_assert!(order.behind(position).eq(model.range(from..).copied()));
            }
        }
    }

    #[test]
    fn places_in_order_fill_their_runs() {
        let mut order = Order::default();
        for place in 0..10 * RUN_PLACES_MAX as u32 {
            let position = order.position(|one| one < place);
            order.insert(position, place);
        }
        assert_eq!(order.runs.len(), 10);
    }
}
