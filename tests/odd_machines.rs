//! Goal: whatever a machine shows, the doctor names it: what can't be read or makes no sense is unavailable, never an
//! error; what a configuration asks for and the machine has not is a failure of what is required.

mod support;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, thread};

use pinfeed::host::{
    doctor::{
        Check, Coalescing, CoreHiccups, Evidence, Measured,
        Outcome::{self, Failed, Passed, Unavailable},
        Probed, Verdict, checks,
    },
    machine,
    pin::Placement,
};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use support::{
    Pinfeed,
    machine::{Recorded, assert_check, recorded_file, wanted},
};

/// A lane and a worker on cores of their own, with `more` keys of the lane and `rest` behind.
fn feeds(lane_core: usize, worker_core: usize, more: &str, rest: &str) -> String {
    format!(
        "wait = \"spin\"\n[[lane]]\nname = \"a\"\ncore = {lane_core}\n{more}\n[[feed]]\nname = \"f\"\n\
         envelope = \"raw\"\n[[feed.line]]\nlane = \"a\"\nconnect = [\"tcp://127.0.0.1:5556\"]\n\
         [workers]\ncount = 1\ncores = [{worker_core}]\n{rest}"
    )
}

fn two_socket_feeds() -> String {
    fs::read_to_string(recorded_file("two-socket.toml")).expect("a configuration")
}

#[test]
fn of_a_machine_without_files_nothing_is_told() {
    let verdict = Verdict::of(&Recorded::empty().judged(None));
    assert_eq!(verdict.failed, 0, "{verdict:?}");
    assert!(verdict.unavailable > 25, "{verdict:?}");
    let configured = Recorded::empty().judged(Some(&feeds(1, 2, "", "")));
    assert_check(&configured, "hot cores", Unavailable, &["no cores"]);
}

#[test]
fn garbage_is_no_error() {
    fn overwrite(folder: &Path, content: &[u8]) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                overwrite(&path, content);
            } else {
                // Writing over it would make some file systems wait for the disk.
                fs::remove_file(&path).expect("a file");
                fs::write(path, content).expect("it is written");
            }
        }
    }
    let machine = Recorded::named("two-socket");
    let kinds: [&[u8]; 8] = [
        b"",
        b"\n\n",
        b"\xff\xfe\x00",
        b"garbage: x [y] = z\n0: 1 2 3",
        b"-1",
        b"99999999999999999999999",
        b"0-511",
        b"CPU0 CPU1\n1: 18446744073709551615 18446744073709551615\n2: 1",
    ];
    for kind in kinds {
        overwrite(machine.root(), kind);
        for feeds in [None, Some(two_socket_feeds())] {
            let found = machine.judged(feeds.as_deref());
            let shown = String::from_utf8_lossy(kind);
            assert!(!found.is_empty(), "{shown}");
            assert!(
                machine
                    .machine()
                    .shape()
                    .to_string()
                    .contains("hardware threads"),
                "{shown}"
            );
        }
    }
    overwrite(machine.root(), b"garbage");
    let found = machine.judged(None);
    for condition in ["clock source", "isolation", "kernel command line"] {
        let check = found.iter().find(|check| check.condition == condition);
        assert_ne!(
            check.map(|check| check.outcome),
            Some(Passed),
            "{condition}"
        );
    }
    let swappiness = "/proc/sys/vm/swappiness: \"garbage\" is not a number";
    assert_check(&found, "swappiness", Unavailable, &[swappiness]);
}

#[test]
fn what_cannot_be_read_is_unavailable_with_the_reason() {
    let machine = Recorded::named("two-socket");
    machine.remove("proc/sys/vm/swappiness");
    let ksm = "sys/kernel/mm/ksm/run";
    machine.remove(ksm);
    fs::create_dir(machine.root().join(ksm)).expect("a folder");
    let found = machine.judged(None);
    let gone = "/proc/sys/vm/swappiness: not there";
    assert_check(&found, "swappiness", Unavailable, &[gone]);
    assert_check(
        &found,
        "KSM",
        Unavailable,
        &["/sys/kernel/mm/ksm/run: Is a directory"],
    );
}

