//! A run that is held against an objective, and what it says of the subject.

use serde::{Deserialize, Serialize};

use crate::bench::{Judgement, LatencyRun, Objective, Verdict};

/// How often a run that says nothing is repeated.
pub const REPEATS_MAX: usize = 2;

/// A run that was held against an objective.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// The run.
    #[serde(flatten)]
    pub run: LatencyRun,
    /// What of the objective it did not hold; empty where it held all.
    pub broken: Vec<String>,
    /// What of it too few messages tell.
    pub inconclusive: Vec<String>,
    /// Whether the generator's own lateness alone breaks as much.
    pub by_generator: bool,
}

/// What a step says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// The objective holds.
    Holds,
    /// The subject breaks it.
    Breaks,
    /// Nothing: the generator gave out, or was itself too late.
    GeneratorLimit,
    /// Nothing: there were too few messages, or a process failed.
    Nothing,
}

impl Step {
    /// Holds a run against an objective. A rate that the subject missed breaks any.
    #[must_use]
    pub fn new(run: LatencyRun, objective: &Objective) -> Self {
        let Judgement {
            mut broken,
            inconclusive,
            by_generator,
        } = objective.judge(&run);
        if matches!(run.verdict, Verdict::SubjectGaveOut(_)) {
            broken.insert(0, "rate missed".to_owned());
        }
        Self {
            run,
            broken,
            inconclusive,
            by_generator,
        }
    }

    /// Returns what it says of the subject.
    #[must_use]
    pub fn tells(&self) -> Tells {
        match self.run.verdict {
            Verdict::GeneratorGaveOut(_) => Tells::GeneratorLimit,
            Verdict::Failed(_) => Tells::Nothing,
            Verdict::SubjectGaveOut(_) => Tells::Breaks,
            Verdict::Ok if self.by_generator => Tells::GeneratorLimit,
            Verdict::Ok if !self.broken.is_empty() => Tells::Breaks,
            Verdict::Ok if !self.inconclusive.is_empty() => Tells::Nothing,
            Verdict::Ok => Tells::Holds,
        }
    }

    /// Returns what came of it, for people.
    #[must_use]
    pub fn verdict(&self) -> String {
        let (broken, inconclusive) = (self.broken.join(", "), self.inconclusive.join(", "));
        match &self.run.verdict {
            Verdict::Ok if self.by_generator => {
                format!("INVALID: {broken}: the generator itself was that late")
            }
            Verdict::Ok if !broken.is_empty() => format!("breaks: {broken}"),
            Verdict::Ok if !inconclusive.is_empty() => {
                format!("INCONCLUSIVE: too few messages for {inconclusive}")
            }
            Verdict::Ok => "holds".to_owned(),
            invalid => invalid.to_string(),
        }
    }
}
