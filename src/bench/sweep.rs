//! How cost grows with one property: the same measurement at several values of it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    bench::{
        HasVerdict, LatencyRun, Shape, Spread, ThroughputRun, Validity, csv, feed_spread,
        measured::write_names, paired_ratios, spread::known, throughput::write_figures,
    },
    error::{Error, Result},
    latency::log::FEED,
    report::time,
};

/// The most values.
const VALUES_MAX: usize = 100;

/// What can be varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Property {
    /// Bytes of a payload.
    Size,
    /// Frames of a message.
    Frames,
    /// Topics.
    Topics,
    /// Publishers that share the load, flat out.
    Publishers,
    /// Connections to each publisher.
    Connections,
    /// The subject's lanes.
    Lanes,
    /// The subject's workers.
    Workers,
    /// Messages in a batch, at most.
    Batch,
}

impl Property {
    const ALL: [Self; 8] = [
        Self::Size,
        Self::Frames,
        Self::Topics,
        Self::Publishers,
        Self::Connections,
        Self::Lanes,
        Self::Workers,
        Self::Batch,
    ];
}

impl fmt::Display for Property {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Size => "size",
            Self::Frames => "frames",
            Self::Topics => "topics",
            Self::Publishers => "publishers",
            Self::Connections => "connections",
            Self::Lanes => "lanes",
            Self::Workers => "workers",
            Self::Batch => "batch",
        })
    }
}

/// A property and its values, in order: `size=64,256,1024`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vary {
    /// What is varied.
    pub property: Property,
    /// Its values, at least one.
    pub values: Vec<usize>,
}

/// The text does not say what to vary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "give size, frames, topics, publishers, connections, lanes, workers or batch with up to {VALUES_MAX} different values, for instance \
     size=64,256,1024"
)]
pub struct BadVary;

fn are_different(values: &[usize]) -> bool {
    let distinct: BTreeSet<usize> = values.iter().copied().collect();
    distinct.len() == values.len()
}

impl FromStr for Vary {
    type Err = BadVary;

    fn from_str(text: &str) -> std::result::Result<Self, BadVary> {
        let (name, values) = text.split_once('=').ok_or(BadVary)?;
        let mut all = Property::ALL.into_iter();
        let property = all.find(|one| one.to_string() == name.trim());
        let values = values.split(',').map(|value| value.trim().parse());
        let values: Vec<usize> = values
            .collect::<std::result::Result<_, _>>()
            .or(Err(BadVary))?;
        Ok(Self {
            property: property.ok_or(BadVary)?,
            values: Some(values)
                .filter(|all| all.len() <= VALUES_MAX && are_different(all))
                .ok_or(BadVary)?,
        })
    }
}

impl Vary {
    /// Returns a shape for each value, in their order.
    ///
    /// # Errors
    /// [`Error::Config`], naming the flag `--vary`, for a value that can't be carried out, or not with what is fixed.
    pub fn shapes(&self, base: &Shape) -> Result<Vec<Shape>> {
        let with = |&value: &usize| {
            let mut shape = base.clone();
            let field = match self.property {
                Property::Size => &mut shape.payload_bytes,
                Property::Frames => &mut shape.frames,
                Property::Topics => &mut shape.topics,
                Property::Publishers => &mut shape.publishers,
                Property::Connections => &mut shape.connections,
                Property::Lanes => &mut shape.lanes,
                Property::Workers => &mut shape.workers,
                Property::Batch => &mut shape.batch_messages,
            };
            *field = value;
            match shape.check() {
                Ok(()) => Ok(shape),
                Err(Error::Config {
                    key,
                    value: fixed,
                    problem,
                    remedy,
                }) => {
                    let given = format!("{}={value}", self.property);
                    let problem = if key.starts_with(&format!("--{}", self.property)) {
                        problem
                    } else {
                        format!("with {key} = {fixed}, {problem}")
                    };
                    Err(Error::config("--vary", given, problem, remedy))
                }
                Err(other) => Err(other),
            }
        };
        self.values.iter().map(with).collect()
    }
}

/// The runs at one value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point<R> {
    /// The value.
    pub value: usize,
    /// Messages sent in each run, its warm-up included.
    #[serde(default)]
    pub messages: u64,
    /// The runs, in order. Figures over them leave out those that are invalid.
    pub runs: Vec<R>,
}

impl<R: HasVerdict> Point<R> {
    /// Makes one without runs.
    #[must_use]
    pub fn new(value: usize, messages: u64) -> Self {
        Self {
            value,
            messages,
            runs: Vec::new(),
        }
    }

