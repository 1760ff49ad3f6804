//! Goal: the flight record tells what went wrong, and shows how that is known: what was given up by topic where it was of
//! one; numbers that are missing, come late or come again; and of a batch that took long whether the handler computed
//! or waited.

mod support;

use std::time::Duration;

use pinfeed::{
    clock::Deadline,
    config::{Config, Engine, TopicPolicy},
    envelope::Envelope,
    flight::{Anomaly, AnomalyKind, FlightRecord, Hop},
    lane::Quota,
    message::{Message, Notice},
    pipeline::Pipeline,
    policy::Policy,
    sequence::{EventKind, Gap, Position},
    stop::Stop,
    worker::Handler,
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
        let by_the_lane = of_kind.filter(|entry| entry.hop == Hop::Handoff);
        named.extend(by_the_lane.map(|entry| {
            assert!(entry.count > 0, "{entry}");
            let queue = "all 4 batches to worker-0 were under way, which";
            assert!(entry.evidence.contains(queue), "{entry}");
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

#[test]
fn a_lane_that_waits_is_noted_while_it_does_and_when_it_is_done() {
    for engine in ENGINES {
        let context = zmq::Context::new();
        let (publisher, endpoint) = bound_xpub(&context);
        let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
        config.engine = Some(engine);
        config.workers.count = 1;
        (config.handoff.batches, config.handoff.batch_messages) = (4, 8);
        let gate = Gate::default();
        let start = Pipeline::start(&config, Quota::of(MESSAGES), Stop::default(), |_| {
            Held(gate.clone())
        });
        let pipeline = start.unwrap();
        publisher.recv_bytes(0).unwrap();
        for sequence in 0..MESSAGES {
            publisher.send(sealed("BTC", 1, sequence), 0).unwrap();
        }
        let blocked = |flight: &FlightRecord| {
            let mut entries = flight.entries();
            entries.retain(|entry| entry.kind == AnomalyKind::Blocked);
            entries
        };
        wait_until("it is noted", || {
            !blocked(pipeline.flight_record()).is_empty()
        });
        let meanwhile = &blocked(pipeline.flight_record())[0];
        assert_eq!((meanwhile.hop, meanwhile.count), (Hop::Worker, 1));
        let waited_ms = |entry: &Anomaly, how: &str| -> f64 {
            let rest = entry.evidence.strip_prefix(how).expect(how);
            let (ms, rest) = rest.split_once(" ms for worker-0, ").expect("a time");
            let depth = "all 4 batches to it were under way; its thread had ";
            assert!(rest.starts_with(depth), "{entry}");
            ms.parse().expect("a number")
        };
        let before_ms = waited_ms(meanwhile, "a lane has waited ");
        assert!(before_ms >= 100.0, "{meanwhile}");
        gate.open();
        let outcome = finish(pipeline);
        let at_the_end = blocked(&outcome.flight);
        assert!(waited_ms(&at_the_end[0], "a lane waited ") >= before_ms);
        assert!(outcome.totals.blocked >= 1);
    }
}

/// Keeps what it is told.
#[derive(Default)]
struct Told(Vec<EventKind>);

impl Handler for Told {
    fn on_message(&mut self, _message: &Message<'_>) {}

    fn on_notice(&mut self, notice: &Notice<'_>) {
        assert!(notice.topic.is_none_or(|topic| topic == b"BTC"));
        self.0.push(notice.kind);
    }
}

/// What comes of messages at these positions, epoch and number: in the flight record, and as the handler is told.
fn recorded(engine: Engine, positions: &[(u64, u64)]) -> (Vec<Anomaly>, Vec<EventKind>) {
    let context = zmq::Context::new();
    let (publisher, endpoint) = bound_xpub(&context);
    let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
    config.engine = Some(engine);
    let quota = Quota::of(positions.len() as u64);
    let start = Pipeline::start(&config, quota, Stop::default(), |_| Told::default());
    publisher.recv_bytes(0).unwrap();
    for &(epoch, number) in positions {
        publisher.send(sealed("BTC", epoch, number), 0).unwrap();
    }
    let of_numbers = [
        AnomalyKind::Gap,
        AnomalyKind::Reorder,
        AnomalyKind::Duplicate,
        AnomalyKind::Restart,
    ];
    let outcome = finish(start.unwrap());
    let mut entries = outcome.flight.entries();
    entries.retain(|entry| of_numbers.contains(&entry.kind));
    let mut told: Vec<EventKind> = outcome.handlers.into_iter().flat_map(|one| one.0).collect();
    told.retain(|kind| !matches!(kind, EventKind::Quality { .. }));
    (entries, told)
}

#[test]
fn numbers_that_are_missing_late_or_come_again_are_noted() {
    for engine in ENGINES {
        let of_first = [0, 1, 3, 2, 3, 3, 4].map(|number| (1, number));
        let positions: Vec<_> = of_first.into_iter().chain([(2, 0)]).collect();
        let (entries, told) = recorded(engine, &positions);
        let kinds: Vec<_> = entries.iter().map(|it| (it.kind, it.count)).collect();
        let expected = [
            (AnomalyKind::Gap, 1),
            (AnomalyKind::Reorder, 1),
            (AnomalyKind::Duplicate, 2),
            (AnomalyKind::Restart, 1),
        ];
        assert_eq!(kinds, expected, "{engine:?}: {entries:?}");
        let hop = |kind| match kind {
            AnomalyKind::Restart => Hop::Publisher,
            _ => Hop::Network,
        };
        let is_so = |it: &Anomaly| it.hop == hop(it.kind) && it.topic == "BTC";
        assert!(entries.iter().all(is_so), "{entries:?}");
        let evidence = &entries[1].evidence;
        assert_eq!(evidence, "number 2 came by line 0 after later ones");
        let at = |epoch, sequence| Position { epoch, sequence };
        let gap = Gap {
            epoch: 1,
            from: 2,
            to: 2,
            count: 1,
        };
        let expected = [
            EventKind::FirstSeen,
            EventKind::Gap(gap),
            EventKind::Reordered(at(1, 2)),
            EventKind::Duplicate(at(1, 3)),
            EventKind::Duplicate(at(1, 3)),
            EventKind::Restarted {
                from: at(1, 4),
                to: at(2, 0),
            },
        ];
        assert_eq!(told, expected, "{engine:?}");
        let (none, told) = recorded(engine, &[(1, 0), (1, 1), (1, 2)]);
        assert!(none.is_empty(), "{none:?}");
        assert_eq!(told, [EventKind::FirstSeen]);
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
