//! Reading a result folder back, with a check that its files belong together.
//!
//! What a run recorded is in its logs; `summary.json` says what they come to. A folder in which the two
//! differ is refused, since nobody could tell which of them is right.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    bench::{
        Figures, Found, LatencyRun,
        series::{self, Row},
    },
    error::{Error, Result},
    latency::log::{self, Interval, LATENESS},
};

/// The version of result folders that this program writes and reads.
pub const FORMAT: u32 = 1;

/// How the names of a run's files end.
pub(super) const SUBJECT_LOG: &str = "hlog";
pub(super) const GENERATOR_LOG: &str = "generator.hlog";
pub(super) const HICCUP_LOG: &str = "hiccup.hlog";
pub(super) const SERIES: &str = "series.csv";

const NO_FOLDER: &str =
    "give a folder that pinfeed bench has made with --output, or a .hlog file of pinfeed run";
const DAMAGED: &str = "restore the file, or run the benchmark again";

/// What `summary.json` holds: results with what they depend on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary<P, E, R> {
    /// The version of the folder: [`FORMAT`].
    pub format: u32,
    /// The benchmark: `latency`, `throughput`, `capacity`.
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
}

/// What a run at a rate did over time, in the order of the logs.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The stages of messages' way, interval by interval.
    pub stages: Vec<Interval>,
    /// The platform's hiccups, if they were measured, by core.
    pub hiccups: Vec<Interval>,
    /// What the subject's threads and queues did.
    pub series: Vec<Row>,
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
            kind => {
                let problem = format!("its kind is {}", kind.unwrap_or("none"));
                let remedy = "give folders of bench latency, throughput or capacity";
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
        record.traces = record
            .runs_mut()
            .into_iter()
            .enumerate()
            .map(|(index, run)| {
                let said = whole.results.get("steps").unwrap_or(&whole.results);
                trace(folder, run, &said[index]["latency_ns"])
            })
            .collect::<Result<_>>()?;
        Ok(record)
    }

    /// Returns its runs at a rate, in order.
    #[must_use]
    pub fn runs(&self) -> Vec<&LatencyRun> {
        match &self.results {
            Results::Latency(runs) => runs.iter().collect(),
            Results::Capacity(found) => found.steps.iter().map(|step| &step.run).collect(),
            Results::Throughput(_) => Vec::new(),
        }
    }

    fn runs_mut(&mut self) -> Vec<&mut LatencyRun> {
        match &mut self.results {
            Results::Latency(runs) => runs.iter_mut().collect(),
            Results::Capacity(found) => found.steps.iter_mut().map(|step| &mut step.run).collect(),
            Results::Throughput(_) => Vec::new(),
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

/// Reads what a run left behind, fills its stages, and compares them with what `summary.json` says.
fn trace(folder: &Path, run: &mut LatencyRun, said: &Value) -> Result<Trace> {
    // A name, not a way to elsewhere.
    if Path::new(&run.step).file_name() != Some(run.step.as_ref()) {
        let problem = format!("{:?} is no name of a run", run.step);
        return Err(refuse(&folder.join("summary.json"), problem, DAMAGED));
    }
    let file = |end: &str| folder.join(format!("{}.{end}", run.step));
    let is_hiccup = |name: &str| name.starts_with("hiccup-");
    let measures_hiccups = run.stages.iter().any(|stage| is_hiccup(&stage.name));
    let (subject, generator, hiccup) = (file(SUBJECT_LOG), file(GENERATOR_LOG), file(HICCUP_LOG));
    let trace = Trace {
        stages: present(&subject, |path| log::read(path))?,
        hiccups: if measures_hiccups {
            present(&hiccup, |path| log::read(path))?
        } else {
            Vec::new()
        },
        series: present(&file(SERIES), series::read)?,
    };
    let lateness = present(&generator, |path| log::read(path))?;
    for stage in &mut run.stages {
        let name = stage.name.clone();
        let (path, intervals) = match &*name {
            LATENESS => (&generator, &lateness),
            name if is_hiccup(name) => (&hiccup, &trace.hiccups),
            _ => (&subject, &trace.stages),
        };
        for interval in intervals.iter().filter(|one| one.tag == name) {
            stage.add(&interval.histogram);
        }
        let found = serde_json::to_value(stage.quantiles()).unwrap_or_default();
        if said[&name] != found {
            let problem = format!(
                "its {} holds {} samples that are not those summed up in summary.json, {}",
                name,
                stage.histogram.len(),
                said[&name]["count"]
            );
            return Err(refuse(path, problem, DAMAGED));
        }
    }
    Ok(trace)
}

/// Reads a file that has to be there.
fn present<T>(path: &Path, read: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    read(path).map_err(|error| match error {
        Error::File { source, .. } if source.kind() == ErrorKind::NotFound => {
            refuse(path, "it is missing", DAMAGED)
        }
        Error::File { source, .. } => refuse(path, source.to_string(), DAMAGED),
        other => other,
    })
}
