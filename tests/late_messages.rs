//! Goal: messages that a worker was late with are in the flight record whatever their policy, with how late
//! they were by our own clock, and none are where all were in time.

mod support;

use std::time::Duration;

use pinfeed::{
    clock::Deadline,
    config::{Config, Engine, TopicPolicy},
    envelope::Envelope,
    flight::{Anomaly, AnomalyKind, Hop},
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    policy::Policy,
    stop::Stop,
    worker::Handler,
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
