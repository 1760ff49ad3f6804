//! `pinfeed bench sweep`: how cost grows.

use std::time::Duration;

use serde::Serialize;

use crate::{
    bench::{
        AtRate, Bench, Contender, FlatOut, HasVerdict, LatencyPlan, LatencyRun, Point, Property,
        ResultFolder, Shape, ThroughputPlan, ThroughputRun, Validity, Vary, at_rate_csv,
        at_rate_figures, at_rate_table, flat_out_csv, flat_out_figures, flat_out_table,
    },
    cli::{
        Ending, Failure,
        bench::{
            Common, Lengths, Load, Traffic, parse_rate,
            progress::{Lines, RUN_GUESS, Rounds},
            results::Findings,
            session::{Pace, Session},
        },
        say,
        tui::Done,
    },
    error,
    report::rate,
};

/// How cost grows with the size of messages, frames, topics, publishers, connections, lanes, workers or batches
///
/// Each round goes through all its values, so that the mood of the machine hits all alike. Flat out, or with
/// --rate how long messages wait; a first round flat out warms up and does not count. Exit code 1 where a value
/// has no valid run.
#[derive(Debug, clap::Args)]
#[command(mut_arg("length", |arg| arg.requires("rate")), mut_arg("warm_up", |arg| arg.requires("rate")))]
#[command(mut_arg("hiccups", |arg| arg.requires("rate")))]
pub(in crate::cli) struct Args {
    /// What to vary, and its values: size=64,256,1024, or frames, topics, publishers, connections, lanes (of as many
    /// --connections or --publishers at least), workers, batch
    #[arg(long, value_name = "NAME=LIST")]
    vary: Vary,

    /// How many rounds count
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,

    /// Flat out: messages a run [default: 20000000, or what makes 4 GiB; with libzmq a tenth]
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    messages: Option<u64>,

    /// Messages a second, in place of flat out
    #[arg(long, value_name = "N", value_parser = parse_rate, allow_negative_numbers = true)]
    rate: Option<f64>,

    #[command(flatten)]
    lengths: Lengths,

    #[command(flatten)]
    traffic: Traffic,

    #[command(flatten)]
    load: Load,

    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Parameters<'a, P> {
    vary: String,
    values: &'a [usize],
    #[serde(flatten)]
    plan: &'a P,
}

#[derive(Serialize)]
struct FlatOutResults<'a> {
    figures: Vec<FlatOut>,
    points: &'a [Point<ThroughputRun>],
}

#[derive(Serialize)]
struct AtRateResults<'a> {
    figures: Vec<AtRate>,
    points: &'a [Point<LatencyRun>],
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let plan = args.rate.map(|rate| LatencyPlan {
        rate,
        length: args.lengths.length,
        warm_up: args.lengths.warm_up,
        runs: args.runs,
    });
    if let Some(plan) = plan {
        plan.check()?;
    }
    let shown = match &plan {
        Some(plan) => (
            format!(
                "sweep of {} at {} msg/s",
                args.vary.property,
                rate(plan.rate)
            ),
            Done::AtRate(Vec::new()),
        ),
        None => (
            format!("sweep of {}", args.vary.property),
            Done::FlatOut(Vec::new()),
        ),
    };
    // All values on the same cores.
    let varied = args.vary.values.iter().copied().max();
    let publishers = match (args.vary.property, varied) {
        (Property::Publishers, Some(most)) => most,
        _ => args.load.publishers,
    };
    let speed = match plan {
        Some(_) => Pace::AtRate(&args.lengths),
        None => Pace::FlatOut(publishers),
    };
    let base = args.common.shape(&args.traffic, args.load.publishers);
    let shapes = args.vary.shapes(&base)?;
    if plan.is_some() {
        shapes.iter().try_for_each(Shape::check_at_rate)?;
    }
    let session = Session::open_with(&args.common, base, speed, shown)?;
    let benches = shapes.into_iter().map(|shape| Bench {
        shape,
        ..session.bench.clone()
    });
    let benches: Vec<Bench> = benches.collect();
    match plan {
        Some(plan) => at_rate(args, session, &benches, &plan),
        None => flat_out(args, session, &benches),
    }
}

