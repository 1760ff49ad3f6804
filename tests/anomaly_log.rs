//! Goal: `run` says what goes wrong while it runs: a line whose copies stay away, which no handler misses, a
//! lost connection, a restart, a loss. Of what is too much to be read it says how much more there was, and the summary
//! has all.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use pinfeed::{clock::Stopwatch, flight::Anomaly};
use rustix::process::Signal;
use support::{Pinfeed, bound_xpub, free_endpoint, number, sealed, xpub};

/// A feed with two lines that are copies of each other.
fn copies(endpoints: &[String]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut text = "[[lane]]\nname = \"0\"\n[[feed]]\nname = \"prices\"\nenvelope = \"pinfeed\"\n\
                    [feed.arbitration]\nwait_ms = 50\n[feed.quality]\nstale_after_ms = 300\n"
        .to_owned();
    for endpoint in endpoints {
        text += &format!("[[feed.line]]\nlane = \"0\"\nconnect = [\"{endpoint}\"]\n");
    }
    std::fs::write(file.path(), text).expect("a file");
    file
}

#[test]
fn what_goes_wrong_is_said_as_it_happens() {
    let context = zmq::Context::new();
    let endpoints = [free_endpoint(), free_endpoint()];
    let [first, second] = [0, 1].map(|line: usize| {
        let publisher = xpub(&context);
        publisher.bind(&endpoints[line]).expect("a free port");
        publisher
    });
    let file = copies(&endpoints);
    let path = file.path().to_str().expect("UTF-8");
    let mut run = Pinfeed::start(&["run", path, "--json"]);
    for publisher in [&first, &second] {
        publisher.recv_bytes(0).expect("a subscription");
    }
    let send = |publisher: &zmq::Socket, epoch, sequence| {
        let message = sealed("BTC", epoch, sequence);
        publisher.send(message, 0).expect("an open socket");
    };
    send(&first, 1, 0);
    send(&second, 1, 0);
    // The second one's copies stay away, and nothing is missing.
    let missed = Arc::new(AtomicBool::new(false));
    let sender = thread::spawn({
        let missed = missed.clone();
        move || {
            let mut last = 0;
            while !missed.load(SeqCst) {
                last += 1;
                send(&first, 1, last);
                // The pace of a slow feed.
                thread::sleep(Duration::from_millis(10));
            }
            (first, last)
        }
    });
    run.wait_for_text("nothing came over line 1 for");
    missed.store(true, SeqCst);
    let (first, last) = sender.join().expect("it sends");
    second.unbind(&endpoints[1]).expect("it was bound");
    drop(second);
    run.wait_for_text("line 1 has no connection; copies of it that have: 1");
    send(&first, 2, 0);
    run.wait_for_text(&format!(
        "epoch 2, number 0 followed epoch 1, number {last}"
    ));
    send(&first, 2, 5);
    run.wait_for_text("numbers 1 to 4 were missing");
    run.signal(Signal::INT);
    let summary = run.json(130);
    assert_eq!(summary["balanced"], true, "{summary}");
    let counted = ["delivered", "duplicates", "lost", "gaps", "restarts"];
    let counted = counted.map(|name| number(&summary, name));
    assert_eq!(counted, [last + 3, 1, 4, 1, 1], "{summary}");
    let absences = |line: usize| {
        let line = &summary["lines"][line];
        (number(line, "disconnects"), number(line, "silences"))
    };
    assert_eq!((absences(0), absences(1)), ((0, 0), (1, 1)), "{summary}");
}

/// Lines that `run` says a second of what goes wrong.
const SAID_MAX: u64 = 10;
/// Each has an entry of its own in the flight record.
const FEEDS: u64 = 40;

/// Starts a run of many feeds of one publisher, and has each of them miss a message. `ends` is whether the run ends with
/// its last message.
fn with_a_gap_in_each_feed(ends: bool) {
    let context = zmq::Context::new();
    let (publisher, endpoint) = bound_xpub(&context);
    publisher.set_xpub_verbose(true).expect("an option");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut text = "[[lane]]\nname = \"0\"\n".to_owned();
    for feed in 0..FEEDS {
        text += &format!(
            "[[feed]]\nname = \"feed-{feed}\"\nenvelope = \"pinfeed\"\n[[feed.line]]\nlane = \"0\"\n\
             connect = [\"{endpoint}\"]\n"
        );
    }
    std::fs::write(file.path(), text).expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    let messages = (2 * FEEDS).to_string();
    let mut arguments = vec!["run", path, "--json"];
    if ends {
        arguments.extend(["--messages", &messages]);
    }
    let stopwatch = Stopwatch::start();
    let mut run = Pinfeed::start(&arguments);
    for _ in 0..FEEDS {
        publisher.recv_bytes(0).expect("a subscription");
    }
    for sequence in [0, 2] {
        let message = sealed("BTC", 1, sequence);
        publisher.send(message, 0).expect("an open socket");
    }
    let code = if ends {
        0
    } else {
        run.wait_for_text(" more anomalies");
        run.signal(Signal::INT);
        130
    };
    let summary = run.json(code);
    assert_eq!(number(&summary, "gaps"), FEEDS, "{summary}");
    let anomalies = summary["anomalies"].clone();
    let anomalies: Vec<Anomaly> = serde_json::from_value(anomalies).expect("anomalies");
    for feed in 0..FEEDS {
        let mut gaps = anomalies.iter().map(|it| (it.kind.name(), &it.feed));
        let name = format!("feed-{feed}");
        assert!(gaps.any(|gap| gap == ("gap", &name)), "{anomalies:?}");
    }
    let lines: Vec<String> = anomalies.iter().map(Anomaly::to_string).collect();
    let (mut said, mut more) = (0, 0);
    // The summary for people says some of it once more.
    let (as_it_ran, _) = (run.said.split_once("what went wrong, the last ")).expect("a summary");
    for line in as_it_ran.lines() {
        if lines.iter().any(|anomaly| anomaly == line) {
            said += 1;
        } else if let Some(count) = line.strip_suffix(" more anomalies") {
            more += count.trim().parse::<u64>().expect("a number");
        }
    }
    assert!(said > 0 && more > 0, "{}", run.said);
    assert_eq!(said + more, anomalies.len() as u64, "{}", run.said);
    let seconds = stopwatch.elapsed_ns() / 1_000_000_000 + 2;
    assert!(said <= SAID_MAX * seconds, "{}", run.said);
}

#[test]
fn what_is_too_much_to_be_said_is_counted_and_kept() {
    with_a_gap_in_each_feed(false);
}

#[test]
fn what_is_too_much_to_be_said_at_the_end_is_counted_as_well() {
    with_a_gap_in_each_feed(true);
}
