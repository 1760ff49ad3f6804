//! Goal: a subscriber that comes late has the newest message of each topic that it asks for at once, before
//! anything newer, once, and nobody else has it again; within limits that are counted, and after a restart.

mod support;

use std::{collections::HashMap, time::Duration};

use pinfeed::clock::{Deadline, Stopwatch};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};
use support::{
    LIMIT, Pinfeed, free_endpoint, number,
    peer::{self, Door},
    python::python,
    wait_until, xpub,
};
use zmq::SocketType;

/// A cache between a publisher of the test and its subscribers.
struct Cached {
    context: zmq::Context,
    publisher: zmq::Socket,
    process: Pinfeed,
    endpoint: String,
}

impl Cached {
    fn start(arguments: &[&str]) -> Self {
        let context = zmq::Context::new();
        let publisher = xpub(&context);
        // It would drop what it can't send at once.
        publisher.set_sndhwm(0).unwrap();
        publisher.bind("tcp://127.0.0.1:*").unwrap();
        let upstream = publisher.get_last_endpoint().unwrap().unwrap();
        let (process, endpoint) = cache(&[&["--connect", &upstream], arguments].concat());
        assert_eq!(publisher.recv_bytes(0).unwrap(), b"\x01", "all topics");
        Self {
            context,
            publisher,
            process,
            endpoint,
        }
    }

    fn publish(&self, frames: &[&[u8]]) {
        self.publisher.send_multipart(frames, 0).unwrap();
    }

    fn subscriber(&self, prefixes: &[&[u8]]) -> zmq::Socket {
        subscriber(&self.context, &self.endpoint, prefixes)
    }

    /// A subscriber to all that has come through so far, up to a last message.
    fn witness(&self) -> Witness {
        let socket = self.subscriber(&[b""]);
        // It is connected once the cache answers it, which it does with a message that is kept.
        let witness = Witness { socket };
        self.publish(&[b"~", b"witness"]);
        witness.read_up_to(b"~");
        witness
    }

    fn summary(mut self) -> Value {
        self.process.signal(Signal::TERM);
        self.process.json(143)
    }
}

/// Sees all messages.
struct Witness {
    socket: zmq::Socket,
}

impl Witness {
    fn read_up_to(&self, topic: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut messages = Vec::new();
        loop {
            let message = self.socket.recv_multipart(0).unwrap();
            if message[0] == topic {
                return messages;
            }
            messages.push(message);
        }
    }
}

fn cache(arguments: &[&str]) -> (Pinfeed, String) {
    let fixed = ["cache", "--json", "--serve", "tcp://127.0.0.1:*"];
    let mut process = Pinfeed::start(&[&fixed[..], arguments].concat());
    let endpoint = process.wait_for_line("serving on ");
    (process, endpoint)
}

fn subscriber(context: &zmq::Context, endpoint: &str, prefixes: &[&[u8]]) -> zmq::Socket {
    let socket = context.socket(SocketType::SUB).unwrap();
    socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvhwm(0).unwrap();
    for prefix in prefixes {
        socket.set_subscribe(prefix).unwrap();
    }
    socket.connect(endpoint).unwrap();
    socket
}

fn frames(message: &[&[u8]]) -> Vec<Vec<u8>> {
    message.iter().map(|frame| frame.to_vec()).collect()
}

#[test]
fn nobody_waits_for_a_publisher_that_sends_everything_once() {
    const TOPICS: usize = 1_000;
    let cached = Cached::start(&[]);
    let witness = cached.witness();
    for topic in 0..TOPICS {
        cached.publish(&[format!("{topic:03}").as_bytes(), b"Save Roger"]);
    }
    cached.publish(&[b"~", b"all"]);
    witness.read_up_to(b"~");
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
    cached.publish(&[b"~"]);
    witness.read_up_to(b"~");
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
        cached.publish(&[b"~", b"end"]);
        // They go on, kept or not.
        assert_eq!(witness.read_up_to(b"~").len(), 10);
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
    cached.publish(&[b"~", b"end"]);
    witness.read_up_to(b"~");
    let summary = cached.summary();
    assert!(number(&summary, "bytes") <= 1_000, "{summary}");
    assert!(number(&summary, "evicted") >= 7, "{summary}");
    assert_eq!(number(&summary, "refused"), 1, "{summary}");
}

