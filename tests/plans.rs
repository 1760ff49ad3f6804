//! Goal: what `pinfeed plan` says of four recorded machines is what is written down for them
//! (`tests/machines/README.md` says how to renew that), and what it is asked in vain it refuses with a reason.

mod support;

use std::{env, fs, path::Path};

use pinfeed::host::topology::usable_cores;
use serde_json::Value;
use support::{
    Pinfeed, assert_all_delivered, captures,
    machine::{Recorded, recorded_file},
    publisher,
};

fn plan(arguments: &[&str], code: i32) -> String {
    let mut process = Pinfeed::start(&[&["plan"], arguments].concat());
    let (status, _) = process.finish();
    assert_eq!(status.code(), Some(code), "{}", process.said);
    process.said.clone()
}

fn compare(name: &str, arguments: &[&str]) {
    let machine = Recorded::named(name);
    let root = machine.root().to_str().unwrap();
    let fixed = ["--root", root, "--costs", "40,30", "--why"];
    let found = plan(&[&fixed, arguments].concat(), 0);
    let path = recorded_file(&format!("{name}.plan.txt"));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).expect("UPDATE_GOLDEN=1 writes it");
    assert!(found == expected, "{name} is planned otherwise:\n{found}");
}

#[test]
fn two_sockets_with_a_card_each() {
    let cards = ["--nic", "eth0", "--nic", "eth1", "--rate", "40000000"];
    compare("two-socket", &cards);
}

#[test]
fn a_desktop() {
    compare("desktop", &["--rate", "20000000", "--handler-ns", "100"]);
}

#[test]
fn a_virtual_machine() {
    compare("virtual", &["--rate", "1000000"]);
}

#[test]
fn a_container_with_a_quota() {
    compare("container", &["--rate", "50000000"]);
}

#[test]
fn costs_are_measured_here_and_a_plan_can_be_run() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("part.toml");
    let path = file.to_str().unwrap();
    let arguments = [
        "plan",
        "--rate",
        "1000",
        "--measure",
        "500ms",
        "--json",
        "--write",
        path,
    ];
    let mut process = Pinfeed::start(&arguments);
    let report: Value = process.json(0);
    let costs = &report["demand"]["costs"];
    for cost in ["lane_ns", "worker_ns"] {
        let ns = costs[cost].as_f64().unwrap();
        assert!(ns > 1.0 && ns < 1e6, "{cost}: {ns}");
    }
    assert!(report["breaks_at"].as_f64() > Some(1_000.0));
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(report["feeds_toml"], written);
    // It is not overwritten.
    let again = plan(&["--costs", "40,30", "--write", path], 2);
    let refused = format!("--write = {path}: it is there");
    assert!(
        again.contains(&refused) && again.contains("move it away"),
        "{again}"
    );
    let feeds = written
        + "[[feed]]\nname = \"prices\"\nenvelope = \"pinfeed\"\n[[feed.line]]\n\
         lane = \"0\"\nconnect = [\"tcp://127.0.0.1:9\"]\n";
    fs::write(&file, feeds).unwrap();
    let mut run = Pinfeed::start(&["run", path, "--for", "100ms", "--json"]);
    assert_eq!(run.json(0)["received"], 0);
}

/// A feeds.toml that leaves its cores to the planner, with lanes of these names and keys.
fn auto(lanes: &[(&str, &str)], feed_from: &str) -> String {
    let lane = |(name, keys): &(&str, &str)| format!("[[lane]]\nname = \"{name}\"\n{keys}\n");
    let line = |(name, _): &(&str, &str)| {
        format!("[[feed.line]]\nlane = \"{name}\"\nconnect = [\"{feed_from}\"]\n")
    };
    let lines: String = lanes.iter().map(line).collect();
    let lanes: String = lanes.iter().map(lane).collect();
    format!("cores = \"auto\"\n{lanes}[[feed]]\nname = \"prices\"\nenvelope = \"pinfeed\"\n{lines}")
}

