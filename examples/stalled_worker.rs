//! Stalls one of four workers and prints how long messages took to reach the others, to be compared with a
//! run without a stall:
//!
//! ```sh
//! pinfeed publish --rate 200000 --messages 1200000 &
//! cargo run --release --example stalled_worker -- tcp://127.0.0.1:5556 1200000 drop-oldest 2000
//! ```
//!
//! The arguments are the endpoint of a publisher of `pinfeed` envelopes, the number of messages, a policy
//! and the stall's length in milliseconds, 0 for none. Messages bear the time that they were due at, so what
//! holds the publisher up is in these times as well: look at how far behind its schedule it says it was, and at
//! the machine's hiccups, printed here.

use std::{env, error::Error, thread, time::Duration};

use hdrhistogram::Histogram;
use pinfeed::{
    clock::wall_ns,
    config::{Config, TopicPolicy},
    envelope::Envelope,
    lane::Quota,
    latency::Hiccups,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::Handler,
};

const WORKERS: usize = 4;
/// Messages that the stalled worker takes before.
const STALL_AFTER: u64 = 50_000;

struct Timed {
    stall: Duration,
    seen: u64,
    /// From the publisher's timestamp to the handler, in nanoseconds.
    feed: Histogram<u64>,
}

impl Handler for Timed {
    fn on_message(&mut self, message: &Message<'_>) {
        self.seen += 1;
        if self.seen == STALL_AFTER {
            thread::sleep(self.stall);
        }
        let stamped_ns = message.timestamp_ns().unwrap_or_default();
        self.feed
            .saturating_record(wall_ns().saturating_sub(stamped_ns));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [endpoint, messages, policy, stall_ms] = &arguments[..] else {
        return Err("usage: stalled_worker ENDPOINT MESSAGES POLICY STALL_MS".into());
    };
    let (messages, stall_ms) = (messages.parse()?, stall_ms.parse()?);
    let mut config = Config::connect(endpoint, Envelope::Pinfeed);
    config.workers.count = WORKERS;
    config.feeds[0].policies = vec![TopicPolicy {
        topic: Some("*".to_owned()),
        policy: policy.parse()?,
    }];
    let feed = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    let cores: Vec<usize> = (0..thread::available_parallelism()?.get()).collect();
    let hiccups = Hiccups::start(&cores)?;
    let pipeline = Pipeline::start(&config, Quota::of(messages), Stop::default(), |worker| {
        Timed {
            stall: Duration::from_millis(if worker == 0 { stall_ms } else { 0 }),
            seen: 0,
            feed: feed.clone(),
        }
    })?;
    let outcome = pipeline.finish();
    for (core, late) in hiccups.stop() {
        println!("hiccups of core {core}: up to {} us", late.max() / 1_000);
    }
    println!("worker,messages,p50_us,p99_us,max_us");
    for (worker, timed) in outcome.handlers.iter().enumerate() {
        let us = |quantile| timed.feed.value_at_quantile(quantile) / 1_000;
        let max_us = timed.feed.max() / 1_000;
        println!("{worker},{},{},{},{max_us}", timed.seen, us(0.5), us(0.99));
    }
    let totals = outcome.totals;
    println!(
        "received {}, delivered {}, conflated {}, dropped {}, balanced: {}",
        totals.received,
        totals.delivered,
        totals.conflated,
        totals.dropped,
        totals.balanced()
    );
    for anomaly in outcome.flight.entries() {
        eprintln!("{anomaly}");
    }
    outcome
        .failure
        .map_or(Ok(()), |failure| Err(failure.into()))
}
