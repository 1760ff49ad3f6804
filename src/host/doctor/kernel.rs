//! Rules for the kernel's settings.

use super::{Case, check::Finding};
use crate::wait::Wait;

pub(super) fn clock_source(case: &Case) -> Finding {
    Finding::number("tsc", &case.machine.settings.clock_source, |source| {
        source == "tsc"
    })
}

pub(super) fn transparent_hugepage(case: &Case) -> Finding {
    let enabled = &case.machine.settings.transparent_hugepage;
    let (wanted, suits): (_, &[&str]) = match case.wanted.huge_pages {
        true => ("madvise, for threads.huge_pages", &["madvise"]),
        false => ("never or madvise", &["madvise", "never"]),
    };
    Finding::number(wanted, enabled, |enabled| suits.contains(&enabled.as_str()))
}

pub(super) fn ksm(case: &Case) -> Finding {
    Finding::number("0", &case.machine.settings.ksm_run, |run| *run == 0)
}

pub(super) fn numa_balancing(case: &Case) -> Finding {
    Finding::number("0", &case.machine.settings.numa_balancing, |on| *on == 0)
}

pub(super) fn nmi_watchdog(case: &Case) -> Finding {
    Finding::number("0", &case.machine.settings.nmi_watchdog, |on| *on == 0)
}

pub(super) fn timer_migration(case: &Case) -> Finding {
    Finding::number("0", &case.machine.settings.timer_migration, |on| *on == 0)
}

pub(super) fn swappiness(case: &Case) -> Finding {
    let swappiness = &case.machine.settings.swappiness;
    Finding::number("at most 10", swappiness, |swappiness| *swappiness <= 10)
}

pub(super) fn stat_interval(case: &Case) -> Finding {
    let interval_s = &case.machine.settings.stat_interval_s;
    Finding::number("at least 10 (seconds)", interval_s, |interval_s| {
        *interval_s >= 10
    })
}

pub(super) fn swap(case: &Case) -> Finding {
    Finding::of("none", &case.machine.settings.swaps, |swaps| {
        let shown = if swaps.is_empty() {
            "none".to_owned()
        } else {
            swaps.join(", ")
        };
        (shown, swaps.is_empty())
    })
}

pub(super) fn realtime_runtime(case: &Case) -> Finding {
    let runtime_us = &case.machine.settings.realtime_runtime_us;
    let polls = case.wanted.fifo > 0 && case.wanted.wait != Wait::Park;
    if polls {
        let required =
            "-1: threads that poll in real time would be stopped for a part of each second";
        return Finding::number(required, runtime_us, |runtime_us| *runtime_us == -1);
    }
    let required = "positive, so that a real-time thread that runs wild is stopped";
    Finding::number(required, runtime_us, |runtime_us| *runtime_us > 0)
}

pub(super) fn pressure(case: &Case) -> Finding {
    /// Above this, threads wait for cores so often that latencies show it.
    const PERCENT_MAX: f64 = 5.0;
    let required = format!("at most {PERCENT_MAX} % of the last minute");
    Finding::of(
        required,
        &case.machine.settings.cpu_pressure_percent,
        |percent| (format!("{percent} %"), *percent <= PERCENT_MAX),
    )
}

pub(super) fn time_synchronised(case: &Case) -> Finding {
    let required = "synchronised, where publishers on other hosts stamp messages";
    Finding::of(required, &case.probed.time_synchronised, |synchronised| {
        let shown = if *synchronised {
            "synchronised"
        } else {
            "not synchronised"
        };
        (shown.to_owned(), *synchronised)
    })
}
