//! Goal: a slow worker costs what its topics' policy says and nothing else: other workers go on, every
//! message is counted by topic, memory stays bounded, and what is conflated is vouched for by receipts.

mod support;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    iter, mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use flate2::bufread::MultiGzDecoder;
use pinfeed::{
    Error,
    clock::Stopwatch,
    config::{Config, Engine, HandlerPanic, Lane, ShardingMode, TopicPolicy},
    envelope::Envelope,
    handoff::HandoffKind,
    lane::Quota,
    ledger::Totals,
    message::Message,
    pipeline::{Outcome, Pipeline},
    policy::Policy,
    receipt::Receipt,
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, Gate, Pinfeed, captures, finish, publisher, wait_until};

const MESSAGES: u64 = 200_000;
const WORKERS: usize = 4;
/// Few and small, so that the stalled worker's are full soon.
const BATCHES: usize = 8;
const BATCH_MESSAGES: usize = 128;
/// The most messages under way to one worker.
const ROOM: i64 = (BATCHES * BATCH_MESSAGES) as i64;
/// The most messages that a lane has counted as received while they are in no batch and not yet counted as given up:
/// 1,024 that the ledger is to learn of, and as many as a lane takes at once.
const LANE_MAX: i64 = 2 * 1_024;

/// What a handler has seen of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    delivered: u64,
    /// What deliveries stood for beside themselves.
    stood_for: u64,
    last: Option<u64>,
    payload: Vec<u8>,
}

/// Checks order and receipts, topic by topic.
#[derive(Default)]
struct Watch {
    gate: Option<Gate>,
    /// Spins for so long at each message.
    busy: Duration,
    panics_at: Option<u64>,
    all: Arc<AtomicU64>,
    receipt: Option<Receipt>,
    topics: BTreeMap<Vec<u8>, Seen>,
}

impl Handler for Watch {
    fn on_message(&mut self, message: &Message<'_>) {
        if let Some(gate) = self.gate.take() {
            gate.pass();
        }
        let seen = self.all.fetch_add(1, SeqCst);
        if self.panics_at == Some(seen) {
            self.all.fetch_sub(1, SeqCst);
            panic!("as planned");
        }
        let topic = self.topics.entry(message.topic().to_vec()).or_default();
        let sequence = message.sequence().expect("the envelope has numbers");
        assert!(topic.last.is_none_or(|last| last < sequence), "in order");
        if let Some(receipt) = self.receipt.take() {
            assert!(receipt.messages >= 2);
            assert_eq!(receipt.last_sequence, Some(sequence));
            let first = receipt.first_sequence.expect("they have numbers");
            assert!(topic.last.is_none_or(|last| last < first));
            assert!(receipt.messages <= sequence - first + 1);
            assert!(receipt.oldest_received_ns <= message.received_ns());
            assert!(receipt.oldest_age_ns > 0);
            topic.stood_for += receipt.messages - 1;
        }
        topic.delivered += 1;
        topic.last = Some(sequence);
        topic.payload.clear();
        topic.payload.extend_from_slice(message.payload());
        if !self.busy.is_zero() {
            let stopwatch = Stopwatch::start();
            while u128::from(stopwatch.elapsed_ns()) < self.busy.as_nanos() {
                std::hint::spin_loop();
            }
        }
    }

    fn on_receipt(&mut self, receipt: &Receipt, message: &Message<'_>) {
        assert_eq!(receipt.last_sequence, message.sequence());
        assert!(self.receipt.replace(*receipt).is_none(), "its message came");
    }
}

fn config(endpoint: &str, engine: Engine, kind: HandoffKind, policies: &[TopicPolicy]) -> Config {
    let mut config = Config::connect(endpoint, Envelope::Pinfeed);
    config.engine = Some(engine);
    config.workers.count = WORKERS;
    config.handoff.kind = kind;
    config.handoff.batches = BATCHES;
    config.handoff.batch_messages = BATCH_MESSAGES;
    config.feeds[0].policies = policies.to_vec();
    // All are counted apart.
    config.policy.topics_max = 100_000;
    config
}

fn on(topic: &str, policy: Policy) -> TopicPolicy {
    TopicPolicy {
        topic: Some(topic.to_owned()),
        policy,
    }
}

fn published(topics: &str) -> (Pinfeed, String) {
    let messages = MESSAGES.to_string();
    publisher(&["--rate", "max", "--messages", &messages, "--topics", topics])
}

