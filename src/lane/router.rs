//! Frames in, batches out: envelope, shard, batch, hand-over, and the lane's side of the ledger.
//!
//! The same code stands behind every engine. An engine calls [`Router::route`] for each message, or
//! [`Router::route_run`] for several; [`Router::offer`] now and then, if it reads many at once; and
//! [`Router::flush`] when its sockets have run dry: a burst leaves in large batches, a lone message
//! at once.

use std::{
    mem,
    ops::Deref,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    clock::{Clock, process_cpu_ns},
    envelope::{Envelope, Fields, Inflater, Inflation},
    error::Result,
    handoff::{Batch, FRAMES_MAX, Outlet},
    ledger::{LaneLedger, Ledger, Rejection, SAMPLES_MAX, Sample},
    message::Origin,
    shard::{ShardTable, topic_hash},
};

/// Messages that the ledger may not know of yet while all are rejected.
const PENDING_MAX: u64 = 1_024;
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

/// The lane's end of all handoffs.
pub(crate) struct Router {
    lane: usize,
    routing: Routing,
    /// By worker.
    outlets: Vec<Outlet>,
    /// By worker: the batch being filled.
    filling: Vec<Option<Box<Batch>>>,
    message_bytes_max: usize,
    clock: Clock,
    ledger: Arc<Ledger>,
    /// Whether the next message is this lane's first.
    first: bool,
    /// Counted but not yet in the ledger.
    pending: Pending,
    /// Samples of rejected messages given to the ledger, by reason.
    sampled: [usize; Rejection::ALL.len()],
    /// Where messages are compressed: made for the first of them.
    inflater: Option<Box<Inflater>>,
    /// The process's CPU time when the pipeline's first message came.
    cpu_at_first_ns: Arc<OnceLock<u64>>,
}

/// What an envelope and a hash tell of a message.
struct Addressed {
    fields: Fields,
    hash: u64,
    worker: usize,
}

#[derive(Default)]
struct Pending {
    received: u64,
    bytes: u64,
    rejected: [u64; Rejection::ALL.len()],
    last_rejected_ns: u64,
}

impl Router {
    pub(crate) fn new(
        lane: usize,
        routing: Routing,
        outlets: Vec<Outlet>,
        message_bytes_max: usize,
        clock: Clock,
        ledger: Arc<Ledger>,
        cpu_at_first_ns: Arc<OnceLock<u64>>,
    ) -> Self {
        Self {
            lane,
            routing,
            filling: outlets.iter().map(|_| None).collect(),
            outlets,
            message_bytes_max,
            clock,
            ledger,
            first: true,
            pending: Pending::default(),
            sampled: [0; Rejection::ALL.len()],
            inflater: None,
            cpu_at_first_ns,
        }
    }

    /// The lane's side of the ledger.
    pub(crate) fn counters(&self) -> &LaneLedger {
        &self.ledger.lanes[self.lane]
    }

    /// Takes a message of at least one frame, received at `received_ns` by the pipeline's clock.
    ///
    /// Waits where the handoff to the message's worker is full.
    ///
    /// # Errors
    /// [`Error::WorkerGone`](crate::Error::WorkerGone).
    #[inline]
    pub(crate) fn route<F: Deref<Target = [u8]>>(
        &mut self,
        origin: Origin,
        envelope: &Envelope,
        received_ns: u64,
        frames: &[F],
    ) -> Result<()> {
        if let Some(inflation) = envelope.inflation() {
            return self.route_compressed(origin, envelope, inflation, received_ns, frames);
        }
        let bytes = frames.iter().map(|frame| frame.len()).sum();
        self.note_received(received_ns, 1, bytes);
        match self.address(envelope, bytes, frames) {
            Ok(addressed) => self.put(origin, received_ns, &addressed, frames),
            Err(reason) => {
                self.note_rejected(received_ns, reason);
                self.sample(reason, || Sample::of(origin, reason, frames));
                Ok(())
            }
        }
    }

