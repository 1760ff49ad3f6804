//! `pinfeed plan`: how many threads, on which cores, and at what rate they break.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

use crate::{
    bench::{Shape, measure_costs},
    cli::{Ending, Failure, config_file, countdown::Countdown, print_json, say},
    config::{Config, Engine, HandlerPanic, ShardingMode},
    error::{Error, Result},
    handoff::HandoffKind,
    host::{
        machine::Machine,
        plan::{Costs, Demand, Map, Plan, Traffic, plan},
    },
    publish::{
        Source,
        capture::{Capture, Speed},
    },
    report::{count, rate, time},
    shard::ShardTable,
    wait::Wait,
};

/// Plan for this rate where none is given.
const RATE: f64 = 1e6;
/// The window that a capture's highest rate is taken of.
const WINDOW_NS: u64 = 1_000_000_000;
/// Bytes of a payload to measure with, where none is given.
const PAYLOAD_BYTES: usize = 28;

/// Plan threads and cores for a rate or a capture, from this machine's shape and what messages cost here
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Plan for the lanes, cards, workers and sharding of this configuration
    #[arg(value_name = "FEEDS.toml")]
    file: Option<PathBuf>,

    /// A network card to receive by: a lane each (repeatable) [default: one lane on any card]
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    nic: Vec<String>,

    /// Messages a second, all lanes together [default: 1000000]
    #[arg(long, value_name = "N", conflicts_with = "capture", value_parser = parse_rate)]
    rate: Option<f64>,

    /// Plan for the busiest second of this capture, and its topics
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,

    /// With --capture: so many times as fast as captured
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, requires = "capture", value_parser = parse_rate)]
    speed: f64,

    /// The number of workers [default: the file's, else as many as it takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,

    /// Bytes of a payload to measure costs with [default: the capture's mean, or 28]
    #[arg(long, value_name = "BYTES", conflicts_with = "costs")]
    size: Option<usize>,

    /// What the handler takes for a message, in nanoseconds, beside counting it
    #[arg(long, value_name = "NS", default_value_t = 0.0)]
    handler_ns: f64,

    /// Publishers run on this machine as well
    #[arg(long, conflicts_with = "costs")]
    local_publisher: bool,

    /// How long to measure what a message costs
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    measure: Duration,

    /// Take these costs instead of measuring: nanoseconds a message of a lane and of a worker
    #[arg(long, value_name = "LANE,WORKER", value_parser = parse_costs, conflicts_with = "measure")]
    costs: Option<Costs>,

    /// Say of each thread why it is where it is
    #[arg(long)]
    why: bool,

    /// Write lanes, workers and handoff to this file, as a part of a feeds.toml. One that is there is not written over
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// Write one JSON object to standard output
    #[arg(long)]
    json: bool,

    /// Plan for a recorded machine: the folder that holds its sys and proc
    #[arg(long, value_name = "FOLDER", hide = true, requires = "costs")]
    root: Option<PathBuf>,
}

impl Args {
    fn set_workers(&self, config: &mut Config) {
        if let Some(workers) = self.workers {
            let workers = usize::from(workers);
            config.workers.count = workers;
            // The plan is to say where they go.
            config.workers.cores.truncate(workers);
        }
    }
}

fn parse_rate(text: &str) -> std::result::Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if rate.is_finite() && rate > 0.0 && rate <= 1e9 {
        Ok(rate)
    } else {
        Err("give more than 0 and at most 1e9".to_owned())
    }
}

fn parse_costs(text: &str) -> std::result::Result<Costs, String> {
    let cost = |text: &str| {
        text.trim()
            .parse()
            .ok()
            .filter(|ns: &f64| *ns > 0.0 && ns.is_finite())
    };
    let costs = text
        .split_once(',')
        .and_then(|(lane, worker)| Some((cost(lane)?, cost(worker)?)));
    let (lane_ns, worker_ns) = costs.ok_or("give two numbers above 0, as 40,25")?;
    Ok(Costs {
        lane_ns,
        worker_ns,
        elsewhere_ns: 0.0,
        busy_at_most: 1.0,
    })
}

