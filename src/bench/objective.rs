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
    latency::{
        SAMPLES_BEYOND_MIN, is_supported,
        log::{FEED, HANDLER, LATENESS, QUEUE},
    },
    report::{count, time},
};

const STAGES: [&str; 3] = [FEED, QUEUE, HANDLER];

/// By how much more messages than a percentile needs are asked for: what came within the warm-up is left out to
/// the batch.
const MARGIN: f64 = 1.25;

/// What a run says of an objective.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What it does not hold, for people.
    pub broken: Vec<String>,
    /// What too few messages tell.
    pub inconclusive: Vec<String>,
    /// Whether the generator's own lateness breaks all that is broken: then the run says nothing about the
    /// subject.
    pub by_generator: bool,
}

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
            .map_or((FEED, figure.trim()), |(first, rest)| {
                if STAGES.contains(&first) {
                    (first, rest)
                } else {
                    (FEED, figure.trim())
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
    /// Holds a run against it.
    #[must_use]
    pub fn judge(&self, run: &LatencyRun) -> Judgement {
        let mut judgement = Judgement::default();
        let mut by_generator = true;
        for limit in &self.limits {
            match limit.judge(run) {
                Judged::Held => {}
                Judged::Unknown(name) => judgement.inconclusive.push(name),
                Judged::Broken(figure) => {
                    judgement.broken.push(figure);
                    by_generator &= limit.is_broken_by_generator(run);
                }
            }
        }
        judgement.by_generator = by_generator && !judgement.broken.is_empty();
        judgement
    }

    /// Tells whether it is content with a loss of so many messages.
    #[must_use]
    pub fn allows_loss(&self, messages: u64) -> bool {
        let allows = |limit: &Limit| matches!(limit, Limit::Loss(allowed) if messages <= *allowed);
        self.limits.iter().any(allows)
    }

    /// Checks that a run with so many messages can tell all of its percentiles, with a quarter to spare.
    ///
    /// # Errors
    /// The first percentile that it can't tell, as people write it, and how many messages it takes.
    pub fn check_messages(&self, messages: u64) -> Result<(), (String, u64)> {
        let needed = |limit: &Limit| match limit {
            Limit::Latency {
                percentile: Some(percentile),
                ..
            } => {
                let beyond = 1.0 - percentile / 100.0;
                // To the nearest first, since 1 - 0.999 is a little more than 0.001.
                let needed = (SAMPLES_BEYOND_MIN / beyond).round() * MARGIN;
                Some((format!("p{percentile}"), needed.ceil() as u64))
            }
            _ => None,
        };
        let mut needed = self.limits.iter().filter_map(needed);
        needed
            .find(|(_, needed)| messages < *needed)
            .map_or(Ok(()), Err)
    }
}

/// What became of a limit.
enum Judged {
    Held,
    /// What was measured.
    Broken(String),
    /// What can't be told.
    Unknown(String),
}

impl Limit {
    /// Returns the value that is limited, in nanoseconds, of a limit on latency that enough messages tell.
    fn ns(&self, run: &LatencyRun) -> Option<u64> {
        let Self::Latency {
            stage, percentile, ..
        } = *self
        else {
            return None;
        };
        let histogram = &run.stage(stage)?.histogram;
        match percentile {
            None => (!histogram.is_empty()).then(|| histogram.max()),
            Some(one) => is_supported(histogram.len(), one / 100.0)
                .then(|| histogram.value_at_percentile(one)),
        }
    }

    fn judge(&self, run: &LatencyRun) -> Judged {
        match *self {
            Self::Loss(allowed) => {
                let missing = run.missing();
                if missing > allowed {
                    Judged::Broken(format!("loss {}", count(missing)))
                } else {
                    Judged::Held
                }
            }
            Self::Latency {
                stage,
                percentile,
                below_ns,
            } => {
                let name = percentile.map_or("max".to_owned(), |one| format!("p{one}"));
                match self.ns(run) {
                    None => Judged::Unknown(format!("{stage}.{name}")),
                    Some(ns) if ns >= below_ns => {
                        Judged::Broken(format!("{stage}.{name} {}", time(ns as f64)))
                    }
                    Some(_) => Judged::Held,
                }
            }
        }
    }

    /// Tells whether the generator's own lateness breaks a limit that the run breaks: then that says nothing
    /// about the subject.
    fn is_broken_by_generator(&self, run: &LatencyRun) -> bool {
        let Self::Latency {
            stage: FEED,
            percentile,
            below_ns,
        } = *self
        else {
            return false;
        };
        let own = Self::Latency {
            stage: LATENESS,
            percentile,
            below_ns,
        };
        // What it is to blame for is no more than what it was late by.
        let ns = |limit: &Self| limit.ns(run).unwrap_or(0);
        ns(&own) >= below_ns && ns(&own) >= ns(self) / 2
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
        assert_eq!(objective.check_messages(12_500), Ok(()));
        assert!(objective.allows_loss(3) && !objective.allows_loss(4));
        assert!(!"p99<1ms".parse::<Objective>().unwrap().allows_loss(1));
        let missing = objective.check_messages(12_499).unwrap_err();
        assert_eq!(missing, ("p99.9".to_owned(), 12_500));
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
