//! The summary of a run.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{
    flight::Anomaly,
    latency::Quantiles,
    ledger::{RejectedSample, Rejection},
    pipeline::{Outcome, ThreadOutcome, ratio},
    policy::ByTopic,
    report::{LineSummary, count, counted, rate, threads::disturbed, time},
    zmtp::Violation,
};

/// The most topics of messages that were not delivered that a summary shows.
const UNDELIVERED_SHOWN: usize = 10;
/// The most anomalies that people are shown.
const ANOMALIES_SHOWN: usize = 10;

/// What a run came to. Its JSON is what scripts rely on: fields are added, never changed.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// What received: `native` or `libzmq`.
    pub engine: &'static str,
    /// From the first message received to the last delivered, dropped or rejected, in seconds.
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
    /// The first few of them, of each reason.
    pub rejected_samples: Vec<RejectedSample>,
    /// Messages published that never came, of feeds with numbers; null where there are none.
    pub lost: Option<u64>,
    /// Feeds whose losses nobody knows, by name.
    pub unnumbered: Vec<String>,
    /// Runs of numbers missing.
    pub gaps: u64,
    /// Messages that came after they had been reported missing.
    pub reordered: u64,
    /// Series of numbers that began anew: publishers' restarts, seen topic by topic.
    pub restarts: u64,
    /// Snapshots taken to their end.
    pub snapshots: u64,
    /// Messages of snapshots, among those received.
    pub from_snapshots: u64,
    /// Series of numbers, seen for the first time: topics, or lines where numbers count over all topics.
    pub first_seen: u64,
    /// Messages of topics beyond the limit on those whose numbers are looked at.
    pub untracked: u64,
    /// Times that messages missing on all lines were given up before their time, because too much was held.
    pub given_up_early: u64,
    /// Notices that handlers were not told because too many waited for them.
    pub untold: u64,
    /// How the lines of feeds that are copies of each other stood against one another.
    pub lines: Vec<LineSummary>,
    /// Whether all that was received is accounted for.
    pub balanced: bool,
    /// Messages that nothing has become of: 0 unless a worker was abandoned.
    pub under_way: i64,
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
    /// Seconds that lanes waited for their turn with feeds that other lanes carry copies of.
    pub queued_s: f64,
    /// Connections made: handshakes that succeeded.
    pub connects: u64,
    /// Connections lost after that.
    pub disconnects: u64,
    /// Attempts to connect that came to nothing; 0 with libzmq, which does not say.
    pub connect_failures: u64,
    /// Connections that ended in their handshake, for whatever reason: the peer was no publisher, perhaps.
    pub handshake_failures: u64,
    /// Connections ended because of what the peer sent, such as a frame above the size limit.
    pub protocol_errors: u64,
    /// The same by reason, where there were any; libzmq does not say for which it gives up.
    pub protocol_errors_by_reason: BTreeMap<&'static str, u64>,
    /// Connections ended because their handshake took too long.
    pub handshake_timeouts: u64,
    /// Connections ended because the peer was silent for too long.
    pub heartbeat_timeouts: u64,
    /// Connections ended because the peer began a message, or a command, and did not go on with it.
    pub message_timeouts: u64,
    /// Connections refused because there were too many.
    pub refused: u64,
    /// Connections that ended within a message, which was thrown away and does not count as received.
    pub truncated: u64,
    /// Messages thrown away because nothing was subscribed to them, which don't count as received.
    pub unwanted: u64,
    /// What became of messages that were not delivered: topics with the most of them.
    pub undelivered: UndeliveredSummary,
    /// What went wrong, oldest first; the last entries of the flight record.
    pub anomalies: Vec<Anomaly>,
    /// Entries before them that were forgotten.
    pub anomalies_forgotten: u64,
    /// How long messages waited, in nanoseconds.
    pub latency_ns: LatencySummary,
    /// Where the threads ran, and what the kernel counted of them.
    pub threads: Vec<ThreadOutcome>,
}

/// What became of messages that were not delivered, by topic.
#[derive(Clone, Debug, Serialize)]
pub struct UndeliveredSummary {
    /// All that were counted apart, those with the most messages first.
    pub topics: Vec<UndeliveredTopic>,
    /// Messages dropped of topics that are not counted apart.
    pub other_dropped: u64,
    /// Messages superseded of such topics.
    pub other_conflated: u64,
}

/// What became of a topic's messages that were not delivered.
#[derive(Clone, Debug, Serialize)]
pub struct UndeliveredTopic {
    /// The feed's name.
    pub feed: String,
    /// The topic, escaped.
    pub topic: String,
    /// Messages dropped.
    pub dropped: u64,
    /// Messages superseded by a newer one of the topic.
    pub conflated: u64,
}

