//! Goal: a handler that comes late, misses messages or loses its publisher has the same state in the end as its
//! publisher: a snapshot, and behind it all that was published since, once and in order.

mod support;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use pinfeed::{
    clock::Clock,
    config::{Config, Engine, Snapshot},
    envelope::Envelope,
    lane::{Quota, Source},
    message::{Message, Notice},
    patterns::{
        clone::{Client, ClientPlan},
        reactor::{Application, Link, Links, Reactor, SocketId, SocketPlan},
    },
    pipeline::{Outcome, Pipeline},
    sequence::{Quality, SnapshotMark},
    stop::Stop,
    worker::Handler,
    zmtp::SocketType,
};
use support::{
    ENGINES, Pinfeed, finish,
    past::{Order, Running, Value},
    publisher, sealed, wait_until,
};

/// Topics of heartbeats: the Guide's, and one of an envelope that is described.
const HEARTBEATS: [&[u8]; 2] = [b"HUGZ", b"beat"];

/// What all workers have gathered, and how the feed fared.
#[derive(Clone, Default)]
struct Gathered {
    state: Arc<Mutex<HashMap<Vec<u8>, Value>>>,
    qualities: Arc<Mutex<Vec<Quality>>>,
    ends: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
}

/// One worker's copy of its keys.
#[derive(Default)]
struct Mirror {
    all: Gathered,
    worker: usize,
    own: Vec<Vec<u8>>,
    within: bool,
    reached: u64,
}

impl Handler for Mirror {
    fn on_message(&mut self, message: &Message<'_>) {
        if HEARTBEATS.contains(&message.topic()) {
            return;
        }
        let key = message.topic().to_vec();
        let number = message.sequence().expect("all are numbered");
        let body = message.frames().last().unwrap();
        let mut state = self.all.state.lock().unwrap();
        let name = key.escape_ascii().to_string();
        if let Some((before, _)) = state.get(&key) {
            assert!(*before < number, "{name}: {number} after {before}");
        }
        if !self.within {
            assert!(number > self.reached, "{name}: {number} is in the snapshot");
        }
        if body.is_empty() {
            state.remove(&key);
        } else {
            self.own.push(key.clone());
            state.insert(key, (number, body.to_vec()));
        }
        self.all.last.fetch_max(number, SeqCst);
    }

    fn on_snapshot(&mut self, _notice: &Notice<'_>, mark: SnapshotMark) {
        match mark {
            SnapshotMark::Begins { is_whole } => {
                assert!(is_whole, "numbers count all updates");
                let mut state = self.all.state.lock().unwrap();
                self.own.drain(..).for_each(|key| drop(state.remove(&key)));
                self.within = true;
            }
            SnapshotMark::Ends { sequence, .. } => {
                self.within = false;
                self.reached = sequence;
                self.all.last.fetch_max(sequence, SeqCst);
                self.all.ends.fetch_add(u64::from(self.worker == 0), SeqCst);
            }
        }
    }

    fn on_quality(&mut self, notice: &Notice<'_>, _from: Quality, to: Quality) {
        if self.worker == 0 && notice.topic.is_none() {
            self.all.qualities.lock().unwrap().push(to);
        }
    }
}

fn config(engine: Engine, server: &Running) -> Config {
    let mut config = Config::connect(&server.publisher, "kvmsg".parse::<Envelope>().unwrap());
    config.engine = Some(engine);
    let feed = &mut config.feeds[0];
    feed.quality.recover_ms = 50;
    feed.snapshot = Some(Snapshot::from(server.snapshots.as_str()));
    config
}

fn mirrors(gathered: &Gathered) -> impl FnMut(usize) -> Mirror + use<> {
    let all = gathered.clone();
    move |worker| Mirror {
        all: all.clone(),
        worker,
        ..Mirror::default()
    }
}

fn start<H: Handler>(config: &Config, handler: impl FnMut(usize) -> H) -> (Pipeline<H>, Stop) {
    let stop = Stop::default();
    let pipeline = Pipeline::start(config, Quota::unlimited(), stop.clone(), handler);
    (pipeline.unwrap(), stop)
}

/// Ends a pipeline. All that it received is accounted for.
fn end<H: Handler>(pipeline: Pipeline<H>, stop: &Stop) -> Outcome<H> {
    stop.request();
    let outcome = finish(pipeline);
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert!(outcome.totals.balanced(), "{:?}", outcome.totals);
    outcome
}