#[test]
fn a_lack_of_permission_is_named() {
    let machine = Recorded::named("two-socket");
    let file = machine.root().join("proc/sys/vm/stat_interval");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).expect("it is ours");
    // Those of the superuser would let it pass. They are the thread's own.
    let read = || {
        let mut sets = capabilities(None).expect("they are ours");
        sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, sets).expect("fewer are always granted");
        machine.judged(None)
    };
    let found = thread::scope(|scope| scope.spawn(read).join().expect("no panic"));
    let reason = "/proc/sys/vm/stat_interval: no permission";
    assert_check(&found, "stat interval", Unavailable, &[reason]);
}

#[test]
fn a_card_that_is_not_there_fails_what_is_required() {
    let machine = Recorded::named("two-socket");
    machine.remove("sys/class/net/eth1");
    let found = machine.judged(Some(&two_socket_feeds()));
    assert_check(
        &found,
        "network cards",
        Failed,
        &["eth1 is not there", "eth0"],
    );
    assert_check(&found, "NIC locality", Unavailable, &["eth1"]);
    let root = machine.root().to_str().expect("UTF-8");
    let config = recorded_file("two-socket.toml");
    let config = config.to_str().expect("UTF-8");
    let report = Pinfeed::start(&["doctor", "--json", "--root", root, config]).json(1);
    assert_eq!(report["failed_required"], 1, "{report}");

    machine.write("sys/class/net/eth1/operstate", "down\n");
    let found = machine.judged(Some(&two_socket_feeds()));
    assert_check(&found, "network cards", Failed, &["eth1 down"]);
}

#[test]
fn cores_outside_the_cpuset_fail_what_is_required() {
    let machine = Recorded::named("container");
    machine.remove("sys/fs/cgroup/cpu.max");
    let found = machine.judged(Some(&feeds(3, 5, "", "")));
    assert_check(&found, "hot cores", Failed, &["3 not among 4-7"]);
    assert_check(&found, "CPU quota", Passed, &["none"]);
    // The mask may be wider than the control group.
    machine.write("proc/self/status", "Cpus_allowed_list:\t0-31\n");
    let found = machine.judged(Some(&feeds(3, 5, "", "")));
    assert_check(&found, "hot cores", Failed, &["3 not among 4-7"]);
    let found = machine.judged(Some(&feeds(4, 5, "", "")));
    assert_check(&found, "hot cores", Passed, &["4-5 of 4-7"]);
}

#[test]
fn the_tightest_quota_counts() {
    let machine = Recorded::named("two-socket");
    let group = "sys/fs/cgroup/system.slice";
    let judge = || machine.judged(Some(&feeds(4, 5, "", "")));
    machine.write(
        &format!("{group}/pinfeed.service/cpu.max"),
        "800000 100000\n",
    );
    assert_check(&judge(), "CPU quota", Passed, &["8 cores"]);
    machine.write(&format!("{group}/cpu.max"), "150000 100000\n");
    assert_check(&judge(), "CPU quota", Failed, &["1.5 cores"]);
    machine.write("proc/self/cgroup", "0::/../../elsewhere\n");
    assert_check(&judge(), "CPU quota", Unavailable, &["out of sight"]);
}

#[test]
fn siblings_that_are_both_hot_are_named() {
    let machine = Recorded::named("desktop");
    let found = machine.judged(Some(&feeds(2, 10, "", "")));
    assert_check(
        &found,
        "SMT siblings",
        Failed,
        &["one physical core: 2 and 10"],
    );
    let found = machine.judged(Some(&feeds(2, 3, "", "")));
    assert_check(
        &found,
        "SMT siblings",
        Failed,
        &["beside hot cores, on 10-11"],
    );
    machine.write("sys/devices/system/cpu/isolated", "2-3,10-11\n");
    let found = machine.judged(Some(&feeds(2, 3, "", "")));
    assert_check(&found, "SMT siblings", Passed, &["idle"]);
    machine.write("sys/devices/system/cpu/online", "0-7\n");
    let found = machine.judged(Some(&feeds(2, 3, "", "")));
    assert_check(
        &found,
        "SMT siblings",
        Passed,
        &["no hot core has a sibling"],
    );
}

