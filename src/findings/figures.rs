//! The figures of a result folder, a value for each run that says anything.

use crate::{
    bench::{
        HasVerdict, LatencyRun, Point, ReplayStep, Replayed, Spread, Throughput, ThroughputRun,
        by_load, paired_ratios,
        record::{Points, Record, Results},
    },
    latency::Quantiles,
    report::{rate, time},
};

/// What a figure is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Nanoseconds.
    Time,
    /// Messages a second.
    Rate,
    /// How many times as much.
    Ratio,
    /// How many times as fast as captured.
    Speed,
}

impl Unit {
    /// Shows a value, or - for what is not a number.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => "-".to_owned(),
            Self::Time => time(value),
            Self::Rate => format!("{} msg/s", rate(value)),
            Self::Ratio => format!("{value:.2}"),
            Self::Speed => format!("{value}x"),
        }
    }
}

/// A figure of several runs.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub name: String,
    pub unit: Unit,
    pub higher_is_better: bool,
    /// By run, without those that are invalid.
    pub values: Vec<f64>,
}

impl Figure {
    fn new(name: impl Into<String>, unit: Unit, higher_is_better: bool, values: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            unit,
            higher_is_better,
            values,
        }
    }

    pub(super) fn spread(&self) -> Spread {
        Spread::of(self.values.iter().copied())
    }
}

/// Returns all figures, and how many runs are left out because they are invalid.
pub(super) fn figures(record: &Record) -> (Vec<Figure>, usize) {
    match &record.results {
        Results::Latency(runs) => (of_runs("", &valid(runs)), invalid(runs)),
        Results::Throughput(figures) => {
            let all = &figures.contenders;
            let invalid = all.iter().map(|one| invalid(&one.runs)).sum();
            (flat_out(all), invalid)
        }
        Results::Capacity(found) => {
            let highest = found.highest_msgs_per_s.into_iter().collect();
            let figure = Figure::new("highest rate", Unit::Rate, true, highest);
            (vec![figure], 0)
        }
        Results::Sweep(property, Points::FlatOut(points)) => {
            let of_point = |point: &Point<ThroughputRun>| {
                let name = format!("{property}={}", point.value);
                of_flat_out(&name, &valid(&point.runs))
            };
            let invalid = points.iter().map(|point| invalid(&point.runs)).sum();
            (points.iter().flat_map(of_point).collect(), invalid)
        }
        Results::Sweep(property, Points::AtRate(points)) => {
            let of_point = |point: &Point<LatencyRun>| {
                let name = format!("{property}={}: ", point.value);
                of_runs(&name, &valid(&point.runs))
            };
            let invalid = points.iter().map(|point| invalid(&point.runs)).sum();
            (points.iter().flat_map(of_point).collect(), invalid)
        }
        Results::Replay(replayed) => of_replay(replayed),
    }
}

/// Returns the runs that say anything.
pub(super) fn valid<R: HasVerdict>(runs: &[R]) -> Vec<&R> {
    runs.iter().filter(|run| run.verdict().is_ok()).collect()
}

fn invalid<R: HasVerdict>(runs: &[R]) -> usize {
    runs.len() - valid(runs).len()
}

fn of_replay(replayed: &Replayed) -> (Vec<Figure>, usize) {
    let steps = &replayed.steps;
    let highest = replayed.highest_speed.into_iter().collect();
    let mut figures = vec![Figure::new("highest speed", Unit::Speed, true, highest)];
    let says = |step: &&ReplayStep| {
        let step = &step.step;
        (step.run.verdict.is_ok() || step.loss_is_allowed) && !step.by_generator
    };
    for (speed, steps) in by_load(steps, |step| step.speed) {
        let runs = steps.into_iter().filter(says);
        let runs: Vec<&LatencyRun> = runs.map(|step| &step.step.run).collect();
        figures.extend(of_runs(&format!("{}: ", Unit::Speed.show(speed)), &runs));
    }
    let invalid = steps.len() - steps.iter().filter(says).count();
    (figures, invalid)
}

/// Returns the figures of runs at a rate, their names after `prefix`.
fn of_runs(prefix: &str, runs: &[&LatencyRun]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for stage in ["feed", "queue", "handler"] {
        let runs: Vec<Quantiles> = runs
            .iter()
            .filter_map(|run| Some(run.stage(stage)?.quantiles()))
            .collect();
        for (column, name) in Quantiles::NAMES.iter().enumerate() {
            let values = runs.iter().filter_map(|run| run.columns()[column]);
            let values = values.map(|ns| ns as f64).collect();
            let name = format!("{prefix}{stage} {name}");
            figures.push(Figure::new(name, Unit::Time, false, values));
        }
    }
    let values = runs.iter().map(|run| run.cpu_ns_per_msg).collect();
    let name = format!("{prefix}CPU time a message");
    figures.push(Figure::new(name, Unit::Time, false, values));
    figures
}

/// Returns the figures of runs flat out, named after `name`.
fn of_flat_out(name: &str, runs: &[&ThroughputRun]) -> [Figure; 2] {
    let rates = runs.iter().map(|run| run.msgs_per_s).collect();
    let cpu_ns = runs.iter().map(|run| run.cpu_ns_per_msg).collect();
    [
        Figure::new(format!("{name}: rate"), Unit::Rate, true, rates),
        Figure::new(
            format!("{name}: CPU time a message"),
            Unit::Time,
            false,
            cpu_ns,
        ),
    ]
}

fn flat_out(contenders: &[Throughput]) -> Vec<Figure> {
    let of_contender = |one: &Throughput| of_flat_out(&one.name.to_string(), &valid(&one.runs));
    let mut all: Vec<Figure> = contenders.iter().flat_map(of_contender).collect();
    all.extend(ratios(contenders));
    all
}

/// Returns how the subject's rate stands to each baseline's, in the rounds in which both say anything.
pub(super) fn ratios(contenders: &[Throughput]) -> Vec<Figure> {
    let Some((subject, baselines)) = contenders.split_first() else {
        return Vec::new();
    };
    let to = |baseline: &Throughput| {
        let values = paired_ratios(&subject.runs, &baseline.runs, |run| run.msgs_per_s);
        let name = format!("{} to {}", subject.name, baseline.name);
        Figure::new(name, Unit::Ratio, true, values)
    };
    baselines.iter().map(to).collect()
}
