//! The highest rate that holds an objective: doubled until one does not, then halved between the highest
//! that held and the lowest that did not.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    bench::{LatencyRun, Objective, Verdict},
    latency::Quantiles,
    report::{rate, time},
};

/// How near the highest rate that held and the lowest that did not have to come, as a ratio.
pub const NEAR_ENOUGH: f64 = 1.05;
/// The highest rate: schedules count in nanoseconds.
const RATE_MAX: f64 = 1e9;

/// What a step showed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// The run.
    #[serde(flatten)]
    pub run: LatencyRun,
    /// What of the objective it did not hold; empty where it held all.
    pub broken: Vec<String>,
    /// Whether the generator's own lateness alone breaks as much.
    pub by_generator: bool,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SearchEnd {
    /// The subject's limit was found, to 5 %.
    Found,
    /// The generator gave out before the subject did: the limit is its own.
    GeneratorLimit,
    /// Not even the first rate held.
    NothingHeld,
    /// The highest rate there is held.
    RateMax,
}

/// What a search came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// The highest rate that held, in messages a second; null where none did.
    pub highest_msgs_per_s: Option<f64>,
    /// How it ended.
    pub end: SearchEnd,
    /// All steps, in order.
    pub steps: Vec<Step>,
}

/// A search under way.
#[derive(Clone, Debug)]
pub struct Search {
    first: f64,
    steps: Vec<Step>,
    held: Option<f64>,
    broke: Option<f64>,
    generator_gave_out: bool,
}

impl Search {
    /// Begins at a rate.
    #[must_use]
    pub fn new(first: f64) -> Self {
        Self {
            first,
            steps: Vec::new(),
            held: None,
            broke: None,
            generator_gave_out: false,
        }
    }

    /// Returns the rate to try next, or how the search ended.
    ///
    /// # Errors
    /// The end, where there is nothing more to try.
    pub fn next_rate(&self) -> Result<f64, SearchEnd> {
        if self.generator_gave_out {
            return Err(SearchEnd::GeneratorLimit);
        }
        match (self.held, self.broke) {
            (None, None) => Ok(self.first),
            (None, Some(_)) => Err(SearchEnd::NothingHeld),
            (Some(held), None) if held >= RATE_MAX => Err(SearchEnd::RateMax),
            (Some(held), None) => Ok((held * 2.0).min(RATE_MAX)),
            (Some(held), Some(broke)) if broke <= held * NEAR_ENOUGH => Err(SearchEnd::Found),
            (Some(held), Some(broke)) => {
                let rate = f64::midpoint(held, broke).round();
                if rate <= held || rate >= broke {
                    // Nothing whole lies between them.
                    return Err(SearchEnd::Found);
                }
                Ok(rate)
            }
        }
    }

    /// Notes what a run at the next rate showed. One that the generator did not hold, or for which it was
    /// too late by itself, ends the search; one that the subject did not hold breaks any objective.
    pub fn note(&mut self, run: LatencyRun, objective: &Objective) -> &Step {
        let mut broken = objective.broken_by(&run);
        let by_generator = objective.is_broken_by_generator(&run);
        match run.verdict {
            Verdict::Ok => self.generator_gave_out = by_generator,
            Verdict::GeneratorGaveOut(_) => self.generator_gave_out = true,
            Verdict::SubjectGaveOut(_) => broken.insert(0, "rate missed".to_owned()),
        }
        if !self.generator_gave_out {
            let side = if broken.is_empty() {
                &mut self.held
            } else {
                &mut self.broke
            };
            *side = Some(run.rate);
        }
        self.steps.push(Step {
            run,
            broken,
            by_generator,
        });
        &self.steps[self.steps.len() - 1]
    }

    /// Returns the highest rate that held so far, in messages a second.
    #[must_use]
    pub fn highest(&self) -> Option<f64> {
        self.held
    }