/// What is written as JSON.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    feeds_toml: &'a str,
}

pub(super) fn run(args: &Args) -> std::result::Result<Ending, Failure> {
    // Before the measurement, which would be lost.
    if let Some(path) = args.write.as_deref()
        && path.symlink_metadata().is_ok()
    {
        return Err(unwritten(path, &ErrorKind::AlreadyExists.into()).into());
    }
    let machine = Machine::read(args.root.as_deref().unwrap_or(Path::new("/")));
    let config = args
        .file
        .as_deref()
        .map(|path| config_file::load(path, |config| args.set_workers(config)));
    let config = config.transpose()?;
    let demand = demand(args, &machine, config.as_ref())?;
    let plan = plan(&machine, demand);
    show(args, &machine, &plan);
    let toml = plan.to_toml();
    if let Some(path) = &args.write {
        let mut file = File::create_new(path).map_err(|reason| unwritten(path, &reason))?;
        file.write_all(toml.as_bytes()).map_err(Error::file(path))?;
        say(format_args!("written to {}", path.display()));
    }
    if args.json {
        print_json(&Report {
            plan: &plan,
            feeds_toml: &toml,
        })?;
    }
    Ok(Ending::Ok)
}

/// Says why nothing is written to a file.
fn unwritten(path: &Path, reason: &io::Error) -> Error {
    let (problem, remedy) = match reason.kind() {
        ErrorKind::AlreadyExists => (
            "it is there, and is not written over".to_owned(),
            "give a path that is free, or move it away",
        ),
        _ => (
            format!("it can't be written ({reason})"),
            "give a file in a folder that is there and may be written to",
        ),
    };
    Error::config("--write", path.display(), problem, remedy)
}

fn demand(args: &Args, machine: &Machine, config: Option<&Config>) -> Result<Demand> {
    let lanes: Vec<(String, Option<String>)> = match config {
        Some(config) => (config.lanes.iter())
            .map(|lane| (lane.name.clone(), lane.nic.clone()))
            .collect(),
        None if args.nic.is_empty() => vec![("0".to_owned(), None)],
        None => (args.nic.iter())
            .map(|nic| (nic.clone(), Some(nic.clone())))
            .collect(),
    };
    for (index, (_, nic)) in lanes.iter().enumerate() {
        if let Some(nic) = nic
            && machine.nic(nic).is_none()
        {
            let names: Vec<&str> = machine.nics.iter().map(|nic| &*nic.name).collect();
            return Err(Error::config(
                match config {
                    Some(_) => format!("lane[{index}].nic"),
                    None => "--nic".to_owned(),
                },
                nic,
                "there is no such network card",
                format!("give one of: {}", names.join(", ")),
            ));
        }
    }
    let mut shaped = config.cloned().unwrap_or_default();
    args.set_workers(&mut shaped);
    let table = shaped.shard_table()?;
    let (traffic, mean_bytes) = match &args.capture {
        Some(path) => read_capture(path, args.speed, &table)?,
        None => (Traffic::even(args.rate.unwrap_or(RATE)), PAYLOAD_BYTES),
    };
    let mut costs = match args.costs {
        Some(costs) => costs,
        None => measure(args, config, args.size.unwrap_or(mean_bytes))?,
    };
    costs.worker_ns += args.handler_ns;
    if !args.local_publisher {
        (costs.elsewhere_ns, costs.busy_at_most) = (0.0, 1.0);
    }
    Ok(Demand {
        lanes,
        workers: (args.workers.is_some() || config.is_some()).then_some(shaped.workers.count),
        traffic,
        costs,
        batch_messages: shaped.handoff.batch_messages,
        overrides: table.overrides().to_vec(),
        in_turn: shaped.sharding.mode == ShardingMode::Balanced,
        rebalance: shaped.sharding.rebalance,
        may_rebalance: shaped.workers.handler_panic == HandlerPanic::Stop,
    })
}

