//! The highest rate that holds an objective: doubled until one does not, then halved between the highest
//! that held and the lowest that did not.
//!
//! A run that does not hold is repeated, and the majority decides; so is one that says nothing of the subject, since
//! the generator was late or a process failed. Where none of the repetitions says anything the rate is out of reach,
//! and the search goes on below it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    bench::{
        LatencyRun, Objective, Step, Tells, Tries,
        measured::{write_feed, write_names},
        verdicts,
    },
    publish::RATE_MAX,
    report::rate,
};

/// How near the highest rate that held and the lowest that did not have to come, as a ratio.
pub const NEAR_ENOUGH: f64 = 1.05;

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SearchEnd {
    /// The subject's limit was found, to 5 %.
    Found,
    /// The generator gave out before the subject did, however often it was tried: the limit is its own.
    GeneratorLimit,
    /// Runs above what held say nothing, however often they were tried: too few messages came, or a process
    /// failed.
    Inconclusive,
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
    /// The lowest rate at which no run said anything, and what that makes of the search.
    out_of_reach: Option<(f64, SearchEnd)>,
    /// At the last rate, until they decide.
    tries: Tries,
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
            out_of_reach: None,
            tries: Tries::default(),
        }
    }

    /// Returns the rate to try next, or how the search ended.
    ///
    /// # Errors
    /// The end, where there is nothing more to try.
    pub fn next_rate(&self) -> Result<f64, SearchEnd> {
        if let (Some(last), false) = (self.steps.last(), self.tries.is_empty()) {
            return Ok(last.run.rate);
        }
        let found = if self.held.is_some() {
            SearchEnd::Found
        } else {
            SearchEnd::NothingHeld
        };
        let broke = self.broke.map(|rate| (rate, found));
        let ends = broke.into_iter().chain(self.out_of_reach);
        let above = ends.min_by(|one, other| one.0.total_cmp(&other.0));
        match (self.held, above) {
            (None, None) => Ok(self.first),
            (None, Some((_, end))) => Err(end),
            (Some(held), None) if held >= RATE_MAX => Err(SearchEnd::RateMax),
            (Some(held), None) => Ok((held * 2.0).min(RATE_MAX)),
            (Some(held), Some((above, end))) => {
                let rate = f64::midpoint(held, above).round();
                // Near enough, or nothing whole lies between them.
                if above <= held * NEAR_ENOUGH || rate <= held || rate >= above {
                    return Err(end);
                }
                Ok(rate)
            }
        }
    }

    /// Notes what a run at the next rate showed.
    pub fn note(&mut self, run: LatencyRun, objective: &Objective) -> &Step {
        let step = Step::new(run, objective);
        let rate = step.run.rate;
        self.tries.note(step.tells());
        if let Some(told) = self.tries.decided() {
            self.tries = Tries::default();
            match told {
                Tells::Holds => self.held = Some(rate),
                Tells::Breaks => self.broke = Some(rate),
                Tells::GeneratorLimit => {
                    self.out_of_reach = Some((rate, SearchEnd::GeneratorLimit));
                }
                Tells::Nothing => self.out_of_reach = Some((rate, SearchEnd::Inconclusive)),
            }
        }
        self.steps.push(step);
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

    /// Returns how many steps are to come, if the next rate breaks the objective and none has to be repeated.
    #[must_use]
    pub fn steps_left_min(&self) -> u32 {
        let mut left = self.clone();
        left.tries = Tries::default();
        let mut steps = 0;
        while let Ok(rate) = left.next_rate() {
            match left.held {
                // Halfway at worst.
                Some(_) if left.broke.is_some() => left.held = Some(rate),
                _ => left.broke = Some(rate),
            }
            steps += 1;
        }
        steps
    }
}

/// Returns the steps of a search by rate, the lowest first, each with its verdict: what those at the same rate come to
/// is in the last of them.
#[must_use]
pub fn curve(steps: &[Step]) -> Vec<(&Step, String)> {
    let mut by_rate: Vec<(f64, &Step)> = steps.iter().map(|step| (step.run.rate, step)).collect();
    by_rate.sort_by(|a, b| a.0.total_cmp(&b.0));
    let verdicts = verdicts(&by_rate);
    by_rate.into_iter().map(|one| one.1).zip(verdicts).collect()
}

