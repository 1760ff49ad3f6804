//! Goal: what `publish --blast` writes without libzmq is to a subscriber what libzmq would have sent:
//! every message once and in order, only what it subscribed to, at the times that were asked for,
//! whatever others on the same port do.

mod support;

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use pinfeed::{clock::Deadline, envelope::Envelope, message::Stamp};
use rustix::process::Signal;
use support::{
    LIMIT, Pinfeed, assert_all_delivered, free_endpoint, number, sleeps, wait_until,
    with_open_files,
};
use zmq::SocketType;

/// Starts a blaster with these arguments on a free port, and returns it and its endpoint.
fn blaster(arguments: &[&str]) -> (Pinfeed, String) {
    support::publisher(&[&["--blast", "--json"], arguments].concat())
}

fn subscriber() -> zmq::Socket {
    let socket = zmq::Context::new().socket(SocketType::SUB).unwrap();
    socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
    socket.set_linger(0).unwrap();
    socket
}

fn subscribed(endpoint: &str, prefixes: &[&[u8]]) -> zmq::Socket {
    let socket = subscriber();
    for prefix in prefixes {
        socket.set_subscribe(prefix).unwrap();
    }
    socket.connect(endpoint).unwrap();
    socket
}

/// Opens a message in the envelope of `pinfeed publish`.
fn open(frame: &[u8]) -> (&[u8], Stamp) {
    let fields = Envelope::Pinfeed.open(&[frame]).expect("a whole message");
    let topic = &frame[fields.topic.start..fields.topic.end];
    (topic, fields.stamp)
}

/// Checks that each topic's messages are numbered from 0 on without a gap.
#[derive(Default)]
struct Numbered {
    next: HashMap<Vec<u8>, u64>,
}

impl Numbered {
    fn check(&mut self, frame: &[u8]) {
        let (topic, stamp) = open(frame);
        let next = self.next.entry(topic.to_vec()).or_default();
        assert_eq!(stamp.sequence, *next, "{}", topic.escape_ascii());
        *next += 1;
    }
}

/// A subscriber of ZMTP 3.0, written by hand.
struct OldSubscriber(TcpStream);

impl OldSubscriber {
    fn connect(endpoint: &str) -> Self {
        let mut stream = stranger(endpoint);
        let mut greeting = [0; 64];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        greeting[12..16].copy_from_slice(b"NULL");
        stream.write_all(&greeting).unwrap();
        let mut theirs = [0; 64];
        stream.read_exact(&mut theirs).unwrap();
        assert_eq!(theirs[10..16], *b"\x03\x01NULL");
        stream
            .write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB")
            .unwrap();
        let mut subscriber = Self(stream);
        let ready = subscriber.frame();
        assert_eq!(
            ready,
            (4, b"\x05READY\x0bSocket-Type\0\0\0\x03PUB".to_vec())
        );
        subscriber
    }

    fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let mut body = vec![0; head[1].into()];
        self.0.read_exact(&mut body).unwrap();
        (head[0], body)
    }

    /// Reads messages until `count` in a row are of this topic.
    fn only(&mut self, topic: &[u8], count: usize) {
        let deadline = Deadline::after(LIMIT);
        let mut in_a_row = 0;
        while in_a_row < count {
            assert!(!deadline.passed(), "other topics keep coming");
            let (flags, frame) = self.frame();
            assert_eq!(flags, 0);
            in_a_row = if open(&frame).0 == topic {
                in_a_row + 1
            } else {
                0
            };
        }
    }
}

