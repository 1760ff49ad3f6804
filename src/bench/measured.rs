//! What a run at a rate showed, as figures and for people.

use std::{collections::BTreeMap, fmt};

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};

use crate::{
    bench::{
        HasVerdict, Spread, Validity, Verdict,
        spread::{figure, known},
        verdict::missing,
    },
    flight::Anomaly,
    host::pin::Placement,
    latency::{
        Quantiles, Stages,
        log::{FEED, LATENESS},
    },
    report::{count, rate, time},
};

/// Nanoseconds of a stage of messages' way, or of what stands beside it.
#[derive(Clone, Debug)]
pub struct Stage {
    /// `feed`, `queue`, `handler`; `lateness`, the generator's own; or `hiccup-N`, the platform's on core N.
    pub name: String,
    /// What was recorded after the warm-up; hiccups of the whole run.
    pub histogram: Histogram<u64>,
}

impl Stage {
    /// One without samples.
    pub(crate) fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            // With the bounds that latencies have.
            histogram: Stages::default().feed,
        }
    }

    /// Adds what was recorded, whatever the bounds of the other histogram.
    pub(crate) fn add(&mut self, part: &Histogram<u64>) {
        for value in part.iter_recorded() {
            self.histogram
                .saturating_record_n(value.value_iterated_to(), value.count_at_value());
        }
    }

    /// Returns the percentiles that enough samples support.
    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        Quantiles::of(&self.histogram).supported()
    }
}

/// What a run at a rate showed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LatencyRun {
    /// What the names of its files begin with.
    pub step: String,
    /// Messages a second asked for.
    pub rate: f64,
    /// Whether that rate was held.
    pub verdict: Verdict,
    /// Messages that were due, warm-up included.
    pub due: u64,
    /// Messages sent.
    pub published: u64,
    /// From the first message sent to the last, in seconds.
    pub elapsed_s: f64,
    /// Messages sent a second.
    #[serde(deserialize_with = "figure")]
    pub sent_per_s: f64,
    /// For how long the subject made the generator wait, in seconds.
    pub blocked_s: f64,
    /// Messages the subject received.
    pub received: u64,
    /// Messages missing by their numbers; null where they have none.
    pub lost: Option<u64>,
    /// Whether the subject's ledger balances.
    pub balanced: bool,
    /// The subject's CPU time a message, in nanoseconds.
    pub cpu_ns_per_msg: f64,
    /// Where the subject's threads ran.
    pub threads: Vec<Placement>,
    /// What to mind when reading the figures, for people.
    pub warnings: Vec<String>,
    /// What went wrong in the subject, oldest first, by the clock of its pipeline.
    pub anomalies: Vec<Anomaly>,
    /// Times in nanoseconds, by stage. A percentile is null where fewer than 10 samples lie beyond it.
    #[serde(
        rename = "latency_ns",
        serialize_with = "by_name",
        deserialize_with = "names"
    )]
    pub stages: Vec<Stage>,
}

fn by_name<S: Serializer>(stages: &[Stage], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(stages.len()))?;
    for stage in stages {
        map.serialize_entry(&stage.name, &stage.quantiles())?;
    }
    map.end()
}

/// Reads the names of stages. What they recorded is in the run's logs.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Stage>, D::Error> {
    let by_name = BTreeMap::<String, Quantiles>::deserialize(deserializer)?;
    let mut names: Vec<String> = by_name.into_keys().collect();
    // Along the way of messages; what stands beside it last.
    let rank = |name: &str| {
        ["feed", "queue", "handler"]
            .iter()
            .position(|one| *one == name)
    };
    names.sort_by_key(|name| rank(name).unwrap_or(usize::MAX));
    Ok(names.iter().map(|name| Stage::empty(name)).collect())
}

impl LatencyRun {
    /// Returns a stage by its name.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Returns messages lost, received too little included.
    #[must_use]
    pub fn missing(&self) -> u64 {
        missing(self.published, self.received, self.lost.unwrap_or(0))
    }
}

impl fmt::Display for LatencyRun {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{}{}  {} msg/s sent, {} of {} received, {} lost; {:.0} ns of CPU each; generator blocked for {:.3} s",
            self.verdict,
            if self.warnings.is_empty() {
                ""
            } else {
                ", with a warning"
            },
            rate(self.sent_per_s),
            count(self.received),
            count(self.due),
            count(self.missing()),
            self.cpu_ns_per_msg,
            self.blocked_s,
        )?;
        write_head(out, "latency")?;
        for stage in &self.stages {
            write_row(out, &stage.name, &stage.quantiles())?;
        }
        for warning in &self.warnings {
            writeln!(out, "  warning: {warning}")?;
        }
        Ok(())
    }
}

/// Returns what to mind when reading the figures of these stages.
pub(super) fn warnings(stages: &[Stage]) -> Vec<String> {
    let columns = |name: &str| {
        let stage = stages.iter().find(|stage| stage.name == name);
        stage.map_or([None; 6], |stage| stage.quantiles().columns())
    };
    let (feed, lateness) = (columns(FEED), columns(LATENESS));
    let by_generator = Quantiles::NAMES
        .iter()
        .zip(feed.into_iter().zip(lateness))
        .filter_map(|(name, (feed, late))| match (feed, late) {
            (Some(feed), Some(late)) if late * 2 > feed => Some(format!(
                "at {name} it was {} late, and the feed's latency is {}",
                time(late as f64),
                time(feed as f64)
            )),
            _ => None,
        });
    let by_generator: Vec<String> = by_generator.collect();
    if by_generator.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "the generator sent late by its own fault, which is more than half of the feed's latency, since that counts from \
         when messages were due: {} (each a percentile by itself, so either may be the larger); give the generator a core \
         that nothing else uses, with --generator-cores",
        by_generator.join("; ")
    )]
}

