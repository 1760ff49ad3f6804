//! Goal: what a black box delivers can be watched while it runs, by whoever is fast enough, and nobody waits for a
//! watcher; and its newest message of each topic is there for subscribers that come late.

mod support;

use std::{collections::HashMap, fs, sync::mpsc, thread};

use pinfeed::{
    Error,
    config::{Config, HandlerPanic},
    envelope::Envelope,
    lane::Quota,
    message::Message,
    patterns::{
        cache::{CacheBeside, CachePlan, Evict, Limits},
        copies::{Kind, Passed},
        ends::EndsPlan,
        tap::Watcher,
    },
    pipeline::Pipeline,
    publish::{
        Source,
        capture::{Capture, Speed},
    },
    shard::{shard_of, topic_hash},
    stop::Stop,
    worker::{Handler, handlers::Tapped},
};
use rustix::process::Signal;
use serde_json::Value;
use support::{
    LIMIT, Pinfeed, assert_all_delivered,
    control::ask,
    finish, number, patient_xpub,
    peer::{Door, message},
    wait_until,
};
use zmq::SocketType;

const ANY: &str = "tcp://127.0.0.1:*";

/// A black box between a publisher of the test and those who watch.
struct BlackBox {
    context: zmq::Context,
    publisher: zmq::Socket,
    process: Pinfeed,
    endpoint: String,
}

impl BlackBox {
    /// Starts one that says an endpoint behind `says`, if it does.
    fn start(says: Option<&str>, arguments: &[&str]) -> Self {
        let context = zmq::Context::new();
        let (publisher, upstream) = patient_xpub(&context);
        let fixed = ["run", "--json", "--workers", "2", "--connect", &upstream];
        let mut process = Pinfeed::start(&[&fixed[..], arguments].concat());
        let endpoint = says.map(|says| process.wait_for_line(says));
        assert_eq!(publisher.recv_bytes(0).unwrap(), b"\x01", "all topics");
        Self {
            context,
            publisher,
            process,
            endpoint: endpoint.unwrap_or_default(),
        }
    }

    fn publish(&self, frames: &[&[u8]]) {
        self.publisher.send_multipart(frames, 0).unwrap();
    }

    fn socket(&self, socket_type: SocketType) -> zmq::Socket {
        socket(&self.context, socket_type)
    }

    /// Publishes until a watcher sees it. Returns how many messages that took.
    fn poke_until_seen(&self, watcher: &zmq::Socket) -> u64 {
        let mut pokes = 0;
        wait_until("the watcher is there", || {
            self.publish(&[b"~", b"poke"]);
            pokes += 1;
            watcher.poll(zmq::POLLIN, 20).unwrap() > 0
        });
        pokes
    }
}

fn socket(context: &zmq::Context, socket_type: SocketType) -> zmq::Socket {
    let socket = context.socket(socket_type).unwrap();
    socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvhwm(0).unwrap();
    if socket_type == SocketType::SUB {
        socket.set_subscribe(b"").unwrap();
    }
    socket
}

fn name(index: u64) -> Vec<u8> {
    format!("topic-{index:04}").into_bytes()
}

fn body(index: u64) -> Vec<u8> {
    index.to_string().into_bytes()
}

#[test]
fn what_the_tap_shows_is_what_was_delivered() {
    const MESSAGES: u64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("capture");
    for socket_type in [SocketType::SUB, SocketType::PAIR] {
        let arguments = ["--tap", ANY, "--tap-file"];
        let arguments = [&arguments[..], &[file.to_str().unwrap()]].concat();
        let mut run = BlackBox::start(Some("watched on "), &arguments);
        let watcher = run.socket(socket_type);
        watcher.connect(&run.endpoint).unwrap();
        let pokes = run.poke_until_seen(&watcher);
        let mut seen: HashMap<Vec<u8>, u64> = HashMap::new();
        let mut left = MESSAGES;
        for index in 0..MESSAGES {
            run.publish(&[&name(index % 100), &body(index), b"", b"last"]);
            // What waits for the watcher has a limit.
            while index - (MESSAGES - left) > 5_000 {
                left -= take(&watcher, &mut seen);
            }
        }
        while left > 0 {
            left -= take(&watcher, &mut seen);
        }
        assert_eq!(seen.len(), 100);
        run.process.signal(Signal::TERM);
        let summary = run.process.json(143);
        assert_all_delivered(&summary, MESSAGES + pokes);
        for watcher in summary["watchers"].as_array().unwrap() {
            assert_eq!(number(watcher, "lost"), 0, "{summary}");
        }
        assert_eq!(
            number(&summary["watchers"][1], "written"),
            MESSAGES + pokes,
            "{summary}"
        );
        assert_capture(&file, MESSAGES);
    }
}