    /// Returns all steps, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl fmt::Display for Search {
    /// Writes the curve: the feed's percentiles by rate.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:>8}", "msg/s")?;
        for name in Quantiles::NAMES {
            write!(out, "{name:>10}")?;
        }
        writeln!(out, "  verdict")?;
        let mut steps: Vec<&Step> = self.steps.iter().collect();
        steps.sort_by(|a, b| a.run.rate.total_cmp(&b.run.rate));
        for step in steps {
            write!(out, "{:>8}", rate(step.run.rate))?;
            let feed = step.run.stage("feed").map(|stage| stage.quantiles());
            for value in feed.unwrap_or_default().columns() {
                let shown = value.map_or("-".to_owned(), |ns| time(ns as f64));
                write!(out, "{shown:>10}")?;
            }
            writeln!(out, "  {}", step.verdict())?;
        }
        Ok(())
    }
}

impl Step {
    /// Returns what came of it, for people.
    #[must_use]
    pub fn verdict(&self) -> String {
        match (self.run.verdict, &self.broken[..]) {
            (Verdict::Ok, []) => "holds".to_owned(),
            (Verdict::Ok, broken) if self.by_generator => format!(
                "INVALID: {}: the generator itself was that late",
                broken.join(", ")
            ),
            (Verdict::Ok, broken) => format!("breaks: {}", broken.join(", ")),
            (invalid, _) => invalid.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Stage;

    fn run(rate: f64, feed_ns: u64, verdict: Verdict) -> LatencyRun {
        let mut feed = Stage::empty("feed");
        feed.histogram.record_n(feed_ns, 100_000).unwrap();
        LatencyRun {
            step: String::new(),
            rate,
            verdict,
            due: 100_000,
            published: 100_000,
            elapsed_s: 1.0,
            sent_per_s: rate,
            blocked_s: 0.0,
            received: 100_000,
            lost: Some(0),
            balanced: true,
            cpu_ns_per_msg: 1.0,
            threads: Vec::new(),
            warnings: Vec::new(),
            anomalies: Vec::new(),
            stages: vec![feed],
        }
    }

    fn search(first: f64, limit: f64, generator_limit: f64) -> (Search, SearchEnd) {
        let objective = "p99<1ms,loss=0".parse().unwrap();
        let mut search = Search::new(first);
        loop {
            let rate = match search.next_rate() {
                Ok(rate) => rate,
                Err(end) => return (search, end),
            };
            assert!(search.steps().len() < 60, "{search}");
            let verdict = if rate > generator_limit {
                Verdict::GeneratorGaveOut(0.5)
            } else {
                Verdict::Ok
            };
            let feed_ns = if rate > limit { 2_000_000 } else { 10_000 };
            search.note(run(rate, feed_ns, verdict), &objective);
        }
    }

    #[test]
    fn the_limit_is_found_to_five_percent() {
        for limit in [10_000.0, 123_456.0, 7_000_000.0] {
            let (found, end) = search(10_000.0, limit, 1e9);
            assert_eq!(end, SearchEnd::Found);
            let highest = found.highest().unwrap();
            assert!(
                highest <= limit && highest * NEAR_ENOUGH >= limit,
                "{highest} {limit}"
            );
        }
    }

    #[test]
    fn other_ends_are_told_apart() {
        let (found, end) = search(10_000.0, 1e8, 100_000.0);
        assert_eq!(
            (end, found.highest()),
            (SearchEnd::GeneratorLimit, Some(80_000.0))
        );
        let (found, end) = search(10_000.0, 5_000.0, 1e9);
        assert_eq!((end, found.highest()), (SearchEnd::NothingHeld, None));
        assert_eq!(found.steps()[0].verdict(), "breaks: feed.p99 2.00 ms");
        let (found, end) = search(10_000.0, 1e9, 1e9);
        assert_eq!((end, found.highest()), (SearchEnd::RateMax, Some(1e9)));
    }

    #[test]
    fn a_generator_that_is_late_itself_ends_the_search() {
        let objective = "p99<1ms".parse().unwrap();
        for (late_ns, expected) in [
            (100_000, SearchEnd::NothingHeld),
            (5_000_000, SearchEnd::GeneratorLimit),
        ] {
            let mut run = run(1_000.0, 6_000_000, Verdict::Ok);
            let mut lateness = Stage::empty("lateness");
            lateness.histogram.record_n(late_ns, 100_000).unwrap();
            run.stages.push(lateness);
            let mut search = Search::new(1_000.0);
            search.note(run, &objective);
            assert_eq!(search.next_rate(), Err(expected));
        }
    }
}
