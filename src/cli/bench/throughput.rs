//! `pinfeed bench throughput`: flat out, against baselines; and the baselines' processes.

use crate::{
    bench::{
        Figures, ThroughputPlan, baseline::Baseline, ratios, throughput_csv, throughput_table,
    },
    cli::{
        Ending, Failure,
        bench::{
            Common,
            progress::Lines,
            results::{Results, clear_line},
        },
        print_json, say,
        signals::Signals,
    },
    clock::Stopwatch,
};

/// How many messages a second this host takes in, flat out, beside baselines that take the same ones in
/// from the same generator on the same cores, in turn: compare ratios, not machines. The first round warms
/// up and does not count.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// How many rounds count
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,

    /// Messages a run; receivers with libzmq get a tenth [default: 20000000, or what makes 4 GiB]
    #[arg(long, value_name = "N")]
    messages: Option<u64>,

    #[command(flatten)]
    common: Common,
}

/// Take messages in by a baseline, and write what it cost as JSON.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct BaselineArgs {
    /// plain, bare or one-by-one
    name: Baseline,

    /// A publisher's endpoint
    #[arg(long)]
    connect: String,

    /// How many messages will come
    #[arg(long)]
    messages: u64,

    /// Bytes that each takes on the wire
    #[arg(long)]
    wire_bytes: u64,
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let signals = Signals::listen(false)?;
    let bench = args.common.bench(&signals)?;
    let plan = ThroughputPlan {
        messages: args.messages.unwrap_or_else(|| bench.messages()),
        runs: args.runs,
    };
    plan.check()?;
    let results = Results::open(args.common.output.as_deref(), args.common.json)?;
    let mut progress = Lines::new();
    let mut contenders = bench.contenders(&plan);
    for round in 0..=plan.runs {
        let watch = Stopwatch::start();
        for contender in &mut contenders {
            let step = match round {
                0 => format!("warm-up, {}", contender.name),
                _ => format!("run {round} of {}, {}", plan.runs, contender.name),
            };
            let run = bench.throughput(contender.name, contender.messages, &step, &mut progress);
            clear_line();
            if let Some(signal) = signals.caught() {
                return Ok(Ending::Signal(signal));
            }
            let run = run?;
            if round > 0 {
                contender.runs.push(run);
            }
        }
        let left = plan.runs - round;
        progress.after = std::time::Duration::from_nanos(watch.elapsed_ns()) * left as u32;
    }
    say(format_args!("{}", throughput_table(&contenders)));
    let name = format!(
        "throughput-messages{}-size{}-topics{}-workers{}",
        plan.messages, bench.shape.payload_bytes, bench.shape.topics, bench.shape.workers
    );
    let figures = Figures {
        ratios: ratios(&contenders),
        contenders,
    };
    let csv = throughput_csv(&figures.contenders);
    results.finish(&name, &bench, &plan, &figures, &csv)?;
    Ok(Ending::Ok)
}

pub(super) fn run_baseline(args: &BaselineArgs) -> Result<Ending, Failure> {
    let endpoints = [args.connect.clone()];
    print_json(&args.name.run(&endpoints, args.messages, args.wire_bytes)?)?;
    Ok(Ending::Ok)
}
