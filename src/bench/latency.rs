//! Runs at a fixed rate, open loop.

use std::{path::Path, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    bench::{
        Bench, LatencyRun, Progress, ResultFolder, Stage,
        generator::{self, Pace},
        hiccups::HiccupLog,
        measured::warnings,
        record::{GENERATOR_LOG, HICCUP_LOG, SERIES, SUBJECT_LOG},
        subject::{self, Order},
        verdict::Held,
    },
    clock::Deadline,
    error::{Error, Result},
    latency::log::{self, FEED, HANDLER, LATENESS, QUEUE},
    publish::Published,
};

/// The highest rate: schedules count in nanoseconds.
const RATE_MAX: f64 = 1e9;
/// The longest run.
const LENGTH_MAX: Duration = Duration::from_secs(24 * 3_600);
/// The most runs.
const RUNS_MAX: usize = 1_000;
/// How much longer than due the generator may take, as a share and at least.
const SLACK: f64 = 0.05;
const SLACK_MIN: Duration = Duration::from_millis(100);
/// How long the subject may take to start and connect.
const START_LIMIT: Duration = Duration::from_secs(15);
/// How often the two sides are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long to wait, once all is sent, for what is under way.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LatencyPlan {
    /// Messages a second.
    pub rate: f64,
    /// How long each run is measured for.
    #[serde(rename = "length_s", serialize_with = "seconds")]
    pub length: Duration,
    /// How long messages flow before that.
    #[serde(rename = "warm_up_s", serialize_with = "seconds")]
    pub warm_up: Duration,
    /// How many runs.
    pub runs: usize,
}

fn seconds<S: Serializer>(
    length: &Duration,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_f64(length.as_secs_f64())
}

impl LatencyPlan {
    /// Checks that it can be carried out.
    ///
    /// # Errors
    /// [`Error::Config`], naming the flag.
    pub fn check(&self) -> Result<()> {
        let refuse = |flag: &str, value: String, remedy: &str| {
            Err(Error::config(flag, value, "it is out of range", remedy))
        };
        let time = |length| humantime::format_duration(length).to_string();
        if !(self.rate > 0.0 && self.rate <= RATE_MAX) {
            let remedy = "give a number of messages a second above 0, up to 1000000000";
            return refuse("--rate", self.rate.to_string(), remedy);
        }
        if self.length.is_zero() || self.length > LENGTH_MAX {
            return refuse(
                "--for",
                time(self.length),
                "give a time above 0, up to 1day",
            );
        }
        if self.warm_up > LENGTH_MAX {
            return refuse("--warm-up", time(self.warm_up), "give a time up to 1day");
        }
        if self.due() == 0 {
            let remedy = "give a time or a rate in which messages are due";
            return refuse("--for", time(self.length), remedy);
        }
        if self.runs == 0 || self.runs > RUNS_MAX {
            return refuse("--runs", self.runs.to_string(), "give 1 to 1000");
        }
        Ok(())
    }

    /// Returns how many messages are due in a run, warm-up included.
    #[must_use]
    pub fn due(&self) -> u64 {
        (self.rate * (self.warm_up + self.length).as_secs_f64()).round() as u64
    }

    /// Returns about how long a run takes.
    #[must_use]
    pub fn run_takes(&self) -> Duration {
        self.warm_up + self.length + Duration::from_secs(1)
    }
}

