//! Goal: a worker that is slow makes its lane wait, measurably, and loses nothing; without keyed
//! sharding, other workers take over what it has no room for.

mod support;

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use pinfeed::{
    clock::Deadline,
    config::{Config, Engine, ShardingMode, TopicOverride},
    envelope::Envelope,
    handoff::HandoffKind,
    lane::Quota,
    message::{Message, Notice},
    pipeline::Pipeline,
    sequence::Quality,
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, Gate, bound_xpub, finish, publisher, sealed, wait_until};

const MESSAGES: u64 = 100_000;
const KINDS: [HandoffKind; 2] = [HandoffKind::Ring, HandoffKind::Inproc];

#[derive(Default)]
struct Stalled {
    gate: Option<Gate>,
    seen: Arc<AtomicU64>,
    /// Times it was told that a connection was lost.
    told: Arc<AtomicU64>,
}

impl Handler for Stalled {
    fn on_message(&mut self, _message: &Message<'_>) {
        if let Some(gate) = self.gate.take() {
            gate.pass();
        }
        self.seen.fetch_add(1, SeqCst);
    }

    fn on_quality(&mut self, _notice: &Notice<'_>, _from: Quality, to: Quality) {
        if to == Quality::Disconnected {
            self.told.fetch_add(1, SeqCst);
        }
    }
}

fn run(engine: Engine, mode: ShardingMode) -> (pinfeed::ledger::Totals, Vec<u64>) {
    let messages = MESSAGES.to_string();
    let (_publisher, endpoint) =
        publisher(&["--rate", "max", "--skew", "0", "--messages", &messages]);
    let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
    config.engine = Some(engine);
    config.sharding.mode = mode;
    config.handoff.batches = 4;
    let gate = Gate::default();
    let seen: [Arc<AtomicU64>; 2] = Default::default();
    let mut pipeline = Pipeline::start(&config, Quota::of(MESSAGES), Stop::default(), |worker| {
        Stalled {
            gate: (worker == 0).then(|| gate.clone()),
            seen: seen[worker].clone(),
            ..Stalled::default()
        }
    })
    .unwrap();
    // With keyed sharding worker 1 runs out of work when the lane waits for worker 0; without, it
    // goes on to do nearly all of it.
    let room = (config.handoff.batches * config.handoff.batch_messages) as u64;
    match mode {
        ShardingMode::Keyed => wait_until("the lane is stuck", || {
            let totals = pipeline.look();
            totals.blocked > 0 && totals.under_way() > 0
        }),
        ShardingMode::Balanced => wait_until("the other worker has done the work", || {
            seen[1].load(SeqCst) >= MESSAGES - room
        }),
    }
    assert_eq!(seen[0].load(SeqCst), 0);
    gate.open();
    let outcome = finish(pipeline);
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    let seen = seen.map(|seen| seen.load(SeqCst)).to_vec();
    (outcome.totals, seen)
}

#[test]
fn blocks_its_lane_and_loses_nothing() {
    for engine in ENGINES {
        let (totals, seen) = run(engine, ShardingMode::Keyed);
        assert_eq!((totals.received, totals.delivered), (MESSAGES, MESSAGES));
        assert_eq!(seen.iter().sum::<u64>(), MESSAGES);
        assert!(totals.blocked >= 1 && totals.blocked_ns > 0, "{totals:?}");
    }
}

/// While its lane waits, the socket is not read from: that must not look like a dead publisher.
#[test]
fn keeps_its_publisher_for_longer_than_heartbeats_may_fail() {
    for engine in ENGINES {
        keeps_its_publisher(engine);
    }
}

fn keeps_its_publisher(engine: Engine) {
    let messages = 600_000;
    let (_publisher, endpoint) = publisher(&["--rate", "max", "--messages", &messages.to_string()]);
    let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
    config.engine = Some(engine);
    config.workers.count = 1;
    config.receive.high_water_mark = 1_000;
    (
        config.receive.heartbeat_ms,
        config.receive.heartbeat_timeout_ms,
    ) = (50, 200);
    let gate = Gate::default();
    let mut pipeline =
        Pipeline::start(&config, Quota::of(messages), Stop::default(), |_| Stalled {
            gate: Some(gate.clone()),
            ..Stalled::default()
        })
        .unwrap();
    wait_until("the lane is stuck", || pipeline.look().blocked > 0);
    let stall = Deadline::after(Duration::from_secs(2));
    while !stall.passed() {
        assert_eq!(pipeline.look().delivered, 0);
    }
    gate.open();
    let totals = finish(pipeline).totals;
    assert_eq!(totals.delivered, messages);
    // It leaves when all is sent, and had no need to come back.
    assert_eq!(totals.connects, 1);
}

