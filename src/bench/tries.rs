//! What several runs under the same load say together, so that one bad moment of the machine is no limit.
//!
//! The first run decides where it holds the objective. One that breaks it is repeated until two agree. One that says
//! nothing, since the generator was late or a process failed, does not count, and is repeated [`REPEATS_MAX`] times.

use std::fmt;

use crate::bench::{Step, Tells};

/// How often runs that say nothing are repeated.
pub const REPEATS_MAX: usize = 2;
/// So many runs decide where they do not all hold.
const MAJORITY: usize = 2;

/// Runs under the same load, counted by what they say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    holds: usize,
    breaks: usize,
    silent: usize,
    last_silent: Option<Tells>,
}

impl Tries {
    /// Counts a run.
    pub fn note(&mut self, tells: Tells) {
        match tells {
            Tells::Holds => self.holds += 1,
            Tells::Breaks => self.breaks += 1,
            Tells::GeneratorLimit | Tells::Nothing => {
                self.silent += 1;
                self.last_silent = Some(tells);
            }
        }
    }

    /// Tells whether none was counted yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns what they say together; `None` where it takes another run.
    #[must_use]
    pub fn decided(&self) -> Option<Tells> {
        if self.breaks >= MAJORITY {
            return Some(Tells::Breaks);
        }
        if self.holds >= MAJORITY || self.holds > 0 && self.breaks == 0 {
            return Some(Tells::Holds);
        }
        self.last_silent.filter(|_| self.silent > REPEATS_MAX)
    }
}

impl fmt::Display for Tries {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decided() {
            Some(Tells::Holds) => write!(out, "holds by {} to {}", self.holds, self.breaks),
            Some(Tells::Breaks) => write!(out, "breaks by {} to {}", self.breaks, self.holds),
            _ => out.write_str("nothing is known"),
        }
    }
}

/// Returns runs by load, the lowest first, each load with all of its runs, in their order.
pub fn by_load<T>(
    runs: impl IntoIterator<Item = T>,
    load: impl Fn(&T) -> f64,
) -> Vec<(f64, Vec<T>)> {
    let mut loads: Vec<(f64, Vec<T>)> = Vec::new();
    for run in runs {
        let its = load(&run);
        match loads.binary_search_by(|one| one.0.total_cmp(&its)) {
            Ok(place) => loads[place].1.push(run),
            Err(place) => loads.insert(place, (its, vec![run])),
        }
    }
    loads
}

/// Returns what runs under the same load say together; of those that do not decide, what the last says.
#[must_use]
pub fn together<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Tells {
    let mut tries = Tries::default();
    let mut last = Tells::Nothing;
    for step in steps {
        last = step.tells();
        tries.note(last);
    }
    tries.decided().unwrap_or(last)
}

/// Returns the verdict of each step, in their order, with how many there are under its load and what they come to, where
/// there are several.
#[must_use]
pub fn verdicts(steps: &[(f64, &Step)]) -> Vec<String> {
    let mut verdicts = vec![String::new(); steps.len()];
    for (_, group) in by_load(0..steps.len(), |&place| steps[place].0) {
        let mut tries = Tries::default();
        let runs = group.len();
        for (number, place) in (1..).zip(group) {
            let (_, step) = steps[place];
            tries.note(step.tells());
            let verdict = step.verdict();
            verdicts[place] = match number {
                _ if runs == 1 => verdict,
                _ if number == runs => format!("{verdict} (run {number} of {runs}: {tries})"),
                _ => format!("{verdict} (run {number} of {runs})"),
            };
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use Tells::{Breaks, GeneratorLimit, Holds, Nothing};

    #[test]
    fn runs_under_one_load_stand_together_in_their_order() {
        let runs = [(2.0, 'a'), (1.0, 'b'), (2.0, 'c'), (0.5, 'd')];
        let loads = by_load(runs, |run| run.0);
        let names = |(load, runs): (f64, Vec<(f64, char)>)| {
            (load, runs.iter().map(|run| run.1).collect::<String>())
        };
        let loads: Vec<(f64, String)> = loads.into_iter().map(names).collect();
        let expected = [(0.5, "d"), (1.0, "b"), (2.0, "ac")];
        assert_eq!(
            loads,
            expected.map(|(load, names)| (load, names.to_owned()))
        );
    }

    #[test]
    fn two_decide_where_one_breaks() {
        for (told, expected) in [
            (&[][..], None),
            (&[Holds], Some(Holds)),
            (&[Breaks], None),
            (&[Breaks, Breaks], Some(Breaks)),
            (&[Breaks, Holds], None),
            (&[Breaks, Holds, Holds], Some(Holds)),
            (&[Breaks, Holds, Breaks], Some(Breaks)),
            (&[Nothing, Holds], Some(Holds)),
            (&[Breaks, GeneratorLimit, Breaks], Some(Breaks)),
            (&[GeneratorLimit, Breaks, GeneratorLimit], None),
            (
                &[GeneratorLimit, Breaks, Nothing, GeneratorLimit],
                Some(GeneratorLimit),
            ),
            (&[GeneratorLimit, GeneratorLimit, Nothing], Some(Nothing)),
        ] {
            let mut tries = Tries::default();
            for &one in told {
                assert_eq!(tries.decided(), None, "{told:?}");
                tries.note(one);
            }
            assert_eq!(tries.decided(), expected, "{told:?}");
        }
    }
}
