//! Goal: a feed whose publishers push is pulled: libzmq's PUSH and either engine shake hands, several of
//! them share a feed, and what is no PUSH is turned away.

mod support;

use pinfeed::{
    config::{Config, Engine, SocketKind},
    envelope::Envelope,
    lane::Quota,
    pipeline::Pipeline,
    stop::Stop,
    worker::handlers::Count,
};
use support::{ENGINES, finish, free_endpoint, wait_until};

const MESSAGES: u64 = 1_000;

fn pulling(mut config: Config, engine: Engine) -> Config {
    config.engine = Some(engine);
    config.workers.count = 1;
    config.receive.reconnect_ms = 10;
    config.feeds[0].socket = SocketKind::Pull;
    config
}

fn push(context: &zmq::Context) -> zmq::Socket {
    let socket = context.socket(zmq::PUSH).unwrap();
    socket.set_linger(0).unwrap();
    socket
}

#[test]
fn several_push_to_one_that_binds() {
    for engine in ENGINES {
        let config = Config::bind("tcp://127.0.0.1:*", Envelope::Delimited(b' '));
        let quota = Quota::of(2 * MESSAGES);
        let handler = |_| Count::default();
        let pipeline =
            Pipeline::start(&pulling(config, engine), quota, Stop::default(), handler).unwrap();
        let context = zmq::Context::new();
        let sockets = [push(&context), push(&context)];
        for (index, socket) in sockets.iter().enumerate() {
            socket.connect(&pipeline.endpoints()[0]).unwrap();
            for number in 0..MESSAGES {
                socket.send(&*format!("topic-{index} {number}"), 0).unwrap();
            }
        }
        // There is nothing to subscribe to.
        let refused = pipeline.subscribe("feed", b"topic").unwrap_err();
        assert!(refused.to_string().contains("take no subscriptions"));
        let outcome = finish(pipeline);
        assert_eq!(outcome.totals.delivered, 2 * MESSAGES, "{engine:?}");
        assert!(outcome.totals.balanced());
        let rows = Count::merge(outcome.handlers);
        let counts: Vec<u64> = rows.iter().map(|row| row.messages).collect();
        assert_eq!(counts, [MESSAGES, MESSAGES]);
    }
}

#[test]
fn who_only_publishes_is_turned_away_until_it_pushes() {
    for engine in ENGINES {
        let endpoint = free_endpoint();
        let context = zmq::Context::new();
        let publisher = context.socket(zmq::PUB).unwrap();
        publisher.set_linger(0).unwrap();
        publisher.bind(&endpoint).unwrap();
        let config = pulling(Config::connect(&endpoint, Envelope::Raw), engine);
        let handler = |_| Count::default();
        let (quota, stop) = (Quota::of(1), Stop::default());
        let mut pipeline = Pipeline::start(&config, quota, stop, handler).unwrap();
        wait_until("it is turned away", || {
            pipeline.look().handshake_failures > 0
        });
        drop(publisher);
        let socket = push(&context);
        wait_until("the port is free", || socket.bind(&endpoint).is_ok());
        socket.send("now", 0).unwrap();
        let outcome = finish(pipeline);
        assert_eq!(outcome.totals.delivered, 1, "{engine:?}");
    }
}
