//! `pinfeed publish`: a publisher to test with.

use std::{fmt, path::PathBuf, time::Duration};

use hdrhistogram::Histogram;

use crate::{
    cli::{Ending, Failure, countdown::Countdown, outputs, print_json, say, signals::Signals},
    clock::{SECOND_NS, wall_ns},
    config::check_bind,
    envelope::Envelope,
    error::Error,
    latency::log::LATENESS,
    publish::{
        self, Blaster, Published, Publisher, PublisherOptions, RATE_MAX, Schedule, Source, Until,
        Wire,
        capture::{Capture, Speed},
        check_frames,
        exchange::{Exchange, Parameters},
    },
    report::{count, counted, rate, time},
    stop::Stop,
};

/// How long to stay, once all is published, for subscribers to take it and go.
const DEPARTURE_LIMIT: Duration = Duration::from_secs(10);
/// The same where another command ends this one: of several publishers, the first to be done must not be missed.
const STAY_LIMIT: Duration = Duration::from_secs(24 * 3_600);

/// The share of a rate that may be missed without a word, and the time.
const MISSED_MAX: f64 = 0.01;
const BEHIND_S_MIN: f64 = 0.05;

/// Publish a synthetic exchange or a capture, to test with. Stays until its subscribers have gone, at
/// most ten seconds after the last message.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Stop when standard input ends: so that it does not outlive the command that started it. Until then it stays,
    /// for a day at most
    #[arg(long, hide = true)]
    until_stdin_ends: bool,

    /// With --blast: each endpoint gets topics of its own, in place of all
    #[arg(long, requires = "blast", conflicts_with = "capture")]
    split: bool,

    /// With --blast and the envelope pinfeed: send messages of this many frames, the payload split over them; topic and
    /// numbers are in the first, and what a receiver counts and digests as payload is the rest of that one
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        requires = "blast",
        conflicts_with = "capture"
    )]
    frames: usize,

    /// With --blast: publish every Nth topic only, from the Ith on, so that N publishers share a feed
    #[arg(long, value_name = "I/N", value_parser = parse_share, requires = "blast", conflicts_with = "capture")]
    share: Option<Share>,

    /// Bind for subscribers (repeatable) [default: tcp://127.0.0.1:5556, without --connect]
    #[arg(long, value_name = "ENDPOINT")]
    bind: Vec<String>,

    /// Connect to subscribers that bind (repeatable)
    #[arg(long, value_name = "ENDPOINT")]
    connect: Vec<String>,

    /// How messages are laid out: pinfeed, raw, delimited:C or delimited:0xNN
    #[arg(long, value_name = "NAME", default_value = "pinfeed")]
    envelope: Envelope,
    /// The epoch that messages carry, instead of the time: publishers with the same source, --seed and
    /// --epoch publish copies of one feed, its A and B lines
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,

    /// The number of topics
    #[arg(long, value_name = "N", default_value_t = Parameters::default().topics)]
    topics: usize,

    /// How unevenly messages are spread over topics: the exponent of Zipf's law, 0 for evenly
    #[arg(long, value_name = "EXPONENT", allow_negative_numbers = true, default_value_t = Parameters::default().skew)]
    skew: f64,

    /// Messages a second, or max
    #[arg(long, value_name = "N", default_value = "100000", value_parser = parse_rate, allow_negative_numbers = true)]
    rate: Rate,

    /// Send this many messages back to back, keeping the rate on average
    #[arg(long, value_name = "N", default_value_t = 1)]
    burst: u64,

    /// Bytes of a payload, 28 or more
    #[arg(long, value_name = "BYTES", default_value_t = Parameters::default().payload_bytes)]
    size: usize,

    /// Another seed makes other messages
    #[arg(long, value_name = "N", default_value_t = Parameters::default().seed)]
    seed: u64,

    /// Replay this capture instead: lines of `<ns> <json>`, plain or gzip
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topics", "skew", "rate", "burst", "size", "seed"])]
    capture: Option<PathBuf>,

    /// With --capture: how many times as fast as captured, or max
    #[arg(long, value_name = "TIMES", default_value = "1", value_parser = parse_speed, allow_negative_numbers = true, requires = "capture")]
    speed: Speed,

    /// Encode some 16,000 messages, or the whole capture, beforehand and send them over and over, without
    /// libzmq: with --rate max tens of millions a second. At a rate, it takes a whole core to keep to it
    #[arg(long)]
    blast: bool,

    /// Wait for this many subscriptions first, for as long as it takes; every prefix of every subscriber is one. 0
    /// waits for none
    #[arg(long, value_name = "N", default_value_t = 1)]
    wait_for: u64,

    /// Stop after this many messages
    #[arg(long, value_name = "N")]
    messages: Option<u64>,

    /// Stop after this time, for instance 10s or 2m, counted from the first message
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    run_for: Option<Duration>,

    /// With --blast and a rate: write at the end how late messages were by its own fault to this file, an
    /// HdrHistogram interval log with the tag lateness, in nanoseconds
    #[arg(long, value_name = "FILE", requires = "blast")]
    hlog: Option<PathBuf>,

    /// With --blast and a rate: leave the lateness of this long after the first message out, in the JSON and
    /// in --hlog, as run --warm-up does with latencies
    #[arg(long, value_name = "TIME", requires = "blast", value_parser = humantime::parse_duration)]
    warm_up: Option<Duration>,

    /// Write what was published to standard output as one JSON object
    #[arg(long)]
    json: bool,
}

