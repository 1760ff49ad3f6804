//! A run that is held against an objective, and what it says of the subject.

use serde::{Deserialize, Serialize};

use crate::{
    bench::{Judgement, LatencyRun, Objective, Verdict},
    report::count,
};

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
    /// Whether messages were lost, no more than the objective allows.
    #[serde(default)]
    pub loss_is_allowed: bool,
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
    /// Holds a run against an objective. A rate that the subject missed breaks any, and messages that were not
    /// received break all that do not allow for them.
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
        let mut loss_is_allowed = false;
        if let Verdict::NotReceived(messages) = run.verdict {
            loss_is_allowed = objective.allows_loss(messages);
            let loss = format!("loss {}", count(messages));
            if !loss_is_allowed && !broken.contains(&loss) {
                broken.push(loss);
            }
        }
        Self {
            run,
            broken,
            inconclusive,
            by_generator,
            loss_is_allowed,
        }
    }

    /// Returns what it says of the subject.
    #[must_use]
    pub fn tells(&self) -> Tells {
        match self.run.verdict {
            Verdict::GeneratorGaveOut(_) => Tells::GeneratorLimit,
            Verdict::Failed(_) => Tells::Nothing,
            Verdict::SubjectGaveOut(_) => Tells::Breaks,
            Verdict::NotReceived(_) if !self.loss_is_allowed => Tells::Breaks,
            _ if self.by_generator => Tells::GeneratorLimit,
            _ if !self.broken.is_empty() => Tells::Breaks,
            _ if !self.inconclusive.is_empty() => Tells::Nothing,
            _ => Tells::Holds,
        }
    }

    /// Returns what came of it, for people.
    #[must_use]
    pub fn verdict(&self) -> String {
        let (broken, inconclusive) = (self.broken.join(", "), self.inconclusive.join(", "));
        match &self.run.verdict {
            Verdict::NotReceived(_) if !self.loss_is_allowed => format!("breaks: {broken}"),
            Verdict::Ok | Verdict::NotReceived(_) => match self.tells() {
                Tells::GeneratorLimit => {
                    format!("INVALID: {broken}: the generator itself was that late")
                }
                Tells::Breaks => format!("breaks: {broken}"),
                Tells::Nothing => {
                    format!("INCONCLUSIVE: too few messages for {inconclusive}")
                }
                Tells::Holds => match self.run.missing() {
                    0 => "holds".to_owned(),
                    missing => format!("holds, without {} messages lost", count(missing)),
                },
            },
            invalid => invalid.to_string(),
        }
    }
}