#[test]
fn a_late_handler_ends_with_the_state_of_its_server() {
    for engine in ENGINES {
        let server = Running::start(1);
        server.publish(5_000);
        // It joins while updates go on.
        server.order(Order::Publish(50_000));
        let gathered = Gathered::default();
        let (mut pipeline, stop) = start(&config(engine, &server), mirrors(&gathered));
        wait_until("it has caught up", || gathered.last.load(SeqCst) > 10_000);

        // It misses some.
        server.order(Order::Lose(300));
        let ends = gathered.ends.load(SeqCst);
        server.order(Order::Publish(5_000));
        wait_until("another snapshot", || gathered.ends.load(SeqCst) > ends);

        // It loses its publisher, which goes on.
        let ends = gathered.ends.load(SeqCst);
        server.order(Order::Ignore(2));
        server.order(Order::HangUp);
        wait_until("one more snapshot", || gathered.ends.load(SeqCst) > ends);

        wait_until("all is published", || server.done.load(SeqCst) >= 60_300);
        server.publish(1);
        wait_until("all has come", || gathered.last.load(SeqCst) == 60_301);
        wait_until("all is well", || {
            gathered.qualities.lock().unwrap().last() == Some(&Quality::Ok)
        });
        let totals = pipeline.look();
        assert!(totals.gaps > 0 && totals.snapshots >= 3, "{totals:?}");
        assert!(totals.from_snapshots > 0, "{totals:?}");
        let outcome = end(pipeline, &stop);
        assert_eq!(outcome.totals.dropped, 0);
        assert_eq!(outcome.unreached, []);

        let expected = server.end();
        let gathered_state = gathered.state.lock().unwrap();
        assert_eq!(gathered_state.len(), expected.len(), "{engine:?}");
        for (key, value) in &expected {
            assert_eq!(
                gathered_state.get(key),
                Some(value),
                "{}",
                key.escape_ascii()
            );
        }
        let qualities = gathered.qualities.lock().unwrap();
        assert_eq!(
            qualities[..2],
            [Quality::Recovering, Quality::Ok],
            "{qualities:?}"
        );
        let gapped = qualities
            .iter()
            .position(|one| *one == Quality::Gapped)
            .unwrap();
        assert!(
            qualities[gapped..].starts_with(&[Quality::Gapped, Quality::Recovering]),
            "{qualities:?}"
        );
    }
}

/// Keeps the last number of each topic. Forgets them where it is told to.
#[derive(Default)]
struct Last {
    all: Arc<Mutex<HashMap<Vec<u8>, u64>>>,
}

impl Handler for Last {
    fn on_message(&mut self, message: &Message<'_>) {
        let number = message.sequence().expect("all are numbered");
        let before = self
            .all
            .lock()
            .unwrap()
            .insert(message.topic().to_vec(), number);
        let topic = message.topic().escape_ascii();
        assert!(before < Some(number), "{topic}: {number} after {before:?}");
    }

    fn on_snapshot(&mut self, _notice: &Notice<'_>, mark: SnapshotMark) {
        if mark == (SnapshotMark::Begins { is_whole: true }) {
            self.all.lock().unwrap().clear();
        }
    }
}

/// A publisher of topics with numbers of their own, and a server of their newest messages.
struct Numbered {
    published: SocketId,
    newest: BTreeMap<String, u64>,
}

impl Numbered {
    /// Publishes the next message of a topic, or loses it.
    fn next(&mut self, links: &mut Links, topic: &str, is_lost: bool) {
        let number = self.newest.entry(topic.to_owned()).or_insert(0);
        *number += 1;
        if !is_lost {
            links.publish(self.published, &[&sealed(topic, 1, *number)]);
        }
    }
}

impl Application for Numbered {
    fn on_message(&mut self, links: &mut Links, link: Link, _frames: &[&[u8]]) {
        for (topic, number) in &self.newest {
            links.send(link, &[&sealed(topic, 1, *number)]).unwrap();
        }
        links
            .send(link, &[b"KTHXBAI", &[0; 8], b"", b"", b""])
            .unwrap();
    }
}