fn stranger(endpoint: &str) -> TcpStream {
    let stream = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

#[test]
fn libzmq_gets_all_in_order_over_every_transport() {
    const MESSAGES: u64 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let ipc = format!("ipc://{}", folder.path().join("feed").display());
    let dialled = free_endpoint();
    for arguments in [
        ["--bind", "tcp://127.0.0.1:*"],
        ["--bind", "tcp://[::1]:*"],
        ["--bind", &ipc],
        ["--connect", &dialled],
    ] {
        let flags = ["publish", "--blast", "--json", "--rate", "max"];
        let limit = ["--messages", "100000", "--topics", "50"];
        let mut process = Pinfeed::start(&[&flags[..], &limit, &arguments].concat());
        let endpoint = process.wait_for_line("publishing on ");
        let socket = subscriber();
        socket.set_ipv6(true).unwrap();
        socket.set_subscribe(b"").unwrap();
        if arguments[0] == "--bind" {
            socket.connect(&endpoint).unwrap();
        } else {
            // By now it has been refused at least once.
            process.wait_for_line("waiting for a subscription");
            socket.bind(&endpoint).unwrap();
        }
        let mut numbered = Numbered::default();
        let mut message = zmq::Message::new();
        for _ in 0..MESSAGES {
            socket.recv(&mut message, 0).unwrap();
            numbered.check(&message);
        }
        process.wait_for_line("published 100,000 messages");
        assert!(process.is_running(), "it stays for its subscriber");
        drop(socket);
        let published = process.json(0);
        assert_eq!(number(&published, "published"), MESSAGES);
        assert_eq!(number(&published, "payload_bytes"), MESSAGES * 28);
        assert_eq!(number(&published, "late_ns_max"), 0);
        assert_eq!(numbered.next.len(), 50);
    }
}

#[test]
fn every_envelope_passes_the_black_box() {
    for envelope in ["raw", "delimited:|", "pinfeed"] {
        let limits = ["--messages", "70000", "--envelope", envelope];
        let (mut process, endpoint) = blaster(&[&limits[..], &["--rate", "max"]].concat());
        let connect = ["run", "--json", "--connect", &endpoint];
        let mut run = Pinfeed::start(&[&connect[..], &limits].concat());
        let summary = run.json(0);
        assert_all_delivered(&summary, 70_000);
        assert_eq!(number(&summary, "rejected"), 0);
        assert_eq!(number(&process.json(0), "published"), 70_000);
    }
}

#[test]
fn subscribers_get_what_they_subscribed_to() {
    const MESSAGES: u64 = 60_000;
    let flags = ["--messages", "60000", "--wait-for", "4", "--rate", "max"];
    let (mut process, endpoint) = blaster(&[&flags[..], &["--topics", "100"]].concat());
    let prefixes: [&[u8]; 3] = [b"sim.00001\0", b"sim.0002", b"nothing"];
    let some = subscribed(&endpoint, &prefixes);
    let all = subscribed(&endpoint, &[b""]);
    let mut message = zmq::Message::new();
    let mut numbered = Numbered::default();
    let mut matching = 0;
    let mut expected = zmq::Message::new();
    for _ in 0..MESSAGES {
        all.recv(&mut message, 0).unwrap();
        numbered.check(&message);
        if prefixes.iter().any(|prefix| message.starts_with(prefix)) {
            matching += 1;
            some.recv(&mut expected, 0).unwrap();
            assert_eq!(*message, *expected, "the same, in the same order");
        }
    }
    assert!(matching > MESSAGES / 50);
    process.wait_for_line("published 60,000 messages");
    assert_eq!(
        some.recv_msg(zmq::DONTWAIT).map(|_| ()),
        Err(zmq::Error::EAGAIN)
    );
    drop((some, all));
    assert_eq!(number(&process.json(0), "published"), MESSAGES);
}

#[test]
fn a_cancellation_takes_effect() {
    let (_process, endpoint) = blaster(&["--topics", "3", "--skew", "0", "--rate", "50000"]);
    let socket = subscribed(&endpoint, &[b"sim.00000", b"sim.00001"]);
    let mut frame = zmq::Message::new();
    let mut wait_for = |what: &str, topics: &[&[u8]]| {
        let deadline = Deadline::after(LIMIT);
        let mut in_a_row: Vec<Vec<u8>> = Vec::new();
        // That one of two topics does not turn up in so many by chance is out of the question.
        while in_a_row.len() < 1_000 {
            assert!(!deadline.passed(), "{what}");
            socket.recv(&mut frame, 0).unwrap();
            let topic = open(&frame).0;
            if topics.contains(&topic) {
                in_a_row.push(topic.to_vec());
            } else {
                in_a_row.clear();
            }
        }
        in_a_row.sort();
        in_a_row.dedup();
        assert_eq!(in_a_row, topics, "{what}");
    };
    wait_for("both", &[b"sim.00000", b"sim.00001"]);
    socket.set_unsubscribe(b"sim.00000").unwrap();
    wait_for("the other only", &[b"sim.00001"]);
    socket.set_subscribe(b"").unwrap();
    wait_for("all", &[b"sim.00000", b"sim.00001", b"sim.00002"]);
}

#[test]
fn version_3_0_subscribes_by_messages_that_count() {
    let (_process, endpoint) = blaster(&["--topics", "3", "--skew", "0", "--rate", "50000"]);
    let mut subscriber = OldSubscriber::connect(&endpoint);
    // Twice the first; then a topic of its own to see what became of the first.
    subscriber.0.write_all(b"\0\x0a\x01sim.00000").unwrap();
    subscriber.0.write_all(b"\0\x0a\x01sim.00000").unwrap();
    subscriber.only(b"sim.00000", 100);
    subscriber.0.write_all(b"\0\x0a\0sim.00000").unwrap();
    subscriber.0.write_all(b"\0\x0a\x01sim.00001").unwrap();
    subscriber.only(b"sim.00001", 3);
    let seen_again = (0..1_000).any(|_| open(&subscriber.frame().1).0 == b"sim.00000");
    assert!(seen_again, "one of two subscriptions is left");
    subscriber.0.write_all(b"\0\x0a\0sim.00000").unwrap();
    subscriber.only(b"sim.00001", 1_000);
    // A heartbeat is answered between two messages.
    subscriber
        .0
        .write_all(b"\x04\x0b\x04PING\0\x05beat")
        .unwrap();
    let deadline = Deadline::after(LIMIT);
    loop {
        assert!(!deadline.passed(), "no answer");
        match subscriber.frame() {
            (0, frame) => assert_eq!(open(&frame).0, b"sim.00001"),
            other => {
                assert_eq!(other, (4, b"\x04PONGbeat".to_vec()));
                break;
            }
        }
    }
}

#[test]
fn timestamps_are_the_intended_times() {
    let (mut process, endpoint) = blaster(&["--rate", "100000", "--messages", "20000"]);
    let socket = subscribed(&endpoint, &[b""]);
    let mut stamps_ns = Vec::new();
    for _ in 0..20_000 {
        let message = socket.recv_msg(0).unwrap();
        stamps_ns.push(open(&message).1.timestamp_ns);
    }
    for pair in stamps_ns.windows(2) {
        assert_eq!(pair[1] - pair[0], 10_000);
    }
    drop(socket);
    let published = process.json(0);
    assert!(published["elapsed_s"].as_f64().unwrap() >= 0.199_99);
    assert!(number(&published, "late_ns_max") > 0);
    let lateness = &published["lateness_ns"];
    assert_eq!(number(lateness, "count"), 20_000);
    assert!(number(lateness, "p50") <= number(lateness, "max"));
    assert!(number(lateness, "max") <= number(&published, "late_ns_max") * 1_001 / 1_000 + 1);
}

#[test]
fn lateness_while_warming_up_is_left_out() {
    let flags = [
        "--rate",
        "100000",
        "--messages",
        "20000",
        "--warm-up",
        "100ms",
    ];
    let (mut process, endpoint) = blaster(&flags);
    let socket = subscribed(&endpoint, &[b""]);
    for _ in 0..20_000 {
        socket.recv_msg(0).unwrap();
    }
    drop(socket);
    let published = process.json(0);
    // What was due in the second half, and what was stamped in it although due before.
    let recorded = number(&published["lateness_ns"], "count");
    assert!((10_000..=20_000).contains(&recorded), "{published}");
}

#[test]
fn a_burst_has_one_time_and_the_end_is_kept() {
    // The last burst may be late by 900 ms before the time is over.
    let flags = ["--rate", "100", "--burst", "100", "--for", "1900ms"];
    let (mut process, endpoint) = blaster(&flags);
    let socket = subscribed(&endpoint, &[b""]);
    let mut stamps_ns = Vec::new();
    for _ in 0..200 {
        let message = socket.recv_msg(0).unwrap();
        stamps_ns.push(open(&message).1.timestamp_ns);
    }
    for (index, stamp_ns) in stamps_ns.iter().enumerate() {
        let burst = index as u64 / 100;
        assert_eq!(stamp_ns - stamps_ns[0], burst * 1_000_000_000);
    }
    drop(socket);
    assert_eq!(number(&process.json(0), "published"), 200);
}

#[test]
fn strangers_disturb_nobody() {
    let flags = ["--messages", "300000", "--rate", "max", "--wait-for", "2"];
    let (mut process, endpoint) = blaster(&flags);
    let mut strangers: Vec<TcpStream> = [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        b"\xff\0\0\0\0\0\0\0\x01\x7f\x01",
        // Silent, and silent after half a greeting.
        b"",
        b"\xff\0\0\0\0\0\0\0\x01\x7f\x03",
    ]
    .into_iter()
    .map(|words| {
        let mut stranger = stranger(&endpoint);
        stranger.write_all(words).unwrap();
        stranger
    })
    .collect();
    // A subscriber that gives up, one that goes bad in the middle, and one that leaves in the middle.
    let mut refusing = OldSubscriber::connect(&endpoint);
    refusing.0.write_all(b"\x04\x09\x05ERROR\x02no").unwrap();
    let mut bad = OldSubscriber::connect(&endpoint);
    bad.0.write_all(b"\0\x01\x01").unwrap();
    let socket = subscribed(&endpoint, &[b""]);
    let mut numbered = Numbered::default();
    for index in 0..300_000 {
        let message = socket.recv_msg(0).unwrap();
        numbered.check(&message);
        if index == 0 {
            bad.frame();
            bad.0.write_all(b"\xf0\xf0").unwrap();
        } else if index < 1_000 {
            // Until it is hung up on, it holds the others up.
            let _ = bad.0.read(&mut [0; 4_096]);
        }
    }
    for stranger in &mut strangers[..3] {
        // Its greeting, then the end, or a reset as it did not read what was said.
        let mut heard = Vec::new();
        let _ = stranger.read_to_end(&mut heard);
        assert!(heard.len() <= 64);
    }
    assert_eq!(refusing.0.read(&mut [0]).unwrap(), 0, "the end");
    drop((socket, strangers));
    assert_eq!(number(&process.json(0), "published"), 300_000);
    assert!(
        process.said.contains("hung up on 5 peer(s)"),
        "{}",
        process.said
    );
}

#[test]
fn a_handshake_that_does_not_end_is_ended() {
    let (_process, endpoint) = blaster(&["--wait-for", "1"]);
    let mut stranger = stranger(&endpoint);
    let mut heard = Vec::new();
    stranger.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), 64, "its greeting, then the end");
}

