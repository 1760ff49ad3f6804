//! What is measured: ways to take messages in. Each checks that all of them came.

use hdrhistogram::Histogram;
use pinfeed::{
    bench::baseline::{self, Baseline, WORKERS},
    config::{Config, PinPolicy},
    envelope::Envelope,
    lane::Quota,
    pipeline::{Outcome, Pipeline},
    stop::Stop,
    worker::{
        Handler,
        handlers::{Count, Null},
    },
};

use crate::{
    middle::{Between, Middle},
    publisher::{Feed, WIRE_BYTES},
    skew,
    stall::Stall,
};

/// What a run took, or the part of it that counts.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Messages that were taken in.
    pub messages: u64,
    pub elapsed_ns: u64,
    pub cpu_ns: u64,
    /// From the intended send time to the end of the subject's way, where it was asked for.
    pub latency: Option<Latency>,
    /// The median of the p99 of slices of time, in nanoseconds, where it was asked for.
    pub slice_p99_ns: Option<f64>,
    /// The part of the messages that the busiest worker had, where it was asked for.
    pub busiest: Option<f64>,
}

impl Cost {
    fn of_baseline(messages: u64, cost: pinfeed::Result<baseline::Cost>) -> Self {
        let cost = cost.expect("the baseline takes all messages in");
        Self {
            messages,
            elapsed_ns: cost.elapsed_ns,
            cpu_ns: cost.cpu_ns,
            latency: None,
            slice_p99_ns: None,
            busiest: None,
        }
    }

    fn of_timed(messages: u64, timed: pinfeed::Result<(baseline::Cost, Histogram<u64>)>) -> Self {
        let (cost, histogram) = timed.expect("the baseline takes all messages in");
        Self {
            latency: Some(Latency::of(&histogram)),
            ..Self::of_baseline(messages, Ok(cost))
        }
    }
}

/// Percentiles, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub p50_ns: u64,
    pub p99_ns: u64,
}

impl Latency {
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            p50_ns: histogram.value_at_quantile(0.5),
            p99_ns: histogram.value_at_quantile(0.99),
        }
    }
}

/// How pinfeed is set up.
#[derive(Clone, Copy)]
pub struct Setup {
    pub name: &'static str,
    /// How many messages it takes for some seconds.
    pub messages: u64,
    pub configure: fn(&mut Config),
}

/// A way to take messages in.
#[derive(Clone, Copy)]
pub enum Subject {
    /// Receive calls only: what the kernel's copy costs.
    Plain,
    /// A libzmq SUB socket in a loop that does nothing with the message, as anyone would write it.
    Bare,
    /// The same with the loop and its I/O thread tied to one core, as pinfeed does with a libzmq
    /// lane where cores are few.
    BareOnOneCore,
    /// The black box as the ZeroMQ Guide sketches it, one inproc PUSH a message.
    OneByOne,
    /// pinfeed, with ledger and histograms on, and a handler that does nothing.
    Pinfeed(Setup),
    /// The same with the handler that counts by topic and digests payloads.
    Counting(Setup),
    /// The same as pinfeed, with something between it and the publisher.
    Behind(Setup, Middle),
    /// The same with a handler that waits for each message; of the second half alone.
    Waiting(Setup),
    /// pinfeed with more workers, of which one may stand still.
    Stalled(Stall),
}

impl Subject {
    pub fn name(&self) -> String {
        match self {
            Self::Plain => Baseline::Plain.title(),
            Self::Bare => Baseline::Bare.title(),
            Self::BareOnOneCore => format!("{}, on one core", Baseline::Bare.title()),
            Self::OneByOne => Baseline::OneByOne.title(),
            Self::Pinfeed(setup) | Self::Waiting(setup) => setup.name.to_owned(),
            Self::Counting(setup) => format!("{}, count and digest by topic", setup.name),
            Self::Behind(_, middle) => middle.name().to_owned(),
            Self::Stalled(stall) => stall.name(),
        }
    }

