//! Goal: a tap is invisible to publishers and subscribers, their messages and merged subscriptions pass, and all
//! of it can be watched, by whoever is fast enough; nobody waits for a watcher.

mod support;

use std::net::TcpListener;

use pinfeed::publish::{
    Source,
    capture::{Capture, Speed},
};
use rustix::process::Signal;
use serde_json::Value;
use support::{LIMIT, Pinfeed, number, patient_xpub, wait_until};
use zmq::SocketType;

const ANY: &str = "tcp://127.0.0.1:*";

/// A tap between a publisher of the test and its subscribers.
struct Tapped {
    context: zmq::Context,
    publisher: zmq::Socket,
    process: Pinfeed,
    endpoint: String,
    watched: Option<String>,
}

impl Tapped {
    fn start(arguments: &[&str]) -> Self {
        let context = zmq::Context::new();
        let (publisher, upstream) = patient_xpub(&context);
        let fixed = ["tap", "--json", "--serve", ANY, "--connect", &upstream];
        let mut process = Pinfeed::start(&[&fixed[..], arguments].concat());
        let is_watched = arguments.contains(&"--watch-bind");
        let watched = is_watched.then(|| process.wait_for_line("watched on "));
        let endpoint = process.wait_for_line("serving on ");
        Self {
            context,
            publisher,
            process,
            endpoint,
            watched,
        }
    }

    fn socket(&self, socket_type: SocketType, endpoint: &str) -> zmq::Socket {
        let socket = self.context.socket(socket_type).unwrap();
        socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
        socket.set_linger(0).unwrap();
        socket.connect(endpoint).unwrap();
        socket
    }

    /// A subscriber that says itself what it subscribes to.
    fn subscriber(&self, prefixes: &[&[u8]]) -> zmq::Socket {
        let socket = self.socket(SocketType::XSUB, &self.endpoint);
        for prefix in prefixes {
            socket.send([&[1], *prefix].concat(), 0).unwrap();
        }
        socket
    }

    fn publish(&self, frames: &[&[u8]]) {
        self.publisher.send_multipart(frames, 0).unwrap();
    }

    /// What the publisher is told next.
    fn told(&self) -> Vec<u8> {
        self.publisher.recv_bytes(0).unwrap()
    }

    fn summary(mut self) -> (Value, String) {
        self.process.signal(Signal::TERM);
        let summary = self.process.json(143);
        (summary, std::mem::take(&mut self.process.said))
    }
}

fn frames(message: &[&[u8]]) -> Vec<Vec<u8>> {
    message.iter().map(|frame| frame.to_vec()).collect()
}

#[test]
fn subscriptions_are_merged_and_cancelled_with_the_last_subscriber() {
    let tapped = Tapped::start(&[]);
    let first = tapped.subscriber(&[b"A"]);
    assert_eq!(tapped.told(), b"\x01A");
    let second = tapped.subscriber(&[b"A", b"B"]);
    assert_eq!(tapped.told(), b"\x01B", "A is known");
    tapped.publish(&[b"A", b"1", b"", b"three"]);
    tapped.publish(&[b"B", b"2"]);
    for (socket, expected) in [
        (&first, &[&[&b"A"[..], b"1", b"", b"three"][..]][..]),
        (&second, &[&[b"A", b"1", b"", b"three"], &[b"B", b"2"]]),
    ] {
        for message in expected {
            assert_eq!(socket.recv_multipart(0).unwrap(), frames(message));
        }
    }
    // Of the two that want A one is left.
    first.send(&b"\x00A"[..], 0).unwrap();
    first.send(&b"\x01C"[..], 0).unwrap();
    assert_eq!(tapped.told(), b"\x01C");
    drop(second);
    let mut told = [tapped.told(), tapped.told()];
    told.sort();
    assert_eq!(told, [b"\x00A".to_vec(), b"\x00B".to_vec()]);
    // What a subscriber says beside passes as well.
    first.send(&b"hello"[..], 0).unwrap();
    assert_eq!(tapped.told(), b"hello");
    drop(first);
    assert_eq!(tapped.told(), b"\x00C");
    let (summary, _) = tapped.summary();
    assert_eq!(number(&summary, "received"), 2);
    assert_eq!(number(&summary, "forwarded"), 3);
    assert_eq!(number(&summary, "forwarded_changes"), 6);
    assert_eq!(number(&summary, "upstream"), 1);
}

