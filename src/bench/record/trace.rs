//! What the files of a run hold, compared with what `summary.json` says of it.

use std::{io::ErrorKind, path::Path};

use serde_json::Value;

use crate::{
    bench::{
        LatencyRun,
        record::{DAMAGED, refuse},
        series::{self, Row},
    },
    error::{Error, Result},
    latency::log::{self, Interval, LATENESS},
};

/// How the names of a run's files end.
pub(crate) const SUBJECT_LOG: &str = "hlog";
pub(crate) const GENERATOR_LOG: &str = "generator.hlog";
pub(crate) const HICCUP_LOG: &str = "hiccup.hlog";
pub(crate) const SERIES: &str = "series.csv";

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

/// Reads what a run left behind, fills its stages, and compares them with what `summary.json` says.
pub(super) fn trace(folder: &Path, run: &mut LatencyRun, said: &Value) -> Result<Trace> {
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
