//! The bounded channel that carries batches from lanes to workers.
//!
//! A lane fills a [`Batch`] for a worker and hands it over whole. Batches are made once, at start,
//! and travel in a circle: spare → filled on the lane → inbox of the worker → spare. Their number
//! bounds the handoff; when none is spare, the worker is behind and the lane has to wait. What they
//! travel by is the handoff's [kind](HandoffKind).

mod batch;
mod fence;
pub mod held;
pub mod inproc;
mod notes;
mod queue;
pub mod ring;

use std::{fmt, ops::Range, str::FromStr, time::Duration};

pub use crate::message::FRAMES_MAX;
pub use batch::{Batch, BatchLimits};
pub(crate) use batch::{Picked, Run};
pub(crate) use fence::Fence;
pub(crate) use notes::Notes;

use crate::error::Result;

/// Batches under way to a worker from which on it has more to do than its lane has just read.
const BEHIND_BATCHES: usize = 16;

/// How much a handoff from one lane to one worker holds.
#[derive(Clone, Copy, Debug)]
pub struct HandoffLimits {
    /// How large a batch may grow.
    pub batch: BatchLimits,
    /// The number of batches, filled, under way and spare together.
    pub batches: usize,
}

/// What carries batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandoffKind {
    /// Rings in memory, without locks: [`ring`].
    #[default]
    Ring,
    /// PUSH and PULL sockets of libzmq: [`inproc`].
    Inproc,
}

/// Which of the batches that wait for a worker.
#[derive(Clone, Copy, Debug)]
pub enum Waiting {
    /// All of them.
    All,
    /// The oldest one.
    Oldest,
    /// So many of the newest, as far as there are so many.
    Newest(usize),
}

/// A lane's end of its handoff to one worker.
pub enum Outlet {
    /// Over a ring.
    Ring(ring::Outlet),
    /// Over PUSH.
    Inproc(inproc::Outlet),
    /// Nowhere yet.
    Held(held::Outlet),
}

/// A worker's end of the handoffs from all lanes.
pub enum Inlet {
    /// Over rings.
    Ring(ring::Inlet),
    /// Over PULL.
    Inproc(inproc::Inlet),
}

/// What a worker finds in its inlet.
#[derive(Debug)]
pub enum Received {
    /// The next batch. It has to be [given back](Inlet::give_back).
    Batch(Box<Batch>),
    /// Nothing for [`IDLE_AFTER`](crate::wait::IDLE_AFTER).
    Idle,
    /// Every lane has ended, and all they sent has been received.
    Ended,
}

impl HandoffLimits {
    /// Tells whether a worker that batches wait for is behind, with so many under way to it: half of all, or 16,
    /// whichever is less.
    #[inline]
    #[must_use]
    pub fn is_behind(self, under_way: usize) -> bool {
        under_way >= BEHIND_BATCHES.min(self.batches.div_ceil(2))
    }
}

impl Waiting {
    /// Their places among `count` batches, the oldest first.
    fn among(self, count: usize) -> Range<usize> {
        match self {
            Self::All => 0..count,
            Self::Oldest => 0..count.min(1),
            Self::Newest(most) => count.saturating_sub(most)..count,
        }
    }
}