/// What all handlers have seen, by topic.
fn seen(outcome: &Outcome<Watch>) -> BTreeMap<Vec<u8>, Seen> {
    let mut all = BTreeMap::new();
    for handler in &outcome.handlers {
        for (topic, seen) in &handler.topics {
            assert!(all.insert(topic.clone(), seen.clone()).is_none());
        }
    }
    all
}

/// Asserts that the ledger is exact: in all, by handlers, and by topic as `published` has it.
fn assert_exact(outcome: &Outcome<Watch>, published: Option<&BTreeMap<Vec<u8>, u64>>) {
    let (totals, by_topic) = (&outcome.totals, &outcome.by_topic);
    assert!(totals.balanced(), "{totals:?}");
    assert_eq!(by_topic.dropped(), totals.dropped, "{totals:?}");
    assert_eq!(by_topic.conflated(), totals.conflated, "{totals:?}");
    let mut counts: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let (mut delivered, mut stood_for) = (0, 0);
    for (topic, seen) in seen(outcome) {
        delivered += seen.delivered;
        stood_for += seen.stood_for;
        counts.insert(topic, seen.delivered);
    }
    assert_eq!(delivered, totals.delivered);
    if totals.dropped == 0 {
        assert_eq!(stood_for, totals.conflated, "receipts vouch for all");
    }
    for row in &by_topic.topics {
        *counts.entry(row.topic.to_vec()).or_default() += row.dropped + row.conflated;
    }
    if let Some(published) = published {
        assert_eq!(&counts, published);
    }
}

/// Looks at a pipeline's ledger again and again, and asserts that it adds up each time.
#[derive(Default)]
struct Auditor {
    before: Totals,
}

impl Auditor {
    fn look(&mut self, pipeline: &mut Pipeline<Watch>) -> Totals {
        let (before, now) = (&self.before, pipeline.look());
        assert!(now.under_way() >= 0, "{now:?}");
        // At one look what was received is read last, and may be more than when the rest was read; but of what was
        // received by the last look, no more was under way than this.
        let under_way = before.received as i64 - now.accounted() as i64;
        assert!(
            under_way <= WORKERS as i64 * ROOM + LANE_MAX,
            "{before:?} {now:?}"
        );
        let counts = |of: &Totals| [of.received, of.delivered, of.conflated, of.dropped];
        let (then, counted) = (counts(before), counts(&now));
        assert!(iter::zip(then, counted).all(|(then, now)| then <= now));
        self.before = now;
        now
    }

    /// Waits until all is at rest but for worker 0, whose gate is shut, and returns the ledger. `seen` is by handlers.
    fn at_rest(
        &mut self,
        pipeline: &mut Pipeline<Watch>,
        blocks: bool,
        gate: &Gate,
        seen: &AtomicU64,
    ) -> Totals {
        let (mut shut, mut in_batches, mut waits) = (Totals::default(), 0, 0);
        wait_until("only what is for the stalled worker is under way", || {
            let before = mem::replace(&mut shut, self.look(pipeline));
            let (by_worker, again) = (pipeline.by_worker(), self.look(pipeline));
            in_batches = by_worker[0].messages_under_way as i64;
            let others = &mut by_worker[1..].iter();
            if !gate.is_reached() || others.any(|worker| worker.messages_under_way > 0) {
                waits = 0;
                return false;
            }
            if !blocks {
                return again == shut
                    && shut.received == MESSAGES
                    && shut.under_way() == in_batches;
            }
            // Each time that a lane has waited for a while it hands over what it has for others, if there is any.
            let is_still =
                before.batches == again.batches && by_worker[0].batches_under_way == BATCHES as u64;
            let waited = before.blocked_ns < shut.blocked_ns;
            waits = if is_still {
                waits + u32::from(waited)
            } else {
                0
            };
            waits > 2
        });
        // Each number against another one that was counted elsewhere.
        let by_topic = pipeline.by_topic();
        for _ in 0..1_000 {
            let now = self.look(pipeline);
            assert_eq!(now.delivered, seen.load(SeqCst), "{now:?}");
            assert_eq!(now.dropped, by_topic.dropped(), "{now:?}");
            assert_eq!(now.conflated, by_topic.conflated(), "{now:?}");
            let in_lane = now.under_way() - in_batches;
            assert!(in_lane >= 0 && (blocks || in_lane == 0), "{now:?}");
            assert!(in_batches <= ROOM && in_lane <= LANE_MAX, "{now:?}");
        }
        shut
    }
}