    /// Returns how many of its runs are valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        Validity::of(self.runs.iter().map(HasVerdict::verdict))
    }

    /// Returns the median of the ratios to the runs of another value, round by round.
    fn to(&self, other: &Self, figure: fn(&R) -> f64) -> f64 {
        Spread::of(paired_ratios(&self.runs, &other.runs, figure)).median
    }

    fn spread(&self, figure: fn(&R) -> f64) -> Spread {
        let valid = self.runs.iter().filter(|run| run.verdict().is_ok());
        Spread::of(valid.map(figure))
    }
}

/// What flat-out runs at one value come to. Ratios are medians of those of each round.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FlatOut {
    /// The value.
    pub value: usize,
    /// Messages a second.
    pub msgs_per_s: Spread,
    /// CPU time a message, in nanoseconds.
    pub cpu_ns_per_msg: Spread,
    /// Messages a second to those of the first value.
    pub msgs_per_s_to_first: f64,
    /// CPU time a message to that of the first value.
    pub cpu_ns_per_msg_to_first: f64,
}

/// Sums flat-out runs up, by value.
#[must_use]
pub fn flat_out_figures(points: &[Point<ThroughputRun>]) -> Vec<FlatOut> {
    let sum_up = |point: &Point<ThroughputRun>| FlatOut {
        value: point.value,
        msgs_per_s: point.spread(|run| run.msgs_per_s),
        cpu_ns_per_msg: point.spread(|run| run.cpu_ns_per_msg),
        msgs_per_s_to_first: point.to(&points[0], |run| run.msgs_per_s),
        cpu_ns_per_msg_to_first: point.to(&points[0], |run| run.cpu_ns_per_msg),
    };
    points.iter().map(sum_up).collect()
}

/// What runs at a rate at one value come to. Ratios are medians of those of each round.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AtRate {
    /// The value.
    pub value: usize,
    /// CPU time a message, in nanoseconds.
    pub cpu_ns_per_msg: Spread,
    /// The feed's latency in nanoseconds, in the order of [`Quantiles::NAMES`](crate::latency::Quantiles::NAMES).
    pub feed_ns: [Spread; 6],
    /// Half of the messages take so many times as long as with the first value.
    pub p50_to_first: f64,
}

/// Sums runs at a rate up, by value.
#[must_use]
pub fn at_rate_figures(points: &[Point<LatencyRun>]) -> Vec<AtRate> {
    let sum_up = |point: &Point<LatencyRun>| AtRate {
        value: point.value,
        cpu_ns_per_msg: point.spread(|run| run.cpu_ns_per_msg),
        feed_ns: feed_spread(&point.runs),
        p50_to_first: point.to(&points[0], feed_p50_ns),
    };
    points.iter().map(sum_up).collect()
}

fn feed_p50_ns(run: &LatencyRun) -> f64 {
    let p50 = run.stage(FEED).and_then(|stage| stage.quantiles().p50);
    p50.map_or(f64::NAN, |ns| ns as f64)
}

/// Flat-out runs by value, as a table for people.
#[must_use]
pub fn flat_out_table<'a>(
    property: Property,
    points: &'a [Point<ThroughputRun>],
) -> impl fmt::Display + use<'a> {
    FlatOutTable(property, points)
}

struct FlatOutTable<'a>(Property, &'a [Point<ThroughputRun>]);

impl fmt::Display for FlatOutTable<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(property, points) = self;
        let to = points.first().map_or(0, |first| first.value);
        writeln!(
            out,
            "{:<12}{:>9}{:>19}{:>13}{:>19}  to {property}={to}: msg/s, CPU",
            property.to_string(),
            "msg/s",
            "lowest - highest",
            "CPU ns/msg",
            "lowest - highest"
        )?;
        for (one, point) in flat_out_figures(points).iter().zip(*points) {
            write!(out, "{:<12}", one.value)?;
            write_figures(out, &one.msgs_per_s, &one.cpu_ns_per_msg)?;
            for to_first in [one.msgs_per_s_to_first, one.cpu_ns_per_msg_to_first] {
                write!(out, "{:>8}", ratio(to_first))?;
            }
            end_row(out, point.validity())?;
        }
        Ok(())
    }
}

fn ratio(ratio: f64) -> String {
    known(ratio, |ratio| format!("{ratio:.2}"))
}

/// Runs at a rate by value, as a table for people.
#[must_use]
pub fn at_rate_table<'a>(
    property: Property,
    points: &'a [Point<LatencyRun>],
) -> impl fmt::Display + use<'a> {
    AtRateTable(property, points)
}

struct AtRateTable<'a>(Property, &'a [Point<LatencyRun>]);

