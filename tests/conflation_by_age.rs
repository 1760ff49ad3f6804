//! Goal: messages that have waited for longer than `policy.conflate_after_ms` are conflated by their worker, however much
//! room there is for more: receipts vouch for each one and say how old it was. Where none has waited, all are delivered.

mod support;

use std::collections::BTreeMap;

use pinfeed::{
    config::{Config, Engine, TopicPolicy},
    envelope::Envelope,
    flight::{AnomalyKind, Hop},
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    policy::Policy,
    receipt::Receipt,
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, Gate, bound_xpub, finish, publisher, sealed, wait_until};

const MS_NS: u64 = 1_000_000;
/// The default of `policy.conflate_after_ms`.
const BUDGET_NS: u64 = 10 * MS_NS;
/// For how long all messages have waited at least when the gate opens.
const HELD_NS: u64 = 50 * MS_NS;

const TOPICS: [&str; 4] = ["BTC", "ETH", "SOL", "XRP"];
/// Messages of each topic.
const EACH: u64 = 40;
/// For a worker to be twice at what waits: each time it takes half of its batches at most.
const BATCHES: usize = 32;
/// With these, and messages that come one by one, most of the batches are used and some are left.
const BATCH_MESSAGES: usize = 16;

/// What a handler has seen of a topic.
#[derive(Default)]
struct Seen {
    delivered: u64,
    /// What deliveries stood for beside themselves.
    stood_for: u64,
    last: Option<u64>,
}

/// Checks that no number is left out: each is delivered, or a receipt stands for it.
#[derive(Default)]
struct Watch {
    gate: Option<Gate>,
    receipt: Option<Receipt>,
    receipts: u64,
    /// Of the oldest messages that receipts stood for.
    ages_ns: Vec<u64>,
    topics: BTreeMap<Vec<u8>, Seen>,
}

impl Handler for Watch {
    fn on_message(&mut self, message: &Message<'_>) {
        if let Some(gate) = self.gate.take() {
            gate.pass();
        }
        let seen = self.topics.entry(message.topic().to_vec()).or_default();
        let sequence = message.sequence().expect("the envelope has numbers");
        let mut first = sequence;
        if let Some(receipt) = self.receipt.take() {
            assert!(receipt.messages >= 2, "{receipt:?}");
            assert_eq!(receipt.last_sequence, Some(sequence));
            first = receipt.first_sequence.expect("they have numbers");
            assert_eq!(receipt.messages, sequence - first + 1, "{receipt:?}");
            seen.stood_for += receipt.messages - 1;
            self.receipts += 1;
            self.ages_ns.push(receipt.oldest_age_ns);
        }
        let last = seen.last.replace(sequence);
        assert!(last.is_none_or(|last| last + 1 == first), "none left out");
        seen.delivered += 1;
    }

    fn on_receipt(&mut self, receipt: &Receipt, _message: &Message<'_>) {
        assert!(self.receipt.replace(*receipt).is_none(), "its message came");
    }
}

fn config(endpoint: &str, engine: Engine) -> Config {
    let mut config = Config::connect(endpoint, Envelope::Pinfeed);
    config.engine = Some(engine);
    config.feeds[0].policies = vec![TopicPolicy {
        topic: Some("*".to_owned()),
        policy: Policy::Conflate,
    }];
    assert_eq!(
        u64::from(config.policy.conflate_after_ms) * MS_NS,
        BUDGET_NS
    );
    config
}

