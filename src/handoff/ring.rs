//! The handoff in memory: a ring of batches from each lane to each worker, another one back.
//!
//! Each ring has one producer and one consumer ([`rtrb`]), so passing a batch is a store and a load. A worker that has
//! polled in vain parks, and each batch leaves a token that keeps it from parking or wakes it, so no wake-up is ever
//! missed; leaving the token is one atomic exchange, and a lock is taken only where the other end sleeps. A lane in the
//! middle of a read leaves one for a few batches, and at the read's end. It waits for a spare batch the same way.
//!
//! Where a policy makes room by giving up what is old, the lane's end can take batches back: `queue.rs`.
//!
//! A lane takes the spare batch that came back last, so that only as much memory is touched as is
//! under way.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    time::Duration,
};

use crossbeam::sync::{Parker, Unparker};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::{
    clock::Deadline,
    error::{Error, Result},
    handoff::{
        Batch, HandoffLimits, Received, Waiting,
        queue::{FillEnd, TakeEnd, queue},
    },
    wait::{IDLE_AFTER, Wait},
};

/// Batches that a worker is woken for at once, where its lane is about to fill more: each wake-up is a call into
/// the kernel for the lane and a change of threads for the worker. Where there are few batches, a quarter of them.
const ANNOUNCED_TOGETHER: usize = 4;

/// A lane's end of its handoff to one worker.
#[derive(Debug)]
pub struct Outlet {
    worker: usize,
    limits: HandoffLimits,
    filled: FillEnd,
    returned: Consumer<Box<Batch>>,
    /// Batches that have come back; the last one first.
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    spares: Vec<Box<Batch>>,
    parker: Parker,
    worker_bell: Unparker,
    /// Batches sent since the worker was last woken, and how many there may be.
    unannounced: usize,
    unannounced_max: usize,
    ended: Arc<AtomicBool>,
}

/// A worker's end of the handoffs from all outlets.
#[derive(Debug)]
pub struct Inlet {
    wait: Wait,
    parker: Parker,
    sources: Vec<Home>,
    /// The source to look at first, so that none is kept waiting by the others.
    turn: usize,
}

/// What an inlet has of one outlet.
#[derive(Debug)]
struct Home {
    filled: TakeEnd,
    returned: Producer<Box<Batch>>,
    lane_bell: Unparker,
    ended: Arc<AtomicBool>,
}

/// Makes the handoffs to one worker: an outlet for each of `take_back`, which says whether it can take
/// batches back, and the inlet.
#[must_use]
pub fn connect(
    worker: usize,
    take_back: &[bool],
    limits: HandoffLimits,
    wait: Wait,
) -> (Vec<Outlet>, Inlet) {
    let parker = Parker::new();
    let (mut outlets, mut homes) = (Vec::new(), Vec::new());
    for (source, &take_back) in take_back.iter().enumerate() {
        let (filled, filled_end) = queue(limits.batches, take_back);
        let (returned_end, returned) = RingBuffer::new(limits.batches);
        let ended = Arc::new(AtomicBool::new(false));
        let lane_parker = Parker::new();
        homes.push(Home {
            filled: filled_end,
            returned: returned_end,
            lane_bell: lane_parker.unparker().clone(),
            ended: ended.clone(),
        });
        let spares =
            (0..limits.batches).map(|slot| Box::new(Batch::new(limits.batch, source, slot)));
        outlets.push(Outlet {
            worker,
            limits,
            filled,
            returned,
            spares: spares.collect(),
            parker: lane_parker,
            worker_bell: parker.unparker().clone(),
            unannounced: 0,
            unannounced_max: (limits.batches / 4).clamp(1, ANNOUNCED_TOGETHER),
            ended,
        });
    }
    let inlet = Inlet {
        wait,
        parker,
        sources: homes,
        turn: 0,
    };
    (outlets, inlet)
}

impl Outlet {
    /// Tells whether the worker has taken all batches sent to it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// Tells whether batches wait for the worker, and [many](HandoffLimits::is_behind) are under way, where one is
    /// being filled.
    #[inline]
    pub fn is_behind(&self) -> bool {
        let at_home = self.spares.len() + self.returned.slots() + 1;
        let under_way = self.limits.batches.saturating_sub(at_home);
        self.limits.is_behind(under_way) && !self.is_empty()
    }

    /// Takes an empty batch, or `None` when all are filled or under way: the handoff is full.
    #[inline]
    pub fn spare(&mut self) -> Option<Box<Batch>> {
        while let Ok(batch) = self.returned.pop() {
            self.spares.push(batch);
        }
        self.spares.pop()
    }