#[test]
fn a_message_that_is_too_large_is_thrown_away_and_counted() {
    let tapped = Tapped::start(&[]);
    let subscriber = tapped.subscriber(&[b""]);
    assert_eq!(tapped.told(), b"\x01");
    tapped.publish(&[b"A", &vec![7; 9 << 20], &vec![7; 8 << 20]]);
    tapped.publish(&[b"B"]);
    assert_eq!(subscriber.recv_multipart(0).unwrap(), frames(&[b"B"]));
    let (summary, said) = tapped.summary();
    assert_eq!(number(&summary, "oversize"), 1, "{summary}");
    assert_eq!(number(&summary, "received"), 1, "{summary}");
    assert!(
        said.contains("1 message thrown away, larger than 16 MiB"),
        "{said}"
    );
}

#[test]
fn a_frame_that_is_too_large_ends_its_connection_and_is_counted() {
    let tapped = Tapped::start(&[]);
    let subscriber = tapped.subscriber(&[b""]);
    let subscribed = || while tapped.told() != b"\x01" {};
    for _ in 0..2 {
        subscribed();
        tapped.publish(&[b"A", &vec![7; 17 << 20]]);
    }
    // It comes again.
    subscribed();
    tapped.publish(&[b"B"]);
    assert_eq!(subscriber.recv_multipart(0).unwrap(), frames(&[b"B"]));
    let (summary, said) = tapped.summary();
    assert_eq!(number(&summary, "connections_ended"), 2, "{summary}");
    let by_reason = &summary["connections_ended_by_reason"];
    assert_eq!(number(by_reason, "frame_too_large"), 2);
    assert_eq!(number(&summary, "received"), 1, "{summary}");
    let warnings = said.matches("a frame is larger than the limit, 16 MiB");
    assert_eq!(warnings.count(), 1, "{said}");
    assert!(
        said.contains("2 connections ended for frame_too_large"),
        "{said}"
    );
}

#[test]
fn what_waits_for_one_that_hangs_up_is_lost_and_counted() {
    const MESSAGES: u64 = 1_000;
    let mut tapped = Tapped::start(&[]);
    let slow = tapped.context.socket(SocketType::SUB).unwrap();
    slow.set_rcvhwm(1).unwrap();
    slow.set_rcvbuf(4_096).unwrap();
    slow.set_linger(0).unwrap();
    slow.set_subscribe(b"A").unwrap();
    slow.connect(&tapped.endpoint).unwrap();
    assert_eq!(tapped.told(), b"\x01A");
    // Less than may wait, and more than the kernel holds.
    let fast = tapped.subscriber(&[b"A"]);
    wait_until("both are there", || {
        tapped.publish(&[b"A"]);
        fast.poll(zmq::POLLIN, 20).unwrap() > 0
    });
    for _ in 0..MESSAGES {
        tapped.publish(&[b"A", &[7; 14_000]]);
    }
    tapped.publish(&[b"A", b"end"]);
    while fast.recv_multipart(0).unwrap().last().unwrap() != b"end" {}
    drop(slow);
    tapped.process.wait_for_text("messages did not go to it");
    let (summary, _) = tapped.summary();
    let lost = number(&summary, "lost");
    assert!((1..=MESSAGES).contains(&lost), "{summary}");
    let by_subscriber = summary["lost_by_subscriber"].as_array().unwrap();
    assert_eq!(by_subscriber.len(), 1, "{summary}");
    assert_eq!(number(&by_subscriber[0], "messages"), lost);
}

