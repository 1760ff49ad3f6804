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

/// Returns the verdict of each step, with how many there are under its load and what they come to, where there are
/// several. Steps under the same load are those next to each other with the same `load`.
#[must_use]
pub fn verdicts(steps: &[(f64, &Step)]) -> Vec<String> {
    let groups = steps.chunk_by(|one, other| one.0 == other.0);
    let of_group = |group: &[(f64, &Step)]| -> Vec<String> {
        let mut tries = Tries::default();
        let runs = group.len();
        let verdict = |(number, (_, step)): (usize, &(f64, &Step))| {
            tries.note(step.tells());
            let verdict = step.verdict();
            match number {
                _ if runs == 1 => verdict,
                _ if number == runs => format!("{verdict} (run {number} of {runs}: {tries})"),
                _ => format!("{verdict} (run {number} of {runs})"),
            }
        };
        (1..).zip(group).map(verdict).collect()
    };
    groups.flat_map(of_group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Tells::{Breaks, GeneratorLimit, Holds, Nothing};

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
