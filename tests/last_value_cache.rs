//! Goal: a subscriber that comes late has the newest message of each topic that it asks for at once, before
//! anything newer, once, and nobody else has it again; within limits that are counted, and after a restart.

mod support;

use std::{collections::HashMap, time::Duration};

use pinfeed::clock::{Deadline, Stopwatch};
use rustix::process::Signal;
use serde_json::json;
use support::{
    LIMIT, Pinfeed,
    cached::{Cached, cache, frames, subscriber},
    free_endpoint, number,
    peer::{self, Door},
    python::python,
    wait_until, xpub,
};
use zmq::SocketType;

#[test]
fn nobody_waits_for_a_publisher_that_sends_everything_once() {
    const TOPICS: usize = 1_000;
    let cached = Cached::start(&[]);
    let witness = cached.witness();
    for topic in 0..TOPICS {
        cached.publish(&[format!("{topic:03}").as_bytes(), b"Save Roger"]);
    }
    cached.settle(&witness);
    // From now on one update a second, of one topic: the others would be waited for for minutes.
    let mut waited_ns: Vec<u64> = Vec::new();
    let mut next_update = Deadline::after(Duration::from_secs(1));
    for round in 0..40 {
        if next_update.passed() {
            cached.publish(&[b"000", b"Off with his head!"]);
            next_update = Deadline::after(Duration::from_secs(1));
        }
        let topic = format!("{:03}", 1 + round * 37 % 999);
        let stopwatch = Stopwatch::start();
        let subscriber = cached.subscriber(&[topic.as_bytes()]);
        let message = subscriber.recv_multipart(0).unwrap();
        waited_ns.push(stopwatch.elapsed_ns());
        assert_eq!(message, frames(&[topic.as_bytes(), b"Save Roger"]));
    }
    waited_ns.sort_unstable();
    let ms = |ns: u64| ns as f64 / 1e6;
    println!(
        "a value after {:.2} ms, the median of 40; {:.2} at least, {:.2} at most",
        ms(waited_ns[20]),
        ms(waited_ns[0]),
        ms(waited_ns[39])
    );
    let summary = cached.summary();
    assert_eq!(number(&summary, "answered"), 41);
    assert_eq!(summary["balanced"], true, "{summary}");
}

#[test]
fn each_subscriber_gets_a_value_once_and_only_itself() {
    let cached = Cached::start(&[]);
    cached.publish(&[b"A", b"old"]);
    cached.publish(&[b"A", b"1", b"", b"all frames"]);
    cached.publish(&[b"AB", b"2"]);
    cached.publish(&[b"B", b"3"]);
    let first = cached.subscriber(&[b"A"]);
    let value = frames(&[b"A", b"1", b"", b"all frames"]);
    let prefixed = frames(&[b"AB", b"2"]);
    // The publisher's messages may still be on their way; if so, they come as they come.
    let mut got = first.recv_multipart(0).unwrap();
    if got == frames(&[b"A", b"old"]) {
        got = first.recv_multipart(0).unwrap();
    }
    assert_eq!(got, value);
    assert_eq!(first.recv_multipart(0).unwrap(), prefixed);
    // The same subscription of others.
    for _ in 0..3 {
        let other = cached.subscriber(&[b"A"]);
        assert_eq!(other.recv_multipart(0).unwrap(), value);
        assert_eq!(other.recv_multipart(0).unwrap(), prefixed);
    }
    // One subscriber with overlapping prefixes, and the same one twice: each value once.
    let raw = cached.context.socket(SocketType::XSUB).unwrap();
    raw.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
    raw.connect(&cached.endpoint).unwrap();
    for prefix in [&b"\x01AB"[..], b"\x01A", b"\x01AB", b"\x01"] {
        raw.send(prefix, 0).unwrap();
    }
    let mut got: Vec<_> = (0..3).map(|_| raw.recv_multipart(0).unwrap()).collect();
    got.sort();
    assert_eq!(got, [value, prefixed, frames(&[b"B", b"3"])]);
    // Nobody else got anything of that: what comes next is what is published next.
    cached.publish(&[b"A", b"4"]);
    for subscriber in [&first, &raw] {
        assert_eq!(subscriber.recv_multipart(0).unwrap(), frames(&[b"A", b"4"]));
    }
    // Cancelled and asked for again, it is answered again.
    raw.send(&b"\x00AB"[..], 0).unwrap();
    raw.send(&b"\x00A"[..], 0).unwrap();
    raw.send(&b"\x00"[..], 0).unwrap();
    raw.send(&b"\x00AB"[..], 0).unwrap();
    raw.send(&b"\x01AB"[..], 0).unwrap();
    assert_eq!(raw.recv_multipart(0).unwrap(), frames(&[b"AB", b"2"]));
    let summary = cached.summary();
    assert_eq!(number(&summary, "topics"), 3);
    assert_eq!(summary["balanced"], true, "{summary}");
}