/// By its configuration, as a list and as a mask, in either place.
#[test]
fn irqbalance_leaves_out_cores_that_it_is_banned_from() {
    let machine = Recorded::named("desktop");
    machine.write("proc/777/comm", "irqbalance\n");
    let judge = || machine.judged(Some(&feeds(2, 3, "", "")));
    assert_check(&judge(), "irqbalance", Failed, &["running"]);
    let file = "etc/default/irqbalance";
    machine.write(
        file,
        "#IRQBALANCE_BANNED_CPULIST=2-3\nIRQBALANCE_BANNED_CPULIST=2\n",
    );
    assert_check(&judge(), "irqbalance", Failed, &["running"]);
    machine.write(file, "IRQBALANCE_BANNED_CPULIST=\"2-3\"\n");
    assert_check(&judge(), "irqbalance", Passed, &["without hot cores"]);
    machine.remove(file);
    machine.write(
        "etc/sysconfig/irqbalance",
        "IRQBALANCE_BANNED_CPUS=0000000c\n",
    );
    assert_check(&judge(), "irqbalance", Passed, &["without hot cores"]);
}

/// Where hot threads poll in real time the throttle would stop them, elsewhere it is a safety net.
#[test]
fn the_real_time_throttle_is_off_for_polling_threads_only() {
    let machine = Recorded::named("two-socket");
    let throttle = "proc/sys/kernel/sched_rt_runtime_us";
    let judge = |more: &str| machine.judged(Some(&feeds(4, 5, "", more)));
    let fifo = "[threads]\nfifo = 1\n";
    machine.write(throttle, "950000\n");
    assert_check(&judge(""), "real-time throttle", Passed, &["950000"]);
    assert_check(&judge(fifo), "real-time throttle", Failed, &["950000"]);
    machine.write(throttle, "-1\n");
    assert_check(&judge(""), "real-time throttle", Failed, &["-1"]);
    assert_check(&judge(fifo), "real-time throttle", Passed, &["-1"]);
}

/// A line of `90-pinfeed.conf`, as a file of the machine.
#[test]
fn what_the_file_of_settings_mends_passes_with_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/90-pinfeed.conf");
    let settings = fs::read_to_string(&path).expect("it is there");
    let is_setting = |line: &&str| line.contains(" = ");
    let machine = Recorded::named("desktop");
    // As a machine that has none of them.
    for file in [
        "kernel/nmi_watchdog",
        "kernel/timer_migration",
        "kernel/numa_balancing",
    ] {
        machine.write(&format!("proc/sys/{file}"), "1\n");
    }
    let by_file = |found: &[Check]| {
        let named = |check: &&Check| {
            check
                .mend
                .as_ref()
                .is_some_and(|mend| mend.starts_with("tuning/90-pinfeed.conf"))
        };
        let names = found.iter().filter(named).map(|check| check.condition);
        names.collect::<Vec<_>>()
    };
    let before = by_file(&machine.judged(None));
    assert!(
        before.len() > 5 && before.contains(&"busy poll"),
        "{before:?}"
    );
    for line in settings.lines().filter(is_setting) {
        let (key, value) = line
            .trim_start_matches('#')
            .split_once(" = ")
            .expect("it has one");
        machine.write(&format!("proc/sys/{}", key.replace('.', "/")), value);
    }
    assert_eq!(by_file(&machine.judged(None)), [""; 0]);
}

#[test]
fn partitions_isolate_where_they_take_effect() {
    let machine = Recorded::named("desktop");
    let judge = || machine.judged(Some(&feeds(2, 3, "", "")));
    assert_check(&judge(), "isolation", Failed, &["not isolated: 2-3"]);
    machine.write("sys/fs/cgroup/cpuset.cpus.isolated", "2-3\n");
    assert_check(&judge(), "isolation", Passed, &["2-3 isolated"]);
    // Kernels that do not list them.
    machine.remove("sys/fs/cgroup/cpuset.cpus.isolated");
    let group = "sys/fs/cgroup/pinfeed";
    machine.write(&format!("{group}/cpuset.cpus.effective"), "2-3\n");
    machine.write(&format!("{group}/cpuset.cpus.partition"), "isolated\n");
    assert_check(&judge(), "isolation", Passed, &["2-3 isolated"]);
    let invalid = "isolated invalid (Cpu list in cpuset.cpus not exclusive)\n";
    machine.write(&format!("{group}/cpuset.cpus.partition"), invalid);
    assert_check(&judge(), "isolation", Failed, &["not isolated: 2-3"]);
}

