//! Goal: the command keeps its contract with scripts: one JSON object on standard output, text for
//! people on standard error, exit codes, and errors that name the key, the value and the remedy.

mod support;

use std::{
    fs,
    net::TcpListener,
    os::unix::{net::UnixListener, process::CommandExt},
    process::Command,
    time::Duration,
};

use pinfeed::clock::Deadline;

use rustix::process::Signal;
use support::{Pinfeed, assert_all_delivered, number, publisher, subscriber, wait_until};

fn fails_with(arguments: &[&str], code: i32, texts: &[&str]) {
    let mut process = Pinfeed::start(arguments);
    let (status, output) = process.finish();
    assert_eq!(status.code(), Some(code), "{arguments:?}: {}", process.said);
    assert_eq!(output, "", "{arguments:?}");
    for text in texts {
        assert!(
            process.said.contains(text),
            "{arguments:?}: {text:?} is not in {}",
            process.said
        );
    }
}

#[test]
fn bad_flags_are_named_with_a_remedy() {
    let connect = ["run", "--connect", "tcp://127.0.0.1:5556"];
    let run = |more: &[&str], texts: &[&str]| fails_with(&[&connect[..], more].concat(), 2, texts);
    run(
        &["--cores", "4096"],
        &["--cores = 4096", "no such core", "give one of"],
    );
    run(
        &["--cores", "0,0,0"],
        &["--cores = 0", "has this core already"],
    );
    run(
        &["--engine", "libzmq", "--cores", "0,0", "--wait", "spin"],
        &["--cores = 0", "wait = \"park\""],
    );
    run(&["--cores", "2-1"], &["--cores", "2-1", "2,3,4-7"]);
    run(
        &["--nic", "nosuch0"],
        &["--nic = nosuch0", "no such network card", "give one of"],
    );
    run(
        &["--source", "192.0.2.1"],
        &["--source = 192.0.2.1", "no network card has this address"],
    );
    run(
        &["--source", "::1"],
        &["--connect = tcp://127.0.0.1:5556", "of the other kind"],
    );
    for workers in ["0", "100000"] {
        let expected = format!("--workers = {workers}");
        run(&["--workers", workers], &[&expected, "from 1 to 256"]);
        let demo = ["demo", "--workers", workers];
        fails_with(&demo, 2, &[&expected, "from 1 to 256"]);
    }
    run(&["--max-loss", "-1"], &["--max-loss", "0 or more"]);
    run(
        &["--envelope", "morse"],
        &["--envelope", "morse", "raw, pinfeed"],
    );
    run(
        &["--digests", "/nonexistent/digests"],
        &[
            "--digests = /nonexistent/digests",
            "No such file",
            "give a file",
        ],
    );
    run(
        &["--handler", "null", "--digests", "x"],
        &["--digests", "only --handler count"],
    );
    run(&["--engine", "nosuch"], &["--engine", "native", "libzmq"]);
    run(&["--for", "soon"], &["--for", "soon"]);
    run(
        &["--connect", "tcp://127.0.0.1:5556"],
        &["--connect", "another has the same"],
    );
    fails_with(&["run"], 2, &["--connect", "FEEDS.toml"]);
    fails_with(
        &["run", "/nonexistent.toml"],
        2,
        &["/nonexistent.toml", "No such file"],
    );
    fails_with(&["publish", "--size", "3"], 2, &["--size = 3", "28 to"]);
    fails_with(&["publish", "--topics", "0"], 2, &["--topics = 0", "1 to"]);
    fails_with(&["publish", "--rate", "-5"], 2, &["--rate", "above 0"]);
    fails_with(
        &["publish", "--rate", "1e99"],
        2,
        &["--rate", "up to 1000000000"],
    );
    fails_with(&["demo", "--rate", "0"], 2, &["--rate", "above 0"]);
}

