//! The load of a real capture, faster and faster: its messages at the times they were captured at, bursts and
//! all, open loop. A capture that ends before the run does begins anew.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    bench::{
        Bench, LatencyRun, Objective, Progress, ResultFolder, Step, Tells, by_load,
        latency::{LENGTH_MAX, seconds},
        load::Load,
        measured::{write_feed, write_names},
        together, verdicts,
    },
    error::{Error, Result},
    publish::Recording,
    report::rate,
};

/// The lowest speed.
pub const SPEED_MIN: f64 = 1e-6;
/// The highest speed.
pub const SPEED_MAX: f64 = 1e6;
/// What the busiest one of is told.
const BURST: Duration = Duration::from_millis(1);

/// What to replay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayPlan {
    /// The capture.
    pub capture: PathBuf,
    /// How long each speed is measured for.
    #[serde(rename = "length_s", serialize_with = "seconds")]
    pub length: Duration,
    /// How long messages flow before that.
    #[serde(rename = "warm_up_s", serialize_with = "seconds")]
    pub warm_up: Duration,
}

/// What a run at a speed showed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplayStep {
    /// How many times as fast as captured.
    pub speed: f64,
    /// Messages in the busiest millisecond of the capture at that speed.
    pub busiest_ms: u64,
    /// The run, whose rate is the mean.
    #[serde(flatten)]
    pub step: Step,
}

/// How a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayEnd {
    /// The objective broke at a speed.
    Broke,
    /// It broke at none, and the generator gave out, however often it was tried: the limit is its own.
    GeneratorLimit,
    /// It broke at none, and the runs of a speed said nothing, however often it was tried.
    Inconclusive,
    /// It held at all speeds.
    AllHeld,
}

/// What a replay came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Replayed {
    /// The highest speed that held, with none below it that broke; null where none did.
    pub highest_speed: Option<f64>,
    /// How it ended.
    pub end: ReplayEnd,
    /// All runs, in order.
    pub steps: Vec<ReplayStep>,
}

impl ReplayPlan {
    /// Returns about how long a run takes.
    #[must_use]
    pub fn run_takes(&self) -> Duration {
        self.warm_up + self.length + Duration::from_secs(1)
    }

    /// Checks that it can be carried out from this speed on.
    ///
    /// # Errors
    /// [`Error::Config`], naming the flag.
    pub fn check(&self, recording: &Recording, slowest: f64, objective: &Objective) -> Result<()> {
        let shown = |length| humantime::format_duration(length).to_string();
        for (flag, length, length_min) in [
            ("--for", self.length, Duration::from_nanos(1)),
            ("--warm-up", self.warm_up, Duration::ZERO),
        ] {
            if length < length_min || length > LENGTH_MAX {
                let remedy = "give a time above 0, up to 1day";
                return Err(Error::config(
                    flag,
                    shown(length),
                    "it is out of range",
                    remedy,
                ));
            }
        }
        let recording = recording.faster(slowest);
        let warm_up = recording.due_within(self.warm_up);
        let measured = recording.due_within(self.warm_up + self.length) - warm_up;
        objective
            .check_messages(measured)
            .map_err(|(percentile, needed)| {
                let factor = needed as f64 / measured.max(1) as f64;
                let length_s = (self.length.as_secs_f64() * factor).ceil();
                Error::config(
                    "--for",
                    shown(self.length),
                    format!(
                        "{measured} messages at speed {slowest} are too few to tell {percentile}, which takes {needed}"
                    ),
                    format!("give some {length_s:.0}s, or higher --speeds"),
                )
            })
    }
}

impl Bench {
    /// Replays once at a speed, and leaves the logs and percentiles of `step` in the folder.
    ///
    /// # Errors
    /// [`Error::Helper`] where a process fails without a result, [`Error::Stopped`], [`Error::File`].
    pub fn replay(
        &self,
        plan: &ReplayPlan,
        (recording, speed): (&Recording, f64),
        step: &str,
        folder: &ResultFolder,
        progress: &mut dyn Progress,
    ) -> Result<LatencyRun> {
        let recording = recording.faster(speed);
        let due = recording.due_within(plan.warm_up + plan.length);
        let last_due = Duration::from_nanos(recording.due_ns(due.saturating_sub(1)));
        let load = Load {
            rate: due as f64 / last_due.max(BURST).as_secs_f64(),
            due,
            warm_up: plan.warm_up,
            length: plan.length,
            capture: Some((plan.capture.clone(), speed)),
        };
        self.carry(&load, step, folder, progress)
    }
}

impl ReplayStep {
    /// Holds a run at a speed against an objective.
    #[must_use]
    pub fn new(recording: &Recording, speed: f64, run: LatencyRun, objective: &Objective) -> Self {
        Self {
            speed,
            busiest_ms: recording.faster(speed).busiest(BURST),
            step: Step::new(run, objective),
        }
    }
}

