//! What every benchmark does: open what it writes before anything runs, go through its steps, and end when a
//! signal says so.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    bench::{Bench, ResultFolder, Shape},
    cli::{
        Ending, Failure,
        bench::{
            Common, Lengths, Traffic,
            progress::Lines,
            results::{Findings, Results},
        },
        screen,
        signals::Signals,
        tui::{BenchBoard, BenchView, Done},
    },
    error::Result as StepResult,
};

/// How fast messages are sent.
#[derive(Clone, Copy)]
pub(super) enum Pace<'a> {
    /// At a rate, by one generator.
    AtRate(&'a Lengths),
    /// As fast as can be, by at most so many publishers.
    FlatOut(usize),
}

impl Pace<'_> {
    fn publishers(self) -> usize {
        match self {
            Self::AtRate(_) => 1,
            Self::FlatOut(publishers) => publishers,
        }
    }
}

/// A benchmark under way.
pub(super) struct Session {
    signals: Arc<Signals>,
    pub bench: Bench,
    pub results: Results,
    pub progress: Lines,
}

impl Session {
    /// Opens all that it needs. Nothing is left of it unless its results are finished. `title` and `done` are what
    /// a view shows, if one is wanted.
    pub(super) fn open(
        common: &Common,
        traffic: &Traffic,
        pace: Pace<'_>,
        shown: (String, Done),
    ) -> Result<Self, Failure> {
        let shape = common.shape(traffic, pace.publishers());
        shape.check()?;
        Self::open_with(common, shape, pace, shown)
    }

    /// As [`open`](Self::open), with a shape that is not looked at: others made of it have been.
    pub(super) fn open_with(
        common: &Common,
        shape: Shape,
        pace: Pace<'_>,
        (title, done): (String, Done),
    ) -> Result<Self, Failure> {
        if common.tui {
            screen::check()?;
        }
        let signals = Arc::new(Signals::listen()?);
        let mut bench = common.bench(shape, pace.publishers(), &signals)?;
        if let Pace::AtRate(lengths) = pace {
            bench.hiccups = lengths.hiccups;
        }
        let results = Results::open(common.output.as_deref(), common.json)?;
        let mut progress = Lines::new(results.folder.path(""));
        if common.tui {
            let board = BenchBoard::new(title, done);
            progress.view = Some(BenchView::open(board, signals.clone())?);
        }
        Ok(Self {
            signals,
            bench,
            results,
            progress,
        })
    }

    /// Does a step, and returns what came of it, or how to end where a signal came meanwhile.
    pub(super) fn step<T>(
        &mut self,
        step: impl FnOnce(&Bench, &ResultFolder, &mut Lines) -> StepResult<T>,
    ) -> Result<Result<T, Ending>, Failure> {
        let done = step(&self.bench, &self.results.folder, &mut self.progress);
        self.progress.clear();
        if let Some(signal) = self.signals.caught() {
            return Ok(Err(Ending::Signal(signal)));
        }
        Ok(Ok(done?))
    }

    /// Writes what it found.
    pub(super) fn finish<P: Serialize, S: Serialize, R: Serialize>(
        mut self,
        findings: Findings<'_, P, S, R>,
    ) -> Result<(), Failure> {
        // What was said meanwhile comes first.
        self.progress.view = None;
        self.results.finish(&self.bench, findings)
    }
}
