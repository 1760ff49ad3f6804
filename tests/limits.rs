//! Goal: what is too large is refused, counted or cut off, and what comes after it arrives.

mod support;

use std::{
    net::{IpAddr, TcpStream},
    thread,
    time::Duration,
};

use pinfeed::{
    clock::Deadline,
    config::{Config, Engine},
    envelope::Envelope,
    handoff::FRAMES_MAX,
    lane::Quota,
    ledger::Totals,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, bound_xpub, finish, wait_until, xpub};

const MESSAGE_BYTES_MAX: u32 = 10_000;

/// Counts messages whose topic says that they are in order.
#[derive(Default)]
struct Good(u64);

impl Handler for Good {
    fn on_message(&mut self, message: &Message<'_>) {
        assert_eq!(message.topic(), b"good");
        self.0 += 1;
    }
}

/// Receives from a plain PUB that `publish` is given once the subscription is there. Ends once
/// `done` holds of the ledger.
fn receive(
    engine: Engine,
    publish: impl Fn(&zmq::Socket),
    done: impl Fn(&Totals) -> bool,
) -> (Totals, u64) {
    receive_from(engine, "127.0.0.1", None, publish, done)
}

fn receive_from(
    engine: Engine,
    host: &str,
    source: Option<IpAddr>,
    publish: impl Fn(&zmq::Socket),
    done: impl Fn(&Totals) -> bool,
) -> (Totals, u64) {
    let context = zmq::Context::new();
    let (socket, endpoint) = bound_xpub(&context);
    let endpoint = endpoint.replace("127.0.0.1", host);
    let mut config = Config::connect(&endpoint, Envelope::Raw);
    config.engine = Some(engine);
    config.lanes[0].source = source;
    config.receive.message_bytes_max = MESSAGE_BYTES_MAX;
    let stop = Stop::default();
    let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
        Good::default()
    })
    .unwrap();
    assert_eq!(socket.recv_bytes(0).unwrap(), [1]);
    publish(&socket);
    wait_until("what was published has come", || done(&pipeline.look()));
    stop.request();
    let outcome = finish(pipeline);
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert!(outcome.totals.balanced());
    let good = outcome.handlers.iter().map(|handler| handler.0).sum();
    (outcome.totals, good)
}

#[test]
fn too_many_frames_and_too_many_bytes_are_rejected() {
    let publish = |socket: &zmq::Socket| {
        let send = |frames: &[&[u8]]| socket.send_multipart(frames, 0).unwrap();
        send(&[b"good"]);
        send(&vec![&b"good"[..]; FRAMES_MAX]);
        send(&vec![&b"many"[..]; FRAMES_MAX + 1]);
        send(&vec![&b"many"[..]; 3 * FRAMES_MAX]);
        // Each frame is within the limit, all together are not.
        send(&[b"large", &[0; 6_000], &[0; 6_000]]);
        send(&[b"good", b"last"]);
    };
    for engine in ENGINES {
        let (totals, good) = receive(engine, publish, |totals| totals.received == 6);
        assert_eq!((totals.delivered, totals.rejected(), good), (3, 3, 3));
        assert_eq!(
            totals.rejected_by_reason[..2],
            [2, 1],
            "too many frames, too large"
        );
    }
}

#[test]
fn a_frame_above_the_limit_ends_its_connection_and_the_next_one_works() {
    let publish = |socket: &zmq::Socket| {
        socket.send("good", 0).unwrap();
        socket
            .send(vec![0; MESSAGE_BYTES_MAX as usize + 1], 0)
            .unwrap();
        // The subscriber hangs up, which its publisher learns of as an end of the subscription, and
        // connects again.
        assert_eq!(socket.recv_bytes(0).unwrap(), [0]);
        assert_eq!(socket.recv_bytes(0).unwrap(), [1]);
        socket.send("good", 0).unwrap();
    };
    let loopback = IpAddr::from([127, 0, 0, 1]);
    for (host, source) in [
        ("127.0.0.1", None),
        ("localhost", None),
        ("127.0.0.1", Some(loopback)),
    ] {
        for engine in ENGINES {
            let received = |totals: &Totals| totals.received == 2;
            let (totals, good) = receive_from(engine, host, source, publish, received);
            assert_eq!((totals.delivered, good), (2, 2));
            assert_eq!((totals.connects, totals.disconnects), (2, 1));
            assert_eq!(totals.protocol_errors(), 1);
        }
    }
}