#[test]
fn a_capture_is_sent_over_and_over_when_it_was_captured() {
    let mut capture = tempfile::NamedTempFile::new().unwrap();
    let times_ns = [5_000_u64, 3_005_000, 9_005_000];
    for time_ns in times_ns {
        writeln!(capture, "{time_ns} {{\"stream\":\"a@trade\"}}").unwrap();
    }
    let path = capture.path().to_str().unwrap();
    let (_process, endpoint) = blaster(&["--capture", path, "--speed", "3", "--messages", "6"]);
    let socket = subscribed(&endpoint, &[b"binance.a@trade\0"]);
    let stamps: Vec<Stamp> = (0..6)
        .map(|_| open(&socket.recv_msg(0).unwrap()).1)
        .collect();
    // The second round comes after the mean distance, of 1.5 ms at three times the speed.
    let due_ns = [0, 1_000_000, 3_000_000, 4_500_000, 5_500_000, 7_500_000];
    for (sequence, (stamp, due_ns)) in (0..).zip(stamps.iter().zip(due_ns)) {
        assert_eq!(stamp.sequence, sequence);
        assert_eq!(stamp.timestamp_ns - stamps[0].timestamp_ns, due_ns);
    }
}

#[test]
fn a_capture_without_messages_is_refused() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let path = empty.path().to_str().unwrap();
    let mut process = Pinfeed::start(&["publish", "--blast", "--capture", path]);
    let (status, _) = process.finish();
    assert_eq!(status.code(), Some(2));
    for text in ["--capture", "it has no messages"] {
        assert!(process.said.contains(text), "{}", process.said);
    }
}