#[test]
fn topics_with_numbers_of_their_own_lose_nothing_by_a_snapshot() {
    let mut reactor = Reactor::new(Clock::start()).unwrap();
    let published = reactor.socket(SocketPlan::new(SocketType::Pub));
    let asked = reactor.socket(SocketPlan::new(SocketType::Router));
    let mut config = Config::connect(
        &reactor.bind(published, "tcp://127.0.0.1:*").unwrap(),
        Envelope::Pinfeed,
    );
    let snapshots = reactor.bind(asked, "tcp://127.0.0.1:*").unwrap();
    config.feeds[0].snapshot = Some(Snapshot::from(snapshots.as_str()));
    let mut server = Numbered {
        published,
        newest: BTreeMap::new(),
    };
    for topic in ["a", "b", "c"] {
        server.next(reactor.links(), topic, true);
    }
    let all = Last::default().all;
    let (mut pipeline, stop) = start(&config, |_| Last { all: all.clone() });
    let mut turn_until =
        |reactor: &mut Reactor, server: &mut Numbered, what: &str, snapshots: u64| {
            wait_until(what, || {
                reactor.turn(server, Duration::from_millis(1)).unwrap();
                let all = all.lock().unwrap();
                let newest = server.newest.iter();
                let has_all = newest
                    .clone()
                    .all(|(topic, number)| all.get(topic.as_bytes()) == Some(number));
                has_all && pipeline.look().snapshots >= snapshots
            });
        };
    turn_until(&mut reactor, &mut server, "it has the past", 1);
    server.next(reactor.links(), "a", false);
    turn_until(&mut reactor, &mut server, "it goes on", 1);
    // What shows that others are missing is the newest of its topic all the same, and comes.
    server.next(reactor.links(), "b", true);
    server.next(reactor.links(), "b", false);
    server.next(reactor.links(), "c", true);
    turn_until(&mut reactor, &mut server, "it has what was lost", 2);
    // Nothing of another snapshot is news, and nothing is forgotten.
    let peers: Vec<Link> = reactor.links().peers(server.published).collect();
    peers
        .into_iter()
        .for_each(|peer| reactor.links().hang_up(peer));
    turn_until(&mut reactor, &mut server, "it is connected again", 3);
    server.next(reactor.links(), "a", false);
    turn_until(&mut reactor, &mut server, "it goes on again", 3);
    let outcome = end(pipeline, &stop);
    assert_eq!(outcome.totals.dropped, 0);
}

#[test]
fn a_late_handler_takes_its_past_from_a_cache() {
    const MESSAGES: u64 = 100_000;
    for engine in ENGINES {
        let total = MESSAGES.to_string();
        let (_publisher, feed) =
            publisher(&["--rate", "20000", "--messages", &total, "--topics", "500"]);
        let mut cache = Pinfeed::start(&[
            "cache",
            "--json",
            "--connect",
            &feed,
            "--serve",
            "tcp://127.0.0.1:*",
            "--snapshots",
            "tcp://127.0.0.1:*",
            "--envelope",
            "pinfeed",
        ]);
        let snapshots = cache.wait_for_line("snapshots at ");
        let served = cache.wait_for_line("serving on ");
        let context = zmq::Context::new();
        let witness = context.socket(zmq::SUB).unwrap();
        witness.set_rcvtimeo(60_000).unwrap();
        witness.set_subscribe(b"").unwrap();
        witness.connect(&served).unwrap();
        for _ in 0..20_000 {
            witness.recv_bytes(0).expect("the cache passes messages on");
        }
        let mut config = Config::connect(&feed, Envelope::Pinfeed);
        config.engine = Some(engine);
        config.feeds[0].snapshot = Some(Snapshot::from(snapshots.as_str()));
        let all = Last::default().all;
        let (pipeline, stop) = start(&config, |_| Last { all: all.clone() });
        // Numbers are those of each topic, from 0.
        wait_until("all has come", || {
            let all = all.lock().unwrap();
            all.values().map(|last| last + 1).sum::<u64>() == MESSAGES
        });
        let outcome = end(pipeline, &stop);
        let totals = outcome.totals;
        assert!(totals.snapshots >= 1, "{totals:?}");
        assert!(totals.received < MESSAGES, "it came late: {totals:?}");
        cache.signal(rustix::process::Signal::TERM);
        let summary = cache.json(143);
        assert!(
            summary["snapshots"].as_u64() >= Some(totals.snapshots),
            "{summary}"
        );
        assert_eq!(summary["unknown_requests"], 0);
    }
}

