//! The counters behind "every message is accounted for".
//!
//! At rest, `received = delivered + conflated + dropped + duplicates + rejected`. While messages are
//! under way the difference is what sits in batches and handoffs. Each counter has one writer, the
//! thread that owns it, which adds with a plain load and store (no locked instruction) and does so
//! a batch at a time; readers may look whenever they like. Each thread's counters have cache lines
//! to themselves.

mod parts;
mod samples;
mod waits;

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crossbeam::utils::CachePadded;
use serde::Serialize;

pub use parts::{LaneTotals, WorkerTotals};
pub use samples::{RejectedSample, SAMPLE_BYTES_MAX, SAMPLES_MAX, Sample, SampleFrame, Samples};
pub use waits::Waits;

use crate::{shard::SHARDS, zmtp::Violation};

/// Why a message was not delivered: the message's own fault, or a limit of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It has more frames than a batch carries.
    TooManyFrames,
    /// Its frames together are larger than the limit on messages.
    TooLarge,
    /// It is shorter than its envelope.
    TooShort,
    /// Its first frame has no delimiter.
    NoDelimiter,
    /// It does not end with the marks of its envelope, or they contradict each other.
    NotThisFormat,
    /// It has fewer frames than its envelope.
    MissingFrame,
    /// A frame ends before or within a field of its envelope.
    TruncatedField,
    /// Its topic or payload is not UTF-8, which its envelope asks for.
    NotUtf8,
    /// Its compressed frame can't be inflated.
    Corrupt,
    /// Its compressed frame inflates to more than its envelope allows.
    TooInflated,
    /// It came after it had been given up as lost.
    TooLate,
}

impl Rejection {
    /// All reasons, in the order the ledger keeps them.
    pub const ALL: [Self; 11] = [
        Self::TooManyFrames,
        Self::TooLarge,
        Self::TooShort,
        Self::NoDelimiter,
        Self::NotThisFormat,
        Self::MissingFrame,
        Self::TruncatedField,
        Self::NotUtf8,
        Self::Corrupt,
        Self::TooInflated,
        Self::TooLate,
    ];

    /// Returns the reason's name in summaries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TooManyFrames => "too_many_frames",
            Self::TooLarge => "too_large",
            Self::TooShort => "too_short",
            Self::NoDelimiter => "no_delimiter",
            Self::NotThisFormat => "not_this_format",
            Self::MissingFrame => "missing_frame",
            Self::TruncatedField => "truncated_field",
            Self::NotUtf8 => "not_utf8",
            Self::Corrupt => "corrupt",
            Self::TooInflated => "too_inflated",
            Self::TooLate => "too_late",
        }
    }
}

/// A counter with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the counter. Only its owner may.
    #[inline]
    pub fn add(&self, more: u64) {
        self.set(self.0.load(Relaxed) + more);
    }

    /// Overwrites the counter. Only its owner may.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Release);
    }

    /// Reads the counter.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Acquire)
    }
}

