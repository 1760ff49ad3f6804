//! The summary of a run.

use std::{collections::BTreeMap, fmt};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    host::pin::Placement,
    latency::FeedClock,
    ledger::Rejection,
    pipeline::Outcome,
    report::{count, rate, time},
};

/// What a run came to. Its JSON is what scripts rely on: fields are added, never changed.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// What received: `libzmq`.
    pub engine: &'static str,
    /// From the first message received to the last delivered, in seconds.
    pub elapsed_s: f64,
    /// Messages received, whatever became of them.
    pub received: u64,
    /// Messages that a handler has seen.
    pub delivered: u64,
    /// Messages superseded by a newer one of their topic.
    pub conflated: u64,
    /// Messages discarded.
    pub dropped: u64,
    /// Copies of messages already received.
    pub duplicates: u64,
    /// Messages that did not fit their envelope or a limit.
    pub rejected: u64,
    /// The same by reason, where there were any.
    pub rejected_by_reason: BTreeMap<&'static str, u64>,
    /// Messages published that never came; null where nobody knows.
    pub lost: Option<u64>,
    /// Whether all that was received is accounted for.
    pub balanced: bool,
    /// Messages received a second.
    pub msgs_per_s: f64,
    /// Bytes received a second.
    pub bytes_per_s: f64,
    /// CPU time of the process, user and system, for each message received, in nanoseconds.
    pub cpu_ns_per_msg: f64,
    /// Distinct topics; null where the handler does not count them.
    pub topics: Option<u64>,
    /// Batches handed to workers.
    pub batches: u64,
    /// Times a lane waited for a full handoff.
    pub blocked: u64,
    /// Seconds that lanes waited for full handoffs.
    pub blocked_s: f64,
    /// Connections made: handshakes that succeeded.
    pub connects: u64,
    /// Connections lost after that.
    pub disconnects: u64,
    /// Connections that ended in their handshake: the peer was no publisher.
    pub handshake_failures: u64,
    /// How long messages waited, in nanoseconds.
    pub latency_ns: LatencySummary,
    /// Where the threads ran.
    pub threads: Vec<Placement>,
}

/// How long messages waited, by stage.
#[derive(Clone, Debug, Serialize)]
pub struct LatencySummary {
    /// Received to handler start.
    pub queue: StageSummary,
    /// Handler start to handler done.
    pub handler: StageSummary,
    /// Publisher's timestamp to handler start.
    pub feed: FeedSummary,
}

/// The percentiles of a stage in nanoseconds; null where nothing was recorded.
#[derive(Clone, Debug, Serialize)]
pub struct StageSummary {
    /// Messages recorded.
    pub count: u64,
    /// Half took no longer than this.
    pub p50: Option<u64>,
    /// 90 % took no longer than this.
    pub p90: Option<u64>,
    /// 99 % took no longer than this.
    pub p99: Option<u64>,
    /// 99.9 % took no longer than this.
    pub p99_9: Option<u64>,
    /// 99.99 % took no longer than this.
    pub p99_99: Option<u64>,
    /// The longest.
    pub max: Option<u64>,
}

/// The percentiles of the feed stage, and how to read them.
#[derive(Clone, Debug, Serialize)]
pub struct FeedSummary {
    /// The percentiles.
    #[serde(flatten)]
    pub stage: StageSummary,
    /// `absolute`: plain differences of the two clocks. `excess`: our clock is behind a publisher's,
    /// so this is the excess over the smallest difference seen.
    pub basis: &'static str,
    /// That smallest difference, ours minus theirs, where below zero.
    pub clock_behind_ns: i64,
}

impl StageSummary {
    fn new(histogram: &Histogram<u64>) -> Self {
        let known = !histogram.is_empty();
        let at = |quantile| known.then(|| histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: known.then(|| histogram.max()),
        }
    }

    fn columns(&self) -> [Option<u64>; 6] {
        [
            self.p50,
            self.p90,
            self.p99,
            self.p99_9,
            self.p99_99,
            self.max,
        ]
    }
}

