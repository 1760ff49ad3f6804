//! Goal: a feed's subscriptions can be changed while it runs, and all of them, however many, are sent
//! again to a publisher that comes back.

mod support;

use pinfeed::{
    config::{Config, Engine},
    envelope::Envelope,
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::Handler,
};
use support::{
    ENGINES, LIMIT, finish, free_endpoint,
    peer::{Door, message},
    wait_until,
};

const SUBSCRIPTIONS: usize = 5_000;

/// Keeps the topics that it has seen.
#[derive(Default)]
struct Topics(Vec<Vec<u8>>);

impl Handler for Topics {
    fn on_message(&mut self, message: &Message<'_>) {
        self.0.push(message.topic().to_vec());
    }
}

/// A publisher that sees every subscription.
fn publisher(context: &zmq::Context, endpoint: &str) -> zmq::Socket {
    let socket = context.socket(zmq::XPUB).unwrap();
    socket.set_xpub_verbose(true).unwrap();
    socket.set_rcvhwm(0).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
    wait_until("the port is free", || socket.bind(endpoint).is_ok());
    socket
}

fn config(engine: Engine, endpoint: &str, subscribe: Vec<String>) -> Config {
    let mut config = Config::connect(endpoint, Envelope::Raw);
    config.engine = Some(engine);
    config.workers.count = 1;
    config.receive.reconnect_ms = 10;
    config.feeds[0].subscribe = subscribe;
    config
}

#[test]
fn change_while_messages_flow() {
    for engine in ENGINES {
        let endpoint = free_endpoint();
        let context = zmq::Context::new();
        let socket = publisher(&context, &endpoint);
        let config = config(engine, &endpoint, vec!["BTC-".to_owned()]);
        let stop = Stop::default();
        let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
            Topics::default()
        })
        .unwrap();
        assert_eq!(socket.recv_bytes(0).unwrap(), b"\x01BTC-");
        let publish = |topics: &[&str]| {
            for topic in topics {
                socket.send(*topic, 0).unwrap();
            }
        };
        publish(&["BTC-USD", "ETH-USD"]);

        pipeline.subscribe("feed", b"ETH-").unwrap();
        assert_eq!(socket.recv_bytes(0).unwrap(), b"\x01ETH-");
        publish(&["ETH-EUR", "XRP-EUR"]);

        // What is under way when nothing is subscribed to it any more is not delivered.
        wait_until("both have come", || pipeline.look().delivered == 2);
        // Asked for twice, it takes two to end it.
        pipeline.subscribe("feed", b"ETH-").unwrap();
        pipeline.unsubscribe("feed", b"ETH-").unwrap();
        pipeline.unsubscribe("feed", b"BTC-").unwrap();
        // XPUB is told of repeated subscriptions by libzmq only, and needs not be.
        loop {
            let told = socket.recv_bytes(0).unwrap();
            if told == b"\x00BTC-" {
                break;
            }
            assert!(
                [&b"\x01ETH-"[..], b"\x00ETH-"].contains(&&told[..]),
                "{told:?}"
            );
        }
        publish(&["BTC-EUR", "ETH-GBP"]);
        wait_until("all has come", || pipeline.look().delivered == 3);
        assert!(pipeline.subscribe("nosuch", b"").is_err());
        stop.request();
        let outcome = finish(pipeline);
        let expected: [&[u8]; 3] = [b"BTC-USD", b"ETH-EUR", b"ETH-GBP"];
        assert_eq!(outcome.handlers[0].0, expected, "{engine:?}");
        assert!(outcome.totals.balanced());
    }
}

#[test]
fn all_are_sent_again_to_a_publisher_that_comes_back() {
    for engine in ENGINES {
        let endpoint = free_endpoint();
        let subscribe: Vec<String> = (0..SUBSCRIPTIONS).map(|n| format!("T{n:05}")).collect();
        let config = config(engine, &endpoint, subscribe.clone());
        let stop = Stop::default();
        let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
            Topics::default()
        })
        .unwrap();
        // One that was asked for later is among them.
        pipeline.subscribe("feed", b"later").unwrap();
        let mut expected: Vec<Vec<u8>> = subscribe
            .iter()
            .map(|one| one.as_bytes().to_vec())
            .collect();
        expected.push(b"later".to_vec());
        expected.sort_unstable();
        for life in 1..=2 {
            let context = zmq::Context::new();
            let socket = publisher(&context, &endpoint);
            let mut seen = Vec::new();
            while seen.len() < expected.len() {
                let told = socket.recv_bytes(0).expect("all are sent");
                assert_eq!(told[0], 1);
                seen.push(told[1..].to_vec());
            }
            seen.sort_unstable();
            assert!(seen == expected, "each of them once");
            for topic in ["T04999", "T05000", "later"] {
                socket.send(topic, 0).unwrap();
            }
            wait_until("the messages have come", || {
                pipeline.look().delivered == 2 * life
            });
            assert_eq!(socket.recv_bytes(zmq::DONTWAIT), Err(zmq::Error::EAGAIN));
            if life == 1 {
                // One that is not wanted any more is not asked for again.
                pipeline.unsubscribe("feed", b"T00007").unwrap();
                assert_eq!(socket.recv_bytes(0).unwrap(), b"\x00T00007");
                expected.retain(|one| one != b"T00007");
            }
        }
        stop.request();
        let outcome = finish(pipeline);
        let expected: [&[u8]; 4] = [b"T04999", b"later", b"T04999", b"later"];
        assert_eq!(outcome.handlers[0].0, expected, "{engine:?}");
    }
}

/// Libzmq throws them away, too, and does not say so.
#[test]
fn what_a_publisher_does_not_filter_is_thrown_away_and_counted() {
    let door = Door::open();
    let config = config(Engine::Native, &door.endpoint, vec!["BTC-".to_owned()]);
    let stop = Stop::default();
    let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
        Topics::default()
    })
    .unwrap();
    let mut peer = door.accept();
    peer.shake_hands(1);
    peer.read_frame();
    let unwanted: [&[&[u8]]; 4] = [
        &[b"ETH-USD"],
        &[b"BTC"],
        &[b"", b"BTC-"],
        &[b"X", b"Y", b"Z"],
    ];
    for frames in unwanted {
        peer.send(&message(frames));
    }
    wait_until("they are counted", || pipeline.look().unwanted == 4);
    let nothing_yet = pipeline.look();
    assert_eq!(
        (nothing_yet.received, nothing_yet.first_received_ns),
        (0, 0)
    );
    peer.send(&message(&[b"BTC-USD", b"1"]));
    wait_until("what is wanted has come", || pipeline.look().delivered == 1);
    stop.request();
    let outcome = finish(pipeline);
    assert_eq!(outcome.handlers[0].0, [b"BTC-USD"]);
    assert!(outcome.totals.balanced());
}

#[test]
fn attempts_that_come_to_nothing_are_counted() {
    let config = config(Engine::Native, &free_endpoint(), Vec::new());
    let stop = Stop::default();
    let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
        Topics::default()
    })
    .unwrap();
    wait_until("it has tried again", || {
        pipeline.look().connect_failures > 1
    });
    stop.request();
    assert_eq!(finish(pipeline).totals.handshake_failures, 0);
}