#[test]
fn what_has_waited_for_too_long_is_conflated_though_there_is_room() {
    for engine in ENGINES {
        let context = zmq::Context::new();
        let (publisher, endpoint) = bound_xpub(&context);
        let mut config = config(&endpoint, engine);
        config.workers.count = 1;
        (config.handoff.batches, config.handoff.batch_messages) = (BATCHES, BATCH_MESSAGES);
        let gate = Gate::default();
        let stop = Stop::default();
        let pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| Watch {
            gate: Some(gate.clone()),
            ..Watch::default()
        });
        let mut pipeline = pipeline.unwrap();
        publisher.recv_bytes(0).unwrap();
        let mut sent = 0;
        for sequence in 0..EACH {
            for topic in TOPICS {
                publisher.send(sealed(topic, 1, sequence), 0).unwrap();
                sent += 1;
                // One by one, so that there are as many batches as there can be.
                wait_until("it has come", || pipeline.look().received == sent);
                // Before it others may wait for too long as well, on a busy machine.
                wait_until("the handler has the first one", || gate.is_reached());
            }
        }
        let all_since_ns = pipeline.now_ns();
        wait_until("all have waited for long", || {
            let under_way = pipeline.by_worker()[0].batches_under_way;
            assert!(under_way < pipeline.batches_per_worker(), "there is room");
            pipeline.now_ns() >= all_since_ns + HELD_NS
        });
        let shut = pipeline.look();
        assert_eq!((shut.delivered, shut.conflated), (0, 0));
        gate.open();
        wait_until("all are accounted for", || pipeline.look().balanced());
        stop.request();
        let outcome = finish(pipeline);
        let totals = outcome.totals;
        assert!(totals.conflated > 0, "{totals:?}");
        assert_eq!((totals.received, totals.dropped), (sent, 0));
        assert_eq!(totals.delivered + totals.conflated, sent);
        assert_eq!(outcome.by_topic.conflated(), totals.conflated);

        let seen = &outcome.handlers[0];
        assert!(seen.ages_ns.iter().all(|age_ns| *age_ns >= HELD_NS));
        // The worker was twice at what waited, or the test is not of receipts that follow each other.
        assert!(seen.receipts > TOPICS.len() as u64, "{}", seen.receipts);
        assert_eq!(seen.topics.len(), TOPICS.len());
        for of_one in seen.topics.values() {
            assert_eq!(of_one.delivered + of_one.stood_for, EACH);
            assert_eq!(of_one.last, Some(EACH - 1));
        }
        let sum = |of: fn(&Seen) -> u64| seen.topics.values().map(of).sum::<u64>();
        assert_eq!(sum(|of_one| of_one.delivered), totals.delivered);
        assert_eq!(sum(|of_one| of_one.stood_for), totals.conflated);

        let entries = outcome.flight.entries();
        assert!(entries.iter().all(|entry| entry.hop != Hop::Handoff));
        let conflations = entries
            .iter()
            .filter(|entry| (entry.kind, entry.hop) == (AnomalyKind::Conflation, Hop::Worker));
        let noted: u64 = conflations.map(|entry| entry.count).sum();
        assert_eq!(noted, totals.conflated, "{entries:?}");
    }
}

/// Unless the machine holds a worker up for longer than the budget, which is what it is for.
#[test]
fn nothing_is_conflated_that_has_not_waited() {
    const MESSAGES: u64 = 2_000;
    for engine in ENGINES {
        let (_publisher, endpoint) = publisher(&["--rate", "2000", "--messages", "2000"]);
        let config = config(&endpoint, engine);
        let start = Pipeline::start(&config, Quota::of(MESSAGES), Stop::default(), |_| {
            Watch::default()
        });
        let outcome = finish(start.unwrap());
        let totals = outcome.totals;
        assert_eq!((totals.received, totals.dropped), (MESSAGES, 0));
        assert_eq!(totals.delivered + totals.conflated, MESSAGES);
        assert_eq!(outcome.by_topic.conflated(), totals.conflated);
        assert_eq!(outcome.by_topic.is_empty(), totals.conflated == 0);
        // The oldest was delivered, or a receipt stood for it.
        let ages_ns = outcome.handlers.iter().flat_map(|seen| &seen.ages_ns);
        let oldest_ns = ages_ns.copied().chain([outcome.stages.queue.max()]).max();
        assert!(
            totals.conflated == 0 || oldest_ns >= Some(BUDGET_NS),
            "{totals:?} {oldest_ns:?}"
        );
    }
}
