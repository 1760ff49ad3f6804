//! Goal: messages that a worker was late with are in the flight record whatever their policy, with how late
//! they were by our own clock, and none are where all were in time. A snail gives up over a feed that is always
//! late, whatever others are, also while its handler is at a batch, and abandons one that does not return.

mod support;

use std::{thread, time::Duration};

use pinfeed::{
    clock::{Deadline, wall_ns},
    config::{Arbitration, Config, Engine, OnLate, TopicOverride, TopicPolicy},
    envelope::{Envelope, pinfeed::seal},
    error::Error,
    flight::{Anomaly, AnomalyKind, Hop},
    handoff::{Batch, HandoffKind},
    lane::Quota,
    message::{Message, Stamp},
    pipeline::Pipeline,
    policy::Policy,
    stop::Stop,
    worker::{Handler, handlers::Count},
};
use support::{ENGINES, Gate, LIMIT, bound_xpub, finish, sealed, wait_until};

const MESSAGES: u64 = 10;
const LATE_AFTER_MS: u32 = 50;
const BATCH_MESSAGES: u64 = 4;

struct Held(Gate);

impl Handler for Held {
    fn on_message(&mut self, _message: &Message<'_>) {
        self.0.pass();
    }
}

/// Has a worker take messages only after `held_for`, and returns what the flight record has of late ones.
fn late(config: &mut Config, held_for: Duration) -> Vec<Anomaly> {
    let context = zmq::Context::new();
    let (publisher, endpoint) = bound_xpub(&context);
    config.feeds[0].lines[0].connect = vec![endpoint];
    config.workers.count = 1;
    let gate = Gate::default();
    let stop = Stop::default();
    let pipeline = Pipeline::start(config, Quota::of(MESSAGES), stop, |_| Held(gate.clone()));
    let mut pipeline = pipeline.unwrap();
    publisher.recv_bytes(0).unwrap();
    for sequence in 0..MESSAGES {
        publisher.send(sealed("BTC", 1, sequence), 0).unwrap();
    }
    wait_until("all have come", || pipeline.look().received == MESSAGES);
    let held = Deadline::after(held_for);
    wait_until("they are late", || {
        pipeline.look();
        held.passed()
    });
    gate.open();
    let outcome = finish(pipeline);
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    let mut entries = outcome.flight.entries();
    entries.retain(|entry| entry.kind == AnomalyKind::Late);
    entries
}

fn config(engine: Engine, policy: Policy) -> Config {
    let mut config = Config::connect("tcp://127.0.0.1:1", Envelope::Pinfeed);
    config.engine = Some(engine);
    config.feeds[0].policies = vec![TopicPolicy {
        topic: Some("*".to_owned()),
        policy,
    }];
    config
}

/// A message that is stamped with this time.
fn of(topic: &str, sequence: u64, timestamp_ns: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    let stamp = Stamp {
        epoch: 1,
        sequence,
        timestamp_ns,
    };
    seal(&mut frame, topic.as_bytes(), b"", stamp);
    frame
}

#[test]
fn are_in_the_flight_record_whatever_their_policy() {
    for engine in ENGINES {
        for policy in [
            Policy::Block,
            Policy::DropNewest,
            Policy::DropOldest,
            Policy::Conflate,
        ] {
            let mut config = config(engine, policy);
            config.policy.late_after_ms = LATE_AFTER_MS;
            let held_for = Duration::from_millis(2 * u64::from(LATE_AFTER_MS));
            let entries = late(&mut config, held_for);
            let [first, ..] = &entries[..] else {
                panic!("{policy} notes none");
            };
            assert_eq!((first.hop, first.feed.as_str()), (Hop::Worker, "feed"));
            assert_eq!(first.topic, "BTC");
            let messages: u64 = entries.iter().map(|entry| entry.count).sum();
            assert!((1..=MESSAGES).contains(&messages), "{entries:?}");
            assert!(first.evidence.contains("the limit is 50 ms"), "{first}");
        }
    }
}

#[test]
fn none_are_where_all_were_in_time() {
    let mut config = config(Engine::Native, Policy::Block);
    config.policy.late_after_ms = LIMIT.as_millis() as u32;
    assert_eq!(late(&mut config, Duration::ZERO), []);
}