/// A share of a feed, counted from 0, and of how many.
#[derive(Clone, Copy, Debug)]
struct Share {
    index: usize,
    of: usize,
}

/// Messages a second; none for as many as possible.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate(Option<f64>);

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(per_s) => per_s.fmt(out),
            None => out.write_str("max"),
        }
    }
}

/// Something that publishes, with what it publishes.
trait Publishing {
    fn endpoints(&self) -> &[String];
    fn wait_for_subscriptions(&mut self, count: u64, stop: &Stop) -> Result<(), Error>;
    fn publish(&mut self, until: Until, stop: &Stop) -> Result<Published, Error>;
    fn wait_for_departure(&mut self, limit: Duration, stop: &Stop) -> Result<(), Error>;
    /// How late messages were, in nanoseconds, where it is known.
    fn lateness_ns(&self) -> Option<&Histogram<u64>>;
}

impl Publishing for (Box<dyn Source>, Publisher) {
    fn endpoints(&self) -> &[String] {
        self.1.endpoints()
    }

    fn wait_for_subscriptions(&mut self, count: u64, stop: &Stop) -> Result<(), Error> {
        self.1.wait_for_subscriptions(count, stop)
    }

    fn publish(&mut self, until: Until, stop: &Stop) -> Result<Published, Error> {
        publish::publish(&mut *self.0, &mut self.1, until, stop)
    }

    fn wait_for_departure(&mut self, limit: Duration, stop: &Stop) -> Result<(), Error> {
        self.1.wait_for_departure(limit, stop)
    }

    fn lateness_ns(&self) -> Option<&Histogram<u64>> {
        None
    }
}

impl Publishing for Blaster {
    fn endpoints(&self) -> &[String] {
        self.endpoints()
    }

    fn wait_for_subscriptions(&mut self, count: u64, stop: &Stop) -> Result<(), Error> {
        self.wait_for_subscriptions(count, stop)
    }

    fn publish(&mut self, until: Until, stop: &Stop) -> Result<Published, Error> {
        self.publish(until, stop)
    }

    fn wait_for_departure(&mut self, limit: Duration, stop: &Stop) -> Result<(), Error> {
        let waited = self.wait_for_departure(limit, stop);
        if self.rejected_peers() > 0 {
            say(format_args!(
                "hung up on {} peer(s) that did not behave as subscribers do, or were too many",
                count(self.rejected_peers())
            ));
        }
        waited
    }