/// Those that the doctor judges the recorded machine by are those of the plan for it.
#[test]
fn a_file_that_leaves_its_cores_to_the_planner_gets_those_of_the_plan() {
    let golden = fs::read_to_string(recorded_file("two-socket.plan.txt")).unwrap();
    let placed = golden.lines().filter_map(|line| {
        let mut words = line.strip_prefix("    core ")?.split_whitespace();
        let (core, thread) = (words.next()?, words.next()?);
        let thread = thread.strip_prefix("lane-").unwrap_or(thread);
        Some(format!("{thread} on {core}"))
    });
    let mut placed: Vec<String> = placed.collect();
    placed.sort_unstable();
    assert_eq!(placed.len(), 4, "two lanes, two workers: {golden}");
    let machine = Recorded::named("two-socket");
    let lanes = [("eth0", "nic = \"eth0\""), ("eth1", "nic = \"eth1\"")];
    let text = auto(&lanes, "tcp://127.0.0.1:9");
    let feeds = machine.write("feeds.toml", &text);
    let root = machine.root().to_str().unwrap();
    let mut doctor = Pinfeed::start(&["doctor", "--root", root, feeds.to_str().unwrap()]);
    doctor.finish();
    let threads = placed.join(", ");
    assert!(doctor.said.contains(&threads), "{threads}: {}", doctor.said);
}

#[test]
fn a_file_that_leaves_its_cores_to_the_planner_runs() {
    const MESSAGES: u64 = 10_000;
    let folder = tempfile::TempDir::new().unwrap();
    let feeds = folder.path().join("feeds.toml");
    let run = |text: &str| {
        fs::write(&feeds, text).unwrap();
        let limit = MESSAGES.to_string();
        Pinfeed::start(&[
            "run",
            feeds.to_str().unwrap(),
            "--json",
            "--messages",
            &limit,
        ])
    };
    let (_publisher, endpoint) = publisher(&["--rate", "max", "--messages", "10000"]);
    let summary = run(&auto(&[("eth0", "")], &endpoint)).json(0);
    assert_all_delivered(&summary, MESSAGES);
    let cores: Vec<&Value> = summary["threads"].as_array().unwrap().iter().collect();
    assert!(cores[0]["core_wanted"].is_u64(), "{cores:?}");
    for thread in cores {
        assert_eq!(thread["core_got"], thread["core_wanted"], "{thread}");
    }
    let core = usable_cores()[0];
    let mut refused = run(&auto(&[("eth0", &format!("core = {core}"))], &endpoint));
    assert_eq!(refused.finish().0.code(), Some(2));
    let reason = format!("cores = auto: core {core} is named as well");
    assert!(refused.said.contains(&reason), "{}", refused.said);
}

/// Plans for a configuration with two workers on the machine of two sockets, and for a capture in which topic
/// `a` has six of ten messages, and `b` to `e` one each.
fn plan_two_workers(more: &str, arguments: &[&str], code: i32) -> String {
    plan_capture("aaaaaabcde", more, arguments, code)
}

/// The same for a capture with a message of each of these topics.
fn plan_capture(topics: &str, more: &str, arguments: &[&str], code: i32) -> String {
    let folder = tempfile::TempDir::new().unwrap();
    let (feeds, capture) = (
        folder.path().join("feeds.toml"),
        folder.path().join("capture"),
    );
    let lane = "[[lane]]\nname = \"x\"\n[[lane]]\nname = \"y\"\n";
    let line = |lane, port| {
        format!("[[feed.line]]\nlane = \"{lane}\"\nconnect = [\"tcp://127.0.0.1:{port}\"]\n")
    };
    let lines = line("x", 8) + &line("y", 9);
    let feed = format!("[[feed]]\nname = \"f\"\nenvelope = \"raw\"\n{lines}");
    fs::write(&feeds, format!("{lane}{more}{feed}")).unwrap();
    let messages = topics.chars().enumerate();
    let lines = messages.map(|(at, topic)| format!("{at} {{\"stream\":\"{topic}\"}}\n"));
    fs::write(&capture, lines.collect::<String>()).unwrap();
    let machine = Recorded::named("two-socket");
    let root = machine.root().to_str().unwrap();
    let (feeds, capture) = (feeds.to_str().unwrap(), capture.to_str().unwrap());
    let fixed = [
        feeds,
        "--root",
        root,
        "--costs",
        "40,30",
        "--capture",
        capture,
    ];
    plan(&[&fixed, arguments].concat(), code)
}

