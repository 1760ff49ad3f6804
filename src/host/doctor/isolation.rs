//! Rules for what the kernel keeps off hot cores: tasks, timers, its own work, interrupts.

use super::{Case, NO_CORES, Role, check::Finding};
use crate::{
    host::cpulist::{self, show},
    wait::Wait,
};

pub(super) fn isolated(case: &Case) -> Finding {
    let required = "hot cores isolated, by a partition rather than isolcpus";
    Finding::of(required, &case.machine.isolation.cores(), |isolated| {
        let open = case.hot_but(isolated);
        if open.is_empty() {
            (format!("{} isolated", show(isolated)), true)
        } else {
            (format!("not isolated: {}", show(&open)), false)
        }
    })
}

pub(super) fn housekeeping(case: &Case) -> Finding {
    let required = "a core on each NUMA node that is neither hot nor isolated";
    let isolated = case.machine.isolation.cores().unwrap_or_default();
    let is_free = |core: &usize| !case.is_hot(*core) && isolated.binary_search(core).is_err();
    let mut places: Vec<(String, Vec<usize>)> = case
        .machine
        .nodes
        .iter()
        .map(|node| (format!("node {}", node.node), node.cores.clone()))
        .filter(|(_, cores)| !cores.is_empty())
        .collect();
    if case.machine.cores.is_empty() {
        return Finding::unavailable(required, NO_CORES);
    }
    if places.is_empty() {
        let all: Vec<usize> = case.machine.cores.iter().map(|core| core.core).collect();
        places.push(("the machine".to_owned(), all));
    }
    let judged = places.into_iter().map(|(place, cores)| {
        let free: Vec<usize> = cores.iter().copied().filter(is_free).collect();
        Ok(if free.is_empty() {
            (format!("none on {place}"), false)
        } else {
            (format!("{} on {place}", show(&free)), true)
        })
    });
    Finding::each(required, "", judged)
}

pub(super) fn nohz_full(case: &Case) -> Finding {
    let required = "only cores of workers that spin, if any";
    let nohz_full = &case.machine.isolation.nohz_full;
    Finding::of(required, nohz_full, |cores| {
        // Entering and leaving the kernel is dearer there, which lanes do all the time, and whoever sleeps.
        let unsuited = case.wanted.cores_of(|role| match role {
            Role::Lane => true,
            Role::Worker => case.wanted.wait != Wait::Spin,
            Role::Candidate => false,
        });
        let unsuited: Vec<usize> = unsuited
            .into_iter()
            .filter(|core| cores.contains(core))
            .collect();
        if unsuited.is_empty() {
            (show(cores), true)
        } else {
            let whose = format!("{}: there threads receive or sleep", show(&unsuited));
            (whose, false)
        }
    })
}

pub(super) fn command_line(case: &Case) -> Finding {
    let required = "rcu_nocbs, irqaffinity, isolcpus=managed_irq, skew_tick=1";
    Finding::of(required, &case.machine.settings.command_line, |line| {
        let value = |key: &str| {
            let mut words = line.split_whitespace();
            words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let named = |key: &str| value(key).and_then(NamedCores::read);
        // Cores of `nohz_full` are served by it, too.
        let callbacks = ["rcu_nocbs", "nohz_full"].map(named);
        let no_callbacks = |core: &usize| callbacks.iter().flatten().any(|named| named.has(*core));
        let interrupts = named("irqaffinity");
        let interrupts_off =
            interrupts.is_some_and(|named| !case.hot.iter().any(|core| named.has(*core)));
        let managed = value("isolcpus").is_some_and(|value| {
            let mut flags = value.split(',');
            flags.any(|flag| flag == "managed_irq")
        });
        let missing: Vec<&str> = [
            ("rcu_nocbs", case.hot.iter().all(no_callbacks)),
            ("irqaffinity", interrupts_off),
            ("isolcpus=managed_irq", managed),
            ("skew_tick=1", value("skew_tick") == Some("1")),
        ]
        .into_iter()
        .filter_map(|(name, is_there)| (!is_there).then_some(name))
        .collect();
        if missing.is_empty() {
            ("all there".to_owned(), true)
        } else {
            (
                format!("without {} for hot cores", missing.join(", ")),
                false,
            )
        }
    })
}

/// The cores that an option of the command line names.
enum NamedCores {
    All,
    These(Vec<usize>),
}

impl NamedCores {
    fn read(value: &str) -> Option<Self> {
        match value {
            "all" => Some(Self::All),
            list => cpulist::parse(list).ok().map(Self::These),
        }
    }

    fn has(&self, core: usize) -> bool {
        match self {
            Self::All => true,
            Self::These(cores) => cores.contains(&core),
        }
    }
}

pub(super) fn workqueues(case: &Case) -> Finding {
    let cores = &case.machine.settings.workqueue_cores;
    Finding::of("no hot core", cores, |cores| {
        (show(cores), !case.is_any_hot(cores))
    })
}

pub(super) fn interrupts(case: &Case) -> Finding {
    let required = "none goes to a hot core";
    Finding::of(required, &case.machine.interrupts, |interrupts| {
        let (mut numbers, mut cores) = (Vec::new(), Vec::new());
        for interrupt in interrupts {
            let destination = interrupt.destination().unwrap_or_default();
            let hot = destination.iter().filter(|core| case.is_hot(**core));
            let before = cores.len();
            cores.extend(hot);
            if cores.len() > before {
                numbers.push(interrupt.number);
            }
        }
        cores.sort_unstable();
        cores.dedup();
        if numbers.is_empty() {
            ("none".to_owned(), true)
        } else {
            (format!("{} on {}", show(&numbers), show(&cores)), false)
        }
    })
}

pub(super) fn irqbalance(case: &Case) -> Finding {
    let required = "not running, or hot cores isolated or banned, which it leaves out";
    Finding::of(required, &case.machine.settings.irqbalance_runs, |runs| {
        let isolation = &case.machine.isolation;
        let mut left_out = isolation.at_start.clone().unwrap_or_default();
        left_out.extend(isolation.nohz_full.clone().unwrap_or_default());
        let banned = case.machine.settings.irqbalance_banned.clone();
        left_out.extend(banned.unwrap_or_default());
        match (runs, case.hot_but(&left_out).is_empty()) {
            (false, _) => ("not running".to_owned(), true),
            (true, true) => ("running, without hot cores".to_owned(), true),
            (true, false) => ("running".to_owned(), false),
        }
    })
}

pub(super) fn interrupts_measured(case: &Case) -> Finding {
    let required = "none comes to a hot core";
    case.measured(required, |measured| {
        let came = measured.interrupts.iter().filter(|core| core.count > 0);
        let came = came.map(|core| Ok((format!("{} on {}", core.count, core.core), false)));
        Finding::each(required, "none", came)
    })
}
