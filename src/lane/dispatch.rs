//! Messages in, batches out: which outlet, which batch, and when it is handed over.

mod hand_over;
mod moves;
#[cfg(test)]
mod tests;

use std::{ops::Deref, time::Duration};

use crate::{
    envelope::Fields,
    error::Result,
    handoff::{Batch, HandoffLimits, Notes, Outlet, Picked, Run, held},
    lane::{
        pressure::{Full, Pressure},
        sorter::{OUTLETS_MAX, Sorted, Sorter},
        tally::Tally,
    },
    message::{Notice, Origin},
    policy::{Policy, Rules},
    shard::ShardTable,
};
pub(super) use moves::LOOK_AFTER;
use moves::Moves;

/// How long a lane waits for one worker's spare batch before it looks at the others again.
const SPARE_WAIT: Duration = Duration::from_millis(1);

/// How a message finds its worker.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one a lane, and it is read for each message"
)]
pub(crate) enum Routing {
    /// The topic's shard belongs to a worker.
    Keyed(ShardTable),
    /// Each batch goes to the next worker in turn whose handoff is not full.
    Balanced,
}

/// One end of all handoffs, and the batches being filled for them.
///
/// There is an outlet for each class of topics and each worker, and one more for each class for what no worker
/// may have yet: those of class `c` are the outlets from `c * ways` on.
pub(crate) struct Dispatch {
    routing: Routing,
    rules: Rules,
    workers: usize,
    /// Outlets a class: the workers, and one more.
    ways: usize,
    outlets: Vec<Outlet>,
    /// By outlet: the batch being filled.
    filling: Vec<Option<Box<Batch>>>,
    /// By outlet that none is being filled for: what its worker is yet to be told, with the next batch.
    owed: Vec<Notes>,
    /// By class: what any worker is yet to be told, without keyed routing.
    owed_to_any: Vec<Notes>,
    /// Whether there is any of that.
    owing: bool,
    /// By class: whose turn it is, without keyed routing.
    turns: Vec<usize>,
    moves: Moves,
    /// Whether messages stay here when the sockets have run dry.
    is_keeping: bool,
    pressure: Pressure,
}

impl Dispatch {
    /// `to_workers` are by class, and in it by worker.
    pub(crate) fn new(
        routing: Routing,
        rules: Rules,
        to_workers: Vec<Outlet>,
        limits: HandoffLimits,
        pressure: Pressure,
    ) -> Self {
        let classes = rules.classes().len();
        let workers = to_workers.len() / classes;
        let mut outlets = Vec::new();
        let mut to_workers = to_workers.into_iter();
        for _ in 0..classes {
            outlets.extend(to_workers.by_ref().take(workers));
            outlets.push(Outlet::Held(held::Outlet::new(limits)));
        }
        Self {
            routing,
            workers,
            ways: workers + 1,
            filling: outlets.iter().map(|_| None).collect(),
            owed: outlets.iter().map(|_| Notes::default()).collect(),
            owed_to_any: (0..classes).map(|_| Notes::default()).collect(),
            owing: false,
            outlets,
            turns: vec![0; classes],
            moves: Moves::default(),
            is_keeping: false,
            rules,
            pressure,
        }
    }

    /// Returns the outlet for a topic, given its hash.
    #[inline(always)]
    fn outlet_of(&self, feed: u16, topic: &[u8], hash: u64) -> usize {
        let class = self.rules.class_of(feed, topic);
        let worker = match &self.routing {
            Routing::Keyed(table) => table.worker_of(topic, hash),
            Routing::Balanced => self.turns[class],
        };
        class * self.ways + worker
    }

    /// Puts a message into the batch of its outlet. Where that is full, does as its policy says.
    ///
    /// # Errors
    /// [`Error::WorkerGone`](crate::Error::WorkerGone).
    #[inline(always)]
    pub(super) fn put<F: Deref<Target = [u8]>>(
        &mut self,
        tally: &mut Tally,
        origin: Origin,
        received_ns: u64,
        hash: u64,
        fields: &Fields,
        frames: &[F],
    ) -> Result<()> {
        match self.fill(tally, origin, received_ns, hash, fields, frames)? {
            Some(full) => self.hand_over(tally, full),
            None => Ok(()),
        }
    }

