//! Messages in, batches out: which worker, which batch, and when it is handed over.

use std::{ops::Deref, time::Duration};

use crate::{
    clock::Clock,
    envelope::Fields,
    error::Result,
    handoff::{Batch, Outlet},
    lane::tally::Tally,
    message::{Notice, Origin},
    shard::ShardTable,
};

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
    Balanced { turn: usize },
}

/// One end of all handoffs, and the batches being filled for them.
pub(crate) struct Dispatch {
    routing: Routing,
    /// By worker.
    outlets: Vec<Outlet>,
    /// By worker: the batch being filled.
    filling: Vec<Option<Box<Batch>>>,
    clock: Clock,
}

impl Dispatch {
    pub(crate) fn new(routing: Routing, outlets: Vec<Outlet>, clock: Clock) -> Self {
        Self {
            routing,
            filling: outlets.iter().map(|_| None).collect(),
            outlets,
            clock,
        }
    }

    /// Returns the worker of a topic, given its hash.
    #[inline(always)]
    pub(super) fn worker_of(&self, topic: &[u8], hash: u64) -> usize {
        match &self.routing {
            Routing::Keyed(table) => table.worker_of(topic, hash),
            // Whose turn it is follows from the batches before.
            Routing::Balanced { .. } => 0,
        }
    }

    /// Puts a message into the batch of its worker. Waits where the handoff to it is full.
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
        let worker = match &self.routing {
            Routing::Keyed(table) => {
                let place = fields.topic;
                let topic = &frames[place.frame][place.start..place.end];
                let worker = table.worker_of(topic, hash);
                self.open_batch(tally, worker, 1)?
            }
            &Routing::Balanced { turn } => self.open_batch(tally, turn, self.outlets.len())?,
        };
        let Some(batch) = &mut self.filling[worker] else {
            unreachable!("the batch was opened above");
        };
        batch.push(origin, received_ns, hash, fields, frames);
        if batch.is_full() {
            self.hand_over(tally, worker)?;
        }
        Ok(())
    }

    /// Tells the worker of a topic, or all of them, what happened.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[cold]
    pub(super) fn note(
        &mut self,
        tally: &mut Tally,
        worker: Option<usize>,
        notice: &Notice<'_>,
    ) -> Result<()> {
        let workers = worker.map_or(0..self.outlets.len(), |worker| worker..worker + 1);
        for worker in workers {
            let worker = match (&self.routing, notice.topic) {
                (&Routing::Balanced { turn }, Some(_)) => turn,
                _ => worker,
            };
            let worker = self.open_batch(tally, worker, 1)?;
            let Some(batch) = &mut self.filling[worker] else {
                unreachable!("the batch was opened above");
            };
            batch.note(notice);
            if batch.is_full() {
                self.hand_over(tally, worker)?;
            }
        }
        Ok(())
    }

    /// Makes sure that a batch is being filled for one of the `candidates` workers from `first` on,
    /// and returns which.
    #[inline]
    fn open_batch(&mut self, tally: &mut Tally, first: usize, candidates: usize) -> Result<usize> {
        if self.filling[first].is_some() {
            return Ok(first);
        }
        match self.take_spare(first, candidates) {
            Some(worker) => Ok(worker),
            None => self.wait_for_spare(tally, first, candidates),
        }
    }

    fn take_spare(&mut self, first: usize, candidates: usize) -> Option<usize> {
        for offset in 0..candidates {
            let worker = (first + offset) % self.outlets.len();
            if let Some(batch) = self.outlets[worker].spare() {
                self.fill_next(worker, batch);
                return Some(worker);
            }
        }
        None
    }

    fn fill_next(&mut self, worker: usize, batch: Box<Batch>) {
        self.filling[worker] = Some(batch);
        if let Routing::Balanced { turn } = &mut self.routing {
            *turn = worker;
        }
    }

    #[cold]
    fn wait_for_spare(
        &mut self,
        tally: &mut Tally,
        first: usize,
        candidates: usize,
    ) -> Result<usize> {
        // What is ready for other workers must not wait for this one.
        self.flush(tally)?;
        tally.counters().blocked.add(1);
        let mut since_ns = self.clock.now_ns();
        loop {
            let returned = self.outlets[first].wait_for_spare(SPARE_WAIT)?;
            let now_ns = self.clock.now_ns();
            let blocked_ns = now_ns.saturating_sub(since_ns);
            tally.counters().blocked_ns.add(blocked_ns);
            since_ns = now_ns;
            if let Some(batch) = returned {
                self.fill_next(first, batch);
                return Ok(first);
            }
            if let Some(worker) = self.take_spare(first, candidates) {
                return Ok(worker);
            }
        }
    }

    fn hand_over(&mut self, tally: &mut Tally, worker: usize) -> Result<()> {
        let Some(batch) = self.filling[worker].take() else {
            return Ok(());
        };
        tally.settle();
        tally.counters().batches.add(1);
        if let Routing::Balanced { turn } = &mut self.routing {
            *turn = (worker + 1) % self.outlets.len();
        }
        self.outlets[worker].send(batch)
    }

    /// Hands over what is held for workers that have nothing else to do. What is held for busy ones can
    /// as well become more.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[inline]
    pub(super) fn offer(&mut self, tally: &mut Tally) -> Result<()> {
        for worker in 0..self.outlets.len() {
            if self.filling[worker].is_some() && self.outlets[worker].is_empty() {
                self.hand_over(tally, worker)?;
            }
        }
        Ok(())
    }

    /// Hands over all batches that hold messages.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub(super) fn flush(&mut self, tally: &mut Tally) -> Result<()> {
        for worker in 0..self.outlets.len() {
            self.hand_over(tally, worker)?;
        }
        Ok(())
    }

    /// Tells all workers that nothing more comes this way. What is held is dropped.
    pub(super) fn close(&mut self) {
        self.filling.clear();
        self.outlets.clear();
    }
}
