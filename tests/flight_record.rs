//! Goal: the flight record tells what went wrong, and shows how that is known: what was given up by topic where it was of
//! one; numbers that are missing, come late or come again; and of a batch that took long whether the handler computed
//! or waited.

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
    worker::{Handler, handlers::Null},
};
use rustix::time::{ClockId, clock_gettime};
use support::{ENGINES, Gate, bound_xpub, finish, sealed, wait_until};

const MESSAGES: u64 = 200;

struct Held(Gate);

impl Handler for Held {
    fn on_message(&mut self, _message: &Message<'_>) {
        self.0.pass();
    }
}

/// Has a worker stand still while messages of these topics come in turn, and returns the topics that the flight record
/// names for this kind of thing.
fn named(policy: Policy, kind: AnomalyKind, topics: &[&str]) -> Vec<String> {
    let mut named = Vec::new();
    for engine in ENGINES {
        let context = zmq::Context::new();
        let (publisher, endpoint) = bound_xpub(&context);
        let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
        config.engine = Some(engine);
        config.workers.count = 1;
        (config.handoff.batches, config.handoff.batch_messages) = (4, 8);
        config.feeds[0].policies = vec![TopicPolicy {
            topic: Some("*".to_owned()),
            policy,
        }];
        let gate = Gate::default();
        let stop = Stop::default();
        let pipeline = Pipeline::start(&config, Quota::of(MESSAGES), stop, |_| Held(gate.clone()));
        let mut pipeline = pipeline.unwrap();
        publisher.recv_bytes(0).unwrap();
        for index in 0..MESSAGES {
            let topic = topics[index as usize % topics.len()];
            let sequence = index / topics.len() as u64;
            publisher.send(sealed(topic, 1, sequence), 0).unwrap();
        }
        wait_until("all have come", || pipeline.look().received == MESSAGES);
        gate.open();
        let outcome = finish(pipeline);
        assert!(outcome.totals.balanced(), "{:?}", outcome.totals);
        let entries = outcome.flight.entries().into_iter();
        let before = named.len();
        let of_kind = entries.filter(|entry| entry.kind == kind);
        named.extend(of_kind.map(|entry| {
            assert!(entry.count > 0, "{entry}");
            entry.topic
        }));
        assert!(named.len() > before, "{policy} notes something");
    }
    named
}

#[test]
fn what_was_given_up_has_a_topic_if_it_is_one() {
    for (policy, kind) in [
        (Policy::DropNewest, AnomalyKind::Drop),
        (Policy::DropOldest, AnomalyKind::Drop),
        (Policy::Conflate, AnomalyKind::Conflation),
    ] {
        let of_one = named(policy, kind, &["BTC"]);
        assert!(
            of_one.iter().all(|topic| topic == "BTC"),
            "{policy}: {of_one:?}"
        );
        let of_several = named(policy, kind, &["BTC", "ETH", "SOL"]);
        assert!(of_several.contains(&String::new()), "{of_several:?}");
    }
}

/// What comes of messages with these numbers.
fn recorded(engine: Engine, numbers: &[u64]) -> Vec<Anomaly> {
    let context = zmq::Context::new();
    let (publisher, endpoint) = bound_xpub(&context);
    let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
    config.engine = Some(engine);
    let quota = Quota::of(numbers.len() as u64);
    let pipeline = Pipeline::start(&config, quota, Stop::default(), |_| Null).unwrap();
    publisher.recv_bytes(0).unwrap();
    for number in numbers {
        publisher.send(sealed("BTC", 1, *number), 0).unwrap();
    }
    let of_numbers = [
        AnomalyKind::Gap,
        AnomalyKind::Reorder,
        AnomalyKind::Duplicate,
    ];
    let mut entries = finish(pipeline).flight.entries();
    entries.retain(|entry| of_numbers.contains(&entry.kind));
    entries
}

#[test]
fn numbers_that_are_missing_late_or_come_again_are_noted() {
    for engine in ENGINES {
        let entries = recorded(engine, &[0, 1, 3, 2, 3, 3, 4]);
        let kinds: Vec<_> = entries.iter().map(|it| (it.kind, it.count)).collect();
        let expected = [
            (AnomalyKind::Gap, 1),
            (AnomalyKind::Reorder, 1),
            (AnomalyKind::Duplicate, 2),
        ];
        assert_eq!(kinds, expected, "{engine:?}: {entries:?}");
        let is_so = |it: &Anomaly| it.hop == Hop::Network && it.topic == "BTC";
        assert!(entries.iter().all(is_so), "{entries:?}");
        let evidence = &entries[1].evidence;
        assert_eq!(evidence, "number 2 came by line 0 after later ones");
        assert!(recorded(engine, &[0, 1, 2]).is_empty());
    }
}

/// How a handler spends the time that it takes for a message.
#[derive(Clone, Copy)]
enum Spends {
    Waiting,
    Computing,
}

const TAKEN_MS: u64 = 300;

impl Handler for Spends {
    fn on_message(&mut self, _message: &Message<'_>) {
        let took = Duration::from_millis(TAKEN_MS);
        match self {
            Self::Waiting => std::thread::sleep(took),
            Self::Computing => {
                let cpu_time =
                    || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
                let until = cpu_time() + took;
                let deadline = Deadline::after(support::LIMIT);
                while cpu_time() < until {
                    assert!(!deadline.passed());
                }
            }
        }
    }
}

/// The CPU time that the record says a worker's thread had, in milliseconds, and how often it waited.
fn stalled(spends: Spends) -> (f64, u64) {
    let context = zmq::Context::new();
    let (publisher, endpoint) = bound_xpub(&context);
    let config = Config::connect(&endpoint, Envelope::Pinfeed);
    let pipeline = Pipeline::start(&config, Quota::of(1), Stop::default(), |_| spends).unwrap();
    publisher.recv_bytes(0).unwrap();
    publisher.send(sealed("BTC", 1, 0), 0).unwrap();
    let entries = finish(pipeline).flight.entries();
    let stall = entries.iter().find(|it| it.kind == AnomalyKind::Stall);
    let stall = stall.unwrap_or_else(|| panic!("{entries:?}"));
    assert_eq!((stall.hop, &*stall.topic), (Hop::Worker, "BTC"));
    let after = |words: &str| {
        let (_, rest) = stall.evidence.split_once(words).expect("it is said");
        rest.split(' ').next().expect("a number follows").to_owned()
    };
    let (cpu_ms, waited) = (after("its thread had "), after("waited "));
    (cpu_ms.parse().unwrap(), waited.parse().unwrap())
}

#[test]
fn a_handler_that_waits_is_told_from_one_that_computes() {
    let (cpu_ms, waited) = stalled(Spends::Waiting);
    assert!(
        cpu_ms < TAKEN_MS as f64 / 2.0 && waited > 0,
        "{cpu_ms} {waited}"
    );
    let (cpu_ms, _) = stalled(Spends::Computing);
    assert!(cpu_ms >= TAKEN_MS as f64 - 0.1, "{cpu_ms}");
}
