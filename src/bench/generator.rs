//! The generator: `pinfeed publish --blast`, on its core.

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
    /// When to give up, from the first message on.
    pub limit: Option<Duration>,
    /// Where to log how late it was.
    pub log: Option<PathBuf>,
}

/// Starts it, and returns it with its endpoint. It waits for one subscription.
pub(super) fn start(bench: &Bench, pace: &Pace) -> Result<(Process, String)> {
    let shape = &bench.shape;
    let rate = pace.rate.map_or("max".to_owned(), |rate| rate.to_string());
    let mut arguments: Vec<String> = [
        "publish",
        "--blast",
        "--until-stdin-ends",
        "--json",
        "--bind",
        "tcp://127.0.0.1:*",
    ]
    .map(str::to_owned)
    .to_vec();
    for (flag, value) in [
        ("--topics", shape.topics.to_string()),
        ("--skew", shape.skew.to_string()),
        ("--size", shape.payload_bytes.to_string()),
        ("--rate", rate),
        ("--messages", pace.messages.to_string()),
    ] {
        arguments.extend([flag.to_owned(), value]);
    }
    if let Some(limit) = pace.limit {
        let limit = humantime::format_duration(limit).to_string();
        arguments.extend(["--for".to_owned(), limit]);
    }
    if let Some(log) = &pace.log {
        arguments.extend(["--hlog".to_owned(), log.display().to_string()]);
    }
    let cores = [bench.cores.generator];
    let mut process = Process::start("the generator", &bench.program, &arguments, &cores)?;
    let endpoint = process.wait_for_line("publishing on ", START_LIMIT)?;
    Ok((process, endpoint))
}
