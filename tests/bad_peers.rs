//! Goal: a peer that breaks the protocol, lies about sizes, stops half-way or never begins loses its own
//! connection and nothing else: the reason is counted by its name, memory stays bounded, and a good
//! publisher on the same lane has every message delivered, in order.
//!
//! The native engine's. What libzmq makes of such peers is its own affair, as far as `limits.rs` goes.

mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use pinfeed::{
    config::{Config, Engine},
    envelope::Envelope,
    lane::Quota,
    ledger::Totals,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::Handler,
    zmtp::Violation,
};
use support::{
    LIMIT, finish,
    peer::{Door, Peer, READY, command, frame, greeting, message},
    wait_until,
};

const MIB: usize = 1024 * 1024;

/// Messages that the handler has seen.
#[derive(Default)]
struct Seen {
    good: AtomicU64,
    bad: AtomicU64,
}

/// Checks that the good publisher's numbers have no gap.
struct InOrder(Arc<Seen>);

impl Handler for InOrder {
    fn on_message(&mut self, message: &Message<'_>) {
        if message.topic() == b"good" {
            let number = u64::from_be_bytes(message.payload().try_into().expect("a number"));
            assert_eq!(self.0.good.fetch_add(1, Relaxed), number);
        } else {
            self.0.bad.fetch_add(1, Relaxed);
        }
    }
}

/// A lane with a good publisher that never rests.
struct Lane {
    pipeline: Pipeline<InOrder>,
    stop: Stop,
    seen: Arc<Seen>,
    publishing: Arc<AtomicBool>,
    good: JoinHandle<(u64, zmq::Socket)>,
    /// Where peers may connect to.
    endpoint: String,
}

impl Lane {
    fn start(configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::bind("tcp://127.0.0.1:*", Envelope::Raw);
        config.engine = Some(Engine::Native);
        config.workers.count = 1;
        config.receive.reconnect_ms = 1;
        config.receive.reconnect_max_ms = 10;
        configure(&mut config);
        let (stop, seen) = (Stop::default(), Arc::<Seen>::default());
        let pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
            InOrder(seen.clone())
        })
        .expect("the pipeline starts");
        let endpoint = pipeline.endpoints()[0].clone();
        let publishing = Arc::new(AtomicBool::new(true));
        let good = thread::spawn({
            let (endpoint, publishing) = (endpoint.clone(), publishing.clone());
            move || publish(&endpoint, &publishing)
        });
        wait_until("the good publisher is there", || {
            seen.good.load(Relaxed) > 0
        });
        Self {
            pipeline,
            stop,
            seen,
            publishing,
            good,
            endpoint,
        }
    }

    fn connect(&self) -> Peer {
        Peer::connect(&self.endpoint)
    }

    /// A peer that has done nothing wrong yet.
    fn welcome(&self) -> Peer {
        let mut peer = self.connect();
        peer.welcome(1);
        peer
    }

    fn totals(&mut self) -> Totals {
        self.pipeline.look()
    }

    /// Waits until the ledger says so.
    fn wait_for(&mut self, what: &str, done: impl Fn(&Totals) -> bool) {
        wait_until(what, || done(&self.pipeline.look()));
    }

    /// Waits until the good publisher has got some more messages through.
    fn goes_on(&self) {
        let before = self.seen.good.load(Relaxed);
        wait_until("the good publisher's messages come", || {
            self.seen.good.load(Relaxed) > before + 100
        });
    }

    /// Waits for all that the good publisher has sent.
    fn finish(self) -> Totals {
        self.goes_on();
        self.publishing.store(false, Relaxed);
        let (sent, _socket) = self.good.join().expect("the publisher does not panic");
        wait_until("all good messages are delivered", || {
            self.seen.good.load(Relaxed) == sent
        });
        self.stop.request();
        let outcome = finish(self.pipeline);
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        assert!(outcome.totals.balanced());
        outcome.totals
    }
}

/// Publishes numbered messages until told to stop. Returns how many, and the connection.
fn publish(endpoint: &str, publishing: &AtomicBool) -> (u64, zmq::Socket) {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::XPUB).unwrap();
    socket.set_sndhwm(0).unwrap();
    socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
    socket.connect(endpoint).unwrap();
    assert_eq!(socket.recv_bytes(0).unwrap(), [1]);
    let mut sent = 0_u64;
    while publishing.load(Relaxed) {
        for _ in 0..20 {
            let frames = [&b"good"[..], &sent.to_be_bytes()];
            socket.send_multipart(frames, 0).unwrap();
            sent += 1;
        }
        // A pace, not a wait for anything.
        thread::sleep(Duration::from_millis(1));
    }
    (sent, socket)
}

