//! Settings of the kernel, one file each.

use serde::Serialize;

use crate::host::{
    cpulist,
    machine::tree::{Fact, Tree},
};

/// The process number of the parent of all kernel threads.
const KTHREADD: usize = 2;
/// Where distributions have the configuration of `irqbalance`.
const IRQBALANCE_FILES: [&str; 2] = ["/etc/default/irqbalance", "/etc/sysconfig/irqbalance"];

/// Settings of the kernel that threads on cores of their own feel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Its command line.
    pub command_line: Fact<String>,
    /// Its release, for instance `6.8.0-45-generic`.
    pub release: Fact<String>,
    /// What it takes the time from.
    pub clock_source: Fact<String>,
    /// Whether cores share physical ones.
    pub smt_active: Fact<bool>,
    /// Which memory is given huge pages: `always`, `madvise` or `never`.
    pub transparent_hugepage: Fact<String>,
    /// Whether equal pages are looked for (1) or not (0).
    pub ksm_run: Fact<u64>,
    /// Whether memory is moved after threads.
    pub numa_balancing: Fact<u64>,
    /// Whether a core that hangs is looked for by an interrupt.
    pub nmi_watchdog: Fact<u64>,
    /// Whether timers are moved to busy cores.
    pub timer_migration: Fact<u64>,
    /// Microseconds of each period that real-time threads may use; -1: all.
    pub realtime_runtime_us: Fact<i64>,
    /// How readily memory is swapped out.
    pub swappiness: Fact<u64>,
    /// Seconds between two collections of memory statistics on each core.
    pub stat_interval_s: Fact<u64>,
    /// Where memory is swapped to.
    pub swaps: Fact<Vec<String>>,
    /// Microseconds that `poll` polls cards for.
    pub busy_poll_us: Fact<u64>,
    /// Microseconds that a receive call polls cards for, where the socket does not say.
    pub busy_read_us: Fact<u64>,
    /// The largest receive buffer that a socket may ask for, in bytes.
    pub rmem_bytes_max: Fact<u64>,
    /// The largest receive buffer that TCP grows to by itself, in bytes.
    pub tcp_rmem_bytes_max: Fact<u64>,
    /// Packets that may wait on a core for the protocol stack.
    pub netdev_backlog_max: Fact<u64>,
    /// Cores that unbound kernel work may go to.
    pub workqueue_cores: Fact<Vec<usize>>,
    /// The share of the last minute in which some task waited for a core, in percent.
    pub cpu_pressure_percent: Fact<f64>,
    /// Packets dropped for lack of room on a core, and times that one ran out of budget, since start.
    pub softnet: Fact<Softnet>,
    /// Whether `irqbalance` runs; unavailable where processes can't be seen.
    pub irqbalance_runs: Fact<bool>,
    /// Cores that its configuration bans it from.
    pub irqbalance_banned: Fact<Vec<usize>>,
}

/// What cores did not get done with packets, over all cores, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Softnet {
    /// Packets dropped because the backlog was full.
    pub dropped: u64,
    /// Times that packets were left when the budget was used up.
    pub squeezed: u64,
}