    /// How many messages it takes for some seconds.
    pub fn messages(&self) -> u64 {
        match self {
            Self::Plain => 40_000_000,
            Self::Bare | Self::BareOnOneCore | Self::OneByOne => 4_000_000,
            Self::Pinfeed(setup) | Self::Counting(setup) | Self::Waiting(setup) => setup.messages,
            Self::Behind(..) | Self::Stalled(_) => 4_000_000,
        }
    }

    /// Takes in all `messages` that come from the endpoints.
    pub fn run(&self, feed: &Feed, endpoints: &[String], messages: u64) -> Cost {
        match self {
            Self::Plain => {
                let bytes = messages * WIRE_BYTES as u64;
                Cost::of_baseline(messages, baseline::plain(endpoints, bytes))
            }
            Self::Bare if feed.rate.is_some() => {
                Cost::of_timed(messages, baseline::bare_timed(endpoints, messages))
            }
            Self::Bare => Cost::of_baseline(messages, baseline::bare(endpoints, messages, 1)),
            Self::BareOnOneCore => {
                Cost::of_baseline(messages, baseline::bare_on_one_core(endpoints, messages))
            }
            Self::OneByOne => {
                Cost::of_baseline(messages, baseline::one_by_one(endpoints, messages, 1))
            }
            Self::Pinfeed(setup) => black_box(setup, feed, endpoints, messages, |_| Null),
            Self::Counting(setup) => {
                black_box(setup, feed, endpoints, messages, |_| Count::default())
            }
            Self::Behind(setup, middle) => {
                let between = Between::start(*middle, &endpoints[0]);
                let endpoints = [between.endpoint.clone()];
                black_box(setup, feed, &endpoints, messages, |_| Null)
            }
            Self::Waiting(setup) => skew::run(&configured(setup, feed, endpoints), feed, messages),
            Self::Stalled(stall) => stall.run(feed, &endpoints[0], messages),
        }
    }
}

fn black_box<H: Handler>(
    setup: &Setup,
    feed: &Feed,
    endpoints: &[String],
    messages: u64,
    handler: fn(usize) -> H,
) -> Cost {
    let config = configured(setup, feed, endpoints);
    let pipeline = Pipeline::start(&config, Quota::of(messages), Stop::default(), handler)
        .expect("the pipeline starts");
    checked(pipeline.finish(), &config, feed, messages)
}

fn configured(setup: &Setup, feed: &Feed, endpoints: &[String]) -> Config {
    let mut config = Config::connect(&endpoints[0], feed.envelope.clone());
    config.feeds[0].lines[0].connect = endpoints.to_vec();
    config.pin = Some(PinPolicy::BestEffort);
    config.workers.count = WORKERS;
    (setup.configure)(&mut config);
    for _ in 1..feed.copies {
        // Copies come by ways of their own; to the same publisher this is another name.
        let mut line = config.feeds[0].lines[0].clone();
        for endpoint in &mut line.connect {
            *endpoint = endpoint.replace("127.0.0.1", "localhost");
        }
        config.feeds[0].lines.push(line);
    }
    config
}

/// Checks that all messages came, and returns what they took.
pub fn checked<H>(outcome: Outcome<H>, config: &Config, feed: &Feed, messages: u64) -> Cost {
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert_eq!(outcome.totals.received, messages);
    let delivered = match config.feeds[0].arbitration {
        Some(_) => messages / feed.copies,
        None => messages,
    };
    assert_eq!(outcome.totals.delivered, delivered);
    assert!(outcome.totals.balanced());
    assert_eq!(outcome.stages.queue.len(), delivered);
    let stamped = feed.envelope == Envelope::Pinfeed;
    assert_eq!(
        outcome.stages.feed.len(),
        if stamped { delivered } else { 0 }
    );
    Cost {
        messages,
        elapsed_ns: outcome.elapsed_ns,
        cpu_ns: outcome.cpu_ns,
        slice_p99_ns: None,
        busiest: None,
        latency: stamped.then(|| Latency::of(&outcome.stages.feed)),
    }
}