    /// As [`route`](Self::route), for messages of `N` frames each. A known number of frames makes each
    /// cheaper.
    ///
    /// Tried and slower by a fifth: to look at all of them first and copy then.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    #[inline]
    pub(crate) fn route_run<const N: usize>(
        &mut self,
        origin: Origin,
        envelope: &Envelope,
        received_ns: u64,
        messages: &[[&[u8]; N]],
    ) -> Result<()> {
        if let Some(inflation) = envelope.inflation() {
            return messages.iter().try_for_each(|frames| {
                self.route_compressed(origin, envelope, inflation, received_ns, frames)
            });
        }
        let bytes = messages.iter().flatten().map(|frame| frame.len()).sum();
        self.note_received(received_ns, messages.len() as u64, bytes);
        for frames in messages {
            let bytes = frames.iter().map(|frame| frame.len()).sum();
            match self.address(envelope, bytes, frames) {
                Ok(addressed) => self.put(origin, received_ns, &addressed, frames)?,
                Err(reason) => {
                    self.note_rejected(received_ns, reason);
                    self.sample(reason, || Sample::of(origin, reason, frames));
                }
            }
        }
        Ok(())
    }

    /// As [`route`](Self::route), with what a frame inflates to in its place. The ledger counts the
    /// bytes that were received.
    #[inline(never)]
    fn route_compressed<F: Deref<Target = [u8]>>(
        &mut self,
        origin: Origin,
        envelope: &Envelope,
        inflation: Inflation,
        received_ns: u64,
        frames: &[F],
    ) -> Result<()> {
        let bytes = frames.iter().map(|frame| frame.len()).sum();
        self.note_received(received_ns, 1, bytes);
        let mut inflater = self.inflater.take().unwrap_or_default();
        let mut inflated = [&[][..]; FRAMES_MAX];
        let outcome = self.check_size(bytes, frames.len()).and_then(|()| {
            let frame = frames.get(inflation.frame).ok_or(Rejection::MissingFrame)?;
            for (inflated, frame) in inflated.iter_mut().zip(frames) {
                *inflated = frame;
            }
            inflated[inflation.frame] = inflater.inflate(frame, inflation.bytes_max)?;
            let bytes = inflated.iter().map(|frame| frame.len()).sum();
            self.address(envelope, bytes, &inflated[..frames.len()])
        });
        let routed = match outcome {
            Ok(addressed) => self.put(origin, received_ns, &addressed, &inflated[..frames.len()]),
            Err(reason) => {
                self.note_rejected(received_ns, reason);
                self.sample(reason, || Sample::of(origin, reason, frames));
                Ok(())
            }
        };
        self.inflater = Some(inflater);
        routed
    }

    #[inline(always)]
    fn note_received(&mut self, received_ns: u64, messages: u64, bytes: usize) {
        if self.first {
            self.note_first(received_ns);
        }
        self.pending.received += messages;
        self.pending.bytes += bytes as u64;
    }

    /// Finds the worker of a message of `bytes` bytes, and what a batch notes of it.
    #[inline(always)]
    fn address<F: Deref<Target = [u8]>>(
        &self,
        envelope: &Envelope,
        bytes: usize,
        frames: &[F],
    ) -> std::result::Result<Addressed, Rejection> {
        self.check_size(bytes, frames.len())?;
        let fields = envelope.open(frames)?;
        let topic = &frames[fields.topic.frame][fields.topic.start..fields.topic.end];
        let hash = topic_hash(topic);
        let worker = match &self.routing {
            Routing::Keyed(table) => table.worker_of(topic, hash),
            // Whose turn it is follows from the batches before.
            Routing::Balanced { .. } => 0,
        };
        Ok(Addressed {
            fields,
            hash,
            worker,
        })
    }

    #[inline(always)]
    fn check_size(&self, bytes: usize, frames: usize) -> std::result::Result<(), Rejection> {
        if frames > FRAMES_MAX {
            return Err(Rejection::TooManyFrames);
        }
        if bytes > self.message_bytes_max {
            return Err(Rejection::TooLarge);
        }
        Ok(())
    }

