//! Moves of shards from one worker to another, while messages come.
//!
//! A topic's messages stay in order: those for the new worker are held on the lane's side until the old one is
//! done with all that it was handed before, which a [fence](crate::handoff::Fence) tells. Then what was held is
//! handed over as there is room, class by class; what comes behind the last of a class goes to the new worker, and
//! with the last of all the table has it. Shards with one way to go move together, up to eight; other topics of both
//! workers go on meanwhile, and where too much is held, the topic's policy decides as it does elsewhere.
//!
//! Each source of batches moves a shard for itself, since only its own messages of a topic are in order.

use std::{collections::VecDeque, thread, time::Duration};

use super::{Dispatch, Routing};
use crate::{
    error::Result,
    handoff::{Batch, Fence, Outlet},
    lane::tally::Tally,
    policy::Policy,
};

/// How long a lane that has nothing else to do waits until it looks at a fence, or at a worker that is behind, again:
/// nobody rings. A lane that sleeps does so for a millisecond, as short as sockets can be waited for.
pub(in crate::lane) const LOOK_AFTER: Duration = Duration::from_micros(100);

/// Shards that move together at most: each waits for all that the old worker has, and what comes of them meanwhile has
/// to be held.
const TOGETHER_MAX: usize = 8;

/// Moves under way and those to come.
#[derive(Debug, Default)]
pub(super) struct Moves {
    now: Option<Move>,
    /// By shard: the worker that it is to go to next.
    next: VecDeque<(usize, usize)>,
}

#[derive(Debug)]
struct Move {
    shards: Vec<usize>,
    from: usize,
    to: usize,
    /// By class: behind what the old worker was handed.
    fences: Vec<Fence>,
    /// By class: the old worker's outlet, where it is yet to be sent its mark.
    unsent: Vec<Option<usize>>,
    /// Whether the old worker is done.
    passed: bool,
}

impl Moves {
    /// The worker that messages are held for.
    pub(super) fn to(&self) -> Option<usize> {
        self.now.as_ref().map(|now| now.to)
    }

    /// The worker that they wait for: the one before, or, as soon as that is done, the one they are for.
    pub(super) fn waits_for(&self) -> Option<usize> {
        let now = self.now.as_ref()?;
        Some(if now.passed { now.to } else { now.from })
    }
}

impl Dispatch {
    /// Moves a shard to a worker, when those asked for before have been moved. Where topics have no workers of
    /// their own, does nothing.
    #[cold]
    pub(in crate::lane) fn move_shard(&mut self, shard: usize, worker: usize) {
        self.moves.next.push_back((shard, worker));
    }

    /// Tells whether a shard is being moved, or about to be.
    #[inline]
    pub(in crate::lane) fn is_moving(&self) -> bool {
        self.moves.now.is_some() || !self.moves.next.is_empty()
    }

    /// Brings moves forward as far as they go without waiting. Not to be called between the choice of a
    /// message's outlet and its being put there.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[cold]
    pub(in crate::lane) fn go_on_moving(&mut self, tally: &mut Tally) -> Result<()> {
        loop {
            if self.moves.now.is_none() && !self.begin_move(tally) {
                return Ok(());
            }
            if !self.hand_held_over(tally)? {
                return Ok(());
            }
            self.end_move(tally);
        }
    }

