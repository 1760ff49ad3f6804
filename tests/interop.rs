//! Goal: whoever publishes, and by whichever engine it is received, the same frames arrive in the same
//! order: libzmq's PUB and XPUB, the pure Rust `zeromq`, and a publisher by hand that speaks ZMTP 3.0 or
//! 3.1. pyzmq has `foreign_publisher.rs` to itself.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use pinfeed::{
    clock::Deadline,
    config::{Config, Engine},
    envelope::Envelope,
    lane::Quota,
    ledger::Totals,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::Handler,
};
use support::{
    ENGINES, LIMIT, finish,
    peer::{Door, Peer, command, frame, greeting, message, subscription},
    wait_until,
};
use zeromq::{Socket as _, SocketSend as _, ZmqMessage};

/// What a publisher that cannot see its subscribers sends until one is there.
const PROBE: &[u8] = b"is anyone there";
const LAST: &[u8] = b"the last one";
/// What the last one starts with.
const LAST_TOPIC: &str = "the last";

type Frames = Vec<Vec<u8>>;

/// Messages of 1 to 5 frames, with empty ones in every place, around the sizes where the form of a frame
/// changes and where buffers end.
fn messages() -> Vec<Frames> {
    let filled = |bytes: usize| -> Vec<u8> { (0..bytes).map(|at| (at * 31) as u8).collect() };
    let mut messages = vec![vec![b"topic".to_vec()], vec![Vec::new()]];
    for count in 1..=5 {
        messages.push((0..count).map(|at| filled(7 * at)).collect());
        messages.push((0..count).map(|at| filled(200 * at)).collect());
        messages.push(vec![Vec::new(); count]);
    }
    for bytes in [255, 256, 8_191, 8_192, 65_535, 131_072, 262_144, 1_000_000] {
        messages.push(vec![filled(bytes)]);
        messages.push(vec![b"topic".to_vec(), filled(bytes), Vec::new()]);
    }
    // Many small ones, so that reads end within some of them.
    for number in 0..5_000_u32 {
        messages.push(vec![b"small".to_vec(), number.to_be_bytes().to_vec()]);
    }
    messages
}

fn slices(frames: &Frames) -> Vec<&[u8]> {
    frames.iter().map(Vec::as_slice).collect()
}

/// Keeps what comes between the probes and the last message.
#[derive(Default)]
struct Keep {
    kept: Vec<Frames>,
    last: Arc<AtomicBool>,
}

impl Handler for Keep {
    fn on_message(&mut self, message: &Message<'_>) {
        let frames: Frames = message.frames().map(<[u8]>::to_vec).collect();
        if frames == [LAST] {
            self.last.store(true, Relaxed);
        } else if frames != [PROBE] {
            self.kept.push(frames);
        }
    }
}

struct Subscriber {
    pipeline: Pipeline<Keep>,
    stop: Stop,
    last: Arc<AtomicBool>,
}

impl Subscriber {
    /// Starts on one worker, so that all messages are in one order.
    fn start(engine: Engine, mut config: Config) -> Self {
        config.engine = Some(engine);
        config.workers.count = 1;
        let (stop, last) = (Stop::default(), Arc::<AtomicBool>::default());
        let pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| Keep {
            kept: Vec::new(),
            last: last.clone(),
        });
        Self {
            pipeline: pipeline.expect("the pipeline starts"),
            stop,
            last,
        }
    }

    fn bound(engine: Engine) -> (Self, String) {
        let config = Config::bind("tcp://127.0.0.1:*", Envelope::Raw);
        let subscriber = Self::start(engine, config);
        let endpoint = subscriber.pipeline.endpoints()[0].clone();
        (subscriber, endpoint)
    }

    fn has_received(&mut self) -> bool {
        self.pipeline.look().received > 0
    }

    /// Waits for the last message, and returns those before it.
    fn finish(self) -> (Totals, Vec<Frames>) {
        wait_until("the last message has come", || self.last.load(Relaxed));
        self.stop.request();
        let mut outcome = finish(self.pipeline);
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        assert!(outcome.totals.balanced());
        assert_eq!(outcome.totals.rejected(), 0);
        (outcome.totals, outcome.handlers.remove(0).kept)
    }

    /// As [`finish`](Self::finish), and asserts that one connection brought these.
    fn has_received_all(self, expected: &[Frames], who: &str) {
        let (totals, kept) = self.finish();
        assert_eq!(kept.len(), expected.len(), "{who}");
        for (index, (kept, expected)) in kept.iter().zip(expected).enumerate() {
            // Not `assert_eq`: a megabyte does not read well.
            assert!(kept == expected, "{who}: message {index} is another");
        }
        assert_eq!((totals.connects, totals.disconnects), (1, 0), "{who}");
        assert_eq!(totals.protocol_errors(), 0, "{who}");
    }
}