#[test]
fn malformed_endpoints_are_refused() {
    for (endpoint, problem) in [
        ("127.0.0.1:5556", "not of a transport"),
        ("tcp://127.0.0.1", "no port"),
        ("tcp://127.0.0.1:99999", "not a number up to 65535"),
        ("tcp://*:5556", "wildcard"),
        ("tcp://127.0.0.1:*", "wildcard"),
        ("tcp://::1:5556", "in brackets"),
        ("tcp://[zz]:5556", "not an IPv6 address"),
        ("tcp://999.1.1.1:5556", "not an address"),
        ("tcp://-:5556", "not a name or an address"),
        ("tcp://é:5556", "not a name or an address"),
        ("tcp://a\tb:5556", "control character"),
        ("ipc://", "no path"),
    ] {
        fails_with(
            &["run", "--connect", endpoint],
            2,
            &["--connect", problem, "tcp://"],
        );
    }
    for (endpoint, problem) in [
        ("tcp://nosuch0:5556", "no such network card"),
        ("tcp://192.0.2.1:5556", "can't be bound"),
        ("ipc:///nonexistent/feed", "no folder /nonexistent"),
        ("ipc:///proc/feed", "nothing can be made in /proc"),
    ] {
        fails_with(
            &["run", "--bind", endpoint],
            2,
            &["--bind", endpoint, problem],
        );
        fails_with(
            &["publish", "--bind", endpoint],
            2,
            &["--bind", endpoint, problem],
        );
    }
}

#[test]
fn a_port_in_use_is_found_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for host in ["127.0.0.1", "*", "lo"] {
        let endpoint = format!("tcp://{host}:{port}");
        fails_with(
            &["run", "--bind", &endpoint],
            2,
            &["--bind", &endpoint, "in use"],
        );
        fails_with(
            &["publish", "--bind", &endpoint],
            2,
            &["--bind", &endpoint, "in use"],
        );
    }
}

#[test]
fn what_stands_at_an_ipc_path_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    fs::write(&file, "mine").unwrap();
    let socket = folder.path().join("feed");
    let taken = UnixListener::bind(&socket).unwrap();
    for (path, problem) in [(&file, "would be deleted"), (&socket, "in use")] {
        let endpoint = format!("ipc://{}", path.display());
        fails_with(
            &["run", "--bind", &endpoint],
            2,
            &["--bind", &endpoint, problem],
        );
        fails_with(
            &["publish", "--bind", &endpoint],
            2,
            &["--bind", &endpoint, problem],
        );
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    // What its owner left behind is taken over.
    drop(taken);
    let endpoint = format!("ipc://{}", socket.display());
    let mut run = Pinfeed::start(&["run", "--bind", &endpoint, "--for", "10ms", "--json"]);
    run.json(0);
}