#[test]
fn a_late_handler_takes_its_past_from_a_clone_server() {
    let mut server = Pinfeed::start(&["clone", "serve", "--endpoint", "tcp://127.0.0.1:*"]);
    let snapshots = server.wait_for_line("serving on ");
    let (host, port) = snapshots.rsplit_once(':').unwrap();
    let feed = format!("{host}:{}", port.parse::<u16>().unwrap() + 1);
    let mut client = Client::start(&ClientPlan::new([snapshots.as_str()], b"")).unwrap();
    let turn = |client: &mut Client| client.turn(Duration::from_millis(10)).unwrap();
    let mut set = |updates: std::ops::Range<u32>| {
        for number in updates {
            while !client.can_send() || client.under_way() > 100 {
                turn(&mut client);
            }
            let key = format!("key.{:03}", number % 300);
            client
                .set(key.as_bytes(), &number.to_be_bytes(), None)
                .unwrap();
        }
        while client.under_way() > 0 {
            turn(&mut client);
        }
        let values = client.values().iter();
        values
            .map(|(key, value)| (key.to_vec(), (value.sequence, value.body.to_vec())))
            .collect::<HashMap<_, _>>()
    };
    set(0..1_000);
    let mut config = Config::connect(&feed, "kvmsg".parse::<Envelope>().unwrap());
    config.feeds[0].snapshot = Some(Snapshot::from(snapshots.as_str()));
    let gathered = Gathered::default();
    let (pipeline, stop) = start(&config, mirrors(&gathered));
    let expected = set(1_000..3_000);
    wait_until("it has the server's state", || {
        *gathered.state.lock().unwrap() == expected
    });
    let outcome = end(pipeline, &stop);
    assert!(outcome.totals.from_snapshots >= 300);
}

#[test]
fn what_is_held_is_bounded_and_nothing_is_delivered_before_its_past() {
    let server = Running::start(2);
    server.order(Order::Ignore(u64::MAX));
    let mut config = config(Engine::Native, &server);
    config.feeds[0].snapshot.as_mut().unwrap().held_bytes_max = 20_000;
    let gathered = Gathered::default();
    let (mut pipeline, stop) = start(&config, mirrors(&gathered));
    wait_until("it is connected", || pipeline.look().connects == 1);
    server.order(Order::Publish(2_000));
    wait_until("it has them", || pipeline.look().received == 2_000);
    let totals = pipeline.look();
    assert_eq!(totals.delivered, 0);
    assert!(totals.dropped > 1_000, "{totals:?}");

    server.order(Order::Ignore(0));
    wait_until("it has caught up", || gathered.last.load(SeqCst) == 2_000);
    server.publish(10);
    wait_until("the rest has come", || gathered.last.load(SeqCst) == 2_010);
    end(pipeline, &stop);
    let expected = server.end();
    let state = gathered.state.lock().unwrap();
    assert!(
        expected
            .iter()
            .all(|(key, value)| state.get(key) == Some(value))
    );
    assert_eq!(state.len(), expected.len());
}

#[test]
fn without_a_server_nothing_is_delivered_and_all_is_accounted_for() {
    let server = Running::start(3);
    let mut config = config(Engine::Native, &server);
    config.feeds[0].snapshot.as_mut().unwrap().connect = "tcp://127.0.0.1:1".to_owned();
    let gathered = Gathered::default();
    let (mut pipeline, stop) = start(&config, mirrors(&gathered));
    wait_until("it is connected", || pipeline.look().connects == 1);
    server.order(Order::Publish(100));
    wait_until("it has them", || pipeline.look().received == 100);
    wait_until("the reason is noted", || {
        let flight = pipeline.flight_record().entries();
        flight
            .iter()
            .any(|entry| entry.evidence.contains("tcp://127.0.0.1:1"))
    });
    let outcome = end(pipeline, &stop);
    assert_eq!((outcome.totals.delivered, outcome.totals.dropped), (0, 100));
    let [unreached] = &outcome.unreached[..] else {
        panic!("only the server: {:?}", outcome.unreached);
    };
    assert_eq!(unreached.endpoint, "tcp://127.0.0.1:1");
    assert_eq!(unreached.source, Source::Snapshots);
    assert!(unreached.attempts > 0 && unreached.reason.contains("refused"));
    server.end();
}