impl HasVerdict for LatencyRun {
    fn verdict(&self) -> &Verdict {
        &self.verdict
    }
}

pub(super) fn write_head(out: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
    write!(out, "  {title:<10}{:>13}", "count")?;
    write_names(out)?;
    writeln!(out)
}

/// Writes the names of percentiles, each above its column.
pub(super) fn write_names(out: &mut fmt::Formatter<'_>) -> fmt::Result {
    Quantiles::NAMES
        .iter()
        .try_for_each(|name| write!(out, "{name:>10}"))
}

/// Writes percentiles, each in its column; - where too few samples support one.
fn write_cells(out: &mut fmt::Formatter<'_>, quantiles: &Quantiles) -> fmt::Result {
    for value in quantiles.columns() {
        let shown = value.map_or("-".to_owned(), |ns| time(ns as f64));
        write!(out, "{shown:>10}")?;
    }
    Ok(())
}

/// Writes the percentiles of a run's feed.
pub(super) fn write_feed(out: &mut fmt::Formatter<'_>, run: &LatencyRun) -> fmt::Result {
    let feed = run.stage(FEED).map(Stage::quantiles);
    write_cells(out, &feed.unwrap_or_default())
}

pub(super) fn write_row(
    out: &mut fmt::Formatter<'_>,
    name: &str,
    quantiles: &Quantiles,
) -> fmt::Result {
    write!(out, "  {name:<10}{:>13}", count(quantiles.count))?;
    write_cells(out, quantiles)?;
    writeln!(out)
}

/// The runs' figures as CSV, a line a run and stage, times in nanoseconds.
#[must_use]
pub fn csv(runs: &[LatencyRun]) -> String {
    let mut text =
        "run,rate,verdict,due,published,received,lost,stage,count,p50,p90,p99,p99_9,p99_99,max\n"
            .to_owned();
    for (number, run) in (1..).zip(runs) {
        for stage in &run.stages {
            let quantiles = stage.quantiles();
            text += &format!(
                "{number},{},{},{},{},{},{},{},{}",
                run.rate,
                run.verdict.word(),
                run.due,
                run.published,
                run.received,
                run.missing(),
                stage.name,
                quantiles.count
            );
            for value in quantiles.columns() {
                text += &value.map_or(",".to_owned(), |ns| format!(",{ns}"));
            }
            text.push('\n');
        }
    }
    text
}

/// The medians of several runs' percentiles of the feed's latency, with the lowest and the highest, of the runs
/// that are valid.
#[must_use]
pub fn spread(runs: &[LatencyRun]) -> impl fmt::Display + use<> {
    SpreadOfRuns {
        columns: feed_spread(runs),
        validity: Validity::of(runs.iter().map(|run| &run.verdict)),
    }
}

/// The feed's latency over the runs that are valid, in nanoseconds, in the order of [`Quantiles::NAMES`].
#[must_use]
pub fn feed_spread(runs: &[LatencyRun]) -> [Spread; 6] {
    let valid = runs.iter().filter(|run| run.verdict.is_ok());
    let figures: Vec<Quantiles> = valid
        .filter_map(|run| run.stage(FEED).map(Stage::quantiles))
        .collect();
    std::array::from_fn(|column| {
        let values = figures.iter().filter_map(|run| run.columns()[column]);
        Spread::of(values.map(|ns| ns as f64))
    })
}

struct SpreadOfRuns {
    columns: [Spread; 6],
    validity: Validity,
}

impl fmt::Display for SpreadOfRuns {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Validity { runs, valid } = self.validity;
        if valid == 0 {
            return writeln!(out, "{}", self.validity);
        }
        let title = if valid == runs {
            format!("feed, {runs} runs")
        } else {
            format!("feed, {valid} valid runs")
        };
        write!(out, "{title:<25}")?;
        write_names(out)?;
        writeln!(out)?;
        for (name, figure) in [
            ("median", (|one| one.median) as fn(&Spread) -> f64),
            ("lowest", |one| one.lowest),
            ("highest", |one| one.highest),
        ] {
            write!(out, "  {name:<23}")?;
            for column in &self.columns {
                write!(out, "{:>10}", known(figure(column), time))?;
            }
            writeln!(out)?;
        }
        if valid < runs {
            writeln!(out, "  {}", self.validity)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_beside_latency_is_said_in_words() {
        let stage = |name, ns| {
            let mut stage = Stage::empty(name);
            stage.histogram.saturating_record_n(ns, 1_000);
            stage
        };
        let told = |late_ns| warnings(&[stage(FEED, 1_290_000), stage(LATENESS, late_ns)]);
        assert_eq!(told(600_000), [""; 0], "less than half");
        let [warning] = &told(1_480_000)[..] else {
            panic!("one warning");
        };
        let said = "at p50 it was 1.48 ms late, and the feed's latency is 1.29 ms";
        assert!(warning.contains(said), "{warning}");
        assert!(warning.ends_with("with --generator-cores"), "{warning}");
    }
}