#[test]
fn a_configuration_file_is_checked_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feeds.toml");
    let path = path.to_str().unwrap();
    let good = "[[lane]]\nname = \"a\"\n[[feed]]\nname = \"f\"\nenvelope = \"raw\"\n\
                [[feed.line]]\nlane = \"a\"\nconnect = [\"tcp://127.0.0.1:5556\"]\n";
    let run = |text: &str, texts: &[&str]| {
        fs::write(path, text).unwrap();
        fails_with(&["run", path, "--for", "10ms"], 2, texts);
    };
    run(
        &format!("{good}colour = 1\n"),
        &["feeds.toml:9:1: ", "colour: there is no such key"],
    );
    run(
        &format!("{good}[workers]\ncount = \"two\"\n"),
        &[
            "feeds.toml:",
            "workers.count = \"two\": it is text; give a whole number",
        ],
    );
    run(
        &good.replace("\"raw\"", "\"morse\""),
        &["feeds.toml", "\"morse\" is not an envelope"],
    );
    run(
        &good.replace("lane = \"a\"", "lane = \"b\""),
        &["feeds.toml:7:1: feed[0].line[0].lane = b", "give one of a"],
    );
    run(
        &good.replace("name = \"a\"", "name = \"a\"\nnic = \"nosuch0\""),
        &["feeds.toml:3:1: lane[0].nic = nosuch0"],
    );
    run(
        &good.replace("name = \"a\"", "name = \"a\"\ncore = 4096"),
        &[
            "feeds.toml:3:1: lane[0].core = 4096",
            "no such core for this process",
            "give one of",
        ],
    );
    let twice = format!("{good}{}", &good[good.find("[[feed.line]]").unwrap()..]);
    run(
        &twice,
        &[
            "feed[0].line[1].connect[0] = tcp://127.0.0.1:5556",
            "lost together",
            "nic",
        ],
    );
    run(
        &format!("{good}[handoff]\nbatches = 1\n"),
        &["feeds.toml:10:1: handoff.batches = 1", "from 2 to"],
    );
    run(
        &format!(
            "{good}[sharding]\nmode = \"balanced\"\n[[sharding.override]]\nprefix = \"B\"\nworker = 0\n"
        ),
        &["sharding.override", "mode = \"keyed\""],
    );
    run(
        &format!("{good}[[sharding.override]]\nprefix = \"B\"\nworker = 2\n"),
        &["sharding.override[0].worker = 2", "from 0 to 1"],
    );
    let rule = "[[sharding.override]]\nprefix = \"B\"\nworker = 1\n";
    run(
        &format!("{good}{rule}{rule}"),
        &[
            "feeds.toml:13:1: sharding.override[1].prefix = \"B\"",
            "sharding.override[0] has the same",
        ],
    );
    run(
        &format!("{good}[[sharding.override]]\nprefix = \"B-*\"\nworker = 1\n"),
        &[
            "feeds.toml:10:1: sharding.override[0].prefix = B-*",
            "prefix already",
        ],
    );
    let quality = |topics: &str| format!("{good}[feed.quality]\ntopic = [{topics}]\n");
    let rule = "{ prefix = \"B\", stale_after_ms = 50 }";
    run(
        &quality(&[rule, rule].join(", ")),
        &[
            "feed[0].quality.topic[1].prefix = B",
            "another has the same",
        ],
    );
    run(
        &quality(&rule.replace("\"B\"", "\"B*\"")),
        &["feed[0].quality.topic[0].prefix = B*", "leave the * out"],
    );
    run(
        &quality(&[rule; 65_536].join(", ")),
        &["feed[0].quality.topic = 65536", "to 65535"],
    );
    run(
        &format!("{good}[[lane]]\nname = \"b\"\n"),
        &["feeds.toml:10:1: lane[1].name = b", "no line of a feed"],
    );
    run(
        &good.replace("name = \"a\"", "name = \"a\\u0000b\""),
        &["lane[0].name", "not a name"],
    );
    run(
        &format!("{good}[handoff]\nbatches = 65536\nbatch_bytes = 1073741824\n"),
        &["handoff.batches = 65536", "would hold"],
    );
    // Those to two workers would fit, but for those that are held where a shard moves.
    run(
        &format!("{good}[handoff]\nbatches = 65536\nbatch_bytes = 458752\n"),
        &["handoff.batches = 65536", "moving shards"],
    );
    run(
        &format!("{good}[sharding]\nmode = \"balanced\"\n[workers]\nhandler_panic = \"isolate\"\n"),
        &["workers.handler_panic = isolate", "keyed"],
    );
    run(
        &format!("{good}[receive]\nreconnect_ms = 5000\n"),
        &["receive.reconnect_max_ms = 2000", "from 5000"],
    );
    run("", &["feeds.toml", "there is no [[lane]]"]);
    fs::write(path, good).unwrap();
    let mut process = Pinfeed::start(&["run", path, "--for", "10ms", "--json"]);
    assert_all_delivered(&process.json(0), 0);
}

#[test]
fn a_publisher_that_waits_says_what_for_and_how_not_to() {
    for (count, what) in [("1", "a subscription"), ("2", "2 subscriptions")] {
        let (mut publisher, _) = publisher(&["--wait-for", count]);
        let said = publisher.wait_for_line(&format!("waiting for {what} "));
        assert!(said.contains(&format!("--wait-for {count}; 0 ")), "{said}");
        publisher.signal(Signal::TERM);
        assert_eq!(publisher.finish().0.code(), Some(143));
    }
}

