//! `pinfeed bench replay`: a real capture, faster and faster.

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    bench::{
        Objective, REPEATS_MAX, ReplayEnd, ReplayPlan, ReplayStep, Replayed, SPEED_MAX, SPEED_MIN,
        Tells, Tries, by_speed, csv, highest_speed, replay_table, speeds,
    },
    cli::{
        Ending, Failure,
        bench::{
            Common, Lengths, Traffic,
            results::Findings,
            session::{Pace, Session},
        },
        say,
        tui::Done,
    },
    error::Error,
    publish::{
        Recording,
        capture::{Capture, Speed},
    },
};

/// At how many times its speed a real capture breaks an objective, bursts and all
///
/// Open loop: messages are due when they were captured, bursts and all, and a capture that ends before a run
/// does begins anew. The percentiles of a run have at least ten samples beyond them. A speed that breaks it is
/// repeated, and two of three runs decide; so is one at which the generator was late, and where it is late
/// three times, that is said to be its limit. Exit code 1 where no speed holds.
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
        Ok(speed) if (SPEED_MIN..=SPEED_MAX).contains(&speed) => Ok(speed),
        _ => Err(format!("give numbers from {SPEED_MIN} to {SPEED_MAX}")),
    }
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let plan = ReplayPlan {
        capture: args.capture.clone(),
        length: args.lengths.length,
        warm_up: args.lengths.warm_up,
    };
    refuse_twice(&args.speeds)?;
    let recording = Recording::read(&mut Capture::open(&plan.capture, Speed::Times(1.0))?)?;
    let slowest = args.speeds.iter().copied().reduce(f64::min);
    plan.check(&recording, slowest.unwrap_or(1.0), &args.objective)?;
    let capture = plan.capture.file_name().unwrap_or_default().display();
    let shown = (format!("replay of {capture}"), Done::AtRate(Vec::new()));
    let mut session = Session::open(
        &args.common,
        &Traffic::default(),
        Pace::AtRate(&args.lengths),
        shown,
    )?;
    session.progress.is_least = true;
    let climbs = args.speeds.is_empty();
    let speeds: Vec<f64> = if climbs {
        speeds().collect()
    } else {
        args.speeds.clone()
    };
    let mut steps: Vec<ReplayStep> = Vec::new();
    for (place, &speed) in speeds.iter().enumerate() {
        // Nobody knows how many it takes to climb.
        let speeds_after = if climbs { 0 } else { speeds.len() - place - 1 };
        session.progress.after = plan.run_takes() * speeds_after as u32;
        let mut tries = Tries::default();
        let told = loop {
            if let Some(told) = tries.decided() {
                break told;
            }
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
            tries.note(step.step.tells());
            let run = &step.step.run;
            (session.progress).show_step(format!("{speed}x"), step.step.tells(), run);
            steps.push(step);
        };
        if climbs && told != Tells::Holds {
            break;
        }
    }
    say(format_args!("{}", replay_table(&steps)));
    let told = by_speed(&steps);
    let highest = highest_speed(&told);
    let conclusion = conclusion(&told, &args.objective);
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
            end: ReplayEnd::of(&told),
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

/// Refuses a speed that is given twice: one of the two would be taken for a repetition.
fn refuse_twice(speeds: &[f64]) -> Result<(), Error> {
    let twice = |(at, speed): &(usize, &f64)| speeds[..*at].contains(speed);
    match speeds.iter().enumerate().find(twice) {
        Some((_, speed)) => Err(Error::config(
            "--speeds",
            speed,
            "it is given twice",
            "give each speed once",
        )),
        None => Ok(()),
    }
}

/// Says what the runs of each speed come to, the slowest first.
fn conclusion(told: &[(f64, Tells)], objective: &Objective) -> String {
    let speeds = |wanted: &dyn Fn(f64, Tells) -> bool| {
        let these = told.iter().filter(|(speed, tells)| wanted(*speed, *tells));
        let these: Vec<String> = these.map(|(speed, _)| format!("{speed}x")).collect();
        (!these.is_empty()).then(|| these.join(", "))
    };
    let held = highest_speed(told);
    let broke = told.iter().find(|(_, tells)| *tells == Tells::Breaks);
    let broke = broke.map(|(speed, _)| *speed);
    let is_highest = held.is_some() && held == told.last().map(|(speed, _)| *speed);
    let mut text = match (held, broke) {
        (Some(held), Some(broke)) => format!("{held}x holds {objective}, {broke}x breaks it"),
        (Some(held), None) if is_highest => {
            format!("{held}x holds {objective}, and is the highest speed tried")
        }
        (Some(held), None) => format!("{held}x holds {objective}"),
        (None, Some(broke)) if told[0].0 == broke => {
            format!("no speed holds {objective}: {broke}x breaks it")
        }
        (None, Some(broke)) => {
            format!("no speed is known to hold {objective}, and {broke}x breaks it")
        }
        (None, None) => format!("INVALID: no speed is known to hold {objective}"),
    };
    let runs = REPEATS_MAX + 1;
    if let Some(these) = speeds(&|_, tells| tells == Tells::GeneratorLimit) {
        text += &format!(
            "; at {these} the generator gave out or was itself too late, {runs} times, which is its limit, not \
             the subject's"
        );
    }
    if let Some(these) = speeds(&|_, tells| tells == Tells::Nothing) {
        text += &format!("; at {these} {runs} runs say nothing, and the steps say why");
    }
    let above = |speed, tells| tells == Tells::Holds && broke.is_some_and(|broke| speed > broke);
    if let Some(these) = speeds(&above) {
        text += &format!("; {these} held all the same");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use Tells::{Breaks, GeneratorLimit, Holds, Nothing};

    #[test]
    fn no_speed_goes_without_a_word() {
        let objective: Objective = "p99<1ms".parse().unwrap();
        for (told, expected) in [
            (
                &[(1.0, Holds), (2.0, Breaks)][..],
                "1x holds p99<1ms, 2x breaks it",
            ),
            (
                &[(1.0, Holds), (2.0, Nothing), (5.0, Holds), (9.0, Breaks)],
                "5x holds p99<1ms, 9x breaks it; at 2x 3 runs say nothing, and the steps say why",
            ),
            (
                &[(1.0, Holds), (2.0, GeneratorLimit)],
                "1x holds p99<1ms; at 2x the generator gave out or was itself too late, 3 times, which is its \
                 limit, not the subject's",
            ),
            (
                &[(1.0, Nothing), (2.0, Breaks)],
                "no speed is known to hold p99<1ms, and 2x breaks it; at 1x 3 runs say nothing, and the steps say why",
            ),
            (
                &[(1.0, Breaks), (2.0, Holds)],
                "no speed holds p99<1ms: 1x breaks it; 2x held all the same",
            ),
            (
                &[(0.5, Nothing)],
                "INVALID: no speed is known to hold p99<1ms; at 0.5x 3 runs say nothing, and the steps say why",
            ),
            (
                &[(1.0, Holds), (2.0, Holds)],
                "2x holds p99<1ms, and is the highest speed tried",
            ),
        ] {
            assert_eq!(conclusion(told, &objective), expected);
        }
    }
}