/// What one lane counts.
#[derive(Debug, Default)]
pub struct LaneLedger {
    /// Messages received, whatever became of them.
    pub received: Counter,
    /// Bytes of their frames; libzmq is asked for one more than a message may have at most.
    pub received_bytes: Counter,
    /// Messages rejected, by [`Rejection::ALL`].
    pub rejected: [Counter; Rejection::ALL.len()],
    /// Messages discarded by their policy, because the worker had no room for them.
    pub dropped: Counter,
    /// Messages superseded by a newer one of their topic before their worker took them.
    pub conflated: Counter,
    /// Its ways to the workers, by worker.
    pub ways: Box<[CachePadded<WayLedger>]>,
    /// Messages handed over, by shard, as a sample of them tells; but for topics that an override gives to a
    /// worker.
    pub by_shard: Box<[Counter]>,
    /// What it waited, on a cache line of its own.
    pub waits: CachePadded<Waits>,
    /// Connections made: handshakes that succeeded.
    pub connects: Counter,
    /// Connections lost after that.
    pub disconnects: Counter,
    /// Attempts to connect that came to nothing; libzmq does not say.
    pub connect_failures: Counter,
    /// Connections that ended in their handshake, for whatever reason.
    pub handshake_failures: Counter,
    /// Connections ended because their peer did what the protocol forbids, by [`Violation::ALL`].
    pub violations: [Counter; Violation::ALL.len()],
    /// Connections that libzmq gave up after a protocol error, and that the lane makes again.
    pub given_up: Counter,
    /// Connections ended because their handshake took too long.
    pub handshake_timeouts: Counter,
    /// Connections ended because their peer was silent for too long.
    pub heartbeat_timeouts: Counter,
    /// Connections ended because their peer began a message, or a command, and did not go on with it.
    pub message_timeouts: Counter,
    /// Connections that ended within a message, which was thrown away. It was never received.
    pub truncated: Counter,
    /// Messages thrown away because nothing is subscribed to them: no longer, or their publisher does
    /// not filter. They don't count as received.
    pub unwanted: Counter,
    /// Connections refused because there were too many.
    pub refused: Counter,
    /// Copies of messages already received, not delivered again.
    pub duplicates: Counter,
    /// Runs of numbers missing.
    pub gaps: Counter,
    /// Messages missing in them.
    pub missing: Counter,
    /// Messages that came after they had been reported missing.
    pub reordered: Counter,
    /// Series that began anew.
    pub restarts: Counter,
    /// Snapshots taken to their end.
    pub snapshots: Counter,
    /// Messages of snapshots, among those received.
    pub from_snapshots: Counter,
    /// Series of numbers, seen for the first time.
    pub first_seen: Counter,
    /// Messages of topics beyond the limit on those tracked.
    pub untracked: Counter,
    /// Moves of shards from one worker to another, done.
    pub moves: Counter,
    /// When a message was last rejected, discarded, superseded or found to be a copy here, in nanoseconds
    /// of the pipeline's clock.
    pub last_accounted_ns: Counter,
    /// When the first message came, in nanoseconds of the pipeline's clock; 0 before it.
    pub first_received_ns: Counter,
}

/// What one lane counts of its way to one worker.
#[derive(Debug, Default)]
pub struct WayLedger {
    /// Batches handed over.
    pub batches: Counter,
    /// Batches taken back to make room, but for those handed over again at once.
    pub taken_back: Counter,
    /// Messages in batches handed over.
    pub messages: Counter,
    /// Messages taken back to make room, but for those handed over again at once.
    pub messages_taken_back: Counter,
    /// Messages handed over of topics that an override gives to the worker, as a sample of them tells.
    pub placed: Counter,
}

/// What one worker counts.
#[derive(Debug, Default)]
pub struct WorkerLedger {
    /// Batches that it is done with.
    pub batches: Counter,
    /// Messages that the handler has seen.
    pub delivered: Counter,
    /// Messages discarded because the handler had panicked, or was too late for too long.
    pub dropped: Counter,
    /// Messages superseded by a newer one of their topic.
    pub conflated: Counter,
    /// Notices that the handler has not seen because too many waited for it.
    pub untold: Counter,
    /// When the worker was last done with a batch, in nanoseconds of the pipeline's clock.
    pub last_done_ns: Counter,
    /// 1 where nothing is expected of the worker any more: its handler does not return. Set by whoever looks at the
    /// pipeline.
    pub abandoned: Counter,
}

/// The counters of a pipeline.
#[derive(Debug)]
pub struct Ledger {
    /// One set of counters a lane.
    pub lanes: Box<[CachePadded<LaneLedger>]>,
    /// One set of counters a worker.
    pub workers: Box<[CachePadded<WorkerLedger>]>,
    /// The first few messages rejected.
    pub samples: Samples,
}

impl Ledger {
    /// Starts all counters at zero.
    #[must_use]
    pub fn new(lanes: usize, workers: usize) -> Self {
        let ways = || (0..workers).map(|_| CachePadded::default()).collect();
        let lane = |_| {
            CachePadded::new(LaneLedger {
                ways: ways(),
                by_shard: (0..SHARDS).map(|_| Counter::default()).collect(),
                ..LaneLedger::default()
            })
        };
        Self {
            lanes: (0..lanes).map(lane).collect(),
            workers: (0..workers).map(|_| CachePadded::default()).collect(),
            samples: Samples::default(),
        }
    }

