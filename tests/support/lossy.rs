//! A proxy between a publisher and its subscriber that loses, repeats and delays messages, and remembers
//! what it lost.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use zmq::{DONTWAIT, SocketType};

use super::LIMIT;
use pinfeed::{
    clock::Deadline,
    config::{Arbitration, Config, Lane, Line},
};

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
    /// How many messages come by, in each life of the publisher.
    pub messages: u64,
    /// How many of a life's last are left alone: what is lost last, no later message shows.
    pub spared: u64,
    /// How often the publisher begins anew, the first time included.
    pub lives: u64,
}

/// How far ahead of the slowest line another may be, and how many sent copies may not have been received,
/// in messages. So lines differ by no more than this however threads are scheduled.
const AHEAD_MAX: u64 = 10_000;

/// Keeps the lines of a feed together, and with their subscriber.
pub struct Pace {
    sent: AtomicU64,
    received: AtomicU64,
    places: Vec<AtomicU64>,
}

impl Pace {
    /// For so many lines.
    pub fn of(lines: usize) -> Arc<Self> {
        Arc::new(Self {
            sent: AtomicU64::default(),
            received: AtomicU64::default(),
            places: (0..lines).map(|_| AtomicU64::default()).collect(),
        })
    }

    /// For a line that waits for nobody.
    fn none() -> Arc<Self> {
        let pace = Self::of(1);
        pace.set_received(u64::MAX - AHEAD_MAX);
        pace
    }

    /// Tells how many copies the subscriber has received of all lines.
    pub fn set_received(&self, copies: u64) {
        self.received.store(copies, Relaxed);
    }

    /// Says that a line has come to a place, and waits for those it is ahead of.
    fn keep(&self, line: usize, place: u64, deadline: &Deadline) {
        self.places[line].store(place, Relaxed);
        let slowest = || self.places.iter().map(|place| place.load(Relaxed)).min();
        while slowest().is_some_and(|slowest| place > slowest + AHEAD_MAX)
            || self.sent.load(Relaxed) > self.received.load(Relaxed) + AHEAD_MAX
        {
            assert!(!deadline.passed(), "the subscriber is too slow");
            thread::yield_now();
        }
    }
}

/// The configuration of a feed that comes by all these endpoints, over so many lanes, of which no copy is given up:
/// far more time than one line is behind the other on a busy machine, and room for all that comes meanwhile.
pub fn copies(config: &mut Config, endpoints: &[String], lanes: usize, messages: u64) {
    config.receive.heartbeat_ms = 0;
    let feed = &mut config.feeds[0];
    feed.sequence.from_start = true;
    feed.arbitration = Some(Arbitration {
        wait_ms: 3_000,
        held_messages_max: messages as usize,
        held_bytes_max: 1 << 30,
    });
    config.lanes = (0..lanes)
        .map(|lane| Lane::named(&lane.to_string()))
        .collect();
    let lines = endpoints.iter().enumerate().map(|(index, endpoint)| {
        let mut line = Line::on(&(index % lanes).to_string());
        line.connect.push(endpoint.clone());
        line
    });
    feed.lines = lines.collect();
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
        Self::start_line(publisher, faults, 0, Pace::none())
    }

    /// The same as one line of several that are kept together.
    pub fn start_line(publisher: &str, faults: Faults, line: usize, pace: Arc<Pace>) -> Self {
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
            forward(&source, &subscriber, faults, line, &pace)
        });
        Self { endpoint, thread }
    }

    /// Whether all messages have come by.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until all messages have come by, and returns the places of those lost, counted from 0.
    pub fn finish(self) -> HashSet<u64> {
        self.thread.join().expect("the proxy does not panic")
    }
}

fn forward(
    source: &zmq::Socket,
    subscriber: &zmq::Socket,
    faults: Faults,
    line: usize,
    pace: &Pace,
) -> HashSet<u64> {
    let send = |message: zmq::Message| {
        subscriber.send(message, 0).unwrap();
        pace.sent.fetch_add(1, Relaxed);
    };
    let mut chance = StdRng::seed_from_u64(faults.seed);
    let mut lost = HashSet::new();
    let mut losing_until = 0;
    // Delayed, with the place after which they go.
    let mut delayed: VecDeque<(u64, zmq::Message)> = VecDeque::new();
    let deadline = Deadline::after(LIMIT);
    for place in 0..faults.lives * faults.messages {
        let message = source.recv_msg(0).expect("the publisher publishes all");
        let of_life = place % faults.messages;
        let last = of_life + 1 == faults.messages;
        let faulty = of_life + faults.spared < faults.messages;
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
                send((&*message).into());
            }
            send(message);
        }
        for _ in 0..delayed.len() {
            let (after, message) = delayed.pop_front().expect("one was counted");
            if after <= place || last {
                send(message);
            } else {
                delayed.push_back((after, message));
            }
        }
        // What a subscriber says, so that its words don't pile up.
        while subscriber.recv_bytes(DONTWAIT).is_ok() {}
        assert!(!deadline.passed(), "the publisher is too slow");
        pace.keep(line, place, &deadline);
    }
    lost
}