/// Runs with worker 0 stalled until all else is done.
fn stalled(
    engine: Engine,
    kind: HandoffKind,
    policy: Policy,
    topics: &str,
    expected: &BTreeMap<Vec<u8>, u64>,
) -> Outcome<Watch> {
    let (_publisher, endpoint) = published(topics);
    let config = config(&endpoint, engine, kind, &[on("*", policy)]);
    let (gate, all) = (Gate::default(), Arc::<AtomicU64>::default());
    let mut pipeline = Pipeline::start(&config, Quota::of(MESSAGES), Stop::default(), |worker| {
        Watch {
            gate: (worker == 0).then(|| gate.clone()),
            all: all.clone(),
            ..Watch::default()
        }
    })
    .unwrap();
    let blocks = matches!(policy, Policy::Block | Policy::Snail);
    let mut auditor = Auditor::default();
    let shut = auditor.at_rest(&mut pipeline, blocks, &gate, &all);
    gate.open();
    wait_until("it has stopped", || {
        auditor.look(&mut pipeline);
        pipeline.is_finished()
    });
    let outcome = finish(pipeline);
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    let totals = outcome.totals;
    assert_eq!(totals.received, MESSAGES);
    assert_eq!(totals.blocked > 0, blocks);
    // What waited is delivered, or stood for.
    assert_eq!(totals.dropped, shut.dropped);
    assert!(policy == Policy::Conflate || totals.conflated == 0);
    assert_exact(&outcome, Some(expected));
    outcome
}

fn counts(topics: &str) -> BTreeMap<Vec<u8>, u64> {
    let (_publisher, endpoint) = published(topics);
    let config = config(&endpoint, Engine::Native, HandoffKind::Ring, &[]);
    let start = Pipeline::start(&config, Quota::of(MESSAGES), Stop::default(), |_| {
        Watch::default()
    });
    let outcome = finish(start.unwrap());
    assert_eq!(outcome.totals.delivered, MESSAGES);
    let seen = seen(&outcome).into_iter();
    seen.map(|(topic, seen)| (topic, seen.delivered)).collect()
}

#[test]
fn a_stalled_worker_under_each_policy() {
    let expected = counts("200");
    for engine in ENGINES {
        for kind in [HandoffKind::Ring, HandoffKind::Inproc] {
            for policy in Policy::ALL {
                let gives_up_old = matches!(policy, Policy::DropOldest | Policy::Conflate);
                if gives_up_old && kind == HandoffKind::Inproc {
                    continue;
                }
                let outcome = stalled(engine, kind, policy, "200", &expected);
                let totals = outcome.totals;
                assert_eq!(totals.conflated > 0, policy == Policy::Conflate);
                let drops = matches!(policy, Policy::DropNewest | Policy::DropOldest);
                assert_eq!(totals.dropped > 0, drops, "{policy}: {totals:?}");
                if policy == Policy::Conflate {
                    // Each topic's last message was delivered, and all before it are accounted for.
                    for (topic, seen) in seen(&outcome) {
                        assert_eq!(seen.delivered + seen.stood_for, expected[&topic]);
                    }
                }
                if totals.dropped + totals.conflated > 0 {
                    let kinds = outcome.flight.entries();
                    assert!(kinds.iter().any(|entry| entry.count > 0), "it says so");
                }
            }
        }
    }
}

/// More topics than a worker's batches hold: the newest messages of those silent for longest are dropped
/// and counted, and the lane still does not wait.
#[test]
fn conflation_of_more_topics_than_there_is_room_for() {
    let topics = "20000";
    let expected = counts(topics);
    let outcome = stalled(
        Engine::Native,
        HandoffKind::Ring,
        Policy::Conflate,
        topics,
        &expected,
    );
    assert!(outcome.totals.conflated > 0 && outcome.totals.dropped > 0);
}

#[test]
fn only_the_topics_asked_for_are_conflated() {
    let (_publisher, endpoint) = published("200");
    let policies = [
        on("*", Policy::DropNewest),
        on("sim.0000", Policy::Conflate),
        on("sim.00001", Policy::DropOldest),
    ];
    let mut config = config(&endpoint, Engine::Native, HandoffKind::Ring, &policies);
    config.workers.count = 1;
    let gate = Gate::default();
    let mut pipeline = Pipeline::start(&config, Quota::of(MESSAGES), Stop::default(), |_| Watch {
        gate: Some(gate.clone()),
        ..Watch::default()
    })
    .unwrap();
    let room = (policies.len() * BATCHES * BATCH_MESSAGES) as i64;
    wait_until("all is received and no more than fits is kept", || {
        let totals = pipeline.look();
        totals.received == MESSAGES && totals.under_way() <= room
    });
    gate.open();
    let outcome = finish(pipeline);
    assert_exact(&outcome, None);
    assert!(outcome.totals.conflated > 0 && outcome.totals.dropped > 0);
    for row in &outcome.by_topic.topics {
        let conflates = row.topic.starts_with(b"sim.0000") && *row.topic != *b"sim.00001";
        let lost = if conflates {
            row.dropped
        } else {
            row.conflated
        };
        assert_eq!(lost, 0, "{row:?}");
    }
    let dropped = |topic: &[u8]| {
        let rows = &mut outcome.by_topic.topics.iter();
        rows.any(|row| *row.topic == *topic && row.dropped > 0)
    };
    assert!(dropped(b"sim.00001") && dropped(b"sim.00010"));
}

