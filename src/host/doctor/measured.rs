//! What was seen over some time: hiccups, interrupts that came, packets that went.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Wanted, probed::judged_nics};
use crate::host::machine::{Machine, Softnet};

/// What happened between two moments.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The time between them in seconds.
    pub elapsed_s: f64,
    /// What held up threads that only spin, by core.
    pub hiccups: Vec<CoreHiccups>,
    /// How many interrupts came to each hot core, the timer's and other cores' own not counted.
    pub interrupts: Vec<CoreInterrupts>,
    /// What was dropped or left behind, by counter; those that did not grow are left out.
    pub drops: Vec<Drops>,
}

/// What held up a thread that only spins, on one core: other threads, interrupts, a hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CoreHiccups {
    /// The core.
    pub core: usize,
    /// Times it was held up, for more than 5 µs.
    pub count: u64,
    /// Those of more than a millisecond.
    pub over_1_ms: u64,
    /// 99 % were no longer than this, in nanoseconds.
    pub p99_ns: u64,
    /// 99.9 % were no longer than this.
    pub p99_9_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// All together.
    pub stolen_ns: u64,
}

/// Interrupts that came to a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CoreInterrupts {
    /// The core.
    pub core: usize,
    /// How many.
    pub count: u64,
}

/// A counter of drops that grew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drops {
    /// The counter.
    pub counter: String,
    /// By how much.
    pub count: u64,
}

impl Measured {
    /// Compares two moments. Counters that one of them lacks are left out.
    #[must_use]
    pub fn between(
        before: &Machine,
        after: &Machine,
        elapsed_s: f64,
        hiccups: Vec<CoreHiccups>,
        wanted: &Wanted,
    ) -> Self {
        let interrupts = wanted.hot_cores().into_iter().map(|core| CoreInterrupts {
            core,
            count: interrupts_between(before, after, core),
        });
        let softnet = |machine: &Machine, count: fn(&Softnet) -> u64| {
            machine.settings.softnet.as_ref().ok().map(count)
        };
        let mut counters = vec![
            (
                "softnet dropped".to_owned(),
                softnet(before, |softnet| softnet.dropped),
                softnet(after, |softnet| softnet.dropped),
            ),
            (
                "softnet time_squeeze".to_owned(),
                softnet(before, |softnet| softnet.squeezed),
                softnet(after, |softnet| softnet.squeezed),
            ),
        ];
        for name in judged_nics(after, wanted) {
            let (Some(old), Some(new)) = (before.nic(&name), after.nic(&name)) else {
                continue;
            };
            let dropped = (old.rx_dropped.clone().ok(), new.rx_dropped.clone().ok());
            let missed = (old.rx_missed.clone().ok(), new.rx_missed.clone().ok());
            counters.push((format!("{name} rx_dropped"), dropped.0, dropped.1));
            counters.push((format!("{name} rx_missed_errors"), missed.0, missed.1));
        }
        let drops = counters.into_iter().filter_map(|(counter, before, after)| {
            let count = after?.saturating_sub(before?);
            (count > 0).then_some(Drops { counter, count })
        });
        Self {
            elapsed_s,
            hiccups,
            interrupts: interrupts.collect(),
            drops: drops.collect(),
        }
    }
}

/// Counts what came to a core, of the interrupts that there are still.
fn interrupts_between(before: &Machine, after: &Machine, core: usize) -> u64 {
    let of = |machine: &Machine| -> BTreeMap<usize, u64> {
        let interrupts = machine.interrupts.as_deref().unwrap_or_default().iter();
        let counts = interrupts.filter_map(|one| Some((one.number, *one.counts.get(&core)?)));
        counts.collect()
    };
    let earlier = of(before);
    let grown = of(after).into_iter().map(|(number, count)| {
        let before = earlier.get(&number).copied().unwrap_or_default();
        count.saturating_sub(before)
    });
    grown.sum()
}