#[test]
fn nohz_full_suits_workers_that_spin_only() {
    let machine = Recorded::named("two-socket");
    let nohz_full = "sys/devices/system/cpu/nohz_full";
    let spinning = feeds(4, 5, "", "");
    machine.write(nohz_full, "5\n");
    assert_check(
        &machine.judged(Some(&spinning)),
        "nohz_full",
        Passed,
        &["5"],
    );
    let parked = spinning.replace("spin", "park");
    assert_check(
        &machine.judged(Some(&parked)),
        "nohz_full",
        Failed,
        &["5: there"],
    );
    machine.write(nohz_full, "4-5\n");
    assert_check(
        &machine.judged(Some(&spinning)),
        "nohz_full",
        Failed,
        &["4: there"],
    );
}

#[test]
fn a_configurations_limits_are_judged() {
    let machine = Recorded::named("two-socket");
    let buffer = |bytes: u32| feeds(4, 6, "", &format!("[receive]\nbuffer_bytes = {bytes}\n"));
    let condition = "receive buffer (rmem_max)";
    assert_check(
        &machine.judged(Some(&buffer(67_108_864))),
        condition,
        Passed,
        &[],
    );
    assert_check(
        &machine.judged(Some(&buffer(67_108_865))),
        condition,
        Failed,
        &["67108864"],
    );
    machine.write(
        "proc/self/limits",
        "Max open files            20        20        files\n",
    );
    assert_check(
        &machine.judged(Some(&buffer(0))),
        "open files",
        Failed,
        &["20"],
    );
    // Only newer kernels let everybody tie sockets to a card.
    let tied = feeds(4, 6, "nic = \"eth0\"", "");
    let condition = "tying sockets to a card";
    machine.write(
        "proc/self/status",
        "CapEff:\t0000000000000000\nCpus_allowed_list:\t0-127\n",
    );
    assert_check(
        &machine.judged(Some(&tied)),
        condition,
        Passed,
        &["Linux 6.8.0"],
    );
    machine.write("proc/sys/kernel/osrelease", "5.4.0-generic\n");
    assert_check(
        &machine.judged(Some(&tied)),
        condition,
        Failed,
        &["neither"],
    );
}

#[test]
fn what_grows_is_measured() {
    let machine = Recorded::named("virtual");
    let before = machine.machine();
    let grown = "       CPU0       CPU1\n 41: 10442 7 PCI-MSIX-0000:00:04.0 1-edge virtio3-rx\n";
    machine.write("proc/interrupts", grown);
    machine.write("proc/net/softnet_stat", "0b6c4586 00000010 00000103\n");
    machine.write("sys/class/net/eth0/statistics/rx_dropped", "5\n");
    let after = machine.machine();
    let hiccups = vec![CoreHiccups {
        core: 1,
        count: 1_000,
        over_1_ms: 3,
        p99_ns: 900_000,
        p99_9_ns: 2_000_000,
        max_ns: 4_000_000,
        stolen_ns: 20_000_000,
    }];
    let wanted = wanted(&after, None);
    let measured = Measured::between(&before, &after, 1.0, hiccups, &wanted);
    let probed = Probed::of_recorded();
    let evidence = Evidence {
        machine: &after,
        probed: &probed,
        measured: Some(&measured),
    };
    let found = checks(&evidence, &wanted);
    assert_check(&found, "interrupts while measured", Failed, &["7 on 1"]);
    let drops = [
        "softnet dropped +16",
        "softnet time_squeeze",
        "eth0 rx_dropped +5",
    ];
    assert_check(&found, "drops while measured", Failed, &drops[..1]);
    assert_check(&found, "drops while measured", Failed, &drops[2..]);
    assert_check(&found, "hiccups", Failed, &["3 of 1000 on 1"]);
}

