//! What filled batches wait in for their worker: a ring without locks, or a queue that their lane can
//! take them back from.
//!
//! Policies that make room by giving up what is old need both sides to take, and a lane that conflates
//! has to take all that waits at once: did the worker take a batch from among them, a topic's older
//! message could overtake its newer one. So that queue has a lock, held for a few moves of a pointer;
//! what only ever waits goes by the ring.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicUsize,
            Ordering::{Acquire, Release},
        },
    },
};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::handoff::{Batch, Waiting};

/// A lane's end.
#[derive(Debug)]
pub(super) enum FillEnd {
    Ring(Producer<Box<Batch>>),
    Shared(Arc<Shared>),
}

/// A worker's end.
#[derive(Debug)]
pub(super) enum TakeEnd {
    Ring(Consumer<Box<Batch>>),
    Shared(Arc<Shared>),
}

/// A queue that both sides take from.
#[derive(Debug)]
pub(super) struct Shared {
    batches: Mutex<VecDeque<Box<Batch>>>,
    /// How many there are: a worker that polls need not take the lock.
    waiting: AtomicUsize,
    capacity: usize,
}

/// Makes the two ends of a queue for `capacity` batches. `take_back` is whether its lane can take
/// batches back.
pub(super) fn queue(capacity: usize, take_back: bool) -> (FillEnd, TakeEnd) {
    if take_back {
        let shared = Arc::new(Shared {
            batches: Mutex::new(VecDeque::with_capacity(capacity)),
            waiting: AtomicUsize::new(0),
            capacity,
        });
        (FillEnd::Shared(shared.clone()), TakeEnd::Shared(shared))
    } else {
        let (filled, taken) = RingBuffer::new(capacity);
        (FillEnd::Ring(filled), TakeEnd::Ring(taken))
    }
}

impl FillEnd {
    /// Tells whether no batch waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Ring(ring) => ring.slots() == ring.buffer().capacity(),
            Self::Shared(shared) => shared.waiting.load(Acquire) == 0,
        }
    }

    /// Adds a batch. Returns whether there was room.
    pub(super) fn push(&mut self, batch: Box<Batch>) -> bool {
        match self {
            Self::Ring(ring) => ring.push(batch).is_ok(),
            Self::Shared(shared) => shared.push(batch),
        }
    }

    /// Takes batches that wait back, the oldest first: none from a ring.
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    pub(super) fn take_back(&mut self, which: Waiting, into: &mut Vec<Box<Batch>>) {
        if let Self::Shared(shared) = self {
            shared.take(|count| which.among(count), into);
        }
    }
}

impl TakeEnd {
    /// Takes the oldest batch.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Box<Batch>> {
        match self {
            Self::Ring(ring) => ring.pop().ok(),
            Self::Shared(shared) => shared.pop(),
        }
    }

    /// Takes up to `most` batches, the oldest first: none from a ring.
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    pub(super) fn take(&mut self, most: usize, into: &mut Vec<Box<Batch>>) {
        if let Self::Shared(shared) = self {
            shared.take(|count| 0..most.min(count), into);
        }
    }
}

impl Shared {
    fn push(&self, batch: Box<Batch>) -> bool {
        let mut batches = self.lock();
        let room = batches.len() < self.capacity;
        if room {
            batches.push_back(batch);
            self.waiting.store(batches.len(), Release);
        }
        room
    }

    fn pop(&self) -> Option<Box<Batch>> {
        if self.waiting.load(Acquire) == 0 {
            return None;
        }
        let mut batches = self.lock();
        let batch = batches.pop_front();
        self.waiting.store(batches.len(), Release);
        batch
    }

    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    fn take(&self, which: impl FnOnce(usize) -> Range<usize>, into: &mut Vec<Box<Batch>>) {
        let mut batches = self.lock();
        let taken = which(batches.len());
        into.extend(batches.drain(taken));
        self.waiting.store(batches.len(), Release);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Box<Batch>>> {
        // Nothing panics while it is held.
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
