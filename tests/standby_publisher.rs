//! Goal: where publishers connect to a feed that takes snapshots, one that stands by and is silent costs a snapshot, and
//! neither messages of the one that publishes nor what its heartbeats tell.

mod support;

use std::{ops::RangeInclusive, time::Duration};

use pinfeed::{
    config::{Config, Engine, Snapshot},
    lane::Quota,
    pipeline::Pipeline,
    stop::Stop,
    worker::handlers::Count,
};
use support::{ENGINES, LIMIT, finish, wait_until, xpub};

/// A server of snapshots without values, which answers when it is told to.
struct Server {
    socket: zmq::Socket,
}

impl Server {
    /// Waits until it is asked. Returns by whom.
    fn asked(&self) -> Vec<u8> {
        let frames = self.socket.recv_multipart(0).expect("it is asked");
        frames.into_iter().next().expect("who asks")
    }

    /// Answers that the publisher has got so far.
    fn answer(&self, to: &[u8], reached: u64) {
        let number = reached.to_be_bytes();
        let frames = [to, b"KTHXBAI", &number, b"", b"", b""];
        self.socket.send_multipart(frames, 0).expect("it is sent");
    }
}

fn publish(publisher: &zmq::Socket, numbers: RangeInclusive<u64>) {
    for number in numbers {
        let frames = [&b"key"[..], &number.to_be_bytes(), b"", b"", b"value"];
        publisher.send_multipart(frames, 0).expect("it is sent");
    }
}

fn check(engine: Engine) {
    let context = zmq::Context::new();
    let server = Server {
        socket: context.socket(zmq::ROUTER).unwrap(),
    };
    server
        .socket
        .set_rcvtimeo(LIMIT.as_millis() as i32)
        .unwrap();
    server.socket.bind("tcp://127.0.0.1:*").unwrap();
    let snapshots = server.socket.get_last_endpoint().unwrap().unwrap();
    let mut config = Config::bind("tcp://127.0.0.1:*", "kvmsg".parse().unwrap());
    config.engine = Some(engine);
    config.feeds[0].snapshot = Some(Snapshot::from(snapshots.as_str()));
    let stop = Stop::default();
    let start = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
        Count::default()
    });
    let mut pipeline = start.unwrap();
    let endpoint = pipeline.endpoints()[0].clone();

    let publishing = xpub(&context);
    publishing.connect(&endpoint).unwrap();
    publishing.recv_bytes(0).expect("a subscription");
    server.answer(&server.asked(), 0);
    wait_until("it has the past", || pipeline.look().snapshots == 1);
    publish(&publishing, 1..=100);
    wait_until("it goes on", || pipeline.look().delivered == 100);

    let standing_by = xpub(&context);
    standing_by.connect(&endpoint).unwrap();
    let asking = server.asked();
    publish(&publishing, 101..=200);
    wait_until("it has them", || pipeline.look().received == 200);
    server.answer(&asking, 150);
    wait_until("the rest is delivered", || pipeline.look().delivered == 150);

    let heartbeat = [&b"HUGZ"[..], &210_u64.to_be_bytes(), b"", b"", b""];
    publishing.send_multipart(heartbeat, 0).unwrap();
    server.answer(&server.asked(), 210);
    wait_until("it has what was lost", || pipeline.look().snapshots == 3);
    publish(&publishing, 211..=220);
    wait_until("it goes on again", || pipeline.look().delivered == 161);
    // Nobody asks any more.
    server
        .socket
        .set_rcvtimeo(Duration::from_millis(100).as_millis() as i32)
        .unwrap();
    assert_eq!(server.socket.recv_bytes(0), Err(zmq::Error::EAGAIN));
    stop.request();
    let outcome = finish(pipeline);
    let totals = &outcome.totals;
    let ends = (totals.duplicates, totals.dropped, outcome.lost);
    assert_eq!(ends, (50, 0, Some(10)), "{engine:?}: {totals:?}");
}

#[test]
fn who_stands_by_costs_no_message_of_another() {
    for engine in ENGINES {
        check(engine);
    }
}