#[test]
fn overrides_of_a_file_count_for_their_workers() {
    let rule = |prefix: &str, worker| {
        format!("[[sharding.override]]\nprefix = \"{prefix}\"\nworker = {worker}\n")
    };
    let busiest = rule("binance.a", 1);
    let said = plan_two_workers(&busiest, &[], 0);
    // The others go to where there is least, as far as that helps.
    assert!(
        said.contains("workers get 40, 60 % of all messages"),
        "{said}"
    );
    assert!(
        said.contains("prefix = \"binance.a\"\nworker = 1"),
        "{said}"
    );
    let all = rule("binance.", 0);
    let said = plan_two_workers(&all, &[], 0);
    assert!(
        said.contains("workers get 100, 0 % of all messages\n"),
        "{said}"
    );
    let said = plan_two_workers(&busiest, &["--workers", "1"], 2);
    assert!(said.contains("sharding.override[0].worker = 1"), "{said}");
}

#[test]
fn shards_move_only_where_they_may() {
    let moves = "[sharding]\nrebalance = true\n";
    let rule = "[[sharding.override]]\nprefix = \"binance.a\"\nworker = 1\n";
    assert!(plan_two_workers(rule, &[], 0).contains(moves));
    // What is planned can be run.
    let isolates = format!("[workers]\nhandler_panic = \"isolate\"\n{rule}");
    let said = plan_two_workers(&isolates, &[], 0);
    assert!(!said.contains("rebalance"), "{said}");
    // What the file has is kept, whether or not it helps.
    let kept = plan_two_workers(moves, &["--workers", "1"], 0);
    assert!(kept.contains(moves), "{kept}");
}

#[test]
fn what_overrides_bring_is_unknown_without_a_capture() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("feeds.toml");
    fs::write(
        &file,
        "[[lane]]\nname = \"x\"\n[[sharding.override]]\nprefix = \"a\"\nworker = 0\n",
    )
    .unwrap();
    let said = plan(&[file.to_str().unwrap(), "--costs", "40,30"], 0);
    assert!(
        said.contains("[[sharding.override]]") && said.contains("give --capture"),
        "{said}"
    );
}

#[test]
fn balanced_workers_get_as_much_each() {
    let said = plan_two_workers(
        "[sharding]\nmode = \"balanced\"\n",
        &["--speed", "1000000"],
        0,
    );
    assert!(
        said.contains("workers get 50, 50 % of all messages: batches go to each in turn"),
        "{said}"
    );
    assert!(said.contains("[sharding]\nmode = \"balanced\""), "{said}");
    let slow = ["--speed", "1000000", "--handler-ns", "100000"];
    let said = plan_two_workers("[sharding]\nmode = \"balanced\"\n", &slow, 0);
    assert!(said.contains("too many"), "{said}");
    assert!(
        !said.contains("never split"),
        "any worker gets any topic: {said}"
    );
}

#[test]
fn a_card_of_the_file_that_is_not_there_is_named_by_its_key() {
    let machine = Recorded::named("two-socket");
    // As much as is known before feeds are.
    let feeds = machine.write("feeds.toml", "[[lane]]\nname = \"x\"\nnic = \"nosuch0\"\n");
    let (feeds, root) = (feeds.to_str().unwrap(), machine.root().to_str().unwrap());
    let said = plan(&[feeds, "--root", root, "--costs", "40,30"], 2);
    assert!(said.contains("lane[0].nic = nosuch0"), "{said}");
    assert!(said.contains("eth0, eth1"), "{said}");
}