    fn lateness_ns(&self) -> Option<&Histogram<u64>> {
        Some(self.lateness_ns())
    }
}

fn prepare(blaster: &mut Blaster, warm_up: Option<Duration>) {
    blaster.warm_up_for(warm_up.unwrap_or_default());
    blaster.on_refused(|reason| {
        say(format_args!(
            "warning: a connection was refused ({reason}), and is tried again from time to time; is the \
             limit on open files high enough (ulimit -n)?"
        ));
    });
}

impl Args {
    fn open(&self) -> Result<Box<dyn Publishing>, Error> {
        if let Some(path) = &self.capture {
            let mut capture = Capture::open(path, self.speed)?;
            if self.blast {
                let mut blaster = Blaster::open_capture(&self.options()?, &mut capture)?;
                prepare(&mut blaster, self.warm_up);
                return Ok(Box::new(blaster));
            }
            let source: Box<dyn Source> = Box::new(capture);
            return Ok(Box::new((source, Publisher::open(&self.options()?)?)));
        }
        let parameters = Parameters {
            topics: self.topics,
            skew: self.skew,
            rate: self.rate.0,
            burst: self.burst,
            payload_bytes: self.size,
            seed: self.seed,
        };
        let share = self.share.unwrap_or(Share { index: 0, of: 1 });
        let mut exchange = Exchange::share(parameters, share.index, share.of)?;
        let options = self.options()?;
        if self.blast {
            check_frames(self.frames, self.size)?;
            let wire = Wire {
                frames: self.frames,
                split: self.split,
            };
            let (topics, schedule) = (self.topics.div_ceil(share.of), parameters.schedule());
            let mut blaster = Blaster::open_as(wire, &options, &mut exchange, topics, schedule)?;
            prepare(&mut blaster, self.warm_up);
            return Ok(Box::new(blaster));
        }
        let source: Box<dyn Source> = Box::new(exchange);
        Ok(Box::new((source, Publisher::open(&options)?)))
    }

    /// Returns what says how much time is left, where it ends by itself and for people.
    fn countdown(&self) -> Option<Countdown> {
        let ends = self.messages.is_some() || self.run_for.is_some();
        let by_messages = match (self.messages, self.rate.0, &self.capture) {
            (Some(messages), Some(rate), None) => {
                Duration::try_from_secs_f64(messages as f64 / rate).ok()
            }
            _ => None,
        };
        let length = self.run_for.into_iter().chain(by_messages).min();
        (ends && !self.until_stdin_ends).then(|| Countdown::new("publishing", length))
    }

    /// Says that messages took longer than the rate allows them.
    fn warn_of_missed_rate(&self, done: &Published) {
        let (Some(wanted), None) = (self.rate.0, &self.capture) else {
            return;
        };
        let schedule = Schedule {
            rate: self.rate.0,
            burst: self.burst,
        };
        let last = done.published.saturating_sub(1);
        let due_s = schedule.due_ns(last).unwrap_or(0) as f64 / SECOND_NS as f64;
        let behind_s = done.elapsed_s - due_s;
        if behind_s < BEHIND_S_MIN || behind_s < done.elapsed_s * MISSED_MAX {
            return;
        }
        let remedy = if self.blast {
            "a subscriber took no more, or this host sends no more: give a lower --rate"
        } else {
            "give a lower --rate, or --blast"
        };
        say(format_args!(
            "warning: --rate {wanted} was missed by {:.1} %: {remedy}",
            100.0 * behind_s / done.elapsed_s
        ));
    }