impl UndeliveredSummary {
    fn new(by_topic: &ByTopic, feeds: &[String]) -> Self {
        let topics = by_topic.topics.iter();
        Self {
            topics: topics
                .map(|row| UndeliveredTopic {
                    feed: feeds
                        .get(usize::from(row.feed))
                        .cloned()
                        .unwrap_or_default(),
                    topic: row.topic.escape_ascii().to_string(),
                    dropped: row.dropped,
                    conflated: row.conflated,
                })
                .collect(),
            other_dropped: by_topic.other_dropped,
            other_conflated: by_topic.other_conflated,
        }
    }
}

/// How long messages waited, by stage.
#[derive(Clone, Debug, Serialize)]
pub struct LatencySummary {
    /// Received to handler start.
    pub queue: Quantiles,
    /// Handler start to handler done.
    pub handler: Quantiles,
    /// Publisher's timestamp to handler start.
    pub feed: FeedSummary,
}

/// The percentiles of the feed stage, and how to read them.
#[derive(Clone, Debug, Serialize)]
pub struct FeedSummary {
    /// The percentiles.
    #[serde(flatten)]
    pub stage: Quantiles,
    /// `absolute`: plain differences of the two clocks. `excess`: our clock is behind a publisher's,
    /// so for the lines it came by this is the excess over the smallest difference seen.
    pub basis: &'static str,
    /// That smallest difference, theirs minus ours, over all lines.
    pub clock_behind_ns: u64,
    /// Messages that seemed to have arrived before they were sent.
    pub negative: u64,
}

impl Summary {
    /// Sums a run up. `topics` is the number of distinct topics, where it was counted.
    #[must_use]
    pub fn new<H>(outcome: &Outcome<H>, topics: Option<u64>) -> Self {
        let totals = &outcome.totals;
        let stages = &outcome.stages;
        let behind_ns = outcome.feed_clocks.behind_ns();
        Self {
            engine: outcome.engine.name(),
            elapsed_s: outcome.elapsed_ns as f64 / 1e9,
            received: totals.received,
            delivered: totals.delivered,
            conflated: totals.conflated,
            dropped: totals.dropped,
            duplicates: totals.duplicates,
            rejected: totals.rejected(),
            rejected_by_reason: by_reason(
                Rejection::ALL
                    .iter()
                    .map(|one| one.name())
                    .zip(totals.rejected_by_reason),
            ),
            rejected_samples: outcome.rejected_samples.clone(),
            lost: outcome.lost,
            unnumbered: outcome.unnumbered.clone(),
            gaps: totals.gaps,
            reordered: totals.reordered,
            restarts: totals.restarts,
            snapshots: totals.snapshots,
            from_snapshots: totals.from_snapshots,
            first_seen: totals.first_seen,
            untracked: totals.untracked,
            given_up_early: totals.given_up_early,
            untold: totals.untold,
            lines: outcome.lines.iter().map(LineSummary::new).collect(),
            balanced: totals.balanced(),
            under_way: totals.under_way(),
            msgs_per_s: outcome.messages_per_s(),
            bytes_per_s: outcome.bytes_per_s(),
            cpu_ns_per_msg: outcome.cpu_ns_per_message(),
            topics,
            batches: totals.batches,
            blocked: totals.blocked,
            blocked_s: totals.blocked_ns as f64 / 1e9,
            queued_s: totals.queued_ns as f64 / 1e9,
            connects: totals.connects,
            disconnects: totals.disconnects,
            connect_failures: totals.connect_failures,
            handshake_failures: totals.handshake_failures,
            protocol_errors: totals.protocol_errors(),
            protocol_errors_by_reason: {
                let named = Violation::ALL.iter().map(|one| one.name());
                by_reason(
                    named
                        .zip(totals.violations)
                        .chain([("libzmq_gave_up", totals.given_up)]),
                )
            },
            handshake_timeouts: totals.handshake_timeouts,
            heartbeat_timeouts: totals.heartbeat_timeouts,
            message_timeouts: totals.message_timeouts,
            refused: totals.refused,
            truncated: totals.truncated,
            unwanted: totals.unwanted,
            undelivered: UndeliveredSummary::new(&outcome.by_topic, &outcome.feeds),
            anomalies: outcome.flight.entries(),
            anomalies_forgotten: outcome.flight.forgotten(),
            latency_ns: LatencySummary {
                queue: Quantiles::of(&stages.queue),
                handler: Quantiles::of(&stages.handler),
                feed: FeedSummary {
                    stage: Quantiles::of(&stages.feed),
                    basis: if behind_ns > 0 { "excess" } else { "absolute" },
                    clock_behind_ns: behind_ns,
                    negative: stages.feed_negative,
                },
            },
            threads: {
                let mut threads = outcome.threads.clone();
                threads.sort_by(|a, b| a.placement.name.cmp(&b.placement.name));
                threads
            },
        }
    }
}

