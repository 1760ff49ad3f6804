//! `pinfeed bench capacity`: the highest rate that holds an objective.

use serde::Serialize;

use crate::{
    bench::{Found, LatencyPlan, NEAR_ENOUGH, Objective, REPEATS_MAX, Search, SearchEnd, csv},
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
    error::Error,
    report::rate,
};

/// The highest rate that holds an objective, with the curve up to where it breaks
///
/// The rate is doubled until one does not hold it, then taken between the two to 5 %, each step a run as with
/// `bench latency`. One that breaks it is repeated, and two of three runs decide; so is one in which the
/// generator was late, and where it is late three times, that is said to be its limit. Exit code 1 where not
/// even the first rate holds.
#[derive(Debug, clap::Args)]
#[command(mut_arg("length", |arg| arg.default_value("5s")), mut_arg("warm_up", |arg| arg.default_value("1s")))]
pub(in crate::cli) struct Args {
    /// What to hold: pNN[.N]<TIME or max<TIME for the feed's latency, queue. or handler. in front for theirs,
    /// loss=N; with commas between
    #[arg(long, value_name = "LIMITS", default_value = "p99.9<1ms,loss=0")]
    objective: Objective,

    /// The first rate, in messages a second
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000.0,
        value_parser = parse_rate,
        allow_negative_numbers = true
    )]
    from: f64,

    #[command(flatten)]
    lengths: Lengths,

    #[command(flatten)]
    traffic: Traffic,

    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Parameters<'a> {
    #[serde(flatten)]
    plan: &'a LatencyPlan,
    objective: String,
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let plan = LatencyPlan {
        rate: args.from,
        length: args.lengths.length,
        warm_up: args.lengths.warm_up,
        runs: 1,
    };
    plan.check()
        .map_err(|error| error.by_flag("--rate", "--from"))?;
    let measured = (plan.rate * plan.length.as_secs_f64()) as u64;
    if let Err((percentile, needed)) = args.objective.check_messages(measured) {
        let length_s = (needed as f64 / plan.rate).ceil();
        return Err(Error::config(
            "--for",
            humantime::format_duration(plan.length),
            format!(
                "{measured} messages at the first rate are too few to tell {percentile}, which takes {needed}"
            ),
            format!("give {length_s}s or more, or a higher --from"),
        )
        .into());
    }
    let shown = (
        format!("capacity for {}", args.objective),
        Done::AtRate(Vec::new()),
    );
    let mut session = Session::open(
        &args.common,
        &args.traffic,
        Pace::AtRate(&args.lengths),
        shown,
    )?;
    session.progress.is_least = true;
    let mut search = Search::new(plan.rate);
    let end = loop {
        let next = match search.next_rate() {
            Ok(next) => next,
            Err(end) => break end,
        };
        let steps_after = search.steps_left_min().saturating_sub(1);
        session.progress.after = plan.run_takes() * steps_after;
        let name = format!("step-{}-rate{next}", search.steps().len() + 1);
        let plan = LatencyPlan { rate: next, ..plan };
        let run = session
            .step(|bench, folder, progress| bench.latency(&plan, &name, folder, progress))?;
        let run = match run {
            Ok(run) => run,
            Err(ending) => return Ok(ending),
        };
        let noted = search.note(run, &args.objective);
        say(format_args!("{} msg/s: {}", rate(next), noted.verdict()));
        let name = format!("{} msg/s", rate(next));
        session.progress.show_step(name, noted.tells(), &noted.run);
    };
    say(format_args!("{search}"));
    let conclusion = conclusion(&search, end, &args.objective);
    say(format_args!("{conclusion}"));
    let found = Found {
        highest_msgs_per_s: search.highest(),
        end,
        steps: search.steps().to_vec(),
    };
    let parameters = Parameters {
        plan: &plan,
        objective: args.objective.to_string(),
    };
    let runs: Vec<_> = search.steps().iter().map(|step| step.run.clone()).collect();
    let shape = session.bench.shape.clone();
    session.finish(Findings {
        name: format!(
            "capacity-size{}-topics{}-workers{}{}",
            shape.payload_bytes,
            shape.topics,
            shape.workers,
            shape.unusual()
        ),
        plan: &parameters,
        shape,
        verdict: conclusion,
        results: &found,
        csv: csv(&runs),
    })?;
    Ok(if search.highest().is_some() {
        Ending::Ok
    } else {
        Ending::Failed
    })
}

fn conclusion(search: &Search, end: SearchEnd, objective: &Objective) -> String {
    let tries = REPEATS_MAX + 1;
    let Some(highest) = search.highest() else {
        return match end {
            SearchEnd::GeneratorLimit => format!(
                "INVALID: nothing is known: in {tries} runs at the first rate the generator gave out or was itself \
                 too late; try again, or give a lower --from"
            ),
            SearchEnd::Inconclusive => format!(
                "INVALID: nothing is known: {tries} runs at the first rate say nothing, and the steps say why"
            ),
            _ => format!("no rate holds {objective}, not even the first: give a lower --from"),
        };
    };
    let held = format!("{} msg/s hold {objective}", rate(highest));
    let near = 100.0 * (NEAR_ENOUGH - 1.0);
    match end {
        SearchEnd::Found | SearchEnd::NothingHeld => {
            format!("{held}, to {near:.0} %: beyond that the subject breaks it")
        }
        SearchEnd::GeneratorLimit => format!(
            "{held}; beyond that the generator gave out or was itself too late, {tries} times, which is its limit, \
             not the subject's"
        ),
        SearchEnd::Inconclusive => {
            format!("{held}; beyond that {tries} runs say nothing, and the steps say why")
        }
        SearchEnd::RateMax => format!("{held}, the highest rate there is"),
    }
}
