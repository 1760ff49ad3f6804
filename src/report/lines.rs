//! How the lines of a feed that are copies of each other stood against one another.

use std::fmt;

use serde::Serialize;

use crate::{
    latency::Quantiles,
    pipeline::LineOutcome,
    report::{count, counted, time, times},
};

/// What a line brought, where others carry copies of it. `copies = wins + duplicates + too_late`.
#[derive(Clone, Debug, Serialize)]
pub struct LineSummary {
    /// The feed's name.
    pub feed: String,
    /// The line's place in its feed.
    pub line: usize,
    /// Messages received by it.
    pub copies: u64,
    /// Those that came first.
    pub wins: u64,
    /// Those that came second.
    pub duplicates: u64,
    /// Those that came after they had been given up.
    pub too_late: u64,
    /// Messages that it lost and another line brought.
    pub repaired: u64,
    /// Times that it was left without a connection, or never had one.
    pub disconnects: u64,
    /// Times that it was silent for longer than the feed's `stale_after_ms` while another line was not.
    pub silences: u64,
    /// How long its copies came after the first ones, in nanoseconds, of a sample.
    pub lag_ns: Quantiles,
}

impl LineSummary {
    pub(super) fn new(line: &LineOutcome) -> Self {
        let counts = &line.counts;
        Self {
            feed: line.feed.clone(),
            line: line.line,
            copies: counts.copies,
            wins: counts.wins,
            duplicates: counts.duplicates,
            too_late: counts.too_late,
            repaired: counts.repaired,
            disconnects: line.absence.disconnects,
            silences: line.absence.silences,
            lag_ns: Quantiles::of(&counts.lag),
        }
    }
}

impl fmt::Display for LineSummary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "line {} of {}: {}, {} of them first",
            self.line,
            self.feed,
            counted(self.copies, ("copy", "copies")),
            count(self.wins),
        )?;
        if let (Some(p50_ns), Some(p99_ns)) = (self.lag_ns.p50, self.lag_ns.p99) {
            let (p50, p99) = (time(p50_ns as f64), time(p99_ns as f64));
            write!(out, ", else {p50} behind, p99 {p99}")?;
        }
        write!(
            out,
            "; {} lost that another line brought",
            count(self.repaired)
        )?;
        if self.too_late > 0 {
            write!(out, "; {} too late", count(self.too_late))?;
        }
        if self.too_late > self.copies / 2 {
            write!(out, ": has it the numbers and epochs of its copy?")?;
        }
        for (number, what) in [
            (self.disconnects, "had no connection"),
            (self.silences, "was silent alone"),
        ] {
            if number > 0 {
                write!(out, "; {what} {}", times(number))?;
            }
        }
        Ok(())
    }
}
