//! A check: what was asked of the machine, what it is, and whether that will do.

use std::collections::HashSet;

use serde::Serialize;

use crate::host::{cpulist::show, machine::Fact};

/// What one condition came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub condition: &'static str,
    /// How it should be.
    pub required: String,
    /// How it is; where that can't be told, why.
    pub current: String,
    /// How much depends on it.
    pub severity: Severity,
    /// Whether it is as it should be.
    pub outcome: Outcome,
    /// The file of `tuning/` or the command that mends it, where it failed.
    pub mend: Option<String>,
}

/// How much depends on a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// What is asked for does not work without.
    Required,
    /// Without, some messages take longer.
    Recommended,
}

/// Whether a condition is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is.
    Passed,
    /// It is not.
    Failed,
    /// That can't be told here.
    Unavailable,
}

/// What a rule finds.
#[derive(Debug)]
pub(super) struct Finding {
    pub required: String,
    pub current: String,
    pub outcome: Outcome,
}

impl Finding {
    pub(super) fn new(
        required: impl Into<String>,
        current: impl Into<String>,
        passed: bool,
    ) -> Self {
        Self {
            required: required.into(),
            current: current.into(),
            outcome: if passed {
                Outcome::Passed
            } else {
                Outcome::Failed
            },
        }
    }

    pub(super) fn unavailable(required: impl Into<String>, why: impl ToString) -> Self {
        Self {
            required: required.into(),
            current: why.to_string(),
            outcome: Outcome::Unavailable,
        }
    }

    /// Judges a fact by what it shows and whether that passes.
    pub(super) fn of<T>(
        required: impl Into<String>,
        fact: &Fact<T>,
        judge: impl FnOnce(&T) -> (String, bool),
    ) -> Self {
        match fact.as_ref().map(judge) {
            Ok((current, passed)) => Self::new(required, current, passed),
            Err(unavailable) => Self::unavailable(required, unavailable),
        }
    }

    /// Judges a number.
    pub(super) fn number<T: ToString>(
        required: impl Into<String>,
        fact: &Fact<T>,
        passes: impl FnOnce(&T) -> bool,
    ) -> Self {
        Self::of(required, fact, |value| (value.to_string(), passes(value)))
    }

    /// Judges things one by one: where none fails, all have to be told. `nothing` is said of none.
    pub(super) fn each(
        required: impl Into<String>,
        nothing: &str,
        judged: impl IntoIterator<Item = Judged>,
    ) -> Self {
        let (mut good, mut bad, mut unavailable) = (Vec::new(), Vec::new(), None);
        for one in judged {
            match one {
                Ok((current, true)) => good.push(current),
                Ok((current, false)) => bad.push(current),
                Err(reason) => unavailable = unavailable.or(Some(reason)),
            }
        }
        match unavailable {
            _ if !bad.is_empty() => Self::new(required, few(&bad), false),
            Some(reason) => Self::unavailable(required, reason),
            None if good.is_empty() => Self::new(required, nothing, true),
            None => Self::new(required, few(&good), true),
        }
    }

    /// As [`each`](Self::each), of cores: those of which the same is told are named together.
    pub(super) fn by_core(
        required: impl Into<String>,
        judged: impl IntoIterator<Item = (usize, Judged)>,
    ) -> Self {
        let mut alike: Vec<(Judged, Vec<usize>)> = Vec::new();
        for (core, judged) in judged {
            match alike.iter_mut().find(|(other, _)| *other == judged) {
                Some((_, cores)) => cores.push(core),
                None => alike.push((judged, vec![core])),
            }
        }
        let name = |(judged, cores): (Judged, Vec<usize>)| {
            judged.map(|(current, passed)| (format!("{current} on {}", show(&cores)), passed))
        };
        Self::each(
            required,
            "there is no hot core",
            alike.into_iter().map(name),
        )
    }
}

/// What was found of one thing and whether that passes, or why it can't be told.
pub(super) type Judged = Result<(String, bool), String>;

/// How many things are named before the rest is counted.
const NAMED_MAX: usize = 3;

/// Names the first few different things.
pub(super) fn few(things: &[String]) -> String {
    let mut seen = HashSet::new();
    let different = things.iter().filter(|thing| !thing.is_empty());
    let different: Vec<&str> = different
        .map(String::as_str)
        .filter(|thing| seen.insert(*thing))
        .collect();
    let named = different[..different.len().min(NAMED_MAX)].join("; ");
    match different.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}
