//! Reads on in the files that the step under way writes anyway: the subject's interval log and that of hiccups.

use std::{collections::VecDeque, path::PathBuf};

use crate::{
    bench::record::{HICCUP_LOG, SUBJECT_LOG},
    cli::tui::{
        bench::model::{Board, Seen, Step},
        model::{HISTORY_MAX, latency},
    },
    latency::{
        Stages,
        log::{FEED, Follower, HANDLER, Interval, QUEUE},
    },
};

/// Shorter intervals, as the last of a step, say nothing of a rate, in seconds.
const RATE_OF_S_MIN: f64 = 0.5;

/// What is being read.
#[derive(Default)]
pub(super) struct Sampler {
    /// The names of the files begin so.
    files: PathBuf,
    subject: Option<Follower>,
    hiccups: Option<Follower>,
    /// Since the step began.
    overall: Stages,
    history: VecDeque<f64>,
    seen: Seen,
}

impl Sampler {
    /// Returns what the step under way has shown so far.
    pub(super) fn look(&mut self, board: &Board) -> &Seen {
        if let Some(step) = &board.step {
            if step.files != self.files {
                self.follow(step);
            }
            self.read();
        }
        &self.seen
    }

    fn follow(&mut self, step: &Step) {
        let file = |end: &str| {
            let mut path = step.files.clone().into_os_string();
            path.push(format!(".{end}"));
            Follower::new(PathBuf::from(path))
        };
        let history = std::mem::take(&mut self.history);
        *self = Self {
            files: step.files.clone(),
            subject: Some(file(SUBJECT_LOG)),
            hiccups: Some(file(HICCUP_LOG)),
            history,
            ..Self::default()
        };
        self.seen.history = self.history.iter().copied().collect();
        self.seen.latency = latency(&Stages::default(), &self.overall);
    }

    fn read(&mut self) {
        // What can't be read is missed here only: the benchmark itself says so.
        let read = |log: &mut Option<Follower>| -> Vec<Interval> {
            let read = log.as_mut().map(Follower::read_on);
            read.and_then(Result::ok).unwrap_or_default()
        };
        let (logged, hiccups) = (read(&mut self.subject), read(&mut self.hiccups));
        // An interval of each stage stands together; of several read at once the last is shown.
        for second in logged.chunk_by(|one, other| one.start_s == other.start_s) {
            let mut interval = Stages::default();
            for one in second {
                match &*one.tag {
                    QUEUE => interval.queue = one.histogram.clone(),
                    HANDLER => interval.handler = one.histogram.clone(),
                    FEED => interval.feed = one.histogram.clone(),
                    _ => {}
                }
            }
            self.overall.merge(&interval);
            self.seen.latency = latency(&interval, &self.overall);
            let length_s = second.first().map_or(0.0, |one| one.duration_s);
            if length_s >= RATE_OF_S_MIN {
                if self.history.len() == HISTORY_MAX {
                    self.history.pop_front();
                }
                self.history
                    .push_back(interval.queue.len() as f64 / length_s);
            }
        }
        if !logged.is_empty() {
            self.seen.history = self.history.iter().copied().collect();
        }
        if let Some(last) = hiccups.last() {
            let together = hiccups.iter().filter(|one| one.start_s == last.start_s);
            let by_core = together.filter_map(|one| {
                let core = one.tag.strip_prefix("hiccup-")?.parse().ok()?;
                Some((core, one.histogram.max()))
            });
            self.seen.hiccups = by_core.collect();
        }
    }
}
