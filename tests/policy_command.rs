//! Goal: policies by the command and its configuration: a snail says why it ends, what was lost is in the
//! summary, and what would lose messages by accident is refused.

mod support;

use std::time::Duration;

use pinfeed::{
    clock::Deadline,
    config::{Config, ShardingMode, TopicPolicy},
    envelope::Envelope,
    policy::Policy,
};
use rustix::process::Signal;
use support::{LIMIT, Pinfeed, bound_xpub, number, publisher, sealed, subscriber, wait_until};

/// A feeds.toml for the publisher at `endpoint`, for which any message is late that is later than this.
fn snail(endpoint: &str, on_late: &str, late_after_ms: u32) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "[[lane]]\nname = \"0\"\n[[feed]]\nname = \"prices\"\nenvelope = \"pinfeed\"\n\
         [[feed.line]]\nlane = \"0\"\nconnect = [\"{endpoint}\"]\n\
         [[feed.policy]]\npolicy = \"snail\"\n\
         [policy]\nlate_after_ms = {late_after_ms}\ngrace_ms = 50\non_late = \"{on_late}\"\n"
    );
    std::fs::write(file.path(), text).expect("a file");
    file
}

#[test]
fn a_snail_says_why_and_ends() {
    let (_publisher, endpoint) = publisher(&["--rate", "20000"]);
    let file = snail(&endpoint, "exit", 0);
    let path = file.path().to_str().expect("UTF-8");
    let mut run = Pinfeed::start(&["run", path, "--json"]);
    let summary = run.json(4);
    assert_eq!(summary["balanced"], true, "{summary}");
    let anomalies = summary["anomalies"].as_array().expect("a list");
    let late = anomalies.iter().find(|one| one["kind"] == "late");
    assert_eq!(late.expect("it says so")["feed"], "prices");
    assert_eq!(summary["anomalies_forgotten"], 0);
    let failure = summary["failure"].as_str().expect("a text");
    assert!(
        failure.contains("worker-") && failure.contains("is too late"),
        "{failure}"
    );
    assert_eq!(summary["abandoned"].as_array().map(Vec::len), Some(0));
    let recorded = match anomalies.len() {
        1 => "flight record: 1 entry\n".to_owned(),
        number => format!("flight record: {number} entries\n"),
    };
    for text in [
        &recorded,
        "what went wrong",
        "late",
        "is too late",
        "on_late",
    ] {
        assert!(run.said.contains(text), "{text} in:\n{}", run.said);
    }
}

/// Neither workers nor who watches them can say anything meanwhile.
#[test]
fn a_snail_is_found_out_whose_output_nobody_reads() {
    let (_publisher, endpoint) = publisher(&["--rate", "20000"]);
    let file = snail(&endpoint, "exit", 300);
    let path = file.path().to_str().expect("UTF-8");
    let flags = ["--handler", "print", "--for", "2s", "--json"];
    let mut run = Pinfeed::start(&[&["run", path][..], &flags].concat());
    let mut unread = (0, Deadline::after(LIMIT));
    wait_until("it has stood still for a second", || {
        if run.unread() > unread.0 {
            unread = (run.unread(), Deadline::after(Duration::from_secs(1)));
        }
        unread.1.passed()
    });
    let summary = run.json(4);
    let failure = summary["failure"].as_str().expect("a text");
    assert!(failure.contains("give it fewer topics"), "{failure}");
    let counted = ["delivered", "dropped", "under_way"].map(|name| number(&summary, name));
    assert_eq!(counted.iter().sum::<u64>(), number(&summary, "received"));
}

#[test]
fn a_snail_may_only_raise_the_alarm() {
    let (_publisher, endpoint) = publisher(&["--rate", "20000", "--messages", "10000"]);
    let file = snail(&endpoint, "alarm", 0);
    let path = file.path().to_str().expect("UTF-8");
    let mut run = Pinfeed::start(&["run", path, "--json", "--messages", "10000"]);
    let summary = run.json(0);
    support::assert_all_delivered(&summary, 10_000);
    let anomalies = summary["anomalies"].as_array().expect("a list");
    assert!(anomalies.iter().any(|one| one["kind"] == "late"));
}

#[test]
fn sigusr1_shows_the_flight_record() {
    let context = zmq::Context::new();
    let (publisher, endpoint) = bound_xpub(&context);
    let mut run = subscriber(&endpoint, &[]);
    publisher.recv_bytes(0).unwrap();
    run.signal(Signal::USR1);
    assert_eq!(run.wait_for_line("flight record: "), "0 entries");
    for sequence in [0, 5] {
        publisher.send(sealed("BTC", 1, sequence), 0).unwrap();
    }
    // Said as it happens, so that it is there by now.
    run.wait_for_text("numbers 1 to 4 were missing");
    run.signal(Signal::USR1);
    assert_eq!(run.wait_for_line("flight record: "), "1 entry");
    let before = run.said.len();
    run.wait_for_text("numbers 1 to 4 were missing");
    let entry: Vec<&str> = run.said[before..].split_whitespace().collect();
    assert_eq!(
        entry[1..6],
        ["gap", "network", "4", "feed", "BTC"],
        "{entry:?}"
    );
    run.signal(Signal::INT);
    assert_eq!(run.finish().0.code(), Some(130));
}