#[test]
fn the_summary_has_what_scripts_rely_on() {
    let (mut publish, endpoint) = publisher(&[
        "--json",
        "--messages",
        "20000",
        "--topics",
        "50",
        "--skew",
        "0",
    ]);
    let mut run = subscriber(&endpoint, &["--messages", "20000"]);
    let summary = run.json(0);
    assert_all_delivered(&summary, 20_000);
    for zero in ["conflated", "dropped", "duplicates", "rejected"] {
        assert_eq!(number(&summary, zero), 0);
    }
    assert_eq!(summary["engine"], "native");
    assert_eq!(number(&summary, "lost"), 0);
    assert_eq!(number(&summary, "topics"), 50);
    assert_eq!(number(&summary, "first_seen"), 50);
    let elapsed_s = summary["elapsed_s"].as_f64().unwrap();
    assert!(elapsed_s > 0.0);
    let per_s = summary["msgs_per_s"].as_f64().unwrap();
    assert!((per_s * elapsed_s - 20_000.0).abs() < 1.0);
    assert!(summary["bytes_per_s"].as_f64().unwrap() > per_s * 28.0);
    assert!(summary["cpu_ns_per_msg"].as_f64().unwrap() > 0.0);
    for stage in ["queue", "handler", "feed"] {
        let stage = &summary["latency_ns"][stage];
        assert_eq!(number(stage, "count"), 20_000);
        let percentiles =
            ["p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|key| number(stage, key));
        assert!(percentiles.is_sorted(), "{stage}");
        assert!(percentiles[5] > 0);
    }
    let threads: Vec<&str> = summary["threads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|thread| {
            assert!(thread.get("core_wanted").is_some() && thread.get("core_got").is_some());
            thread["name"].as_str().unwrap()
        })
        .collect();
    assert_eq!(threads.len(), 3);
    for name in ["lane-0", "worker-0", "worker-1"] {
        assert!(threads.contains(&name), "{threads:?}");
    }
    let published = publish.json(0);
    assert_eq!(number(&published, "published"), 20_000);
}

#[test]
fn the_first_signal_drains_and_the_exit_code_tells_it() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (mut publish, endpoint) = publisher(&["--rate", "50000"]);
        let mut run = subscriber(&endpoint, &["--handler", "print", "--every", "1000"]);
        run.wait_for_line("1 sim.");
        run.signal(signal);
        let summary = run.json(code);
        assert!(number(&summary, "received") > 0);
        assert_eq!(summary["balanced"], true);
        publish.signal(signal);
        let (status, _) = publish.finish();
        assert_eq!(status.code(), Some(code));
    }
}

#[test]
fn malformed_messages_are_rejected_by_reason_and_stop_nothing() {
    let (_publish, endpoint) = publisher(&["--envelope", "raw", "--messages", "1000"]);
    let mut run = Pinfeed::start(&[
        "run",
        "--connect",
        &endpoint,
        "--envelope",
        "delimited:#",
        "--messages",
        "1000",
        "--json",
    ]);
    let summary = run.json(0);
    assert_eq!(number(&summary, "received"), 1_000);
    assert_eq!(number(&summary, "delivered"), 0);
    assert_eq!(
        number(&summary["rejected_by_reason"], "no_delimiter"),
        1_000
    );
    assert_eq!(summary["balanced"], true);
}

#[test]
fn a_demo_needs_nothing_and_loses_nothing() {
    let mut demo = Pinfeed::start(&["demo", "--for", "3s", "--rate", "50000", "--json"]);
    let summary = demo.json(0);
    let received = number(&summary, "received");
    assert!(received > 0);
    assert_all_delivered(&summary, received);
    assert_eq!(number(&summary, "lost"), 0);
    assert_eq!(number(&summary, "topics"), 1_000);
    let lines = demo
        .said
        .lines()
        .filter(|line| line.contains("received  "))
        .count();
    assert!(lines >= 2, "a line a second: {}", demo.said);
    assert!(
        demo.said
            .contains("balanced: every message received is accounted for")
    );
}

#[test]
fn the_second_signal_ends_a_run_that_cannot_drain() {
    let (_publish, endpoint) = publisher(&["--rate", "max"]);
    // Nobody reads what it prints, so its workers get stuck in writing, and its lane behind them.
    let run = Pinfeed::start(&[
        "run",
        "--connect",
        &endpoint,
        "--envelope",
        "pinfeed",
        "--handler",
        "print",
    ]);
    support::wait_until("the pipe is nearly full", || run.unread() >= 60 * 1024);
    run.signal(Signal::TERM);
    let patience = Deadline::after(Duration::from_millis(500));
    while !patience.passed() {
        assert!(run.is_running(), "it could drain after all");
        std::thread::yield_now();
    }
    run.signal(Signal::TERM);
    let mut run = run;
    assert_eq!(run.finish().0.code(), Some(143));
}