    /// Puts a message into the batch of its outlet, and returns that if it is full then.
    #[inline(always)]
    fn fill<F: Deref<Target = [u8]>>(
        &mut self,
        tally: &mut Tally,
        origin: Origin,
        received_ns: u64,
        hash: u64,
        fields: &Fields,
        frames: &[F],
    ) -> Result<Option<usize>> {
        let topic = fields.topic.of(frames);
        let mut outlet = self.outlet_of(origin.feed, topic, hash);
        if self.filling[outlet].is_none() {
            let Some(opened) = self.open_batch(tally, outlet, self.candidates())? else {
                // A move may have come to its end meanwhile.
                let outlet = self.outlet_of(origin.feed, topic, hash);
                self.drop_newest(tally, outlet, origin, received_ns, hash, topic);
                return Ok(None);
            };
            outlet = opened;
        }
        let Some(batch) = &mut self.filling[outlet] else {
            unreachable!("the batch was opened above");
        };
        batch.push(origin, received_ns, hash, fields, frames);
        Ok(batch.is_full().then_some(outlet))
    }

    /// Returns the table by which the messages of a run may be [put](Self::put_sorted) together: where a topic's hash
    /// alone tells its outlet, which is then the shard's owner, and there are not too many outlets to sort by.
    #[inline]
    pub(super) fn sorting_table(&self) -> Option<&ShardTable> {
        match &self.routing {
            Routing::Keyed(table)
                if table.overrides().is_empty() && self.outlets.len() <= OUTLETS_MAX =>
            {
                (self.rules.classes().len() == 1).then_some(table)
            }
            _ => None,
        }
    }

    /// As [`put`](Self::put), for the messages of a run that were sorted by the [table](Self::sorting_table).
    ///
    /// Full batches may leave a worker asleep that sleeps, until they are [announced](Self::announce).
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[inline(always)]
    pub(super) fn put_sorted<const N: usize>(
        &mut self,
        tally: &mut Tally,
        sorter: &Sorter,
        sorted: Sorted,
        run: Run<'_, N>,
        open: impl Fn(&[&[u8]; N]) -> Fields,
    ) -> Result<()> {
        sorter
            .by_outlet(sorted)
            .try_for_each(|(outlet, picked)| self.put_picked(tally, outlet, run, picked, &open))
    }

    /// Puts messages of a run into the batch of an outlet.
    #[inline(always)]
    fn put_picked<const N: usize>(
        &mut self,
        tally: &mut Tally,
        outlet: usize,
        run: Run<'_, N>,
        picked: Picked<'_>,
        open: impl Fn(&[&[u8]; N]) -> Fields,
    ) -> Result<()> {
        match &mut self.filling[outlet] {
            Some(batch) if batch.has_room_for(picked.places.len(), N) => {
                batch.push_run(run, picked, open);
                if batch.is_full() {
                    self.hand_over_quietly(tally, outlet)?;
                }
                Ok(())
            }
            _ => self.put_each(tally, run, picked, open),
        }
    }

    /// Puts the messages one by one: some of them may need another batch.
    #[inline(never)]
    fn put_each<const N: usize>(
        &mut self,
        tally: &mut Tally,
        run: Run<'_, N>,
        picked: Picked<'_>,
        open: impl Fn(&[&[u8]; N]) -> Fields,
    ) -> Result<()> {
        for (place, hash) in picked.iter() {
            let frames = &run.messages[place];
            let fields = open(frames);
            let (origin, received_ns) = (run.origin, run.received_ns);
            if let Some(full) = self.fill(tally, origin, received_ns, hash, &fields, frames)? {
                self.hand_over_quietly(tally, full)?;
            }
        }
        Ok(())
    }

    /// Tells the worker of a topic, or all of them where there is none, what happened: the latter by the
    /// way of the first policy in use, so that messages of others may be before or behind it.
    ///
    /// Never waits, and no message is dropped for it: a worker that there is no room for is told with the
    /// next batch that it gets, up to [as many](crate::handoff::Notes) as wait for it.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[cold]
    pub(super) fn tell(&mut self, tally: &mut Tally, hash: u64, notice: &Notice<'_>) -> Result<()> {
        let (outlets, candidates) = match notice.topic {
            Some(topic) => {
                let outlet = self.outlet_of(notice.origin.feed, topic, hash);
                (outlet..outlet + 1, self.candidates())
            }
            // Those of the first class: to tell each worker once.
            None => (0..self.workers, 1),
        };
        for wanted in outlets {
            if let Some(outlet) = self.open_for(wanted, candidates)
                && let Some(batch) = &mut self.filling[outlet]
            {
                if !batch.notes().is_full() {
                    batch.note(notice);
                    continue;
                }
                self.hand_over(tally, outlet)?;
            }
            self.owe(wanted, candidates, notice);
        }
        Ok(())
    }