/// Each violation, with what a peer sends that is guilty of it and of nothing before.
fn violations() -> Vec<(Violation, Vec<u8>)> {
    let null = greeting(1, b"NULL");
    let from_greeting = |rest: &[u8]| [&null, rest].concat();
    let from_ready = |rest: &[u8]| [&null, READY, rest].concat();
    let length = |flags: u8, bytes: u64| [&[flags][..], &bytes.to_be_bytes()].concat();
    let metadata = |socket_type: &[u8]| {
        let name = b"\x0bSocket-Type\0\0\0";
        [name, &[socket_type.len() as u8][..], socket_type].concat()
    };
    let old_version = b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\0";
    vec![
        (Violation::NotZmtp, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (Violation::NotZmtp, vec![0; 64]),
        (Violation::OldVersion, old_version.to_vec()),
        (Violation::WrongMechanism, greeting(1, b"PLAIN")),
        (Violation::WrongMechanism, greeting(1, b"CURVE")),
        (Violation::NotReady, from_greeting(&message(&[b"hello"]))),
        (
            Violation::NotReady,
            from_greeting(&command(b"PING", b"\0\0")),
        ),
        (
            Violation::WrongSocketType,
            from_greeting(&command(b"READY", &metadata(b"SUB"))),
        ),
        (
            Violation::WrongSocketType,
            from_greeting(&command(b"READY", &metadata(b"PUSH"))),
        ),
        (
            Violation::WrongSocketType,
            from_greeting(&command(b"READY", b"")),
        ),
        (
            Violation::Refused,
            from_greeting(&command(b"ERROR", b"\x07go away")),
        ),
        (Violation::Refused, from_ready(&command(b"ERROR", b"\0"))),
        (Violation::ReservedFlags, from_ready(b"\x08")),
        (Violation::ReservedFlags, from_ready(b"\0\x02ok\x80\0")),
        (Violation::ReservedFlags, from_ready(b"\x01\x01a\x40")),
        (Violation::CommandWithMore, from_ready(b"\x05\x05\x04PONG")),
        (
            Violation::CommandInMessage,
            from_ready(b"\x01\x01a\x04\x05\x04PONG"),
        ),
        (Violation::FrameTooLarge, from_ready(&length(2, 1 << 63))),
        (Violation::FrameTooLarge, from_ready(&length(2, u64::MAX))),
        (
            Violation::FrameTooLarge,
            from_ready(&length(2, MIB as u64 + 1)),
        ),
        (
            Violation::FrameTooLarge,
            from_ready(&[b"\x01\x01a".to_vec(), length(3, 1 << 40)].concat()),
        ),
        (Violation::CommandTooLarge, from_ready(&length(6, 1 << 63))),
        (
            Violation::CommandTooLarge,
            from_greeting(&length(6, 1 << 63)),
        ),
        (
            Violation::MalformedCommand,
            from_ready(&command(b"PING", b"\0")),
        ),
        (
            Violation::MalformedCommand,
            from_greeting(&command(b"READY", b"\x0bSocket-Type\xff\xff\xff\xffPUB")),
        ),
        (Violation::MalformedCommand, from_ready(&frame(4, b""))),
    ]
}

fn count_of(totals: &Totals, violation: Violation) -> u64 {
    totals.violations[violation as usize]
}

#[test]
fn who_connects_and_breaks_the_protocol() {
    let mut lane = Lane::start(|_| {});
    let violations = violations();
    for (violation, bytes) in &violations {
        let before = lane.totals();
        // At once, and in pieces.
        for piece_bytes in [bytes.len(), 1, 7] {
            let mut peer = lane.connect();
            // It may be cut off before it has sent all.
            bytes.chunks(piece_bytes).all(|piece| peer.try_send(piece));
            peer.wait_for_end();
        }
        let counted = count_of(&before, *violation) + 3;
        lane.wait_for(violation.name(), |totals| {
            count_of(totals, *violation) == counted
        });
        let totals = lane.totals();
        assert_eq!(totals.protocol_errors(), before.protocol_errors() + 3);
        lane.goes_on();
    }
    let totals = lane.finish();
    for violation in Violation::ALL {
        assert!(count_of(&totals, violation) > 0, "{violation:?} was tried");
    }
    let after_handshake = violations.iter().filter(|(_, bytes)| {
        let ready = bytes.windows(READY.len()).any(|part| part == READY);
        ready && bytes.len() > 64 + READY.len()
    });
    let after_handshake = 3 * after_handshake.count() as u64;
    let all = 3 * violations.len() as u64;
    // The good publisher has connected, too.
    assert_eq!(totals.connects, 1 + after_handshake);
    assert_eq!(totals.disconnects, after_handshake);
    assert_eq!(totals.handshake_failures, all - after_handshake);
    // Of some, what is wrong comes within a message.
    let began = violations.iter().filter(|(_, bytes)| {
        let ready = bytes.windows(READY.len()).position(|part| part == READY);
        let sent = ready.map(|at| &bytes[at + READY.len()..]);
        sent.is_some_and(|sent| matches!(sent.first(), Some(1..=3)))
    });
    assert_eq!(totals.truncated, 3 * began.count() as u64);
}

#[test]
fn whom_the_lane_connects_to_and_breaks_the_protocol() {
    for (violation, bytes) in violations() {
        let door = Door::open();
        let mut lane = Lane::start(|config| {
            let line = &mut config.feeds[0].lines[0];
            line.connect.push(door.endpoint.clone());
        });
        // And again: a publisher may be mended.
        for _ in 0..2 {
            let mut peer = door.accept();
            peer.try_send(&bytes);
            peer.wait_for_end();
        }
        let mut peer = door.accept();
        peer.welcome(1);
        peer.send(&message(&[b"mended"]));
        lane.wait_for(violation.name(), |totals| count_of(totals, violation) == 2);
        let totals = lane.finish();
        assert_eq!(totals.protocol_errors(), 2, "{violation:?}");
    }
}

/// What had come of a message when its connection ended is thrown away, and the message counted.
#[test]
fn who_leaves_within_a_message() {
    let mut lane = Lane::start(|_| {});
    let whole = message(&[b"bad", b"whole"]);
    let large = [&[2][..], &(MIB as u64).to_be_bytes(), &[7; 200_000]].concat();
    let within: [&[u8]; 6] = [
        b"\0",
        b"\0\x05cut",
        b"\x01\x03bad",
        b"\x01\x03bad\0\x05cut",
        b"\x02\0\0\0",
        &large,
    ];
    for (number, part) in (1..).zip(within) {
        let mut peer = lane.welcome();
        peer.send(&[&whole, part].concat());
        drop(peer);
        lane.wait_for("it is counted", |totals| totals.truncated == number);
        assert_eq!(lane.totals().disconnects, number);
    }
    // Between two messages nothing is lost.
    let mut peer = lane.welcome();
    peer.send(&whole);
    drop(peer);
    let all = within.len() as u64 + 1;
    lane.wait_for("it is gone", |totals| totals.disconnects == all);
    let seen = lane.seen.clone();
    let totals = lane.finish();
    assert_eq!(totals.truncated, within.len() as u64);
    assert_eq!(totals.protocol_errors(), 0);
    assert_eq!(seen.bad.load(Relaxed), all, "the whole ones");
}

/// Of any version, with heartbeats or without.
#[test]
fn who_stops_within_a_message_or_a_command() {
    for heartbeat_ms in [0, 50] {
        let mut lane = Lane::start(|config| {
            config.receive.heartbeat_ms = heartbeat_ms;
            config.receive.heartbeat_timeout_ms = 2_000;
        });
        let messages: [&[u8]; 3] = [b"\0", b"\x01\x03bad\0\x05cut", b"\x02\0\0\0"];
        let commands: [&[u8]; 2] = [b"\x04", b"\x04\x05\x04PI"];
        let mut stuck = Vec::new();
        for minor in [0, 1] {
            for part in messages.into_iter().chain(commands) {
                let mut peer = lane.connect();
                peer.welcome(minor);
                peer.send(part);
                stuck.push(peer);
            }
        }
        // Silent as well, but between two messages: only the one that should answer heartbeats and does not has to go.
        let mut silent = lane.connect();
        silent.welcome(0);
        lane.goes_on();
        let all = stuck.len() as u64;
        for peer in stuck {
            peer.wait_for_end();
        }
        lane.wait_for("all are counted", |totals| totals.message_timeouts == all);
        lane.goes_on();
        silent.send(&message(&[b"bad", b"late"]));
        wait_until("what came late is delivered", || {
            lane.seen.bad.load(Relaxed) == 1
        });
        let totals = lane.finish();
        assert_eq!(totals.disconnects, all);
        assert_eq!(totals.truncated, 2 * messages.len() as u64);
        assert_eq!(totals.heartbeat_timeouts, 0);
    }
}

/// Its host is slow, but it goes on.
#[test]
fn who_takes_long_for_a_message() {
    let mut lane = Lane::start(|config| {
        config.receive.heartbeat_ms = 100;
        config.receive.heartbeat_timeout_ms = 1_900;
    });
    let mut slow = lane.welcome();
    for byte in message(&[b"bad", &[b'x'; 40]]) {
        slow.send(&[byte]);
        // A pace, not a wait for anything: 3.3 s in all, of which no part is silent for two.
        thread::sleep(Duration::from_millis(70));
    }
    let seen = lane.seen.clone();
    wait_until("it is delivered", || seen.bad.load(Relaxed) == 1);
    let totals = lane.totals();
    assert_eq!((totals.message_timeouts, totals.disconnects), (0, 0));
    lane.finish();
}

#[test]
fn who_never_finishes_its_handshake() {
    let mut lane = Lane::start(|config| config.receive.handshake_timeout_ms = 300);
    let null = greeting(1, b"NULL");
    let stops: [&[u8]; 5] = [
        b"",
        &null[..1],
        &null[..63],
        &null,
        &[&null, &READY[..READY.len() - 1]].concat(),
    ];
    let peers = stops.map(|start| {
        let mut peer = lane.connect();
        peer.send(start);
        peer
    });
    // A byte now and then does not buy time.
    let mut slow = lane.connect();
    for byte in null {
        if !slow.try_send(&[byte]) {
            break;
        }
        // A pace, not a wait for anything.
        thread::sleep(Duration::from_millis(20));
    }
    slow.wait_for_end();
    for peer in peers {
        peer.wait_for_end();
    }
    lane.wait_for("all are counted", |totals| totals.handshake_timeouts == 6);
    let totals = lane.finish();
    assert_eq!((totals.handshake_failures, totals.connects), (6, 1));
}

#[test]
fn whom_the_lane_connects_to_and_never_finishes_its_handshake() {
    let door = Door::open();
    let mut lane = Lane::start(|config| {
        config.receive.handshake_timeout_ms = 300;
        let line = &mut config.feeds[0].lines[0];
        line.connect.push(door.endpoint.clone());
    });
    door.accept().wait_for_end();
    let mut peer = door.accept();
    peer.welcome(1);
    lane.wait_for("it is connected", |totals| totals.connects == 2);
    let totals = lane.finish();
    assert_eq!(
        (totals.handshake_timeouts, totals.handshake_failures),
        (1, 1)
    );
}

fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("the process has one");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    1024 * kilobytes
        .and_then(|number| number.parse::<usize>().ok())
        .expect("a number")
}

