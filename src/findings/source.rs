//! What a report is made of: a result folder, or the interval log of a run.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    bench::{
        Stage, Validity,
        record::{Points, Record, Results, Trace},
    },
    error::{Error, Result},
    findings::words::file_name,
    latency::log,
    report::{counted, rate},
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
                Results::Sweep(property, Points::FlatOut(_)) => {
                    format!("Sweep of {property}, flat out")
                }
                Results::Sweep(property, Points::AtRate(points)) => {
                    let first = points.iter().find_map(|point| point.runs.first());
                    let at = first.map_or(f64::NAN, |run| run.rate);
                    format!("Sweep of {property} at {} msg/s", rate(at))
                }
                Results::Replay(_) => {
                    let capture = record.summary.parameters.get("capture");
                    let capture = Path::new(capture.and_then(Value::as_str).unwrap_or("a capture"));
                    format!("Replay of {}", file_name(capture))
                }
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
                let all = counted(runs.len() as u64, ("run", "runs"));
                match valid {
                    0 => (false, format!("none of {all} is valid")),
                    _ if valid == runs.len() => (
                        true,
                        format!("{all} held the rate, and no message is missing"),
                    ),
                    _ => (
                        true,
                        format!("{valid} of {all} are valid, the others are left out"),
                    ),
                }
            }
            Results::Throughput(figures) => {
                let all = figures.contenders.iter();
                of_groups(all.map(|one| (one.name.to_string(), one.validity())))
            }
            Results::Sweep(property, points) => {
                let name = |value: usize| format!("{property}={value}");
                match points {
                    Points::FlatOut(points) => of_groups(
                        points
                            .iter()
                            .map(|point| (name(point.value), point.validity())),
                    ),
                    Points::AtRate(points) => of_groups(
                        points
                            .iter()
                            .map(|point| (name(point.value), point.validity())),
                    ),
                }
            }
            Results::Capacity(_) | Results::Replay(_) => {
                let said = &record.summary.verdict;
                match said.strip_prefix("INVALID: ") {
                    Some(why) => (false, why.to_owned()),
                    None => (true, said.clone()),
                }
            }
        })
    }
}

/// Returns whether there is something to compare, and why or why not: each group of runs has to have a valid one.
fn of_groups(groups: impl Iterator<Item = (String, Validity)>) -> (bool, String) {
    let (mut runs, mut valid) = (0, 0);
    for (name, validity) in groups {
        if validity.valid == 0 {
            return (false, format!("{name} has no valid run"));
        }
        runs += validity.runs;
        valid += validity.valid;
    }
    let all = counted(runs as u64, ("run", "runs"));
    match runs - valid {
        0 => (true, format!("{all}, all valid")),
        invalid => (true, format!("{invalid} of {all} INVALID and left out")),
    }
}