impl Outlet {
    /// Tells whether no batch waits for the worker, as far as can be known: over inproc one may.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Ring(outlet) => outlet.is_empty(),
            Self::Inproc(outlet) => outlet.is_empty(),
            Self::Held(outlet) => outlet.is_empty(),
        }
    }

    /// Tells whether the worker is behind: batches wait for it, and [many](HandoffLimits::is_behind) are under way,
    /// where one is being filled.
    #[inline]
    #[must_use]
    pub fn is_behind(&self) -> bool {
        match self {
            Self::Ring(outlet) => outlet.is_behind(),
            Self::Inproc(outlet) => outlet.is_behind(),
            // There is none.
            Self::Held(_) => false,
        }
    }

    /// Takes an empty batch, or `None` when all are filled or under way: the handoff is full.
    #[inline]
    pub fn spare(&mut self) -> Option<Box<Batch>> {
        match self {
            Self::Ring(outlet) => outlet.spare(),
            Self::Inproc(outlet) => outlet.spare(),
            Self::Held(outlet) => outlet.spare(),
        }
    }

    /// As [`spare`](Self::spare), but waits up to `limit` for one to come back.
    ///
    /// # Errors
    /// [`Error::WorkerGone`](crate::Error::WorkerGone) where none will.
    pub fn wait_for_spare(&mut self, limit: Duration) -> Result<Option<Box<Batch>>> {
        match self {
            Self::Ring(outlet) => outlet.wait_for_spare(limit),
            Self::Inproc(outlet) => outlet.wait_for_spare(limit),
            // Nobody gives any back but who is asking.
            Self::Held(outlet) => Ok(outlet.spare()),
        }
    }

    /// Finds out whether the worker has ended before its time.
    ///
    /// # Errors
    /// [`Error::WorkerGone`](crate::Error::WorkerGone).
    pub(crate) fn check_worker(&self) -> Result<()> {
        match self {
            Self::Ring(outlet) => outlet.check_worker(),
            Self::Inproc(outlet) => outlet.check_worker(),
            // It has none.
            Self::Held(_) => Ok(()),
        }
    }

    /// Hands a batch over. Never waits: the batch was a spare of this outlet, so there is room.
    ///
    /// # Errors
    /// [`Error::Zmq`](crate::Error::Zmq), which a live context gives no cause for.
    pub fn send(&mut self, batch: Box<Batch>) -> Result<()> {
        match self {
            Self::Ring(outlet) => {
                outlet.send(batch);
                Ok(())
            }
            Self::Inproc(outlet) => outlet.send(batch),
            Self::Held(outlet) => {
                outlet.send(batch);
                Ok(())
            }
        }
    }

    /// As [`send`](Self::send), but over a ring a worker that sleeps may sleep on until there are some batches for
    /// it: who sends so has to [announce](Self::announce) before it waits for anything.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_quietly(&mut self, batch: Box<Batch>) -> Result<()> {
        match self {
            Self::Ring(outlet) => {
                outlet.send_quietly(batch);
                Ok(())
            }
            Self::Inproc(_) | Self::Held(_) => self.send(batch),
        }
    }

    /// Wakes the worker, if something was sent since it was last woken.
    #[inline]
    pub fn announce(&mut self) {
        match self {
            Self::Ring(outlet) => outlet.announce(),
            Self::Inproc(_) | Self::Held(_) => {}
        }
    }

    /// Takes batches that wait for the worker back, the oldest first: none over inproc, and none where the outlet was
    /// made without that.
    pub fn take_back(&mut self, which: Waiting, into: &mut Vec<Box<Batch>>) {
        match self {
            Self::Ring(outlet) => outlet.take_back(which, into),
            Self::Inproc(_) => {}
            Self::Held(outlet) => outlet.take_back(which, into),
        }
    }

    /// Keeps a batch that was taken back, emptied, as a spare.
    pub fn keep(&mut self, batch: Box<Batch>) {
        match self {
            Self::Ring(outlet) => outlet.keep(batch),
            Self::Inproc(_) => unreachable!("nothing is taken back over inproc"),
            Self::Held(outlet) => outlet.keep(batch),
        }
    }
}

impl Inlet {
    /// Waits for the next batch.
    ///
    /// # Errors
    /// [`Error::Zmq`](crate::Error::Zmq), which a live context gives no cause for.
    pub fn receive(&mut self) -> Result<Received> {
        match self {
            Self::Ring(inlet) => Ok(inlet.receive()),
            Self::Inproc(inlet) => inlet.receive(),
        }
    }