    /// Adds the counters up.
    ///
    /// What became of messages is read before what was received, and counted after it, so no total
    /// says of more messages what became of them than were received.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let worker = |counter: fn(&WorkerLedger) -> &Counter| -> u64 {
            self.workers.iter().map(|one| counter(one).get()).sum()
        };
        let delivered = worker(|one| &one.delivered);
        let workers_done = self.workers.iter().map(|one| one.last_done_ns.get());
        let lanes_done = self.lanes.iter().map(|one| one.last_accounted_ns.get());
        let last_accounted_ns = workers_done.chain(lanes_done).max().unwrap_or(0);
        let lane = |counter: fn(&LaneLedger) -> &Counter| -> u64 {
            self.lanes.iter().map(|one| counter(one).get()).sum()
        };
        let dropped = worker(|one| &one.dropped) + lane(|one| &one.dropped);
        let conflated = worker(|one| &one.conflated) + lane(|one| &one.conflated);
        let duplicates = lane(|one| &one.duplicates);
        let rejected_by_reason = self.by_number(|one| &one.rejected);
        Totals {
            received: lane(|one| &one.received),
            received_bytes: lane(|one| &one.received_bytes),
            delivered,
            conflated,
            dropped,
            duplicates,
            rejected_by_reason,
            gaps: lane(|one| &one.gaps),
            missing: lane(|one| &one.missing),
            reordered: lane(|one| &one.reordered),
            restarts: lane(|one| &one.restarts),
            snapshots: lane(|one| &one.snapshots),
            from_snapshots: lane(|one| &one.from_snapshots),
            first_seen: lane(|one| &one.first_seen),
            untracked: lane(|one| &one.untracked),
            given_up_early: 0,
            untold: worker(|one| &one.untold),
            batches: (self.lanes.iter())
                .flat_map(|one| &one.ways)
                .map(|way| way.batches.get())
                .sum(),
            blocked: lane(|one| &one.waits.blocked),
            blocked_ns: lane(|one| &one.waits.blocked_ns),
            queued_ns: lane(|one| &one.waits.queued_ns),
            connects: lane(|one| &one.connects),
            disconnects: lane(|one| &one.disconnects),
            connect_failures: lane(|one| &one.connect_failures),
            handshake_failures: lane(|one| &one.handshake_failures),
            violations: self.by_number(|one| &one.violations),
            given_up: lane(|one| &one.given_up),
            handshake_timeouts: lane(|one| &one.handshake_timeouts),
            heartbeat_timeouts: lane(|one| &one.heartbeat_timeouts),
            message_timeouts: lane(|one| &one.message_timeouts),
            truncated: lane(|one| &one.truncated),
            unwanted: lane(|one| &one.unwanted),
            refused: lane(|one| &one.refused),
            last_accounted_ns,
            first_received_ns: self
                .lanes
                .iter()
                .map(|one| one.first_received_ns.get())
                .filter(|&at| at > 0)
                .min()
                .unwrap_or(0),
        }
    }
}

impl Ledger {
    /// Adds up counters that lanes keep by number.
    fn by_number<const N: usize>(&self, counters: fn(&LaneLedger) -> &[Counter; N]) -> [u64; N] {
        let mut totals = [0; N];
        for lane in &self.lanes {
            for (total, counter) in totals.iter_mut().zip(counters(lane)) {
                *total += counter.get();
            }
        }
        totals
    }
}

