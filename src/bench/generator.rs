//! The generator: `pinfeed publish --blast`, on its core; flat out there may be several, which share the load.

use std::{path::PathBuf, time::Duration};

use crate::{
    bench::{Bench, process::Process},
    error::Result,
};

/// How long it may take to encode its messages and bind.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How fast to send, and how much.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Messages a second; `None` for as many as possible.
    pub rate: Option<f64>,
    pub messages: u64,
    /// The capture to send, and how many times as fast as it was captured.
    pub capture: Option<(PathBuf, f64)>,
    /// What to leave out of its lateness.
    pub warm_up: Duration,
    /// When to give up, from the first message on.
    pub limit: Option<Duration>,
    /// Where to log how late it was.
    pub log: Option<PathBuf>,
}

/// Starts all publishers, each with its share of the messages, and returns them with their endpoints.
pub(super) fn start_all(bench: &Bench, messages: u64) -> Result<(Vec<Process>, Vec<String>)> {
    let publishers = bench.shape.publishers as u64;
    let (mut all, mut endpoints) = (Vec::new(), Vec::new());
    for index in 0..publishers {
        let flat_out = Pace {
            rate: None,
            messages: messages / publishers + u64::from(index < messages % publishers),
            capture: None,
            warm_up: Duration::ZERO,
            limit: None,
            log: None,
        };
        let (process, its_endpoints) = start(bench, &flat_out, index as usize)?;
        all.push(process);
        endpoints.extend(its_endpoints);
    }
    Ok((all, endpoints))
}

/// Starts one of the publishers, and returns it with its endpoints. It waits for a subscription on each.
pub(super) fn start(bench: &Bench, pace: &Pace, index: usize) -> Result<(Process, Vec<String>)> {
    let shape = &bench.shape;
    let mut arguments: Vec<String> = ["publish", "--blast", "--until-stdin-ends", "--json"]
        .map(str::to_owned)
        .to_vec();
    let mut give = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
    for _ in 0..shape.connections {
        give("--bind", "tcp://127.0.0.1:*".to_owned());
    }
    give("--wait-for", shape.connections.to_string());
    give("--messages", pace.messages.to_string());
    if let Some((path, speed)) = &pace.capture {
        give("--capture", path.display().to_string());
        give("--speed", speed.to_string());
    } else {
        let rate = pace.rate.map_or("max".to_owned(), |rate| rate.to_string());
        give("--topics", shape.topics.to_string());
        give("--skew", shape.skew.to_string());
        give("--size", shape.payload_bytes.to_string());
        give("--rate", rate);
        give("--frames", shape.frames.to_string());
        give("--share", format!("{}/{}", index + 1, shape.publishers));
    }
    if shape.connections > 1 {
        arguments.push("--split".to_owned());
    }
    let time = |length: Duration| humantime::format_duration(length).to_string();
    if !pace.warm_up.is_zero() {
        arguments.extend(["--warm-up".to_owned(), time(pace.warm_up)]);
    }
    if let Some(limit) = pace.limit {
        arguments.extend(["--for".to_owned(), time(limit)]);
    }
    if let Some(log) = &pace.log {
        arguments.extend(["--hlog".to_owned(), log.display().to_string()]);
    }
    let cores = &bench.cores.generator;
    let cores = [cores[index % cores.len()]];
    let mut process = Process::start("the generator", &bench.program, &arguments, &cores)?;
    let endpoints = process.wait_for_line("publishing on ", START_LIMIT)?;
    let endpoints = endpoints.split(", ").map(str::to_owned).collect();
    Ok((process, endpoints))
}