#[test]
fn what_was_tried_is_judged() {
    let machine = Recorded::named("two-socket");
    let read = machine.machine();
    let wanted = wanted(&read, Some(&two_socket_feeds()));
    let judge = |adaptive: bool, rx_frames, core_got: Option<usize>, synchronised: bool| {
        let coalescing = Coalescing {
            adaptive_rx: Some(adaptive),
            rx_us: Some(0),
            rx_frames,
        };
        let pin = Placement {
            name: "pin-4".to_owned(),
            core_wanted: Some(4),
            core_got,
        };
        let cards = ["eth0", "eth1"].map(|nic| (nic.to_owned(), Ok(coalescing)));
        let probed = Probed {
            pins: Ok(vec![pin]),
            coalescing: cards.into_iter().collect(),
            time_synchronised: Ok(synchronised),
            ..Probed::of_recorded()
        };
        checks(
            &Evidence {
                machine: &read,
                probed: &probed,
                measured: None,
            },
            &wanted,
        )
    };
    let expect = |found: &[_], outcome: Outcome| {
        for condition in ["pins", "coalescing", "clock synchronised"] {
            assert_check(found, condition, outcome, &[]);
        }
    };
    for rx_frames in [None, Some(0), Some(1)] {
        expect(&judge(false, rx_frames, Some(4), true), Passed);
    }
    let gathers = judge(false, Some(8), Some(4), true);
    assert_check(&gathers, "coalescing", Failed, &["eth0", "rx-frames 8"]);
    let bad = judge(true, None, None, false);
    expect(&bad, Failed);
    assert_check(&bad, "coalescing", Failed, &["eth0 adaptive-rx on"]);
    assert_check(&bad, "pins", Failed, &["pin-4 on any core"]);
    assert_eq!(Verdict::of(&bad).failed_required, 1, "pins");
}

#[test]
fn bad_input_is_named() {
    let fails = |arguments: &[&str], texts: &[&str]| {
        let mut process = Pinfeed::start(&[&["doctor"], arguments].concat());
        let (status, output) = process.finish();
        assert_eq!(
            (status.code(), output.as_str()),
            (Some(2), ""),
            "{}",
            process.said
        );
        for text in texts {
            assert!(process.said.contains(text), "{text} in {}", process.said);
        }
    };
    fails(
        &["/nonexistent/feeds.toml"],
        &["/nonexistent/feeds.toml", "No such file"],
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("feeds.toml");
    let whole = two_socket_feeds();
    for (good, bad, text) in [
        (
            "lane = \"a\"",
            "lane = \"z\"",
            "feed[0].line[0].lane = z: there is no such lane",
        ),
        ("tcp://", "tcq://", "feed[0].line[0].connect[0] = tcq://"),
        ("count = 2", "count = 992", "workers.count = 992"),
    ] {
        assert!(whole.contains(good), "{whole}");
        fs::write(&file, whole.replacen(good, bad, 1)).unwrap();
        fails(&[file.to_str().unwrap()], &["feeds.toml:", text]);
    }
    fails(
        &["--root", "/nonexistent"],
        &["--root = /nonexistent", "no such folder"],
    );
    fails(&["--measure", "soon"], &["--measure", "soon"]);
    fails(
        &["--measure", "1s", "--root", "/"],
        &["--measure", "--root"],
    );
}

/// A planner will need all of these.
#[test]
fn the_shape_of_two_sockets_is_read() {
    let read = Recorded::named("two-socket").machine();
    assert_eq!(read.cores.len(), 128);
    let core = read.core(37).expect("it is online");
    assert_eq!((core.package, core.node), (Some(1), Some(1)));
    assert_eq!(core.siblings, [37, 101]);
    assert_eq!(read.caches.len(), 64 + 2, "of levels 2 and 3");
    let nic = read.nic("eth1").expect("it is there");
    assert_eq!(
        (nic.node, nic.speed_mbit, nic.rx_queues),
        (Some(1), Some(100_000), 16)
    );
    let interrupts: Vec<&machine::Interrupt> = read.interrupts_of(nic).collect();
    assert_eq!(interrupts.len(), 16);
    assert_eq!(interrupts[3].destination(), Ok(&[32][..]));
    assert!(
        interrupts[3].name.ends_with("eth1-TxRx-3"),
        "{}",
        interrupts[3].name
    );
    assert_eq!(interrupts[3].counts[&127], 19);
    let json = serde_json::to_value(&read).expect("it serializes");
    assert_eq!(json["nodes"][1]["node"], 1);
}
