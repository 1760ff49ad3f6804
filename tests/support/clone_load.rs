//! Clients that change a Clone state all the time, and know what was published of that.

#![allow(dead_code, missing_docs)]

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use pinfeed::{
    clock::{Deadline, Stopwatch},
    patterns::clone::{Client, ClientPlan, Event, client::Fate},
};
use rustix::fs::{FlockOperation, flock};

use super::LIMIT;

/// Updates of one client that are under way at once.
const UNDER_WAY: usize = 100;
const KEYS: u64 = 200;

/// What is known of a load from outside.
#[derive(Default)]
pub struct Watched {
    /// Updates published so far.
    pub published: u64,
    /// Which server it follows.
    pub server: Option<usize>,
    /// When it first heard of an update published by the second server, by `since`.
    pub second_published_ns: Option<u64>,
}

pub struct Load {
    thread: JoinHandle<BTreeMap<Vec<u8>, u64>>,
    stop: Arc<AtomicBool>,
    pub watched: Arc<Mutex<Watched>>,
}

impl Load {
    /// Starts a client that changes keys of its own: each value is a number that grows.
    pub fn start(servers: &[String], name: usize, since: Stopwatch) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let watched = Arc::<Mutex<Watched>>::default();
        let mut client = Client::start(&ClientPlan::new(servers, b"")).expect("endpoints");
        let (asked, seen) = (stop.clone(), watched.clone());
        let run = move || {
            let mut under_way = HashMap::new();
            let mut published = BTreeMap::new();
            let mut number = 0_u64;
            let mut end: Option<Deadline> = None;
            loop {
                client.turn(Duration::from_millis(5)).expect("it goes on");
                let mut watched = seen.lock().expect("nobody panics within");
                while let Some(event) = client.event() {
                    match event {
                        Event::Synchronised { server, .. } => watched.server = Some(server),
                        Event::Own { uuid, fate } => {
                            let (key, number): (Vec<u8>, u64) =
                                under_way.remove(&uuid).expect("its own");
                            if matches!(fate, Fate::Published(_)) {
                                watched.published += 1;
                                if watched.server == Some(1) {
                                    watched
                                        .second_published_ns
                                        .get_or_insert(since.elapsed_ns());
                                }
                                let newest = published.entry(key).or_insert(0);
                                *newest = number.max(*newest);
                            }
                        }
                        Event::Changed(_) | Event::Stale => {}
                    }
                }
                drop(watched);
                if asked.load(Relaxed) {
                    let end = end.get_or_insert_with(|| Deadline::after(LIMIT));
                    assert!(
                        !end.passed(),
                        "{} updates are never published",
                        under_way.len()
                    );
                    if under_way.is_empty() {
                        return published;
                    }
                } else {
                    for _ in 0..10 {
                        if under_way.len() >= UNDER_WAY {
                            break;
                        }
                        number += 1;
                        let key = format!("/load/{name}/{}", number % KEYS).into_bytes();
                        let uuid = client.set(&key, number.to_string().as_bytes(), None);
                        under_way.insert(uuid.expect("a good key"), (key, number));
                    }
                }
            }
        };
        Self {
            thread: thread::spawn(run),
            stop,
            watched,
        }
    }

    pub fn published(&self) -> u64 {
        self.watched.lock().expect("nobody panics within").published
    }

    /// Ends it, and returns the newest number that was published of each key.
    pub fn finish(self) -> BTreeMap<Vec<u8>, u64> {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("a load does not panic")
    }
}

/// Returns the first of four ports in a row that were free a moment ago, on loopback, as an endpoint. No other test gets
/// them as long as this process lives.
pub fn four_ports() -> String {
    // Below the ports that the kernel gives to connections.
    for first in (12_000..32_000_u16).step_by(4) {
        let path = std::env::temp_dir().join(format!("pinfeed-test-ports-{first}"));
        // One of somebody else's is not for us.
        let Ok(lock) = File::create(path) else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        if (first..first + 4).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            // The lock ends with the process.
            std::mem::forget(lock);
            return format!("tcp://127.0.0.1:{first}");
        }
    }
    panic!("no four ports in a row are free");
}

/// Asserts that the state at these servers has all that was published.
pub fn assert_nothing_lost(servers: &[String], published: &[BTreeMap<Vec<u8>, u64>]) {
    let mut client = Client::start(&ClientPlan::new(servers, b"")).expect("endpoints");
    let end = Deadline::after(LIMIT);
    while !client.is_ready() {
        assert!(!end.passed(), "no server answers");
        client.turn(Duration::from_millis(50)).expect("it goes on");
    }
    let mut checked = 0;
    for (key, number) in published.iter().flatten() {
        let text = String::from_utf8_lossy(key);
        let value = client.values().get(&**key);
        let value = value.unwrap_or_else(|| panic!("{text} is lost"));
        let found: u64 = std::str::from_utf8(&value.body)
            .expect("text")
            .parse()
            .expect("a number");
        assert!(
            found >= *number,
            "{text} was published as {number}, and is {found}"
        );
        checked += 1;
    }
    assert!(checked > 0, "something was published");
}