/// Returns the speeds to climb where none are given: 1, 2, 5, 10 and so on.
pub fn speeds() -> impl Iterator<Item = f64> {
    let decades = std::iter::successors(Some(1.0), |decade| Some(decade * 10.0));
    decades
        .flat_map(|decade: f64| [1.0, 2.0, 5.0].map(|digit| digit * decade))
        .take_while(|speed| *speed <= SPEED_MAX)
}

impl ReplayEnd {
    /// Returns how a replay ended in which the runs of each speed said this.
    #[must_use]
    pub fn of(told: &[(f64, Tells)]) -> Self {
        let first = |wanted: fn(Tells) -> bool| told.iter().find(|(_, tells)| wanted(*tells));
        if first(|tells| tells == Tells::Breaks).is_some() {
            return Self::Broke;
        }
        match first(|tells| tells != Tells::Holds) {
            None => Self::AllHeld,
            Some((_, Tells::GeneratorLimit)) => Self::GeneratorLimit,
            Some(_) => Self::Inconclusive,
        }
    }
}

/// Returns what the runs at each speed say together, the slowest first.
#[must_use]
pub fn by_speed(steps: &[ReplayStep]) -> Vec<(f64, Tells)> {
    let speeds = by_load(steps, |one| one.speed).into_iter();
    speeds
        .map(|(speed, steps)| (speed, together(steps.iter().map(|one| &one.step))))
        .collect()
}

/// Returns the highest speed that held, with none below it that broke, of what the runs of each said.
#[must_use]
pub fn highest_speed(told: &[(f64, Tells)]) -> Option<f64> {
    let speeds = |wanted| {
        let these = told.iter().filter(move |(_, tells)| *tells == wanted);
        these.map(|(speed, _)| *speed)
    };
    let broke = speeds(Tells::Breaks).fold(f64::INFINITY, f64::min);
    speeds(Tells::Holds)
        .filter(|speed| *speed < broke)
        .reduce(f64::max)
}

/// The steps as a table for people.
#[must_use]
pub fn replay_table(steps: &[ReplayStep]) -> impl fmt::Display + use<'_> {
    Table(steps)
}

struct Table<'a>(&'a [ReplayStep]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:>8}{:>9}{:>12}", "speed", "msg/s", "busiest ms")?;
        write_names(out)?;
        writeln!(out, "  verdict")?;
        let steps: Vec<_> = self.0.iter().map(|one| (one.speed, &one.step)).collect();
        for (one, verdict) in self.0.iter().zip(verdicts(&steps)) {
            let run = &one.step.run;
            write!(
                out,
                "{:>7}x{:>9}{:>12}",
                one.speed,
                rate(run.rate),
                one.busiest_ms
            )?;
            write_feed(out, run)?;
            writeln!(out, "  {verdict}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_climb_by_decades() {
        let first: Vec<f64> = speeds().take(5).collect();
        assert_eq!(first, [1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(speeds().last(), Some(SPEED_MAX));
    }

    #[test]
    fn the_highest_speed_has_none_below_it_that_broke() {
        use Tells::{Breaks, GeneratorLimit, Holds, Nothing};
        for (told, highest, end) in [
            (
                &[(1.0, Holds), (2.0, Holds)][..],
                Some(2.0),
                ReplayEnd::AllHeld,
            ),
            (
                &[(1.0, Holds), (2.0, Nothing), (5.0, Breaks)],
                Some(1.0),
                ReplayEnd::Broke,
            ),
            (
                &[(1.0, Holds), (2.0, GeneratorLimit), (5.0, Holds)],
                Some(5.0),
                ReplayEnd::GeneratorLimit,
            ),
            (&[(1.0, Breaks), (2.0, Holds)], None, ReplayEnd::Broke),
            (&[(1.0, Nothing)], None, ReplayEnd::Inconclusive),
        ] {
            assert_eq!(highest_speed(told), highest, "{told:?}");
            assert_eq!(ReplayEnd::of(told), end, "{told:?}");
        }
    }

    #[test]
    fn runs_too_short_for_the_objective_are_refused() {
        let plan = ReplayPlan {
            capture: PathBuf::from("capture.gz"),
            length: Duration::from_secs(10),
            warm_up: Duration::from_secs(1),
        };
        // A hundred a second.
        let recording = Recording::new((0..100).map(|message| message * 10_000_000).collect());
        let objective: Objective = "p99<10ms".parse().unwrap();
        assert!(plan.check(&recording, 2.0, &objective).is_ok());
        let error = plan.check(&recording, 1.0, &objective).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--for = 10s: 1000 messages at speed 1 are too few to tell p99, which takes 1250; give some 13s, \
             or higher --speeds"
        );
    }
}
