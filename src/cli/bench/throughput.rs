//! `pinfeed bench throughput`: flat out, against baselines; and the baselines' processes.

use std::process;

use crate::{
    bench::{
        Figures, Throughput, ThroughputPlan, Validity, baseline::Baseline, ratios, throughput_csv,
        throughput_table,
    },
    cli::{
        EXIT_FAILURE, Ending, Failure,
        bench::{
            Common, Load, Traffic,
            progress::{RUN_GUESS, Rounds},
            results::Findings,
            session::{Pace, Session},
        },
        print_json, say,
        signals::when_stdin_ends,
        tui::Done,
    },
};

/// How many messages a second, flat out, beside baselines in the same run
///
/// Baselines take the same messages in from the same publishers on the same cores, in turn: compare ratios, not
/// machines. The first round warms up and does not count.
///
/// What is sent is the same for all: --size, --frames, --topics, --skew, --publishers and --connections. Plain
/// recv reads all connections in one thread and counts bytes, whatever the frames. The bare libzmq SUB loop
/// connects one socket to all and takes each message in frame by frame; so does one inproc PUSH a message,
/// which hands each frame on to one of two workers. --lanes, --workers, --engine, --handoff, --wait and
/// --batch-messages are of pinfeed alone: a baseline has one thread that receives, with libzmq an I/O thread
/// besides.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// How many rounds count
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,

    /// Messages a run; receivers with libzmq get a tenth [default: 20000000, or what makes 4 GiB]
    #[arg(long, value_name = "N")]
    messages: Option<u64>,

    #[command(flatten)]
    traffic: Traffic,

    #[command(flatten)]
    load: Load,

    #[command(flatten)]
    common: Common,
}

/// Take messages in by a baseline, and write what it cost as JSON.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct BaselineArgs {
    /// plain, bare or one-by-one
    name: Baseline,

    /// A publisher's endpoint (repeatable)
    #[arg(long)]
    connect: Vec<String>,

    /// How many messages will come
    #[arg(long)]
    messages: u64,

    /// Bytes that each takes on the wire
    #[arg(long)]
    wire_bytes: u64,

    /// Frames of each
    #[arg(long)]
    frames: usize,
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let shown = ("throughput".to_owned(), Done::FlatOut(Vec::new()));
    let mut session = Session::open(
        &args.common,
        &args.traffic,
        Pace::FlatOut(args.load.publishers),
        shown,
    )?;
    let plan = ThroughputPlan {
        messages: args.messages.unwrap_or_else(|| session.bench.messages()),
        runs: args.runs,
    };
    plan.check()?;
    let mut contenders = session.bench.contenders(&plan);
    let mut rounds = Rounds::new(contenders.len(), RUN_GUESS);
    for round in 0..=plan.runs {
        for (place, contender) in contenders.iter_mut().enumerate() {
            rounds.begin(place, plan.runs - round, &mut session.progress);
            let step = match round {
                0 => format!("warm-up, {}", contender.name),
                _ => format!("run {round} of {}, {}", plan.runs, contender.name),
            };
            let run = session.step(|bench, _, progress| {
                bench.throughput(contender.name, contender.messages, &step, progress)
            })?;
            let run = match run {
                Ok(run) => run,
                Err(ending) => return Ok(ending),
            };
            if !run.verdict.is_ok() {
                say(format_args!("{step}: {}", run.verdict));
            }
            rounds.end(place);
            if round > 0 {
                let name = contender.name.to_string();
                session.progress.show_flat_out(&name, &run);
                contender.runs.push(run);
            }
        }
    }
    say(format_args!("{}", throughput_table(&contenders)));
    let all = contenders.iter().flat_map(|one| &one.runs);
    let all = Validity::of(all.map(|run| &run.verdict));
    // Without one of them there is nothing to compare.
    let unknown = contenders.iter().find(|one| one.validity().valid == 0);
    let is_known = unknown.is_none();
    let verdict = unknown.map_or(all, Throughput::validity).to_string();
    let csv = throughput_csv(&contenders);
    let shape = session.bench.shape.clone();
    session.finish(Findings {
        name: format!(
            "throughput-messages{}-size{}-topics{}-workers{}{}",
            plan.messages,
            shape.payload_bytes,
            shape.topics,
            shape.workers,
            shape.unusual()
        ),
        plan: &plan,
        shape,
        verdict,
        results: &Figures {
            ratios: ratios(&contenders),
            contenders,
        },
        csv,
    })?;
    Ok(if is_known { Ending::Ok } else { Ending::Failed })
}

pub(super) fn run_baseline(args: &BaselineArgs) -> Result<Ending, Failure> {
    // What it waits for may never come.
    when_stdin_ends(|| process::exit(EXIT_FAILURE.into()));
    let form = (args.frames, args.wire_bytes);
    print_json(&args.name.run(&args.connect, args.messages, form)?)?;
    Ok(Ending::Ok)
}