#[test]
fn one_that_repeats_itself_is_gone_with_its_last_cancellation() {
    let tapped = Tapped::start(&[]);
    let subscriber = tapped.context.socket(SocketType::SUB).unwrap();
    subscriber.connect(&tapped.endpoint).unwrap();
    for _ in 0..3 {
        subscriber.set_subscribe(b"A").unwrap();
    }
    assert_eq!(tapped.told(), b"\x01A");
    // libzmq sends the three subscriptions, and one cancellation.
    for _ in 0..3 {
        subscriber.set_unsubscribe(b"A").unwrap();
    }
    assert_eq!(tapped.told(), b"\x00A");
    let (summary, _) = tapped.summary();
    assert_eq!(number(&summary, "subscription_changes"), 4);
    assert_eq!(number(&summary, "forwarded_changes"), 2);
}

#[test]
fn watchers_get_all_that_passes_as_messages() {
    for socket_type in [SocketType::SUB, SocketType::PAIR] {
        let tapped = Tapped::start(&["--watch-bind", ANY]);
        let watcher = tapped.socket(socket_type, tapped.watched.as_ref().unwrap());
        if socket_type == SocketType::SUB {
            watcher.set_subscribe(b"").unwrap();
        }
        // It is connected once it sees anything.
        let poke = tapped.subscriber(&[]);
        poke.set_rcvtimeo(10).unwrap();
        wait_until("the watcher sees subscriptions", || {
            poke.send(&b"\x01poke"[..], 0).unwrap();
            poke.send(&b"\x00poke"[..], 0).unwrap();
            watcher.poll(zmq::POLLIN, 100).unwrap() > 0
        });
        let subscriber = tapped.subscriber(&[b"A"]);
        while tapped.told() != b"\x01A" {}
        tapped.publish(&[b"A", b"1"]);
        assert_eq!(subscriber.recv_multipart(0).unwrap(), frames(&[b"A", b"1"]));
        drop(subscriber);
        while tapped.told() != b"\x00A" {}
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let message = watcher.recv_multipart(0).unwrap();
            if !message[0].ends_with(b"poke") {
                seen.push(message);
            }
        }
        let expected = [
            frames(&[b"\x01A"]),
            frames(&[b"A", b"1"]),
            frames(&[b"\x00A"]),
        ];
        assert_eq!(seen, expected, "{socket_type:?}");
    }
}

#[test]
fn the_terminal_shows_what_is_asked_for() {
    let tapped = Tapped::start(&["--show", "text", "--topic", "BT"]);
    let subscriber = tapped.subscriber(&[b""]);
    assert_eq!(tapped.told(), b"\x01");
    tapped.publish(&[b"ETH", b"1"]);
    tapped.publish(&[b"BTC", b"\xff2"]);
    subscriber.recv_multipart(0).unwrap();
    subscriber.recv_multipart(0).unwrap();
    let (summary, said) = tapped.summary();
    assert!(said.contains("Z subscribe  \n"), "{said}");
    assert!(said.contains("Z message  BTC  \\xff2\n"), "{said}");
    assert!(!said.contains("ETH"), "{said}");
    assert_eq!(number(&summary["watchers"][0], "lost"), 0);

    let tapped = Tapped::start(&["--show", "hex", "--lines-max", "1"]);
    let subscriber = tapped.subscriber(&[b"B"]);
    assert_eq!(tapped.told(), b"\x01B");
    for _ in 0..100 {
        tapped.publish(&[b"BTC"]);
        subscriber.recv_multipart(0).unwrap();
    }
    let (summary, said) = tapped.summary();
    let watcher = &summary["watchers"][0];
    assert!(said.contains("Z subscribe  42\n"), "{said}");
    assert!(number(watcher, "skipped") > 0, "{summary}");
    let all = number(watcher, "written") + number(watcher, "skipped") + number(watcher, "lost");
    assert_eq!(all, 101, "{summary}");
}

