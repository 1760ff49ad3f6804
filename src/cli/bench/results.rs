//! What a benchmark leaves: its folder, its JSON, and how it was made.

use std::{io::IsTerminal, path::Path};

use serde::Serialize;

use crate::{
    bench::{
        Bench, Cores, ResultFolder, Shape,
        record::{FORMAT, Summary},
    },
    cli::{Failure, live::show_line, print_json, say},
    host::environment::Environment,
};

#[derive(Serialize)]
struct Parameters<'a, P> {
    #[serde(flatten)]
    plan: &'a P,
    #[serde(flatten)]
    shape: &'a Shape,
    cores: &'a Cores,
}

/// Where results go. Nothing is left of them unless they are finished.
pub(super) struct Results {
    pub folder: ResultFolder,
    environment: Environment,
    json: bool,
}

impl Results {
    /// Opens the folder before anything runs: after it, it would be too late to learn that it can't be
    /// written.
    pub(super) fn open(output: Option<&Path>, json: bool) -> Result<Self, Failure> {
        Ok(Self {
            folder: ResultFolder::create(output)?,
            environment: Environment::look(),
            json,
        })
    }

    /// Writes `runs.csv` and `summary.json`, and puts the folder in its place. `name` begins with the kind of
    /// benchmark, up to the first dash.
    pub(super) fn finish(
        self,
        name: &str,
        bench: &Bench,
        plan: &impl Serialize,
        results: &impl Serialize,
        csv: &str,
    ) -> Result<(), Failure> {
        let (kind, _) = name.split_once('-').unwrap_or((name, ""));
        let report = Summary {
            format: FORMAT,
            kind: kind.to_owned(),
            command_line: std::env::args().collect(),
            parameters: Parameters {
                plan,
                shape: &bench.shape,
                cores: &bench.cores,
            },
            environment: &self.environment,
            results,
        };
        self.folder.write("runs.csv", csv.as_bytes())?;
        if let Some(place) = self.folder.finish(name, &report)? {
            say(format_args!("results are in {}", place.display()));
        }
        if self.json {
            print_json(&report)?;
        }
        Ok(())
    }
}

/// Clears the line that says how much time is left.
pub(super) fn clear_line() {
    if std::io::stderr().is_terminal() {
        show_line("", true);
    }
}
