//! What moving shards gains where one topic has most messages, as on an exchange whose ticker of all symbols is one
//! topic: the rate once all others have left its worker.
//!
//! Handlers wait rather than reckon, as those do that write to a disk or a database: so workers are what bounds it, and
//! work side by side however few cores there are.

use std::{thread, time::Duration};

use pinfeed::{
    clock::{Deadline, process_cpu_ns},
    config::Config,
    handoff::Batch,
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::Handler,
};

use crate::{
    publisher::Feed,
    subjects::{Cost, checked},
};

/// What cases are called by.
pub const ALIKE: &str = "1,000 topics alike";
pub const BUSY: &str = "one topic of 1,000 with 56 %";
pub const BUSIEST_PERCENT: usize = 56;
pub const WORKERS: usize = 4;
/// How long a handler waits for each message: 2 ms a batch, so that it matters little how late it is woken, and
/// that lane and publisher mostly wait for workers. Shards move when their worker is done with the batches that
/// wait for it, eight at once: until all have, it is some three seconds.
const WAIT: Duration = Duration::from_micros(2);
/// How often shards may move, as with `pinfeed run --rebalance`.
const REBALANCE_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);

struct Waits;

impl Handler for Waits {
    fn on_message(&mut self, _message: &Message<'_>) {}

    fn on_batch_end(&mut self, batch: &Batch) {
        thread::sleep(WAIT * batch.len() as u32);
    }
}

/// How far a pipeline is.
struct Mark {
    now_ns: u64,
    cpu_ns: u64,
    /// By worker: messages that its handler has seen.
    handled: Vec<u64>,
}

impl Mark {
    fn of(pipeline: &Pipeline<Waits>) -> Self {
        let workers = pipeline.by_worker();
        Self {
            now_ns: pipeline.now_ns(),
            cpu_ns: process_cpu_ns(),
            handled: workers.iter().map(|worker| worker.delivered).collect(),
        }
    }
}

/// Takes all messages in, and tells what the second half took, to the last that the lane received: what then still
/// waits is one worker's. Shards move if the configuration has them do so.
pub fn run(config: &Config, feed: &Feed, messages: u64) -> Cost {
    let mut pipeline = Pipeline::start(config, Quota::of(messages), Stop::default(), |_| Waits)
        .expect("the pipeline starts");
    let start = Mark::of(&pipeline);
    let (mut half, mut end) = (None, None);
    let mut rebalance = Deadline::after(REBALANCE_EVERY);
    while !pipeline.is_finished() {
        thread::sleep(LOOK_EVERY);
        let totals = pipeline.look();
        if half.is_none() {
            half = (totals.delivered >= messages / 2).then(|| Mark::of(&pipeline));
        } else if end.is_none() {
            end = (totals.received == messages).then(|| Mark::of(&pipeline));
        }
        if config.sharding.rebalance && rebalance.passed() {
            pipeline.rebalance().expect("shards may move");
            rebalance = Deadline::after(REBALANCE_EVERY);
        }
    }
    // Few messages are all there before anybody looks.
    let (half, end) = (
        half.unwrap_or(start),
        end.unwrap_or_else(|| Mark::of(&pipeline)),
    );
    checked(pipeline.finish(), config, feed, messages);
    let handled = end.handled.iter().zip(&half.handled);
    let handled: Vec<u64> = handled.map(|(end, half)| end - half).collect();
    let (all, most) = (handled.iter().sum(), handled.iter().max());
    Cost {
        messages: all,
        elapsed_ns: end.now_ns - half.now_ns,
        cpu_ns: end.cpu_ns - half.cpu_ns,
        latency: None,
        slice_p99_ns: None,
        busiest: most.map(|most| *most as f64 / all as f64),
    }
}
