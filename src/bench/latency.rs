//! Runs at a fixed rate, open loop.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{
    bench::{Bench, LatencyRun, Progress, ResultFolder, load::Load},
    error::{Error, Result},
    publish::RATE_MAX,
};

/// The longest run.
pub(super) const LENGTH_MAX: Duration = Duration::from_secs(24 * 3_600);
/// The most runs.
pub(super) const RUNS_MAX: usize = 1_000;

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

pub(super) fn seconds<S: Serializer>(
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
        let load = Load {
            rate: plan.rate,
            due: plan.due(),
            warm_up: plan.warm_up,
            length: plan.length,
            capture: None,
        };
        self.carry(&load, step, folder, progress)
    }
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