/// Takes a message from a watcher, and asserts that it is newer than others of its topic. Returns 0 for one that
/// is no part of the test.
fn take(watcher: &zmq::Socket, seen: &mut HashMap<Vec<u8>, u64>) -> u64 {
    let mut message = watcher.recv_multipart(0).unwrap();
    if message[0] == b"~" {
        return 0;
    }
    assert_eq!(message[2..], [b"".to_vec(), b"last".to_vec()]);
    let index = String::from_utf8(message[1].clone()).unwrap();
    let index: u64 = index.parse().unwrap();
    let before = seen.insert(message.remove(0), index);
    assert_eq!(before, index.checked_sub(100));
    1
}

/// Asserts that a capture holds all messages, those of each topic in order.
fn assert_capture(file: &std::path::Path, messages: u64) {
    let mut capture = Capture::open(file, Speed::Max).unwrap();
    let mut payload = Vec::new();
    let mut last: HashMap<String, u64> = HashMap::new();
    let mut found = 0;
    while capture.next(&mut payload).unwrap().is_some() {
        let line: Value = serde_json::from_slice(&payload).unwrap();
        payload.clear();
        let frames = line["frames"].as_array().unwrap();
        if frames[0] == "~" {
            continue;
        }
        found += 1;
        let index: u64 = frames[1].as_str().unwrap().parse().unwrap();
        let topic = frames[0].as_str().unwrap().to_owned();
        assert!(last.insert(topic, index) < Some(index));
    }
    assert_eq!(found, messages);
}

#[test]
fn nobody_waits_for_a_watcher_that_stands_still() {
    const MESSAGES: u64 = 4_000;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control");
    // Nobody reads standard error either, which is a pipe.
    let arguments = ["--tap", ANY, "--tap-show", "text", "--control"];
    let arguments = [&arguments[..], &[socket.to_str().unwrap()]].concat();
    let mut run = BlackBox::start(Some("watched on "), &arguments);
    let watcher = run.socket(SocketType::SUB);
    watcher.set_rcvhwm(1).unwrap();
    watcher.set_rcvbuf(4_096).unwrap();
    watcher.connect(&run.endpoint).unwrap();
    let pokes = run.poke_until_seen(&watcher);
    for index in 0..MESSAGES {
        run.publish(&[&name(index % 100), &[7; 20_000]]);
    }
    // Both stand still for as long as that takes.
    wait_until("all is delivered", || {
        number(&ask(&socket, "status"), "delivered") == pokes + MESSAGES
    });
    run.process.signal(Signal::TERM);
    let summary = run.process.json(143);
    let delivered = number(&summary, "delivered");
    assert_all_delivered(&summary, pokes + MESSAGES);
    for watcher in summary["watchers"].as_array().unwrap() {
        assert!(number(watcher, "lost") > 0, "{summary}");
        let all = number(watcher, "lost") + number(watcher, "written");
        assert!((delivered - pokes..=delivered).contains(&all), "{summary}");
    }
}

#[test]
fn the_terminal_shows_what_is_asked_for() {
    let arguments = ["--tap-show", "text", "--tap-topic", "BT", "--messages", "3"];
    let mut run = BlackBox::start(None, &arguments);
    for frames in [&[&b"ETH"[..], b"1"], &[b"BTC", b"\xff2"], &[b"BTC", b"3"]] {
        run.publish(frames);
    }
    let summary = run.process.json(0);
    let said = &run.process.said;
    assert!(said.contains("Z message  BTC  \\xff2\n"), "{said}");
    assert!(!said.contains("message  ETH"), "{said}");
    assert!(
        said.contains("2 copies to standard error, 0 lost"),
        "{said}"
    );
    assert_eq!(number(&summary["watchers"][0], "written"), 2);
    assert_eq!(summary["cache"], Value::Null);
}

#[test]
fn one_that_comes_late_has_all_values_of_the_black_box_at_once() {
    const TOPICS: u64 = 1_000;
    let mut run = BlackBox::start(Some("serving on "), &["--cache", ANY]);
    for round in 0..3 {
        for index in 0..TOPICS {
            run.publish(&[&name(index), &body(round), b"frame"]);
        }
    }
    let witness = run.socket(SocketType::SUB);
    witness.connect(&run.endpoint).unwrap();
    run.publish(&[b"~", b"end"]);
    // The workers' copies come in some order.
    let mut newest = 0;
    while newest < TOPICS + 1 {
        let message = witness.recv_multipart(0).unwrap();
        newest += u64::from(message[0] == b"~" || message[1] == body(2));
    }
    let late = run.socket(SocketType::SUB);
    late.connect(&run.endpoint).unwrap();
    for index in 0..TOPICS {
        let expected = [name(index), body(2), b"frame".to_vec()];
        assert_eq!(late.recv_multipart(0).unwrap(), expected);
    }
    assert_eq!(late.recv_multipart(0).unwrap()[1], b"end");
    run.publish(&[&name(7), b"live"]);
    assert_eq!(late.recv_multipart(0).unwrap()[1], b"live");
    run.process.signal(Signal::TERM);
    let summary = run.process.json(143);
    assert_all_delivered(&summary, 3 * TOPICS + 2);
    let cache = &summary["cache"];
    assert_eq!(number(cache, "received"), 3 * TOPICS + 2, "{summary}");
    assert_eq!(number(cache, "topics"), TOPICS + 1);
    assert_eq!(cache["balanced"], true);
    assert_eq!(number(cache, "lost"), 0);
}

