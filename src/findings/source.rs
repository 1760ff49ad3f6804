//! What a report is made of: a result folder, or the interval log of a run.

use std::path::{Path, PathBuf};

use crate::{
    bench::{
        Stage,
        record::{Record, Results, Trace},
    },
    error::{Error, Result},
    findings::words::{file_name, plural},
    latency::log,
    report::rate,
};

/// One thing to show.
#[derive(Clone, Debug)]
pub enum Source {
    /// A benchmark's result folder.
    Folder(Box<Record>),
    /// The interval log of a run.
    Log(LoggedRun),
}

/// A run that left an interval log.
#[derive(Clone, Debug)]
pub struct LoggedRun {
    /// The log.
    pub path: PathBuf,
    /// All that it holds, by tag.
    pub stages: Vec<Stage>,
    /// The same interval by interval.
    pub trace: Trace,
}

impl Source {
    /// Reads a result folder, or a file whose name has `.hlog` in it.
    ///
    /// # Errors
    /// [`Error::Results`] and [`Error::IntervalLog`] for what is missing, damaged or of another version.
    pub fn read(path: &Path) -> Result<Self> {
        let is_log = path.is_file() && file_name(path).contains(".hlog");
        if !is_log {
            return Ok(Self::Folder(Box::new(Record::read(path)?)));
        }
        let intervals = log::read(path).map_err(|error| match error {
            Error::File { source, .. } => Error::Results {
                path: path.to_owned(),
                problem: source.to_string(),
                remedy: "give a file that can be read",
            },
            other => other,
        })?;
        let mut stages: Vec<Stage> = Vec::new();
        for interval in &intervals {
            let known = stages.iter().position(|stage| stage.name == interval.tag);
            let place = known.unwrap_or_else(|| {
                stages.push(Stage::empty(&interval.tag));
                stages.len() - 1
            });
            stages[place].add(&interval.histogram);
        }
        Ok(Self::Log(LoggedRun {
            path: path.to_owned(),
            stages,
            trace: Trace {
                stages: intervals,
                ..Trace::default()
            },
        }))
    }

    /// Returns where it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(record) => &record.folder,
            Self::Log(log) => &log.path,
        }
    }

    /// Returns what it is, in a few words.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Log(log) => format!("Interval log {}", file_name(&log.path)),
            Self::Folder(record) => match &record.results {
                Results::Latency(runs) => {
                    let at = runs.first().map_or(f64::NAN, |run| run.rate);
                    format!("Latency at {} msg/s", rate(at))
                }
                Results::Throughput(_) => "Throughput, flat out".to_owned(),
                Results::Capacity(_) => "Capacity".to_owned(),
            },
        }
    }

    /// Returns whether its figures say anything, and why or why not. Of a log nothing was asked.
    pub(super) fn verdict(&self) -> Option<(bool, String)> {
        let Self::Folder(record) = self else {
            return None;
        };
        Some(match &record.results {
            Results::Latency(runs) => {
                let valid = runs.iter().filter(|run| run.verdict.is_ok()).count();
                let all = plural(runs.len(), "run");
                match valid {
                    0 => (false, format!("none of {all} held the rate")),
                    _ if valid == runs.len() => (true, format!("{all} held the rate")),
                    _ => (
                        true,
                        format!("{valid} of {all} held the rate, the others are left out"),
                    ),
                }
            }
            // A run that is not whole ends the benchmark.
            Results::Throughput(_) => (true, "every message of every run came".to_owned()),
            Results::Capacity(found) => match found.highest_msgs_per_s {
                Some(highest) => (true, format!("{} msg/s held the objective", rate(highest))),
                None => (false, "no rate held the objective".to_owned()),
            },
        })
    }
}