#[test]
fn nothing_older_comes_after_something_newer() {
    const TOPICS: u64 = 5_000;
    const ROUNDS: u64 = 12;
    let cached = Cached::start(&[]);
    let witness = cached.witness();
    let version = |frame: &[u8]| u64::from_be_bytes(frame.try_into().unwrap());
    let topic = |index: u64| format!("topic-{index:04}").into_bytes();
    let mut late: Vec<(zmq::Socket, HashMap<Vec<u8>, u64>)> = Vec::new();
    for round in 0..ROUNDS {
        for index in 0..TOPICS {
            let body = [round.to_be_bytes().to_vec(), vec![7; 100]];
            cached.publish(&[&topic(index), &body[0], &body[1]]);
        }
        if round % 5 == 1 {
            late.push((cached.subscriber(&[b"topic-"]), HashMap::new()));
        }
    }
    cached.publish(&[b"topic-~", &u64::MAX.to_be_bytes()]);
    cached.settle(&witness);
    for (socket, seen) in &mut late {
        while seen.len() < TOPICS as usize + 1 || seen.values().any(|&version| version < ROUNDS - 1)
        {
            let message = socket.recv_multipart(0).unwrap();
            let version = version(&message[1]);
            let before = seen.insert(message[0].clone(), version);
            assert!(
                before.is_none_or(|before| before < version),
                "{before:?}, then {version}"
            );
        }
    }
    let summary = cached.summary();
    assert_eq!(number(&summary, "lost"), 0, "{summary}");
    assert_eq!(number(&summary, "received"), TOPICS * ROUNDS + 3);
    assert_eq!(number(&summary, "topics"), TOPICS + 2);
}

#[test]
fn limits_hold_and_what_they_cost_is_counted() {
    for (evict, kept, evicted, refused) in [
        ("oldest", ["08", "09", "~"], 9, 0),
        ("refuse", ["00", "01", "~"], 0, 8),
    ] {
        let cached = Cached::start(&["--topics-max", "3", "--evict", evict]);
        let witness = cached.witness();
        for topic in 0..10 {
            cached.publish(&[format!("{topic:02}").as_bytes(), b"x"]);
        }
        // They go on, kept or not.
        assert_eq!(cached.settle(&witness).len(), 10);
        let late = cached.subscriber(&[b""]);
        let got: Vec<_> = (0..3)
            .map(|_| late.recv_multipart(0).unwrap().remove(0))
            .collect();
        assert_eq!(got, kept.map(|topic| topic.as_bytes().to_vec()), "{evict}");
        let summary = cached.summary();
        assert_eq!(number(&summary, "evicted"), evicted, "{summary}");
        assert_eq!(number(&summary, "refused"), refused, "{summary}");
        assert_eq!(number(&summary, "topics"), 3);
        assert_eq!(summary["balanced"], true, "{summary}");
    }
    let cached = Cached::start(&["--bytes-max", "1000"]);
    let witness = cached.witness();
    for topic in 0..10 {
        cached.publish(&[format!("{topic:02}").as_bytes(), &[7; 200]]);
    }
    cached.publish(&[b"huge", &[7; 2_000]]);
    cached.settle(&witness);
    let summary = cached.summary();
    assert!(number(&summary, "bytes") <= 1_000, "{summary}");
    assert!(number(&summary, "evicted") >= 7, "{summary}");
    assert_eq!(number(&summary, "refused"), 1, "{summary}");
}

