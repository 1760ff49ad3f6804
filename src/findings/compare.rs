//! Two result folders compared, figure by figure, by what their runs leave no doubt about.
//!
//! The rule: a figure is better or worse where every run of one folder is beyond every run of the other,
//! and their medians differ by more than 2 %. Where runs overlap there is no difference; with fewer
//! than three valid runs on either side there is no telling.

use std::{collections::BTreeMap, fmt};

use crate::{
    bench::record::Record,
    error::{Error, Result},
    findings::{
        figures::{Figure, figures},
        words::{pairs, plural},
    },
};

/// Fewer runs can't tell.
const RUNS_MIN: usize = 3;
/// Medians that are nearer than this, as a share, are no difference.
const DIFFERENCE_MIN: f64 = 0.02;

/// What can be said of the second folder's figure against the first's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Every run is better than every run of the first.
    Better,
    /// Every run is worse than every run of the first.
    Worse,
    /// Runs overlap, or are hardly apart.
    NoDifference,
    /// There are too few runs.
    CannotTell,
}

impl fmt::Display for Judgement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifference => "no difference",
            Self::CannotTell => "cannot tell",
        })
    }
}

/// A figure in both folders.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    judgement: Judgement,
    /// Of the medians, second to first.
    ratio: f64,
    /// Median, lowest and highest, of the first and of the second.
    shown: [String; 2],
}

/// What came of comparing two folders. Shown as a table for people.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Parameters and facts of the machine that differ: key, first, second.
    differing: Vec<[String; 3]>,
    /// Runs left out because they are invalid.
    invalid: [usize; 2],
    rows: Vec<Row>,
}

/// Compares the second folder with the first.
///
/// # Errors
/// [`Error::Results`] where they are of different kinds.
pub fn compare(first: &Record, second: &Record) -> Result<Comparison> {
    let (kind, other) = (&first.summary.kind, &second.summary.kind);
    if kind != other {
        return Err(Error::Results {
            path: second.folder.clone(),
            problem: format!("it is of bench {other}, and the first folder of bench {kind}"),
            remedy: "compare two folders of the same benchmark",
        });
    }
    let ((a, a_invalid), (b, b_invalid)) = (figures(first), figures(second));
    let rows = a.iter().filter_map(|a| {
        let b = b.iter().find(|b| b.name == a.name)?;
        // A percentile that no run supports is no figure.
        (!a.values.is_empty() && !b.values.is_empty()).then(|| row(a, b))
    });
    Ok(Comparison {
        differing: differing(first, second),
        invalid: [a_invalid, b_invalid],
        rows: rows.collect(),
    })
}

fn row(a: &Figure, b: &Figure) -> Row {
    let shown = |one: &Figure| {
        let (spread, unit) = (one.spread(), one.unit);
        let [median, lowest, highest] =
            [spread.median, spread.lowest, spread.highest].map(|value| unit.show(value));
        format!("{median} ({lowest} - {highest})")
    };
    Row {
        name: a.name.clone(),
        judgement: judge(&a.values, &b.values, a.higher_is_better),
        ratio: b.spread().median / a.spread().median,
        shown: [shown(a), shown(b)],
    }
}

fn judge(a: &[f64], b: &[f64], higher_is_better: bool) -> Judgement {
    if a.len().min(b.len()) < RUNS_MIN {
        return Judgement::CannotTell;
    }
    let spread = |values: &[f64]| crate::bench::Spread::of(values.iter().copied());
    let (a, b) = (spread(a), spread(b));
    let is_apart = (b.median / a.median - 1.0).abs() > DIFFERENCE_MIN;
    if is_apart && (b.lowest > a.highest) {
        return if higher_is_better {
            Judgement::Better
        } else {
            Judgement::Worse
        };
    }
    if is_apart && (b.highest < a.lowest) {
        return if higher_is_better {
            Judgement::Worse
        } else {
            Judgement::Better
        };
    }
    Judgement::NoDifference
}

fn differing(first: &Record, second: &Record) -> Vec<[String; 3]> {
    let facts = |record: &Record| -> BTreeMap<String, String> {
        let summary = &record.summary;
        let all = pairs(&summary.parameters).into_iter();
        // How busy the machine was differs from run to run.
        all.chain(pairs(&summary.environment))
            .filter(|(key, _)| key != "load average")
            .collect()
    };
    let (a, b) = (facts(first), facts(second));
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    let value = |facts: &BTreeMap<String, String>, key: &String| {
        facts.get(key).cloned().unwrap_or_else(|| "-".to_owned())
    };
    keys.into_iter()
        .map(|key| [key.clone(), value(&a, key), value(&b, key)])
        .filter(|[_, a, b]| a != b)
        .collect()
}

impl Comparison {
    /// Returns what can be said of each figure, by its name.
    pub fn judgements(&self) -> impl Iterator<Item = (&str, Judgement)> {
        self.rows
            .iter()
            .map(|row| (row.name.as_str(), row.judgement))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for [key, a, b] in &self.differing {
            writeln!(out, "differs: {key}: {a} in the first, {b} in the second")?;
        }
        for (place, invalid) in ["first", "second"].iter().zip(self.invalid) {
            if invalid > 0 {
                let runs = plural(invalid, "INVALID run");
                writeln!(out, "{runs} of the {place} left out")?;
            }
        }
        if self.rows.is_empty() {
            return writeln!(out, "there is no figure that both have");
        }
        let width = |cells: &mut dyn Iterator<Item = &str>| {
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let name = width(&mut self.rows.iter().map(|row| row.name.as_str()));
        let first = width(&mut self.rows.iter().map(|row| row.shown[0].as_str()));
        let head = "median (lowest - highest)";
        writeln!(
            out,
            "{:<name$}  {:<13}  {:>6}  {head:<first$}  {head}",
            "the second is", "", "times"
        )?;
        for row in &self.rows {
            let [a, b] = &row.shown;
            writeln!(
                out,
                "{:<name$}  {:<13}  {:>6.2}  {a:<first$}  {b}",
                row.name, row.judgement, row.ratio
            )?;
        }
        writeln!(
            out,
            "better, worse: every run of one beyond every run of the other, and medians more than 2 % apart; \
             fewer than {RUNS_MIN} valid runs cannot tell"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_run_contradicts_is_a_difference() {
        use Judgement::{Better, CannotTell, NoDifference, Worse};
        let slow = [100.0, 102.0, 101.0];
        for (b, expected) in [
            (&[90.0, 91.0, 92.0][..], Better),
            (&[110.0, 120.0, 111.0], Worse),
            // One run overlaps.
            (&[90.0, 91.0, 100.5], NoDifference),
            // Apart, but by less than 2 %.
            (&[99.5, 99.6, 99.7], NoDifference),
            (&[50.0, 51.0], CannotTell),
        ] {
            assert_eq!(judge(&slow, b, false), expected, "{b:?}");
        }
        assert_eq!(judge(&slow, &[90.0, 91.0, 92.0], true), Worse);
        assert_eq!(judge(&slow, &[110.0, 120.0, 111.0], true), Better);
    }
}
