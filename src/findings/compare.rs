//! Two result folders compared, figure by figure, by what their runs leave little doubt about.
//!
//! The rule: a figure is better or worse where a rank test at 5 % says that the runs of one folder are beyond those of
//! the other, and their medians differ by more than 2 %. With so few valid runs that no result would be rare enough,
//! there is no telling: it takes 4 and 4, or 5 and 3. A search is one result, and a speed of a replay has one run, or up
//! to a few, so their figures stand side by side without a judgement.

use std::{collections::BTreeMap, fmt};

use crate::{
    bench::{
        NEAR_ENOUGH, Spread,
        record::{Record, Results},
    },
    error::{Error, Result},
    findings::{
        figures::{Figure, figures},
        rank::{LEVEL, can_tell, is_larger},
        words::pairs,
    },
    report::counted,
};

/// The most figures that are named because only one folder has them.
const NAMED_MAX: usize = 4;
/// Medians that are nearer than this, as a share, are no difference.
const DIFFERENCE_MIN: f64 = 0.02;

/// What can be said of the second folder's figure against the first's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Runs are better than those of the first, at a level of 5 %.
    Better,
    /// Runs are worse than those of the first, at a level of 5 %.
    Worse,
    /// Runs overlap too much, or are hardly apart.
    NoDifference,
    /// No result of so few runs would be rare enough.
    TooFewRuns,
}

impl fmt::Display for Judgement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifference => "no difference",
            Self::TooFewRuns => "too few runs",
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
    /// What can't be compared, for people.
    notes: Vec<String>,
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
    // A percentile that no run supports is no figure.
    let known = |figures: Vec<Figure>| -> Vec<Figure> {
        let known = figures.into_iter().filter(|one| !one.values.is_empty());
        known.collect()
    };
    let (a, b) = (known(a), known(b));
    let rows = a.iter().filter_map(|a| {
        let b = b.iter().find(|b| b.name == a.name)?;
        Some(row(a, b))
    });
    let mut notes = Vec::new();
    notes.extend(only_in("first", &a, &b));
    notes.extend(only_in("second", &b, &a));
    notes.extend(unjudged(first));
    Ok(Comparison {
        differing: differing(first, second),
        invalid: [a_invalid, b_invalid],
        notes,
        rows: rows.collect(),
    })
}

/// Names figures that one folder has and the other has not.
fn only_in(place: &str, these: &[Figure], others: &[Figure]) -> Option<String> {
    let is_known = |name: &str| others.iter().any(|other| other.name == name);
    let names = these.iter().map(|one| one.name.as_str());
    let only: Vec<&str> = names.filter(|name| !is_known(name)).collect();
    if only.is_empty() {
        return None;
    }
    let more = only.len().saturating_sub(NAMED_MAX);
    let named = only[..only.len() - more].join(", ");
    Some(match more {
        0 => format!("only the {place} has {named}"),
        _ => format!("only the {place} has {named} and {more} more"),
    })
}

/// Says what of a benchmark's results can't be judged, and what could.
fn unjudged(record: &Record) -> Option<String> {
    let near = 100.0 * (NEAR_ENOUGH - 1.0);
    match record.results {
        Results::Capacity(_) => Some(format!(
            "a search is one result, known to {near:.0} %, and rates it tried are not the same in both: for better or \
             worse run bench latency at a rate that both held, before and after, and compare that"
        )),
        Results::Replay(_) => Some(
            "a speed has one run, or up to a few: for better or worse run bench latency at its rate, before and \
             after, and compare that"
                .to_owned(),
        ),
        _ => None,
    }
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
    if !can_tell(a.len(), b.len()) {
        return Judgement::TooFewRuns;
    }
    let median = |values: &[f64]| Spread::of(values.iter().copied()).median;
    if (median(b) / median(a) - 1.0).abs() <= DIFFERENCE_MIN {
        return Judgement::NoDifference;
    }
    match (is_larger(b, a), is_larger(a, b)) {
        (true, _) if higher_is_better => Judgement::Better,
        (_, true) if !higher_is_better => Judgement::Better,
        (false, false) => Judgement::NoDifference,
        _ => Judgement::Worse,
    }
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
                let runs = counted(invalid as u64, ("INVALID run", "INVALID runs"));
                writeln!(out, "{runs} of the {place} left out")?;
            }
        }
        for note in &self.notes {
            writeln!(out, "{note}")?;
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
            "better, worse: by a rank test of the runs at {:.0} %, and medians more than {:.0} % apart. Of 20 figures that \
             are the same, one may be called different by chance. It takes 4 valid runs in each, or 5 and 3",
            100.0 * LEVEL,
            100.0 * DIFFERENCE_MIN
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_hardly_chance_is_a_difference() {
        use Judgement::{Better, NoDifference, TooFewRuns, Worse};
        let slow = [100.0, 102.0, 101.0, 103.0, 104.0];
        for (b, expected) in [
            (&[90.0, 91.0, 92.0, 93.0][..], Better),
            (&[110.0, 120.0, 111.0], Worse),
            // One run overlaps with one, or with most.
            (&[90.0, 91.0, 92.0, 93.0, 100.5], Better),
            (&[90.0, 91.0, 92.0, 93.0, 105.0], NoDifference),
            // Medians by less than 2 % apart.
            (&[100.1, 100.2, 100.3, 99.9], NoDifference),
            (&[50.0, 51.0], TooFewRuns),
        ] {
            assert_eq!(judge(&slow, b, false), expected, "{b:?}");
        }
        assert_eq!(judge(&slow[..3], &[90.0, 91.0, 92.0], false), TooFewRuns);
        assert_eq!(judge(&slow, &[90.0, 91.0, 92.0], true), Worse);
        assert_eq!(judge(&slow, &[110.0, 120.0, 111.0], true), Better);
    }
}