#[test]
fn an_interrupted_demo_says_what_numbers_show() {
    let mut demo = Pinfeed::spawn(
        Command::new(env!("CARGO_BIN_EXE_pinfeed"))
            .args(["demo", "--rate", "50000", "--json"])
            .process_group(0),
    );
    demo.wait_for_text("  queue p50 ");
    // As a terminal does, to the whole group.
    let group = rustix::process::Pid::from_raw(demo.id() as i32).unwrap();
    rustix::process::kill_process_group(group, Signal::INT).unwrap();
    let summary = demo.json(130);
    assert!(number(&summary, "received") > 0, "{summary}");
    assert_eq!(number(&summary, "lost"), 0);
    assert_eq!(summary["balanced"], true);
    assert!(demo.said.contains("stopped before all was published"));
}

/// As from `timeout`, which signals its child and then its whole group.
#[test]
fn a_request_to_stop_that_comes_twice_is_one() {
    for signal in [Signal::TERM, Signal::INT] {
        let (_publish, endpoint) = publisher(&["--rate", "100"]);
        let mut run = subscriber(&endpoint, &["--handler", "print"]);
        run.wait_for_text("sim.");
        run.signal(signal);
        run.signal(signal);
        let summary = run.json(128 + signal.as_raw());
        assert!(number(&summary, "received") > 0, "{summary}");
        assert_eq!(summary["balanced"], true);
    }
}

#[test]
fn a_summary_is_not_lost_with_the_digests() {
    let (_publish, endpoint) = publisher(&["--messages", "1000"]);
    let mut run = subscriber(&endpoint, &["--messages", "1000", "--digests", "/dev/full"]);
    let summary = run.json(1);
    assert_all_delivered(&summary, 1_000);
    assert!(
        run.said.contains("/dev/full: No space left"),
        "{}",
        run.said
    );
}

#[test]
fn a_file_that_is_there_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let (digests, hlog) = (path("digests.csv"), path("run.hlog"));
    let old = [&digests, &hlog, &path("run.queue.hgrm")];
    for file in old {
        std::fs::write(file, "old").expect("written");
    }
    let (_publish, endpoint) = publisher(&["--messages", "10"]);
    let mut run = Pinfeed::start(&[
        "run",
        "--connect",
        &endpoint,
        "--envelope",
        "pinfeed",
        "--messages",
        "10",
        "--digests",
        digests.to_str().expect("UTF-8"),
        "--hlog",
        hlog.to_str().expect("UTF-8"),
        "--hgrm",
        path("run").to_str().expect("UTF-8"),
    ]);
    let (status, _) = run.finish();
    assert!(status.success(), "{}", run.said);
    for file in old {
        let kept = format!("{}.1", file.display());
        assert!(
            run.said.contains(&format!("it is {kept} now")),
            "{}",
            run.said
        );
        assert_eq!(std::fs::read_to_string(kept).expect("kept"), "old");
        assert_ne!(std::fs::read_to_string(file).expect("written"), "old");
    }
}

#[test]
fn a_rate_that_is_missed_is_said() {
    let (mut publish, endpoint) = publisher(&["--rate", "900000000", "--messages", "200000"]);
    let _run = Pinfeed::start(&["run", "--connect", &endpoint, "--messages", "200000"]);
    publish.wait_for_text("warning: --rate 900000000 was missed by");
}

#[test]
fn a_demo_that_is_killed_takes_its_publisher_along() {
    let mut demo = Pinfeed::start(&["demo", "--for", "60s"]);
    let children = format!("/proc/{0}/task/{0}/children", demo.id());
    let publisher = || {
        let children = std::fs::read_to_string(&children).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    };
    wait_until("it has started its publisher", || publisher().is_some());
    let publisher = publisher().expect("it has one");
    demo.signal(Signal::KILL);
    demo.finish();
    wait_until("the publisher has ended", || {
        let stat = std::fs::read_to_string(format!("/proc/{publisher}/stat"));
        // One that nobody waits for stays as a zombie.
        !stat.is_ok_and(|stat| !stat.contains(") Z "))
    });
}
