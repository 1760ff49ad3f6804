//! Goal: a shard changes its worker while messages come as fast as they can be taken, and nothing shows it: each
//! topic's messages stay in order across workers, and the ledger is exact. And shards that leave a worker by
//! themselves leave it what cannot be shared.

mod support;

use std::{
    fs, iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use pinfeed::{
    config::{Config, Engine, OnLate, ShardingMode, TopicOverride, TopicPolicy},
    handoff::HandoffKind,
    lane::Quota,
    message::Message,
    pipeline::{Outcome, Owner, Pipeline},
    policy::Policy,
    shard::{SHARDS, ShardTable, shard_of, topic_hash},
    stop::Stop,
    worker::Handler,
};
use rustix::process::Signal;
use serde_json::Value;
use support::{
    ENGINES, Pinfeed, assert_all_delivered, finish,
    moves::{self, WORKERS, move_at_random},
    publisher, wait_until,
};
use tempfile::TempDir;

const TOPICS: usize = 1_000;
const MOVES: u64 = 100;

/// What all workers have seen, by topic: the number to come next.
#[derive(Clone)]
struct Seen(Arc<Vec<AtomicU64>>);

impl Default for Seen {
    fn default() -> Self {
        Self(Arc::new((0..TOPICS).map(|_| AtomicU64::new(0)).collect()))
    }
}

/// Checks the order of topics that any worker may have.
struct InOrder {
    seen: Seen,
    /// Whether numbers may be missing.
    gives_up: bool,
    /// Waits for so long at each batch, so that handoffs are full.
    busy: Duration,
    messages: u64,
}

fn topic_number(topic: &[u8]) -> usize {
    let digits = std::str::from_utf8(topic).unwrap().strip_prefix("sim.");
    digits.expect("a topic of ours").parse().unwrap()
}

impl Handler for InOrder {
    fn on_message(&mut self, message: &Message<'_>) {
        let sequence = message.sequence().expect("the envelope has numbers");
        let next = self.seen.0[topic_number(message.topic())].swap(sequence + 1, SeqCst);
        let topic = message.topic().escape_ascii();
        if self.gives_up {
            assert!(next <= sequence, "{topic}: {sequence} after {next}");
        } else {
            assert_eq!(sequence, next, "{topic}");
        }
        self.messages += 1;
    }

    fn on_batch_end(&mut self, _batch: &pinfeed::handoff::Batch) {
        // Not by reckoning: lane and publisher have to get the cores that they need to be faster.
        thread::sleep(self.busy);
    }
}

fn assert_exact(outcome: &Outcome<InOrder>, case: &str) {
    assert!(outcome.failure.is_none(), "{case}: {:?}", outcome.failure);
    assert!(outcome.totals.balanced(), "{case}: {:?}", outcome.totals);
    let seen: u64 = outcome.handlers.iter().map(|one| one.messages).sum();
    assert_eq!(outcome.totals.delivered, seen, "{case}");
}

fn config(endpoint: &str, engine: Engine, kind: HandoffKind, policy: Policy) -> Config {
    let mut config = moves::config(endpoint, engine, kind);
    config.feeds[0].policies = vec![on("*", policy)];
    config
}

fn on(topic: &str, policy: Policy) -> TopicPolicy {
    TopicPolicy {
        topic: Some(topic.to_owned()),
        policy,
    }
}

/// Starts a pipeline whose workers keep the order of `seen`, and take `busy` for each batch.
fn start(config: &Config, stop: &Stop, gives_up: bool, busy: Duration) -> Pipeline<InOrder> {
    let seen = Seen::default();
    let pipeline = Pipeline::start(config, Quota::unlimited(), stop.clone(), |_| InOrder {
        seen: seen.clone(),
        gives_up,
        busy,
        messages: 0,
    });
    pipeline.unwrap()
}

#[test]
fn a_hundred_moves_under_full_load() {
    let policies = [
        Policy::Block,
        Policy::DropNewest,
        Policy::DropOldest,
        Policy::Conflate,
    ];
    for engine in ENGINES {
        for kind in [HandoffKind::Ring, HandoffKind::Inproc] {
            for policy in policies {
                let gives_up_old = matches!(policy, Policy::DropOldest | Policy::Conflate);
                if gives_up_old && kind == HandoffKind::Inproc {
                    continue;
                }
                let case = format!("{engine:?}, {kind}, {policy}");
                // As evenly as it takes for each topic to be among the messages that are sent over and over.
                let topics = TOPICS.to_string();
                let feed = ["--blast", "--rate", "max", "--skew", "0.5", "--topics"];
                let (_publisher, endpoint) = publisher(&[&feed[..], &[&topics]].concat());
                let stop = Stop::default();
                let config = config(&endpoint, engine, kind, policy);
                let busy = Duration::from_micros(50);
                let pipeline = start(&config, &stop, policy != Policy::Block, busy);
                let outcome = move_at_random(pipeline, &stop, MOVES, 1);
                assert_exact(&outcome, &case);
                let totals = outcome.totals;
                let conflates = policy == Policy::Conflate;
                assert_eq!(totals.conflated > 0, conflates, "{case}: {totals:?}");
                assert!(totals.delivered > 0, "{case}: {totals:?}");
                let seen = &outcome.handlers[0].seen.0;
                let unseen = seen.iter().filter(|next| next.load(SeqCst) == 0).count();
                assert_eq!(unseen, 0, "{case}: of {TOPICS} topics");
            }
        }
    }
}

/// Whatever comes of a shard that is more than a worker can do: what is held of it comes to an end, under load.
#[test]
fn a_shard_that_is_more_than_a_worker_moves_as_well() {
    const BUSIEST: &str = "sim.00000";
    let shard = shard_of(topic_hash(BUSIEST.as_bytes()));
    let alone = Policy::ALL.map(|policy| vec![on("*", policy)]);
    let mixed = vec![
        on("*", Policy::DropNewest),
        on(BUSIEST, Policy::Block),
        on("sim.00001", Policy::DropOldest),
    ];
    for policies in alone.into_iter().chain([mixed]) {
        let topics = TOPICS.to_string();
        let feed = ["--blast", "--rate", "max", "--skew", "1.9", "--topics"];
        let (_publisher, endpoint) = publisher(&[&feed[..], &[&topics]].concat());
        let mut config = config(&endpoint, Engine::Native, HandoffKind::Ring, Policy::Block);
        let waits = |it: &TopicPolicy| matches!(it.policy, Policy::Block | Policy::Snail);
        let gives_up = !policies.iter().all(waits);
        let case = format!("{policies:?}");
        config.feeds[0].policies = policies;
        config.policy.on_late = OnLate::Alarm;
        let stop = Stop::default();
        let busy = Duration::from_micros(200);
        let mut pipeline = start(&config, &stop, gives_up, busy);
        wait_until("handoffs are full", || {
            let totals = pipeline.look();
            totals.blocked + totals.dropped + totals.conflated > 0
        });
        for round in 0..10 {
            let table = pipeline.shards().unwrap();
            let owner = table[shard];
            let beside = (0..SHARDS).filter(|&one| one != shard && table[one] == owner);
            // With some that go along, and one that waits behind them.
            for one in iter::once(shard).chain(beside.take(10)) {
                pipeline.move_shard(one, (owner + 1) % WORKERS).unwrap();
            }
            pipeline
                .move_shard((shard + 1) % SHARDS, round % WORKERS)
                .unwrap();
            wait_until("all have moved", || {
                assert!(!pipeline.is_finished(), "a handler found disorder");
                !pipeline.is_moving()
            });
        }
        stop.request();
        assert_exact(&finish(pipeline), &case);
    }
}

/// A pipeline that ends while a shard waits to move delivers what is held for it.
#[test]
fn what_is_held_at_the_end_is_delivered() {
    let (_publisher, endpoint) = publisher(&["--blast", "--rate", "max"]);
    let config = config(&endpoint, Engine::Native, HandoffKind::Ring, Policy::Block);
    let stop = Stop::default();
    let mut pipeline = start(&config, &stop, false, Duration::from_millis(20));
    wait_until("handoffs are full", || pipeline.look().blocked > 0);
    for shard in 0..SHARDS {
        pipeline.move_shard(shard, (shard + 1) % WORKERS).unwrap();
    }
    // More than the read that it was at: by now it has heard of the moves.
    let before = pipeline.look().received;
    wait_until("it moves shards", || {
        pipeline.look().received > before + 20_000
    });
    assert!(pipeline.is_moving());
    stop.request();
    assert_exact(&finish(pipeline), "at the end");
}

/// Where one topic has more than half of all messages, all others leave its worker.
#[test]
fn a_busy_topic_gets_a_worker_to_itself() {
    others_leave_the_busiest_topic(None);
}

/// Also where it can't move, nor its shard tell of it.
#[test]
fn a_busy_topic_with_an_override_gets_its_worker_to_itself() {
    others_leave_the_busiest_topic(Some(2));
}

fn others_leave_the_busiest_topic(given_to: Option<usize>) {
    const BUSIEST: &str = "sim.00000";
    let (_publisher, endpoint) = publisher(&["--blast", "--rate", "max", "--skew", "1.9"]);
    let mut config = config(&endpoint, Engine::Native, HandoffKind::Ring, Policy::Block);
    config
        .sharding
        .overrides
        .extend(given_to.map(|worker| TopicOverride {
            prefix: BUSIEST.to_owned(),
            worker,
        }));
    let stop = Stop::default();
    let mut pipeline = start(&config, &stop, false, Duration::from_micros(200));
    let busy = shard_of(topic_hash(BUSIEST.as_bytes()));
    // Enough for the sample to tell the shards of rare topics as well.
    let mut moved = false;
    wait_until("nothing moves any more", || {
        let before = pipeline.look().received;
        wait_until("more has come", || {
            pipeline.look().received > before + 100_000
        });
        let moves = pipeline.rebalance().unwrap();
        moved |= !moves.is_empty();
        moved && moves.is_empty() && !pipeline.is_moving()
    });
    let table = pipeline.shards().unwrap();
    let worker = given_to.unwrap_or(table[busy]);
    // The next twenty topics have two thirds of what is left.
    for topic in 1..20 {
        let shard = shard_of(topic_hash(format!("sim.{topic:05}").as_bytes()));
        let cannot_leave = shard == busy && given_to.is_none();
        assert!(
            table[shard] != worker || cannot_leave,
            "topic {topic}, {table:?}"
        );
    }
    stop.request();
    assert_exact(&finish(pipeline), "skew");
}

/// As a user has it, by flag and by file: once a second, as long as workers are behind.
#[test]
fn a_run_that_rebalances_leaves_the_busiest_topic_a_worker() {
    // Few enough that each is there, and that each shard shows in a second's sample.
    const TOPICS: usize = 40;
    let shard = |topic: usize| shard_of(topic_hash(format!("sim.{topic:05}").as_bytes()));
    let at_first = ShardTable::new(WORKERS, Vec::new()).unwrap();
    let busy = shard(0);
    let others: Vec<usize> = (1..TOPICS).map(shard).filter(|&one| one != busy).collect();
    let beside_busy = |owner_of: &dyn Fn(usize) -> usize| {
        let beside = others
            .iter()
            .filter(|&&one| owner_of(one) == owner_of(busy));
        beside.count()
    };
    assert!(beside_busy(&|shard| at_first.owner_of(shard)) > 0);
    let folder = TempDir::new().unwrap();
    for (flags, sharding) in [
        (&["--rebalance"][..], ""),
        (&[], "[sharding]\nrebalance = true\n"),
    ] {
        let topics = TOPICS.to_string();
        let feed = ["--blast", "--rate", "max", "--skew", "1.9", "--topics"];
        let (_publisher, endpoint) = publisher(&[&feed[..], &[&topics]].concat());
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (feeds, socket, digests) = (path("feeds.toml"), path("socket"), path("digests.csv"));
        // Handoffs that are soon full, so that workers are behind.
        let text = format!(
            "{sharding}[handoff]\nbatches = 2\nbatch_messages = 64\n[[lane]]\nname = \"a\"\n[[feed]]\nname = \"f\"\n\
             envelope = \"pinfeed\"\n[[feed.line]]\nlane = \"a\"\nconnect = [\"{endpoint}\"]\n"
        );
        fs::write(&feeds, text).unwrap();
        let fixed = [
            "run",
            &feeds,
            "--workers",
            "4",
            "--json",
            "--digests",
            &digests,
        ];
        let mut run = Pinfeed::start(&[&fixed[..], &["--control", &socket], flags].concat());
        run.wait_for_line("answering at ");
        wait_until("the busiest topic has a worker to itself", || {
            let (status, answer) = Pinfeed::start(&["ctl", &socket, "shards"]).finish();
            assert!(status.success(), "{answer}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let owner_of = |shard: usize| answer["workers"][shard].as_u64().unwrap() as usize;
            answer["moving"] == false && beside_busy(&owner_of) == 0
        });
        run.signal(Signal::INT);
        let summary = run.json(130);
        let told = "shards move to workers that get fewer messages: ";
        assert!(run.said.contains(told), "{}", run.said);
        assert_eq!(summary["lost"], 0, "{summary}");
        assert_all_delivered(&summary, summary["received"].as_u64().unwrap());
        let digests = fs::read_to_string(&digests).unwrap();
        // Topics that moved: no worker knows the order of all their messages.
        assert!(digests.lines().any(|row| row.ends_with(',')));
        let messages = digests.lines().skip(1).map(|row| {
            let mut fields = row.split(',').skip(1);
            fields.next().unwrap().parse::<f64>().unwrap()
        });
        let messages: Vec<f64> = messages.collect();
        assert_eq!(messages.len(), TOPICS);
        let share = messages.iter().copied().fold(0.0, f64::max) / messages.iter().sum::<f64>();
        assert!((0.5..0.6).contains(&share), "{share}");
    }
}

#[test]
fn what_cannot_move_is_refused() {
    let (_publisher, endpoint) = publisher(&["--rate", "100"]);
    let mut config = config(&endpoint, Engine::Native, HandoffKind::Ring, Policy::Block);
    config.sharding.overrides.push(TopicOverride {
        prefix: "BTC-USDT".to_owned(),
        worker: 3,
    });
    let stop = Stop::default();
    let mut pipeline = start(&config, &stop, false, Duration::ZERO);
    // One has a shard that moves, the other stays with its worker.
    for (topic, shard, worker) in [("BTC-USD", Some(0xda), 2), ("BTC-USDT", None, 3)] {
        let owner = Some(Owner { shard, worker });
        assert_eq!(pipeline.owner_of(topic.as_bytes()), owner);
    }
    let refused = |result: pinfeed::Result<()>| result.unwrap_err().to_string();
    assert!(refused(pipeline.move_shard(SHARDS, 0)).contains("from 0 to 255"));
    assert!(refused(pipeline.move_shard(0, WORKERS)).contains("from 0 to 3"));
    stop.request();
    assert_exact(&finish(pipeline), "refused");
    config.sharding.overrides.clear();
    config.sharding.mode = ShardingMode::Balanced;
    let stop = Stop::default();
    let mut pipeline = start(&config, &stop, true, Duration::ZERO);
    assert!(refused(pipeline.move_shard(0, 0)).contains("keyed"));
    assert!(pipeline.owner_of(b"BTC-USD").is_none());
    assert!(pipeline.shards().is_none() && pipeline.rebalance().unwrap().is_empty());
    stop.request();
    finish(pipeline);
}
