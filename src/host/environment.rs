//! What a result depends on besides the program: the machine, its settings, and what else it does.

use std::path::Path;

use serde::Serialize;

use crate::host::{
    cpulist,
    doctor::Verdict,
    machine::{Machine, Tree},
    topology::usable_cores,
};

/// The machine at one moment. What the kernel does not say is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Environment {
    /// The processor's name.
    pub cpu: Option<String>,
    /// The cores that this process may use.
    pub cores: Vec<usize>,
    /// What governs the frequency of the first of them.
    pub governor: Option<String>,
    /// The cores that the kernel schedules nothing on by itself, as a list; empty where there are none.
    pub isolated_cores: Option<String>,
    /// The kernel's release.
    pub kernel: String,
    /// Tasks that ran or waited over the last 1, 5 and 15 minutes.
    pub load_average: Option<[f64; 3]>,
    /// What `pinfeed doctor` says of it without a configuration.
    pub doctor: Verdict,
    /// This program's version.
    pub pinfeed_version: &'static str,
    /// The commit it was built from, with `-dirty` where files were changed; `None` where it was not built
    /// from a checkout.
    pub git_commit: Option<&'static str>,
}

impl Environment {
    /// Looks at the machine.
    #[must_use]
    pub fn look() -> Self {
        let root = Path::new("/");
        let (tree, machine) = (Tree::at(root), Machine::read(root));
        let cores = usable_cores();
        let first = cores.first().and_then(|core| machine.core(*core));
        let isolated = machine.isolation.cores().ok();
        Self {
            cpu: tree
                .parse("/proc/cpuinfo", "a list", |text| {
                    value_of(text, "model name")
                })
                .ok(),
            governor: first.and_then(|core| core.governor.clone().ok()),
            isolated_cores: isolated.map(|cores| match cores[..] {
                [] => String::new(),
                _ => cpulist::show(&cores),
            }),
            kernel: machine.settings.release.clone().unwrap_or_default(),
            load_average: tree.parse("/proc/loadavg", "a load", load_average).ok(),
            doctor: Verdict::of_candidates(&machine),
            cores,
            pinfeed_version: env!("CARGO_PKG_VERSION"),
            git_commit: option_env!("PINFEED_GIT_COMMIT"),
        }
    }
}

/// Returns the value of the first line `key : value`.
fn value_of(text: &str, key: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(name, _)| name.trim() == key)?;
    Some(value.trim().to_owned())
}

fn load_average(line: &str) -> Option<[f64; 3]> {
    let mut numbers = line.split(' ').map(|number| number.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described() {
        let environment = Environment::look();
        assert_eq!(environment.cores, usable_cores());
        assert!(environment.kernel.contains('.'), "{environment:?}");
        assert!(environment.doctor.passed > 0, "{environment:?}");
        assert!(environment.load_average.is_some_and(|load| load[0] >= 0.0));
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU: 2 GHz\n";
        assert_eq!(value_of(cpuinfo, "model name").unwrap(), "A CPU: 2 GHz");
        assert_eq!(
            load_average("0.50 1.00 2.25 1/99 7"),
            Some([0.5, 1.0, 2.25])
        );
        assert_eq!(load_average("none"), None);
    }
}