#[test]
fn a_snail_gives_up_over_one_feed_of_two_that_share_a_worker() {
    let context = zmq::Context::new();
    let (late, late_endpoint) = bound_xpub(&context);
    let (fresh, fresh_endpoint) = bound_xpub(&context);
    let mut config = config(Engine::Native, Policy::Snail);
    (config.policy.late_after_ms, config.policy.grace_ms) = (LIMIT.as_millis() as u32, 100);
    config.workers.count = 1;
    config.feeds.push(config.feeds[0].clone());
    for (feed, endpoint) in [late_endpoint, fresh_endpoint].into_iter().enumerate() {
        config.feeds[feed].name = ["late", "fresh"][feed].to_owned();
        config.feeds[feed].lines[0].connect = vec![endpoint];
    }
    let stop = Stop::default();
    let start = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
        Count::default()
    });
    let mut pipeline = start.unwrap();
    late.recv_bytes(0).unwrap();
    fresh.recv_bytes(0).unwrap();
    let deadline = Deadline::after(LIMIT);
    for sequence in 0.. {
        if stop.requested() {
            break;
        }
        assert!(!deadline.passed(), "nothing says that a feed is late");
        late.send(of("BTC", sequence, 1), 0).unwrap();
        fresh.send(sealed("ETH", 1, sequence), 0).unwrap();
        wait_until("both have come", || {
            pipeline.look().received == 2 * (sequence + 1) || stop.requested()
        });
    }
    let outcome = finish(pipeline);
    assert!(
        matches!(outcome.failure, Some(Error::Late { .. })),
        "{:?}",
        outcome.failure
    );
    let mut entries = outcome.flight.entries();
    entries.retain(|entry| entry.kind == AnomalyKind::Late);
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0].feed, "late");
}

/// Takes its time for each message.
struct Slow(Duration);

impl Handler for Slow {
    fn on_message(&mut self, _message: &Message<'_>) {
        thread::sleep(self.0);
    }
}

/// A feed for one worker, as many messages of it in one batch as there are, and a snail's limits.
fn limited(engine: Engine, endpoint: &str) -> Config {
    let mut config = config(engine, Policy::Snail);
    config.feeds[0].lines[0].connect = vec![endpoint.to_owned()];
    config.workers.count = 1;
    (config.policy.late_after_ms, config.policy.grace_ms) = (LATE_AFTER_MS, 100);
    config
}

#[test]
fn a_snail_is_found_out_within_a_batch() {
    const IN_ALL: u64 = 1_000;
    let each = Duration::from_millis(20);
    for engine in ENGINES {
        let context = zmq::Context::new();
        let (publisher, endpoint) = bound_xpub(&context);
        let config = limited(engine, &endpoint);
        let start = Pipeline::start(&config, Quota::of(IN_ALL), Stop::default(), |_| Slow(each));
        publisher.recv_bytes(0).unwrap();
        for sequence in 0..IN_ALL {
            publisher.send(sealed("BTC", 1, sequence), 0).unwrap();
        }
        let outcome = start.unwrap().finish();
        let Some(Error::Late { late_ms, .. }) = outcome.failure else {
            panic!("{engine:?}: {:?}", outcome.failure);
        };
        let totals = outcome.totals;
        assert!(totals.balanced(), "{engine:?}: {totals:?}");
        // A batch of what was published at once takes much longer than that.
        let most = IN_ALL / 4;
        assert!((1..most).contains(&totals.delivered), "{totals:?}");
        assert!(
            late_ms > u64::from(LATE_AFTER_MS) && late_ms < 5_000,
            "{late_ms}"
        );
        assert_eq!(totals.delivered + totals.dropped, totals.received);
        let (entries, none) = (outcome.flight.entries(), Vec::<usize>::new());
        let late = entries.iter().find(|one| one.kind == AnomalyKind::Late);
        let evidence = &late.expect("it is noted").evidence;
        for part in [
            "the newest message of the batch it is at is",
            "its thread had",
        ] {
            assert!(evidence.contains(part), "{evidence}");
        }
        assert_eq!(outcome.abandoned, none);
    }
}

