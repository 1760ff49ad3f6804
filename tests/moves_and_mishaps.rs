//! Goal: shards change their workers while other things happen, each by both engines: messages are lost, topics go
//! silent, a handler panics, some topics are conflated or dropped and others are not, and a feed comes twice. Each
//! topic's messages, and what is told of it, stay in order across workers, and the ledger is exact.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use pinfeed::{
    Error,
    clock::Stopwatch,
    config::{Arbitration, Config, HandlerPanic, Lane, Line, TopicPolicy},
    handoff::{Batch, HandoffKind},
    lane::Quota,
    message::{Message, Notice},
    pipeline::{Outcome, Pipeline},
    policy::Policy,
    random::seeded,
    sequence::{Gap, Quality},
    shard::{shard_of, topic_hash},
    stop::Stop,
    worker::Handler,
};
use support::{
    ENGINES, finish,
    lossy::{Faults, Lossy},
    moves::{WORKERS, config, move_at_random, move_one},
    publisher, wait_until,
};

const TOPICS: usize = 600;
const MOVES: u64 = 60;
/// What a handler takes for a batch, so that handoffs are full.
const BUSY: Duration = Duration::from_micros(50);

/// What all workers together have seen of a topic.
#[derive(Default)]
struct Topic {
    /// The number to come next.
    next: u64,
    quality: Option<Quality>,
    /// The workers that had it, one after the other.
    workers: Vec<usize>,
}

/// What all workers share.
#[derive(Clone)]
struct Shared {
    topics: Arc<Vec<Mutex<Topic>>>,
    /// Worker 0 panics at its next message.
    panics: Arc<AtomicBool>,
    busy: Duration,
    /// Topics from this number on may miss numbers that nobody told of.
    given_up_from: usize,
}

/// Checks the order of topics that any worker may have.
struct InOrder {
    worker: usize,
    shared: Shared,
    line: Quality,
    messages: u64,
    /// Messages missing, as told.
    missing: u64,
}

fn number_of(topic: &[u8]) -> usize {
    let digits = std::str::from_utf8(topic).unwrap().strip_prefix("sim.");
    digits.expect("a topic of ours").parse().unwrap()
}

impl InOrder {
    fn with<T>(&self, topic: &[u8], look: impl FnOnce(&mut Topic) -> T) -> T {
        look(&mut self.shared.topics[number_of(topic)].lock().unwrap())
    }
}

impl Handler for InOrder {
    fn on_message(&mut self, message: &Message<'_>) {
        let panics = self.worker == 0 && self.shared.panics.load(SeqCst);
        assert!(!panics, "as it was asked to");
        let sequence = message.sequence().expect("the envelope has numbers");
        let (name, worker) = (message.topic(), self.worker);
        let may_miss = number_of(name) >= self.shared.given_up_from;
        self.with(name, |topic| {
            let next = std::mem::replace(&mut topic.next, sequence + 1);
            let is_next = sequence == next || (may_miss && sequence > next);
            assert!(is_next, "{}: {sequence}, not {next}", name.escape_ascii());
            if topic.workers.last() != Some(&worker) {
                topic.workers.push(worker);
            }
        });
        self.messages += 1;
    }

    fn on_gap(&mut self, notice: &Notice<'_>, gap: &Gap) {
        self.with(notice.topic.expect("numbers are by topic"), |topic| {
            assert_eq!(gap.from, topic.next, "told in its place");
            topic.next = gap.to + 1;
        });
        self.missing += gap.count;
    }

    fn on_quality(&mut self, notice: &Notice<'_>, from: Quality, to: Quality) {
        let before = match notice.topic {
            Some(name) => self.with(name, |topic| topic.quality.replace(to)),
            None => Some(std::mem::replace(&mut self.line, to)),
        };
        assert_eq!(before.unwrap_or(Quality::Ok), from, "{notice:?}");
    }

    fn on_batch_end(&mut self, _batch: &Batch) {
        let stopwatch = Stopwatch::start();
        while u128::from(stopwatch.elapsed_ns()) < self.shared.busy.as_nanos() {
            std::hint::spin_loop();
        }
    }
}

impl Shared {
    fn new(busy: Duration) -> Self {
        Self {
            topics: Arc::new((0..TOPICS).map(|_| Mutex::default()).collect()),
            panics: Arc::default(),
            busy,
            given_up_from: usize::MAX,
        }
    }

