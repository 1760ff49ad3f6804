//! `pinfeed bench capacity`: the highest rate that holds an objective.

use std::time::Duration;

use serde::Serialize;

use crate::{
    bench::{Found, LatencyPlan, Objective, Search, SearchEnd, csv},
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
    error::Error,
    report::rate,
};

/// The highest rate that holds an objective: doubled until one does not, then between the two to 5 %, each
/// step a run as with `bench latency`. Where the generator gives out first, that is said to be its limit.
/// Exit code 1 where not even the first rate holds.
#[derive(Debug, clap::Args)]
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
        allow_negative_numbers = true
    )]
    from: f64,

    /// How long each step is measured for
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    length: Duration,

    /// How long messages flow before that
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    warm_up: Duration,

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
        length: args.length,
        warm_up: args.warm_up,
        runs: 1,
    };
    plan.check().map_err(name_from)?;
    let measured = (plan.rate * plan.length.as_secs_f64()) as u64;
    if let Some(percentile) = args.objective.unsupported(measured) {
        return Err(Error::config(
            "--objective",
            &args.objective,
            format!("{measured} messages at the first rate are too few to tell {percentile}"),
            "give a higher --from or a longer --for",
        )
        .into());
    }
    let signals = Signals::listen(false)?;
    let bench = args.common.bench(&signals)?;
    let results = Results::open(args.common.output.as_deref(), args.common.json)?;
    let mut progress = Lines::new();
    let mut search = Search::new(plan.rate);
    let end = loop {
        let next = match search.next_rate() {
            Ok(next) => next,
            Err(end) => break end,
        };
        let step = format!("step-{}-rate{next}", search.steps().len() + 1);
        let plan = LatencyPlan { rate: next, ..plan };
        let run = bench.latency(&plan, &step, &results.folder, &mut progress);
        clear_line();
        if let Some(signal) = signals.caught() {
            return Ok(Ending::Signal(signal));
        }
        let noted = search.note(run?, &args.objective);
        say(format_args!("{} msg/s: {}", rate(next), noted.verdict()));
    };
    say(format_args!("{search}"));
    say(format_args!(
        "{}",
        conclusion(&search, end, &args.objective)
    ));
    let name = format!(
        "capacity-size{}-topics{}-workers{}",
        bench.shape.payload_bytes, bench.shape.topics, bench.shape.workers
    );
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
    results.finish(&name, &bench, &parameters, &found, &csv(&runs))?;
    Ok(if search.highest().is_some() {
        Ending::Ok
    } else {
        Ending::Failed
    })
}

/// Names the flag that the rate was given by.
fn name_from(error: Error) -> Error {
    match error {
        Error::Config {
            key,
            value,
            problem,
            remedy,
        } if key == "--rate" => Error::Config {
            key: "--from".to_owned(),
            value,
            problem,
            remedy,
        },
        other => other,
    }
}

fn conclusion(search: &Search, end: SearchEnd, objective: &Objective) -> String {
    let Some(highest) = search.highest() else {
        return match end {
            SearchEnd::GeneratorLimit => {
                "nothing is known: the generator gave out or was itself too late at the first rate; try again, or give a lower --from".to_owned()
            }
            _ => format!("no rate holds {objective}, not even the first: give a lower --from"),
        };
    };
    let highest = format!("{} msg/s", rate(highest));
    match end {
        SearchEnd::Found | SearchEnd::NothingHeld => format!("{highest} hold {objective}, to 5 %"),
        SearchEnd::GeneratorLimit => format!(
            "{highest} hold {objective}; beyond that the generator gave out or was itself too late, which is its limit, not the subject's"
        ),
        SearchEnd::RateMax => format!("{highest} hold {objective}, the highest rate there is"),
    }
}