#[test]
fn a_topic_may_be_what_an_envelope_finds() {
    let cached = Cached::start(&["--envelope", "delimited:0x20"]);
    let witness = cached.witness_of(&[b"~ "]);
    for message in [&b"BTC 1"[..], b"ETH 1", b"nothing", b"BTC 2"] {
        cached.publish(&[message]);
    }
    cached.publish(&[b"~ end"]);
    assert_eq!(witness.read_up_to(b"~ end").len(), 4);
    let late = cached.subscriber(&[b"BTC "]);
    assert_eq!(late.recv_multipart(0).unwrap(), frames(&[b"BTC 2"]));
    let summary = cached.summary();
    assert_eq!(number(&summary, "topics"), 3);
    assert_eq!(number(&summary, "unreadable"), 1);
    assert_eq!(summary["balanced"], true, "{summary}");
}

#[test]
fn one_that_does_not_read_loses_messages_and_others_none() {
    const MESSAGES: u64 = 3_000;
    let cached = Cached::start(&["--queue-max", "1000000"]);
    let witness = cached.witness();
    let stalled = cached.stalled(b"");
    // Until it has its first answer it may not be connected.
    assert_eq!(stalled.recv_multipart(0).unwrap()[0], b"~");
    for index in 0..MESSAGES {
        cached.publish(&[&index.to_be_bytes(), &[7; 10_000]]);
        // As fast as the one that reads.
        assert_eq!(
            witness.socket.recv_multipart(0).unwrap()[0],
            index.to_be_bytes()
        );
    }
    let summary = cached.summary();
    let lost = number(&summary, "lost");
    assert!(lost > MESSAGES / 10, "{summary}");
    let by_subscriber = summary["lost_by_subscriber"].as_array().unwrap();
    assert_eq!(by_subscriber.len(), 1, "{summary}");
    assert_eq!(number(&by_subscriber[0], "messages"), lost);
    drop(stalled);
}

