//! Goal: what one line of a feed brought is not lost because its lane waited for a worker of another feed meanwhile:
//! holes are waited for while all lanes of the feed can hear, and no line is said to be silent that lies unread. But a
//! worker that hangs holds no other feed up for ever.

mod support;

use std::{thread, time::Duration};

use pinfeed::{
    config::{Arbitration, Config, Engine, Lane, Line, ShardingMode, TopicOverride},
    envelope::Envelope,
    flight::AnomalyKind,
    lane::Quota,
    message::Message,
    pipeline::{Outcome, Pipeline},
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, Gate, finish, patient_xpub, sealed, wait_until};

const WAIT_MS: u32 = 250;
const COPIES: u64 = 40;
/// What the first line loses.
const LOST: std::ops::Range<u64> = 5..8;
const SLOW: u64 = 20_000;

/// Waits at the gate with the slow feed's messages, and keeps the numbers of the other's.
struct Numbers {
    gate: Gate,
    prices: Vec<u64>,
}

impl Handler for Numbers {
    fn on_message(&mut self, message: &Message<'_>) {
        if message.topic() == b"slow" {
            self.gate.pass();
        } else {
            self.prices.push(message.sequence().expect("a number"));
        }
    }
}

fn config(endpoints: [&str; 3]) -> Config {
    let [first, second, slow] = endpoints;
    let mut config = Config::connect(first, Envelope::Pinfeed);
    config.lanes = vec![Lane::named("a"), Lane::named("b")];
    let line = |lane: &str, endpoint: &str| Line {
        connect: vec![endpoint.to_owned()],
        ..Line::on(lane)
    };
    let mut other = config.feeds[0].clone();
    other.name = "slow".to_owned();
    other.lines = vec![line("b", slow)];
    let prices = &mut config.feeds[0];
    prices.name = "prices".to_owned();
    prices.lines = vec![line("a", first), line("b", second)];
    prices.arbitration = Some(Arbitration {
        wait_ms: WAIT_MS,
        ..Arbitration::default()
    });
    prices.quality.stale_after_ms = 2 * WAIT_MS;
    config.feeds.push(other);
    config.sharding.mode = ShardingMode::Keyed;
    config.sharding.overrides = [("prices", 0), ("slow", 1)]
        .map(|(prefix, worker)| TopicOverride {
            prefix: prefix.to_owned(),
            worker,
        })
        .to_vec();
    config.handoff.batches = 4;
    config.handoff.batch_messages = 64;
    config
}

/// Publishers of both lines and of the slow feed, and a pipeline in which lane b waits for the slow feed's worker.
struct Bench {
    first: zmq::Socket,
    second: zmq::Socket,
    _slow: zmq::Socket,
    gate: Gate,
    stop: Stop,
    pipeline: Pipeline<Numbers>,
}

impl Bench {
    fn start(engine: Engine) -> Self {
        let context = zmq::Context::new();
        let [first, second, slow] = [(); 3].map(|()| patient_xpub(&context));
        let mut config = config([&first.1, &second.1, &slow.1]);
        config.engine = Some(engine);
        let (gate, stop) = (Gate::default(), Stop::default());
        let start = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| Numbers {
            gate: gate.clone(),
            prices: Vec::new(),
        });
        let mut pipeline = start.unwrap();
        for (publisher, _) in [&first, &second, &slow] {
            publisher.recv_bytes(0).unwrap();
        }
        let (first, second, slow) = (first.0, second.0, slow.0);
        for publisher in [&first, &second] {
            publisher.send(sealed("prices", 1, 0), 0).unwrap();
        }
        wait_until("both lines are heard", || pipeline.look().received == 2);
        for sequence in 0..SLOW {
            slow.send(sealed("slow", 1, sequence), 0).unwrap();
        }
        wait_until("lane b waits", || pipeline.look().blocked > 0);
        Self {
            first,
            second,
            _slow: slow,
            gate,
            stop,
            pipeline,
        }
    }

    /// Has both lines bring all copies but what the first one loses, for longer than a hole is waited for.
    fn publish(&self) {
        for sequence in 1..COPIES {
            self.second.send(sealed("prices", 1, sequence), 0).unwrap();
            if !LOST.contains(&sequence) {
                self.first.send(sealed("prices", 1, sequence), 0).unwrap();
            }
            thread::sleep(Duration::from_millis(u64::from(WAIT_MS) / 24));
        }
    }

    /// Lets the slow feed's worker go on until all has come.
    fn end(mut self) -> Outcome<Numbers> {
        self.gate.open();
        let all = SLOW + 2 * COPIES - LOST.count() as u64;
        wait_until("all have come", || self.pipeline.look().received == all);
        self.stop.request();
        finish(self.pipeline)
    }
}

#[test]
fn a_lane_that_waits_for_another_feed_loses_nothing_of_this_one() {
    for engine in ENGINES {
        let bench = Bench::start(engine);
        bench.publish();
        let outcome = bench.end();
        let totals = &outcome.totals;
        assert_eq!(outcome.lost, Some(0), "{engine:?}: {totals:?}");
        assert_eq!(totals.rejected(), 0, "{engine:?}: {totals:?}");
        let numbers: Vec<u64> = (0..COPIES).collect();
        assert_eq!(outcome.handlers[0].prices, numbers, "{engine:?}");
        let entries = outcome.flight.entries();
        let stale = entries.iter().find(|it| it.kind == AnomalyKind::Stale);
        assert_eq!(stale, None, "{engine:?}");
    }
}

#[test]
fn a_lane_that_hears_no_more_does_not_hold_up_the_others() {
    for engine in ENGINES {
        let mut bench = Bench::start(engine);
        bench.publish();
        let hole = LOST.count() as u64;
        wait_until("the hole is given up", || {
            bench.pipeline.look().delivered >= COPIES - hole
        });
        let outcome = bench.end();
        let totals = &outcome.totals;
        assert_eq!(outcome.lost, Some(hole), "{engine:?}: {totals:?}");
        assert_eq!(totals.rejected(), hole, "{engine:?}: {totals:?}");
        let numbers: Vec<u64> = (0..COPIES).filter(|it| !LOST.contains(it)).collect();
        assert_eq!(outcome.handlers[0].prices, numbers, "{engine:?}");
    }
}
