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
    rule("housekeeping cores", Recommended, Do("pinfeed plan FEEDS.toml --why leaves a core of each node to the system; leave it out of tuning/cpuset, too"), isolation::housekeeping),
    rule("nohz_full", Recommended, ByAnd(Tuning::KernelCommandLine, "leave these cores out of it"), isolation::nohz_full),
    rule("kernel command line", Recommended, By(Tuning::KernelCommandLine), isolation::command_line),
    rule("governor", Recommended, By(Tuning::Tuned), cores::governor),
    rule("C-states", Recommended, ByAnd(Tuning::Tuned, "or intel_idle.max_cstate=1 (tuning/kernel-command-line.md)"), cores::idle_states),
    rule("clock source", Recommended, Do("echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource; where the kernel has given it up, see tsc=reliable (tuning/kernel-command-line.md)"), kernel::clock_source),
    rule("transparent huge pages", Recommended, By(Tuning::Tuned), kernel::transparent_hugepage),
    rule("KSM", Recommended, Do("echo 0 > /sys/kernel/mm/ksm/run"), kernel::ksm),
    rule("NUMA balancing", Recommended, By(Tuning::Sysctl), kernel::numa_balancing),
    rule("NMI watchdog", Recommended, By(Tuning::Sysctl), kernel::nmi_watchdog),
    rule("timer migration", Recommended, By(Tuning::Sysctl), kernel::timer_migration),
    rule("real-time throttle", Recommended, Do("sysctl kernel.sched_rt_runtime_us=950000, or -1 where that is required"), kernel::realtime_runtime),
    rule("swappiness", Recommended, By(Tuning::Sysctl), kernel::swappiness),
    rule("stat interval", Recommended, By(Tuning::Sysctl), kernel::stat_interval),
    rule("swap", Recommended, Do("swapoff --all, and remove it from /etc/fstab"), kernel::swap),
    rule("interrupts", Recommended, ByAnd(Tuning::IrqAffinity, "for those of other devices irqaffinity and isolcpus=managed_irq (tuning/kernel-command-line.md)"), isolation::interrupts),
    rule("interrupts while measured", Recommended, ByAnd(Tuning::IrqAffinity, "for those of other devices irqaffinity and isolcpus=managed_irq (tuning/kernel-command-line.md)"), isolation::interrupts_measured),
    rule("irqbalance", Recommended, Do("systemctl disable --now irqbalance, or IRQBALANCE_BANNED_CPULIST with the hot cores in /etc/default/irqbalance or /etc/sysconfig/irqbalance, and restart it"), isolation::irqbalance),
    rule("workqueues", Recommended, ByAnd(Tuning::Tuned, "or an isolated partition, from Linux 6.8 on (tuning/cpuset)"), isolation::workqueues),
    rule("network cards", Required, Do("name a card that is there as `nic`, or plug it in and `ip link set NAME up`"), network::present),
    rule("NIC locality", Recommended, Do("pinfeed plan FEEDS.toml --why gives the lane a core of the card's node"), network::locality),
    rule("coalescing", Recommended, By(Tuning::NicLatency), network::coalescing),
    rule("busy poll", Recommended, ByAnd(Tuning::Sysctl, "with the # before busy_poll and busy_read removed; or receive.busy_poll_us in feeds.toml"), network::busy_poll),
    rule("receive buffer (rmem_max)", Required, ByAnd(Tuning::Sysctl, "with a larger net.core.rmem_max where more is asked for"), network::receive_buffer),
    rule("TCP buffer (tcp_rmem)", Recommended, By(Tuning::Sysctl), network::tcp_buffer),
    rule("backlog", Recommended, By(Tuning::Sysctl), network::backlog),
    rule("drops while measured", Recommended, ByAnd(Tuning::Sysctl, "and tuning/irq-affinity; where rx_missed_errors grow, more room in the card: ethtool -G NAME rx N"), network::drops),
    rule("open files", Required, By(Tuning::Service), process::open_files),
    rule("tying sockets to a card", Required, ByAnd(Tuning::Service, "or setcap cap_net_raw+ep on the binary"), process::tie_to_card),
    rule("real-time rights", Required, By(Tuning::Service), process::realtime_rights),
    rule("CPU quota", Required, Do("systemctl set-property UNIT CPUQuota=, or echo max > /sys/fs/cgroup/GROUP/cpu.max; a container's is set where it is started"), process::quota),
    rule("CPU pressure", Recommended, Do("stop what else runs here, or isolate the hot cores (tuning/cpuset)"), kernel::pressure),
    rule("clock synchronised", Recommended, Do("systemctl enable --now chronyd, or ptp4l and phc2sys"), kernel::time_synchronised),
    rule("libzmq", Required, Do("cargo build --release with the zmq-sys of pinfeed's repository (zmq-sys/README.md)"), process::libzmq),
    rule("CURVE", Recommended, Do("cargo build --release with the zmq-sys of pinfeed's repository (zmq-sys/README.md)"), process::curve),
    rule("hiccups", Recommended, ByAnd(Tuning::Cpuset, "a hypervisor's are its own to mend"), process::hiccups),
];

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// What the file named by a mend has to hold, so that what the rule reads is changed by it.
    #[rustfmt::skip]
    const SETTINGS: &[(&str, &[&str])] = &[
        ("hot cores", &["cpuset.cpus", "cgroup.procs"]),
        ("pins", &["cpuset.cpus", "cgroup.procs"]),
        ("isolation", &["cpuset.cpus.partition", "partition=isolated"]),
        ("nohz_full", &["nohz_full="]),
        ("kernel command line", &["rcu_nocbs=", "irqaffinity=", "isolcpus=managed_irq", "skew_tick=1"]),
        // Its governor is performance.
        ("governor", &["include=network-latency"]),
        ("C-states", &["/cpuidle/state[2-9]/disable = 1"]),
        // It sets them to never.
        ("transparent huge pages", &["include=network-latency"]),
        ("NUMA balancing", &["\nkernel.numa_balancing = 0"]),
        ("NMI watchdog", &["\nkernel.nmi_watchdog = 0"]),
        ("timer migration", &["\nkernel.timer_migration = 0"]),
        ("swappiness", &["\nvm.swappiness = 10"]),
        ("stat interval", &["\nvm.stat_interval = 10"]),
        ("interrupts", &["smp_affinity_list"]),
        ("interrupts while measured", &["smp_affinity_list"]),
        ("workqueues", &["/sys/devices/virtual/workqueue/cpumask"]),
        ("coalescing", &["adaptive-rx", "rx-usecs", "rx-frames"]),
        ("busy poll", &["\n#net.core.busy_poll = 50", "\n#net.core.busy_read = 50"]),
        ("receive buffer (rmem_max)", &["\nnet.core.rmem_max = "]),
        ("TCP buffer (tcp_rmem)", &["\nnet.ipv4.tcp_rmem = 4096 131072 67108864"]),
        ("backlog", &["\nnet.core.netdev_max_backlog = 10000"]),
        ("drops while measured", &["\nnet.core.netdev_max_backlog = "]),
        ("open files", &["\nLimitNOFILE="]),
        ("tying sockets to a card", &["\nAmbientCapabilities=CAP_NET_RAW"]),
        ("real-time rights", &["\nLimitRTPRIO=", "\nLimitMEMLOCK=infinity", "CAP_SYS_NICE"]),
        ("hiccups", &["partition=isolated"]),
    ];
    /// What others than the file named by a mend have to hold.
    #[rustfmt::skip]
    const ELSEWHERE: &[(&str, &str, &str)] = &[
        ("SMT siblings", "tuning/kernel-command-line.md", "`nosmt`"),
        ("C-states", "tuning/kernel-command-line.md", "intel_idle.max_cstate=1"),
        ("interrupts", "tuning/kernel-command-line.md", "isolcpus=managed_irq"),
        ("irqbalance", "tuning/irq-affinity", "IRQBALANCE_BANNED_CPULIST"),
        ("CPU pressure", "tuning/cpuset", "partition=isolated"),
        ("clock source", "tuning/kernel-command-line.md", "`tsc=reliable`"),
        ("CURVE", "zmq-sys/README.md", "CURVE"),
    ];

    /// How commands begin that mends without a file name.
    #[rustfmt::skip]
    const COMMANDS: &[&str] = &["cargo build ", "echo ", "ip link set ", "pinfeed plan ", "swapoff ", "sysctl ", "systemctl "];

    fn text(path: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[test]
    fn files_named_by_mends_have_the_settings() {
        for rule in TABLE {
            let (By(file) | ByAnd(file, _)) = rule.mend else {
                continue;
            };
            let listed = SETTINGS.iter().find(|(name, _)| *name == rule.condition);
            let (_, settings) = listed.unwrap_or_else(|| panic!("{} is listed", rule.condition));
            let content = text(file.path());
            for setting in *settings {
                let (condition, path) = (rule.condition, file.path());
                assert!(
                    content.contains(setting),
                    "{condition}: {setting} in {path}"
                );
            }
        }
        for (condition, path, setting) in ELSEWHERE {
            assert!(TABLE.iter().any(|rule| rule.condition == *condition));
            assert!(
                text(path).contains(setting),
                "{condition}: {setting} in {path}"
            );
        }
    }

    #[test]
    fn each_mend_names_a_file_or_a_command() {
        for rule in TABLE {
            let mend = rule.mend.to_string();
            let names_command = COMMANDS.iter().any(|command| mend.contains(command));
            assert!(
                mend.contains("tuning/") || names_command,
                "{}: {mend}",
                rule.condition
            );
        }
    }

    /// Also those in the midst of what is said.
    #[test]
    fn paths_named_by_mends_are_there() {
        for rule in TABLE {
            let mend = rule.mend.to_string();
            let words = mend.split([' ', '(', ')', ';', ',']);
            for path in
                words.filter(|word| word.starts_with("tuning/") || word.starts_with("zmq-sys/"))
            {
                text(path);
            }
        }
    }
}