/// Without keyed sharding messages are dropped only where no worker has a batch to spare.
#[test]
fn balanced_lanes_drop_when_all_workers_are_full() {
    for policy in [Policy::DropNewest, Policy::DropOldest] {
        let (_publisher, endpoint) = published("200");
        let policies = [on("*", policy)];
        let mut config = config(&endpoint, Engine::Native, HandoffKind::Ring, &policies);
        config.sharding.mode = ShardingMode::Balanced;
        let gate = Gate::default();
        let start = Pipeline::start(&config, Quota::of(MESSAGES), Stop::default(), |_| Watch {
            gate: Some(gate.clone()),
            ..Watch::default()
        });
        let mut pipeline = start.unwrap();
        let room = (WORKERS * BATCHES * BATCH_MESSAGES) as i64;
        wait_until("all is received and no more than fits is kept", || {
            let totals = pipeline.look();
            totals.received == MESSAGES && totals.under_way() <= room
        });
        gate.open();
        let outcome = finish(pipeline);
        let totals = outcome.totals;
        assert!(totals.balanced() && totals.dropped > 0, "{totals:?}");
        assert_eq!(totals.dropped, outcome.by_topic.dropped());
        // The others had their share before.
        let mut handlers = outcome.handlers.iter();
        assert!(handlers.all(|handler| handler.all.load(SeqCst) > 0));
    }
}

/// Each feed on a lane of its own, with a policy of its own: the lane that waits does not hold the other
/// up, and neither's messages pay for the other's.
#[test]
fn lanes_and_feeds_keep_their_policies() {
    let (_one, blocking) = published("200");
    let (_other, conflating) = published("200");
    let mut config = config(&blocking, Engine::Native, HandoffKind::Ring, &[]);
    config.lanes.push(Lane::named("1"));
    let mut feed = config.feeds[0].clone();
    feed.name = "other".to_owned();
    feed.lines[0].lane = "1".to_owned();
    feed.lines[0].connect = vec![conflating];
    feed.policies = vec![on("*", Policy::Conflate)];
    config.feeds.push(feed);
    let gate = Gate::default();
    let quota = Quota::of(2 * MESSAGES);
    let mut pipeline = Pipeline::start(&config, quota, Stop::default(), |_| PerFeed {
        gate: Some(gate.clone()),
        delivered: [0; 2],
        stood_for: [0; 2],
    })
    .unwrap();
    wait_until("one waits and the other has conflated nearly all", || {
        let totals = pipeline.look();
        totals.blocked > 0 && totals.conflated > MESSAGES * 9 / 10
    });
    gate.open();
    let outcome = finish(pipeline);
    let totals = outcome.totals;
    assert!(totals.balanced(), "{totals:?}");
    assert_eq!((totals.received, totals.dropped), (2 * MESSAGES, 0));
    let sum = |of: fn(&PerFeed) -> u64| outcome.handlers.iter().map(of).sum::<u64>();
    assert_eq!(sum(|handler| handler.delivered[0]), MESSAGES);
    assert_eq!(sum(|handler| handler.stood_for[0]), 0);
    assert_eq!(sum(|handler| handler.stood_for[1]), totals.conflated);
    let conflated = sum(|handler| handler.delivered[1] + handler.stood_for[1]);
    assert_eq!(conflated, MESSAGES);
    assert!(outcome.by_topic.topics.iter().all(|row| row.feed == 1));
}

/// Counts by feed.
struct PerFeed {
    gate: Option<Gate>,
    delivered: [u64; 2],
    stood_for: [u64; 2],
}

impl Handler for PerFeed {
    fn on_message(&mut self, message: &Message<'_>) {
        if let Some(gate) = self.gate.take() {
            gate.pass();
        }
        self.delivered[usize::from(message.origin().feed)] += 1;
    }

