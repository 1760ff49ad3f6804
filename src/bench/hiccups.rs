//! The platform's hiccups during a run, logged second by second.

use std::{path::Path, time::Duration};

use crate::{
    clock::{SECOND_NS, Stopwatch, wall_ns},
    error::Result,
    latency::{Hiccups, log::IntervalLog},
};

/// Hiccups being measured, and the log that they go to: a tag `hiccup-N` for core N.
pub(super) struct HiccupLog {
    hiccups: Hiccups,
    log: IntervalLog,
    /// Since the interval under way began, and when that was, since 1970.
    watch: Stopwatch,
    start: Duration,
}

impl HiccupLog {
    pub(super) fn start(cores: &[usize], path: &Path) -> Result<Self> {
        Ok(Self {
            log: IntervalLog::create(path, u64::MAX)?,
            hiccups: Hiccups::start(cores)?,
            watch: Stopwatch::start(),
            start: Duration::from_nanos(wall_ns()),
        })
    }

    /// Writes an interval if a second has passed.
    pub(super) fn look(&mut self) -> Result<()> {
        if self.watch.elapsed_ns() < SECOND_NS {
            return Ok(());
        }
        let collected = self.hiccups.collect();
        self.write(collected).map(drop)
    }

    /// Ends the measurement, and returns the tags of the log.
    pub(super) fn stop(mut self) -> Result<Vec<String>> {
        self.hiccups.end();
        let collected = self.hiccups.collect();
        self.write(collected)
    }

    fn write(
        &mut self,
        collected: Vec<(usize, hdrhistogram::Histogram<u64>)>,
    ) -> Result<Vec<String>> {
        let length = Duration::from_nanos(self.watch.elapsed_ns());
        let tags: Vec<String> = collected
            .iter()
            .map(|(core, _)| format!("hiccup-{core}"))
            .collect();
        let tagged: Vec<_> = tags
            .iter()
            .zip(&collected)
            .map(|(tag, (_, histogram))| (tag.as_str(), histogram))
            .collect();
        self.log.write(self.start, length, &tagged)?;
        (self.watch, self.start) = (Stopwatch::start(), Duration::from_nanos(wall_ns()));
        Ok(tags)
    }
}
