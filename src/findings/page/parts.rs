//! What several parts of a page are made of.

use hdrhistogram::Histogram;
use maud::{Markup, html};

use crate::{
    bench::{LatencyRun, Stage, Validity},
    findings::plot::{Axis, Line, lines, percentile_place},
    latency::{Quantiles, is_supported, log::FEED},
    report::{count, rate, time},
};

/// The most curves on a plot.
pub(super) const CURVES_MAX: usize = 8;
/// Nines between two points of a percentile curve.
const STEP: f64 = 0.02;
/// More rows would be a data file, not a page.
const ANOMALIES_MAX: usize = 30;

pub(super) fn badge(is_ok: bool) -> Markup {
    html! {
        @if is_ok { span.badge.ok { "OK" } } @else { span.badge.bad { "INVALID" } }
    }
}

/// Shows whether any of several runs is valid, and how many are not.
pub(super) fn validity(validity: Validity) -> Markup {
    let Validity { runs, valid } = validity;
    html! {
        (badge(valid > 0))
        @if valid > 0 && valid < runs { " " (runs - valid) " INVALID left out" }
    }
}

/// Returns messages a second, or - where there are none.
pub(super) fn rate_or_none(per_s: f64) -> String {
    if per_s.is_nan() {
        return "-".to_owned();
    }
    rate(per_s)
}

/// Returns what the runs' feed stages hold together.
pub(super) fn merged<'a>(runs: impl Iterator<Item = &'a LatencyRun>) -> Option<Stage> {
    let mut stages = runs.filter_map(|run| run.stage(FEED));
    let mut all = stages.next()?.clone();
    for stage in stages {
        all.add(&stage.histogram);
    }
    Some(all)
}

/// Shows curves of feed latency, as many as a plot holds.
pub(super) fn curves(named: &[(String, Option<&Stage>)]) -> Markup {
    let stages = named.iter().filter_map(|(name, stage)| {
        let histogram = &(*stage)?.histogram;
        (!histogram.is_empty()).then_some((name, histogram))
    });
    let stages: Vec<_> = stages.take(CURVES_MAX).collect();
    if stages.is_empty() {
        return html! { p.note { "No feed latency was recorded." } };
    }
    let histograms: Vec<_> = stages.iter().map(|stage| stage.1).collect();
    let (across, up) = percentile_axes(&histograms);
    let curves: Vec<Line> = stages
        .iter()
        .map(|(name, histogram)| percentile_line(name, histogram))
        .collect();
    html! { (lines("Feed latency by percentile", &across, &up, &curves)) }
}

/// Shows what is to be known before runs are believed.
pub(super) fn warnings(named: &[(String, &LatencyRun)]) -> Markup {
    html! {
        @for (name, run) in named {
            @for warning in &run.warnings { p.warning { (name) ": " (warning) } }
        }
    }
}

/// Returns axes that hold the curves of all histograms.
pub(super) fn percentile_axes(histograms: &[&Histogram<u64>]) -> (Axis, Axis) {
    let samples = histograms.iter().map(|one| one.len()).max().unwrap_or(0);
    let curves = histograms
        .iter()
        .map(|histogram| percentile_line("", histogram));
    let curves: Vec<Line> = curves.collect();
    (Axis::percentiles(samples), Axis::around("latency", &curves))
}

/// Returns the curve from the median to the last percentile that enough samples lie beyond.
pub(super) fn percentile_line(name: &str, histogram: &Histogram<u64>) -> Line {
    let mut places = Vec::new();
    let mut nines = percentile_place(0.5);
    loop {
        let share = 1.0 - 10_f64.powf(-nines);
        if histogram.is_empty() || !is_supported(histogram.len(), share) {
            break;
        }
        let ns = histogram.value_at_quantile(share).max(1);
        places.push((nines, (ns as f64).log10()));
        nines += STEP;
    }
    // The ends of level pieces are enough.
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (at, place) in places.iter().enumerate() {
        let is_level = at > 0
            && places[at - 1].1 == place.1
            && places.get(at + 1).is_some_and(|next| next.1 == place.1);
        if !is_level {
            kept.push(*place);
        }
    }
    Line::new(name, kept)
}

/// Returns a table of stages, a column a percentile.
pub(super) fn stage_table(stages: &[Stage]) -> Markup {
    html! {
        div.table {
            table {
                tr {
                    th.left { "stage" }
                    th { "samples" }
                    @for name in Quantiles::NAMES { th { (name) } }
                }
                @for stage in stages {
                    @let quantiles = stage.quantiles();
                    tr {
                        td.left { (stage.name) }
                        td { (count(quantiles.count)) }
                        @for value in quantiles.columns() { td { (shown(value)) } }
                    }
                }
            }
        }
    }
}

/// Returns a percentile, or - where too few samples support it.
pub(super) fn shown(value: Option<u64>) -> String {
    value.map_or("-".to_owned(), |ns| time(ns as f64))
}

/// Returns a table of keys and values.
pub(super) fn facts(pairs: &[(String, String)]) -> Markup {
    html! {
        table.facts {
            @for (key, value) in pairs { tr { th { (key) } td { (value) } } }
        }
    }
}

/// Returns what went wrong in a run, as a list. `since_s` is when the pipeline was started, in seconds on the
/// plots' axis, where that is known.
pub(super) fn anomalies(run: &LatencyRun, since_s: Option<f64>) -> Markup {
    let all = &run.anomalies;
    html! {
        @if all.is_empty() {
            p.note { "Nothing went wrong that the subject noticed." }
        } @else {
            h3 { "Anomalies" }
            @if since_s.is_none() { p.note { "Times are since the subject's start." } }
            ul.anomalies {
                @for one in all.iter().take(ANOMALIES_MAX) {
                    li {
                        b { (format!("{:.3} s", since_s.unwrap_or(0.0) + one.at_ns as f64 / 1e9)) }
                        " " (one.kind.name()) ", " (one.hop.name()) ", " (count(one.count)) ": "
                        span.dim { (one.evidence) }
                    }
                }
            }
            @if all.len() > ANOMALIES_MAX {
                p.note { (all.len() - ANOMALIES_MAX) " more are in summary.json." }
            }
        }
    }
}