#[test]
fn by_flags_a_policy_is_for_all_topics_or_for_some() {
    let (_publisher, endpoint) = publisher(&["--rate", "max", "--messages", "50000"]);
    let mut run = subscriber(
        &endpoint,
        &[
            "--messages",
            "50000",
            "--policy",
            "drop-newest",
            "--policy",
            "conflate:sim.000",
        ],
    );
    let summary = run.json(0);
    assert_eq!(summary["balanced"], true, "{summary}");
    assert_eq!(number(&summary, "received"), 50_000);
}

#[test]
fn each_topic_is_said_to_have_lost_what_it_lost() {
    const MESSAGES: u64 = 1_000_000;
    let messages = MESSAGES.to_string();
    let feed = ["--blast", "--rate", "max", "--messages", &messages];
    let topics = ["--topics", "500", "--skew", "0"];
    let (_publisher, endpoint) = publisher(&[feed.as_slice(), &topics].concat());
    // Two batches of so few messages are full all the time.
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "[handoff]\nbatches = 2\nbatch_messages = 16\n[policy]\ntopics_max = 300\n[[lane]]\nname = \"0\"\n\
         [[feed]]\nname = \"prices\"\nenvelope = \"pinfeed\"\n[[feed.policy]]\npolicy = \"drop-newest\"\n\
         [[feed.line]]\nlane = \"0\"\nconnect = [\"{endpoint}\"]\n"
    );
    std::fs::write(file.path(), text).expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    let mut run = Pinfeed::start(&["run", path, "--messages", &messages, "--json"]);
    let summary = run.json(0);
    let undelivered = &summary["undelivered"];
    let rows = undelivered["topics"].as_array().expect("rows");
    assert_eq!(rows.len(), 300, "{summary}");
    let of_rows: u64 = rows.iter().map(|row| number(row, "dropped")).sum();
    let others = number(undelivered, "other_dropped");
    assert!(others > 0);
    assert_eq!(of_rows + others, number(&summary, "dropped"));
    assert_eq!(number(&summary, "delivered") + of_rows + others, MESSAGES);
    let said = "not delivered: 300 topics, the 10 with the most";
    assert!(run.said.contains(said), "{}", run.said);
    assert!(run.said.contains("of topics that are not counted apart"));
}

#[test]
fn what_would_conflate_or_take_back_by_accident_is_refused() {
    let base = ["run", "--connect", "tcp://127.0.0.1:1", "--for", "10ms"];
    let refused = |flags: &[&str], texts: &[&str]| {
        let mut run = Pinfeed::start(&[&base[..], flags].concat());
        let (status, _) = run.finish();
        assert_eq!(status.code(), Some(2), "{}", run.said);
        for text in texts {
            assert!(run.said.contains(text), "{text} in:\n{}", run.said);
        }
    };
    refused(
        &["--policy", "conflate"],
        &["conflate:PREFIX", "conflate:*"],
    );
    refused(
        &["--policy", "conflate:"],
        &["conflate:PREFIX", "conflate:*"],
    );
    refused(
        &["--policy", "conflate:BTC-*"],
        &["BTC-*", "leave the * out"],
    );
    refused(&["--policy", "yield"], &["not a policy", "drop-oldest"]);
    refused(
        &["--policy", "drop-oldest", "--handoff", "inproc"],
        &["--policy = drop-oldest", "drop-newest"],
    );
    refused(
        &["--policy", "conflate:*", "--sharding", "balanced"],
        &["--policy = conflate", "keyed"],
    );
    refused(
        &["--policy", "drop-newest", "--policy", "snail:*"],
        &["--policy = *", "one policy"],
    );
    let mut config = Config::connect("tcp://127.0.0.1:1", Envelope::Raw);
    config.feeds[0].policies = vec![TopicPolicy {
        topic: None,
        policy: Policy::Conflate,
    }];
    let problem = config.validate().unwrap_err().to_string();
    assert!(
        problem.contains("feed[0].policy[0] = conflate"),
        "{problem}"
    );
    config.feeds[0].policies[0].topic = Some("*".to_owned());
    config.validate().unwrap();
    config.sharding.mode = ShardingMode::Balanced;
    config.validate().unwrap_err();
}