impl Bench {
    /// Runs once at the plan's rate, and leaves the logs and percentiles of `step` in the folder.
    ///
    /// # Errors
    /// [`Error::Config`] for a plan that can't be carried out, [`Error::Helper`] where a process fails,
    /// [`Error::Stopped`], [`Error::File`].
    pub fn latency(
        &self,
        plan: &LatencyPlan,
        step: &str,
        folder: &ResultFolder,
        progress: &mut dyn Progress,
    ) -> Result<LatencyRun> {
        plan.check()?;
        self.shape.check()?;
        let due = plan.due();
        let length = plan.warm_up + plan.length;
        let limit = length + length.mul_f64(SLACK).max(SLACK_MIN);
        let file = |end: &str| folder.path(&format!("{step}.{end}"));
        let (late_log, wait_log) = (file(GENERATOR_LOG), file(SUBJECT_LOG));
        let (hiccup_log, series) = (file(HICCUP_LOG), file(SERIES));
        let pace = Pace {
            rate: Some(plan.rate),
            messages: due,
            limit: Some(limit),
            log: Some(late_log.clone()),
        };
        let mut hiccups = self
            .hiccups
            .then(|| HiccupLog::start(&self.cores.all(), &hiccup_log))
            .transpose()?;
        let (mut generator, endpoint) = generator::start(self, &pace)?;
        let order = Order {
            endpoint: &endpoint,
            messages: due,
            warm_up: plan.warm_up,
            limit: limit + 4 * START_LIMIT,
            log: Some(&wait_log),
            series: Some(&series),
        };
        let mut subject = subject::start(self, &order)?;
        progress.begin(step, plan.run_takes(), generator.id(), subject.id());
        let deadline = Deadline::after(START_LIMIT + limit + ARRIVAL_LIMIT);
        while !generator.wait(LOOK_EVERY, &self.stop)? && !deadline.passed() {
            // Without a subject it would wait for one.
            subject.check()?;
            hiccups.iter_mut().try_for_each(HiccupLog::look)?;
            let after = START_LIMIT + ARRIVAL_LIMIT + (limit - length);
            progress.left(step, deadline.left().saturating_sub(after));
        }
        // It says so when all is in the kernel's hands. A subject that takes no more makes it wait.
        let published: Published = generator.conclude(&self.stop)?;
        subject.wait(ARRIVAL_LIMIT, &self.stop)?;
        let summary: subject::Summary = subject.conclude(&self.stop)?;
        let held = Held {
            rate: plan.rate,
            due,
            published: published.published,
            received: summary.received,
            elapsed_s: published.elapsed_s,
            blocked_s: published.blocked_s,
        };
        let mut stages = vec![
            read(&wait_log, FEED)?,
            read(&wait_log, QUEUE)?,
            read(&wait_log, HANDLER)?,
            read(&late_log, LATENESS)?,
        ];
        for tag in hiccups
            .map(HiccupLog::stop)
            .transpose()?
            .into_iter()
            .flatten()
        {
            stages.push(read(&hiccup_log, &tag)?);
        }
        for stage in &stages {
            folder.write_percentiles(&format!("{step}.{}.hgrm", stage.name), &stage.histogram)?;
        }
        Ok(LatencyRun {
            step: step.to_owned(),
            rate: plan.rate,
            verdict: held.verdict(),
            due,
            published: published.published,
            elapsed_s: published.elapsed_s,
            sent_per_s: held.sent_per_s(),
            blocked_s: published.blocked_s,
            received: summary.received,
            lost: summary.lost,
            balanced: summary.balanced,
            cpu_ns_per_msg: summary.cpu_ns_per_msg,
            threads: summary.threads,
            warnings: warnings(&stages),
            anomalies: summary.anomalies,
            stages,
        })
    }
}

/// Reads all intervals of a log with a tag.
fn read(path: &Path, tag: &str) -> Result<Stage> {
    let mut stage = Stage::empty(tag);
    for interval in log::read(path)? {
        if interval.tag == tag {
            stage.add(&interval.histogram);
        }
    }
    Ok(stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_that_make_no_sense_are_refused_by_flag() {
        let good = LatencyPlan {
            rate: 1_000.0,
            length: Duration::from_secs(1),
            warm_up: Duration::ZERO,
            runs: 1,
        };
        assert!(good.check().is_ok());
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e10] {
            let error = LatencyPlan { rate, ..good }.check().unwrap_err();
            assert!(error.to_string().starts_with("--rate = "), "{error}");
        }
        let error = LatencyPlan { runs: 0, ..good }.check().unwrap_err();
        assert!(error.to_string().starts_with("--runs = 0: "), "{error}");
        for (rate, length) in [(1.0, Duration::ZERO), (0.01, Duration::from_secs(1))] {
            let error = LatencyPlan {
                rate,
                length,
                ..good
            }
            .check()
            .unwrap_err();
            assert!(error.to_string().starts_with("--for = "), "{error}");
        }
    }
}
