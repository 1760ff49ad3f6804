//! Goal: of a feed that comes twice, numbered as a whole, whose publishers end and come back one after the other:
//! all that a line brought is delivered once and in order, through every life of the publishers, and all that both
//! lost is reported: published = delivered + lost, to the message.

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use pinfeed::{
    config::{Config, Engine},
    envelope::Envelope,
    lane::Quota,
    message::{Message, Notice},
    pipeline::Pipeline,
    sequence::{Gap, Position},
    stop::Stop,
    worker::Handler,
};
use support::{
    finish,
    lossy::{Faults, Lossy, Pace, copies},
};
use zmq::SocketType;

const LIVES: u64 = 3;
/// Messages of a life.
const MESSAGES: u64 = 100_000;
const TOPICS: u64 = 1_000;

/// Eight bytes of topic, then the number among all messages of the publisher's life, and the life.
const ENVELOPE: &str = r#"
envelope = { topic = { frame = 0, bytes = 8 }, sequence = { frame = 0, offset = 8, width = 8, scope = "line", start = 0 }, epoch = { frame = 0, offset = 16, width = 8 } }
"#;

fn envelope() -> Envelope {
    #[derive(serde::Deserialize)]
    struct File {
        envelope: Envelope,
    }
    toml::from_str::<File>(ENVELOPE).unwrap().envelope
}

fn encoded(life: u64, number: u64) -> Vec<u8> {
    let topic = format!("{:08}", number % TOPICS);
    let numbers = [number, life].map(u64::to_le_bytes).concat();
    [topic.as_bytes(), &numbers].concat()
}

/// A publisher that ends after each life and comes back in the same place.
fn publish_lives() -> (JoinHandle<()>, String) {
    let (said, endpoint) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut endpoint = "tcp://127.0.0.1:*".to_owned();
        for life in 1..=LIVES {
            // What was sent before has gone when a context ends.
            let context = zmq::Context::new();
            let publisher = context.socket(SocketType::XPUB).unwrap();
            publisher.set_sndhwm(0).unwrap();
            publisher
                .set_rcvtimeo(support::LIMIT.as_millis() as i32)
                .unwrap();
            support::wait_until("its place is free", || publisher.bind(&endpoint).is_ok());
            endpoint = publisher.get_last_endpoint().unwrap().unwrap();
            let _ = said.send(endpoint.clone());
            let subscription = publisher.recv_bytes(0).expect("its subscriber comes");
            assert_eq!(subscription, [1]);
            for number in 0..MESSAGES {
                publisher.send(encoded(life, number), 0).unwrap();
            }
        }
    });
    (thread, endpoint.recv().expect("it binds"))
}

/// Checks that each topic's positions rise.
#[derive(Default)]
struct InOrder {
    last: HashMap<Vec<u8>, (u64, u64)>,
    delivered: u64,
    gaps: Vec<(Position, u64)>,
}

impl Handler for InOrder {
    fn on_message(&mut self, message: &Message<'_>) {
        let at = (message.epoch().unwrap(), message.sequence().unwrap());
        let before = self.last.insert(message.topic().to_vec(), at);
        assert!(before < Some(at), "{at:?} after {before:?}");
        self.delivered += 1;
    }

    fn on_gap(&mut self, _notice: &Notice<'_>, gap: &Gap) {
        let from = Position {
            epoch: gap.epoch,
            sequence: gap.from,
        };
        self.gaps.push((from, gap.count));
    }
}

fn delivered_or_lost(engine: Engine) {
    let pace = Pace::of(2);
    let (publishers, proxies): (Vec<_>, Vec<Lossy>) = (0..2)
        .map(|seed| {
            let (publisher, endpoint) = publish_lives();
            let faults = Faults {
                seed,
                loss: 0.01,
                burst_max: 8,
                repeat: 0.005,
                delay: 0.005,
                delay_max: 20,
                messages: MESSAGES,
                spared: MESSAGES / 5,
                lives: LIVES,
            };
            let proxy = Lossy::start_line(&endpoint, faults, seed as usize, Arc::clone(&pace));
            (publisher, proxy)
        })
        .unzip();
    let endpoints: Vec<String> = proxies.iter().map(|it| it.endpoint.clone()).collect();
    let mut config = Config::connect(&endpoints[0], envelope());
    config.engine = Some(engine);
    copies(&mut config, &endpoints, 2, LIVES * MESSAGES);
    let stop = Stop::default();
    let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
        InOrder::default()
    })
    .unwrap();
    while !proxies.iter().all(Lossy::is_finished) {
        pace.set_received(pipeline.look().received);
        thread::yield_now();
    }
    let lost: Vec<_> = proxies.into_iter().map(Lossy::finish).collect();
    let lost_by_both: Vec<u64> = lost[0].intersection(&lost[1]).copied().collect();
    let (missing, published) = (lost_by_both.len() as u64, LIVES * MESSAGES);
    support::wait_until("all is delivered or lost", || {
        let totals = pipeline.look();
        totals.delivered + totals.lost() >= published
    });
    stop.request();
    let outcome = finish(pipeline);
    for publisher in publishers {
        publisher.join().unwrap();
    }
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    let totals = outcome.totals;
    assert!(totals.balanced(), "{totals:?}");
    assert_eq!(
        (totals.delivered, totals.lost()),
        (published - missing, missing)
    );
    assert_eq!((totals.rejected(), totals.restarts), (0, LIVES - 1));
    let delivered: u64 = outcome.handlers.iter().map(|one| one.delivered).sum();
    assert_eq!(delivered, totals.delivered);
    // Numbers that count all topics are all workers' business.
    for handler in &outcome.handlers {
        let told: Vec<u64> = (handler.gaps.iter())
            .flat_map(|(from, count)| {
                let first = (from.epoch - 1) * MESSAGES + from.sequence;
                first..first + count
            })
            .collect();
        let mut expected = lost_by_both.clone();
        expected.sort_unstable();
        assert_eq!(told, expected);
    }
    let by_life = |life: u64| {
        lost_by_both
            .iter()
            .filter(move |&&at| at / MESSAGES == life)
    };
    assert!(
        (0..LIVES).all(|life| by_life(life).count() > 0),
        "each loses some"
    );
}

#[test]
fn are_one_feed_through_all_their_lives() {
    for engine in support::ENGINES {
        delivered_or_lost(engine);
    }
}
