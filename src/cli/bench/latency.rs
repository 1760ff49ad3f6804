//! `pinfeed bench latency`: runs at a fixed rate.

use std::time::Duration;

use crate::{
    bench::{LatencyPlan, LatencyRun, csv, spread},
    cli::{
        Ending, Failure,
        bench::{
            Common,
            progress::Lines,
            results::{Results, clear_line},
        },
        say,
        signals::Signals,
    },
};

/// How long messages wait at a fixed rate, open loop: messages are stamped with the time they were due, so
/// what the subject delays is seen whoever waited for it. Percentiles with fewer than 10 samples beyond
/// them are shown as -. Exit code 1 where the rate was missed.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Messages a second
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000.0,
        allow_negative_numbers = true
    )]
    rate: f64,

    /// How long each run is measured for
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    length: Duration,

    /// How long messages flow before that
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    warm_up: Duration,

    /// How many runs
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,

    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let plan = LatencyPlan {
        rate: args.rate,
        length: args.length,
        warm_up: args.warm_up,
        runs: args.runs,
    };
    plan.check()?;
    let signals = Signals::listen(false)?;
    let bench = args.common.bench(&signals)?;
    let results = Results::open(args.common.output.as_deref(), args.common.json)?;
    let mut progress = Lines::new();
    let mut runs: Vec<LatencyRun> = Vec::new();
    for number in 1..=plan.runs {
        progress.after = plan.run_takes() * (plan.runs - number) as u32;
        let step = format!("run-{number}");
        let measured = bench.latency(&plan, &step, &results.folder, &mut progress);
        clear_line();
        if let Some(signal) = signals.caught() {
            return Ok(Ending::Signal(signal));
        }
        let measured = measured?;
        say(format_args!("{measured}"));
        runs.push(measured);
    }
    if runs.len() > 1 {
        say(format_args!("{}", spread(&runs)));
    }
    let name = format!(
        "latency-rate{}-size{}-topics{}-workers{}",
        plan.rate, bench.shape.payload_bytes, bench.shape.topics, bench.shape.workers
    );
    let is_ok = runs.iter().all(|run| run.verdict.is_ok());
    results.finish(&name, &bench, &plan, &runs, &csv(&runs))?;
    Ok(if is_ok { Ending::Ok } else { Ending::Failed })
}
