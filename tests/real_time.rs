//! Goal: `[threads]` is carried out, by the kernel's own account, or refused with what is missing; and what would
//! hang the machine is refused beforehand.

mod support;

use std::{
    fs,
    process::{Command, Stdio},
};

use pinfeed::{
    config::{Config, Engine, PinPolicy},
    envelope::Envelope,
    host::topology::usable_cores,
    wait::Wait,
};
use rustix::{
    process::{Resource, Signal, getrlimit},
    thread::{CapabilitySet, capabilities},
};
use support::{Pinfeed, skip};
use tempfile::NamedTempFile;

/// `SCHED_FIFO` in a thread's `stat`.
const FIFO: u32 = 1;

/// A configuration with this `[threads]`.
fn feeds(engine: &str, threads: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    let text = format!(
        "engine = \"{engine}\"\n[threads]\n{threads}\n[[lane]]\nname = \"0\"\n[[feed]]\nname = \"feed\"\nenvelope \
         = \"raw\"\n[[feed.line]]\nlane = \"0\"\nbind = [\"tcp://127.0.0.1:*\"]\n"
    );
    fs::write(file.path(), text).expect("a file");
    file
}

/// `pinfeed run` behind another command.
fn run_behind(before: &[&str], file: &NamedTempFile) -> Pinfeed {
    let mut command = Command::new(before[0]);
    command.args(&before[1..]);
    command.arg(env!("CARGO_BIN_EXE_pinfeed"));
    Pinfeed::spawn(command.arg("run").arg(file.path()))
}

/// Tells whether a command can be run here, or says that the test is skipped.
fn can(command: &[&str]) -> bool {
    let status = Command::new(command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let can = status.is_ok_and(|status| status.success());
    if !can {
        skip(&format!("`{}` fails here", command.join(" ")));
    }
    can
}

/// Name, policy and real-time priority of each thread of a process.
fn scheduled(process: u32) -> Vec<(String, u32, u32)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let threads = tasks.flatten().map(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).expect("it runs");
        let (name, fields) = stat.rsplit_once(')').expect("a name");
        let name = name.split_once('(').expect("a name").1.to_owned();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // Counted from 1 as in proc(5), the third one comes first after the name.
        let field = |number: usize| fields[number - 3].parse().expect("a number");
        (name, field(41), field(40))
    });
    threads.collect()
}

fn locked_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmLck:"))
        .expect("the kernel says");
    let number = line.split_whitespace().next();
    number.and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn lanes_and_workers_run_in_real_time_and_nothing_else_does() {
    if !can(&["chrt", "-f", "7", "true"]) {
        return;
    }
    for engine in ["native", "libzmq"] {
        let file = feeds(engine, "fifo = 7");
        let mut run = run_behind(&["env"], &file);
        run.wait_for_line("listening on ");
        let mut busy = 0;
        for (name, policy, priority) in scheduled(run.id()) {
            let is_busy = ["lane-", "worker-"]
                .iter()
                .any(|start| name.starts_with(start))
                || name.contains("/ZMQbg/IO/");
            let expected = if is_busy { (FIFO, 7) } else { (0, 0) };
            assert_eq!((policy, priority), expected, "{name} with {engine}");
            busy += usize::from(is_busy);
        }
        assert_eq!(busy, if engine == "libzmq" { 4 } else { 3 });
        run.signal(Signal::INT);
        assert_eq!(run.finish().0.code(), Some(130), "{}", run.said);
    }
}

#[test]
fn memory_is_locked() {
    let is_unlimited = getrlimit(Resource::Memlock).current.is_none();
    let rights = capabilities(None).expect("the kernel says").effective;
    if !is_unlimited && !rights.contains(CapabilitySet::IPC_LOCK) {
        skip("no right to lock memory");
        return;
    }
    let file = feeds("native", "lock_memory = true");
    // Without this it takes the gigabyte that the allocator sets aside.
    let mut run = run_behind(&["env", "MIMALLOC_ARENA_EAGER_COMMIT=0"], &file);
    run.wait_for_line("listening on ");
    assert!(locked_kib(run.id()) > 1_024, "all of a program");
    run.signal(Signal::INT);
    assert_eq!(run.finish().0.code(), Some(130), "{}", run.said);
}

