//! Reading a result folder back, with a check that its files belong together.
//!
//! What a run recorded is in its logs; `summary.json` says what they come to. A folder in which the two
//! differ is refused, since nobody could tell which of them is right.

mod trace;

pub use trace::Trace;
pub(crate) use trace::{GENERATOR_LOG, HICCUP_LOG, SERIES, SUBJECT_LOG};

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    bench::{Figures, Found, LatencyRun, Point, Property, Replayed, ThroughputRun},
    error::{Error, Result},
};
use trace::trace;

/// The version of result folders that this program writes and reads.
pub const FORMAT: u32 = 1;

const NO_FOLDER: &str =
    "give a folder that pinfeed bench has made with --output, or a .hlog file of pinfeed run";
const DAMAGED: &str = "restore the file, or run the benchmark again";

/// What `summary.json` holds: results with what they depend on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary<P, E, R> {
    /// The version of the folder: [`FORMAT`].
    pub format: u32,
    /// The benchmark: `latency`, `throughput`, `capacity`, `sweep`, `replay`.
    pub kind: String,
    /// As it was started.
    pub command_line: Vec<String>,
    /// What was measured.
    pub parameters: P,
    /// The machine before the first run.
    pub environment: E,
    /// Whether the results as a whole say anything, for people.
    pub verdict: String,
    /// What it showed.
    pub results: R,
}

/// What of `summary.json` says how to read the rest.
#[derive(Deserialize)]
struct Head {
    format: Option<u32>,
    kind: Option<String>,
}

/// What a benchmark showed.
#[derive(Clone, Debug)]
pub enum Results {
    /// Runs at a rate.
    Latency(Vec<LatencyRun>),
    /// Runs flat out.
    Throughput(Figures),
    /// A search.
    Capacity(Found),
    /// The same measurement at several values of a property.
    Sweep(Property, Points),
    /// A capture, faster and faster.
    Replay(Replayed),
}

/// The runs of a sweep, by value.
#[derive(Clone, Debug)]
pub enum Points {
    /// Flat out.
    FlatOut(Vec<Point<ThroughputRun>>),
    /// At a rate.
    AtRate(Vec<Point<LatencyRun>>),
}

/// The results of a sweep. Its figures follow from them.
#[derive(Deserialize)]
struct PointsOf<R> {
    points: Vec<Point<R>>,
}

/// The parameters that say what a sweep is of.
#[derive(Deserialize)]
struct Varied {
    vary: Property,
    /// Messages a second; of a sweep flat out none.
    rate: Option<f64>,
}

/// A result folder as it was read.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it is.
    pub folder: PathBuf,
    /// What its results depend on. Parameters and environment are shown, not reckoned with.
    pub summary: Summary<Map<String, Value>, Map<String, Value>, ()>,
    /// What it showed.
    pub results: Results,
    /// Of each run at a rate.
    pub traces: Vec<Trace>,
}