    /// Returns an outlet that a batch is being filled for, or is from now on, if there is room.
    fn open_for(&mut self, wanted: usize, candidates: usize) -> Option<usize> {
        let open = self.find_open(wanted, candidates);
        open.or_else(|| self.take_spare(wanted, candidates))
    }

    /// Returns an outlet that a batch is being filled for.
    fn find_open(&self, wanted: usize, candidates: usize) -> Option<usize> {
        self.candidates_from(wanted, candidates)
            .find(|&outlet| self.filling[outlet].is_some())
    }

    /// The outlets that may take a message, the wanted one first.
    fn candidates_from(
        &self,
        wanted: usize,
        candidates: usize,
    ) -> impl Iterator<Item = usize> + use<> {
        let (workers, class) = (self.workers, wanted - wanted % self.ways);
        let first = wanted % self.ways;
        (0..candidates).map(move |offset| match offset {
            0 => wanted,
            _ => class + (first + offset) % workers,
        })
    }

    /// The worker that what goes by an outlet is for.
    #[inline]
    fn worker_of(&self, outlet: usize) -> usize {
        match outlet % self.ways {
            worker if worker < self.workers => worker,
            // It holds something only while a shard moves.
            _ => self.moves.to().unwrap_or_default(),
        }
    }

    /// Whom there is no room for, by an outlet that has none.
    fn full(&self, outlet: usize) -> Full {
        Full {
            worker: self.worker_of(outlet),
            moving_by: (outlet % self.ways == self.workers)
                .then(|| self.moves.waits_for())
                .flatten(),
        }
    }

    /// The outlets to workers.
    fn to_workers(&self) -> impl Iterator<Item = usize> + use<> {
        let (workers, ways) = (self.workers, self.ways);
        (0..self.outlets.len()).filter(move |outlet| outlet % ways < workers)
    }

    /// Keeps a notice until there is room. Where any worker may get the message that it comes before, so may
    /// any be told.
    fn owe(&mut self, wanted: usize, candidates: usize, notice: &Notice<'_>) {
        let owed = if candidates > 1 {
            &mut self.owed_to_any[wanted / self.ways]
        } else {
            &mut self.owed[wanted]
        };
        owed.push(0, notice);
        self.owing = true;
    }

    /// Tells workers that there is room for by now what they are yet to be told, but for that of one outlet.
    #[cold]
    fn tell_owed(&mut self, spared: Option<usize>) {
        for outlet in self.to_workers() {
            let any = &self.owed_to_any[outlet / self.ways];
            if Some(outlet) != spared
                && !(self.owed[outlet].is_empty() && any.is_empty())
                && self.filling[outlet].is_none()
                && let Some(batch) = self.outlets[outlet].spare()
            {
                self.fill_next(outlet, batch);
            }
        }
        let mut owed = self.owed.iter().chain(&self.owed_to_any);
        self.owing = owed.any(|notes| !notes.is_empty());
    }

    /// Begins a batch for an outlet, or without keyed routing for another one of its class. Returns which, or
    /// `None` where its policy has the message dropped.
    #[inline(never)]
    fn open_batch(
        &mut self,
        tally: &mut Tally,
        first: usize,
        candidates: usize,
    ) -> Result<Option<usize>> {
        let outlet = if self.is_moving() {
            // What is held comes before what is received now, where its worker has room.
            self.outlet_now(tally, first)?
        } else {
            first
        };
        match self.open_for(outlet, candidates) {
            Some(outlet) => Ok(Some(outlet)),
            None => self.without_spare(tally, outlet, candidates),
        }
    }

    /// The number of outlets that may take a message.
    #[inline]
    fn candidates(&self) -> usize {
        match &self.routing {
            Routing::Keyed(_) => 1,
            Routing::Balanced => self.workers,
        }
    }

    /// Takes a spare batch of an outlet that has none being filled, and is to get any.
    fn take_spare(&mut self, first: usize, candidates: usize) -> Option<usize> {
        for outlet in self.candidates_from(first, candidates) {
            if self.filling[outlet].is_none()
                && !self.is_draining(outlet)
                && let Some(batch) = self.outlets[outlet].spare()
            {
                self.fill_next(outlet, batch);
                return Some(outlet);
            }
        }
        None
    }