#[test]
fn an_alarm_is_raised_once_a_grace_time_while_a_handler_is_at_a_message() {
    let mut config = config(Engine::Native, Policy::Snail);
    (config.policy.late_after_ms, config.policy.grace_ms) = (LATE_AFTER_MS, 100);
    config.policy.on_late = OnLate::Alarm;
    let entries = late(&mut config, Duration::from_millis(600));
    let alarms: u64 = entries.iter().map(|entry| entry.times).sum();
    // By what is left of 600 ms behind the limit; no more than one each time.
    assert!(alarms >= 2, "{entries:?}");
    let apart = entries.windows(2).map(|two| two[1].at_ns - two[0].until_ns);
    assert!(apart.min() > Some(100_000_000), "{entries:?}");
    let says = "worker-0 was done with nothing of the feed within 50 ms";
    assert!(entries.iter().all(|entry| entry.evidence.contains(says)));
}

/// Where a handler hangs.
#[derive(Clone, Copy, Debug)]
enum Hangs {
    AtAMessage,
    AtABatchsEnd,
    Nowhere,
}

/// Counts messages, until it hangs.
struct Hanging {
    hangs: Hangs,
    gate: Gate,
    messages: u64,
}

impl Handler for Hanging {
    fn on_message(&mut self, _message: &Message<'_>) {
        if matches!(self.hangs, Hangs::AtAMessage) {
            self.gate.pass();
        }
        self.messages += 1;
    }

    fn on_batch_end(&mut self, batch: &Batch) {
        if matches!(self.hangs, Hangs::AtABatchsEnd) && !batch.is_empty() {
            self.gate.pass();
        }
    }
}

#[test]
fn a_worker_whose_handler_does_not_return_is_abandoned() {
    let hangs = [Hangs::AtAMessage, Hangs::AtABatchsEnd].into_iter().cycle();
    let ways = [
        (HandoffKind::Ring, false),
        (HandoffKind::Ring, true),
        (HandoffKind::Inproc, false),
    ];
    let cases = ENGINES
        .iter()
        .flat_map(|&engine| ways.map(|way| (engine, way)));
    for ((engine, (handoff, is_merged)), hangs) in cases.zip(hangs) {
        let case = format!("{engine:?}, {handoff:?}, merged: {is_merged}, {hangs:?}");
        let context = zmq::Context::new();
        let (publisher, endpoint) = bound_xpub(&context);
        let (other, other_endpoint) = bound_xpub(&context);
        let mut config = limited(engine, &endpoint);
        config.workers.count = 2;
        config.sharding.overrides = ["BTC", "ETH"]
            .into_iter()
            .enumerate()
            .map(|(worker, prefix)| TopicOverride {
                prefix: prefix.to_owned(),
                worker,
            })
            .collect();
        config.handoff.kind = handoff;
        (config.handoff.batches, config.handoff.batch_messages) = (2, BATCH_MESSAGES as usize);
        let feed = &mut config.feeds[0];
        if is_merged {
            feed.lines.push(feed.lines[0].clone());
            feed.lines[1].connect = vec![other_endpoint];
            feed.arbitration = Some(Arbitration::default());
        }
        let (gate, stop) = (Gate::default(), Stop::default());
        let start = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |worker| {
            Hanging {
                hangs: if worker == 0 { hangs } else { Hangs::Nowhere },
                gate: gate.clone(),
                messages: 0,
            }
        });
        let mut pipeline = start.unwrap();
        publisher.recv_bytes(0).unwrap();
        if is_merged {
            other.recv_bytes(0).unwrap();
        }
        // More than there is room for, so that the lane waits as well.
        let mut sequence = 0;
        wait_until("the snail is found out", || {
            if sequence < 1_000 {
                for topic in ["BTC", "ETH"] {
                    publisher.send(sealed(topic, 1, sequence), 0).unwrap();
                }
                sequence += 1;
            }
            pipeline.look();
            stop.requested()
        });
        wait_until("all else has ended", || {
            pipeline.look();
            pipeline.is_finished()
        });
        let pipeline_room = pipeline.batches_per_worker();
        let outcome = pipeline.finish();
        assert!(
            matches!(outcome.failure, Some(Error::Late { worker: 0, .. })),
            "{case}: {:?}",
            outcome.failure
        );
        assert_eq!(outcome.abandoned, [0], "{case}");
        let totals = outcome.totals;
        assert!(!totals.balanced() && totals.under_way() > 0, "{case}");
        let [other] = &outcome.handlers[..] else {
            panic!("{case}: the other one's is there");
        };
        assert!(other.messages > 0, "{case}");
        assert_eq!(other.messages, totals.delivered, "{case}");
        // What it had, and no more: of each source as many as there is room for.
        let room = pipeline_room * BATCH_MESSAGES;
        assert!(totals.under_way() <= room as i64, "{case}: {totals:?}");
        // So that its thread ends with the test.
        gate.open();
    }
}