    /// Finds out whether the worker has ended before its time.
    ///
    /// # Errors
    /// [`Error::WorkerGone`].
    pub(super) fn check_worker(&self) -> Result<()> {
        if self.returned.is_abandoned() {
            return Err(Error::WorkerGone {
                worker: self.worker,
            });
        }
        Ok(())
    }

    /// As [`spare`](Self::spare), but waits up to `limit` for one to come back.
    ///
    /// # Errors
    /// [`Error::WorkerGone`] where none will.
    pub fn wait_for_spare(&mut self, limit: Duration) -> Result<Option<Box<Batch>>> {
        let deadline = Deadline::after(limit);
        self.announce();
        loop {
            if let Some(batch) = self.spare() {
                return Ok(Some(batch));
            }
            self.check_worker()?;
            let left = deadline.left();
            if left.is_zero() {
                return Ok(None);
            }
            self.parker.park_timeout(left);
        }
    }

    /// Hands a batch over. Never waits: the batch was a spare of this outlet, so there is room.
    pub fn send(&mut self, batch: Box<Batch>) {
        self.add(batch);
        self.announce();
    }

    /// As [`send`](Self::send), but a worker that sleeps may sleep on until there are some batches for it: who
    /// sends so has to [announce](Self::announce) before it waits for anything.
    pub fn send_quietly(&mut self, batch: Box<Batch>) {
        self.add(batch);
        if self.unannounced >= self.unannounced_max {
            self.announce();
        }
    }

    fn add(&mut self, batch: Box<Batch>) {
        let pushed = self.filled.push(batch);
        assert!(pushed, "there is room for all of an outlet's batches");
        self.unannounced += 1;
    }

    /// Wakes the worker, if something was sent since it was last woken.
    #[inline]
    pub fn announce(&mut self) {
        if self.unannounced > 0 {
            self.unannounced = 0;
            self.worker_bell.unpark();
        }
    }

    /// Takes batches that wait for the worker back, the oldest first.
    pub fn take_back(&mut self, which: Waiting, into: &mut Vec<Box<Batch>>) {
        self.filled.take_back(which, into);
    }

    /// Keeps a batch that was taken back, emptied, as a spare.
    pub fn keep(&mut self, mut batch: Box<Batch>) {
        batch.clear();
        self.spares.push(batch);
    }
}

impl Drop for Outlet {
    /// Tells the worker that no more batches come this way.
    fn drop(&mut self) {
        self.ended.store(true, Release);
        self.worker_bell.unpark();
    }
}

impl Drop for Inlet {
    /// Tells lanes that wait for a spare batch that none will come back.
    fn drop(&mut self) {
        for lane in self.sources.drain(..) {
            let bell = lane.lane_bell.clone();
            drop(lane);
            bell.unpark();
        }
    }
}

impl Inlet {
    /// Waits for the next batch.
    pub fn receive(&mut self) -> Received {
        let wait = self.wait;
        wait.until(|may_sleep| {
            let deadline = may_sleep.then(|| Deadline::after(IDLE_AFTER));
            loop {
                let found = self.look();
                let left = deadline.map_or(Duration::ZERO, |deadline| deadline.left());
                if found.is_some() || left.is_zero() {
                    return found;
                }
                // A token may be of a batch that was taken already: then this returns at once.
                self.parker.park_timeout(left);
            }
        })
        .unwrap_or(Received::Idle)
    }

    /// Takes the next batch, source by source in turn, or finds that all have ended.
    #[inline]
    fn look(&mut self) -> Option<Received> {
        let count = self.sources.len();
        let mut all_ended = true;
        for offset in 0..count {
            let index = (self.turn + offset) % count;
            let source = &mut self.sources[index];
            // Asked first: what a lane sent before its end is there if its end is seen.
            let ended = source.ended.load(Acquire);
            if let Some(batch) = source.filled.pop() {
                self.turn = index + 1;
                return Some(Received::Batch(batch));
            }
            all_ended &= ended;
        }
        all_ended.then_some(Received::Ended)
    }

    /// Takes up to `most` more batches of a source that can take them back, the oldest first.
    pub fn take_more(&mut self, source: usize, most: usize, into: &mut Vec<Box<Batch>>) {
        self.sources[source].filled.take(most, into);
    }

    /// Returns a batch to the outlet it came from, which may then fill it again.
    pub fn give_back(&mut self, mut batch: Box<Batch>) {
        batch.clear();
        let source = &mut self.sources[batch.source];
        // There is room for all of the outlet's batches.
        let _ = source.returned.push(batch);
        source.lane_bell.unpark();
    }
}