    /// Puts a message into the batch of its worker.
    #[inline(always)]
    fn put<F: Deref<Target = [u8]>>(
        &mut self,
        origin: Origin,
        received_ns: u64,
        addressed: &Addressed,
        frames: &[F],
    ) -> Result<()> {
        let worker = match &self.routing {
            Routing::Keyed(_) => self.open_batch(addressed.worker, 1)?,
            &Routing::Balanced { turn } => self.open_batch(turn, self.outlets.len())?,
        };
        let Some(batch) = &mut self.filling[worker] else {
            unreachable!("the batch was opened above");
        };
        batch.push(
            origin,
            received_ns,
            addressed.hash,
            &addressed.fields,
            frames,
        );
        if batch.is_full() {
            self.hand_over(worker)?;
        }
        Ok(())
    }

    /// Takes note of a message that was thrown away as it came.
    pub(crate) fn reject(
        &mut self,
        origin: Origin,
        received_ns: u64,
        bytes: u64,
        reason: Rejection,
    ) {
        self.note_received(received_ns, 1, bytes as usize);
        self.note_rejected(received_ns, reason);
        self.sample(reason, || Sample::unseen(origin, reason, bytes));
    }

    fn note_rejected(&mut self, received_ns: u64, reason: Rejection) {
        self.pending.rejected[reason as usize] += 1;
        self.pending.last_rejected_ns = received_ns;
        if self.pending.received >= PENDING_MAX {
            self.settle();
        }
    }

    /// Keeps the first few rejected messages of each reason.
    #[cold]
    fn sample(&mut self, reason: Rejection, sample: impl FnOnce() -> Sample) {
        let sampled = &mut self.sampled[reason as usize];
        if *sampled < SAMPLES_MAX {
            *sampled += 1;
            self.ledger.samples.keep(sample());
        }
    }

    #[cold]
    fn note_first(&mut self, received_ns: u64) {
        self.first = false;
        self.counters().first_received_ns.set(received_ns.max(1));
        self.cpu_at_first_ns.get_or_init(process_cpu_ns);
    }

    /// Makes sure that a batch is being filled for one of the `candidates` workers from `first` on,
    /// and returns which.
    #[inline]
    fn open_batch(&mut self, first: usize, candidates: usize) -> Result<usize> {
        if self.filling[first].is_some() {
            return Ok(first);
        }
        match self.take_spare(first, candidates) {
            Some(worker) => Ok(worker),
            None => self.wait_for_spare(first, candidates),
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
    fn wait_for_spare(&mut self, first: usize, candidates: usize) -> Result<usize> {
        // What is ready for other workers must not wait for this one.
        self.flush()?;
        self.counters().blocked.add(1);
        let mut since_ns = self.clock.now_ns();
        loop {
            let returned = self.outlets[first].wait_for_spare(SPARE_WAIT)?;
            let now_ns = self.clock.now_ns();
            self.counters()
                .blocked_ns
                .add(now_ns.saturating_sub(since_ns));
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

    fn hand_over(&mut self, worker: usize) -> Result<()> {
        let Some(batch) = self.filling[worker].take() else {
            return Ok(());
        };
        self.settle();
        self.counters().batches.add(1);
        if let Routing::Balanced { turn } = &mut self.routing {
            *turn = (worker + 1) % self.outlets.len();
        }
        self.outlets[worker].send(batch)
    }

    /// Hands over what is held for workers that have nothing else to do: to be called after each read.
    /// What is held for busy ones can as well become more.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    #[inline]
    pub(crate) fn offer(&mut self) -> Result<()> {
        for worker in 0..self.outlets.len() {
            if self.filling[worker].is_some() && self.outlets[worker].is_empty() {
                self.hand_over(worker)?;
            }
        }
        Ok(())
    }

    /// Hands over all batches that hold messages: to be called when there is nothing more to receive.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    pub(crate) fn flush(&mut self) -> Result<()> {
        for worker in 0..self.outlets.len() {
            self.hand_over(worker)?;
        }
        if self.pending.received > 0 {
            self.settle();
        }
        Ok(())
    }

    /// Brings the ledger up to date: first what was received, then what became of it.
    fn settle(&mut self) {
        let pending = mem::take(&mut self.pending);
        let counters = self.counters();
        counters.received.add(pending.received);
        counters.received_bytes.add(pending.bytes);
        if pending.last_rejected_ns > 0 {
            for (counter, rejected) in counters.rejected.iter().zip(pending.rejected) {
                counter.add(rejected);
            }
            counters.last_rejected_ns.set(pending.last_rejected_ns);
        }
    }
}
