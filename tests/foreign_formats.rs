//! Goal: messages in the shapes of publishers that exist, written by pyzmq, are read field by field, with
//! either engine: topic, payload, sequence number, time, compression, and the kind of socket.

mod support;

use std::{collections::HashMap, path::Path, process::Command};

use pinfeed::{
    config::{Config, Engine, SocketKind},
    envelope::Envelope,
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, Pinfeed, finish, python::python};

const MESSAGES: u64 = 3_000;
const START_NS: u64 = 1_596_452_605_000_000_000;

/// A message as its handler saw it.
#[derive(Debug)]
struct Seen {
    topic: String,
    payload: String,
    sequence: Option<u64>,
    timestamp_ns: Option<u64>,
}

#[derive(Default)]
struct Keep(Vec<Seen>);

impl Handler for Keep {
    fn on_message(&mut self, message: &Message<'_>) {
        let text = |bytes: &[u8]| str::from_utf8(bytes).expect("text").to_owned();
        assert_eq!(message.epoch(), None);
        self.0.push(Seen {
            topic: text(message.topic()),
            payload: text(message.payload()),
            sequence: message.sequence(),
            timestamp_ns: message.timestamp_ns(),
        });
    }
}

fn start_publisher(python: &Path, kind: &str, side: &str, endpoint: &str) -> Pinfeed {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/foreign.py");
    Pinfeed::spawn(
        Command::new(python)
            .arg(script)
            .args([kind, side, endpoint]),
    )
}

/// Takes a run of messages of a publisher that is on this side of the connection.
fn take(
    python: &Path,
    engine: Engine,
    kind: &str,
    side: &str,
    change: impl Fn(&mut Config),
) -> Vec<Seen> {
    let envelope: Envelope = kind.parse().unwrap_or(Envelope::Raw);
    let start = |mut config: Config| {
        config.engine = Some(engine);
        config.workers.count = 1;
        change(&mut config);
        let (quota, stop) = (Quota::of(MESSAGES), Stop::default());
        Pipeline::start(&config, quota, stop, |_| Keep::default()).unwrap()
    };
    let (pipeline, _publisher);
    if side == "bind" {
        let mut publisher = start_publisher(python, kind, side, "tcp://127.0.0.1:*");
        let endpoint = publisher.wait_for_line("publishing on ");
        pipeline = start(Config::connect(&endpoint, envelope));
        _publisher = publisher;
    } else {
        pipeline = start(Config::bind("tcp://127.0.0.1:*", envelope));
        _publisher = start_publisher(python, kind, side, &pipeline.endpoints()[0]);
    }
    let mut outcome = finish(pipeline);
    assert_eq!(outcome.totals.received, MESSAGES);
    assert_eq!(outcome.totals.delivered, MESSAGES, "{engine:?} {kind}");
    assert!(outcome.totals.balanced());
    outcome.handlers.remove(0).0
}

/// The number of each message, which says where in the stream it was.
fn numbers(seen: &[Seen], number: impl Fn(&Seen) -> u64) -> Vec<u64> {
    let numbers: Vec<u64> = seen.iter().map(number).collect();
    let first = numbers[0];
    let expected: Vec<u64> = (first..first + seen.len() as u64).collect();
    assert_eq!(numbers, expected, "none is missing");
    numbers
}

fn json_number(seen: &Seen, pointer: &str) -> u64 {
    let json: serde_json::Value = serde_json::from_str(&seen.payload).expect("JSON");
    json.pointer(pointer)
        .and_then(|number| number.as_u64())
        .expect("a number")
}

#[test]
fn bitcoind_numbers_each_topic() {
    let Some(python) = python() else { return };
    for engine in ENGINES {
        let seen = take(&python, engine, "bitcoind", "bind", |_| {});
        let numbers = numbers(&seen, |seen| seen.payload.parse().expect("a number"));
        let mut next: HashMap<&str, u64> = HashMap::new();
        for (seen, number) in seen.iter().zip(numbers) {
            let sequence = seen.sequence.expect("a number");
            assert_eq!(sequence, number / 3);
            let expected = next.insert(&seen.topic, sequence + 1);
            assert_eq!(expected.unwrap_or(sequence), sequence, "{seen:?}");
        }
        assert_eq!(next.len(), 3);
    }
}

#[test]
fn kvmsg_numbers_its_server_and_heartbeats_have_none() {
    let Some(python) = python() else { return };
    for engine in ENGINES {
        let seen = take(&python, engine, "kvmsg", "bind", |_| {});
        let (heartbeats, updates): (Vec<Seen>, Vec<Seen>) =
            seen.into_iter().partition(|seen| seen.topic == "HUGZ");
        assert_eq!(heartbeats.len() as u64, MESSAGES / 10);
        assert!(heartbeats.iter().all(|seen| seen.sequence.is_none()));
        numbers(&updates, |seen| seen.sequence.expect("a number"));
        assert!(updates.iter().all(|seen| seen.topic.starts_with("key")));
    }
}

#[test]
fn cryptofeed_connects_and_its_topics_are_told_apart() {
    let Some(python) = python() else { return };
    for engine in ENGINES {
        let seen = take(&python, engine, "cryptofeed", "connect", |_| {});
        for (seen, number) in seen
            .iter()
            .zip(numbers(&seen, |seen| json_number(seen, "/amount")))
        {
            let symbol = ["BTC-USD", "BTC-USDT"][number as usize % 2];
            assert_eq!(seen.topic, format!("COINBASE-trades-{symbol}"));
            let time_ns = START_NS + number * 250_000_000;
            assert_eq!((seen.timestamp_ns, seen.sequence), (Some(time_ns), None));
        }
        let topic = "COINBASE-trades-BTC-USD";
        let seen = take(&python, engine, "cryptofeed", "connect", |config| {
            config.feeds[0].topics = vec![topic.to_owned()];
        });
        assert!(seen.iter().all(|seen| seen.topic == topic));
    }
}

#[test]
fn eddn_is_inflated() {
    let Some(python) = python() else { return };
    for engine in ENGINES {
        let seen = take(&python, engine, "eddn", "bind", |_| {});
        let numbers = numbers(&seen, |seen| json_number(seen, "/message/number"));
        for (seen, number) in seen.iter().zip(numbers) {
            let time_ns = START_NS + number * 1_000_000_000 + 250_000_000;
            assert_eq!(
                (seen.topic.as_str(), seen.timestamp_ns),
                ("", Some(time_ns))
            );
        }
    }
}

#[test]
fn dwx_is_cut_at_a_delimiter_of_three_bytes() {
    let Some(python) = python() else { return };
    for engine in ENGINES {
        let seen = take(&python, engine, "dwx", "bind", |_| {});
        let numbers = numbers(&seen, |seen| {
            let (bid, ask) = seen.payload.split_once(';').expect("two prices");
            assert_eq!(ask, format!("{bid}.5"));
            bid.parse().expect("a number")
        });
        for (seen, number) in seen.iter().zip(numbers) {
            assert_eq!(
                seen.topic,
                ["EURUSD", "EURUSDX", "GBPUSD"][number as usize % 3]
            );
        }
    }
}

#[test]
fn what_is_pushed_is_pulled_from_either_side() {
    let Some(python) = python() else { return };
    for engine in ENGINES {
        for side in ["bind", "connect"] {
            let seen = take(&python, engine, "pushed", side, |config| {
                config.feeds[0].socket = SocketKind::Pull;
            });
            let numbers = numbers(&seen, |seen| json_number(seen, "/number"));
            // PUSH waits for somebody to pull.
            assert_eq!(numbers[0], 0);
        }
    }
}