#[test]
fn huge_pages_are_taken_only_where_they_are_asked_for() {
    const ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let enabled = fs::read_to_string(ENABLED).unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").expect("the kernel says");
    let are_given = enabled.contains("[always]") || enabled.contains("[madvise]");
    if !are_given || !status.contains("THP_enabled:\t1") {
        skip("the kernel gives no huge pages, or does not say to whom");
        return;
    }
    // Without being asked for, none are taken, though the allocator would.
    for (more, are_allowed) in [("", "0"), ("huge_pages = true", "1")] {
        let file = feeds("native", more);
        let mut run = run_behind(&["env"], &file);
        run.wait_for_line("listening on ");
        let status = fs::read_to_string(format!("/proc/{}/status", run.id()));
        let status = status.expect("the kernel says");
        let allowed = status
            .lines()
            .find_map(|it| it.strip_prefix("THP_enabled:"));
        assert_eq!(allowed.map(str::trim), Some(are_allowed), "{status}");
        run.signal(Signal::INT);
        assert_eq!(run.finish().0.code(), Some(130), "{}", run.said);
    }
}

#[test]
fn without_the_right_the_limit_and_the_remedy_are_named() {
    const LIMITS: [&str; 3] = ["prlimit", "--rtprio=0:0", "--memlock=8388608:8388608"];
    const WITHOUT: [&str; 2] = ["setpriv", "--bounding-set=-sys_nice,-ipc_lock"];
    // Who may not take rights away has none.
    let is_root = rustix::process::geteuid().is_root();
    let before = if is_root {
        [&WITHOUT[..], &LIMITS].concat()
    } else {
        LIMITS.to_vec()
    };
    if !can(&[&before[..], &["true"]].concat()) {
        return;
    }
    for (threads, expected) in [
        (
            "fifo = 7",
            [
                "threads.fifo = 7:",
                "RLIMIT_RTPRIO is 0, without CAP_SYS_NICE",
                "LimitRTPRIO=7",
            ],
        ),
        (
            "lock_memory = true",
            [
                "threads.lock_memory = true:",
                "RLIMIT_MEMLOCK is 8388608 bytes, without CAP_IPC_LOCK",
                "LimitMEMLOCK=infinity",
            ],
        ),
    ] {
        let file = feeds("native", threads);
        let mut run = run_behind(&before, &file);
        assert_eq!(run.finish().0.code(), Some(2), "{}", run.said);
        for text in expected {
            assert!(run.said.contains(text), "{text:?} is not in {}", run.said);
        }
    }
}

#[test]
fn threads_that_poll_in_real_time_need_a_core_each_and_one_over() {
    let cores = usable_cores();
    let refused = |workers: usize, wait: Wait| {
        let mut config = Config::bind("tcp://127.0.0.1:*", Envelope::Raw);
        config.engine = Some(Engine::Native);
        config.threads.fifo = 1;
        config.wait = wait;
        config.workers.count = workers;
        config.validate().err().map(|error| error.to_string())
    };
    for wait in [Wait::Spin, Wait::Adaptive] {
        let error = refused(cores.len(), wait).expect("a thread too many");
        assert!(error.contains("threads.fifo = 1"), "{error}");
        assert!(error.contains(&format!("wait = \"{wait}\"")), "{error}");
        assert!(error.contains("share a core"), "{error}");
    }
    if cores.len() > 1 {
        let error = refused(cores.len() - 1, Wait::Spin).expect("none is left");
        assert!(error.contains("nothing else would run"), "{error}");
    }
    if cores.len() > 2 {
        assert_eq!(refused(cores.len() - 2, Wait::Spin), None);
    }
    assert_eq!(refused(cores.len(), Wait::Park), None);
    let mut config = Config::bind("tcp://127.0.0.1:*", Envelope::Raw);
    config.threads.fifo = 100;
    let error = config.validate().expect_err("no such priority").to_string();
    assert!(error.contains("threads.fifo = 100"), "{error}");
}

/// So the doctor refuses it as well, and for another machine.
#[test]
fn what_no_machine_runs_in_real_time_is_wrong_in_itself() {
    let mut config = Config::bind("tcp://127.0.0.1:*", Envelope::Raw);
    config.threads.fifo = 1;
    config.wait = Wait::Spin;
    config.workers.count = 1;
    config.check().expect("cores are chosen where it runs");
    let refused = |config: &Config| config.check().expect_err("it would hang").to_string();
    config.lanes[0].core = Some(100);
    assert!(refused(&config).contains("share a core"));
    config.workers.cores = vec![101];
    config.check().expect("each thread has a core");
    config.pin = Some(PinPolicy::BestEffort);
    assert!(refused(&config).contains("a pin that does not take effect"));
    config.wait = Wait::Park;
    config.check().expect("they sleep");
}
