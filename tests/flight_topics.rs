//! Goal: where all that a policy gave up was of one topic, the flight record names it; where it was of several,
//! none.

mod support;

use pinfeed::{
    config::{Config, TopicPolicy},
    envelope::Envelope,
    flight::AnomalyKind,
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    policy::Policy,
    stop::Stop,
    worker::Handler,
};
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
