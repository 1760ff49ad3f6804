//! A server of the Clone pattern, to take a past from: small, and willing to do wrong.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use pinfeed::{
    clock::Clock,
    patterns::reactor::{Application, Link, Links, Reactor, SocketId, SocketPlan, Waker},
    random::seeded,
    stop::Stop,
    zmtp::SocketType,
};
use rand::RngExt;

use super::wait_until;

const KEYS: u64 = 1_000;

/// The number of a key's last update, and its body.
pub type Value = (u64, Vec<u8>);
pub type State = BTreeMap<Vec<u8>, Value>;

pub enum Order {
    /// To publish so many updates, a few a turn.
    Publish(u64),
    /// To carry out so many without telling anyone.
    Lose(u64),
    /// To publish a heartbeat of this topic.
    Beat(&'static str),
    /// To hang up on all subscribers.
    HangUp,
    /// To answer no request for so many of them.
    Ignore(u64),
}

/// A server of the Clone pattern, small and willing to do wrong.
struct Server {
    state: State,
    sequence: u64,
    left: u64,
    ignored: u64,
    orders: Receiver<Order>,
    published: SocketId,
    asked: SocketId,
    random: rand::rngs::StdRng,
    done: Arc<AtomicU64>,
}

impl Server {
    fn update(&mut self, links: Option<&mut Links>) {
        self.sequence += 1;
        let key = format!("key.{:04}", self.random.random_range(0..KEYS)).into_bytes();
        let is_deleted = self.random.random_ratio(1, 10);
        let body = if is_deleted {
            Vec::new()
        } else {
            self.sequence.to_string().into_bytes()
        };
        if let Some(links) = links {
            send(&key, self.sequence, &body, |frames| {
                links.publish(self.published, frames);
            });
        }
        if is_deleted {
            self.state.remove(&key);
        } else {
            self.state.insert(key, (self.sequence, body));
        }
    }
}

fn send(key: &[u8], sequence: u64, body: &[u8], send: impl FnOnce(&[&[u8]])) {
    send(&[key, &sequence.to_be_bytes(), &[7; 16], b"", body]);
}

impl Application for Server {
    fn on_message(&mut self, links: &mut Links, link: Link, frames: &[&[u8]]) {
        if link.socket != self.asked || frames != [&b"ICANHAZ?"[..], b""] {
            return;
        }
        if self.ignored > 0 {
            self.ignored -= 1;
            links.hang_up(link);
            return;
        }
        for (key, (sequence, body)) in &self.state {
            send(key, *sequence, body, |frames| {
                links.send(link, frames).expect("a server")
            });
        }
        send(b"KTHXBAI", self.sequence, b"", |frames| {
            links.send(link, frames).expect("a server");
        });
    }

    fn on_turn_end(&mut self, links: &mut Links) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Publish(updates) => self.left += updates,
                Order::Lose(updates) => (0..updates).for_each(|_| self.update(None)),
                Order::Beat(topic) => send(topic.as_bytes(), self.sequence, b"", |frames| {
                    links.publish(self.published, frames);
                }),
                Order::Ignore(requests) => self.ignored = requests,
                Order::HangUp => {
                    let peers: Vec<Link> = links.peers(self.published).collect();
                    peers.into_iter().for_each(|peer| links.hang_up(peer));
                }
            }
        }
        for _ in 0..self.left.min(20) {
            self.update(Some(links));
            self.left -= 1;
        }
        self.done.store(self.sequence, SeqCst);
    }
}

/// The server's thread, and what it is told.
pub struct Running {
    orders: Sender<Order>,
    waker: Waker,
    stop: Stop,
    pub done: Arc<AtomicU64>,
    thread: JoinHandle<State>,
    pub publisher: String,
    pub snapshots: String,
}

impl Running {
    pub fn start(seed: u64) -> Self {
        let mut reactor = Reactor::new(Clock::start()).expect("a server");
        let published = reactor.socket(SocketPlan::new(SocketType::Pub));
        let asked = reactor.socket(SocketPlan::new(SocketType::Router));
        let publisher = reactor
            .bind(published, "tcp://127.0.0.1:*")
            .expect("a server");
        let snapshots = reactor.bind(asked, "tcp://127.0.0.1:*").expect("a server");
        let (orders, heard) = mpsc::channel();
        let (waker, stop) = (reactor.waker(), Stop::default());
        let (stops, done) = (stop.clone(), Arc::new(AtomicU64::new(0)));
        let mut server = Server {
            state: State::new(),
            sequence: 0,
            left: 0,
            ignored: 0,
            orders: heard,
            published,
            asked,
            random: seeded(seed),
            done: done.clone(),
        };
        let thread = thread::spawn(move || {
            while !stops.requested() {
                // Now and then it rests, so that messages come in many reads.
                reactor
                    .turn(&mut server, Duration::from_millis(1))
                    .expect("a server");
            }
            reactor.drain(Duration::from_secs(10)).expect("a server");
            server.state
        });
        Self {
            orders,
            waker,
            stop,
            done,
            thread,
            publisher,
            snapshots,
        }
    }

    pub fn order(&self, order: Order) {
        self.orders.send(order).expect("a server");
        self.waker.wake();
    }

    pub fn publish(&self, updates: u64) {
        let before = self.done.load(SeqCst);
        self.order(Order::Publish(updates));
        wait_until("all is published", || {
            self.done.load(SeqCst) >= before + updates
        });
    }

    /// Ends it, and returns what it holds.
    pub fn end(self) -> State {
        self.stop.request();
        self.thread.join().expect("the server does not panic")
    }
}