    fn start(&self, config: &Config, stop: &Stop) -> Pipeline<InOrder> {
        let pipeline =
            Pipeline::start(config, Quota::unlimited(), stop.clone(), |worker| InOrder {
                worker,
                shared: self.clone(),
                line: Quality::Disconnected,
                messages: 0,
                missing: 0,
            });
        pipeline.unwrap()
    }
}

/// Returns how many messages handlers saw, and how many they were told are missing.
fn assert_exact(outcome: &Outcome<InOrder>) -> (u64, u64) {
    let totals = outcome.totals;
    assert!(totals.balanced(), "{totals:?}");
    let seen = outcome.handlers.iter().map(|one| one.messages).sum();
    assert_eq!(totals.delivered, seen);
    let missing = outcome.handlers.iter().map(|one| one.missing).sum();
    (seen, missing)
}

fn blast() -> (support::Pinfeed, String) {
    let topics = TOPICS.to_string();
    let skew = ["--topics", &topics, "--skew", "0"];
    publisher(&[&["--blast", "--rate", "max"], &skew[..]].concat())
}

/// A line more that is a copy, of a publisher with the same epoch.
fn add_copy(config: &mut Config, endpoint: &str) {
    config.feeds[0].arbitration = Some(Arbitration::default());
    let mut line = Line::on("b");
    line.connect.push(endpoint.to_owned());
    config.lanes.push(Lane::named("b"));
    config.feeds[0].lines.push(line);
}

#[test]
fn topics_of_several_policies() {
    for engine in ENGINES {
        let (_publisher, endpoint) = blast();
        let mut config = config(&endpoint, engine, HandoffKind::Ring);
        let rule = |prefix: &str, policy| TopicPolicy {
            topic: Some(prefix.to_owned()),
            policy,
        };
        // A third each: those of 200 on and of 400 on.
        config.feeds[0].policies = vec![
            rule("*", Policy::Block),
            rule("sim.002", Policy::DropOldest),
            rule("sim.003", Policy::DropOldest),
            rule("sim.004", Policy::Conflate),
            rule("sim.005", Policy::Conflate),
        ];
        let mut shared = Shared::new(BUSY);
        shared.given_up_from = 200;
        let stop = Stop::default();
        let outcome = move_at_random(shared.start(&config, &stop), &stop, MOVES, 1);
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        assert_exact(&outcome);
        let totals = outcome.totals;
        assert!(
            totals.blocked > 0 && totals.conflated > 0,
            "{engine:?}: {totals:?}"
        );
    }
}

#[test]
fn gaps_and_qualities_are_told_in_their_place() {
    const MESSAGES: u64 = 150_000;
    for engine in ENGINES {
        let (topics, messages) = (TOPICS.to_string(), MESSAGES.to_string());
        let (_publisher, endpoint) = publisher(&[
            "--topics",
            &topics,
            "--skew",
            "0",
            "--rate",
            "50000",
            "--messages",
            &messages,
        ]);
        let faults = Faults {
            seed: 5,
            loss: 0.005,
            burst_max: 4,
            repeat: 0.005,
            delay: 0.0,
            delay_max: 1,
            messages: MESSAGES,
            // Each topic a few times.
            spared: 20 * TOPICS as u64,
            lives: 1,
        };
        let proxy = Lossy::start(&endpoint, faults);
        let mut config = config(&proxy.endpoint, engine, HandoffKind::Ring);
        config.feeds[0].sequence.from_start = true;
        // A topic comes every 12 ms.
        config.feeds[0].quality.recover_ms = 30;
        config.feeds[0].quality.stale_after_ms = 40;
        let shared = Shared::new(BUSY);
        let stop = Stop::default();
        let mut pipeline = shared.start(&config, &stop);
        let mut random = seeded(3);
        wait_until("messages come", || pipeline.look().received > 0);
        while pipeline.look().received < MESSAGES / 2 {
            move_one(&mut pipeline, &mut random);
        }
        let lost = proxy.finish().len() as u64;
        wait_until("all has come", || {
            assert!(!pipeline.is_finished(), "a handler found disorder");
            let totals = pipeline.look();
            totals.received - totals.duplicates + lost == MESSAGES
        });
        stop.request();
        let outcome = finish(pipeline);
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        let (seen, missing) = assert_exact(&outcome);
        assert_eq!((seen + lost, missing), (MESSAGES, lost), "{engine:?}");
        assert!(lost > 0 && outcome.totals.duplicates > 0, "{engine:?}");
    }
}

