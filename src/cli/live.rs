//! Watching a pipeline until it stops: a line of rates and percentiles a second.

use std::{
    io::{IsTerminal, Write},
    thread,
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{
    clock::{Deadline, SECOND_NS},
    ledger::Totals,
    pipeline::{Outcome, Pipeline},
    report::{count, rate, time},
    worker::Handler,
};

/// How often the pipeline is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How often a line is shown.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Whether to show lines while the pipeline runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// On a terminal: one line, rewritten.
    OnTerminal,
    /// Also elsewhere: a line a second.
    Always,
}

/// Watches a pipeline until it has stopped. `tick` is called some fifty times a second with the
/// ledger, and may request the pipeline to stop.
pub(super) fn watch<H: Handler>(
    mut pipeline: Pipeline<H>,
    show: Show,
    mut tick: impl FnMut(&Totals),
) -> Outcome<H> {
    let on_terminal = std::io::stderr().is_terminal();
    let shown = on_terminal || show == Show::Always;
    let mut next_line = Deadline::after(LINE_EVERY);
    let mut requested = false;
    let mut before = (pipeline.look(), pipeline.now_ns());
    while !pipeline.is_finished() {
        thread::sleep(TICK);
        let totals = pipeline.look();
        tick(&totals);
        if !requested && next_line.passed() {
            next_line = Deadline::after(LINE_EVERY);
            pipeline.request_stages();
            requested = true;
        } else if requested {
            requested = false;
            let now = (totals, pipeline.now_ns());
            let interval = pipeline.collect_stages();
            if shown {
                let elapsed_s = (now.1 - before.1) as f64 / SECOND_NS as f64;
                let per_s = (now.0.received - before.0.received) as f64 / elapsed_s;
                let line = format!(
                    "{} received  {} msg/s  {} under way  queue {}  feed {}",
                    count(totals.received),
                    rate(per_s),
                    count(totals.under_way().max(0) as u64),
                    percentiles(&interval.queue),
                    percentiles(&interval.feed),
                );
                show_line(&line, on_terminal);
            }
            before = now;
        }
    }
    if on_terminal {
        show_line("", true);
    }
    pipeline.finish()
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

fn show_line(line: &str, on_terminal: bool) {
    let mut out = std::io::stderr();
    // Back to the start of the line, and clear it.
    let _ = if on_terminal {
        write!(out, "\r\x1b[2K{line}").and_then(|()| out.flush())
    } else {
        writeln!(out, "{line}")
    };
}