#[test]
fn what_is_no_capture_is_refused_before_anyone_subscribes() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "[workers]").unwrap();
    let path = file.path().to_str().unwrap();
    for how in [&["--blast"][..], &[]] {
        let mut process = Pinfeed::start(&[&["publish", "--capture", path], how].concat());
        let (status, _) = process.finish();
        assert_eq!(status.code(), Some(2));
        let expected = format!("{path}:1: there is no space after the time");
        assert!(process.said.contains(&expected), "{}", process.said);
    }
}

#[test]
fn endpoints_get_topics_of_their_own_where_they_are_split() {
    let bind = ["--bind", "tcp://127.0.0.1:*"];
    let count = [
        "--messages",
        "20000",
        "--rate",
        "max",
        "--wait-for",
        "2",
        "--split",
    ];
    let (_process, endpoints) = blaster(&[&bind[..], &count].concat());
    let endpoints: Vec<&str> = endpoints.split(", ").collect();
    let sockets = [0, 1].map(|index| subscribed(endpoints[index], &[b""]));
    let (received, deadline) = (AtomicU64::new(0), Deadline::after(LIMIT));
    let take = &|socket: zmq::Socket| {
        socket.set_rcvtimeo(50).unwrap();
        let mut numbered = Numbered::default();
        while received.load(Relaxed) < 20_000 && !deadline.passed() {
            if let Ok(message) = socket.recv_msg(0) {
                numbered.check(&message);
                received.fetch_add(1, Relaxed);
            }
        }
        numbered.next
    };
    // Both at once: who is not read from holds the other one up.
    let [first, second] = thread::scope(|scope| {
        let readers = sockets.map(|socket| scope.spawn(move || take(socket)));
        readers.map(|reader| reader.join().unwrap())
    });
    assert_eq!(received.load(Relaxed), 20_000);
    assert!(!first.is_empty() && !second.is_empty());
    assert!(first.keys().all(|topic| !second.contains_key(topic)));
}