pub(super) fn settings(tree: &Tree) -> Settings {
    let kernel = |name: &str| format!("/proc/sys/kernel/{name}");
    let net = |name: &str| format!("/proc/sys/net/core/{name}");
    let bracketed = |text: &str| {
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    };
    Settings {
        command_line: tree.text("/proc/cmdline"),
        release: tree.text(&kernel("osrelease")),
        clock_source: tree.text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        smt_active: tree
            .number("/sys/devices/system/cpu/smt/active")
            .map(|active: u64| active != 0),
        transparent_hugepage: tree.parse(
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "a choice",
            bracketed,
        ),
        ksm_run: tree.number("/sys/kernel/mm/ksm/run"),
        numa_balancing: tree.number(&kernel("numa_balancing")),
        nmi_watchdog: tree.number(&kernel("nmi_watchdog")),
        timer_migration: tree.number(&kernel("timer_migration")),
        realtime_runtime_us: tree.number(&kernel("sched_rt_runtime_us")),
        swappiness: tree.number("/proc/sys/vm/swappiness"),
        stat_interval_s: tree.number("/proc/sys/vm/stat_interval"),
        swaps: tree.parse("/proc/swaps", "a table", swaps),
        busy_poll_us: tree.number(&net("busy_poll")),
        busy_read_us: tree.number(&net("busy_read")),
        rmem_bytes_max: tree.number(&net("rmem_max")),
        tcp_rmem_bytes_max: tree.parse("/proc/sys/net/ipv4/tcp_rmem", "three numbers", |text| {
            text.split_whitespace().nth(2)?.parse().ok()
        }),
        netdev_backlog_max: tree.number(&net("netdev_max_backlog")),
        workqueue_cores: tree.parse(
            "/sys/devices/virtual/workqueue/cpumask",
            "a mask of cores",
            |text| cpulist::parse_mask(text).ok(),
        ),
        cpu_pressure_percent: tree.parse("/proc/pressure/cpu", "a pressure", |text| {
            let some = text.lines().find(|line| line.starts_with("some "))?;
            let mut words = some.split_whitespace();
            words
                .find_map(|word| word.strip_prefix("avg60="))?
                .parse()
                .ok()
        }),
        softnet: tree.parse("/proc/net/softnet_stat", "a table of cores", softnet),
        irqbalance_runs: runs(tree, "irqbalance"),
        irqbalance_banned: irqbalance_banned(tree),
    }
}

/// Reads the first file that bans it from cores, as a list or, from of old, as a mask.
fn irqbalance_banned(tree: &Tree) -> Fact<Vec<usize>> {
    let read = |path: &str| {
        tree.parse(path, "a list of banned cores", |text| {
            let value = |key: &str| {
                let mut values = text.lines().filter_map(|line| {
                    let value = line.trim().strip_prefix(key)?.strip_prefix('=')?;
                    Some(value.trim_matches(['"', '\'']))
                });
                values.next_back()
            };
            match value("IRQBALANCE_BANNED_CPULIST") {
                Some(list) => cpulist::parse(list).ok(),
                None => cpulist::parse_mask(value("IRQBALANCE_BANNED_CPUS")?).ok(),
            }
        })
    };
    let mut files = IRQBALANCE_FILES.iter().map(|path| read(path));
    let first = files.next().unwrap_or_else(|| Ok(Vec::new()));
    files.fold(first, Result::or)
}

fn swaps(text: &str) -> Option<Vec<String>> {
    let mut lines = text.lines();
    lines.next().filter(|head| head.starts_with("Filename"))?;
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    Some(lines.filter_map(first).collect())
}

/// Sums the second and third columns up.
fn softnet(text: &str) -> Option<Softnet> {
    let mut sum = Softnet::default();
    for line in text.lines() {
        let mut columns = line.split_whitespace().skip(1);
        let mut column = || u64::from_str_radix(columns.next()?, 16).ok();
        sum.dropped += column()?;
        sum.squeezed += column()?;
    }
    Some(sum)
}

/// Tells whether a program runs. Where the kernel's own threads don't show, others may not either.
fn runs(tree: &Tree, name: &str) -> Fact<bool> {
    let is_called = |process: usize, name: &str| {
        let found = tree.text(&format!("/proc/{process}/comm"));
        found.is_ok_and(|found| found == name)
    };
    let processes = tree.numbered("/proc", "");
    if processes
        .into_iter()
        .any(|process| is_called(process, name))
    {
        return Ok(true);
    }
    if is_called(KTHREADD, "kthreadd") {
        return Ok(false);
    }
    let reason = "shows only some of the processes, as in a container";
    Err(super::Unavailable::new("/proc", reason))
}