#[test]
fn a_file_of_what_passed_is_a_capture() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("capture");
    let tapped = Tapped::start(&["--watch-file", file.to_str().unwrap()]);
    let subscriber = tapped.subscriber(&[b"binance."]);
    assert_eq!(tapped.told(), b"\x01binance.");
    let json = br#"{"stream":"btcusdt@trade","data":{"p":"1"}}"#;
    for _ in 0..3 {
        tapped.publish(&[b"binance.btcusdt@trade", json]);
        subscriber.recv_multipart(0).unwrap();
    }
    let (summary, _) = tapped.summary();
    assert_eq!(number(&summary["watchers"][0], "written"), 4);
    let mut capture = Capture::open(&file, Speed::Times(1.0)).unwrap();
    let mut payload = Vec::new();
    let mut messages = 0;
    while let Some(item) = capture.next(&mut payload).unwrap() {
        if capture.topic(item.topic) == b"binance.btcusdt@trade" {
            assert_eq!(payload, json);
            messages += 1;
        } else {
            assert_eq!(payload, br#"{"subscribed":"binance."}"#);
        }
        payload.clear();
    }
    assert_eq!(messages, 3);
}

#[test]
fn a_watcher_that_fails_is_told_once_while_the_tap_goes_on() {
    let mut tapped = Tapped::start(&["--watch-file", "/dev/full"]);
    let subscriber = tapped.subscriber(&[b"A"]);
    let start = "warning: a watcher has ended: ";
    let reason = tapped.process.wait_for_line(start);
    assert!(reason.starts_with("/dev/full: No space left"), "{reason}");
    assert_eq!(tapped.told(), b"\x01A");
    tapped.publish(&[b"A", b"1"]);
    assert_eq!(subscriber.recv_multipart(0).unwrap()[1], b"1");
    tapped.process.signal(Signal::TERM);
    tapped.process.json(1);
    let said = &tapped.process.said;
    assert_eq!(said.matches(start).count(), 1, "{said}");
}

#[test]
fn its_ports_are_free_at_the_end_although_nobody_takes_what_is_said() {
    let tapped = Tapped::start(&[]);
    tapped.process.fill_stderr();
    tapped.process.signal(Signal::TERM);
    let address = tapped.endpoint.strip_prefix("tcp://").unwrap();
    wait_until("its port is free", || TcpListener::bind(address).is_ok());
}

#[test]
fn nobody_waits_for_a_watcher_that_does_not_read() {
    const MESSAGES: u64 = 4_000;
    // Nobody reads standard error either, which is a pipe.
    let arguments = ["--show", "text", "--watch-bind", ANY];
    let mut tapped = Tapped::start(&arguments);
    let watcher = tapped.context.socket(SocketType::SUB).unwrap();
    watcher.set_rcvhwm(1).unwrap();
    watcher.set_rcvbuf(4_096).unwrap();
    watcher.set_subscribe(b"").unwrap();
    watcher.set_linger(0).unwrap();
    watcher.connect(tapped.watched.as_ref().unwrap()).unwrap();
    let subscriber = tapped.subscriber(&[b"A"]);
    assert_eq!(tapped.told(), b"\x01A");
    wait_until("the watcher is there", || {
        tapped.publish(&[b"A", b"first"]);
        subscriber.recv_multipart(0).unwrap();
        watcher.poll(zmq::POLLIN, 20).unwrap() > 0
    });
    for index in 0..MESSAGES {
        tapped.publish(&[b"A", &index.to_be_bytes(), &[7; 20_000]]);
        let message = subscriber.recv_multipart(0).unwrap();
        assert_eq!(message[1], index.to_be_bytes());
    }
    tapped.process.signal(Signal::TERM);
    let summary = tapped.process.json(143);
    let received = number(&summary, "received");
    assert_eq!(number(&summary, "forwarded"), received, "{summary}");
    let watchers = summary["watchers"].as_array().unwrap();
    assert!(number(&watchers[0], "lost") > MESSAGES / 10, "{summary}");
    assert!(number(&watchers[1], "lost") > MESSAGES / 10, "{summary}");
}