#[test]
fn the_cache_ends_with_the_newest_of_each_topic() {
    const TOPICS: u64 = 200;
    const MESSAGES: u64 = 300_000;
    // Far more at once than may wait for the cache, and a subscriber that takes nothing.
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control");
    let arguments = [
        "--cache",
        ANY,
        "--cache-queue-max",
        "100000",
        "--control",
        socket.to_str().unwrap(),
    ];
    let mut run = BlackBox::start(Some("serving on "), &arguments);
    let stalled = run.socket(SocketType::SUB);
    stalled.set_rcvhwm(1).unwrap();
    stalled.set_rcvbuf(4_096).unwrap();
    stalled.connect(&run.endpoint).unwrap();
    run.publish(&[b"~", b"begin"]);
    assert_eq!(stalled.recv_multipart(0).unwrap()[1], b"begin");
    for index in 0..MESSAGES {
        run.publish(&[&name(index % TOPICS), &body(index), &[7; 200]]);
    }
    run.publish(&[b"~", b"end"]);
    wait_until("all is delivered", || {
        number(&ask(&socket, "status"), "delivered") == MESSAGES + 2
    });
    // The last pages may be under way still.
    let is_newest = |(topic, index): (&Vec<u8>, &u64)| {
        index + TOPICS >= MESSAGES && *topic == name(index % TOPICS)
    };
    wait_until("the cache has the newest", || {
        let late = run.socket(SocketType::SUB);
        late.connect(&run.endpoint).unwrap();
        let mut values: HashMap<Vec<u8>, u64> = HashMap::new();
        while values.len() < TOPICS as usize {
            let message = late.recv_multipart(0).unwrap();
            if message[0] != b"~" {
                let index = String::from_utf8_lossy(&message[1]).parse().unwrap();
                let before = values.insert(message[0].clone(), index);
                assert!(before < Some(index), "{before:?}, then {index}");
            }
        }
        values.iter().all(is_newest)
    });
    run.process.signal(Signal::TERM);
    let summary = run.process.json(143);
    assert_all_delivered(&summary, MESSAGES + 2);
    let cache = &summary["cache"];
    assert_eq!(number(cache, "received"), MESSAGES + 2, "{summary}");
    assert!(number(cache, "lost") > 0, "{summary}");
}

/// Panics at a message that asks for it.
struct Fragile;

impl Handler for Fragile {
    fn on_message(&mut self, message: &Message<'_>) {
        assert_ne!(message.frames().last(), Some(&b"panic"[..]));
    }
}

#[test]
fn a_worker_that_panics_keeps_no_copies_and_brings_back_no_old_value() {
    const TOPIC: &[u8] = b"A";
    let stop = Stop::default();
    let plan = CachePlan {
        ends: EndsPlan {
            connect: Vec::new(),
            bind: Vec::new(),
            serve: vec![ANY.to_owned()],
            waiting_bytes_max: 1 << 20,
        },
        subscribe: Vec::new(),
        envelope: None,
        limits: Limits {
            topics_max: 10,
            bytes_max: 1 << 20,
        },
        evict: Evict::Oldest,
        file: None,
        snapshots: Vec::new(),
        messages_max: u64::MAX,
    };
    let cache = CacheBeside::start(&plan, &stop).unwrap();
    let subscriber = socket(&zmq::Context::new(), SocketType::SUB);
    subscriber.connect(&cache.served()[0]).unwrap();
    let door = Door::open();
    let mut config = Config::connect(&door.endpoint, Envelope::Raw);
    config.workers.count = 2;
    config.workers.handler_panic = HandlerPanic::Isolate;
    let copier = cache.copier();
    let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), move |_| {
        Tapped::new(Fragile, vec![copier.clone()])
    })
    .unwrap();
    let mut publisher = door.accept();
    publisher.welcome(1);
    // Both in a batch, which has no end then.
    publisher.send(&[message(&[TOPIC, b"1"]), message(&[TOPIC, b"panic"])].concat());
    assert_eq!(subscriber.recv_multipart(0).unwrap()[1], b"1");
    wait_until("the worker has failed", || pipeline.look().dropped == 1);
    let shard = shard_of(topic_hash(TOPIC));
    let failed = pipeline.shards().unwrap()[shard];
    pipeline.move_shard(shard, 1 - failed).unwrap();
    wait_until("the shard has moved", || !pipeline.is_moving());
    publisher.send(&message(&[TOPIC, b"2"]));
    assert_eq!(subscriber.recv_multipart(0).unwrap()[1], b"2");
    stop.request();
    // With handlers that nobody has dropped.
    let outcome = finish(pipeline);
    let failure = &outcome.failure;
    assert!(
        matches!(failure, Some(Error::HandlerPanicked { .. })),
        "{failure:?}"
    );
    let (tell, ended) = mpsc::channel();
    thread::spawn(move || tell.send(cache.finish()).unwrap());
    let (lost, end) = ended.recv_timeout(LIMIT).expect("the cache ends");
    let (summary, _) = end.unwrap();
    assert_eq!((lost, summary.flow.received), (0, 2));
}

