//! The handoff in memory: a ring of batches from each lane to each worker, another one back.
//!
//! Each ring has one producer and one consumer ([`rtrb`]), so passing a batch is a store and a load,
//! without a lock or a locked instruction. A worker that has polled in vain parks, and each batch
//! leaves a token that keeps it from parking or wakes it, so no wake-up is ever missed; leaving the
//! token is one atomic exchange a batch. A lane waits for a spare batch the same way.
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
    handoff::{Batch, HandoffLimits, Received},
    wait::{IDLE_AFTER, Wait},
};

/// A lane's end of its handoff to one worker.
#[derive(Debug)]
pub struct Outlet {
    worker: usize,
    filled: Producer<Box<Batch>>,
    returned: Consumer<Box<Batch>>,
    /// Batches that have come back; the last one first.
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    spares: Vec<Box<Batch>>,
    parker: Parker,
    worker_bell: Unparker,
    ended: Arc<AtomicBool>,
}

/// A worker's end of the handoffs from all lanes.
#[derive(Debug)]
pub struct Inlet {
    wait: Wait,
    parker: Parker,
    lanes: Vec<Home>,
    /// The lane to look at first, so that none is kept waiting by the others.
    turn: usize,
}

/// What an inlet has of one lane.
#[derive(Debug)]
struct Home {
    filled: Consumer<Box<Batch>>,
    returned: Producer<Box<Batch>>,
    lane_bell: Unparker,
    ended: Arc<AtomicBool>,
}

/// Makes the handoffs from `lanes` lanes to one worker: an outlet for each lane, and the inlet.
#[must_use]
pub fn connect(
    worker: usize,
    lanes: usize,
    limits: HandoffLimits,
    wait: Wait,
) -> (Vec<Outlet>, Inlet) {
    let parker = Parker::new();
    let (mut outlets, mut homes) = (Vec::new(), Vec::new());
    for lane in 0..lanes {
        let (filled, filled_end) = RingBuffer::new(limits.batches);
        let (returned_end, returned) = RingBuffer::new(limits.batches);
        let ended = Arc::new(AtomicBool::new(false));
        let lane_parker = Parker::new();
        homes.push(Home {
            filled: filled_end,
            returned: returned_end,
            lane_bell: lane_parker.unparker().clone(),
            ended: ended.clone(),
        });
        let spares = (0..limits.batches).map(|slot| Box::new(Batch::new(limits.batch, lane, slot)));
        outlets.push(Outlet {
            worker,
            filled,
            returned,
            spares: spares.collect(),
            parker: lane_parker,
            worker_bell: parker.unparker().clone(),
            ended,
        });
    }
    let inlet = Inlet {
        wait,
        parker,
        lanes: homes,
        turn: 0,
    };
    (outlets, inlet)
}

impl Outlet {
    /// Tells whether the worker has taken all batches sent to it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.filled.slots() == self.filled.buffer().capacity()
    }

    /// Takes an empty batch, or `None` when all are filled or under way: the handoff is full.
    #[inline]
    pub fn spare(&mut self) -> Option<Box<Batch>> {
        while let Ok(batch) = self.returned.pop() {
            self.spares.push(batch);
        }
        self.spares.pop()
    }

    /// As [`spare`](Self::spare), but waits up to `limit` for one to come back.
    ///
    /// # Errors
    /// [`Error::WorkerGone`] where none will.
    pub fn wait_for_spare(&mut self, limit: Duration) -> Result<Option<Box<Batch>>> {
        let deadline = Deadline::after(limit);
        loop {
            if let Some(batch) = self.spare() {
                return Ok(Some(batch));
            }
            if self.returned.is_abandoned() {
                return Err(Error::WorkerGone {
                    worker: self.worker,
                });
            }
            let left = deadline.left();
            if left.is_zero() {
                return Ok(None);
            }
            self.parker.park_timeout(left);
        }
    }

    /// Hands a batch over. Never waits: the batch was a spare of this outlet, so there is room.
    pub fn send(&mut self, batch: Box<Batch>) {
        let pushed = self.filled.push(batch);
        assert!(
            pushed.is_ok(),
            "there is room for all of an outlet's batches"
        );
        self.worker_bell.unpark();
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
        for lane in self.lanes.drain(..) {
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

    /// Takes the next batch, lane by lane in turn, or finds that all lanes have ended.
    #[inline]
    fn look(&mut self) -> Option<Received> {
        let count = self.lanes.len();
        let mut all_ended = true;
        for offset in 0..count {
            let index = (self.turn + offset) % count;
            let lane = &mut self.lanes[index];
            // Asked first: what a lane sent before its end is there if its end is seen.
            let ended = lane.ended.load(Acquire);
            if let Ok(batch) = lane.filled.pop() {
                self.turn = index + 1;
                return Some(Received::Batch(batch));
            }
            all_ended &= ended;
        }
        all_ended.then_some(Received::Ended)
    }

    /// Returns a batch to the lane it came from, which may then fill it again.
    pub fn give_back(&mut self, mut batch: Box<Batch>) {
        batch.clear();
        let lane = &mut self.lanes[batch.lane];
        // There is room for all of the lane's batches.
        let _ = lane.returned.push(batch);
        lane.lane_bell.unpark();
    }
}