    /// Takes up to `most` more batches of the source that a batch came from, the oldest first, where that
    /// source can take them back: none over inproc.
    pub fn take_more(&mut self, source: usize, most: usize, into: &mut Vec<Box<Batch>>) {
        match self {
            Self::Ring(inlet) => inlet.take_more(source, most, into),
            Self::Inproc(_) => {}
        }
    }

    /// Returns a batch to the outlet it came from, which may then fill it again.
    pub fn give_back(&mut self, batch: Box<Batch>) {
        match self {
            Self::Ring(inlet) => inlet.give_back(batch),
            Self::Inproc(inlet) => inlet.give_back(batch),
        }
    }
}

impl fmt::Display for HandoffKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Ring => "ring",
            Self::Inproc => "inproc",
        })
    }
}

/// The text was not the name of a handoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a handoff; give ring or inproc")]
pub struct UnknownHandoff;

impl FromStr for HandoffKind {
    type Err = UnknownHandoff;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownHandoff> {
        [Self::Ring, Self::Inproc]
            .into_iter()
            .find(|kind| kind.to_string() == name)
            .ok_or(UnknownHandoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{envelope::Envelope, libzmq::Context, message::Origin, wait::Wait};

    const LIMITS: HandoffLimits = HandoffLimits {
        batch: BatchLimits {
            messages: 2,
            bytes: 64,
        },
        batches: 2,
    };

    /// The handoffs from two lanes to a worker, of both kinds.
    fn handoffs(context: &Context, wait: Wait) -> [(Vec<Outlet>, Inlet); 2] {
        let (outlets, inlet) = ring::connect(0, &[false, true], LIMITS, wait);
        let ring = (
            outlets.into_iter().map(Outlet::Ring).collect(),
            Inlet::Ring(inlet),
        );
        let (outlets, inlet) = inproc::connect(context, 0, 2, LIMITS, wait).unwrap();
        let inproc = (
            outlets.into_iter().map(Outlet::Inproc).collect(),
            Inlet::Inproc(inlet),
        );
        [ring, inproc]
    }

    fn fill(outlet: &mut Outlet, topic: &[u8]) -> Box<Batch> {
        let mut batch = outlet.spare().expect("a spare batch");
        let fields = Envelope::Raw.open(&[topic]).unwrap();
        batch.push(Origin { feed: 0, line: 0 }, 1, 2, &fields, &[topic]);
        batch
    }

    fn topics(batch: &Batch) -> Vec<Vec<u8>> {
        batch.messages().map(|m| m.topic().to_vec()).collect()
    }

    #[test]
    fn batches_arrive_in_order_from_each_lane_and_circle() {
        for wait in Wait::ALL {
            let context = Context::new(0, 3).unwrap();
            for (mut outlets, mut inlet) in handoffs(&context, wait) {
                for round in 0..3 {
                    for outlet in &mut outlets {
                        for index in 0..LIMITS.batches {
                            let batch = fill(outlet, &[round, index as u8]);
                            outlet.send(batch).unwrap();
                        }
                        assert!(outlet.spare().is_none(), "the handoff is full");
                    }
                    let mut expected = [0, 0];
                    for _ in 0..outlets.len() * LIMITS.batches {
                        let Received::Batch(batch) = inlet.receive().unwrap() else {
                            panic!("a batch was sent");
                        };
                        assert_eq!(topics(&batch), [[round, expected[batch.source]]]);
                        expected[batch.source] += 1;
                        inlet.give_back(batch);
                    }
                }
                assert!(matches!(inlet.receive().unwrap(), Received::Idle));
            }
        }
    }

    #[test]
    fn ends_when_every_lane_has_and_nothing_is_left() {
        let context = Context::new(0, 3).unwrap();
        for (mut outlets, mut inlet) in handoffs(&context, Wait::Park) {
            drop(outlets.pop());
            let batch = fill(&mut outlets[0], b"last");
            outlets[0].send(batch).unwrap();
            drop(outlets);
            let Received::Batch(batch) = inlet.receive().unwrap() else {
                panic!("what was sent before the end is received");
            };
            assert_eq!(topics(&batch), [b"last"]);
            inlet.give_back(batch);
            assert!(matches!(inlet.receive().unwrap(), Received::Ended));
        }
    }

    /// Threads that park at every step: were a wake-up missed, this would take minutes.
    #[test]
    fn a_batch_wakes_its_worker_and_a_spare_its_lane() {
        let context = Context::new(0, 3).unwrap();
        for (outlets, mut inlet) in handoffs(&context, Wait::Park) {
            let lanes: Vec<_> = outlets
                .into_iter()
                .map(|mut outlet| {
                    std::thread::spawn(move || {
                        for number in 0..5_000_u32 {
                            let batch = loop {
                                let waited = outlet.wait_for_spare(Duration::from_secs(60));
                                if let Some(mut batch) = waited.expect("the worker lives") {
                                    let topic = number.to_le_bytes();
                                    let fields = Envelope::Raw.open(&[&topic[..]]).unwrap();
                                    let origin = Origin { feed: 0, line: 0 };
                                    batch.push(origin, 1, 2, &fields, &[&topic[..]]);
                                    break batch;
                                }
                            };
                            outlet.send(batch).unwrap();
                        }
                    })
                })
                .collect();
            let mut next = [0_u32; 2];
            let mut idle = 0;
            loop {
                match inlet.receive().unwrap() {
                    Received::Batch(batch) => {
                        assert_eq!(topics(&batch), [next[batch.source].to_le_bytes()]);
                        next[batch.source] += 1;
                        inlet.give_back(batch);
                    }
                    Received::Idle => idle += 1,
                    Received::Ended => break,
                }
            }
            assert_eq!(next, [5_000; 2]);
            assert!(
                idle < 50,
                "the worker slept through {idle} tenths of a second"
            );
            for lane in lanes {
                lane.join().unwrap();
            }
        }
    }

    /// Were an announcement missed, each round would take until the worker looks up by itself.
    #[test]
    fn batches_sent_quietly_wake_their_worker_when_announced() {
        const ROUNDS: u64 = 500;
        const QUIET: u64 = 3;
        let limits = HandoffLimits {
            batches: 16,
            ..LIMITS
        };
        let (mut outlets, mut inlet) = ring::connect(0, &[false], limits, Wait::Park);
        let mut outlet = Outlet::Ring(outlets.pop().expect("one"));
        let (done, rounds) = std::sync::mpsc::channel();
        let lane = std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                for _ in 0..QUIET {
                    let batch = fill(&mut outlet, b"quiet");
                    outlet.send_quietly(batch).unwrap();
                }
                outlet.announce();
                rounds.recv().expect("the worker lives");
            }
        });
        let (mut taken, mut idle) = (0, 0);
        loop {
            match inlet.receive() {
                Received::Batch(batch) => {
                    inlet.give_back(batch);
                    taken += 1;
                    if taken % QUIET == 0 {
                        done.send(()).expect("the lane lives");
                    }
                }
                Received::Idle => idle += 1,
                Received::Ended => break,
            }
        }
        lane.join().unwrap();
        assert_eq!(taken, ROUNDS * QUIET);
        assert!(
            idle < 50,
            "the worker slept through {idle} tenths of a second"
        );
    }

    #[test]
    fn a_lane_learns_that_its_worker_is_gone() {
        let context = Context::new(0, 3).unwrap();
        for (mut outlets, inlet) in handoffs(&context, Wait::Park) {
            let outlet = &mut outlets[0];
            let taken: Vec<_> = std::iter::from_fn(|| outlet.spare()).collect();
            assert_eq!(taken.len(), LIMITS.batches);
            drop(inlet);
            assert!(outlet.wait_for_spare(Duration::from_secs(60)).is_err());
        }
    }
}
