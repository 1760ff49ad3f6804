//! The table of all checks: what is looked at, how much depends on it, what mends it, and the rule.

use super::{
    Case,
    check::{Finding, Severity, Severity::Recommended, Severity::Required},
    cores, isolation, kernel,
    mend::{
        Mend,
        Mend::{By, ByAnd, Do},
        Tuning,
    },
    network, process,
};

/// A check before it is made.
pub(super) struct Rule {
    pub condition: &'static str,
    pub severity: Severity,
    pub mend: Mend,
    pub judge: fn(&Case) -> Finding,
}

const fn rule(
    condition: &'static str,
    severity: Severity,
    mend: Mend,
    judge: fn(&Case) -> Finding,
) -> Rule {
    Rule {
        condition,
        severity,
        mend,
        judge,
    }
}

#[rustfmt::skip]
pub(super) const TABLE: &[Rule] = &[
    rule("hot cores", Required, ByAnd(Tuning::Cpuset, "or name other cores in feeds.toml"), cores::usable),
    rule("pins", Required, ByAnd(Tuning::Cpuset, "or name other cores in feeds.toml"), cores::pins),
    rule("SMT siblings", Recommended, Do("name one core of each pair and isolate the other, or nosmt (tuning/kernel-command-line.md)"), cores::siblings),
    rule("isolation", Recommended, By(Tuning::Cpuset), isolation::isolated),
    rule("housekeeping cores", Recommended, Do("leave a core of each node out of feeds.toml and of isolation"), isolation::housekeeping),
    rule("nohz_full", Recommended, ByAnd(Tuning::KernelCommandLine, "leave these cores out of it"), isolation::nohz_full),
    rule("kernel command line", Recommended, By(Tuning::KernelCommandLine), isolation::command_line),
    rule("governor", Recommended, By(Tuning::Tuned), cores::governor),
    rule("C-states", Recommended, By(Tuning::Tuned), cores::idle_states),
    rule("clock source", Recommended, By(Tuning::KernelCommandLine), kernel::clock_source),
    rule("transparent huge pages", Recommended, By(Tuning::Tuned), kernel::transparent_hugepage),
    rule("KSM", Recommended, Do("echo 0 > /sys/kernel/mm/ksm/run"), kernel::ksm),
    rule("NUMA balancing", Recommended, By(Tuning::Sysctl), kernel::numa_balancing),
    rule("NMI watchdog", Recommended, By(Tuning::Sysctl), kernel::nmi_watchdog),
    rule("timer migration", Recommended, By(Tuning::Sysctl), kernel::timer_migration),
    rule("real-time throttle", Recommended, Do("sysctl kernel.sched_rt_runtime_us=950000"), kernel::realtime_runtime),
    rule("swappiness", Recommended, By(Tuning::Sysctl), kernel::swappiness),
    rule("stat interval", Recommended, By(Tuning::Sysctl), kernel::stat_interval),
    rule("swap", Recommended, Do("swapoff --all, and remove it from /etc/fstab"), kernel::swap),
    rule("interrupts", Recommended, By(Tuning::IrqAffinity), isolation::interrupts),
    rule("interrupts while measured", Recommended, By(Tuning::IrqAffinity), isolation::interrupts_measured),
    rule("irqbalance", Recommended, Do("systemctl disable --now irqbalance, or IRQBALANCE_BANNED_CPULIST with the hot cores"), isolation::irqbalance),
    rule("workqueues", Recommended, By(Tuning::Cpuset), isolation::workqueues),
    rule("network cards", Required, Do("name a card that is there as `nic`, or plug it in and `ip link set NAME up`"), network::present),
    rule("NIC locality", Recommended, Do("give the lane a core of the card's node"), network::locality),
    rule("coalescing", Recommended, By(Tuning::NicLatency), network::coalescing),
    rule("busy poll", Recommended, By(Tuning::NicLatency), network::busy_poll),
    rule("receive buffer (rmem_max)", Required, By(Tuning::Sysctl), network::receive_buffer),
    rule("TCP buffer (tcp_rmem)", Recommended, By(Tuning::Sysctl), network::tcp_buffer),
    rule("backlog", Recommended, By(Tuning::Sysctl), network::backlog),
    rule("drops while measured", Recommended, ByAnd(Tuning::Sysctl, "and tuning/irq-affinity"), network::drops),
    rule("open files", Required, By(Tuning::Service), process::open_files),
    rule("tying sockets to a card", Required, ByAnd(Tuning::Service, "or setcap cap_net_raw+ep on the binary"), process::tie_to_card),
    rule("real-time rights", Required, By(Tuning::Service), process::realtime_rights),
    rule("CPU quota", Required, ByAnd(Tuning::Service, "run it in a control group without cpu.max"), process::quota),
    rule("CPU pressure", Recommended, Do("stop what else runs here, or isolate the hot cores (tuning/cpuset)"), kernel::pressure),
    rule("clock synchronised", Recommended, Do("run chronyd, or ptp4l and phc2sys"), kernel::time_synchronised),
    rule("libzmq", Required, Do("build with the zmq-sys of pinfeed's repository (zmq-sys/README.md)"), process::libzmq),
    rule("CURVE", Recommended, Do("build with the zmq-sys of pinfeed's repository (zmq-sys/README.md)"), process::curve),
    rule("hiccups", Recommended, ByAnd(Tuning::Cpuset, "a hypervisor's are its own to mend"), process::hiccups),
];
