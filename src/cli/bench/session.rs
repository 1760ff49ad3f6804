//! What every benchmark does: open what it writes before anything runs, go through its steps, and end when a
//! signal says so.

use serde::Serialize;

use crate::{
    bench::{Bench, ResultFolder},
    cli::{
        Ending, Failure,
        bench::{
            Common, Traffic,
            progress::Lines,
            results::{Findings, Results, clear_line},
        },
        signals::Signals,
    },
    error::Result as StepResult,
};

/// A benchmark under way.
pub(super) struct Session {
    signals: Signals,
    pub bench: Bench,
    pub results: Results,
    pub progress: Lines,
}

impl Session {
    /// Opens all that it needs. Nothing is left of it unless its results are finished.
    pub(super) fn open(common: &Common, traffic: &Traffic) -> Result<Self, Failure> {
        let signals = Signals::listen(false)?;
        let bench = common.bench(traffic, &signals)?;
        Ok(Self {
            signals,
            bench,
            results: Results::open(common.output.as_deref(), common.json)?,
            progress: Lines::new(),
        })
    }

    /// Does a step, and returns what came of it, or how to end where a signal came meanwhile.
    pub(super) fn step<T>(
        &mut self,
        step: impl FnOnce(&Bench, &ResultFolder, &mut Lines) -> StepResult<T>,
    ) -> Result<Result<T, Ending>, Failure> {
        let done = step(&self.bench, &self.results.folder, &mut self.progress);
        clear_line();
        if let Some(signal) = self.signals.caught() {
            return Ok(Err(Ending::Signal(signal)));
        }
        Ok(Ok(done?))
    }

    /// Writes what it found.
    pub(super) fn finish<P: Serialize, S: Serialize, R: Serialize>(
        self,
        findings: Findings<'_, P, S, R>,
    ) -> Result<(), Failure> {
        self.results.finish(&self.bench, findings)
    }
}
