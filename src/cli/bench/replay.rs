//! `pinfeed bench replay`: a real capture, faster and faster.

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    bench::{
        Objective, REPEATS_MAX, ReplayEnd, ReplayPlan, ReplayStep, Replayed, SPEED_MAX, Tells, csv,
        highest_speed, replay_table, speeds,
    },
    cli::{
        Ending, Failure,
        bench::{Common, Lengths, Traffic, results::Findings, session::Session},
        say,
    },
    publish::{
        Recording,
        capture::{Capture, Speed},
    },
};

/// At how many times its speed a real capture breaks an objective, open loop: messages are due when they were
/// captured, bursts and all, and a capture that ends before a run does begins anew. The percentiles of a run have
/// at least ten samples beyond them. A speed at which the generator was late is repeated up to twice; where it is
/// late each time, that is said to be its limit. Exit code 1 where no speed holds.
#[derive(Debug, clap::Args)]
#[command(mut_arg("warm_up", |arg| arg.default_value("1s")))]
pub(in crate::cli) struct Args {
    /// The capture: lines of `<ns> <json>`, plain or gzip
    capture: PathBuf,

    /// How many times as fast as captured, all of these: 1,10,100 [default: 1, 2, 5, 10, ... until it breaks]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_speed)]
    speeds: Vec<f64>,

    /// What to hold: pNN[.N]<TIME or max<TIME for the feed's latency, queue. or handler. in front for theirs,
    /// loss=N; with commas between
    #[arg(long, value_name = "LIMITS", default_value = "p99<10ms,loss=0")]
    objective: Objective,

    #[command(flatten)]
    lengths: Lengths,

    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Parameters<'a> {
    #[serde(flatten)]
    plan: &'a ReplayPlan,
    objective: String,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.trim().parse() {
        Ok(speed) if speed > 0.0 && speed <= SPEED_MAX => Ok(speed),
        _ => Err(format!("give numbers above 0, up to {SPEED_MAX}")),
    }
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let plan = ReplayPlan {
        capture: args.capture.clone(),
        length: args.lengths.length,
        warm_up: args.lengths.warm_up,
    };
    let recording = Recording::read(&mut Capture::open(&plan.capture, Speed::Times(1.0))?)?;
    let slowest = args.speeds.iter().copied().reduce(f64::min);
    plan.check(&recording, slowest.unwrap_or(1.0), &args.objective)?;
    let mut session = Session::open(&args.common, &Traffic::default())?;
    let climbs = args.speeds.is_empty();
    let speeds: Vec<f64> = if climbs {
        speeds().collect()
    } else {
        args.speeds.clone()
    };
    let mut steps: Vec<ReplayStep> = Vec::new();
    let mut end = ReplayEnd::AllHeld;
    for speed in speeds {
        let mut tries = 0;
        let tells = loop {
            tries += 1;
            let name = format!("step-{}-speed{speed}", steps.len() + 1);
            let run = session.step(|bench, folder, progress| {
                bench.replay(&plan, (&recording, speed), &name, folder, progress)
            })?;
            let run = match run {
                Ok(run) => run,
                Err(ending) => return Ok(ending),
            };
            let step = ReplayStep::new(&recording, speed, run, &args.objective);
            say(format_args!("{speed}x: {}", step.step.verdict()));
            let tells = step.step.tells();
            steps.push(step);
            let is_told = matches!(tells, Tells::Holds | Tells::Breaks);
            if is_told || tries > REPEATS_MAX {
                break tells;
            }
        };
        // What came first, where all speeds were asked for.
        let ends = match tells {
            Tells::Holds => continue,
            Tells::Breaks => ReplayEnd::Broke,
            Tells::GeneratorLimit => ReplayEnd::GeneratorLimit,
            Tells::Nothing => ReplayEnd::Inconclusive,
        };
        if end == ReplayEnd::AllHeld {
            end = ends;
        }
        if climbs {
            break;
        }
    }
    say(format_args!("{}", replay_table(&steps)));
    let highest = highest_speed(&steps);
    let conclusion = conclusion(highest, end, &steps, &args.objective);
    say(format_args!("{conclusion}"));
    let name = plan.capture.file_stem().unwrap_or_default();
    let runs: Vec<_> = steps.iter().map(|one| one.step.run.clone()).collect();
    let shape = session.bench.shape.of_subject();
    session.finish(Findings {
        name: format!("replay-{}", name.display()),
        plan: &Parameters {
            plan: &plan,
            objective: args.objective.to_string(),
        },
        shape,
        verdict: conclusion,
        results: &Replayed {
            highest_speed: highest,
            end,
            steps,
        },
        csv: csv(&runs),
    })?;
    Ok(if highest.is_some() {
        Ending::Ok
    } else {
        Ending::Failed
    })
}

fn conclusion(
    highest: Option<f64>,
    end: ReplayEnd,
    steps: &[ReplayStep],
    objective: &Objective,
) -> String {
    let tries = REPEATS_MAX + 1;
    let held = match highest {
        Some(speed) => format!("{speed}x holds {objective}; beyond that"),
        None => format!("INVALID: no speed is known to hold {objective}:"),
    };
    match end {
        ReplayEnd::Broke => {
            let broke = steps.iter().filter(|one| one.step.tells() == Tells::Breaks);
            let lowest = broke.map(|one| one.speed).reduce(f64::min);
            let lowest = lowest.unwrap_or(f64::NAN);
            match highest {
                Some(speed) => format!("{speed}x holds {objective}, {lowest}x breaks it"),
                None => format!("no speed holds {objective}: {lowest}x breaks it"),
            }
        }
        ReplayEnd::GeneratorLimit => format!(
            "{held} the generator gave out or was itself too late, {tries} times in turn, which is \
             its limit, not the subject's"
        ),
        ReplayEnd::Inconclusive => {
            format!("{held} {tries} tries in turn say nothing, and the steps say why")
        }
        ReplayEnd::AllHeld => {
            let speed = highest.unwrap_or(f64::NAN);
            format!("{speed}x holds {objective}, and is the highest speed tried")
        }
    }
}
