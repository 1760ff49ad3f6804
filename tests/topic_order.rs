//! Goal: all messages of a topic reach one worker in the order they were published, over a million
//! messages, two lanes and four workers, while publishers restart.

mod support;

use std::{collections::HashMap, thread};

use pinfeed::{
    config::{Config, Engine, Lane, Line},
    envelope::Envelope,
    lane::Quota,
    message::{Message, Origin},
    pipeline::Pipeline,
    publish::{
        self, Publisher, PublisherOptions, Until,
        exchange::{Exchange, Parameters},
    },
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, finish, free_endpoint};

const LANES: usize = 2;
const LIVES: u64 = 5;
const MESSAGES_PER_LIFE: u64 = 100_000;
const TOPICS: usize = 1_000;

/// Checks that each publisher's messages of a topic come numbered without a gap, life after life.
#[derive(Default)]
struct InOrder {
    /// By line and topic: the epoch, and the sequence number to come next.
    next: HashMap<(Origin, Vec<u8>), (u64, u64)>,
    seen: u64,
    lives: u64,
}

impl Handler for InOrder {
    fn on_message(&mut self, message: &Message<'_>) {
        let epoch = message.epoch().expect("an epoch");
        let sequence = message.sequence().expect("a sequence number");
        let key = (message.origin(), message.topic().to_vec());
        let next = self.next.entry(key).or_default();
        if epoch != next.0 {
            assert!(epoch > next.0, "a publisher's earlier life came back");
            *next = (epoch, 0);
            self.lives += 1;
        }
        assert_eq!(sequence, next.1, "topic {}", message.topic().escape_ascii());
        next.1 += 1;
        self.seen += 1;
    }
}

/// Publishes the same topics several times over, from a new socket each time.
fn publish_lives(endpoint: &str, stop: &Stop) {
    for life in 0..LIVES {
        let mut exchange = Exchange::new(Parameters {
            topics: TOPICS,
            rate: None,
            seed: life,
            ..Parameters::default()
        })
        .unwrap();
        let mut publisher = Publisher::open(&PublisherOptions {
            bind: vec![endpoint.to_owned()],
            connect: Vec::new(),
            envelope: Envelope::Pinfeed,
            epoch: None,
        })
        .unwrap();
        let until = Until {
            messages: Some(MESSAGES_PER_LIFE),
            elapsed: None,
        };
        publisher.wait_for_subscriptions(1, stop).unwrap();
        let done = publish::publish(&mut exchange, &mut publisher, until, stop).unwrap();
        assert!(done.published == MESSAGES_PER_LIFE || stop.requested());
    }
}

#[test]
fn kept_while_publishers_restart() {
    for engine in ENGINES {
        kept_by(engine);
    }
}

fn kept_by(engine: Engine) {
    let endpoints: Vec<String> = (0..LANES).map(|_| free_endpoint()).collect();
    let mut config = Config::connect(&endpoints[0], Envelope::Pinfeed);
    config.engine = Some(engine);
    config.workers.count = 4;
    // A heartbeat that meets a publisher closed a moment ago makes its kernel drop what it holds.
    config.receive.heartbeat_ms = 0;
    for (index, endpoint) in endpoints.iter().enumerate().skip(1) {
        let mut line = Line::on(&index.to_string());
        line.connect.push(endpoint.clone());
        config.lanes.push(Lane::named(&line.lane));
        config.feeds[0].lines.push(line);
    }
    let messages = LANES as u64 * LIVES * MESSAGES_PER_LIFE;
    assert_eq!(messages, 1_000_000);
    let pipeline = Pipeline::start(&config, Quota::of(messages), Stop::default(), |_| {
        InOrder::default()
    })
    .unwrap();
    let publishers_stop = Stop::default();
    let publishers: Vec<_> = endpoints
        .into_iter()
        .map(|endpoint| {
            let stop = publishers_stop.clone();
            thread::spawn(move || publish_lives(&endpoint, &stop))
        })
        .collect();
    let outcome = finish(pipeline);
    publishers_stop.request();
    for publisher in publishers {
        publisher.join().unwrap();
    }
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert!(outcome.totals.balanced());
    let seen: Vec<u64> = outcome
        .handlers
        .iter()
        .map(|handler| handler.seen)
        .collect();
    assert_eq!(seen.iter().sum::<u64>(), messages);
    assert!(
        seen.iter().all(|&seen| seen > 0),
        "every worker had topics: {seen:?}"
    );
    // Nearly all topics appear in every life; that all of a topic's messages met one handler is what
    // the check of their numbers from 0 on says.
    let lives: u64 = outcome.handlers.iter().map(|handler| handler.lives).sum();
    assert!(
        lives > LANES as u64 * LIVES * TOPICS as u64 * 9 / 10,
        "{lives}"
    );
}