impl Summary {
    /// Sums a run up. `topics` is the number of distinct topics, where it was counted.
    #[must_use]
    pub fn new<H>(outcome: &Outcome<H>, topics: Option<u64>) -> Self {
        let totals = &outcome.totals;
        let stages = &outcome.stages;
        let FeedClock { behind_ns, .. } = stages.feed_clock;
        Self {
            engine: "libzmq",
            elapsed_s: outcome.elapsed_ns as f64 / 1e9,
            received: totals.received,
            delivered: totals.delivered,
            conflated: totals.conflated,
            dropped: totals.dropped,
            duplicates: totals.duplicates,
            rejected: totals.rejected(),
            rejected_by_reason: Rejection::ALL
                .iter()
                .zip(totals.rejected_by_reason)
                .filter(|(_, count)| *count > 0)
                .map(|(reason, count)| (reason.name(), count))
                .collect(),
            lost: None,
            balanced: totals.balanced(),
            msgs_per_s: outcome.messages_per_s(),
            bytes_per_s: outcome.bytes_per_s(),
            cpu_ns_per_msg: outcome.cpu_ns_per_message(),
            topics,
            batches: totals.batches,
            blocked: totals.blocked,
            blocked_s: totals.blocked_ns as f64 / 1e9,
            connects: totals.connects,
            disconnects: totals.disconnects,
            handshake_failures: totals.handshake_failures,
            latency_ns: LatencySummary {
                queue: StageSummary::new(&stages.queue),
                handler: StageSummary::new(&stages.handler),
                feed: FeedSummary {
                    stage: StageSummary::new(&stages.feed),
                    basis: if stages.feed_clock.is_excess() {
                        "excess"
                    } else {
                        "absolute"
                    },
                    clock_behind_ns: behind_ns,
                },
            },
            threads: outcome.placements.clone(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |out: &mut fmt::Formatter<'_>, name: &str, number: u64, note: &str| {
            writeln!(out, "  {name:<12}{:>15}{note}", count(number))
        };
        writeln!(out, "messages")?;
        let pace = format!(
            "   in {:.2} s: {} msg/s, {}B/s, {:.0} ns of CPU each",
            self.elapsed_s,
            rate(self.msgs_per_s),
            rate(self.bytes_per_s),
            self.cpu_ns_per_msg,
        );
        line(out, "received", self.received, &pace)?;
        let size = ratio(self.delivered, self.batches);
        let batches = format!("   in {} batches of {size:.1}", count(self.batches));
        line(out, "delivered", self.delivered, &batches)?;
        for (name, number) in [
            ("conflated", self.conflated),
            ("dropped", self.dropped),
            ("duplicates", self.duplicates),
        ] {
            line(out, name, number, "")?;
        }
        let reasons: Vec<String> = self
            .rejected_by_reason
            .iter()
            .map(|(reason, number)| format!("{} {reason}", count(*number)))
            .collect();
        let reasons = if reasons.is_empty() {
            String::new()
        } else {
            format!("   {}", reasons.join(", "))
        };
        line(out, "rejected", self.rejected, &reasons)?;
        match self.lost {
            Some(lost) => line(out, "lost", lost, "")?,
            None => writeln!(
                out,
                "  {:<12}{:>15}   nothing counts what was published",
                "lost", "unknown"
            )?,
        }
        let verdict = if self.balanced {
            "balanced: every message received is accounted for"
        } else {
            "NOT BALANCED: messages received are not accounted for"
        };
        writeln!(out, "  {verdict}")?;
        if let Some(topics) = self.topics {
            line(out, "topics", topics, "")?;
        }
        let lost = format!(
            "   made, {} lost, {} failed in their handshake",
            count(self.disconnects),
            count(self.handshake_failures)
        );
        line(out, "connections", self.connects, &lost)?;
        if self.blocked > 0 {
            let note = format!(
                "   times, {:.3} s in all, a lane waited for a worker",
                self.blocked_s
            );
            line(out, "blocked", self.blocked, &note)?;
        }
        writeln!(
            out,
            "latency{:>15}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "count", "p50", "p90", "p99", "p99.9", "p99.99", "max"
        )?;
        let latency = &self.latency_ns;
        let (feed, excess) = (&latency.feed.stage, latency.feed.basis == "excess");
        for (name, stage) in [
            ("queue", &latency.queue),
            ("handler", &latency.handler),
            ("feed", feed),
        ] {
            if stage.count == 0 {
                continue;
            }
            write!(out, "  {name:<8}{:>12}", count(stage.count))?;
            for value in stage.columns() {
                write!(out, "{:>10}", time(value.unwrap_or(0) as f64))?;
            }
            writeln!(out)?;
        }
        writeln!(
            out,
            "  queue: received to handler start; handler: its mean in each batch; feed: publisher to \
             handler start"
        )?;
        if feed.count > 0 && excess {
            writeln!(
                out,
                "  feed is the excess over the fastest message: our clock is {} behind the publisher's",
                time(latency.feed.clock_behind_ns.unsigned_abs() as f64)
            )?;
        }
        write!(out, "threads")?;
        for thread in &self.threads {
            match (thread.core_wanted, thread.core_got) {
                (None, None) => write!(out, "  {} on any core", thread.name)?,
                (Some(wanted), got) if got != Some(wanted) => {
                    write!(out, "  {} NOT on core {wanted}", thread.name)?;
                }
                (_, got) => write!(out, "  {} on core {}", thread.name, got.unwrap_or_default())?,
            }
        }
        writeln!(out)
    }
}

fn ratio(numerator: u64, denominator: u64) -> f64 {
    if denominator == 0 {
        0.0
    } else {
        numerator as f64 / denominator as f64
    }
}