/// Goes through all values round by round, and returns the runs of those that count.
fn rounds<R: HasVerdict>(
    args: &Args,
    session: &mut Session,
    benches: &[Bench],
    messages: impl Fn(&Bench) -> u64,
    (warm_up, guess): (bool, Duration),
    show: fn(&Lines, &str, &R),
    mut run: impl FnMut(&Bench, &str, &ResultFolder, &mut Lines) -> error::Result<R>,
) -> Result<Result<Vec<Point<R>>, Ending>, Failure> {
    let points = args.vary.values.iter().zip(benches);
    let points = points.map(|(&value, bench)| Point::new(value, messages(bench)));
    let mut points: Vec<Point<R>> = points.collect();
    let mut rounds = Rounds::new(points.len(), guess);
    for round in usize::from(!warm_up)..=args.runs {
        for (place, (point, bench)) in points.iter_mut().zip(benches).enumerate() {
            rounds.begin(place, args.runs - round, &mut session.progress);
            let at = format!("{}{}", args.vary.property, point.value);
            let step = match round {
                0 => format!("warm-up-{at}"),
                _ => format!("run-{round}-{at}"),
            };
            let done = session.step(|_, folder, progress| run(bench, &step, folder, progress))?;
            let done = match done {
                Ok(done) => done,
                Err(ending) => return Ok(Err(ending)),
            };
            if !done.verdict().is_ok() {
                say(format_args!("{step}: {}", done.verdict()));
            }
            rounds.end(place);
            if round > 0 {
                let name = format!("{}={}", args.vary.property, point.value);
                show(&session.progress, &name, &done);
                point.runs.push(done);
            }
        }
    }
    Ok(Ok(points))
}

fn flat_out(args: &Args, mut session: Session, benches: &[Bench]) -> Result<Ending, Failure> {
    // About a second of each: of large messages that is fewer.
    let messages = benches.iter().map(Bench::messages_of_subject).max();
    let plan = ThroughputPlan {
        messages: args.messages.or(messages).unwrap_or_default(),
        runs: args.runs,
    };
    plan.check()?;
    let messages = |bench: &Bench| args.messages.unwrap_or_else(|| bench.messages_of_subject());
    let points = rounds(
        args,
        &mut session,
        benches,
        messages,
        (true, RUN_GUESS),
        Lines::show_flat_out,
        |bench, step, _, progress| {
            let subject = Contender::Pinfeed(bench.shape.engine);
            bench.throughput(subject, messages(bench), step, progress)
        },
    )?;
    let points = match points {
        Ok(points) => points,
        Err(ending) => return Ok(ending),
    };
    let property = args.vary.property;
    say(format_args!("{}", flat_out_table(property, &points)));
    let results = FlatOutResults {
        figures: flat_out_figures(&points),
        points: &points,
    };
    let csv = flat_out_csv(property, &points);
    conclude(args, session, (&plan, "flat-out"), (&points, &results), csv)
}

fn at_rate(
    args: &Args,
    mut session: Session,
    benches: &[Bench],
    plan: &LatencyPlan,
) -> Result<Ending, Failure> {
    let points = rounds(
        args,
        &mut session,
        benches,
        |_| plan.due(),
        (false, plan.run_takes()),
        Lines::show_run,
        |bench, step, folder, progress| {
            let run = bench.latency(plan, step, folder, progress)?;
            for warning in &run.warnings {
                say(format_args!("{step}: warning: {warning}"));
            }
            Ok(run)
        },
    )?;
    let points = match points {
        Ok(points) => points,
        Err(ending) => return Ok(ending),
    };
    let property = args.vary.property;
    say(format_args!("{}", at_rate_table(property, &points)));
    let results = AtRateResults {
        figures: at_rate_figures(&points),
        points: &points,
    };
    let csv = at_rate_csv(property, &points);
    let speed = format!("rate{}", plan.rate);
    conclude(args, session, (plan, &speed), (&points, &results), csv)
}

fn conclude<P: Serialize, R: HasVerdict>(
    args: &Args,
    session: Session,
    (plan, speed): (&P, &str),
    (points, results): (&[Point<R>], &impl Serialize),
    csv: String,
) -> Result<Ending, Failure> {
    let shape = session.bench.shape.clone();
    let vary = &args.vary;
    let values: Vec<String> = vary.values.iter().map(usize::to_string).collect();
    // Without one of them there is nothing to compare.
    let unknown = points.iter().find(|point| point.validity().valid == 0);
    let all = points.iter().flat_map(|point| &point.runs);
    let verdict = match unknown {
        Some(point) => format!("{}={}: {}", vary.property, point.value, point.validity()),
        None => Validity::of(all.map(HasVerdict::verdict)).to_string(),
    };
    session.finish(Findings {
        name: format!(
            "sweep-{}{}-{speed}{}",
            vary.property,
            values.join("-"),
            shape.unusual()
        ),
        plan: &Parameters {
            vary: vary.property.to_string(),
            values: &vary.values,
            plan,
        },
        shape,
        verdict,
        results,
        csv,
    })?;
    Ok(if unknown.is_none() {
        Ending::Ok
    } else {
        Ending::Failed
    })
}
