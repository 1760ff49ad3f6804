//! One of four workers stands still, and how long messages then take to the others.
//!
//! The stalled worker's handler sleeps for half of the run, from a quarter of its messages on. By policies with which the
//! lane waits, what comes for it meanwhile has room in the handoff, as that comes; by the others it has none. The others
//! read the clock at each message. What became of all messages is checked, to the message.
//!
//! A host that holds threads up for a millisecond twenty times in a run, for reasons of its own, decides the p99 of
//! the run. So that of each hundredth of the stall is taken as well, and the median of these: most have none of that
//! in them, and all have what a policy does to the others for as long as the worker stands still.

use std::{thread, time::Duration};

use hdrhistogram::Histogram;
use pinfeed::{
    bench::Spread,
    clock::wall_ns,
    config::{Config, OnLate, PinPolicy, TopicPolicy},
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    policy::Policy,
    stop::Stop,
    worker::Handler,
};

use crate::{
    publisher::Feed,
    subjects::{Cost, Latency},
};

/// Messages a second.
pub const RATE: f64 = 200_000.0;
/// How long a run takes, in seconds.
pub const RUN_S: u64 = 4;
const WORKERS: usize = 4;
/// The parts of the stall, or of the same time without one, that each have a p99 of their own.
const SLICES: u64 = 100;

/// Batches of a handoff that is full well before a stall is over.
const FEW_BATCHES: usize = 32;

/// A run of a policy, with one of its workers stalled or none.
#[derive(Clone, Copy)]
pub struct Stall {
    policy: Policy,
    is_stalled: bool,
}

/// Records how long messages took; stalls once, where that is its part.
struct Timed {
    /// After how many messages, and for how long.
    stall: Option<(u64, Duration)>,
    samples: Vec<Sample>,
}

/// A message's times, in nanoseconds.
#[derive(Clone, Copy)]
struct Sample {
    /// When it was to be sent, since the epoch.
    due_ns: u64,
    /// From then to the handler.
    latency_ns: u64,
}

impl Handler for Timed {
    fn on_message(&mut self, message: &Message<'_>) {
        if let Some((after, for_)) = self.stall
            && self.samples.len() as u64 == after
        {
            thread::sleep(for_);
        }
        let due_ns = message.timestamp_ns().expect("all bear their time");
        let latency_ns = wall_ns().saturating_sub(due_ns);
        self.samples.push(Sample { due_ns, latency_ns });
    }
}

impl Stall {
    /// All policies, with nothing stalled.
    pub fn all() -> impl Iterator<Item = Self> {
        Policy::ALL.into_iter().map(|policy| Self {
            policy,
            is_stalled: false,
        })
    }

    /// Tells whether messages are given up where there is no room. Else the lane waits, and all wait with it.
    fn gives_up(&self) -> bool {
        !matches!(self.policy, Policy::Block | Policy::Snail)
    }

    /// The same with a worker stalled.
    pub fn stalled(self) -> Self {
        Self {
            is_stalled: true,
            ..self
        }
    }

    pub fn name(&self) -> String {
        let room = if self.gives_up() {
            format!(", {FEW_BATCHES} batches")
        } else {
            String::new()
        };
        let stalled = if self.is_stalled {
            "stalled"
        } else {
            "all well"
        };
        format!("{}{room}, {stalled}", self.policy)
    }

    /// Takes in all `messages`. The latency is that of the workers that are not stalled.
    pub fn run(&self, feed: &Feed, endpoint: &str, messages: u64) -> Cost {
        let mut config = Config::connect(endpoint, feed.envelope.clone());
        config.pin = Some(PinPolicy::BestEffort);
        config.workers.count = WORKERS;
        if self.gives_up() {
            config.handoff.batches = FEW_BATCHES;
        }
        config.policy.on_late = OnLate::Alarm;
        config.feeds[0].policies = vec![TopicPolicy {
            topic: Some("*".to_owned()),
            policy: self.policy,
        }];
        let run_s = messages as f64 / feed.rate.expect("it has a rate");
        let stall = (
            messages / WORKERS as u64 / 4,
            Duration::from_secs_f64(run_s / 2.0),
        );
        let pipeline = Pipeline::start(&config, Quota::of(messages), Stop::default(), |worker| {
            Timed {
                stall: (self.is_stalled && worker == 0).then_some(stall),
                // A first touch of a page, every 256 messages, is below their p99.
                samples: Vec::with_capacity(messages as usize),
            }
        });
        let outcome = pipeline.expect("the pipeline starts").finish();
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        let totals = &outcome.totals;
        assert_eq!(totals.received, messages);
        let given_up = totals.conflated + totals.dropped;
        if self.gives_up() {
            let (stalled, room) = (
                messages / WORKERS as u64 / 2,
                config.handoff.batches * config.handoff.batch_messages,
            );
            let is_too_much = self.is_stalled && stalled > room as u64;
            assert!(given_up > 0 || !is_too_much, "{totals:?}");
        } else {
            assert_eq!(given_up, 0, "{totals:?}");
        }
        assert_eq!(
            totals.delivered + totals.conflated + totals.dropped,
            messages
        );
        let seen: usize = outcome.handlers.iter().map(|one| one.samples.len()).sum();
        assert_eq!(seen as u64, totals.delivered);
        let others = outcome.handlers[1..].iter();
        let others: Vec<Sample> = others.flat_map(|timed| &timed.samples).copied().collect();
        Cost {
            messages,
            elapsed_ns: outcome.elapsed_ns,
            cpu_ns: outcome.cpu_ns,
            latency: Some(Latency::of(&histogram(&others))),
            slice_p99_ns: Some(slice_p99_ns(&others, (run_s * 1e9) as u64)),
            busiest: None,
        }
    }
}

fn histogram(messages: &[Sample]) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("it has bounds");
    for message in messages {
        histogram.saturating_record(message.latency_ns);
    }
    histogram
}

/// Takes the p99 of each slice of the middle half of a run, which is when a worker stands still, and returns their
/// median.
fn slice_p99_ns(messages: &[Sample], run_ns: u64) -> f64 {
    let mut slices = vec![Vec::new(); SLICES as usize];
    let start_ns = messages.iter().map(|message| message.due_ns).min();
    let from_ns = start_ns.expect("some came") + run_ns / 4;
    let slice_ns = run_ns / 2 / SLICES;
    for message in messages {
        let slice = message
            .due_ns
            .checked_sub(from_ns)
            .map(|since_ns| since_ns / slice_ns);
        if let Some(slice) = slice.and_then(|slice| slices.get_mut(slice as usize)) {
            slice.push(*message);
        }
    }
    let filled = slices.iter().filter(|slice| !slice.is_empty());
    Spread::of(filled.map(|slice| histogram(slice).value_at_quantile(0.99) as f64)).median
}
