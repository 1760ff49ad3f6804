//! The figures of a result folder, a value for each run that says anything.

use crate::{
    bench::{
        LatencyRun, Spread, Throughput,
        record::{Record, Results},
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
}

impl Unit {
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::Time => time(value),
            Self::Rate => format!("{} msg/s", rate(value)),
            Self::Ratio => format!("{value:.2}"),
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
    pub(super) fn spread(&self) -> Spread {
        Spread::of(self.values.iter().copied())
    }
}

/// Returns all figures, and how many runs are left out because they are invalid.
pub(super) fn figures(record: &Record) -> (Vec<Figure>, usize) {
    match &record.results {
        Results::Latency(runs) => {
            let valid: Vec<&LatencyRun> = runs.iter().filter(|run| run.verdict.is_ok()).collect();
            (of_runs(&valid), runs.len() - valid.len())
        }
        Results::Throughput(figures) => (flat_out(&figures.contenders), 0),
        Results::Capacity(found) => {
            let figure = Figure {
                name: "highest rate".to_owned(),
                unit: Unit::Rate,
                higher_is_better: true,
                values: found.highest_msgs_per_s.into_iter().collect(),
            };
            (vec![figure], 0)
        }
    }
}

fn of_runs(runs: &[&LatencyRun]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for stage in ["feed", "queue", "handler"] {
        let runs: Vec<Quantiles> = runs
            .iter()
            .filter_map(|run| Some(run.stage(stage)?.quantiles()))
            .collect();
        for (column, name) in Quantiles::NAMES.iter().enumerate() {
            let values = runs.iter().filter_map(|run| run.columns()[column]);
            figures.push(Figure {
                name: format!("{stage} {name}"),
                unit: Unit::Time,
                higher_is_better: false,
                values: values.map(|ns| ns as f64).collect(),
            });
        }
    }
    figures.push(Figure {
        name: "CPU time a message".to_owned(),
        unit: Unit::Time,
        higher_is_better: false,
        values: runs.iter().map(|run| run.cpu_ns_per_msg).collect(),
    });
    figures
}

fn flat_out(contenders: &[Throughput]) -> Vec<Figure> {
    let mut all = Vec::new();
    for one in contenders {
        all.push(Figure {
            name: format!("{}: rate", one.name),
            unit: Unit::Rate,
            higher_is_better: true,
            values: one.runs.iter().map(|run| run.msgs_per_s).collect(),
        });
        all.push(Figure {
            name: format!("{}: CPU time a message", one.name),
            unit: Unit::Time,
            higher_is_better: false,
            values: one.runs.iter().map(|run| run.cpu_ns_per_msg).collect(),
        });
    }
    all.extend(ratios(contenders));
    all
}

/// Returns how the subject's rate stands to each baseline's, round by round.
pub(super) fn ratios(contenders: &[Throughput]) -> Vec<Figure> {
    let Some((subject, baselines)) = contenders.split_first() else {
        return Vec::new();
    };
    let to = |baseline: &Throughput| Figure {
        name: format!("{} to {}", subject.name, baseline.name),
        unit: Unit::Ratio,
        higher_is_better: true,
        values: (subject.runs.iter().zip(&baseline.runs))
            .map(|(a, b)| a.msgs_per_s / b.msgs_per_s)
            .collect(),
    };
    baselines.iter().map(to).collect()
}
