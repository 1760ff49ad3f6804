//! What a rate has to hold: limits on latencies and losses.
//!
//! ```text
//! objective = limit *("," limit)
//! limit     = [stage "."] figure "<" TIME     a latency, of the feed where no stage is named
//!           / "loss=" N                       messages missing, at most
//! stage     = "feed" / "queue" / "handler"
//! figure    = "p" NN ["." N...] / "max"       a percentile, or the longest
//! ```

use std::{fmt, str::FromStr, time::Duration};

use crate::{
    bench::LatencyRun,
    latency::{is_supported, log::LATENESS},
    report::{count, time},
};

const STAGES: [&str; 3] = ["feed", "queue", "handler"];

/// What a rate has to hold: all of its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    text: String,
    limits: Vec<Limit>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq)]
enum Limit {
    Latency {
        stage: &'static str,
        /// The share of messages, in percent; `None` for the longest.
        percentile: Option<f64>,
        below_ns: u64,
    },
    Loss(u64),
}

/// The text is not an objective.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no limit: write pNN[.N]<TIME or max<TIME for the feed's latency, with queue. or handler. in front \
     for theirs, or loss=N, with commas between them, for instance p99.9<1ms,queue.max<500us,loss=0"
)]
pub struct BadObjective(String);

impl FromStr for Objective {
    type Err = BadObjective;

    fn from_str(text: &str) -> Result<Self, BadObjective> {
        let limits = text.split(',').map(|limit| {
            let limit = limit.trim();
            parse(limit).ok_or_else(|| BadObjective(limit.to_owned()))
        });
        Ok(Self {
            limits: limits.collect::<Result<_, _>>()?,
            text: text.to_owned(),
        })
    }
}

fn parse(limit: &str) -> Option<Limit> {
    if let Some(messages) = limit.strip_prefix("loss=") {
        return messages.trim().parse().ok().map(Limit::Loss);
    }
    let (figure, below) = limit.split_once('<')?;
    let (stage, figure) =
        figure
            .trim()
            .split_once('.')
            .map_or(("feed", figure.trim()), |(first, rest)| {
                if STAGES.contains(&first) {
                    (first, rest)
                } else {
                    ("feed", figure.trim())
                }
            });
    let percentile = match figure {
        "max" => None,
        _ => {
            let percentile: f64 = figure.strip_prefix('p')?.parse().ok()?;
            Some(percentile)
                .filter(|percentile| *percentile > 0.0 && *percentile < 100.0)?
                .into()
        }
    };
    let below: Duration = humantime::parse_duration(below.trim()).ok()?;
    Some(Limit::Latency {
        stage: STAGES.into_iter().find(|name| *name == stage)?,
        percentile,
        below_ns: u64::try_from(below.as_nanos()).ok().filter(|ns| *ns > 0)?,
    })
}

impl fmt::Display for Objective {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl Objective {
    /// Returns what a run does not hold, for people; nothing where it holds all.
    #[must_use]
    pub fn broken_by(&self, run: &LatencyRun) -> Vec<String> {
        let broken = |limit: &Limit| limit.broken_by(run);
        self.limits.iter().filter_map(broken).collect()
    }

    /// Tells whether the generator's own lateness breaks each limit that the run breaks: then the run says
    /// nothing about the subject.
    #[must_use]
    pub fn is_broken_by_generator(&self, run: &LatencyRun) -> bool {
        let mut broken = self
            .limits
            .iter()
            .filter(|limit| limit.broken_by(run).is_some());
        let by_generator = |limit: &Limit| match limit {
            Limit::Latency {
                stage: "feed",
                percentile,
                below_ns,
            } => {
                let own = Limit::Latency {
                    stage: LATENESS,
                    percentile: *percentile,
                    below_ns: *below_ns,
                };
                // What it is to blame for is no more than what it was late by.
                let ns = |limit: &Limit| limit.ns(run).unwrap_or(0);
                own.broken_by(run).is_some() && ns(&own) >= ns(limit) / 2
            }
            _ => false,
        };
        broken.clone().next().is_some() && broken.all(by_generator)
    }

    /// Returns the first percentile that so many messages can't tell, as people write it.
    #[must_use]
    pub fn unsupported(&self, messages: u64) -> Option<String> {
        self.limits.iter().find_map(|limit| match limit {
            Limit::Latency {
                percentile: Some(percentile),
                ..
            } if !is_supported(messages, percentile / 100.0) => Some(format!("p{percentile}")),
            _ => None,
        })
    }
}

impl Limit {
    /// Returns the value that is limited, in nanoseconds, of a limit on latency.
    fn ns(&self, run: &LatencyRun) -> Option<u64> {
        let Self::Latency {
            stage, percentile, ..
        } = *self
        else {
            return None;
        };
        let histogram = &run.stage(stage)?.histogram;
        Some(percentile.map_or(histogram.max(), |one| histogram.value_at_percentile(one)))
    }

    fn broken_by(&self, run: &LatencyRun) -> Option<String> {
        match *self {
            Self::Loss(allowed) => {
                let missing = run.missing();
                (missing > allowed).then(|| format!("loss {}", count(missing)))
            }
            Self::Latency {
                stage,
                percentile,
                below_ns,
            } => {
                let histogram = &run.stage(stage)?.histogram;
                let name = percentile.map_or("max".to_owned(), |one| format!("p{one}"));
                let ns = match percentile {
                    None if histogram.is_empty() => {
                        return Some(format!("{stage}.{name}: too few messages"));
                    }
                    None => histogram.max(),
                    Some(percentile) if is_supported(histogram.len(), percentile / 100.0) => {
                        histogram.value_at_percentile(percentile)
                    }
                    Some(_) => return Some(format!("{stage}.{name}: too few messages")),
                };
                (ns >= below_ns).then(|| format!("{stage}.{name} {}", time(ns as f64)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(stage: &'static str, percentile: Option<f64>, below_ns: u64) -> Limit {
        Limit::Latency {
            stage,
            percentile,
            below_ns,
        }
    }

    #[test]
    fn limits_are_read() {
        let objective: Objective = "p99.9<1ms, queue.max<500us,handler.p50<2us,max<1s,loss=3"
            .parse()
            .unwrap();
        assert_eq!(
            objective.limits,
            [
                latency("feed", Some(99.9), 1_000_000),
                latency("queue", None, 500_000),
                latency("handler", Some(50.0), 2_000),
                latency("feed", None, 1_000_000_000),
                Limit::Loss(3),
            ]
        );
        assert_eq!(objective.unsupported(10_000), None);
        assert_eq!(objective.unsupported(9_999).unwrap(), "p99.9");
    }

    #[test]
    fn what_is_no_limit_is_told_the_grammar() {
        for text in [
            "",
            "p99",
            "p99<",
            "p99<1",
            "p100<1ms",
            "p0<1ms",
            "99<1ms",
            "wire.p99<1ms",
            "p99>1ms",
            "loss<1",
            "loss=-1",
            "p99<1ms,,loss=0",
            "p99<0ms",
        ] {
            let error = text.parse::<Objective>().unwrap_err().to_string();
            assert!(error.contains("pNN[.N]<TIME"), "{text}: {error}");
        }
    }
}
