//! Goal: a thread that somebody moves off its core is an alarm while `run` runs, once for each time, and shows in
//! the summary.

mod support;

use std::fs;

use pinfeed::{config::Engine, host::topology::usable_cores};
use rustix::{
    process::Signal,
    thread::{CpuSet, Pid, sched_setaffinity},
};
use serde_json::Value;
use support::{ENGINES, Pinfeed, number, skip};

/// Lets the thread of a process whose name ends like this run on one core only.
fn move_thread(process: u32, name: &str, core: usize) {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let named = tasks.flatten().find(|task| {
        let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        comm.trim_end().ends_with(name)
    });
    let id = named.unwrap_or_else(|| panic!("no thread is named {name}"));
    let id = id.file_name().to_str().and_then(|id| id.parse().ok());
    let mut mask = CpuSet::new();
    mask.set(core);
    sched_setaffinity(id.and_then(Pid::from_raw), &mask).expect("it is ours");
}

#[test]
fn a_thread_moved_off_its_core_is_said_once() {
    let cores = usable_cores();
    let &[low, .., high] = &cores[..] else {
        skip("this machine has only one core");
        return;
    };
    for engine in ENGINES {
        // As pinfeed names it, and as the kernel does.
        let (receiver, its_name) = match engine {
            Engine::Native => ("lane-0", "lane-0"),
            Engine::Libzmq => ("io-0", "/ZMQbg/IO/0"),
        };
        // With libzmq the lane's two threads share a core, and the worker has one of its own.
        let file = tempfile::NamedTempFile::new().expect("a file");
        let io_core = match engine {
            Engine::Native => String::new(),
            Engine::Libzmq => format!("io_core = {low}\n"),
        };
        let text = format!(
            "engine = \"{}\"\npin = \"strict\"\n[[lane]]\nname = \"0\"\ncore = {low}\n{io_core}[[feed]]\nname = \
             \"feed\"\nenvelope = \"raw\"\n[[feed.line]]\nlane = \"0\"\nbind = [\"tcp://127.0.0.1:*\"]\n\
             [workers]\ncount = 1\ncores = [{high}]\n",
            engine.name()
        );
        fs::write(file.path(), text).expect("a file");
        let path = file.path().to_str().expect("UTF-8");
        let mut run = Pinfeed::start(&["run", path, "--json"]);
        run.wait_for_line("listening on ");
        move_thread(run.id(), "worker-0", low);
        run.wait_for_text(&format!(
            "worker-0 was tied to core {high}, may run on {low}"
        ));
        // The worker stays away while the next one is found: it is not said again.
        move_thread(run.id(), its_name, high);
        run.wait_for_text(&format!(
            "{receiver} was tied to core {low}, may run on {high}"
        ));
        run.signal(Signal::INT);
        let summary = run.json(130);
        assert_noted(&summary, &["worker", "network"]);
        let threads = summary["threads"].as_array().expect("a list");
        let worker = threads.iter().find(|one| one["name"] == "worker-0");
        let worker = worker.expect("it is there");
        assert_eq!(number(worker, "core_wanted"), high as u64, "{worker}");
        assert_eq!(number(worker, "core_got"), high as u64, "{worker}");
        assert_eq!(number(worker, "core_now"), low as u64, "{worker}");
        for thread in threads {
            assert!(thread["core_now"].is_u64(), "{thread}");
            assert!(thread["involuntary_switches"].is_u64(), "{thread}");
            let may_move = fs::exists("/proc/self/sched").expect("a file system");
            assert_eq!(thread["migrations"].is_u64(), may_move, "{thread}");
        }
        let said = format!("worker-0 ran on core {low} in the end, not on {high}");
        assert!(run.said.contains(&said), "{}", run.said);
    }
}

/// Asserts that threads were found off their cores once at each of these hops.
fn assert_noted(summary: &Value, hops: &[&str]) {
    let anomalies = summary["anomalies"].as_array().expect("a list").iter();
    let noted: Vec<_> = anomalies.filter(|one| one["kind"] == "off-core").collect();
    let found: Vec<_> = noted.iter().map(|one| one["hop"].as_str()).collect();
    assert_eq!(
        found,
        hops.iter().map(|hop| Some(*hop)).collect::<Vec<_>>(),
        "{summary}"
    );
    for one in noted {
        assert_eq!((number(one, "count"), number(one, "times")), (1, 1));
    }
}