    fn fill_next(&mut self, outlet: usize, mut batch: Box<Batch>) {
        if self.owing {
            let any = &mut self.owed_to_any[outlet / self.ways];
            for owed in [&mut self.owed[outlet], any] {
                batch.note_all(owed);
                owed.clear();
            }
        }
        debug_assert!(
            self.filling[outlet].is_none(),
            "what is there is handed over"
        );
        self.filling[outlet] = Some(batch);
        self.turns[outlet / self.ways] = outlet % self.ways;
    }

    #[cold]
    fn without_spare(
        &mut self,
        tally: &mut Tally,
        first: usize,
        candidates: usize,
    ) -> Result<Option<usize>> {
        let policy = self.rules.classes()[first / self.ways];
        match policy {
            _ if self.are_abandoned(tally, first, candidates) => Ok(None),
            Policy::Block | Policy::Snail => self.wait_for_spare(tally, first, candidates),
            Policy::DropNewest if self.is_draining(first) => Ok(None),
            Policy::DropNewest | Policy::DropOldest | Policy::Conflate => {
                let (full, outlet) = (self.full(first), &mut self.outlets[first]);
                let room = self.pressure.make_room(tally, policy, full, outlet)?;
                Ok(room.map(|batch| {
                    self.fill_next(first, batch);
                    first
                }))
            }
        }
    }

    #[cold]
    fn drop_newest(
        &mut self,
        tally: &mut Tally,
        outlet: usize,
        origin: Origin,
        received_ns: u64,
        hash: u64,
        topic: &[u8],
    ) {
        let full = self.full(outlet);
        self.pressure
            .drop_newest(tally, full, origin, received_ns, (hash, topic));
    }

    /// Tells whether all workers that may take a message are waited for no longer.
    fn are_abandoned(&self, tally: &Tally, first: usize, candidates: usize) -> bool {
        self.candidates_from(first, candidates)
            .all(|outlet| tally.is_abandoned(self.worker_of(outlet)))
    }

    /// Waits until there is room, and returns where; or `None`, where that is not waited for any longer.
    fn wait_for_spare(
        &mut self,
        tally: &mut Tally,
        first: usize,
        candidates: usize,
    ) -> Result<Option<usize>> {
        let waits = &tally.counters().waits;
        waits.blocked.add(1);
        let mut since_ns = self.pressure.clock.now_ns();
        waits.begin(since_ns);
        let (mut stall, mut first) = (None, first);
        // What is ready for other workers must not wait for this one; what comes back for this one is for the
        // message.
        self.hand_over_to_ready(tally)?;
        loop {
            if self.is_moving() {
                first = self.outlet_now(tally, first)?;
            }
            // Of the new worker's, where a move has come to its end.
            let open = self.find_open(first, candidates);
            let returned = match open {
                Some(_) => None,
                None if self.is_moving() => self.wait_while_moving(first, SPARE_WAIT)?,
                None => self.outlets[first].wait_for_spare(SPARE_WAIT)?,
            };
            let now_ns = self.pressure.clock.now_ns();
            let blocked_ns = now_ns.saturating_sub(since_ns);
            let waits = &tally.counters().waits;
            waits.blocked_ns.add(blocked_ns);
            waits.begin(now_ns);
            since_ns = now_ns;
            let found = match returned {
                Some(batch) => {
                    self.fill_next(first, batch);
                    Some(first)
                }
                None => open.or_else(|| self.take_spare(first, candidates)),
            };
            if found.is_some() || self.are_abandoned(tally, first, candidates) {
                tally.counters().waits.end();
                if let Some(stall) = stall {
                    self.pressure.end_stall(&stall);
                }
                return Ok(found);
            }
            if self.owing {
                // Others have not to wait for this one to be told.
                self.tell_owed(Some(first));
            }
            self.hand_over_to_ready(tally)?;
            let full = self.full(first);
            if let Some(other) = stall.take_if(|stall| !stall.is_for(full)) {
                self.pressure.end_stall(&other);
            }
            // Only now: most waits are shorter than asking the kernel what the worker does.
            let stall = stall.get_or_insert_with(|| self.pressure.stall(full));
            self.pressure.note_stall(stall);
        }
    }

    /// Tells all workers that nothing more comes this way. What is still here is dropped.
    pub(super) fn close(&mut self) {
        self.filling.clear();
        self.outlets.clear();
    }
}
