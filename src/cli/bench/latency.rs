//! `pinfeed bench latency`: runs at a fixed rate.

use crate::{
    bench::{LatencyPlan, LatencyRun, Validity, csv, spread},
    cli::{
        Ending, Failure,
        bench::{
            Common, Lengths, Traffic, parse_rate,
            results::Findings,
            session::{Pace, Session},
        },
        say,
        tui::Done,
    },
    report::rate,
};

/// How long messages wait at a fixed rate, open loop: exit code 1 where the rate was missed
///
/// Messages are stamped with the time they were due, so what the subject delays is seen whoever waited for it.
/// Percentiles with fewer than 10 samples beyond them are shown as -. Exit code 1 where the rate was missed.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Messages a second
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000.0,
        value_parser = parse_rate,
        allow_negative_numbers = true
    )]
    rate: f64,

    #[command(flatten)]
    lengths: Lengths,

    /// How many runs; to compare two results it takes 4 that are valid in each
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,

    #[command(flatten)]
    traffic: Traffic,

    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let plan = LatencyPlan {
        rate: args.rate,
        length: args.lengths.length,
        warm_up: args.lengths.warm_up,
        runs: args.runs,
    };
    plan.check()?;
    let title = format!("latency at {} msg/s", rate(plan.rate));
    let shown = (title, Done::AtRate(Vec::new()));
    let mut session = Session::open(
        &args.common,
        &args.traffic,
        Pace::AtRate(&args.lengths),
        shown,
    )?;
    let mut runs: Vec<LatencyRun> = Vec::new();
    for number in 1..=plan.runs {
        session.progress.after = plan.run_takes() * (plan.runs - number) as u32;
        let name = format!("run-{number}");
        let measured = session
            .step(|bench, folder, progress| bench.latency(&plan, &name, folder, progress))?;
        let measured = match measured {
            Ok(measured) => measured,
            Err(ending) => return Ok(ending),
        };
        say(format_args!("{measured}"));
        session.progress.show_run(&name, &measured);
        runs.push(measured);
    }
    if runs.len() > 1 {
        say(format_args!("{}", spread(&runs)));
    }
    let shape = session.bench.shape.clone();
    let validity = Validity::of(runs.iter().map(|run| &run.verdict));
    session.finish(Findings {
        name: format!(
            "latency-rate{}-size{}-topics{}-workers{}{}",
            plan.rate,
            shape.payload_bytes,
            shape.topics,
            shape.workers,
            shape.unusual()
        ),
        plan: &plan,
        shape,
        verdict: validity.to_string(),
        results: &runs,
        csv: csv(&runs),
    })?;
    let is_ok = validity.valid == validity.runs;
    Ok(if is_ok { Ending::Ok } else { Ending::Failed })
}
