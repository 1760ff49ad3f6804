//! The subject: `pinfeed run --json`, on its cores, and what it says at its end.

use std::{path::Path, time::Duration};

use serde::Deserialize;

use crate::{
    bench::{Bench, process::Process},
    error::Result,
    flight::Anomaly,
    host::pin::Placement,
};

/// What is read of its summary.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    pub elapsed_s: f64,
    pub received: u64,
    pub lost: Option<u64>,
    pub balanced: bool,
    pub msgs_per_s: f64,
    pub cpu_ns_per_msg: f64,
    pub threads: Vec<Placement>,
    pub anomalies: Vec<Anomaly>,
}

impl Summary {
    /// Returns what is wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        (!self.balanced).then(|| "the subject's ledger does not balance".to_owned())
    }
}

/// How much it is to receive, and what it is to leave behind.
pub(super) struct Order<'a> {
    pub endpoints: &'a [String],
    pub messages: u64,
    /// What to leave out of its log.
    pub warm_up: Duration,
    /// When to end, should the benchmark be gone by then.
    pub limit: Duration,
    /// Where to log how long messages waited.
    pub log: Option<&'a Path>,
    /// Where to write what its threads and queues do.
    pub series: Option<&'a Path>,
}

/// Starts it. It ends by itself when it has all messages.
pub(super) fn start(bench: &Bench, order: &Order<'_>) -> Result<Process> {
    let shape = &bench.shape;
    let mut arguments: Vec<String> = [
        "run",
        "--json",
        "--envelope",
        "pinfeed",
        "--handler",
        "null",
        "--until-stdin-ends",
    ]
    .map(str::to_owned)
    .to_vec();
    let time = |length: Duration| humantime::format_duration(length).to_string();
    for endpoint in order.endpoints {
        arguments.extend(["--connect".to_owned(), endpoint.clone()]);
    }
    for (flag, value) in [
        ("--engine", shape.engine.name().to_owned()),
        ("--workers", shape.workers.to_string()),
        ("--handoff", shape.handoff.to_string()),
        ("--wait", shape.wait.to_string()),
        ("--batch-messages", shape.batch_messages.to_string()),
        ("--lanes", shape.lanes.to_string()),
        ("--messages", order.messages.to_string()),
        ("--for", time(order.limit)),
    ] {
        arguments.extend([flag.to_owned(), value]);
    }
    if !order.warm_up.is_zero() {
        arguments.extend(["--warm-up".to_owned(), time(order.warm_up)]);
    }
    if let Some(log) = order.log {
        // Of one file all is read.
        let size = u64::MAX.to_string();
        let log = log.display().to_string();
        arguments.extend(["--hlog".to_owned(), log, "--hlog-max-size".to_owned(), size]);
    }
    if let Some(series) = order.series {
        arguments.extend(["--series".to_owned(), series.display().to_string()]);
    }
    Process::start(
        "the subject",
        &bench.program,
        &arguments,
        &bench.cores.subject,
    )
}
