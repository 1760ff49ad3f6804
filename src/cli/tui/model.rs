//! What the view shows: plain data, taken from the pipeline at one moment.
//!
//! Rates are by the second, times in nanoseconds, shares of CPU in cores.

use hdrhistogram::Histogram;

use crate::{cli::threads::ThreadRow, flight::Anomaly, latency::Stages, ledger::Totals};

/// Seconds between two pictures.
pub(super) const PICTURE_EVERY_S: f64 = 0.5;
/// Pictures whose rates are kept: those of the last minute.
pub(super) const HISTORY_MAX: usize = 120;
/// Anomalies that a picture keeps.
pub(super) const ANOMALIES_MAX: usize = 40;

/// A pipeline at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    pub engine: &'static str,
    /// Since the pipeline was started, in nanoseconds.
    pub up_ns: u64,
    pub is_draining: bool,
    pub totals: Totals,
    /// Messages that never came; `None` where nobody can tell.
    pub lost: Option<u64>,
    /// Messages a second, since the picture before.
    pub per_s: f64,
    /// Bytes a second.
    pub bytes_per_s: f64,
    /// Of the process, and the cores that it may use.
    pub cpu_share: f64,
    pub cores: usize,
    /// Messages a second of the last pictures, the newest last.
    pub history: Vec<f64>,
    pub latency: [Latency; 3],
    pub lanes: Vec<LaneRow>,
    pub workers: Vec<WorkerRow>,
    pub feeds: Vec<FeedRow>,
    pub lines: Vec<LineRow>,
    pub topics: Topics,
    pub threads: Vec<ThreadRow>,
    /// The last ones, the newest last, and the number of all.
    pub anomalies: Vec<Anomaly>,
    pub anomalies_seen: u64,
}

/// How long a stage took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latency {
    pub stage: &'static str,
    pub interval: Option<Percentiles>,
    pub overall: Option<Percentiles>,
}

/// p50, p99, p99.9 and the longest, in nanoseconds.
pub(super) type Percentiles = [u64; 4];

/// One lane.
#[derive(Clone, Debug, Default)]
pub(super) struct LaneRow {
    pub name: String,
    pub per_s: f64,
    pub bytes_per_s: f64,
    pub received: u64,
    /// The part of the time that it waited for workers.
    pub blocked: f64,
}

/// One worker.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerRow {
    pub name: String,
    pub per_s: f64,
    pub delivered: u64,
    /// Batches under way to it, and the most there can be.
    pub batches: u64,
    pub batches_max: u64,
    /// Whether as many are under way to it as make it behind, were all of one lane.
    pub is_behind: bool,
    pub cpu_share: Option<f64>,
}

/// One feed.
#[derive(Clone, Debug, Default)]
pub(super) struct FeedRow {
    pub name: String,
    /// Messages a second and in all; `None` where its lanes carry other feeds, too.
    pub received: Option<(f64, u64)>,
    pub lines: usize,
}

/// One line of a feed with copies.
#[derive(Clone, Debug, Default)]
pub(super) struct LineRow {
    pub name: String,
    pub per_s: f64,
    pub copies: u64,
    pub wins: u64,
    pub repaired: u64,
    pub lag_max_ns: u64,
    pub disconnects: u64,
    pub silences: u64,
}

/// The busiest topics, or why there are none.
#[derive(Clone, Debug)]
pub(super) enum Topics {
    Unknown(&'static str),
    /// Rows, and the number of all topics.
    Top(Vec<TopicRow>, usize),
}

impl Default for Topics {
    fn default() -> Self {
        Self::Unknown("")
    }
}

/// One topic.
#[derive(Clone, Debug, Default)]
pub(super) struct TopicRow {
    /// Escaped.
    pub name: String,
    pub per_s: f64,
    pub messages: u64,
}

/// What tables are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// The order of the configuration; topics, which have none, by their messages.
    #[default]
    Place,
    Rate,
    Total,
    Name,
}

/// A row that can be sorted.
pub(super) trait Sortable {
    fn name(&self) -> &str;
    fn rate(&self) -> f64;
    fn total(&self) -> u64;
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Place => Self::Rate,
            Self::Rate => Self::Total,
            Self::Total => Self::Name,
            Self::Name => Self::Place,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Place => "as configured",
            Self::Rate => "by rate",
            Self::Total => "by total",
            Self::Name => "by name",
        }
    }

    /// Returns references to the rows in order: the largest first, or the first name.
    pub(super) fn apply<T: Sortable>(self, rows: &[T]) -> Vec<&T> {
        let mut sorted: Vec<&T> = rows.iter().collect();
        match self {
            Self::Place => {}
            Self::Rate => sorted.sort_by(|a, b| b.rate().total_cmp(&a.rate())),
            Self::Total => sorted.sort_by_key(|row| std::cmp::Reverse(row.total())),
            Self::Name => sorted.sort_by(|a, b| a.name().cmp(b.name())),
        }
        sorted
    }
}

macro_rules! sortable {
    ($($row:ty: $rate:expr, $total:expr;)*) => {$(
        impl Sortable for $row {
            fn name(&self) -> &str {
                &self.name
            }
            fn rate(&self) -> f64 {
                let rate: fn(&Self) -> f64 = $rate;
                rate(self)
            }
            fn total(&self) -> u64 {
                let total: fn(&Self) -> u64 = $total;
                total(self)
            }
        }
    )*};
}

sortable! {
    LaneRow: |row| row.per_s, |row| row.received;
    WorkerRow: |row| row.per_s, |row| row.delivered;
    FeedRow: |row| row.received.map_or(0.0, |one| one.0), |row| row.received.map_or(0, |one| one.1);
    LineRow: |row| row.per_s, |row| row.copies;
    TopicRow: |row| row.per_s, |row| row.messages;
    ThreadRow: |row| row.cpu_share, |row| row.cpu_ns;
}

/// Returns the percentiles of each stage, of an interval and overall.
pub(super) fn latency(interval: &Stages, overall: &Stages) -> [Latency; 3] {
    let stage = |stage, of: fn(&Stages) -> &Histogram<u64>| Latency {
        stage,
        interval: percentiles(of(interval)),
        overall: percentiles(of(overall)),
    };
    [
        stage("queue", |stages| &stages.queue),
        stage("handler", |stages| &stages.handler),
        stage("feed", |stages| &stages.feed),
    ]
}

fn percentiles(histogram: &Histogram<u64>) -> Option<Percentiles> {
    let at = |quantile| histogram.value_at_quantile(quantile);
    (!histogram.is_empty()).then(|| [at(0.5), at(0.99), at(0.999), histogram.max()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_by_each_column_in_turn() {
        let row = |name: &str, per_s, received| LaneRow {
            name: name.to_owned(),
            per_s,
            received,
            ..LaneRow::default()
        };
        let rows = [row("c", 1.0, 5), row("a", 3.0, 4), row("b", 2.0, 6)];
        let mut sort = Sort::default();
        for expected in ["cab", "abc", "bca", "abc", "cab"] {
            let names: String = sort.apply(&rows).iter().map(|row| row.name()).collect();
            assert_eq!(names, expected, "{sort:?}");
            sort = sort.next();
        }
    }
}