#[test]
fn a_late_subscriber_gets_what_comes_after() {
    let (mut process, endpoint) = blaster(&["--wait-for", "0", "--rate", "200000", "--for", "30s"]);
    let socket = subscribed(&endpoint, &[b"sim.00000\0"]);
    let first = open(&socket.recv_msg(0).unwrap()).1.sequence;
    for sequence in first + 1..first + 1_000 {
        assert_eq!(open(&socket.recv_msg(0).unwrap()).1.sequence, sequence);
    }
    process.signal(Signal::TERM);
    assert!(number(&process.json(143), "published") > first);
}

#[test]
fn a_stop_is_heard_while_a_subscriber_holds_everything_up() {
    let (mut process, endpoint) = blaster(&["--rate", "max"]);
    let mut subscriber = OldSubscriber::connect(&endpoint);
    subscriber.0.write_all(b"\0\x01\x01").unwrap();
    subscriber.frame();
    // It reads no more, so the blaster sleeps once the kernel holds all it can.
    wait_until("the blaster waits", || sleeps(process.id()));
    process.signal(Signal::INT);
    assert!(number(&process.json(130), "published") > 0);
}

#[test]
fn a_subscriber_that_stands_still_does_not_hold_it_beyond_its_time() {
    // More than sockets hold of it.
    for rate in ["max", "2000000"] {
        let (mut process, endpoint) = blaster(&["--rate", rate, "--for", "4s"]);
        let shown = ["--handler", "print", "--every", "100000"];
        let mut run = support::subscriber(&endpoint, &shown);
        run.wait_for_text("sim.");
        run.signal(Signal::STOP);
        let said = process.wait_for_line("published ");
        assert!(said.contains(" not sent"), "{said}");
        run.signal(Signal::CONT);
        run.signal(Signal::TERM);
        let (published, received) = (process.json(0), run.json(143));
        let unsent = number(&published, "unsent");
        assert!(unsent > 0, "{published}");
        assert!(
            published["elapsed_s"].as_f64().unwrap() < 8.0,
            "{published}"
        );
        assert!(number(&received, "received") <= number(&published, "published"));
        if rate != "max" {
            assert!(number(&published, "published") + unsent >= 8_000_000);
        }
    }
}

#[test]
fn with_too_many_open_files_it_waits_and_says_so_once() {
    const STRANGERS: usize = 100;
    let arguments = [
        "publish",
        "--blast",
        "--messages",
        "1000",
        "--bind",
        "tcp://127.0.0.1:*",
    ];
    let mut process = Pinfeed::spawn(&mut with_open_files(24, &arguments));
    let endpoint = process.wait_for_line("publishing on ");
    let strangers: Vec<TcpStream> = (0..STRANGERS).map(|_| stranger(&endpoint)).collect();
    process.wait_for_line("warning: a connection was refused");
    // One that has to wait as well, and that the kernel keeps meanwhile.
    let socket = subscribed(&endpoint, &[b""]);
    assert!(sleeps(process.id()), "it asks over and over");
    drop(strangers);
    let mut numbered = Numbered::default();
    for _ in 0..1_000 {
        numbered.check(&socket.recv_msg(0).unwrap());
    }
    drop(socket);
    assert_eq!(process.finish().0.code(), Some(0));
    let warnings = process.said.matches("was refused").count();
    assert_eq!(warnings, 1, "{}", process.said);
}