/// A libzmq publisher and a subscriber, one of which has bound what the other connects to.
fn with_libzmq(engine: Engine, socket: &zmq::Socket, binds: bool) -> Subscriber {
    socket.set_sndhwm(0).unwrap();
    socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
    if binds {
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        Subscriber::start(engine, Config::connect(&endpoint, Envelope::Raw))
    } else {
        let (subscriber, endpoint) = Subscriber::bound(engine);
        socket.connect(&endpoint).unwrap();
        subscriber
    }
}

#[test]
fn libzmq() {
    let messages = messages();
    let context = zmq::Context::new();
    for engine in ENGINES {
        for kind in [zmq::PUB, zmq::XPUB] {
            for binds in [true, false] {
                let who = format!("{engine:?} {kind:?} binds: {binds}");
                let socket = context.socket(kind).unwrap();
                let mut subscriber = with_libzmq(engine, &socket, binds);
                if kind == zmq::XPUB {
                    assert_eq!(socket.recv_bytes(0).unwrap(), [1], "{who}");
                } else {
                    wait_until("the subscription is there", || {
                        socket.send(PROBE, 0).unwrap();
                        subscriber.has_received()
                    });
                }
                for frames in &messages {
                    socket.send_multipart(frames, 0).unwrap();
                }
                socket.send(LAST, 0).unwrap();
                subscriber.has_received_all(&messages, &who);
            }
        }
    }
}

#[test]
fn up_to_16_mib() {
    const MIB: usize = 1024 * 1024;
    let context = zmq::Context::new();
    let mut messages = Vec::new();
    for bytes in [0, 1, 262_143, 262_145, MIB, 3 * MIB + 1, 16 * MIB] {
        let body: Vec<u8> = (0..bytes).map(|at| (at / 251) as u8).collect();
        messages.push(vec![b"between".to_vec()]);
        messages.push(vec![body]);
    }
    messages.push((0..5).map(|at| vec![at as u8; 3 * MIB]).collect());
    for engine in ENGINES {
        let socket = context.socket(zmq::XPUB).unwrap();
        socket.set_sndhwm(0).unwrap();
        socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        let mut config = Config::connect(&endpoint, Envelope::Raw);
        config.receive.message_bytes_max = 16 * MIB as u32;
        let subscriber = Subscriber::start(engine, config);
        assert_eq!(socket.recv_bytes(0).unwrap(), [1]);
        for frames in &messages {
            socket.send_multipart(frames, 0).unwrap();
        }
        socket.send(LAST, 0).unwrap();
        subscriber.has_received_all(&messages, engine.name());
    }
}

#[test]
fn pure_rust() {
    let messages = messages();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for engine in ENGINES {
        for binds in [true, false] {
            let (subscriber, _socket) = runtime.block_on(async {
                let mut socket = zeromq::PubSocket::new();
                let mut subscriber = if binds {
                    let bound = socket.bind("tcp://127.0.0.1:0").await.expect("a port");
                    let config = Config::connect(&bound.to_string(), Envelope::Raw);
                    Subscriber::start(engine, config)
                } else {
                    let (subscriber, endpoint) = Subscriber::bound(engine);
                    socket.connect(&endpoint).await.expect("it listens");
                    subscriber
                };
                let deadline = Deadline::after(LIMIT);
                while !subscriber.has_received() {
                    assert!(!deadline.passed(), "no subscription came");
                    socket
                        .send(ZmqMessage::from(PROBE.to_vec()))
                        .await
                        .expect("no peer");
                    tokio::task::yield_now().await;
                }
                for frames in messages.iter().chain([&vec![LAST.to_vec()]]) {
                    let (first, rest) = frames.split_first().expect("a frame");
                    let mut message = ZmqMessage::from(first.clone());
                    for frame in rest {
                        message.push_back(frame.clone().into());
                    }
                    socket.send(message).await.expect("the subscriber");
                }
                (subscriber, socket)
            });
            let who = format!("{engine:?} binds: {binds}");
            subscriber.has_received_all(&messages, &who);
        }
    }
}

