//! What the view of a benchmark shows: plain data, noted down by the benchmark and read from the files of the step
//! under way.
//!
//! Rates are messages a second, times nanoseconds.

use std::{path::PathBuf, time::Duration};

use crate::{
    bench::{LatencyRun, Spread, ThroughputRun},
    cli::tui::model::Latency,
    clock::Stopwatch,
    latency::log::{FEED, LATENESS},
};

/// The most runs that are kept to be shown.
const RUNS_MAX: usize = 200;

/// What a benchmark notes down of itself.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Board {
    /// Its name and what it measures.
    pub title: String,
    pub since: Stopwatch,
    pub step: Option<Step>,
    /// How long it takes from now on; `None` where nobody can tell yet.
    pub left: Option<Left>,
    pub done: Done,
}

/// The step under way.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Step {
    pub name: String,
    pub since: Stopwatch,
    /// What the names of its files begin with.
    pub files: PathBuf,
}

/// How much time is left.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Left {
    pub time: Duration,
    /// Whether it may take longer, by steps nobody knows of yet.
    pub is_least: bool,
}

/// The runs so far.
#[derive(Clone, Debug)]
pub(in crate::cli) enum Done {
    /// At a rate, the newest first.
    AtRate(Vec<AtRate>),
    /// Flat out, by who received or what was varied.
    FlatOut(Vec<FlatOut>),
}

/// A run at a rate.
#[derive(Clone, Debug)]
pub(in crate::cli) struct AtRate {
    pub name: String,
    pub verdict: String,
    pub is_good: bool,
    /// The feed's p50, p99, p99.9 and max; those that enough samples support.
    pub feed_ns: [Option<u64>; 4],
    /// The generator's lateness at p99.
    pub late_ns: Option<u64>,
    pub cpu_ns: f64,
}

/// Runs flat out under one name.
#[derive(Clone, Debug)]
pub(in crate::cli) struct FlatOut {
    pub name: String,
    pub runs: Vec<ThroughputRun>,
}

/// What is seen of the step under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Messages a second, of the last seconds, the newest last.
    pub history: Vec<f64>,
    /// Of the last second and of the step.
    pub latency: [Latency; 3],
    /// The longest hiccup of the last second, by core.
    pub hiccups: Vec<(usize, u64)>,
}

impl Board {
    pub(in crate::cli) fn new(title: String, done: Done) -> Self {
        Self {
            title,
            since: Stopwatch::start(),
            step: None,
            left: None,
            done,
        }
    }

    /// Returns the part of the time that has passed, from 0 to 1, where that can be told.
    pub(super) fn share(&self) -> Option<f64> {
        let elapsed_s = self.since.elapsed_ns() as f64 / 1e9;
        let left_s = self.left?.time.as_secs_f64();
        Some(elapsed_s / (elapsed_s + left_s).max(f64::MIN_POSITIVE))
    }
}

impl Step {
    pub(super) fn new(name: &str, files: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            since: Stopwatch::start(),
            files,
        }
    }
}

impl Done {
    /// Notes a run at a rate; the verdict is of a few words.
    pub(in crate::cli) fn note_at_rate(
        &mut self,
        name: String,
        (verdict, is_good): (String, bool),
        run: &LatencyRun,
    ) {
        let Self::AtRate(rows) = self else { return };
        let of = |stage| run.stage(stage).map(|stage| stage.quantiles());
        let (feed, late) = (
            of(FEED).unwrap_or_default(),
            of(LATENESS).unwrap_or_default(),
        );
        rows.truncate(RUNS_MAX - 1);
        let row = AtRate {
            name,
            verdict,
            is_good,
            feed_ns: [feed.p50, feed.p99, feed.p99_9, feed.max],
            late_ns: late.p99,
            cpu_ns: run.cpu_ns_per_msg,
        };
        rows.insert(0, row);
    }

    /// Notes a run flat out.
    pub(in crate::cli) fn note_flat_out(&mut self, name: &str, run: ThroughputRun) {
        let Self::FlatOut(groups) = self else { return };
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.runs.push(run),
            None => groups.push(FlatOut {
                name: name.to_owned(),
                runs: vec![run],
            }),
        }
    }
}

impl FlatOut {
    fn spread(&self, figure: fn(&ThroughputRun) -> f64) -> Spread {
        let valid = self.runs.iter().filter(|run| run.verdict.is_ok());
        Spread::of(valid.map(figure))
    }

    pub(super) fn msgs_per_s(&self) -> Spread {
        self.spread(|run| run.msgs_per_s)
    }

    pub(super) fn cpu_ns(&self) -> Spread {
        self.spread(|run| run.cpu_ns_per_msg)
    }
}
