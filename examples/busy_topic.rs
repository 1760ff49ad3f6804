//! Shows what moving shards gains where one topic has more than half of all messages: the rate before, and after
//! all other topics have left its worker.
//!
//! ```sh
//! pinfeed publish --blast --rate max --skew 1.9 &
//! cargo run --release --example busy_topic -- tcp://127.0.0.1:5556 20
//! ```
//!
//! The arguments are the endpoint of a publisher of `pinfeed` envelopes, and for how many microseconds the handler
//! waits for each message, as one does that writes to a disk or a database.

use std::{env, error::Error, thread, time::Duration};

use pinfeed::{
    clock::Stopwatch, config::Config, envelope::Envelope, handoff::Batch, lane::Quota,
    message::Message, pipeline::Pipeline, stop::Stop, worker::Handler,
};

const WORKERS: usize = 4;
/// How long each rate is measured for.
const MEASURED: Duration = Duration::from_secs(5);
/// How long shards are given to move.
const SETTLING: usize = 10;

struct Waits {
    each: Duration,
}

impl Handler for Waits {
    fn on_message(&mut self, _message: &Message<'_>) {}

    fn on_batch_end(&mut self, batch: &Batch) {
        thread::sleep(self.each * batch.len() as u32);
    }
}

/// Messages handled a second, for some seconds; by worker, its part of them in percent.
fn measure(pipeline: &mut Pipeline<Waits>) -> (f64, Vec<u64>) {
    let by_worker = |pipeline: &Pipeline<Waits>| -> Vec<u64> {
        let workers = pipeline.by_worker();
        workers.iter().map(|worker| worker.delivered).collect()
    };
    let (before, clock) = (by_worker(pipeline), Stopwatch::start());
    thread::sleep(MEASURED);
    let after = by_worker(pipeline);
    let handled: Vec<u64> = after
        .iter()
        .zip(before)
        .map(|(now, before)| now - before)
        .collect();
    let all: u64 = handled.iter().sum();
    let shares = handled.iter().map(|one| 100 * one / all.max(1)).collect();
    (all as f64 * 1e9 / clock.elapsed_ns() as f64, shares)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [endpoint, wait_us] = &arguments[..] else {
        return Err("usage: busy_topic ENDPOINT WAIT_US".into());
    };
    let each = Duration::from_micros(wait_us.parse()?);
    let mut config = Config::connect(endpoint, Envelope::Pinfeed);
    config.workers.count = WORKERS;
    let stop = Stop::default();
    let start = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| Waits {
        each,
    });
    let mut pipeline = start?;
    // Until handoffs are full.
    thread::sleep(MEASURED);
    let (before, shares) = measure(&mut pipeline);
    println!("before: {before:.0} messages a second, workers' parts in percent {shares:?}");
    let mut moves = 0;
    for _ in 0..SETTLING {
        thread::sleep(Duration::from_secs(1));
        moves += pipeline.rebalance()?.len();
    }
    let (after, shares) = measure(&mut pipeline);
    println!("after {moves} moves: {after:.0} messages a second, {shares:?}");
    println!("ratio {:.2}", after / before);
    stop.request();
    let outcome = pipeline.finish();
    println!("balanced: {}", outcome.totals.balanced());
    Ok(())
}
