//! A run at a rate: its stages, and what happened over time.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::{
    bench::{LatencyRun, record::Trace},
    findings::{
        heat::HeatMap,
        page::parts::{anomalies, percentile_axes, percentile_line, stage_table},
        plot::{Axis, Line, Marks, Size, heat_map, lines},
        source::LoggedRun,
    },
    latency::log::{FEED, QUEUE},
};

/// Columns and rows a decade of a heat map: beyond this, cells are too small to be seen.
const COLUMNS_MAX: (usize, usize) = (180, 80);
const ROWS_PER_DECADE: (usize, usize) = (10, 6);
/// The most threads on a plot.
const THREADS_MAX: usize = 8;

/// Shows a run of a benchmark.
pub(super) fn run(run: &LatencyRun, trace: &Trace) -> Markup {
    html! {
        (stage_table(&run.stages))
        (over_time(run, trace))
    }
}

/// Shows the interval log of a run.
pub(super) fn logged(log: &LoggedRun) -> Markup {
    let stages = log
        .stages
        .iter()
        .filter(|stage| !stage.histogram.is_empty());
    let stages: Vec<_> = stages.take(THREADS_MAX).collect();
    let histograms: Vec<_> = stages.iter().map(|stage| &stage.histogram).collect();
    let (across, up) = percentile_axes(&histograms);
    let curves: Vec<Line> = stages
        .iter()
        .map(|stage| percentile_line(&stage.name, &stage.histogram))
        .collect();
    html! {
        @if curves.is_empty() {
            p.note { "It holds no samples." }
        } @else {
            (lines("Latency by percentile, stage by stage", &across, &up, &curves))
        }
        (stage_table(&log.stages))
        (latency_over_time(&log.trace, Vec::new()))
    }
}

fn over_time(run: &LatencyRun, trace: &Trace) -> Markup {
    // Anomalies go by the clock of the pipeline, which each row of the series has beside the time of day.
    let started_s = trace.series.first().map(|row| row.time_s - row.up_s);
    let at = |ns: u64| started_s.map(|started_s| started_s + ns as f64 / 1e9);
    let marked = run.anomalies.iter().filter_map(|one| at(one.at_ns));
    let since_s = started_s.map(|started_s| started_s - span(trace).0);
    html! {
        (latency_over_time(trace, marked.collect()))
        p.note { "Time begins with the first thing on record; latencies of the warm-up are left out." }
        @if trace.hiccups.is_empty() {
            p.note { "The platform's hiccups were not measured: bench does it with --hiccups." }
        }
        (threads(trace))
        (anomalies(run, since_s))
    }
}

/// Returns when the first thing on record began, since 1970, and how long all of it took, in seconds.
fn span(trace: &Trace) -> (f64, f64) {
    let intervals = trace.stages.iter().chain(&trace.hiccups);
    let intervals = intervals.map(|one| (one.start_s, one.start_s + one.duration_s));
    let rows = trace.series.iter().map(|row| (row.time_s, row.time_s));
    let ends = intervals.chain(rows);
    let ends = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let (from_s, to_s) = ends.unwrap_or_default();
    (from_s, to_s - from_s)
}

fn latency_over_time(trace: &Trace, anomalies: Vec<f64>) -> Markup {
    let (zero_s, length_s) = span(trace);
    let mut hiccups: BTreeMap<u64, (f64, f64, u64)> = BTreeMap::new();
    for one in &trace.hiccups {
        // Cores are logged together.
        let (from_s, to_s) = (one.start_s, one.start_s + one.duration_s);
        let worst = hiccups
            .entry((from_s * 1e3) as u64)
            .or_insert((from_s, to_s, 0));
        worst.2 = worst.2.max(one.histogram.max());
    }
    // What lies beyond the logs has no place between them.
    let logged = zero_s..=zero_s + length_s;
    let marks = Marks {
        zero_s,
        length_s,
        hiccups: hiccups.into_values().collect(),
        anomalies: anomalies
            .into_iter()
            .filter(|at| logged.contains(at))
            .collect(),
    };
    // Where publishers stamp no messages, there is no feed.
    let holds = |tag: &str| {
        let mut tagged = trace.stages.iter().filter(|one| one.tag == tag);
        tagged.any(|one| !one.histogram.is_empty())
    };
    let first = trace.stages.first().map_or("", |one| one.tag.as_str());
    let tag = [FEED, QUEUE]
        .into_iter()
        .find(|tag| holds(tag))
        .unwrap_or(first);
    heat_map(
        &format!("Latency over time: {tag}"),
        &marks,
        |size: Size| {
            let columns = size.pick(COLUMNS_MAX.0, COLUMNS_MAX.1);
            let rows = size.pick(ROWS_PER_DECADE.0, ROWS_PER_DECADE.1);
            HeatMap::of(&trace.stages, tag, columns, rows)
        },
    )
}

/// Shows the CPU time of threads, and what waited for workers.
fn threads(trace: &Trace) -> Markup {
    if trace.series.is_empty() {
        return html! { p.note { "It ended before its threads were looked at, a second after its start." } };
    }
    let (zero_s, length_s) = span(trace);
    // Threads of one name are shown as one, by the millisecond.
    let mut cpu: BTreeMap<&str, BTreeMap<u64, f64>> = BTreeMap::new();
    let mut queues = cpu.clone();
    for row in &trace.series {
        let at = ((row.time_s - zero_s) * 1e3) as u64;
        *cpu.entry(&row.thread).or_default().entry(at).or_default() += row.cpu_share * 100.0;
        if let Some(batches) = row.batches {
            *queues
                .entry(&row.thread)
                .or_default()
                .entry(at)
                .or_default() += batches as f64;
        }
    }
    let across = Axis::seconds("time", length_s);
    let plot = |title: &str, up: &str, unit, least: f64, by_thread| {
        let busiest = busiest(by_thread);
        let places = busiest.iter().flat_map(|line| &line.places);
        let highest = places.map(|place| place.1).fold(least, f64::max);
        lines(title, &across, &Axis::number(up, highest, unit), &busiest)
    };
    html! {
        (plot("CPU time of the subject's threads", "share of a core", " %", 100.0, cpu))
        (plot("Batches waiting for each worker, once a second", "batches", "", 4.0, queues))
    }
}

/// Returns the lines with the most in them, in the order of their names.
fn busiest(by_name: BTreeMap<&str, BTreeMap<u64, f64>>) -> Vec<Line> {
    let mut all: Vec<(f64, Line)> = by_name
        .into_iter()
        .map(|(name, places)| {
            let sum = places.values().sum();
            let places = places
                .into_iter()
                .map(|(ms, value)| (ms as f64 / 1e3, value));
            (sum, Line::new(name, places.collect()))
        })
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.truncate(THREADS_MAX);
    all.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    all.into_iter().map(|(_, line)| line).collect()
}
