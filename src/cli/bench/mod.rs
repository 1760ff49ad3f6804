//! `pinfeed bench`: what this host carries, and where it breaks.

mod capacity;
mod latency;
mod progress;
mod replay;
mod results;
mod session;
mod sweep;
mod throughput;

use std::{path::PathBuf, time::Duration};

use crate::{
    bench::{Bench, Cores, Shape},
    cli::{
        Ending, Failure, say,
        shape::{CoreList, parse_cores},
        signals::Signals,
    },
    config::{Engine, Handoff},
    handoff::HandoffKind,
    wait::Wait,
};

/// Measure what this host carries, and where it breaks: generator and subject are processes of this
/// program, each on its cores, over loopback TCP.
// What each does is said at its arguments.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Latency(latency::Args),
    Throughput(throughput::Args),
    Capacity(capacity::Args),
    Sweep(sweep::Args),
    Replay(replay::Args),
    #[command(hide = true)]
    Baseline(throughput::BaselineArgs),
}

pub(super) fn run(command: &Command) -> Result<Ending, Failure> {
    match command {
        Command::Latency(args) => latency::run(args),
        Command::Throughput(args) => throughput::run(args),
        Command::Capacity(args) => capacity::run(args),
        Command::Sweep(args) => sweep::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Baseline(args) => throughput::run_baseline(args),
    }
}

/// What is sent, and over what.
#[derive(Debug, clap::Args)]
struct Traffic {
    /// Bytes of a payload, 28 or more; topic and envelope are 38 more
    #[arg(long, value_name = "BYTES", default_value_t = 28)]
    size: usize,

    /// Frames of a message: the payload is split over them, topic and envelope are in the first
    #[arg(long, value_name = "N", default_value_t = 1)]
    frames: usize,

    /// The number of topics
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    topics: usize,

    /// How unevenly messages are spread over topics: the exponent of Zipf's law, 0 for evenly
    #[arg(
        long,
        value_name = "EXPONENT",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    skew: f64,

    /// Connections to each publisher, each with topics of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    connections: usize,

    /// Lanes of pinfeed, each a receive thread, which connections are spread over
    #[arg(long, value_name = "N", default_value_t = 1)]
    lanes: usize,
}

/// Who sends, flat out.
#[derive(Debug, clap::Args)]
struct Load {
    /// Publishers that share the load, each a process with topics and connections of its own, on the next of
    /// --generator-cores; flat out only
    #[arg(long, value_name = "N", default_value_t = 1)]
    publishers: usize,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            size: 28,
            frames: 1,
            topics: 1_000,
            skew: 1.0,
            connections: 1,
            lanes: 1,
        }
    }
}

/// How long runs at a rate are, and what is measured beside them. The defaults are for several runs of one rate.
#[derive(Debug, clap::Args)]
struct Lengths {
    /// How long each run is measured for
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    length: Duration,

    /// How long messages flow before that
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    warm_up: Duration,

    /// Measure the platform's hiccups at the same time, on all cores used. It takes 2 to 3 % of each and wakes it a
    /// thousand times a second, which changes the latencies
    #[arg(long)]
    hiccups: bool,
}

/// What all benchmarks have in common.
#[derive(Debug, clap::Args)]
struct Common {
    /// The subject's workers
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,

    /// What receives: native or libzmq
    #[arg(long, value_name = "NAME", default_value_t = EngineName(Engine::Native))]
    engine: EngineName,

    /// What carries messages to workers: ring or inproc
    #[arg(long, value_name = "NAME", default_value_t = HandoffKind::Ring)]
    handoff: HandoffKind,

    /// How the subject's threads wait for work: spin, park or adaptive
    #[arg(long, value_name = "NAME", default_value_t = Wait::Park)]
    wait: Wait,

    /// The number of messages at which the subject hands a batch over to a worker
    #[arg(long, value_name = "N", default_value_t = Handoff::default().batch_messages)]
    batch_messages: usize,

    /// The generator's core, or one for each publisher, in turn where they are more: 0,2 [default: the first that
    /// the subject is not given; of several publishers one for each, up to half of all]
    #[arg(long, alias = "generator-core", value_name = "LIST", value_parser = parse_cores)]
    generator_cores: Option<CoreList>,

    /// The subject's cores: 2,3,4-7 [default: all but the generator's]
    #[arg(long, value_name = "LIST", value_parser = parse_cores)]
    subject_cores: Option<CoreList>,

    /// Show what happens on the whole terminal: time left, the step under way second by second, results so far.
    /// p holds the picture; q ends the benchmark, as Ctrl-C does, and keeps nothing of it
    #[arg(long)]
    tui: bool,

    /// Write results to a new folder in this one
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,

    /// Write the results to standard output as one JSON object
    #[arg(long)]
    json: bool,
}

/// An engine, shown by its name.
#[derive(Clone, Copy, Debug)]
struct EngineName(Engine);

impl std::fmt::Display for EngineName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.0.name())
    }
}

impl std::str::FromStr for EngineName {
    type Err = <Engine as std::str::FromStr>::Err;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        name.parse().map(Self)
    }
}

fn parse_rate(text: &str) -> Result<f64, &'static str> {
    text.parse().map_err(
        |_| "give a number of messages a second; bench throughput measures as many as possible",
    )
}

impl Common {
    /// Returns what is sent and received. It is yet to be checked.
    fn shape(&self, traffic: &Traffic, publishers: usize) -> Shape {
        Shape {
            payload_bytes: traffic.size,
            frames: traffic.frames,
            topics: traffic.topics,
            skew: traffic.skew,
            workers: self.workers,
            engine: self.engine.0,
            handoff: self.handoff,
            wait: self.wait,
            batch_messages: self.batch_messages,
            publishers,
            connections: traffic.connections,
            lanes: traffic.lanes,
        }
    }

    /// Returns what to measure with, flat out where `publishers` are several, which may have to share cores.
    fn bench(&self, shape: Shape, publishers: usize, signals: &Signals) -> Result<Bench, Failure> {
        let given = |list: &Option<CoreList>| list.as_ref().map(|list| list.0.clone());
        let (generator, subject) = (given(&self.generator_cores), given(&self.subject_cores));
        let cores = Cores::choose(publishers, generator.as_deref(), subject.as_deref())?;
        let failed = |error| Failure::running("finding this program", &error);
        let list = |cores: &[usize]| {
            let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
            cores.join(",")
        };
        say(format_args!(
            "{} on core {}, subject on core {}",
            match publishers {
                1 => "generator".to_owned(),
                several => format!("{several} publishers"),
            },
            list(&cores.generator),
            list(&cores.subject)
        ));
        if publishers > cores.generator.len() && publishers > 1 {
            say(format_args!(
                "warning: publishers are more than their cores and slow each other down; give each its own with \
                 --generator-cores"
            ));
        }
        if cores.are_shared() {
            say(format_args!(
                "warning: the generator keeps its core busy, which is one of the subject's: figures are of \
                 both; give each its own with --generator-cores and --subject-cores"
            ));
        }
        Ok(Bench {
            program: std::env::current_exe().map_err(failed)?,
            shape,
            cores,
            hiccups: false,
            stop: signals.stop().clone(),
        })
    }
}