#[test]
fn a_topic_may_be_what_an_envelope_finds() {
    let cached = Cached::start(&["--envelope", "delimited:0x20"]);
    let witness = cached.witness_of(b"~ ");
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

impl Cached {
    /// As [`Self::witness`], for messages of one frame.
    fn witness_of(&self, message: &[u8]) -> Witness {
        let witness = Witness {
            socket: self.subscriber(&[b""]),
        };
        self.publish(&[message]);
        witness.read_up_to(message);
        witness
    }
}

/// Returns how many topics a copy of a cache's file holds, where it can be read.
fn restored(file: &std::path::Path, folder: &std::path::Path) -> Option<u64> {
    let copy = folder.join("copy");
    std::fs::copy(file, &copy).ok()?;
    let nowhere = free_endpoint();
    let fixed = [
        "cache",
        "--json",
        "--serve",
        "tcp://127.0.0.1:*",
        "--for",
        "0s",
    ];
    let store = ["--connect", &nowhere, "--store", copy.to_str()?];
    let (status, output) = Pinfeed::start(&[&fixed[..], &store].concat()).finish();
    let summary: Value = serde_json::from_str(&output).ok()?;
    status.success().then(|| number(&summary, "restored"))
}

#[test]
fn a_cache_that_was_killed_is_warm_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values");
    let store = ["--store", file.to_str().unwrap()];
    let mut cached = Cached::start(&store);
    for topic in 0..500 {
        cached.publish(&[format!("{topic:03}").as_bytes(), b"old"]);
        cached.publish(&[format!("{topic:03}").as_bytes(), b"new", b"frame"]);
    }
    // A copy that is made while the file is written may be unreadable.
    wait_until("all is written", || {
        restored(&file, folder.path()) == Some(500)
    });
    cached.process.signal(Signal::KILL);
    cached.process.finish();
    let again = Cached::start(&store);
    assert_eq!(
        again.process.said.lines().next().unwrap().split(' ').next(),
        Some("500")
    );
    let late = again.subscriber(&[b""]);
    for topic in 0..500 {
        let expected = frames(&[format!("{topic:03}").as_bytes(), b"new", b"frame"]);
        assert_eq!(late.recv_multipart(0).unwrap(), expected);
    }
    // Ended in order, it has all.
    again.publish(&[b"last", b"moment"]);
    assert_eq!(late.recv_multipart(0).unwrap()[0], b"last");
    let summary = again.summary();
    assert_eq!(number(&summary, "restored"), 500);
    assert_eq!(restored(&file, folder.path()), Some(501));
}

/// Limits the size of files that a process writes, where it can be raised again.
fn limit_files(process: &Pinfeed, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    let process = Pid::from_raw(process.id() as i32);
    prlimit(process, Resource::Fsize, limit).unwrap();
}

#[test]
fn a_file_that_cannot_be_written_takes_nothing_from_the_summary() {
    const TOPICS: u64 = 4_000;
    for is_mended in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("values");
        let context = zmq::Context::new();
        let publisher = xpub(&context);
        // It would drop what it can't send at once; set once it is bound, that has no effect.
        publisher.set_sndhwm(0).unwrap();
        publisher.bind("tcp://127.0.0.1:*").unwrap();
        let upstream = publisher.get_last_endpoint().unwrap().unwrap();
        // So that what goes beyond the limit is an error, not the end.
        let ignoring = ["-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
        let arguments = ["cache", "--json", "--serve", "tcp://127.0.0.1:*"];
        let mut command = std::process::Command::new("sh");
        command
            .args(ignoring)
            .arg(env!("CARGO_BIN_EXE_pinfeed"))
            .args(arguments)
            .args(["--messages", &TOPICS.to_string()])
            .args(["--connect", &upstream, "--store"])
            .arg(&file);
        let mut process = Pinfeed::spawn(&mut command);
        process.wait_for_line("serving on ");
        assert_eq!(publisher.recv_bytes(0).unwrap(), b"\x01");
        limit_files(&process, Some(4 << 20));
        let publish = |index: u64| {
            let message = [&index.to_be_bytes()[..], &[7; 4_000]];
            publisher.send_multipart(message, 0).unwrap();
        };
        (1..TOPICS).for_each(publish);
        process.wait_for_text("it is tried again");
        if is_mended {
            limit_files(&process, None);
        }
        // The last one ends it.
        publish(TOPICS);
        let summary = process.json(if is_mended { 0 } else { 1 });
        assert_eq!(number(&summary, "received"), TOPICS);
        assert!(number(&summary, "write_failures") > 0, "{summary}");
        if is_mended {
            assert_eq!(restored(&file, folder.path()), Some(TOPICS));
        } else {
            assert!(process.said.contains("Error: "), "{}", process.said);
        }
    }
}

#[test]
fn one_that_does_not_read_loses_messages_and_others_none() {
    const MESSAGES: u64 = 3_000;
    let cached = Cached::start(&["--queue-max", "1000000"]);
    let witness = cached.witness();
    let stalled = cached.context.socket(SocketType::SUB).unwrap();
    stalled.set_rcvhwm(1).unwrap();
    stalled.set_rcvbuf(4_096).unwrap();
    stalled.set_subscribe(b"").unwrap();
    stalled.connect(&cached.endpoint).unwrap();
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
    cached.publish(&[b"~"]);
    witness.read_up_to(b"~");
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
        let socket = cached.context.socket(SocketType::SUB).unwrap();
        socket.set_rcvhwm(1).unwrap();
        socket.set_rcvbuf(4_096).unwrap();
        socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
        socket.set_subscribe(b"big-").unwrap();
        socket.connect(&cached.endpoint).unwrap();
        socket.recv_multipart(0).unwrap();
        stalled.push(socket);
    }
    for round in 0..20 {
        cached.publish(&[b"~", &[round]]);
        witness.read_up_to(b"~");
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
    cached.publish(&[b"~"]);
    assert!(witness.read_up_to(b"~").is_empty());
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
fn pyzmq_gets_its_value() {
    let Some(python) = python() else {
        return;
    };
    let cached = Cached::start(&[]);
    let witness = cached.witness();
    cached.publish(&[b"042", b"Save Roger"]);
    cached.publish(&[b"~"]);
    witness.read_up_to(b"~");
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
