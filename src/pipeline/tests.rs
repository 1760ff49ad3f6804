//! Goal: whoever sets this host's wall clock, by more than time daemons slew it, changes nothing of what a pipeline under
//! load says: no message is early, late or lost, nothing is stale, and no snail gives up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use super::*;
use crate::{
    clock::{Deadline, WallTime},
    config::TopicPolicy,
    envelope::{Envelope, pinfeed::seal},
    flight::AnomalyKind,
    message::Stamp,
    policy::Policy,
    worker::handlers::Count,
};

const HOUR_NS: i64 = 3_600_000_000_000;
/// How long anything may take, an hour less than what is judged.
const LIMIT: Duration = Duration::from_secs(60);
const LIMIT_NS: u64 = LIMIT.as_nanos() as u64;
/// Messages handled by a clock before it is set anew.
const PART: u64 = 5_000;
/// Messages under way at most.
const UNDER_WAY: u64 = 500;

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Deadline::after(LIMIT);
    while !done() {
        assert!(!deadline.passed(), "waited too long until {what}");
        thread::yield_now();
    }
}

/// What a pipeline says whose clock is set again and again while messages come.
struct Said {
    outcome: Outcome<Count>,
    /// By clock.
    parts: Vec<Stages>,
}

/// Runs a pipeline of snails. `stamp_ns` is what its publisher stamps messages with.
fn run(stamp_ns: fn(WallTime) -> u64) -> Said {
    let context = zmq::Context::new();
    let publisher = context.socket(zmq::XPUB).unwrap();
    // It waits for the pipeline itself, and would drop messages when it takes long to learn of that.
    publisher.set_sndhwm(0).unwrap();
    publisher.bind("tcp://127.0.0.1:*").unwrap();
    publisher.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
    let endpoint = publisher.get_last_endpoint().unwrap().unwrap();
    let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
    config.workers.count = 2;
    config.feeds[0].policies = vec![TopicPolicy {
        topic: Some("*".to_owned()),
        policy: Policy::Snail,
    }];
    config.feeds[0].quality.stale_after_ms = LIMIT.as_millis() as u32;
    config.policy.late_after_ms = LIMIT.as_millis() as u32;
    config.policy.grace_ms = 1_000;
    let stop = Stop::default();
    let pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
        Count::default()
    });
    let mut pipeline = pipeline.unwrap();
    publisher.recv_bytes(0).unwrap();

    let delivered = Arc::new(AtomicU64::new(0));
    let (stopped, handled, wall) = (stop.clone(), delivered.clone(), pipeline.wall.clone());
    let publishing = thread::spawn(move || {
        let mut published = 0;
        while !stopped.requested() {
            if published - handled.load(SeqCst) >= UNDER_WAY {
                thread::yield_now();
                continue;
            }
            let mut frame = Vec::new();
            let stamp = Stamp {
                epoch: 1,
                sequence: published / 2,
                timestamp_ns: stamp_ns(wall.now()),
            };
            let topic: &[u8] = if published % 2 == 0 { b"BTC" } else { b"ETH" };
            seal(&mut frame, topic, b"", stamp);
            publisher.send(frame, 0).unwrap();
            published += 1;
        }
    });
    let mut parts = Vec::new();
    for (part, set_ns) in [0, HOUR_NS, 0, -HOUR_NS, 0].into_iter().enumerate() {
        pipeline.wall.set(set_ns);
        wait_until("a part is handled", || {
            let totals = pipeline.look();
            delivered.store(totals.delivered, SeqCst);
            totals.delivered >= (part as u64 + 1) * PART || stop.requested()
        });
        pipeline.request_stages();
        wait_until("workers have handed over", || {
            delivered.store(pipeline.look().delivered, SeqCst);
            !pipeline.awaits_stages() || stop.requested()
        });
        parts.push(pipeline.collect_stages().clone());
    }
    stop.request();
    publishing.join().unwrap();
    let outcome = pipeline.finish();
    Said { outcome, parts }
}

fn is_told_of_nothing(said: &Said) {
    let outcome = &said.outcome;
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert!(outcome.totals.balanced(), "{:?}", outcome.totals);
    assert_eq!(outcome.totals.lost(), 0);
    let kinds = [AnomalyKind::Late, AnomalyKind::Stale];
    let mut entries = outcome.flight.entries();
    entries.retain(|entry| kinds.contains(&entry.kind));
    assert_eq!(entries, []);
    for (part, stages) in said.parts.iter().enumerate() {
        assert!(!stages.feed.is_empty(), "part {part}");
        let p50 = stages.feed.value_at_quantile(0.5);
        assert!(p50 < LIMIT_NS, "part {part}: {p50} ns");
    }
}

#[test]
fn a_clock_that_is_set_says_nothing_of_a_publisher_elsewhere() {
    let said = run(|now| now.steady_ns);
    is_told_of_nothing(&said);
    for (part, stages) in said.parts.iter().enumerate() {
        assert_eq!(stages.feed_negative, 0, "part {part}");
        assert!(stages.feed.max() < LIMIT_NS, "part {part}");
    }
}

#[test]
fn a_clock_that_is_set_says_nothing_of_a_publisher_on_this_host() {
    is_told_of_nothing(&run(|now| now.steady_ns.saturating_add_signed(now.set_ns)));
}