/// Calls `publish` with the publisher's end of a connection, made from either side.
fn by_hand(engine: Engine, publish: impl Fn(Peer) -> Peer) {
    let (door, messages) = (Door::open(), messages());
    let stream: Vec<u8> = messages
        .iter()
        .flat_map(|frames| message(&slices(frames)))
        .chain(message(&[LAST]))
        .collect();
    for binds in [true, false] {
        let (subscriber, peer) = if binds {
            let config = Config::connect(&door.endpoint, Envelope::Raw);
            (Subscriber::start(engine, config), door.accept())
        } else {
            let (subscriber, endpoint) = Subscriber::bound(engine);
            (subscriber, Peer::connect(&endpoint))
        };
        let mut peer = publish(peer);
        peer.send(&stream);
        subscriber.has_received_all(&messages, &format!("{engine:?} binds: {binds}"));
    }
}

#[test]
fn by_hand_in_either_version() {
    for engine in ENGINES {
        for minor in [0, 1, 2] {
            by_hand(engine, |mut peer| {
                peer.welcome(minor);
                peer
            });
        }
    }
}

#[test]
fn subscriptions_are_of_the_publishers_version() {
    for engine in ENGINES {
        for minor in [0, 1] {
            let door = Door::open();
            let mut config = Config::connect(&door.endpoint, Envelope::Raw);
            let long = "T".repeat(300);
            config.feeds[0].subscribe = vec!["BTC".to_owned(), long.clone(), LAST_TOPIC.to_owned()];
            let subscriber = Subscriber::start(engine, config);
            let mut peer = door.accept();
            peer.shake_hands(minor);
            let mut got = [peer.read_frame(), peer.read_frame(), peer.read_frame()];
            let mut expected =
                ["BTC", &long, LAST_TOPIC].map(|prefix| subscription(minor, prefix.as_bytes()));
            got.sort();
            expected.sort();
            assert_eq!(got, expected, "{engine:?} minor {minor}");
            peer.send(&message(&[b"BTC-USD", b"1"]));
            peer.send(&message(&[LAST]));
            let (_, kept) = subscriber.finish();
            assert_eq!(kept, [[b"BTC-USD".to_vec(), b"1".to_vec()]]);
        }
    }
}

/// What is legal, but what no library sends.
#[test]
fn unusual_forms() {
    for engine in ENGINES {
        let door = Door::open();
        let config = Config::connect(&door.endpoint, Envelope::Raw);
        let subscriber = Subscriber::start(engine, config);
        let mut peer = door.accept();
        // Metadata that is not ours, a name in other letters, the whole handshake byte by byte.
        let ready = command(
            b"READY",
            b"\x08Identity\0\0\0\x02id\x0bsocket-type\0\0\0\x04XPUB\x05X-New\0\0\0\0",
        );
        for byte in [greeting(1, b"NULL"), ready].concat() {
            peer.send(&[byte]);
        }
        peer.meet();
        assert_eq!(peer.read_command(b"SUBSCRIBE"), b"");
        // Short bodies in the long form, commands that nobody knows yet, and all in small pieces.
        let long_form = |flags: u8, body: &[u8]| -> Vec<u8> {
            [&[flags | 2][..], &(body.len() as u64).to_be_bytes(), body].concat()
        };
        let stream = [
            long_form(1, b"topic"),
            long_form(0, b""),
            command(b"NEWS", &[7; 300]),
            frame(0, b"one"),
            long_form(4, b"\x04NEWS"),
            message(&[LAST]),
        ]
        .concat();
        for piece in stream.chunks(5) {
            peer.send(piece);
        }
        let (_, kept) = subscriber.finish();
        let expected: [Frames; 2] = [vec![b"topic".to_vec(), Vec::new()], vec![b"one".to_vec()]];
        assert_eq!(kept, expected, "{engine:?}");
    }
}

#[test]
fn a_publishers_heartbeats_are_answered_with_their_context() {
    for engine in ENGINES {
        by_hand(engine, |mut peer| {
            peer.welcome(1);
            for context_bytes in 0..=16_u8 {
                let context: Vec<u8> = (0..context_bytes).collect();
                peer.send(&command(b"PING", &[b"\0\0", &context[..]].concat()));
                assert_eq!(peer.read_command(b"PONG"), context, "{engine:?}");
            }
            peer
        });
    }
}

