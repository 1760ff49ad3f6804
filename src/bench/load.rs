//! One run at a rate, open loop: what is sent, and what the subject makes of it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    bench::{
        Bench, LatencyRun, Progress, ResultFolder, Stage, Verdict,
        generator::{self, Pace},
        hiccups::HiccupLog,
        measured::warnings,
        record::{GENERATOR_LOG, HICCUP_LOG, SERIES, SUBJECT_LOG},
        subject::{self, Order},
        verdict::Held,
    },
    clock::Deadline,
    error::Result,
    latency::log::{self, FEED, HANDLER, LATENESS, QUEUE},
    publish::Published,
};

/// How much longer than due the generator may take, as a share and at least.
const SLACK: f64 = 0.05;
const SLACK_MIN: Duration = Duration::from_millis(100);
/// How long the subject may take to start and connect.
const START_LIMIT: Duration = Duration::from_secs(15);
/// How often the two sides are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long to wait, once all is sent, for what is under way.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(2);

/// What is sent in a run.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Messages a second, on average.
    pub rate: f64,
    /// Messages that are due, warm-up included.
    pub due: u64,
    /// How long messages flow before what is measured.
    pub warm_up: Duration,
    /// How long is measured.
    pub length: Duration,
    /// The capture that says what is sent when, and how many times as fast as it was captured; without it
    /// messages come at equal distances.
    pub capture: Option<(PathBuf, f64)>,
}

impl Load {
    /// Returns about how long a run takes.
    pub(super) fn takes(&self) -> Duration {
        self.warm_up + self.length + Duration::from_secs(1)
    }
}

impl Bench {
    /// Carries a load once, and leaves the logs and percentiles of `step` in the folder.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a shape that can't be carried out,
    /// [`Error::Helper`](crate::Error::Helper) where a process fails without a result,
    /// [`Error::Stopped`](crate::Error::Stopped), [`Error::File`](crate::Error::File).
    pub(super) fn carry(
        &self,
        load: &Load,
        step: &str,
        folder: &ResultFolder,
        progress: &mut dyn Progress,
    ) -> Result<LatencyRun> {
        self.shape.check_at_rate()?;
        let length = load.warm_up + load.length;
        let limit = length + length.mul_f64(SLACK).max(SLACK_MIN);
        let file = |end: &str| folder.path(&format!("{step}.{end}"));
        let (late_log, wait_log) = (file(GENERATOR_LOG), file(SUBJECT_LOG));
        let (hiccup_log, series) = (file(HICCUP_LOG), file(SERIES));
        let pace = Pace {
            rate: Some(load.rate),
            messages: load.due,
            capture: load.capture.clone(),
            warm_up: load.warm_up,
            limit: Some(limit),
            log: Some(late_log.clone()),
        };
        let mut hiccups = self
            .hiccups
            .then(|| HiccupLog::start(&self.cores.all(), &hiccup_log))
            .transpose()?;
        let (mut generator, endpoints) = generator::start(self, &pace, 0)?;
        let order = Order {
            endpoints: &endpoints,
            messages: load.due,
            warm_up: load.warm_up,
            limit: limit + 4 * START_LIMIT,
            log: Some(&wait_log),
            series: Some(&series),
        };
        let mut subject = subject::start(self, &order)?;
        progress.begin(step, load.takes(), &[generator.id()], subject.id());
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
        // The generator goes after the last subscriber.
        let problems = [
            summary.problem(),
            subject.end(&self.stop)?,
            generator.end(&self.stop)?,
        ];
        let problems: Vec<String> = problems.into_iter().flatten().collect();
        let held = Held {
            rate: load.rate,
            due: load.due,
            published: published.published,
            received: summary.received,
            lost: summary.lost.unwrap_or(0),
            elapsed_s: published.elapsed_s,
            blocked_s: published.blocked_s,
        };
        let mut stages = read(&wait_log, &[FEED, QUEUE, HANDLER])?;
        stages.extend(read(&late_log, &[LATENESS])?);
        if let Some(tags) = hiccups.map(HiccupLog::stop).transpose()? {
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            stages.extend(read(&hiccup_log, &tags)?);
        }
        for stage in &stages {
            folder.write_percentiles(&format!("{step}.{}.hgrm", stage.name), &stage.histogram)?;
        }
        Ok(LatencyRun {
            step: step.to_owned(),
            rate: load.rate,
            verdict: if problems.is_empty() {
                held.verdict()
            } else {
                Verdict::Failed(problems.join("; "))
            },
            due: load.due,
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

/// Reads all intervals of a log with each of these tags.
fn read(path: &Path, tags: &[&str]) -> Result<Vec<Stage>> {
    let mut stages: Vec<Stage> = tags.iter().map(|tag| Stage::empty(tag)).collect();
    for interval in log::read(path)? {
        if let Some(stage) = stages.iter_mut().find(|stage| stage.name == interval.tag) {
            stage.add(&interval.histogram);
        }
    }
    Ok(stages)
}