    /// Waits until nothing moves any more: for the end, when nothing more comes.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub(super) fn finish_moves(&mut self, tally: &mut Tally) -> Result<()> {
        let given_up = self.moves.next.drain(..).count();
        tally.counters().moves.add(given_up as u64);
        while self.is_moving() {
            self.flush_open(tally)?;
            self.go_on_moving(tally)?;
            if self.is_moving() {
                thread::sleep(LOOK_AFTER);
            }
        }
        Ok(())
    }

    /// Hands over what was held for the new worker as far as there is room, and returns the outlet for a message that was
    /// to go by `outlet`: another one where it would have been held, and nothing is held before it any more.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[cold]
    pub(super) fn outlet_now(&mut self, tally: &mut Tally, outlet: usize) -> Result<usize> {
        let is_over = self.hand_held_over(tally)?;
        let goes =
            |now: &&Move| now.passed && self.is_held(outlet) && self.outlets[outlet].is_empty();
        let Some(to) = self.moves.now.as_ref().filter(goes).map(|now| now.to) else {
            return Ok(outlet);
        };
        if is_over {
            self.end_move(tally);
        }
        Ok(outlet - self.workers + to)
    }

    /// Tells whether what goes by an outlet stays on this side.
    #[inline]
    fn is_held(&self, outlet: usize) -> bool {
        outlet % self.ways == self.workers
    }

    /// Tells whether an outlet has what was held for a worker that may have it by now. No batches are begun there: where
    /// the shard is more than its worker can do, that would never come to an end. Where it is conflated, what is held
    /// becomes no more, and all of it has to be.
    #[inline]
    pub(super) fn is_draining(&self, outlet: usize) -> bool {
        self.moves.now.as_ref().is_some_and(|now| now.passed)
            && self.is_held(outlet)
            && self.rules.classes()[outlet / self.ways] != Policy::Conflate
    }

    /// Takes a batch for what was held for the worker of an outlet, if there is one; where the oldest messages are
    /// given up, of those that wait there.
    fn room_for_held(&mut self, tally: &mut Tally, outlet: usize) -> Result<Option<Box<Batch>>> {
        let policy = self.rules.classes()[outlet / self.ways];
        if policy != Policy::DropOldest {
            return self.outlets[outlet].wait_for_spare(Duration::ZERO);
        }
        // Else it might be all that could be taken back.
        self.hand_over(tally, outlet)?;
        let (full, outlet) = (self.full(outlet), &mut self.outlets[outlet]);
        self.pressure.make_room(tally, policy, full, outlet)
    }

    /// As [`wait_for_spare`](Outlet::wait_for_spare) while a shard moves, for a message that is to be put there.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub(super) fn wait_while_moving(
        &mut self,
        outlet: usize,
        limit: Duration,
    ) -> Result<Option<Box<Batch>>> {
        if !self.is_held(outlet) {
            return match self.outlets[outlet].wait_for_spare(limit)? {
                Some(batch) => self.prefer_held(outlet, batch),
                None => Ok(None),
            };
        }
        let spare = if self.is_draining(outlet) {
            None
        } else {
            self.outlets[outlet].spare()
        };
        if spare.is_none() {
            thread::sleep(LOOK_AFTER);
        }
        Ok(spare)
    }

    /// Hands a spare batch of an outlet over with what was held for its worker, or returns it where that is
    /// nothing: what was held is older than what there is room wanted for.
    fn prefer_held(&mut self, outlet: usize, batch: Box<Batch>) -> Result<Option<Box<Batch>>> {
        let may_go = |now: &Move| now.passed && now.to == outlet % self.ways;
        let goes = self.moves.now.as_ref().is_some_and(may_go);
        if !goes || self.outlets[self.held_beside(outlet)].is_empty() {
            return Ok(Some(batch));
        }
        self.send_oldest_held(outlet, batch).map(|()| None)
    }

    /// Hands an empty batch of an outlet over with the oldest of what was held for its worker.
    fn send_oldest_held(&mut self, outlet: usize, mut batch: Box<Batch>) -> Result<()> {
        let place = self.held_beside(outlet);
        if let Outlet::Held(held) = &mut self.outlets[place] {
            held.move_oldest(&mut batch);
        }
        self.outlets[outlet].send(batch)
    }

    /// Returns the outlet that holds messages of an outlet's class.
    fn held_beside(&self, outlet: usize) -> usize {
        outlet - outlet % self.ways + self.workers
    }

    /// Begins the next move, if there is one. From then on messages of its shard are held.
    fn begin_move(&mut self, tally: &Tally) -> bool {
        let classes = self.rules.classes().len();
        while let Some((shard, to)) = self.moves.next.pop_front() {
            let table = match &mut self.routing {
                Routing::Keyed(table) if table.owner_of(shard) != to => table,
                _ => {
                    tally.counters().moves.add(1);
                    continue;
                }
            };
            let (from, mut shards) = (table.owner_of(shard), vec![shard]);
            // No worker's place: that of what is held.
            table.give(shard, self.workers);
            while shards.len() < TOGETHER_MAX
                && let Some(&(shard, worker)) = self.moves.next.front()
                && (table.owner_of(shard), worker) == (from, to)
            {
                self.moves.next.pop_front();
                table.give(shard, self.workers);
                shards.push(shard);
            }
            for class in 0..classes {
                if let Outlet::Held(held) = &mut self.outlets[class * self.ways + self.workers] {
                    held.set_up();
                }
            }
            let way = |class| Some(class * self.ways + from);
            self.moves.now = Some(Move {
                shards,
                from,
                to,
                fences: (0..classes).map(|_| Fence::default()).collect(),
                unsent: (0..classes).map(way).collect(),
                passed: false,
            });
            return true;
        }
        false
    }

    /// Tells whether the old worker is done with all it was handed. Sends the marks of the fences first, with
    /// the batches being filled or, as soon as there are any, with empty ones.
    fn is_fence_passed(&mut self, tally: &mut Tally) -> Result<bool> {
        for class in 0..self.rules.classes().len() {
            let outlet = self.moves.now.as_ref().and_then(|now| now.unsent[class]);
            let Some(outlet) = outlet else {
                continue;
            };
            if self.filling[outlet].is_none()
                && let Some(batch) = self.outlets[outlet].wait_for_spare(Duration::ZERO)?
            {
                self.fill_next(outlet, batch);
            }
            if let (Some(batch), Some(now)) = (&mut self.filling[outlet], &mut self.moves.now) {
                batch.fence(&now.fences[class]);
                now.unsent[class] = None;
                self.hand_over(tally, outlet)?;
            }
        }
        let Some(now) = &mut self.moves.now else {
            return Ok(false);
        };
        // One that is waited for no longer will do nothing more.
        now.passed = tally.is_abandoned(now.from)
            || (now.unsent.iter().all(Option::is_none)
                && now.fences.iter_mut().all(Fence::is_passed));
        if !now.passed {
            // What it has not given back it never will.
            self.outlets[now.from].check_worker()?;
        }
        Ok(now.passed)
    }

    /// Hands the new worker what was held for it, and tells it what it is to be told, once the old one is done. Returns
    /// whether that is all.
    fn hand_held_over(&mut self, tally: &mut Tally) -> Result<bool> {
        let passed = self.moves.now.as_ref().is_some_and(|now| now.passed);
        if !passed && !self.is_fence_passed(tally)? {
            return Ok(false);
        }
        let Some(to) = self.moves.to() else {
            return Ok(false);
        };
        let mut is_all = true;
        for class in 0..self.rules.classes().len() {
            let (held, outlet) = (class * self.ways + self.workers, class * self.ways + to);
            self.hand_over(tally, held)?;
            while !self.outlets[held].is_empty()
                && let Some(batch) = self.room_for_held(tally, outlet)?
            {
                // Conflated and filled up again, it may have what was handed over before.
                self.hand_over(tally, outlet)?;
                self.send_oldest_held(outlet, batch)?;
            }
            if tally.is_abandoned(to) {
                let full = self.full(outlet);
                self.pressure.give_up(tally, full, &mut self.outlets[held]);
            }
            if !self.outlets[held].is_empty() {
                is_all = false;
                continue;
            }
            // Before what comes next of the shard, which goes there from now on.
            let owed = std::mem::take(&mut self.owed[held]);
            match &mut self.filling[outlet] {
                Some(batch) => batch.note_all(&owed),
                None => self.owed[outlet].push_all(0, &owed),
            }
        }
        Ok(is_all)
    }

    fn end_move(&mut self, tally: &Tally) {
        let (Some(now), Routing::Keyed(table)) = (self.moves.now.take(), &mut self.routing) else {
            return;
        };
        for shard in &now.shards {
            table.give(*shard, now.to);
        }
        tally.counters().moves.add(now.shards.len() as u64);
    }
}
