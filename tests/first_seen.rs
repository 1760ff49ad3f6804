//! Goal: that a topic comes for the first time is told once, to the handler that gets its messages and to the log,
//! whether its lines are merged or not, and whether silence is looked at or not; the ledger counts as many.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use pinfeed::{
    config::{Arbitration, Config, StaleTopics},
    envelope::Envelope,
    lane::Quota,
    message::{Message, Notice},
    pipeline::Pipeline,
    sequence::EventKind,
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, bound_xpub, finish, sealed, subscriber};

const TOPICS: [&str; 3] = ["BTC", "ETH", "SOL"];

/// What it was told.
#[derive(Default)]
struct Told {
    /// By topic: how often before the topic's first message, and after it.
    times: BTreeMap<Vec<u8>, (u64, u64)>,
    /// Topics that had a message.
    topics: BTreeSet<Vec<u8>>,
}

impl Handler for Told {
    fn on_message(&mut self, message: &Message<'_>) {
        self.topics.insert(message.topic().to_vec());
    }

    fn on_notice(&mut self, notice: &Notice<'_>) {
        if notice.kind == EventKind::FirstSeen {
            let topic = notice.topic.expect("each topic has numbers").to_vec();
            let is_late = self.topics.contains(&topic);
            let times = self.times.entry(topic).or_default();
            times.0 += u64::from(!is_late);
            times.1 += u64::from(is_late);
        }
    }
}

#[test]
fn is_told_once_before_the_first_message() {
    for engine in ENGINES {
        for (is_merged, hears_silence) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let context = zmq::Context::new();
            let (first, first_endpoint) = bound_xpub(&context);
            let (second, second_endpoint) = bound_xpub(&context);
            let mut config = Config::connect(&first_endpoint, Envelope::Pinfeed);
            config.engine = Some(engine);
            let feed = &mut config.feeds[0];
            let mut publishers = vec![first];
            if is_merged {
                feed.lines.push(feed.lines[0].clone());
                feed.lines[1].connect = vec![second_endpoint];
                feed.arbitration = Some(Arbitration::default());
                publishers.push(second);
            }
            if hears_silence {
                feed.quality.topics = vec![StaleTopics {
                    prefix: String::new(),
                    stale_after_ms: 3_600_000,
                }];
            }
            let messages = 2 * (TOPICS.len() * publishers.len()) as u64;
            let start = Pipeline::start(&config, Quota::of(messages), Stop::default(), |_| {
                Told::default()
            });
            for publisher in &publishers {
                publisher.recv_bytes(0).unwrap();
                for sequence in 0..2 {
                    for topic in TOPICS {
                        publisher.send(sealed(topic, 1, sequence), 0).unwrap();
                    }
                }
            }
            let outcome = finish(start.unwrap());
            let case = format!("{engine:?}, merged: {is_merged}, silence: {hears_silence}");
            assert!(outcome.failure.is_none(), "{case}: {:?}", outcome.failure);
            let told = outcome.handlers.into_iter().flat_map(|one| one.times);
            let told: BTreeMap<Vec<u8>, (u64, u64)> = told.collect();
            let once = TOPICS.map(|topic| (topic.as_bytes().to_vec(), (1, 0)));
            assert_eq!(told, BTreeMap::from(once), "{case}");
            assert_eq!(outcome.totals.first_seen, TOPICS.len() as u64, "{case}");
        }
    }
}

#[test]
fn is_said_in_the_log_and_not_kept() {
    let context = zmq::Context::new();
    let (publisher, endpoint) = bound_xpub(&context);
    let mut run = subscriber(&endpoint, &["--messages", "2"]);
    publisher.recv_bytes(0).unwrap();
    publisher.send(sealed("BTC", 1, 0), 0).unwrap();
    run.wait_for_text("BTC  its first message came by line 0");
    let line = run
        .said
        .lines()
        .find(|line| line.contains("BTC  its first"));
    let columns: Vec<&str> = line.expect("the line").split_whitespace().collect();
    assert_eq!(
        columns[1..6],
        ["first-seen", "publisher", "1", "feed", "BTC"],
        "{columns:?}"
    );
    publisher.send(sealed("ETH", 1, 0), 0).unwrap();
    let summary = run.json(0);
    let anomalies = summary["anomalies"].as_array().expect("a list");
    assert!(anomalies.iter().all(|one| one["kind"] != "first-seen"));
    assert!(
        run.said.contains("ETH  its first message came by line 0"),
        "{}",
        run.said
    );
}
