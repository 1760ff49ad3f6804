//! Rules for hot cores: that they can be had, and what else runs and sleeps there.

use super::{
    Case, NO_CORES,
    check::{Finding, Judged, few},
};
use crate::host::{cpulist::show, machine::IdleState};

pub(super) fn usable(case: &Case) -> Finding {
    let usable = case.machine.usable_cores();
    let required = "each is a core that this process may use";
    if case.machine.cores.is_empty() {
        return Finding::unavailable(required, NO_CORES);
    }
    let absent: Vec<usize> = case.hot_but(&usable);
    if !absent.is_empty() {
        let current = format!("{} not among {}", show(&absent), show(&usable));
        return Finding::new(required, current, false);
    }
    match (case.hot.is_empty(), case.wanted.is_configured) {
        (true, true) => Finding::new(required, "no thread is tied to a core", true),
        (true, false) => Finding::new(required, "there is none beside core 0", false),
        _ => Finding::new(
            required,
            format!("{} of {}", show(&case.hot), show(&usable)),
            true,
        ),
    }
}

pub(super) fn pins(case: &Case) -> Finding {
    let required = "a pinned thread's mask is its core, read back";
    Finding::of(required, &case.probed.pins, |pins| {
        let failed = pins.iter().filter(|pin| pin.failed());
        let failed: Vec<String> = failed
            .map(|pin| match pin.core_got {
                Some(core) => format!("{} on core {core}", pin.name),
                None => format!("{} on any core", pin.name),
            })
            .collect();
        if failed.is_empty() {
            (format!("{} threads pinned and read back", pins.len()), true)
        } else {
            (few(&failed), false)
        }
    })
}

pub(super) fn siblings(case: &Case) -> Finding {
    let required = "SMT off, or the siblings of hot cores idle (isolated)";
    let smt = &case.machine.settings.smt_active;
    let isolated = case.machine.isolation.cores().unwrap_or_default();
    let (mut pairs, mut in_use) = (Vec::new(), Vec::new());
    let mut any = false;
    for core in case.hot.iter().filter_map(|core| case.machine.core(*core)) {
        let others = core.siblings.iter().filter(|other| **other != core.core);
        for &other in others.filter(|other| case.machine.core(**other).is_some()) {
            any = true;
            if case.is_hot(other) {
                if core.core < other {
                    pairs.push(format!("{} and {other}", core.core));
                }
            } else if isolated.binary_search(&other).is_err() {
                in_use.push(other);
            }
        }
    }
    in_use.sort_unstable();
    in_use.dedup();
    let mut problems = Vec::new();
    if !pairs.is_empty() {
        problems.push(format!("hot on one physical core: {}", few(&pairs)));
    }
    if !in_use.is_empty() {
        problems.push(format!(
            "other work may run beside hot cores, on {}",
            show(&in_use)
        ));
    }
    match smt {
        _ if !problems.is_empty() => Finding::new(required, few(&problems), false),
        _ if any => Finding::new(required, "on, and the siblings of hot cores are idle", true),
        Err(unavailable) => Finding::unavailable(required, unavailable),
        Ok(true) => Finding::new(required, "on, but no hot core has a sibling", true),
        Ok(false) => Finding::new(required, "off", true),
    }
}

pub(super) fn governor(case: &Case) -> Finding {
    Finding::by_core(
        "performance",
        case.hot.iter().map(|&core| {
            let judged = case.core(core).and_then(|core| match &core.governor {
                Ok(governor) => Ok((governor.clone(), governor == "performance")),
                Err(unavailable) => Err(unavailable.to_string()),
            });
            (core, judged)
        }),
    )
}

pub(super) fn idle_states(case: &Case) -> Finding {
    Finding::by_core(
        "nothing deeper than C1",
        case.hot.iter().map(|&core| (core, deep_states(case, core))),
    )
}

fn deep_states(case: &Case, core: usize) -> Judged {
    let found = case.core(core)?;
    if found.idle_states.is_empty() {
        return Err(format!("cpu{core}/cpuidle: not there"));
    }
    let mut deep = Vec::new();
    for state in found.idle_states.iter().filter(|state| is_deep(state)) {
        match &state.disabled {
            Ok(true) => {}
            Ok(false) => deep.push(state.name.as_str()),
            Err(unavailable) => return Err(unavailable.to_string()),
        }
    }
    Ok(if deep.is_empty() {
        ("none deeper".to_owned(), true)
    } else {
        (deep.join(", "), false)
    })
}

/// Tells whether a core wakes later from it than from C1; `WFI` is that on ARM, `haltpoll idle` in guests.
fn is_deep(state: &IdleState) -> bool {
    !matches!(
        state.name.as_str(),
        "POLL" | "C1" | "C1_ACPI" | "WFI" | "haltpoll idle"
    )
}
