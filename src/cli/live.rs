//! Watching a pipeline until it stops: a line of rates and percentiles a second, and a line for what goes
//! wrong.

use std::{io::IsTerminal, mem, thread, time::Duration};

use hdrhistogram::Histogram;

use crate::{
    cli::{
        histograms::Histograms,
        intervals::{Intervals, Share},
        say,
        series::Series,
        status_line::{self, show_line},
    },
    clock::{Deadline, SECOND_NS},
    flight::{self, FlightRecord},
    latency::Stages,
    ledger::Totals,
    pipeline::{Outcome, Pipeline},
    report::{count, rate, time},
    worker::Handler,
};

/// How often the pipeline is looked at.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// How often a line is shown to those who want them all.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// The most lines of what goes wrong a second; one more may be of what is new.
const ANOMALIES_MAX: u64 = 10;

/// Whether to show lines while the pipeline runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// On a terminal: one line, rewritten. Elsewhere a line every ten seconds, if the run ends by itself.
    OnTerminal,
    /// Also elsewhere: a line a second.
    Always,
    /// Not at all.
    Never,
}

/// When a run ends by itself.
#[derive(Clone, Copy, Default)]
pub(super) struct Ends {
    /// At this moment.
    pub at: Option<Deadline>,
    /// After this many messages.
    pub messages: Option<u64>,
}

impl Ends {
    fn is_known(self) -> bool {
        self.at.is_some() || self.messages.is_some()
    }

    /// Returns how long that takes, with so many messages received and so many a second.
    fn left(self, received: u64, per_s: f64) -> Option<Duration> {
        let missing = self.messages.map(|all| all.saturating_sub(received) as f64);
        let by_messages =
            missing.and_then(|missing| Duration::try_from_secs_f64(missing / per_s).ok());
        let by_time = self.at.map(|at| at.left());
        by_time.into_iter().chain(by_messages).min()
    }
}

/// Watches a pipeline until it has stopped, and writes its histograms to the log, if there is one, interval by
/// interval; and what threads do to `series`. `tick` is called some fifty times a second, with the ledger too, and
/// may request the pipeline to stop. Times recorded within `warm_up` after the first message are forgotten, and not
/// logged.
pub(super) fn watch<H: Handler>(
    mut pipeline: Pipeline<H>,
    (show, ends): (Show, Ends),
    mut warm_up: Option<Duration>,
    histograms: &mut Histograms,
    mut series: Option<Series>,
    mut tick: impl FnMut(&mut Pipeline<H>, &Totals),
) -> Outcome<H> {
    let on_terminal = std::io::stderr().is_terminal() && show != Show::Never;
    let line_every = match show {
        Show::Always => Some(LINE_EVERY),
        Show::OnTerminal => {
            (on_terminal || ends.is_known()).then(|| status_line::every(on_terminal))
        }
        Show::Never => None,
    };
    let mut intervals = Intervals::default();
    let mut lines = line_every.map(Share::new);
    // A log begins when the warm-up is over.
    let share = || histograms.interval().map(Share::new);
    let mut logged = warm_up.is_none().then(share).flatten();
    let mut log = AnomalyLog::default();
    let mut before = (pipeline.look(), pipeline.now_ns());
    while !pipeline.is_finished() {
        // Nothing to wait for: this is the pace at which the pipeline is looked at.
        thread::sleep(TICK);
        let totals = pipeline.look();
        log.say_new(pipeline.flight_record(), pipeline.now_ns());
        if let Some(series) = &mut series {
            series.look(&pipeline);
        }
        tick(&mut pipeline, &totals);
        if let Some(length) = warm_up
            && totals.received > 0
            && pipeline.now_ns() - totals.first_received_ns >= length.as_nanos() as u64
        {
            warm_up = None;
            pipeline.forget_stages();
            logged = histograms.interval().map(Share::new);
        }
        if !intervals.collect(&mut pipeline, lines.iter_mut().chain(&mut logged)) {
            continue;
        }
        if let Some(interval) = lines.as_mut().and_then(Share::take_due) {
            let now = (totals, pipeline.now_ns());
            show_line(&line(before, now, interval.stages, ends), on_terminal);
            before = now;
        }
        if let Some(interval) = logged.as_mut().and_then(Share::take_due) {
            histograms.write(&interval);
        }
    }
    if on_terminal {
        show_line("", true);
    }
    log.say_last(pipeline.flight_record(), pipeline.now_ns());
    if warm_up.is_some() {
        // It ended before its warm-up did.
        pipeline.forget_stages();
        logged = histograms.interval().map(Share::new);
    }
    let outcome = pipeline.finish();
    if let Some(share) = &mut logged {
        histograms.write(&share.take_last(&outcome));
    }
    outcome
}