#[test]
fn a_worker_that_fails_is_left_by_shards_and_joined_by_others() {
    for engine in ENGINES {
        let (_publisher, endpoint) = blast();
        let mut config = config(&endpoint, engine, HandoffKind::Ring);
        config.workers.handler_panic = HandlerPanic::Isolate;
        let mut shared = Shared::new(10 * BUSY);
        shared.given_up_from = 0;
        let stop = Stop::default();
        let mut pipeline = shared.start(&config, &stop);
        wait_until("handoffs are full", || pipeline.look().blocked > 0);
        let table = pipeline.shards().unwrap();
        for (shard, &worker) in table.iter().enumerate().take(64) {
            pipeline
                .move_shard(shard, usize::from(worker == 0))
                .unwrap();
        }
        shared.panics.store(true, SeqCst);
        wait_until("all have moved, from and to it", || !pipeline.is_moving());
        let outcome = move_at_random(pipeline, &stop, MOVES / 4, 4);
        match &outcome.failure {
            Some(Error::HandlerPanicked { worker, message }) => {
                assert_eq!(worker, "worker-0");
                assert_eq!(message, "as it was asked to");
            }
            other => panic!("the panic is the failure, not {other:?}"),
        }
        assert_exact(&outcome);
        assert!(outcome.totals.dropped > 0, "{:?}", outcome.totals);
    }
}

#[test]
fn shards_of_copies_move_as_well() {
    for engine in ENGINES {
        let copy = ["--epoch", "7", "--rate", "50000", "--topics", "600"];
        let ((_a, endpoint_a), (_b, endpoint_b)) = (publisher(&copy), publisher(&copy));
        let mut config = config(&endpoint_a, engine, HandoffKind::Ring);
        add_copy(&mut config, &endpoint_b);
        let stop = Stop::default();
        let mut pipeline = Shared::new(Duration::ZERO).start(&config, &stop);
        wait_until("both copies come", || pipeline.look().duplicates > 0);
        let outcome = move_at_random(pipeline, &stop, MOVES, 2);
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        assert_exact(&outcome);
    }
}

/// Each line brings an order to move, and the feed makes it but once.
#[test]
fn shards_of_copies_move_where_they_are_told_to_and_no_way_back() {
    const FEW: usize = 4;
    for engine in ENGINES {
        let topics = FEW.to_string();
        let copy = ["--epoch", "7", "--rate", "10000", "--topics", &topics];
        let ((_a, endpoint_a), (_b, endpoint_b)) = (publisher(&copy), publisher(&copy));
        let mut config = config(&endpoint_a, engine, HandoffKind::Ring);
        add_copy(&mut config, &endpoint_b);
        let stop = Stop::default();
        let shared = Shared::new(4 * BUSY);
        let mut pipeline = shared.start(&config, &stop);
        let workers = |topic: usize| shared.topics[topic].lock().unwrap().workers.clone();
        wait_until("all topics come", || {
            (0..FEW).all(|topic| !workers(topic).is_empty())
        });
        let table = pipeline.shards().unwrap();
        let ways: Vec<[usize; WORKERS]> = (0..FEW)
            .map(|topic| {
                let name = format!("sim.{topic:05}");
                let shard = shard_of(topic_hash(name.as_bytes()));
                let way = std::array::from_fn(|step| (table[shard] + step) % WORKERS);
                // Of topics that share a shard the first one has it moved.
                if pipeline.shards().unwrap()[shard] == table[shard] {
                    for worker in &way[1..] {
                        pipeline.move_shard(shard, *worker).unwrap();
                    }
                }
                way
            })
            .collect();
        wait_until("all are where they were told to go", || {
            !pipeline.is_moving()
                && (0..FEW).all(|topic| workers(topic).last() == ways[topic].last())
        });
        stop.request();
        let outcome = finish(pipeline);
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        assert_exact(&outcome);
        for (topic, way) in ways.iter().enumerate() {
            let had = workers(topic);
            // Nothing may have come while one of them had it.
            let mut rest = way.iter();
            let forth = had.iter().all(|worker| rest.any(|step| step == worker));
            assert!(
                forth,
                "{engine:?}: topic {topic} was with {had:?} on its way {way:?}"
            );
        }
    }
}