/// Or libzmq would hang up: what it sends itself does not count.
#[test]
fn libzmqs_heartbeats_are_answered() {
    for engine in ENGINES {
        let context = zmq::Context::new();
        let socket = context.socket(zmq::XPUB).unwrap();
        socket.set_heartbeat_ivl(50).unwrap();
        socket.set_heartbeat_timeout(500).unwrap();
        let subscriber = with_libzmq(engine, &socket, true);
        assert_eq!(socket.recv_bytes(0).unwrap(), [1]);
        let long_enough = Deadline::after(Duration::from_millis(1_200));
        let mut sent = Vec::new();
        while !long_enough.passed() {
            socket.send("tick", 0).unwrap();
            sent.push(vec![b"tick".to_vec()]);
            // A pace, not a wait for anything.
            thread::sleep(Duration::from_millis(1));
        }
        socket.send(LAST, 0).unwrap();
        subscriber.has_received_all(&sent, engine.name());
    }
}

/// Whatever comes shows that a publisher lives.
#[test]
fn a_publisher_that_answers_heartbeats_with_messages_is_kept() {
    let door = Door::open();
    let mut config = Config::connect(&door.endpoint, Envelope::Raw);
    (
        config.receive.heartbeat_ms,
        config.receive.heartbeat_timeout_ms,
    ) = (150, 600);
    let subscriber = Subscriber::start(Engine::Native, config);
    let mut peer = door.accept();
    peer.welcome(1);
    // For longer than silence would have been borne.
    for _ in 0..8 {
        peer.read_command(b"PING");
        peer.send(&message(&[b"alive"]));
    }
    peer.send(&message(&[LAST]));
    subscriber.has_received_all(&vec![vec![b"alive".to_vec()]; 8], "native");
}

/// Libzmq leaves it to the kernel, because it reads no answers while a slow worker makes its lane wait.
#[test]
fn a_publisher_that_never_answers_heartbeats_is_given_up_and_asked_again() {
    let door = Door::open();
    let mut config = Config::connect(&door.endpoint, Envelope::Raw);
    (
        config.receive.heartbeat_ms,
        config.receive.heartbeat_timeout_ms,
    ) = (20, 200);
    let subscriber = Subscriber::start(Engine::Native, config);
    let mut peer = door.accept();
    peer.welcome(1);
    peer.read_command(b"PING");
    peer.wait_for_end();
    let mut peer = door.accept();
    peer.welcome(1);
    peer.send(&message(&[LAST]));
    let (totals, _) = subscriber.finish();
    assert_eq!((totals.connects, totals.disconnects), (2, 1));
    assert_eq!((totals.heartbeat_timeouts, totals.truncated), (1, 0));
}

/// Those of ZMTP 3.0 know no heartbeats, so they are not asked for any.
#[test]
fn a_publisher_without_heartbeats_is_kept() {
    let door = Door::open();
    let mut config = Config::connect(&door.endpoint, Envelope::Raw);
    (
        config.receive.heartbeat_ms,
        config.receive.heartbeat_timeout_ms,
    ) = (20, 60);
    let mut subscriber = Subscriber::start(Engine::Native, config);
    // What is asked for on another connection shows that time has passed.
    let other = Door::open();
    let mut config = Config::connect(&other.endpoint, Envelope::Raw);
    config.receive.heartbeat_ms = 50;
    let pace = Subscriber::start(Engine::Native, config);
    let (mut peer, mut clock) = (door.accept(), other.accept());
    peer.welcome(0);
    clock.welcome(1);
    for _ in 0..6 {
        clock.read_command(b"PING");
        clock.send(&command(b"PONG", b""));
    }
    assert!(!subscriber.has_received());
    peer.send(&message(&[LAST]));
    clock.send(&message(&[LAST]));
    subscriber.has_received_all(&[], "native");
    pace.has_received_all(&[], "native");
}

/// A publisher may say how long it will be silent for at most.
#[test]
fn a_publisher_that_breaks_its_word_is_given_up() {
    for engine in ENGINES {
        let door = Door::open();
        let mut config = Config::connect(&door.endpoint, Envelope::Raw);
        config.receive.heartbeat_ms = 0;
        let subscriber = Subscriber::start(engine, config);
        let mut peer = door.accept();
        peer.welcome(1);
        // A tenth of a second.
        peer.send(&command(b"PING", b"\0\x01"));
        peer.read_command(b"PONG");
        peer.wait_for_end();
        let mut peer = door.accept();
        peer.welcome(1);
        peer.send(&message(&[LAST]));
        let (totals, _) = subscriber.finish();
        assert_eq!((totals.connects, totals.disconnects), (2, 1), "{engine:?}");
    }
}