    fn on_receipt(&mut self, receipt: &Receipt, message: &Message<'_>) {
        self.stood_for[usize::from(message.origin().feed)] += receipt.messages - 1;
    }
}

#[test]
fn a_panic_amid_pressure_leaves_the_ledger_exact() {
    for policy in [Policy::DropNewest, Policy::DropOldest, Policy::Conflate] {
        for handler_panic in [HandlerPanic::Stop, HandlerPanic::Isolate] {
            let (_publisher, endpoint) = published("200");
            let policies = [on("*", policy)];
            let mut config = config(&endpoint, Engine::Native, HandoffKind::Ring, &policies);
            config.workers.handler_panic = handler_panic;
            config.policy.conflate_after_ms = 0;
            let start = Pipeline::start(&config, Quota::of(MESSAGES), Stop::default(), |worker| {
                Watch {
                    busy: Duration::from_micros(2),
                    panics_at: (worker == 0).then_some(500),
                    ..Watch::default()
                }
            });
            let outcome = finish(start.unwrap());
            assert!(matches!(
                outcome.failure,
                Some(Error::HandlerPanicked { .. })
            ));
            assert!(outcome.totals.balanced(), "{:?}", outcome.totals);
            let by_topic = &outcome.by_topic;
            assert_eq!(by_topic.dropped(), outcome.totals.dropped);
            assert_eq!(by_topic.conflated(), outcome.totals.conflated);
            assert_eq!(outcome.handlers[0].all.load(SeqCst), 500);
        }
    }
}

#[test]
fn a_snail_discards_and_counts_what_still_waits() {
    let (_publisher, endpoint) = published("200");
    let policies = [on("*", Policy::Snail)];
    let mut config = config(&endpoint, Engine::Native, HandoffKind::Ring, &policies);
    (config.policy.late_after_ms, config.policy.grace_ms) = (5, 20);
    let start = Pipeline::start(&config, Quota::of(MESSAGES), Stop::default(), |_| Watch {
        busy: Duration::from_millis(1),
        ..Watch::default()
    });
    let outcome = finish(start.unwrap());
    assert!(
        matches!(outcome.failure, Some(Error::Late { limit_ms: 5, .. })),
        "{:?}",
        outcome.failure
    );
    assert!(outcome.totals.dropped > 0, "{:?}", outcome.totals);
    assert_exact(&outcome, None);
}

/// By topic: messages, and the last payload.
fn ends_in_file(path: &std::path::Path) -> BTreeMap<Vec<u8>, (u64, Vec<u8>)> {
    let file = BufReader::new(File::open(path).expect("the capture"));
    let mut ends: BTreeMap<Vec<u8>, (u64, Vec<u8>)> = BTreeMap::new();
    for line in BufReader::new(MultiGzDecoder::new(file)).lines() {
        let line = line.expect("a line of text");
        let (_, json) = line.split_once(' ').expect("a time and a message");
        let message: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let stream = message["stream"].as_str().unwrap_or("other");
        let end = ends
            .entry(format!("binance.{stream}").into_bytes())
            .or_default();
        *end = (end.0 + 1, json.as_bytes().to_vec());
    }
    ends
}

#[test]
fn a_conflated_capture_ends_in_the_same_state() {
    let Some(folder) = captures() else { return };
    let path = folder.join("binance/usdm_btcusdt_20240808.gz");
    let expected = ends_in_file(&path);
    let messages: u64 = expected.values().map(|end| end.0).sum();
    for engine in ENGINES {
        let (_publisher, endpoint) =
            publisher(&["--speed", "max", "--capture", path.to_str().expect("UTF-8")]);
        let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
        config.engine = Some(engine);
        config.feeds[0].policies = vec![on("*", Policy::Conflate)];
        let start = Pipeline::start(&config, Quota::of(messages), Stop::default(), |_| Watch {
            busy: Duration::from_micros(50),
            ..Watch::default()
        });
        let outcome = finish(start.unwrap());
        assert!(outcome.totals.conflated > 0, "{:?}", outcome.totals);
        assert_eq!(outcome.totals.dropped, 0);
        assert_exact(&outcome, None);
        let found: BTreeMap<Vec<u8>, (u64, Vec<u8>)> = seen(&outcome)
            .into_iter()
            .map(|(topic, seen)| (topic, (seen.delivered + seen.stood_for, seen.payload)))
            .collect();
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>()
        );
        for (topic, (count, payload)) in &expected {
            let name = topic.escape_ascii();
            assert_eq!(found[topic].0, *count, "receipts of {name}");
            assert!(found[topic].1 == *payload, "the last state of {name}");
        }
    }
}
