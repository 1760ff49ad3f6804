//! A lane's side of the ledger, and what it has counted since it last wrote there.

use std::{
    mem,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use crate::{
    clock::process_cpu_ns,
    handoff::Batch,
    ledger::{LaneLedger, Ledger, Rejection, SAMPLES_MAX, Sample},
    message::Origin,
    sequence::EventKind,
    shard::{ShardTable, shard_of},
};

/// Of this many messages handed over, the shard of one is looked at.
const LOAD_OF: usize = 16;

/// Messages that the ledger may not know of yet while none is handed over.
const PENDING_MAX: u64 = 1_024;

/// What a lane counts. The ledger learns of it before any of it is handed over, so that it never knows
/// of more deliveries than messages received.
pub(crate) struct Tally {
    lane: usize,
    ledger: Arc<Ledger>,
    /// Whether the next message is this lane's first.
    first: bool,
    pending: Pending,
    /// Samples of rejected messages given to the ledger, by reason.
    sampled: [usize; Rejection::ALL.len()],
    /// Batches whose shards were looked at.
    looks: usize,
    /// The process's CPU time when the pipeline's first message came.
    cpu_at_first_ns: Arc<OnceLock<u64>>,
}

/// Counted but not yet in the ledger.
#[derive(Default)]
struct Pending {
    received: u64,
    bytes: u64,
    rejected: [u64; Rejection::ALL.len()],
    dropped: u64,
    duplicates: u64,
    /// When the last of those rejected, dropped and doubled was received.
    last_accounted_ns: u64,
}

impl Tally {
    pub(crate) fn new(
        lane: usize,
        ledger: Arc<Ledger>,
        cpu_at_first_ns: Arc<OnceLock<u64>>,
    ) -> Self {
        Self {
            lane,
            ledger,
            first: true,
            pending: Pending::default(),
            sampled: [0; Rejection::ALL.len()],
            looks: 0,
            cpu_at_first_ns,
        }
    }

    /// The lane's counters.
    #[inline]
    pub(super) fn counters(&self) -> &LaneLedger {
        &self.ledger.lanes[self.lane]
    }

    /// The time by which silence is judged, in nanoseconds: that of the pipeline's clock, without what the
    /// lane waited for workers and other lanes, and so could not hear.
    #[inline]
    pub(super) fn heard(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.waited_ns(self.lane, now_ns))
    }

    /// For how long a lane has waited for workers and other lanes until `now_ns`, and so could not hear.
    #[inline]
    pub(super) fn waited_ns(&self, lane: usize, now_ns: u64) -> u64 {
        self.ledger.lanes[lane].waits.waited_ns(now_ns)
    }

    /// Counts what comes with a batch: by shard, and what overrides give to the worker. A few messages stand for
    /// all, each time others, so that no order of topics escapes it.
    pub(super) fn note_load(&mut self, batch: &Batch, table: &ShardTable, worker: usize) {
        self.looks = self.looks.wrapping_add(1);
        let (turn, counters) = (self.looks, self.counters());
        let mut first = 0;
        for run in batch.headers().chunks(LOAD_OF) {
            let place = turn % run.len();
            let placed = !table.overrides().is_empty()
                && table
                    .override_for(batch.message(first + place).topic())
                    .is_some();
            let counter = if placed {
                &counters.ways[worker].placed
            } else {
                &counters.by_shard[shard_of(run[place].topic_hash)]
            };
            counter.add(run.len() as u64);
            first += run.len();
        }
    }

    #[inline(always)]
    pub(super) fn note_received(&mut self, received_ns: u64, messages: u64, bytes: usize) {
        if self.first {
            self.note_first(received_ns);
        }
        self.pending.received += messages;
        self.pending.bytes += bytes as u64;
    }

    #[cold]
    fn note_first(&mut self, received_ns: u64) {
        self.first = false;
        self.counters().first_received_ns.set(received_ns.max(1));
        self.cpu_at_first_ns.get_or_init(process_cpu_ns);
    }

    pub(super) fn note_rejected(&mut self, received_ns: u64, reason: Rejection) {
        self.pending.rejected[reason as usize] += 1;
        self.note_accounted(received_ns);
    }

    /// Counts a message that is rejected, and keeps the first few of each reason.
    #[cold]
    pub(super) fn reject<F: Deref<Target = [u8]>>(
        &mut self,
        origin: Origin,
        received_ns: u64,
        reason: Rejection,
        frames: &[F],
    ) {
        self.note_rejected(received_ns, reason);
        self.sample(reason, || Sample::of(origin, reason, frames));
    }

    #[cold]
    pub(super) fn sample(&mut self, reason: Rejection, sample: impl FnOnce() -> Sample) {
        let sampled = &mut self.sampled[reason as usize];
        if *sampled < SAMPLES_MAX {
            *sampled += 1;
            self.ledger.samples.keep(sample());
        }
    }

    /// Takes note of a message that there was no room for.
    pub(super) fn note_dropped(&mut self, received_ns: u64) {
        self.pending.dropped += 1;
        self.note_accounted(received_ns);
    }

    fn note_accounted(&mut self, received_ns: u64) {
        self.pending.last_accounted_ns = received_ns.max(1);
        if self.pending.received >= PENDING_MAX {
            self.settle();
        }
    }

    /// Counts copies of messages that were received before.
    #[inline]
    pub(super) fn note_duplicates(&mut self, received_ns: u64, messages: u64) {
        self.pending.duplicates += messages;
        self.note_accounted(received_ns);
    }

    /// Counts what happened to a series of numbers.
    #[cold]
    pub(super) fn note_event(&self, kind: EventKind) {
        let counters = self.counters();
        match kind {
            EventKind::Gap(gap) => {
                counters.gaps.add(1);
                counters.missing.add(gap.count);
            }
            EventKind::Reordered(_) => counters.reordered.add(1),
            EventKind::Restarted { .. } => counters.restarts.add(1),
            EventKind::Duplicate(_)
            | EventKind::FirstSeen
            | EventKind::Snapshot(_)
            | EventKind::Quality { .. } => {}
        }
    }

    /// Accounts for messages that were handed over to a worker and taken back.
    pub(super) fn note_taken_back(
        &mut self,
        now_ns: u64,
        worker: usize,
        dropped: u64,
        conflated: u64,
    ) {
        let counters = self.counters();
        let way = &counters.ways[worker];
        way.messages_taken_back.add(dropped + conflated);
        counters.dropped.add(dropped);
        counters.conflated.add(conflated);
        counters.last_accounted_ns.set(now_ns);
    }

    /// Tells whether a worker is waited for no longer.
    pub(super) fn is_abandoned(&self, worker: usize) -> bool {
        self.ledger.workers[worker].abandoned.get() > 0
    }

    /// When a worker was last done with a batch, in nanoseconds of the pipeline's clock.
    pub(super) fn worker_done_ns(&self, worker: usize) -> u64 {
        self.ledger.workers[worker].last_done_ns.get()
    }

    /// Brings the ledger up to date: first what was received, then what became of it.
    pub(super) fn settle(&mut self) {
        // A run of messages is counted as received at once, so that some may be rejected or dropped after
        // all were settled.
        if self.pending.received == 0 && self.pending.last_accounted_ns == 0 {
            return;
        }
        let pending = mem::take(&mut self.pending);
        let counters = self.counters();
        counters.received.add(pending.received);
        counters.received_bytes.add(pending.bytes);
        if pending.last_accounted_ns > 0 {
            counters.dropped.add(pending.dropped);
            counters.duplicates.add(pending.duplicates);
            for (counter, rejected) in counters.rejected.iter().zip(pending.rejected) {
                counter.add(rejected);
            }
            counters.last_accounted_ns.set(pending.last_accounted_ns);
        }
    }
}
