//! An outlet whose batches stay with the lane: of messages that their worker may not have yet, while their
//! shards move to it. To those who fill it it is like any other, down to what its policy gives up.

use std::collections::VecDeque;

use crate::handoff::{Batch, HandoffLimits, Waiting};

/// Of this many batches of a handoff, one more is held where a shard moves.
const BATCHES_OF: usize = 4;

/// Returns how many batches an outlet has at most, beside a handoff of so many.
#[must_use]
pub(crate) fn batches(of_handoff: usize) -> usize {
    // One to be filled, one that is full.
    (of_handoff / BATCHES_OF).max(2)
}

/// A lane's end, and its only one. It has no batches, and takes no memory, before it is set up.
#[derive(Debug)]
#[expect(clippy::vec_box, reason = "they travel in their boxes")]
pub struct Outlet {
    limits: HandoffLimits,
    spares: Vec<Box<Batch>>,
    filled: VecDeque<Box<Batch>>,
    is_set_up: bool,
}

impl Outlet {
    /// Makes one for handoffs of these limits.
    #[must_use]
    pub fn new(limits: HandoffLimits) -> Self {
        Self {
            limits,
            spares: Vec::new(),
            filled: VecDeque::new(),
            is_set_up: false,
        }
    }

    /// Makes its batches, if there are none yet.
    pub(crate) fn set_up(&mut self) {
        if !self.is_set_up {
            let batches = (0..batches(self.limits.batches))
                .map(|_| Box::new(Batch::new(self.limits.batch, 0, 0)));
            self.spares.extend(batches);
            self.is_set_up = true;
        }
    }

    /// Takes an empty batch, or `None` where all are filled.
    pub(super) fn spare(&mut self) -> Option<Box<Batch>> {
        self.spares.pop()
    }

    /// Keeps a batch with messages.
    pub(super) fn send(&mut self, batch: Box<Batch>) {
        self.filled.push_back(batch);
    }

    /// Takes batches with messages, the oldest first.
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    pub(super) fn take_back(&mut self, which: Waiting, into: &mut Vec<Box<Batch>>) {
        let taken = which.among(self.filled.len());
        into.extend(self.filled.drain(taken));
    }

    /// Keeps a batch, emptied, as a spare.
    pub(super) fn keep(&mut self, mut batch: Box<Batch>) {
        batch.clear();
        self.spares.push(batch);
    }

    /// Tells whether there are no messages.
    pub(super) fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// Moves what the oldest batch holds, if there is one, to an empty one of another outlet.
    pub(crate) fn move_oldest(&mut self, empty: &mut Batch) {
        if let Some(mut batch) = self.filled.pop_front() {
            empty.swap_contents(&mut batch);
            // What one that was given up for this had to tell.
            empty.note_all(batch.notes());
            self.keep(batch);
        }
    }
}