#[test]
fn is_passed_over_when_balanced() {
    for engine in ENGINES {
        let (totals, seen) = run(engine, ShardingMode::Balanced);
        assert_eq!((totals.received, totals.delivered), (MESSAGES, MESSAGES));
        assert_eq!(seen.iter().sum::<u64>(), MESSAGES);
        assert!(seen[1] > seen[0], "{seen:?}");
    }
}

/// At a rate at which each read brings a message, a batch is a message: a worker that is behind must not use all of them
/// up with so few.
#[test]
fn leaves_its_lane_to_others_for_as_long_as_batches_have_room() {
    const EACH: u64 = 300;
    for (engine, kind) in ENGINES
        .into_iter()
        .flat_map(|engine| KINDS.map(|kind| (engine, kind)))
    {
        let context = zmq::Context::new();
        let (publisher, endpoint) = bound_xpub(&context);
        let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
        config.engine = Some(engine);
        config.handoff.kind = kind;
        (config.handoff.batches, config.handoff.batch_messages) = (8, 128);
        let topics = ["BTC", "ETH"];
        config.sharding.overrides = iter::zip(topics, 0..)
            .map(|(topic, worker)| TopicOverride {
                prefix: topic.to_owned(),
                worker,
            })
            .collect();
        let gate = Gate::default();
        let seen: [Arc<AtomicU64>; 2] = Default::default();
        let stop = Stop::default();
        let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |worker| {
            Stalled {
                gate: (worker == 0).then(|| gate.clone()),
                seen: seen[worker].clone(),
                ..Stalled::default()
            }
        })
        .unwrap();
        publisher.recv_bytes(0).unwrap();
        for sequence in 0..EACH {
            for topic in topics {
                publisher.send(sealed(topic, 1, sequence), 0).unwrap();
            }
            wait_until("the other worker has it", || {
                seen[1].load(SeqCst) == sequence + 1
            });
        }
        assert_eq!(seen[0].load(SeqCst), 0);
        assert_eq!(pipeline.look().blocked, 0, "{engine:?} {kind}");
        gate.open();
        wait_until("what the lane kept has gone as well", || {
            pipeline.look().delivered == 2 * EACH
        });
        stop.request();
        assert_eq!(finish(pipeline).totals.blocked, 0);
    }
}

#[test]
fn is_told_late_what_no_lane_waits_to_tell() {
    for engine in ENGINES {
        let context = zmq::Context::new();
        let (publisher, endpoint) = bound_xpub(&context);
        let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
        config.engine = Some(engine);
        config.sharding.mode = ShardingMode::Balanced;
        (config.handoff.batches, config.handoff.batch_messages) = (2, 1);
        let gate = Gate::default();
        let seen: [Arc<AtomicU64>; 2] = Default::default();
        let told: [Arc<AtomicU64>; 2] = Default::default();
        let stop = Stop::default();
        let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |worker| {
            Stalled {
                gate: (worker == 0).then(|| gate.clone()),
                seen: seen[worker].clone(),
                told: told[worker].clone(),
            }
        })
        .unwrap();
        publisher.recv_bytes(0).unwrap();
        for sequence in 0..16 {
            publisher.send(sealed("BTC", 1, sequence), 0).unwrap();
        }
        wait_until("all of worker 0's batches are under way", || {
            let totals = pipeline.look();
            totals.received == 16 && totals.delivered >= 14
        });
        let blocked = pipeline.look().blocked;
        publisher.unbind(&endpoint).unwrap();
        drop(publisher);
        wait_until("the other worker is told", || told[1].load(SeqCst) == 1);
        assert_eq!(pipeline.look().blocked, blocked, "{engine:?}");
        assert_eq!(told[0].load(SeqCst), 0);
        gate.open();
        wait_until("worker 0 is told", || told[0].load(SeqCst) == 1);
        stop.request();
        let totals = finish(pipeline).totals;
        assert_eq!((totals.delivered, totals.untold), (16, 0));
    }
}