#[test]
fn a_snapshot_that_did_not_come_in_time_is_not_said_to_have_had_no_publisher() {
    let server = Running::start(7);
    let reason = |pipeline: &Pipeline<Mirror>| {
        let mut unreached = pipeline.unreached().into_iter();
        let server = unreached.find(|one| one.source == Source::Snapshots);
        server.expect("none has come").reason
    };
    // It is asked, and never says anything.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(Engine::Native, &server);
    config.feeds[0].snapshot = Some(Snapshot::from(
        format!("tcp://{}", silent.local_addr().unwrap()).as_str(),
    ));
    let (mut pipeline, stop) = start(&config, mirrors(&Gathered::default()));
    wait_until("it is connected", || pipeline.look().connects == 1);
    wait_until("it was asked", || {
        reason(&pipeline).starts_with("it was asked")
    });
    end(pipeline, &stop);

    // There is never room for what comes meanwhile.
    let snapshot = config.feeds[0].snapshot.as_mut().unwrap();
    snapshot.connect = server.snapshots.clone();
    snapshot.held_bytes_max = 16_384;
    server.order(Order::Ignore(u64::MAX));
    let (mut pipeline, stop) = start(&config, mirrors(&Gathered::default()));
    server.order(Order::Publish(u64::MAX));
    wait_until("some are dropped", || pipeline.look().dropped > 0);
    server.order(Order::Ignore(0));
    wait_until("it is outdated", || {
        reason(&pipeline).contains("raise held_bytes_max")
    });
    end(pipeline, &stop);
    server.end();
}

#[test]
fn a_heartbeat_waits_for_no_snapshot_and_shows_what_is_missing_at_the_end() {
    for topic in ["HUGZ", "beat"] {
        let server = Running::start(5);
        server.publish(100);
        server.order(Order::Ignore(u64::MAX));
        let mut config = config(Engine::Native, &server);
        config.feeds[0].envelope = beaten(topic);
        let gathered = Gathered::default();
        let (mut pipeline, stop) = start(&config, mirrors(&gathered));
        wait_until("a heartbeat has come", || {
            server.order(Order::Beat(topic));
            pipeline.look().delivered > 0
        });
        assert_eq!(pipeline.look().snapshots, 0);
        server.order(Order::Ignore(0));
        wait_until("it has the past", || gathered.ends.load(SeqCst) == 1);

        server.order(Order::Lose(3));
        server.order(Order::Beat(topic));
        wait_until("it has what was lost", || gathered.last.load(SeqCst) == 103);
        let totals = end(pipeline, &stop).totals;
        assert_eq!((totals.gaps, totals.dropped), (1, 0), "{totals:?}");
        assert_eq!(totals.snapshots, 2, "{totals:?}");
        let expected = server.end();
        let state = gathered.state.lock().unwrap();
        assert!(expected.iter().eq(state.iter().collect::<BTreeMap<_, _>>()));
    }
}

#[test]
fn without_a_snapshot_a_heartbeat_tells_of_what_was_lost() {
    for engine in ENGINES {
        let server = Running::start(6);
        let mut config = config(engine, &server);
        config.feeds[0].snapshot = None;
        config.feeds[0].envelope = beaten("beat");
        let (mut pipeline, stop) = start(&config, mirrors(&Gathered::default()));
        wait_until("it is subscribed", || {
            server.publish(1);
            pipeline.look().received > 0
        });
        server.order(Order::Lose(3));
        server.order(Order::Beat("beat"));
        wait_until("they are missed", || pipeline.look().gaps > 0);
        server.publish(1);
        wait_until("it goes on", || pipeline.look().received >= 3);
        let totals = end(pipeline, &stop).totals;
        assert_eq!((totals.lost(), totals.gaps), (3, 1), "{totals:?}");
        assert_eq!((totals.duplicates, totals.rejected()), (0, 0), "{totals:?}");
        server.end();
    }
}

/// Returns the envelope of the Clone pattern with heartbeats of another topic.
fn beaten(topic: &str) -> Envelope {
    let Envelope::Layout(mut layout) = "kvmsg".parse().unwrap() else {
        panic!("it is a layout");
    };
    Arc::make_mut(&mut layout).heartbeat = Some(topic.as_bytes().into());
    Envelope::Layout(layout)
}
