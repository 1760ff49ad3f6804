//! A proxy between a publisher and its subscriber that loses, repeats and delays messages, and remembers
//! what it lost.

use std::{
    collections::{HashSet, VecDeque},
    thread::{self, JoinHandle},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use zmq::{DONTWAIT, SocketType};

use super::LIMIT;
use pinfeed::clock::Deadline;

/// What a line does to messages. Chances are of each message.
#[derive(Clone, Copy)]
pub struct Faults {
    pub seed: u64,
    /// To begin to lose messages, up to `burst_max` in a row.
    pub loss: f64,
    pub burst_max: u64,
    /// To send a message twice.
    pub repeat: f64,
    /// To send a message after up to `delay_max` others.
    pub delay: f64,
    pub delay_max: u64,
    /// How many messages come by.
    pub messages: u64,
    /// How many of the last are left alone: what is lost last, no later message shows.
    pub spared: u64,
}

/// A running proxy.
pub struct Lossy {
    /// Where its subscriber connects to.
    pub endpoint: String,
    thread: JoinHandle<HashSet<u64>>,
}

impl Lossy {
    /// Starts a proxy behind a publisher of one-frame messages. It subscribes to what its one subscriber
    /// subscribes to, once that has come.
    pub fn start(publisher: &str, faults: Faults) -> Self {
        let context = zmq::Context::new();
        let subscriber = context.socket(SocketType::XPUB).unwrap();
        subscriber.set_sndhwm(0).unwrap();
        subscriber.set_linger(10_000).unwrap();
        subscriber.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = subscriber.get_last_endpoint().unwrap().unwrap();
        let source = context.socket(SocketType::XSUB).unwrap();
        source.set_rcvhwm(0).unwrap();
        source.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
        source.connect(publisher).unwrap();
        let thread = thread::spawn(move || {
            // Held here as long as its sockets.
            let _context = context;
            let subscription = subscriber.recv_bytes(0).unwrap();
            source.send(subscription, 0).unwrap();
            forward(&source, &subscriber, faults)
        });
        Self { endpoint, thread }
    }

    /// Waits until all messages have come by, and returns the places of those lost, counted from 0.
    pub fn finish(self) -> HashSet<u64> {
        self.thread.join().expect("the proxy does not panic")
    }
}

fn forward(source: &zmq::Socket, subscriber: &zmq::Socket, faults: Faults) -> HashSet<u64> {
    let mut chance = StdRng::seed_from_u64(faults.seed);
    let mut lost = HashSet::new();
    let mut losing_until = 0;
    // Delayed, with the place after which they go.
    let mut delayed: VecDeque<(u64, zmq::Message)> = VecDeque::new();
    let deadline = Deadline::after(LIMIT);
    for place in 0..faults.messages {
        let message = source.recv_msg(0).expect("the publisher publishes all");
        let last = place + 1 == faults.messages;
        let faulty = place + faults.spared < faults.messages;
        if faulty && chance.random_bool(faults.loss) {
            losing_until = place + chance.random_range(1..=faults.burst_max);
        }
        if faulty && place < losing_until {
            lost.insert(place);
        } else if faulty && chance.random_bool(faults.delay) {
            let after = place + chance.random_range(1..=faults.delay_max);
            delayed.push_back((after, message));
        } else {
            if faulty && chance.random_bool(faults.repeat) {
                subscriber.send(&*message, 0).unwrap();
            }
            subscriber.send(message, 0).unwrap();
        }
        for _ in 0..delayed.len() {
            let (after, message) = delayed.pop_front().expect("one was counted");
            if after <= place || last {
                subscriber.send(message, 0).unwrap();
            } else {
                delayed.push_back((after, message));
            }
        }
        // What a subscriber says, so that its words don't pile up.
        while subscriber.recv_bytes(DONTWAIT).is_ok() {}
        assert!(!deadline.passed(), "the publisher is too slow");
    }
    lost
}