impl Record {
    /// Reads a folder as a whole.
    ///
    /// # Errors
    /// [`Error::Results`] and [`Error::IntervalLog`] for the first file that is missing, damaged or of
    /// another version.
    pub fn read(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            let problem = if folder.exists() {
                "it is not a folder"
            } else {
                "there is no such folder"
            };
            return Err(refuse(folder, problem, NO_FOLDER));
        }
        let path = folder.join("summary.json");
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => refuse(&path, "it is missing", NO_FOLDER),
            _ => refuse(&path, error.to_string(), DAMAGED),
        })?;
        let head: Head = parse(&path, &text)?;
        if head.format != Some(FORMAT) {
            let found = head.format.map_or("none".to_owned(), |one| one.to_string());
            let problem = format!("its format is {found}, and this pinfeed reads format {FORMAT}");
            let remedy = "read it with the pinfeed that wrote it, or run the benchmark again";
            return Err(refuse(&path, problem, remedy));
        }
        let results = match head.kind.as_deref() {
            Some("latency") => Results::Latency(results(&path, &text)?),
            Some("throughput") => Results::Throughput(results(&path, &text)?),
            Some("capacity") => Results::Capacity(results(&path, &text)?),
            Some("sweep") => sweep(&path, &text)?,
            Some("replay") => Results::Replay(results(&path, &text)?),
            kind => {
                let problem = format!("its kind is {}", kind.unwrap_or("none"));
                let remedy = "give folders of bench latency, throughput, capacity, sweep or replay";
                return Err(refuse(&path, problem, remedy));
            }
        };
        let whole: Summary<_, _, Value> = parse(&path, &text)?;
        let mut record = Self {
            folder: folder.to_owned(),
            results,
            traces: Vec::new(),
            summary: Summary {
                format: whole.format,
                kind: whole.kind,
                command_line: whole.command_line,
                parameters: whole.parameters,
                environment: whole.environment,
                verdict: whole.verdict,
                results: (),
            },
        };
        let said = said(&whole.results);
        record.traces = (record.runs_mut().into_iter().zip(said))
            .map(|(run, said)| trace(folder, run, &said["latency_ns"]))
            .collect::<Result<_>>()?;
        Ok(record)
    }

    /// Returns its runs at a rate, in order.
    #[must_use]
    pub fn runs(&self) -> Vec<&LatencyRun> {
        match &self.results {
            Results::Latency(runs) => runs.iter().collect(),
            Results::Capacity(found) => found.steps.iter().map(|step| &step.run).collect(),
            Results::Replay(found) => {
                let steps = found.steps.iter();
                steps.map(|one| &one.step.run).collect()
            }
            Results::Sweep(_, Points::AtRate(points)) => {
                points.iter().flat_map(|point| &point.runs).collect()
            }
            Results::Sweep(_, Points::FlatOut(_)) | Results::Throughput(_) => Vec::new(),
        }
    }

    fn runs_mut(&mut self) -> Vec<&mut LatencyRun> {
        match &mut self.results {
            Results::Latency(runs) => runs.iter_mut().collect(),
            Results::Capacity(found) => found.steps.iter_mut().map(|step| &mut step.run).collect(),
            Results::Replay(found) => {
                let steps = found.steps.iter_mut();
                steps.map(|one| &mut one.step.run).collect()
            }
            Results::Sweep(_, Points::AtRate(points)) => points
                .iter_mut()
                .flat_map(|point| &mut point.runs)
                .collect(),
            Results::Sweep(_, Points::FlatOut(_)) | Results::Throughput(_) => Vec::new(),
        }
    }
}

fn refuse(path: &Path, problem: impl Into<String>, remedy: &'static str) -> Error {
    Error::Results {
        path: path.to_owned(),
        problem: problem.into(),
        remedy,
    }
}

/// Parses JSON; its errors say line and column.
fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| refuse(path, error.to_string(), DAMAGED))
}

fn results<R: DeserializeOwned>(path: &Path, text: &str) -> Result<R> {
    let summary: Summary<Value, Value, R> = parse(path, text)?;
    Ok(summary.results)
}

fn sweep(path: &Path, text: &str) -> Result<Results> {
    let summary: Summary<Varied, Value, Value> = parse(path, text)?;
    let Varied { vary, rate } = summary.parameters;
    let points = match rate {
        Some(_) => Points::AtRate(results::<PointsOf<_>>(path, text)?.points),
        None => Points::FlatOut(results::<PointsOf<_>>(path, text)?.points),
    };
    Ok(Results::Sweep(vary, points))
}

/// Returns what results say of each run, in order.
fn said(results: &Value) -> Vec<&Value> {
    let lists: Vec<&Value> = match results.get("points").and_then(Value::as_array) {
        Some(points) => points.iter().map(|point| &point["runs"]).collect(),
        None => vec![results.get("steps").unwrap_or(results)],
    };
    let lists = lists.into_iter().filter_map(Value::as_array);
    lists.flatten().collect()
}
