//! A lane's side of the ledger, and what it has counted since it last wrote there.

use std::{
    mem,
    sync::{Arc, OnceLock},
};

use crate::{
    clock::process_cpu_ns,
    ledger::{LaneLedger, Ledger, Rejection},
    sequence::EventKind,
};

/// Messages that the ledger may not know of yet while all are rejected.
const PENDING_MAX: u64 = 1_024;

/// What a lane counts. The ledger learns of it before any of it is handed over, so that it never knows
/// of more deliveries than messages received.
pub(crate) struct Tally {
    lane: usize,
    ledger: Arc<Ledger>,
    /// Whether the next message is this lane's first.
    first: bool,
    pending: Pending,
    /// The process's CPU time when the pipeline's first message came.
    cpu_at_first_ns: Arc<OnceLock<u64>>,
}

/// Counted but not yet in the ledger.
#[derive(Default)]
struct Pending {
    received: u64,
    bytes: u64,
    rejected: [u64; Rejection::ALL.len()],
    last_rejected_ns: u64,
    duplicates: u64,
    last_duplicate_ns: u64,
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
            cpu_at_first_ns,
        }
    }

    /// The lane's counters.
    #[inline]
    pub(super) fn counters(&self) -> &LaneLedger {
        &self.ledger.lanes[self.lane]
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
        self.pending.last_rejected_ns = received_ns;
        if self.pending.received >= PENDING_MAX {
            self.settle();
        }
    }

    /// Counts a copy of a message that was received before.
    #[inline]
    pub(super) fn note_duplicate(&mut self, received_ns: u64) {
        self.pending.duplicates += 1;
        self.pending.last_duplicate_ns = received_ns;
        if self.pending.received >= PENDING_MAX {
            self.settle();
        }
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
            EventKind::Duplicate(_) | EventKind::FirstSeen | EventKind::Quality { .. } => {}
        }
    }

    /// Brings the ledger up to date: first what was received, then what became of it.
    pub(super) fn settle(&mut self) {
        // What became of messages may be noted after they were counted.
        let pending = &self.pending;
        if pending.received + pending.duplicates + pending.last_rejected_ns == 0 {
            return;
        }
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
        if pending.duplicates > 0 {
            counters.duplicates.add(pending.duplicates);
            counters.last_duplicate_ns.set(pending.last_duplicate_ns);
        }
    }
}
