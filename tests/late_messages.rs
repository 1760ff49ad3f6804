//! Goal: messages that a worker was late with are in the flight record whatever their policy, with how late
//! they were by our own clock, and none are where all were in time. A snail gives up over a feed that is always
//! late, whatever others are.

mod support;

use std::time::Duration;

use pinfeed::{
    clock::{Deadline, wall_ns},
    config::{Config, Engine, TopicPolicy},
    envelope::{Envelope, pinfeed::seal},
    error::Error,
    flight::{Anomaly, AnomalyKind, Hop},
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
    wait_until("they are late", || held.passed());
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
        // Of 1970.
        late.send(sealed("BTC", 1, sequence), 0).unwrap();
        let mut frame = Vec::new();
        let stamp = Stamp {
            epoch: 1,
            sequence,
            timestamp_ns: wall_ns(),
        };
        seal(&mut frame, b"ETH", b"", stamp);
        fresh.send(frame, 0).unwrap();
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