#[test]
fn a_restarted_publisher_is_asked_again() {
    let mut tapped = Tapped::start(&[]);
    let upstream = tapped.publisher.get_last_endpoint().unwrap().unwrap();
    let subscriber = tapped.subscriber(&[b"A"]);
    assert_eq!(tapped.told(), b"\x01A");
    tapped.publisher = support::xpub(&tapped.context);
    wait_until("the port is free", || {
        tapped.publisher.bind(&upstream).is_ok()
    });
    assert_eq!(tapped.told(), b"\x01A");
    tapped.publish(&[b"A", b"again"]);
    assert_eq!(
        subscriber.recv_multipart(0).unwrap(),
        frames(&[b"A", b"again"])
    );
}

#[test]
fn one_that_is_too_slow_loses_messages_by_name() {
    let tapped = Tapped::start(&["--queue-max", "100000"]);
    let slow = tapped.context.socket(SocketType::SUB).unwrap();
    slow.set_rcvhwm(1).unwrap();
    slow.set_rcvbuf(4_096).unwrap();
    slow.set_subscribe(b"A").unwrap();
    slow.connect(&tapped.endpoint).unwrap();
    assert_eq!(tapped.told(), b"\x01A");
    let fast = tapped.subscriber(&[b"A"]);
    wait_until("both are there", || {
        tapped.publish(&[b"A", b"first"]);
        fast.poll(zmq::POLLIN, 20).unwrap() > 0
    });
    while fast.poll(zmq::POLLIN, 100).unwrap() > 0 {
        fast.recv_multipart(0).unwrap();
    }
    for _ in 0..3_000 {
        tapped.publish(&[b"A", &[7; 10_000]]);
        fast.recv_multipart(0).unwrap();
    }
    let (summary, said) = tapped.summary();
    let lost = summary["lost_by_subscriber"].as_array().unwrap();
    assert_eq!(lost.len(), 1, "{summary}");
    assert!(number(&lost[0], "messages") > 300, "{summary}");
    assert!(
        said.contains("lost to subscribers that were too slow"),
        "{said}"
    );
}

#[test]
fn it_stops_by_itself_and_refuses_what_cannot_be() {
    let tapped = Tapped::start(&["--for", "10ms"]);
    let mut process = tapped.process;
    let summary = process.json(0);
    assert_eq!(number(&summary, "received"), 0);
    let own = support::free_endpoint();
    for bound in ["--bind", "--watch-bind"] {
        let mut process = Pinfeed::start(&["tap", "--connect", &own, bound, &own, "--serve", ANY]);
        assert_eq!(process.finish().0.code(), Some(2), "{}", process.said);
        assert!(process.said.contains("itself is bound"), "{}", process.said);
    }
    let twice = ["tap", "--connect", &own, "--connect", &own, "--serve", ANY];
    let mut process = Pinfeed::start(&twice);
    assert_eq!(process.finish().0.code(), Some(2), "{}", process.said);
    assert!(process.said.contains("given twice"), "{}", process.said);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    for flag in ["--serve", "--bind", "--watch-bind"] {
        let mut process = Pinfeed::start(&[
            "tap",
            "--connect",
            "tcp://127.0.0.1:1",
            "--serve",
            ANY,
            flag,
            &taken,
        ]);
        let (status, _) = process.finish();
        assert_eq!(status.code(), Some(2), "{}", process.said);
        assert!(
            process.said.contains(&format!("{flag} = {taken}")),
            "{}",
            process.said
        );
    }
}