impl fmt::Display for AtRateTable<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(property, points) = self;
        let title = property.to_string();
        write!(out, "feed, medians\n{title:<12}{:>13}", "CPU ns/msg")?;
        write_names(out)?;
        let to = points.first().map_or(0, |first| first.value);
        writeln!(out, "  p50 to {property}={to}")?;
        for (one, point) in at_rate_figures(points).iter().zip(*points) {
            let cpu_ns = known(one.cpu_ns_per_msg.median, |ns| format!("{ns:.1}"));
            write!(out, "{:<12}{cpu_ns:>13}", one.value)?;
            for spread in &one.feed_ns {
                write!(out, "{:>10}", known(spread.median, time))?;
            }
            write!(out, "{:>8}", ratio(one.p50_to_first))?;
            end_row(out, point.validity())?;
        }
        Ok(())
    }
}

fn end_row(out: &mut fmt::Formatter<'_>, validity: Validity) -> fmt::Result {
    if validity.valid == validity.runs {
        writeln!(out)
    } else {
        writeln!(out, "  {validity}")
    }
}

/// Flat-out runs as CSV, a line a run.
#[must_use]
pub fn flat_out_csv(property: Property, points: &[Point<ThroughputRun>]) -> String {
    let mut text = format!("{property},run,messages,verdict,elapsed_s,msgs_per_s,cpu_ns_per_msg\n");
    for point in points {
        for (number, run) in (1..).zip(&point.runs) {
            text += &format!(
                "{},{number},{},{},{},{},{}\n",
                point.value,
                point.messages,
                run.verdict.word(),
                run.elapsed_s,
                run.msgs_per_s,
                run.cpu_ns_per_msg
            );
        }
    }
    text
}

/// Runs at a rate as CSV, a line a run and stage, times in nanoseconds.
#[must_use]
pub fn at_rate_csv(property: Property, points: &[Point<LatencyRun>]) -> String {
    let mut text = String::new();
    for point in points {
        let lines = csv(&point.runs);
        let (head, rows) = lines.split_once('\n').unwrap_or_default();
        if text.is_empty() {
            text = format!("{property},{head}\n");
        }
        for row in rows.lines() {
            text += &format!("{},{row}\n", point.value);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Verdict;

    #[test]
    fn what_to_vary_is_read() {
        let vary: Vary = "size=64, 256,1024".parse().unwrap();
        assert_eq!(vary.property, Property::Size);
        assert_eq!(vary.values, [64, 256, 1_024]);
        assert!("size=64,28,64".parse::<Vary>().is_err(), "a value twice");
        for property in Property::ALL {
            let vary: Vary = format!("{property}=1").parse().unwrap();
            assert_eq!(vary.property, property);
            let read: Property = serde_json::from_value(property.to_string().into()).unwrap();
            assert_eq!(read, property);
        }
        for text in [
            "",
            "size",
            "size=",
            "size=1,,2",
            "colour=1",
            "size=-1",
            "size=1k",
        ] {
            let error = text.parse::<Vary>().unwrap_err().to_string();
            assert!(error.contains("size=64,256"), "{text}");
        }
    }

    #[test]
    fn ratios_are_of_valid_runs() {
        let run = |msgs_per_s: f64, verdict: Verdict| ThroughputRun {
            verdict,
            elapsed_s: 1.0,
            msgs_per_s,
            cpu_ns_per_msg: 1e9 / msgs_per_s,
        };
        let failed = Verdict::Failed("it broke".to_owned());
        let points = [
            Point {
                value: 64,
                messages: 20_000,
                runs: vec![run(2e6, Verdict::Ok), run(9e9, failed.clone())],
            },
            Point {
                value: 256,
                messages: 20_000,
                runs: vec![run(1e6, Verdict::Ok), run(1e6, Verdict::Ok)],
            },
            Point {
                value: 1_024,
                messages: 20_000,
                runs: vec![run(5e5, failed)],
            },
        ];
        let figures = flat_out_figures(&points);
        assert_eq!(figures[0].msgs_per_s.highest, 2e6);
        assert_eq!(figures[1].msgs_per_s_to_first, 0.5);
        assert_eq!(figures[1].cpu_ns_per_msg_to_first, 2.0);
        assert!(figures[2].msgs_per_s_to_first.is_nan());
        let table = flat_out_table(Property::Size, &points).to_string();
        assert!(table.contains("INVALID: 1 of 1 runs"), "{table}");
        assert!(table.contains("OK, 1 of 2 runs INVALID"), "{table}");
        let csv = flat_out_csv(Property::Size, &points);
        assert_eq!(csv.lines().count(), 6, "{csv}");
        assert!(csv.contains("\n1024,1,20000,failed,"), "{csv}");
    }
}