/// Says what goes wrong, as it does: a few lines a second, so that a bad minute can be read.
#[derive(Default)]
struct AnomalyLog {
    /// The number of the next entry of the record.
    next: u64,
    /// The second that lines are counted in.
    second: u64,
    said: u64,
    unsaid: u64,
    /// Whether there were news in that second.
    has_news: bool,
}

impl AnomalyLog {
    fn say_new(&mut self, record: &FlightRecord, now_ns: u64) {
        if now_ns / SECOND_NS != self.second {
            self.say_unsaid();
            (self.second, self.said, self.has_news) = (now_ns / SECOND_NS, 0, false);
        }
        let (entries, end) = record.entries_from(self.next);
        let first = end - entries.len() as u64;
        self.unsaid += first - self.next;
        self.next = first;
        let concluded = record.take_concluded(self.next);
        // Not before all like it are counted with it.
        let settled = |at_ns: u64| at_ns + flight::MERGE_NS <= now_ns;
        let settled = entries.iter().take_while(|entry| settled(entry.at_ns));
        self.next += settled.clone().count() as u64;
        for entry in concluded.iter().chain(settled) {
            if self.said == ANOMALIES_MAX {
                self.unsaid += 1;
            } else {
                self.said += 1;
                say(format_args!("{entry}"));
            }
        }
        // Once a second, and not before what goes wrong.
        if !self.has_news
            && let Some(news) = record.take_news(now_ns)
        {
            self.has_news = true;
            say(format_args!("{news}"));
        }
    }

    /// Says what is left when nothing more can go wrong.
    fn say_last(&mut self, record: &FlightRecord, now_ns: u64) {
        self.say_new(record, now_ns + SECOND_NS.max(flight::MERGE_NS));
        self.say_unsaid();
    }

    fn say_unsaid(&mut self) {
        let unsaid = mem::take(&mut self.unsaid);
        if unsaid > 0 {
            say(format_args!("{:>12} more anomalies", count(unsaid)));
        }
    }
}

/// What happened between two looks, each with its time.
fn line(before: (Totals, u64), now: (Totals, u64), interval: &Stages, ends: Ends) -> String {
    let (totals, elapsed_s) = (now.0, (now.1 - before.1) as f64 / SECOND_NS as f64);
    let per_s = (totals.received - before.0.received) as f64 / elapsed_s;
    let mut line = format!(
        "{} received  {} msg/s  {} under way",
        count(totals.received),
        rate(per_s),
        count(totals.under_way().unsigned_abs()),
    );
    if let Some(left) = ends.left(totals.received, per_s) {
        line += &format!("  {:.0} s left", left.as_secs_f64());
    }
    if totals.connects == totals.disconnects {
        line += "  not connected";
    }
    if totals.rejected() > 0 {
        line += &format!("  {} rejected", count(totals.rejected()));
    }
    line + &format!(
        "  queue {}  feed {}",
        percentiles(&interval.queue),
        percentiles(&interval.feed)
    )
}

fn percentiles(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return "-".to_owned();
    }
    let at = |quantile| time(histogram.value_at_quantile(quantile) as f64);
    format!(
        "p50 {} p99 {} max {}",
        at(0.5),
        at(0.99),
        time(histogram.max() as f64)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_at_its_time_or_with_its_messages() {
        let seconds = Duration::from_secs;
        assert_eq!(Ends::default().left(5, 1.0), None);
        let mut ends = Ends {
            at: None,
            messages: Some(1_000),
        };
        assert_eq!(ends.left(200, 100.0), Some(seconds(8)));
        assert_eq!(ends.left(2_000, 100.0), Some(seconds(0)));
        assert_eq!(ends.left(200, 0.0), None, "nobody knows");
        ends.at = Some(Deadline::after(seconds(3)));
        assert!(ends.left(200, 100.0) <= Some(seconds(3)));
        assert!(ends.left(990, 100.0) < Some(seconds(1)));
    }
}