/// Any of the three would take several times what is allowed, if it were given what it asks for.
#[test]
fn who_wants_memory() {
    const ALLOWED: usize = 32 * MIB;
    let mut lane = Lane::start(|config| {
        config.receive.message_bytes_max = 64 * MIB as u32;
        // They are kept, to add up.
        config.receive.heartbeat_ms = 0;
    });
    let pings = command(b"PING", b"\0\0sixteen bytes ..").repeat(1_000_000);
    let more = frame(1, &[0; 200]).repeat(20_000);
    lane.goes_on();
    let before = resident_bytes();
    let mut peers = Vec::new();
    for _ in 0..16 {
        peers.push(lane.welcome());
    }
    // Announce large messages, and send next to nothing of them.
    let length = (64 * MIB as u64).to_be_bytes();
    for peer in &mut peers {
        peer.send(&[&[2][..], &length, &[0; 1_000]].concat());
    }
    lane.goes_on();
    for peer in &mut peers {
        peer.send(&[0; 1_000]);
    }
    lane.goes_on();
    // Ask, and never read an answer: more than the kernel holds of them.
    for number in 1..=4 {
        let mut peer = lane.welcome();
        peer.send(&pings);
        peer.send(&message(&[b"bad"]));
        peers.push(peer);
        wait_until("all is read", || lane.seen.bad.load(Relaxed) == number);
    }
    // Never end a message.
    for _ in 0..16 {
        let mut peer = lane.welcome();
        peer.send(&more);
        peers.push(peer);
    }
    lane.goes_on();
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < ALLOWED, "{grown} bytes");
    assert_eq!(lane.totals().disconnects, 0);
    let all = peers.len() as u64;
    drop(peers);
    lane.wait_for("all are gone", |totals| totals.disconnects == all);
    lane.finish();
}

/// Sends as fast as it can, so that there is always more to read from it.
#[test]
fn who_never_rests() {
    let lane = Lane::start(|_| {});
    // More than a read takes, at once.
    let block = message(&[b"bad"]).repeat(200_000);
    let flooding = Arc::new(AtomicBool::new(true));
    let flood = thread::spawn({
        let (mut peer, flooding) = (lane.welcome(), flooding.clone());
        move || {
            let mut blocks = 0;
            while flooding.load(Relaxed) {
                peer.send(&block);
                blocks += 1;
            }
            (blocks, peer)
        }
    });
    wait_until("the flood has begun", || lane.seen.bad.load(Relaxed) > 0);
    for _ in 0..20 {
        let before = lane.seen.bad.load(Relaxed);
        lane.goes_on();
        wait_until("and so does the flood", || {
            lane.seen.bad.load(Relaxed) > before
        });
    }
    flooding.store(false, Relaxed);
    let (blocks, _peer) = flood.join().expect("it does not panic");
    let seen = lane.seen.clone();
    wait_until("all of the flood is delivered", || {
        seen.bad.load(Relaxed) == blocks * 200_000
    });
    lane.finish();
}
