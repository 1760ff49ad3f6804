//! Whether the machine suits what it is to do: each condition judged, with what mends it.
//!
//! [`checks`] only judges: what it goes by was read ([`Machine`]), tried ([`Probed`]) and measured
//! ([`Measured`]) before. What can't be told is neither good nor bad: on virtual machines that is much.
//! The table of all checks is `table.rs`; a rule is a function from a case to a finding.

mod check;
mod cores;
mod isolation;
mod kernel;
mod measured;
mod mend;
mod network;
mod probed;
mod process;
mod program;
mod table;
mod wanted;

use std::collections::HashSet;

use serde::Serialize;

pub use check::{Check, Outcome, Severity};
pub use measured::{CoreHiccups, CoreInterrupts, Drops, Measured};
pub use probed::{Coalescing, Probed};
pub use wanted::{HotThread, Role, Wanted, WantedNic};

use crate::host::machine::{Core, Machine};
use check::Finding;

/// What is said where not even cores can be told.
const NO_CORES: &str = "the kernel shows no cores";

/// What is known of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What the kernel shows.
    pub machine: &'a Machine,
    /// What was tried.
    pub probed: &'a Probed,
    /// What was seen over some time, if anything was measured.
    pub measured: Option<&'a Measured>,
}

/// Judges a machine by what is wanted of it: all conditions, in the order of the table.
#[must_use]
pub fn checks(evidence: &Evidence<'_>, wanted: &Wanted) -> Vec<Check> {
    let case = Case {
        machine: evidence.machine,
        probed: evidence.probed,
        measured: evidence.measured,
        wanted,
        hot: wanted.hot_cores(),
    };
    let check = |rule: &table::Rule| {
        let finding = (rule.judge)(&case);
        let failed = finding.outcome == Outcome::Failed;
        Check {
            condition: rule.condition,
            required: finding.required,
            current: finding.current,
            severity: rule.severity,
            outcome: finding.outcome,
            mend: failed.then(|| rule.mend.to_string()),
        }
    };
    table::TABLE.iter().map(check).collect()
}

/// What the checks came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Conditions that are as they should be.
    pub passed: usize,
    /// Conditions that are not.
    pub failed: usize,
    /// Those of them without which what is asked for does not work.
    pub failed_required: usize,
    /// Conditions that could not be told.
    pub unavailable: usize,
    /// The names of those that failed.
    pub failed_conditions: Vec<&'static str>,
}

impl Verdict {
    /// Sums checks up.
    #[must_use]
    pub fn of(checks: &[Check]) -> Self {
        let count = |outcome| {
            checks
                .iter()
                .filter(|check| check.outcome == outcome)
                .count()
        };
        let failed = || {
            checks
                .iter()
                .filter(|check| check.outcome == Outcome::Failed)
        };
        Self {
            passed: count(Outcome::Passed),
            failed: count(Outcome::Failed),
            failed_required: failed()
                .filter(|check| check.severity == Severity::Required)
                .count(),
            unavailable: count(Outcome::Unavailable),
            failed_conditions: failed().map(|check| check.condition).collect(),
        }
    }

    /// Judges a machine without a configuration: this one, as far as can be told without measuring.
    #[must_use]
    pub fn of_candidates(machine: &Machine) -> Self {
        let wanted = Wanted::candidates(machine);
        let probed = Probed::look(machine, &wanted);
        let evidence = Evidence {
            machine,
            probed: &probed,
            measured: None,
        };
        Self::of(&checks(&evidence, &wanted))
    }
}

/// What rules judge by.
struct Case<'a> {
    machine: &'a Machine,
    probed: &'a Probed,
    measured: Option<&'a Measured>,
    wanted: &'a Wanted,
    /// The cores of busy threads, ascending.
    hot: Vec<usize>,
}

impl Case<'_> {
    fn is_hot(&self, core: usize) -> bool {
        self.hot.binary_search(&core).is_ok()
    }

    fn is_any_hot(&self, cores: &[usize]) -> bool {
        cores.iter().any(|core| self.is_hot(*core))
    }

    /// Returns the hot cores that are not among these.
    fn hot_but(&self, cores: &[usize]) -> Vec<usize> {
        let cores: HashSet<usize> = cores.iter().copied().collect();
        let others = self.hot.iter().filter(|core| !cores.contains(core));
        others.copied().collect()
    }

    fn core(&self, core: usize) -> Result<&Core, String> {
        self.machine
            .core(core)
            .ok_or_else(|| format!("core {core} is not online"))
    }

    fn measured(&self, required: &str, judge: impl FnOnce(&Measured) -> Finding) -> Finding {
        match self.measured {
            Some(measured) => judge(measured),
            None => Finding::unavailable(required, "not measured; give --measure 5s"),
        }
    }
}