    fn options(&self) -> Result<PublisherOptions, Error> {
        let mut bind = self.bind.clone();
        if bind.is_empty() && self.connect.is_empty() {
            bind.push("tcp://127.0.0.1:5556".to_owned());
        }
        for endpoint in &bind {
            check_bind("--bind", endpoint)?;
        }
        Ok(PublisherOptions {
            bind,
            connect: self.connect.clone(),
            envelope: self.envelope.clone(),
            epoch: self.epoch,
        })
    }
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let signals = Signals::listen()?;
    if args.until_stdin_ends {
        signals.stop_when_stdin_ends();
    }
    let log = args.hlog.as_deref();
    let mut log = log
        .map(|path| outputs::log("--hlog", path, u64::MAX))
        .transpose()?;
    let mut publisher = args.open()?;
    say(format_args!(
        "publishing on {}",
        publisher.endpoints().join(", ")
    ));
    if args.wait_for > 0 {
        let wanted = match args.wait_for {
            1 => "a subscription".to_owned(),
            many => format!("{many} subscriptions"),
        };
        say(format_args!(
            "waiting for {wanted} before the first message (--wait-for {}; 0 waits for none)",
            args.wait_for
        ));
        publisher.wait_for_subscriptions(args.wait_for, signals.stop())?;
    }
    let start = Duration::from_nanos(wall_ns());
    let until = Until {
        messages: args.messages,
        elapsed: args.run_for,
    };
    let countdown = args.countdown().map(Countdown::in_background);
    let done = publisher.publish(until, signals.stop())?;
    drop(countdown);
    let scheduled = args.capture.is_none() && args.rate.0.is_some()
        || args.capture.is_some() && args.speed != Speed::Max;
    let lateness = if scheduled {
        format!(
            ", at most {} behind schedule",
            time(done.late_ns_max as f64)
        )
    } else {
        String::new()
    };
    let unsent = match done.unsent {
        0 => String::new(),
        unsent => format!(", {} not sent", count(unsent)),
    };
    say(format_args!(
        "published {} in {:.2} s: {} msg/s{lateness}{unsent}",
        counted(done.published, ("message", "messages")),
        done.elapsed_s,
        rate(if done.elapsed_s > 0.0 {
            done.published as f64 / done.elapsed_s
        } else {
            0.0
        }),
    ));
    args.warn_of_missed_rate(&done);
    if let (Some(log), Some(lateness_ns)) = (&mut log, publisher.lateness_ns()) {
        let length = Duration::from_secs_f64(done.elapsed_s);
        let warm_up = args.warm_up.unwrap_or_default().min(length);
        log.write(
            start + warm_up,
            length - warm_up,
            &[(LATENESS, lateness_ns)],
        )?;
    }
    if args.json {
        print_json(&done)?;
    }
    let stay = if args.until_stdin_ends {
        STAY_LIMIT
    } else {
        DEPARTURE_LIMIT
    };
    publisher.wait_for_departure(stay, signals.stop())?;
    Ok(signals.caught().map_or(Ending::Ok, Ending::Signal))
}

pub(super) fn parse_rate(text: &str) -> Result<Rate, String> {
    match positive_or_max(text)? {
        Some(rate) if rate > RATE_MAX => Err(format!("give a number up to {RATE_MAX}, or max")),
        rate => Ok(Rate(rate)),
    }
}

fn parse_share(text: &str) -> Result<Share, String> {
    let numbers = text.split_once('/').and_then(|(index, of)| {
        let (index, of) = (index.parse::<usize>().ok()?, of.parse().ok()?);
        Some((index.checked_sub(1)?, of))
    });
    match numbers {
        Some((index, of)) if index < of => Ok(Share { index, of }),
        _ => Err("give one of N shares: 1/N to N/N".to_owned()),
    }
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    positive_or_max(text).map(|times| times.map_or(Speed::Max, Speed::Times))
}

fn positive_or_max(text: &str) -> Result<Option<f64>, String> {
    if text == "max" {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
        _ => Err("give a number above 0, or max".to_owned()),
    }
}
