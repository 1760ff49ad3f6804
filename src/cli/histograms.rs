//! The files of histograms that `run` writes: an interval log, and percentiles at the end.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cli::{EXIT_FAILURE, Failure, intervals::Interval, outputs, say},
    latency::{
        Stages,
        log::{FEED, HANDLER, IntervalLog, QUEUE},
        write_percentiles,
    },
};

/// Shorter ones could not be kept to: a worker that is idle hands over what it has within 100 ms.
const INTERVAL_MIN: Duration = Duration::from_millis(200);
const NS_PER_US: f64 = 1e3;
/// Some intervals at least: one of three stages takes up to some 4 KiB.
const LOG_BYTES_MIN: u64 = 16 << 10;

/// Which files of histograms to write.
#[derive(Debug, clap::Args)]
pub(super) struct HistogramFiles {
    /// Write each stage's histogram of every interval to this file, an HdrHistogram interval log (V2) with
    /// the tags queue, handler and feed. Values are nanoseconds, Interval_Max milliseconds. A file that is
    /// there becomes FILE.1
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,

    /// The length of its intervals, at least 200ms
    #[arg(long, value_name = "TIME", requires = "hlog", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    /// Begin a new log file before this one has more bytes, at least 16384; the last nine are kept as FILE.1 to
    /// FILE.9
    #[arg(long, value_name = "BYTES", requires = "hlog", default_value_t = 64 << 20, value_parser = parse_log_size)]
    hlog_max_size: u64,

    /// At the end, write each stage's percentiles to FILE.queue.hgrm, FILE.handler.hgrm and FILE.feed.hgrm, in
    /// microseconds. Files that are there become FILE.queue.hgrm.1 and so on
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(interval) if interval < INTERVAL_MIN => Err("give 200ms or more".to_owned()),
        Ok(interval) => Ok(interval),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_log_size(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(bytes) if bytes >= LOG_BYTES_MIN => Ok(bytes),
        _ => Err(format!("give a number of bytes, {LOG_BYTES_MIN} or more")),
    }
}

impl HistogramFiles {
    /// Opens the files: after the run it would be too late to learn that they can't be written.
    pub(super) fn open(&self) -> Result<Histograms, Failure> {
        let log = self.hlog.as_deref();
        let log = log.map(|path| outputs::log("--hlog", path, self.hlog_max_size));
        let stages = [QUEUE, HANDLER, FEED];
        let percentiles = self.hgrm.as_deref();
        let percentiles =
            percentiles.map(|path| stages.map(|stage| PercentileFile::create(path, stage)));
        Ok(Histograms {
            log: log.transpose()?,
            every: self.interval,
            percentiles: percentiles
                .into_iter()
                .flatten()
                .collect::<Result<_, Failure>>()?,
        })
    }
}

/// The open files; by default none.
#[derive(Default)]
pub(super) struct Histograms {
    log: Option<IntervalLog>,
    every: Duration,
    /// By stage, or none.
    percentiles: Vec<PercentileFile>,
}

impl Histograms {
    /// Returns how often an interval is to be written, if there is a log.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.log.as_ref().map(|_| self.every)
    }

    /// Writes an interval. That it can't be is said once, and stops nothing.
    pub(super) fn write(&mut self, interval: &Interval<'_>) {
        let Some(log) = &mut self.log else { return };
        let (start, length) = (interval.start, interval.length);
        if let Err(error) = log.write(start, length, &interval.stages.tagged()) {
            say(format_args!(
                "warning: {error}; make room or rights for it: the run goes on, and each interval is tried again"
            ));
        }
    }

    /// Writes the percentiles of the whole run.
    pub(super) fn finish(self, stages: &Stages) -> Result<(), Failure> {
        for (file, (_, histogram)) in self.percentiles.into_iter().zip(stages.tagged()) {
            let path = file.path.display().to_string();
            let written = file.write(|out| write_percentiles(out, histogram, NS_PER_US));
            written.map_err(|error| Failure::running(&path, &error))?;
        }
        match self.log {
            Some(log) if log.unwritten() > 0 => Err(Failure {
                exit_code: EXIT_FAILURE,
                message: format!(
                    "{}: {} intervals could not be written; the summary has them",
                    log.path().display(),
                    log.unwritten()
                ),
            }),
            _ => Ok(()),
        }
    }
}

struct PercentileFile {
    path: PathBuf,
    out: BufWriter<File>,
}

impl PercentileFile {
    fn create(path: &Path, stage: &str) -> Result<Self, Failure> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{stage}.hgrm"));
        let path = PathBuf::from(name);
        let out = BufWriter::new(outputs::file("--hgrm", &path)?);
        Ok(Self { path, out })
    }

    fn write(
        mut self,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> io::Result<()> {
        write(&mut self.out)?;
        self.out.flush()
    }
}
