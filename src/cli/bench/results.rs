//! What a benchmark leaves: its folder, its JSON, and how it was made.

use std::path::Path;

use serde::Serialize;

use crate::{
    bench::{
        Bench, Cores, ResultFolder,
        record::{FORMAT, Summary},
    },
    cli::{Failure, print_json, say},
    host::environment::Environment,
};

#[derive(Serialize)]
struct Parameters<'a, P, S> {
    #[serde(flatten)]
    plan: &'a P,
    #[serde(flatten)]
    shape: S,
    cores: &'a Cores,
    hiccups: bool,
}

/// What a benchmark found.
pub(super) struct Findings<'a, P, S, R> {
    /// What its folder's name begins with. Up to the first dash it is the kind of benchmark.
    pub name: String,
    pub plan: &'a P,
    /// What was sent, and how the subject was set up.
    pub shape: S,
    /// Whether the results as a whole say anything.
    pub verdict: String,
    pub results: &'a R,
    /// A line a run.
    pub csv: String,
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
        let folder = ResultFolder::create(output)?;
        for leftover in folder.remove_leftovers() {
            say(format_args!(
                "removed {}, which a benchmark that was killed had left",
                leftover.display()
            ));
        }
        Ok(Self {
            folder,
            environment: Environment::look(),
            json,
        })
    }

    /// Writes `runs.csv` and `summary.json`, and puts the folder in its place.
    pub(super) fn finish<P: Serialize, S: Serialize, R: Serialize>(
        self,
        bench: &Bench,
        findings: Findings<'_, P, S, R>,
    ) -> Result<(), Failure> {
        let name = &findings.name;
        let (kind, _) = name.split_once('-').unwrap_or((name, ""));
        let report = Summary {
            format: FORMAT,
            kind: kind.to_owned(),
            command_line: std::env::args().collect(),
            parameters: Parameters {
                plan: findings.plan,
                shape: findings.shape,
                cores: &bench.cores,
                hiccups: bench.hiccups,
            },
            environment: &self.environment,
            verdict: findings.verdict,
            results: findings.results,
        };
        self.folder.write("runs.csv", findings.csv.as_bytes())?;
        if let Some(place) = self.folder.finish(&findings.name, &report)? {
            say(format_args!("results are in {}", place.display()));
        }
        if self.json {
            print_json(&report)?;
        }
        Ok(())
    }
}