#[test]
fn what_a_relay_has_passed_on_is_counted_while_it_runs() {
    let (watcher, bound) = Watcher::relay("--tap", &[ANY.to_owned()]).unwrap();
    let mut copier = watcher.copier();
    let counters = copier.counters();
    let subscriber = socket(&zmq::Context::new(), SocketType::SUB);
    subscriber.connect(&bound[0]).unwrap();
    wait_until("a copy comes", || {
        copier.copy(&Passed {
            at_ns: 0,
            kind: Kind::Message,
            topic_bytes: None,
            frames: &[b"A"],
        });
        copier.flush();
        subscriber.poll(zmq::POLLIN, 20).unwrap() > 0
    });
    wait_until("it is counted", || counters.copied().written > 0);
    drop(copier);
    let (watched, outcome) = watcher.finish(LIMIT);
    outcome.unwrap();
    assert_eq!(watched.copied.lost, 0);
}

#[test]
fn a_watcher_that_fails_is_told_once_while_the_run_lasts() {
    let mut run = BlackBox::start(None, &["--tap-file", "/dev/full"]);
    run.publish(&[b"A", b"1"]);
    let start = "warning: a watcher has ended: ";
    let reason = run.process.wait_for_line(start);
    assert!(reason.starts_with("/dev/full: No space left"), "{reason}");
    run.process.signal(Signal::TERM);
    let (status, _) = run.process.finish();
    let said = &run.process.said;
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(said.matches(start).count(), 1, "{said}");
    assert!(
        said.contains("Error: watching: /dev/full: No space left"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    let own = support::free_endpoint();
    let balanced = ["--sharding", "balanced", "--connect", &own];
    let balanced = [&balanced[..], &["--cache", ANY]].concat();
    let feeds = format!(
        "[[lane]]\nname = \"a\"\n[[feed]]\nname = \"f\"\nenvelope = \"raw\"\n\
         [[feed.line]]\nlane = \"a\"\nconnect = [\"{own}\"]\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feeds.toml");
    fs::write(&path, feeds).unwrap();
    let path = path.to_str().unwrap();
    let in_file = format!("{path}:8:12: feed[0].line[0].connect[0] = {own}: this process itself");
    let by_flag = format!("--connect = {own}: this process itself is bound");
    for (arguments, expected) in [
        (&["--connect", &own, "--tap", &taken][..], "--tap = tcp://"),
        (&["--connect", &own, "--cache", &taken], "--cache = tcp://"),
        (&["--connect", &own, "--cache", &own], &by_flag),
        (&["--connect", &own, "--tap", &own], &by_flag),
        (&[path, "--cache", &own], &in_file),
        (&[path, "--tap", &own], &in_file),
        (&balanced, "by turns"),
        (&["--connect", &own, "--tap-topic", "A"], "--tap-show"),
    ] {
        let mut process = Pinfeed::start(&[&["run", "--for", "10ms"], arguments].concat());
        let (status, _) = process.finish();
        assert_eq!(status.code(), Some(2), "{}", process.said);
        assert!(process.said.contains(expected), "{}", process.said);
    }
}

#[test]
fn a_run_that_is_refused_leaves_no_socket_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let own = format!("ipc://{}", path.display());
    let elsewhere = support::free_endpoint();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    // One that is refused at once, when all is started, and between the two.
    for more in [
        &["--connect", &own][..],
        &["--connect", &elsewhere, "--cores", "4096"],
        &["--bind", &taken],
        &["--connect", &elsewhere, "--control", "/nosuch/socket"],
    ] {
        for flag in ["--tap", "--cache"] {
            let mut process = Pinfeed::start(&[&["run", flag, &own], more].concat());
            let (status, _) = process.finish();
            assert_eq!(status.code(), Some(2), "{}", process.said);
            assert!(!path.exists(), "{flag} {more:?}");
        }
    }
}