impl fmt::Display for Search {
    /// Writes the curve: the feed's percentiles by rate.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:>8}", "msg/s")?;
        write_names(out)?;
        writeln!(out, "  verdict")?;
        for (step, verdict) in curve(&self.steps) {
            write!(out, "{:>8}", rate(step.run.rate))?;
            write_feed(out, &step.run)?;
            writeln!(out, "  {verdict}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{REPEATS_MAX, Stage, Verdict};

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
        assert_eq!(end, SearchEnd::GeneratorLimit);
        let highest = found.highest().unwrap();
        assert!(
            highest <= 100_000.0 && highest * NEAR_ENOUGH >= 100_000.0,
            "it closes in below the generator's limit: {highest}"
        );
        let (found, end) = search(10_000.0, 90_000.0, 130_000.0);
        assert_eq!(end, SearchEnd::Found, "{found}");
        let (found, end) = search(10_000.0, 5_000.0, 1e9);
        assert_eq!((end, found.highest()), (SearchEnd::NothingHeld, None));
        assert_eq!(found.steps()[0].verdict(), "breaks: feed.p99 2.00 ms");
        let (found, end) = search(10_000.0, 1e9, 1e9);
        assert_eq!((end, found.highest()), (SearchEnd::RateMax, Some(1e9)));
    }

    #[test]
    fn a_generator_that_is_late_itself_is_tried_again() {
        let objective = "p99<1ms".parse().unwrap();
        let late_by = |late_ns| {
            let mut run = run(1_000.0, 6_000_000, Verdict::Ok);
            let mut lateness = Stage::empty("lateness");
            lateness.histogram.record_n(late_ns, 100_000).unwrap();
            run.stages.push(lateness);
            run
        };
        let mut search = Search::new(1_000.0);
        for _ in 0..2 {
            assert_eq!(search.next_rate(), Ok(1_000.0));
            search.note(late_by(100_000), &objective);
        }
        assert_eq!(search.next_rate(), Err(SearchEnd::NothingHeld));

        let mut search = Search::new(1_000.0);
        for _ in 0..=REPEATS_MAX {
            assert_eq!(search.next_rate(), Ok(1_000.0));
            search.note(late_by(5_000_000), &objective);
        }
        assert_eq!(search.next_rate(), Err(SearchEnd::GeneratorLimit));

        let mut search = Search::new(1_000.0);
        search.note(late_by(5_000_000), &objective);
        search.note(run(1_000.0, 10_000, Verdict::Ok), &objective);
        assert_eq!(search.next_rate(), Ok(2_000.0), "once was chance");
    }

    #[test]
    fn one_bad_run_decides_nothing() {
        let objective = "p99<1ms".parse().unwrap();
        let mut search = Search::new(1_000.0);
        for feed_ns in [2_000_000, 10_000, 10_000] {
            assert_eq!(search.next_rate(), Ok(1_000.0));
            search.note(run(1_000.0, feed_ns, Verdict::Ok), &objective);
        }
        assert_eq!(search.highest(), Some(1_000.0));
        for feed_ns in [3_000_000, 10_000, 4_000_000] {
            assert_eq!(search.next_rate(), Ok(2_000.0));
            search.note(run(2_000.0, feed_ns, Verdict::Ok), &objective);
        }
        assert_eq!(search.next_rate(), Ok(1_500.0));
        let shown = search.to_string();
        let lines: Vec<&str> = shown.lines().collect();
        for (line, end) in [
            (1, "breaks: feed.p99 2.00 ms (run 1 of 3)"),
            (3, "holds (run 3 of 3: holds by 2 to 1)"),
            (5, "holds (run 2 of 3)"),
            (6, "breaks: feed.p99 4.00 ms (run 3 of 3: breaks by 2 to 1)"),
        ] {
            assert!(lines[line].ends_with(end), "{shown}");
        }
    }

    #[test]
    fn what_is_left_is_counted() {
        let objective = "p99<1ms".parse().unwrap();
        let mut search = Search::new(1_000.0);
        assert_eq!(search.steps_left_min(), 1);
        search.note(run(1_000.0, 10_000, Verdict::Ok), &objective);
        // 2,000, then between: 1,500, 1,750, 1,875, 1,938.
        assert_eq!(search.steps_left_min(), 5);
    }

    #[test]
    fn too_few_messages_and_processes_that_fail_break_nothing() {
        let objective = "p99.9999<1ms".parse().unwrap();
        let failed = Verdict::Failed("the subject ended with exit status: 1".to_owned());
        for verdict in [Verdict::Ok, failed] {
            let mut search = Search::new(1_000.0);
            while let Ok(rate) = search.next_rate() {
                search.note(run(rate, 10_000, verdict.clone()), &objective);
            }
            assert_eq!(search.next_rate(), Err(SearchEnd::Inconclusive));
            assert_eq!(search.steps().len(), 1 + REPEATS_MAX);
            assert!(search.steps()[0].broken.is_empty());
        }
    }
}
