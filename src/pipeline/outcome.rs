//! What a pipeline did, and the figures that follow from it.

use std::sync::{Arc, OnceLock};

use serde::Serialize;

use crate::{
    clock::{SECOND_NS, process_cpu_ns},
    config::Engine,
    error::Error,
    flight::FlightRecord,
    host::pin::Placement,
    lane::{Absence, Unreached},
    latency::{FeedClocks, Stages},
    ledger::{RejectedSample, Totals},
    policy::ByTopic,
    sequence::arbiter::LineCounts,
};

/// What a pipeline did, once it has stopped.
#[derive(Debug)]
pub struct Outcome<H> {
    /// What received.
    pub engine: Engine,
    /// The ledger, at rest.
    pub totals: Totals,
    /// Messages published that never came, as far as their numbers tell; `None` where no feed's messages
    /// have any that are looked at.
    pub lost: Option<u64>,
    /// Feeds of which nobody knows, by name.
    pub unnumbered: Vec<String>,
    /// From the first message received to the last delivered, dropped or rejected, in nanoseconds.
    pub elapsed_ns: u64,
    /// CPU time of this process, user and system, over that time, in nanoseconds.
    pub cpu_ns: u64,
    /// How long messages waited, over all workers.
    pub stages: Stages,
    /// The part of it that no [`collect_stages`](crate::pipeline::Pipeline::collect_stages) returned.
    pub uncollected: Stages,
    /// How to read their feed times.
    pub feed_clocks: FeedClocks,
    /// How the lines of feeds that are copies of each other stood against one another.
    pub lines: Vec<LineOutcome>,
    /// The endpoints that never had a connection, with the last reason: those to be connected to, and those bound.
    pub unreached: Vec<Unreached>,
    /// Where the threads ran, and what the kernel counted of them.
    pub threads: Vec<ThreadOutcome>,
    /// The first few messages rejected, of each reason.
    pub rejected_samples: Vec<RejectedSample>,
    /// The handlers, in the order of their workers, without those of abandoned ones that have not returned by the end.
    pub handlers: Vec<H>,
    /// The workers, counted from 0, whose handler did not [return](crate::pipeline::Pipeline::finish) in time. What they
    /// have at the end is still under way in `totals`.
    pub abandoned: Vec<usize>,
    /// What made it fail, if anything did: the first error or handler's panic.
    pub failure: Option<Error>,
    /// The names of the feeds, in the order of the configuration.
    pub feeds: Vec<String>,
    /// What became of messages that were not delivered, topic by topic.
    pub by_topic: ByTopic,
    /// What went wrong on the way, whether or not it was a failure.
    pub flight: FlightRecord,
}

/// Where a thread ran, and what the kernel counted of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThreadOutcome {
    /// Where it was put.
    #[serde(flatten)]
    pub placement: Placement,
    /// The core that it ran on last; `None`, here and below, where the kernel did not say.
    pub core_now: Option<usize>,
    /// Times its core was given to another although it had work.
    pub involuntary_switches: Option<u64>,
    /// Times it went on on another core.
    pub migrations: Option<u64>,
}

/// What one of the lines of a feed brought, where they are copies of each other.
#[derive(Clone, Debug)]
pub struct LineOutcome {
    /// The feed's name.
    pub feed: String,
    /// The line's place in its feed.
    pub line: usize,
    /// What was counted.
    pub counts: LineCounts,
    /// How often it was not there.
    pub absence: Absence,
}

/// What was counted so far of one of the lines of a feed, where they are copies of each other.
#[derive(Clone, Copy, Debug)]
pub struct LineGlance {
    /// The feed's place in the configuration.
    pub feed: usize,
    /// The line's place in its feed.
    pub line: usize,
    /// Copies received by this line.
    pub copies: u64,
    /// Copies that came first.
    pub wins: u64,
    /// Messages that this line lost and another one brought.
    pub repaired: u64,
    /// The longest that one of its copies came after the first one, in nanoseconds, of a sample.
    pub lag_max_ns: u64,
    /// How often it was not there.
    pub absence: Absence,
}

impl<H> Outcome<H> {
    /// Returns messages received a second, over the time that they flowed.
    #[must_use]
    pub fn messages_per_s(&self) -> f64 {
        self.per_s(self.totals.received)
    }

    /// Returns bytes received a second, over the time that they flowed.
    #[must_use]
    pub fn bytes_per_s(&self) -> f64 {
        self.per_s(self.totals.received_bytes)
    }

    fn per_s(&self, amount: u64) -> f64 {
        ratio(amount as f64 * SECOND_NS as f64, self.elapsed_ns)
    }

    /// Returns the CPU time for each message received, in nanoseconds.
    #[must_use]
    pub fn cpu_ns_per_message(&self) -> f64 {
        ratio(self.cpu_ns as f64, self.totals.received)
    }
}

/// Divides, with nothing for nothing.
pub(crate) fn ratio(numerator: f64, denominator: u64) -> f64 {
    if denominator == 0 {
        0.0
    } else {
        numerator / denominator as f64
    }
}

/// The process's CPU time at the ends of the time that messages flowed.
#[derive(Debug, Default)]
pub(super) struct CpuMarks {
    pub(super) at_first_ns: Arc<OnceLock<u64>>,
    /// The messages accounted for at the last look that found more, and the CPU time then.
    last: (u64, u64),
}

impl CpuMarks {
    pub(super) fn look(&mut self, totals: &Totals) {
        if totals.accounted() != self.last.0 {
            self.last = (totals.accounted(), process_cpu_ns());
        }
    }

    pub(super) fn used_ns(&self) -> u64 {
        let first = self.at_first_ns.get().copied().unwrap_or(self.last.1);
        self.last.1.saturating_sub(first)
    }
}