#[test]
fn a_file_is_judged_with_the_workers_that_are_asked_for() {
    let fourth =
        "[workers]\ncores = [4, 5]\n[[sharding.override]]\nprefix = \"binance.a\"\nworker = 3\n";
    let said = plan_two_workers(fourth, &[], 2);
    assert!(said.contains("sharding.override[0].worker = 3"), "{said}");
    plan_two_workers(fourth, &["--workers", "4"], 0);
    let said = plan_two_workers(&fourth.replace("= 3", "= 0"), &["--workers", "1"], 0);
    assert!(
        said.contains("worker-0") && !said.contains("worker-1"),
        "{said}"
    );
}

#[test]
fn a_file_that_would_not_run_anywhere_is_not_planned_for() {
    let said = plan_two_workers("[workers]\ncount = 2\ncores = [3, 3]\n", &[], 2);
    assert!(
        said.contains("feeds.toml:7:13: workers.cores[1] = 3"),
        "{said}"
    );
}

#[test]
fn too_few_physical_cores_are_named() {
    let machine = Recorded::named("desktop");
    let root = machine.root().to_str().unwrap();
    let said = plan(&["--root", root, "--costs", "40,30", "--workers", "9"], 0);
    assert!(
        said.contains("on a sibling of a core with a busy thread"),
        "{said}"
    );
    let said = plan(&["--root", root, "--costs", "40,30", "--workers", "20"], 0);
    assert!(
        said.contains("shares its core with another busy thread"),
        "{said}"
    );
}

#[test]
fn a_topic_that_is_too_much_for_a_worker_is_named() {
    let Some(captures) = captures() else {
        return;
    };
    let capture = captures.join("binance/usdm_btcusdt_20240808.gz");
    let capture: &Path = &capture;
    let capture = capture.to_str().unwrap();
    let fixed = ["--costs", "40,30", "--capture", capture];
    let calm = plan(&fixed, 0);
    assert!(calm.contains("busiest topic: binance.btcusdt@"), "{calm}");
    assert!(!calm.contains("a topic is never split"), "{calm}");
    let slow = ["--handler-ns", "1000000", "--speed", "100"];
    let busy = plan(&[&fixed[..], &slow].concat(), 0);
    assert!(busy.contains("a topic is never split"), "{busy}");
}

/// Four workers have twice the time that all messages take, and still one of them is not enough for its topic.
#[test]
fn a_topic_with_most_messages_is_too_much_for_one_of_four_workers() {
    let topics = "a".repeat(56) + &"bcdefghijkl".repeat(4);
    let demand = ["--workers", "4", "--handler-ns", "170", "--speed", "100000"];
    let said = plan_capture(&topics, "", &demand, 0);
    for text in [
        "for 10,000,000 messages a second: a lane takes 40.0 ns of CPU a message, a worker 200.0\n",
        "busiest topic: binance.a, 56.0 % of all messages\n",
        "topic binance.a alone has 56 % of all messages, which is 1.12 of a worker: a topic is never split",
        // At a worker's 5 millions a second.
        "breaks at 8.93M: worker-",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (arguments, expected) in [
        (
            &["--nic", "nosuch0", "--costs", "40,30"][..],
            "no such network card",
        ),
        (&["--rate", "0", "--costs", "40,30"], "more than 0"),
        (&["--rate", "1e99", "--costs", "40,30"], "at most 1e9"),
        (&["--costs", "40"], "two numbers above 0"),
        (&["--costs=-1,3"], "two numbers above 0"),
        (&["--workers", "0", "--costs", "40,30"], "--workers"),
        (&["--capture", "/nosuch", "--costs", "40,30"], "/nosuch"),
        (&["--root", "/"], "--costs"),
        (
            &["--costs", "40,30", "--write", "/nosuch/part.toml"],
            "give a file in a folder that is there",
        ),
    ] {
        let said = plan(arguments, 2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