/// A peer that is no publisher does not keep the lane from the one that comes after it.
#[test]
fn a_wrong_peer_is_asked_again_until_it_is_right() {
    for engine in ENGINES {
        asks_again(engine);
    }
}

fn asks_again(engine: Engine) {
    let context = zmq::Context::new();
    let wrong = context.socket(zmq::REP).unwrap();
    wrong.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = wrong.get_last_endpoint().unwrap().unwrap();
    let stop = Stop::default();
    let mut config = Config::connect(&endpoint, Envelope::Raw);
    config.engine = Some(engine);
    let mut pipeline = Pipeline::start(&config, Quota::of(1), stop, |_| Good::default()).unwrap();
    wait_until("the wrong peer is asked again", || {
        let totals = pipeline.look();
        totals.handshake_failures > 1 && totals.protocol_errors() > 0
    });
    wrong.unbind(&endpoint).unwrap();
    drop(wrong);
    let right = xpub(&context);
    wait_until("the port is free", || right.bind(&endpoint).is_ok());
    assert_eq!(right.recv_bytes(0).unwrap(), [1]);
    right.send("good", 0).unwrap();
    let outcome = finish(pipeline);
    assert_eq!(outcome.totals.delivered, 1);
    assert_eq!(
        (outcome.totals.connects, outcome.totals.disconnects),
        (1, 0)
    );
}

/// An endpoint that libzmq connects to again by itself is left to it, whatever libzmq calls it.
#[test]
fn an_ordinary_loss_is_left_to_libzmq() {
    for (host, source) in [
        ("127.0.0.1", None),
        ("localhost", None),
        ("127.0.0.1", Some("127.0.0.1")),
    ] {
        let endpoint = support::free_endpoint();
        let context = zmq::Context::new();
        let publisher = || {
            let socket = xpub(&context);
            wait_until("the port is free", || socket.bind(&endpoint).is_ok());
            socket
        };
        let first = publisher();
        let mut config = Config::connect(&endpoint.replace("127.0.0.1", host), Envelope::Raw);
        config.lanes[0].source = source.map(|source| source.parse().unwrap());
        config.engine = Some(Engine::Libzmq);
        config.receive.reconnect_ms = 10;
        config.workers.count = 1;
        let stop = Stop::default();
        let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
            Good::default()
        })
        .unwrap();
        assert_eq!(first.recv_bytes(0).unwrap(), [1]);
        drop(first);
        let second = publisher();
        assert_eq!(second.recv_bytes(0).unwrap(), [1]);
        // Longer than this would wait before it connects in libzmq's place.
        let patience = Deadline::after(Duration::from_secs(1));
        let mut sent = 0;
        while !patience.passed() {
            second.send("good", 0).unwrap();
            sent += 1;
            // A pace, not a wait for anything.
            thread::sleep(Duration::from_millis(1));
        }
        wait_until("what was published has come", || {
            pipeline.look().delivered == sent
        });
        stop.request();
        let totals = finish(pipeline).totals;
        assert_eq!(
            (
                totals.connects,
                totals.disconnects,
                totals.protocol_errors()
            ),
            (2, 1, 0),
            "{host}"
        );
    }
}

/// A stranger at a bound endpoint is no loss of the publisher that is connected there.
#[test]
fn a_stranger_is_not_counted_as_a_loss() {
    for engine in ENGINES {
        does_not_count_strangers(engine);
    }
}

fn does_not_count_strangers(engine: Engine) {
    let mut config = Config::bind("tcp://127.0.0.1:*", Envelope::Raw);
    config.engine = Some(engine);
    config.workers.count = 1;
    let stop = Stop::default();
    let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
        Good::default()
    })
    .unwrap();
    let endpoint = pipeline.endpoints()[0].clone();
    let context = zmq::Context::new();
    let publisher = xpub(&context);
    publisher.connect(&endpoint).unwrap();
    assert_eq!(publisher.recv_bytes(0).unwrap(), [1]);
    let address = endpoint.strip_prefix("tcp://").unwrap();
    for _ in 0..3 {
        drop(TcpStream::connect(address).unwrap());
    }
    wait_until("the strangers are noticed", || {
        pipeline.look().handshake_failures == 3
    });
    publisher.send("good", 0).unwrap();
    wait_until("the publisher is still there", || {
        pipeline.look().delivered == 1
    });
    stop.request();
    let totals = finish(pipeline).totals;
    assert_eq!((totals.connects, totals.disconnects), (1, 0));
}