#[test]
fn a_large_answer_to_one_that_does_not_read_keeps_nobody_waiting() {
    const TOPICS: u64 = 20_000;
    let cached = Cached::start(&[]);
    let witness = cached.witness();
    for index in 0..TOPICS {
        cached.publish(&[format!("big-{index:05}").as_bytes(), &[7; 2_000]]);
    }
    cached.settle(&witness);
    let peak_bytes = || {
        let path = format!("/proc/{}/status", cached.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes * 1_024
    };
    let before_bytes = peak_bytes();
    let mut stalled = Vec::new();
    for _ in 0..10 {
        let socket = cached.stalled(b"big-");
        socket.recv_multipart(0).unwrap();
        stalled.push(socket);
    }
    for round in 0..20 {
        cached.publish(&[b"round", &[round]]);
        cached.settle(&witness);
    }
    // Each of them is to get 40 MB.
    let grown_bytes = peak_bytes() - before_bytes;
    assert!(grown_bytes < 40_000_000, "grown by {grown_bytes} bytes");
    // One of them reads on.
    let socket = stalled.remove(0);
    for index in 1..TOPICS {
        let message = socket.recv_multipart(0).unwrap();
        assert_eq!(message[0], format!("big-{index:05}").as_bytes());
    }
}

#[test]
fn an_answer_that_waits_for_room_is_not_lost() {
    const TOPICS: u64 = 500;
    for queue_max in ["10000", "1"] {
        let cached = Cached::start(&["--queue-max", queue_max]);
        let witness = cached.witness();
        for index in 0..TOPICS {
            cached.publish(&[&index.to_be_bytes(), &[7; 2_000]]);
            // Nothing waits for it but this.
            let message = witness.socket.recv_multipart(0).unwrap();
            assert_eq!(message[0], index.to_be_bytes());
        }
        let late = cached.subscriber(&[b"\0"]);
        for index in 0..TOPICS {
            assert_eq!(late.recv_multipart(0).unwrap()[0], index.to_be_bytes());
        }
        let summary = cached.summary();
        assert_eq!(number(&summary, "lost"), 0, "{summary}");
        assert_eq!(summary["lost_by_subscriber"], json!([]), "{summary}");
    }
}

#[test]
fn a_snapshot_ends_once_and_with_what_was_asked_for() {
    let mut cached = Cached::start(&["--snapshots", "tcp://127.0.0.1:*"]);
    let said = &cached.process.said;
    let mut lines = said.lines();
    let endpoint = lines.find_map(|line| line.strip_prefix("snapshots at "));
    let endpoint = endpoint.unwrap().to_owned();
    let witness = cached.witness();
    for topic in [&b"KA"[..], b"KTHXBAI", b"KZ", b"~"] {
        cached.publish(&[topic, b"value"]);
    }
    witness.read_up_to(b"~");
    let asker = cached.context.socket(SocketType::DEALER).unwrap();
    asker.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
    asker.connect(&endpoint).unwrap();
    for _ in 0..2 {
        asker.send_multipart([&b"ICANHAZ?"[..], b"K"], 0).unwrap();
        for topic in [b"KA", b"KZ"] {
            assert_eq!(asker.recv_multipart(0).unwrap(), frames(&[topic, b"value"]));
        }
        let end = frames(&[b"KTHXBAI", &[0; 8], &[0; 16], b"", b"K"]);
        assert_eq!(asker.recv_multipart(0).unwrap(), end);
    }
    cached.process.signal(Signal::TERM);
    let summary = cached.process.json(143);
    assert_eq!(number(&summary, "snapshots"), 2, "{summary}");
}

#[test]
fn a_message_that_is_too_large_is_thrown_away_and_counted() {
    let cached = Cached::start(&[]);
    let witness = cached.witness();
    cached.publish(&[b"A", &vec![7; 9 << 20], &vec![7; 8 << 20]]);
    assert!(cached.settle(&witness).is_empty());
    let summary = cached.summary();
    assert_eq!(number(&summary, "oversize"), 1, "{summary}");
    assert_eq!(number(&summary, "received"), 2, "{summary}");
    assert_eq!(summary["balanced"], true, "{summary}");
}

#[test]
fn a_publisher_that_comes_back_is_heard_again() {
    let mut cached = Cached::start(&[]);
    let upstream = cached.publisher.get_last_endpoint().unwrap().unwrap();
    let live = cached.subscriber(&[b""]);
    cached.publish(&[b"A", b"1"]);
    assert_eq!(live.recv_multipart(0).unwrap(), frames(&[b"A", b"1"]));
    // Its port is free when it is gone.
    cached.publisher = xpub(&cached.context);
    wait_until("the port is free", || {
        cached.publisher.bind(&upstream).is_ok()
    });
    assert_eq!(cached.publisher.recv_bytes(0).unwrap(), b"\x01");
    cached.publish(&[b"A", b"2"]);
    assert_eq!(live.recv_multipart(0).unwrap(), frames(&[b"A", b"2"]));
    let late = cached.subscriber(&[b"A"]);
    assert_eq!(late.recv_multipart(0).unwrap(), frames(&[b"A", b"2"]));
}

#[test]
fn publishers_may_connect_and_prefixes_be_chosen() {
    let context = zmq::Context::new();
    let arguments = [
        "--bind",
        "tcp://127.0.0.1:*",
        "--subscribe",
        "A",
        "--subscribe",
        "B",
    ];
    let fixed = [
        "cache",
        "--json",
        "--serve",
        "tcp://127.0.0.1:*",
        "--messages",
        "2",
    ];
    let mut process = Pinfeed::start(&[&fixed[..], &arguments].concat());
    let upstream = process.wait_for_line("listening on ");
    let endpoint = process.wait_for_line("serving on ");
    let publisher = xpub(&context);
    publisher.connect(&upstream).unwrap();
    let mut asked = [
        publisher.recv_bytes(0).unwrap(),
        publisher.recv_bytes(0).unwrap(),
    ];
    asked.sort();
    assert_eq!(asked, [b"\x01A".to_vec(), b"\x01B".to_vec()]);
    publisher.send_multipart([&b"A"[..], b"1"], 0).unwrap();
    let late = subscriber(&context, &endpoint, &[b"A"]);
    assert_eq!(late.recv_multipart(0).unwrap(), frames(&[b"A", b"1"]));
    publisher.send_multipart([&b"C"[..], b"1"], 0).unwrap();
    publisher.send_multipart([&b"B"[..], b"1"], 0).unwrap();
    let summary = process.json(0);
    assert_eq!(number(&summary, "received"), 2);
    assert_eq!(number(&summary, "topics"), 2);
}

#[test]
fn what_was_not_asked_for_goes_nowhere() {
    let door = Door::open();
    let (mut process, endpoint) = cache(&["--connect", &door.endpoint, "--subscribe", "A"]);
    let mut publisher = door.accept();
    publisher.shake_hands(1);
    assert_eq!(publisher.read_frame(), peer::subscription(1, b"A"));
    let context = zmq::Context::new();
    let all = subscriber(&context, &endpoint, &[b""]);
    publisher.send(&peer::message(&[b"B", b"1"]));
    publisher.send(&peer::message(&[b"A", b"2"]));
    assert_eq!(all.recv_multipart(0).unwrap(), frames(&[b"A", b"2"]));
    process.signal(Signal::TERM);
    let summary = process.json(143);
    assert_eq!(number(&summary, "unwanted"), 1);
    assert_eq!(number(&summary, "received"), 1);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    let own = free_endpoint();
    for (arguments, expected) in [
        (
            &["--connect", "tcp://127.0.0.1:1", "--serve", &taken][..],
            "--serve = tcp://127.0.0.1:",
        ),
        (
            &["--bind", &taken, "--serve", "tcp://127.0.0.1:*"],
            "--bind = tcp://127.0.0.1:",
        ),
        (
            &["--serve", "tcp://127.0.0.1:*"],
            "give --connect or --bind",
        ),
        (
            &["--connect", &own, "--serve", &own],
            "this process itself is bound there",
        ),
        (
            &["--connect", "nowhere", "--serve", "tcp://127.0.0.1:*"],
            "--connect = nowhere",
        ),
        (
            &[
                "--connect",
                "tcp://127.0.0.1:1",
                "--serve",
                "tcp://127.0.0.1:*",
                "--store",
                "/nowhere/at/all",
            ],
            "--store = /nowhere/at/all",
        ),
    ] {
        let mut process = Pinfeed::start(&[&["cache"], arguments].concat());
        let (status, _) = process.finish();
        assert_eq!(status.code(), Some(2), "{}", process.said);
        assert!(process.said.contains(expected), "{}", process.said);
    }
}

#[test]
fn a_topic_for_nearly_every_message_is_told_once() {
    let mut cached = Cached::start(&[]);
    let witness = cached.witness();
    for number in 0..20_000 {
        cached.publish(&[format!("BTC {number}").as_bytes()]);
    }
    cached.settle(&witness);
    cached.process.signal(Signal::TERM);
    let summary = cached.process.json(143);
    assert_eq!(number(&summary, "topics"), 20_001);
    let said = &cached.process.said;
    assert_eq!(said.matches("topics of their own").count(), 1, "{said}");
}

#[test]
fn pyzmq_gets_its_value() {
    let Some(python) = python() else {
        return;
    };
    let cached = Cached::start(&[]);
    let witness = cached.witness();
    cached.publish(&[b"042", b"Save Roger"]);
    cached.settle(&witness);
    let program = "import sys, zmq\n\
                   subscriber = zmq.Context().socket(zmq.SUB)\n\
                   subscriber.setsockopt(zmq.SUBSCRIBE, b'042')\n\
                   subscriber.connect(sys.argv[1])\n\
                   print(subscriber.recv_multipart())\n";
    let output = std::process::Command::new(python)
        .args(["-c", program, &cached.endpoint])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim(), "[b'042', b'Save Roger']", "{output:?}");
}