/// The ledger of a whole pipeline at one moment. Counts are of messages unless named otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Received, whatever became of them.
    pub received: u64,
    /// Bytes of their frames.
    pub received_bytes: u64,
    /// Seen by a handler.
    pub delivered: u64,
    /// Superseded by a newer message of their topic.
    pub conflated: u64,
    /// Discarded by their policy, or because a handler had panicked.
    pub dropped: u64,
    /// Copies of messages already received.
    pub duplicates: u64,
    /// Runs of numbers missing.
    pub gaps: u64,
    /// Messages missing in them.
    pub missing: u64,
    /// Messages that came after they had been reported missing.
    pub reordered: u64,
    /// Series that began anew.
    pub restarts: u64,
    /// Snapshots taken to their end.
    pub snapshots: u64,
    /// Messages of snapshots, among those received.
    pub from_snapshots: u64,
    /// Series of numbers, seen for the first time; those of merged lines known at the end.
    pub first_seen: u64,
    /// Messages of topics beyond the limit on those tracked.
    pub untracked: u64,
    /// Times that missing messages were given up before their time, because too much was held; known at the
    /// end.
    pub given_up_early: u64,
    /// Notices that handlers have not seen because too many waited for them.
    pub untold: u64,
    /// Rejected, by [`Rejection::ALL`].
    pub rejected_by_reason: [u64; Rejection::ALL.len()],
    /// Batches handed over.
    pub batches: u64,
    /// Times a lane waited for a full handoff.
    pub blocked: u64,
    /// Nanoseconds lanes waited for full handoffs.
    pub blocked_ns: u64,
    /// Nanoseconds lanes waited for their turn with feeds that others carry copies of.
    pub queued_ns: u64,
    /// Connections made: handshakes that succeeded.
    pub connects: u64,
    /// Connections lost after that.
    pub disconnects: u64,
    /// Attempts to connect that came to nothing; libzmq does not say.
    pub connect_failures: u64,
    /// Connections that ended in their handshake, for whatever reason.
    pub handshake_failures: u64,
    /// Connections ended because their peer did what the protocol forbids, by [`Violation::ALL`].
    pub violations: [u64; Violation::ALL.len()],
    /// Connections that libzmq gave up after a protocol error, and that the lane makes again.
    pub given_up: u64,
    /// Connections ended because their handshake took too long.
    pub handshake_timeouts: u64,
    /// Connections ended because their peer was silent for too long.
    pub heartbeat_timeouts: u64,
    /// Connections ended because their peer began a message and did not go on with it.
    pub message_timeouts: u64,
    /// Connections that ended within a message, which was thrown away.
    pub truncated: u64,
    /// Messages thrown away because nothing is subscribed to them.
    pub unwanted: u64,
    /// Connections refused because there were too many.
    pub refused: u64,
    /// When the first message came, in nanoseconds of the pipeline's clock; 0 before it.
    pub first_received_ns: u64,
    /// When a message was last accounted for, in nanoseconds of the pipeline's clock.
    pub last_accounted_ns: u64,
}

impl Totals {
    /// Returns the messages rejected for any reason.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected_by_reason.iter().sum()
    }

    /// Returns the connections ended because of what their peer sent.
    #[must_use]
    pub fn protocol_errors(&self) -> u64 {
        self.given_up + self.violations.iter().sum::<u64>()
    }

    /// Returns the messages that were published and never came, as far as numbers tell.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.missing.saturating_sub(self.reordered)
    }

    /// Returns the messages received that are not accounted for: those under way, and none at rest.
    ///
    /// Negative where more is accounted for than was received, which no moment allows.
    #[must_use]
    pub fn under_way(&self) -> i64 {
        self.received as i64 - self.accounted() as i64
    }

    /// Returns the messages whose fate is known.
    #[must_use]
    pub fn accounted(&self) -> u64 {
        self.delivered + self.conflated + self.dropped + self.duplicates + self.rejected()
    }

    /// Tells whether every message received is accounted for. True at rest, or a defect.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.under_way() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_over_threads() {
        let ledger = Ledger::new(2, 2);
        for (lane, at) in ledger.lanes.iter().zip([0, 70]) {
            lane.received.add(10);
            lane.rejected[1].add(1);
            lane.first_received_ns.set(at);
        }
        for (worker, at) in ledger.workers.iter().zip([90, 80]) {
            worker.delivered.add(8);
            worker.last_done_ns.set(at);
        }
        let totals = ledger.totals();
        assert_eq!((totals.received, totals.delivered), (20, 16));
        assert_eq!((totals.rejected(), totals.under_way()), (2, 2));
        assert_eq!(
            (totals.first_received_ns, totals.last_accounted_ns),
            (70, 90)
        );
        assert!(!totals.balanced());
        ledger.workers[0].dropped.add(1);
        ledger.lanes[1].conflated.add(1);
        assert!(ledger.totals().balanced());
    }
}