#[test]
fn messages_that_come_late_are_noted_once_until_one_is_in_time() {
    for policy in [Policy::Block, Policy::DropNewest] {
        let context = zmq::Context::new();
        let (publisher, endpoint) = bound_xpub(&context);
        let mut config = config(Engine::Native, policy);
        config.feeds[0].lines[0].connect = vec![endpoint];
        let limit_ms = LIMIT.as_millis() as u32;
        (config.policy.late_after_ms, config.policy.grace_ms) = (limit_ms, 100);
        config.workers.count = 1;
        let stop = Stop::default();
        let start = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
            Count::default()
        });
        let mut pipeline = start.unwrap();
        publisher.recv_bytes(0).unwrap();
        let noted = |pipeline: &Pipeline<Count>| {
            let mut entries = pipeline.flight_record().entries();
            entries.retain(|entry| entry.kind == AnomalyKind::Late);
            entries
        };
        let mut sequence = 0;
        // One at a time, so that each is a batch of its own.
        let mut send = |pipeline: &mut Pipeline<Count>, timestamp_ns| {
            publisher
                .send(of("BTC", sequence, timestamp_ns), 0)
                .unwrap();
            sequence += 1;
            wait_until("it is delivered", || pipeline.look().delivered == sequence);
        };
        for times in 1..=2 {
            // Of 1970: late for longer than the grace time.
            wait_until("it is noted", || {
                send(&mut pipeline, 1);
                noted(&pipeline).len() == times
            });
            let since = Deadline::after(Duration::from_millis(300));
            wait_until("more of them have come", || {
                send(&mut pipeline, 1);
                since.passed()
            });
            assert_eq!(noted(&pipeline).len(), times, "{policy}: once");
            send(&mut pipeline, wall_ns());
        }
        stop.request();
        let outcome = finish(pipeline);
        for entry in outcome.flight.entries() {
            assert_eq!((entry.kind, entry.hop), (AnomalyKind::Late, Hop::Network));
            let says = "was done with no message of line 0 within 60000 ms for 100 ms";
            assert!(entry.evidence.contains(says), "{entry}");
        }
    }
}

#[test]
fn messages_of_which_some_are_in_time_are_not_noted() {
    let context = zmq::Context::new();
    let (publisher, endpoint) = bound_xpub(&context);
    let mut config = config(Engine::Native, Policy::Block);
    config.feeds[0].lines[0].connect = vec![endpoint];
    let limit_ms = LIMIT.as_millis() as u32;
    (config.policy.late_after_ms, config.policy.grace_ms) = (limit_ms, 0);
    config.workers.count = 1;
    let quota = Quota::of(20);
    let start = Pipeline::start(&config, quota, Stop::default(), |_| Count::default());
    let mut pipeline = start.unwrap();
    publisher.recv_bytes(0).unwrap();
    // Of two publishers behind one line, say.
    for (sequence, stamp) in (0..20).zip([1, wall_ns()].into_iter().cycle()) {
        publisher.send(of("BTC", sequence, stamp), 0).unwrap();
        wait_until("it is delivered", || pipeline.look().delivered > sequence);
    }
    assert_eq!(finish(pipeline).flight.entries(), []);
}