fn measure(args: &Args, config: Option<&Config>, payload_bytes: usize) -> Result<Costs> {
    let batch_messages = config.cloned().unwrap_or_default().handoff.batch_messages;
    let shape = Shape {
        batch_messages,
        frames: 1,
        publishers: 1,
        connections: 1,
        lanes: 1,
        payload_bytes: payload_bytes.max(PAYLOAD_BYTES),
        topics: 1_000,
        skew: 0.0,
        workers: 1,
        engine: config.map_or(Engine::Native, Config::engine),
        handoff: config.map_or(HandoffKind::Ring, |config| config.handoff.kind),
        wait: config.map_or(Wait::Park, |config| config.wait),
    };
    say(format_args!(
        "measuring for {} what a message of {} bytes costs here",
        humantime::format_duration(args.measure),
        shape.message_bytes()
    ));
    let program = std::env::current_exe().map_err(Error::file(Path::new("/proc/self/exe")))?;
    let mut countdown = Countdown::new("measuring", Some(args.measure));
    measure_costs(&program, &shape, args.measure, || countdown.look())
}

/// Reads a capture: its topics with their shares, its busiest second, and the mean of its payloads in bytes.
fn read_capture(path: &Path, speed: f64, table: &ShardTable) -> Result<(Traffic, usize)> {
    let mut capture = Capture::open(path, Speed::Times(1.0))?;
    let mut payload = Vec::new();
    let (mut topics, mut bytes, mut all) = (HashMap::<usize, u64>::new(), 0, 0_u64);
    let (mut window, mut in_window, mut most) = (0, 0_u64, 0);
    while let Some(item) = capture.next(&mut payload)? {
        *topics.entry(item.topic).or_default() += 1;
        bytes += payload.len();
        all += 1;
        payload.clear();
        let this = item.due_ns.unwrap_or_default() / WINDOW_NS;
        in_window = if this == window { in_window + 1 } else { 1 };
        window = this;
        most = most.max(in_window);
    }
    if all == 0 {
        return Err(Error::config(
            "--capture",
            path.display(),
            "it has no messages",
            "give a capture of at least a second",
        ));
    }
    let topics = topics
        .iter()
        .map(|(index, messages)| (capture.topic(*index), *messages));
    let traffic = Traffic::of_topics(most as f64 * speed, topics, table);
    Ok((traffic, bytes / all as usize))
}

fn show(args: &Args, machine: &Machine, plan: &Plan) {
    let (demand, costs) = (&plan.demand, &plan.demand.costs);
    say(format_args!(
        "for {} messages a second: a lane takes {:.1} ns of CPU a message, a worker {:.1}",
        count(demand.traffic.rate as u64),
        costs.lane_ns,
        costs.worker_ns
    ));
    if let Some((topic, share)) = &demand.traffic.busiest {
        say(format_args!(
            "busiest topic: {topic}, {:.1} % of all messages",
            100.0 * share
        ));
    }
    let why = args.why;
    say(format_args!("{}", Map { machine, plan, why }));
    let percent = |shares: &[f64]| {
        let shares: Vec<String> = shares
            .iter()
            .map(|share| format!("{:.0}", 100.0 * share))
            .collect();
        shares.join(", ")
    };
    let balance = &plan.balance;
    match balance.moves {
        _ if demand.in_turn => say(format_args!(
            "workers get {} % of all messages: batches go to each in turn (mode = \"balanced\")",
            percent(&balance.settled)
        )),
        0 => say(format_args!(
            "workers get {} % of all messages",
            percent(&balance.settled)
        )),
        moves => say(format_args!(
            "workers get {} % of all messages, after {moves} moves of shards (rebalance = true); {} % before",
            percent(&balance.settled),
            percent(&balance.at_first)
        )),
    }
    say(format_args!(
        "{} batches from each lane to each worker hold {} of this rate",
        plan.batches,
        time(plan.holds_s * 1e9)
    ));
    say(format_args!(
        "breaks at {}: {}",
        rate(plan.breaks_at),
        plan.breaks_by
    ));
    for concern in &plan.concerns {
        say(format_args!("warning: {concern}"));
    }
    if args.write.is_none() && !args.json {
        say(format_args!("\n{}", plan.to_toml().trim_end()));
    }
}