fn by_reason(counts: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<&'static str, u64> {
    counts.filter(|(_, count)| *count > 0).collect()
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_samples(out)?;
        self.write_messages(out)?;
        for line in &self.lines {
            writeln!(out, "  {line}")?;
        }
        self.write_connections(out)?;
        self.write_latency(out)?;
        self.write_threads(out)?;
        self.write_undelivered(out)?;
        self.write_anomalies(out)
    }
}

/// Writes a row of the table.
fn row(out: &mut fmt::Formatter<'_>, name: &str, number: u64, note: &str) -> fmt::Result {
    writeln!(out, "  {name:<12}{:>15}{note}", count(number))
}

impl Summary {
    fn write_samples(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rejected_samples.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "warning: {} message(s) rejected, of which the first few were, with each frame's length and start:",
            count(self.rejected)
        )?;
        for sample in &self.rejected_samples {
            writeln!(out, "  {sample}")?;
        }
        Ok(())
    }

    fn write_messages(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "messages by the {} engine", self.engine)?;
        let pace = format!(
            "   in {:.2} s: {} msg/s, {}B/s, {:.0} ns of CPU each",
            self.elapsed_s,
            rate(self.msgs_per_s),
            rate(self.bytes_per_s),
            self.cpu_ns_per_msg,
        );
        row(
            out,
            "received",
            self.received,
            if self.received > 0 { &pace } else { "" },
        )?;
        if self.snapshots > 0 || self.from_snapshots > 0 {
            let note = format!("   of {} snapshot(s)", count(self.snapshots));
            row(out, "  of the past", self.from_snapshots, &note)?;
        }
        let size = ratio(self.delivered as f64, self.batches);
        let batches = format!("   in {} batches of {size:.1}", count(self.batches));
        row(
            out,
            "delivered",
            self.delivered,
            if self.batches > 0 { &batches } else { "" },
        )?;
        for (name, number) in [
            ("conflated", self.conflated),
            ("duplicates", self.duplicates),
        ] {
            if number > 0 {
                row(out, name, number, "")?;
            }
        }
        row(out, "dropped", self.dropped, "")?;
        let reasons = self.rejected_by_reason.iter();
        let mut reasons: Vec<String> = reasons
            .map(|(reason, number)| format!("{} {reason}", count(*number)))
            .collect();
        if self.received > 0 && self.rejected == self.received {
            reasons.push("is --envelope the publisher's?".to_owned());
        }
        let reasons = reasons.join(", ");
        row(
            out,
            "rejected",
            self.rejected,
            format!("   {reasons}").trim_end(),
        )?;
        match self.lost {
            Some(lost) => row(out, "lost", lost, &self.loss_note())?,
            None => writeln!(
                out,
                "  {:<12}{:>15}   nothing counts what was published",
                "lost", "unknown"
            )?,
        }
        let verdict = match (self.balanced, self.received) {
            (true, 0) => "nothing was received",
            (true, _) => "balanced: every message received is accounted for",
            (false, _) => "NOT BALANCED: messages received are not accounted for",
        };
        writeln!(out, "  {verdict}")?;
        let Some(topics) = self.topics else {
            return Ok(());
        };
        // A topic of its own for most messages is what the wrong envelope makes of a feed.
        let note = if self.delivered > 1_000 && topics > self.delivered / 2 {
            "   nearly as many as messages: is --envelope the publisher's?"
        } else {
            ""
        };
        row(out, "topics", topics, note)
    }

    /// What is said beside the number of lost messages.
    fn loss_note(&self) -> String {
        let named = [
            (self.gaps, ("gap", "gaps")),
            (self.reordered, ("came after all", "came after all")),
            (self.restarts, ("topic began anew", "topics began anew")),
            (self.untracked, ("not looked at", "not looked at")),
            (
                self.given_up_early,
                (
                    "time given up early, too much was held",
                    "times given up early, too much was held",
                ),
            ),
            (
                self.untold,
                ("notice too many to be told", "notices too many to be told"),
            ),
        ];
        let mut known: Vec<String> = named
            .into_iter()
            .filter(|&(number, _)| number > 0)
            .map(|(number, names)| counted(number, names))
            .collect();
        if !self.unnumbered.is_empty() {
            known.push(format!("nobody knows of {}", self.unnumbered.join(", ")));
        }
        if known.is_empty() {
            String::new()
        } else {
            format!("   {}", known.join(", "))
        }
    }

    fn write_connections(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut note = format!("   made, {} lost", count(self.disconnects));
        if self.connect_failures > 0 {
            note += &format!(", {} not made", count(self.connect_failures));
        }
        if self.handshake_failures > 0 {
            note += &format!(", {} to no publisher", count(self.handshake_failures));
        }
        for (reason, number) in &self.protocol_errors_by_reason {
            note += &format!(", {} ended for {reason}", count(*number));
        }
        for (reason, number) in [
            ("too long a handshake", self.handshake_timeouts),
            ("silence", self.heartbeat_timeouts),
            ("silence within a message", self.message_timeouts),
        ] {
            if number > 0 {
                note += &format!(", {} ended for {reason}", count(number));
            }
        }
        if self.refused > 0 {
            note += &format!(", {} too many", count(self.refused));
        }
        row(out, "connections", self.connects, &note)?;
        for (name, number, note) in [
            (
                "truncated",
                self.truncated,
                "   messages whose connection ended within them",
            ),
            (
                "unwanted",
                self.unwanted,
                "   messages that nothing was subscribed to",
            ),
        ] {
            if number > 0 {
                row(out, name, number, note)?;
            }
        }
        if self.blocked > 0 {
            let note = format!(
                "   times, {:.3} s in all, a lane waited for a worker",
                self.blocked_s
            );
            row(out, "blocked", self.blocked, &note)?;
        }
        Ok(())
    }

    fn write_latency(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = &self.latency_ns;
        let feed = &latency.feed;
        if latency.queue.count == 0 {
            return Ok(());
        }
        write!(out, "latency{:>15}", "count")?;
        for column in Quantiles::NAMES {
            write!(out, "{column:>10}")?;
        }
        for (name, stage) in [
            ("queue", &latency.queue),
            ("handler", &latency.handler),
            ("feed", &feed.stage),
        ] {
            if stage.count > 0 {
                write!(out, "\n  {name:<8}{:>12}", count(stage.count))?;
                for value in stage.columns() {
                    write!(out, "{:>10}", time(value.unwrap_or(0) as f64))?;
                }
            }
        }
        writeln!(
            out,
            "\n  queue: received to handler start; handler: its mean in each batch"
        )?;
        match (feed.stage.count, feed.clock_behind_ns) {
            (0, _) => Ok(()),
            (_, 0) => writeln!(out, "  feed: publisher's timestamp to handler start"),
            (_, behind_ns) => writeln!(
                out,
                "  feed: excess over the fastest message; our clock is {} behind the publisher's",
                time(behind_ns as f64)
            ),
        }
    }

    fn write_threads(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "threads")?;
        for ThreadOutcome {
            placement: thread, ..
        } in &self.threads
        {
            match (thread.core_wanted, thread.core_got) {
                (None, None) => write!(out, "  {} on any core", thread.name)?,
                (Some(wanted), got) if got != Some(wanted) => {
                    write!(out, "  {} NOT on core {wanted}", thread.name)?;
                }
                (_, got) => write!(out, "  {} on core {}", thread.name, got.unwrap_or_default())?,
            }
        }
        writeln!(out)?;
        for thread in &self.threads {
            if let Some(disturbed) = disturbed(thread, self.elapsed_s) {
                writeln!(out, "  {} {disturbed}", thread.placement.name)?;
            }
        }
        Ok(())
    }

    fn write_undelivered(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let undelivered = &self.undelivered;
        if undelivered.topics.is_empty() {
            return Ok(());
        }
        let topics = undelivered.topics.len();
        let shown = topics.min(UNDELIVERED_SHOWN);
        let first = if shown < topics {
            format!(", the {shown} with the most")
        } else {
            String::new()
        };
        let topics = counted(topics as u64, ("topic", "topics"));
        writeln!(out, "not delivered: {topics}{first}")?;
        writeln!(out, "{:>27}{:>15}", "dropped", "conflated")?;
        for row in &undelivered.topics[..shown] {
            let (dropped, conflated) = (count(row.dropped), count(row.conflated));
            writeln!(
                out,
                "{dropped:>27}{conflated:>15}  {} {}",
                row.feed, row.topic
            )?;
        }
        let others = (undelivered.other_dropped, undelivered.other_conflated);
        if others != (0, 0) {
            writeln!(
                out,
                "{:>27}{:>15}  of topics that are not counted apart (policy.topics_max)",
                count(others.0),
                count(others.1)
            )?;
        }
        Ok(())
    }

    fn write_anomalies(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.anomalies.is_empty() {
            return Ok(());
        }
        let shown = self.anomalies.len().min(ANOMALIES_SHOWN);
        writeln!(
            out,
            "what went wrong, the last {shown} of {}",
            self.anomalies.len()
        )?;
        for anomaly in &self.anomalies[self.anomalies.len() - shown..] {
            writeln!(out, "{anomaly}")?;
        }
        Ok(())
    }
}
