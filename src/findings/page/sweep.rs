//! A sweep: how cost grows over the values of a property.

use maud::{Markup, html};

use crate::{
    bench::{
        AtRate, FlatOut, HasVerdict, LatencyRun, Point, Property, Spread, ThroughputRun,
        at_rate_figures, flat_out_figures, record::Trace,
    },
    findings::{
        figures::Unit,
        page::{
            parts::{badge, rate_or_none, validity, warnings},
            run::run,
        },
        plot::{Axis, Line, lines},
    },
    latency::Quantiles,
};

const SPREAD_NOTE: &str =
    "Points are medians of valid runs, with a line from the lowest run to the highest.";

pub(super) fn flat_out(property: Property, points: &[Point<ThroughputRun>]) -> Markup {
    let figures = flat_out_figures(points);
    let across = across(property, points);
    let cost = figures.iter().map(|one| (one.value, one.cpu_ns_per_msg));
    let rates = figures.iter().map(|one| (one.value, one.msgs_per_s));
    let (cost, rates) = (line("median", cost), line("median", rates));
    let up = Axis::number("messages a second", highest(&rates), "");
    html! {
        (run_warnings(property, points))
        p.note { (SPREAD_NOTE) }
        (cost_plot(property, &across, cost))
        (lines(&format!("Messages a second by {property}: more is better"), &across, &up, &[rates]))
        (flat_out_table(property, points, &figures))
    }
}

fn flat_out_table(
    property: Property,
    points: &[Point<ThroughputRun>],
    figures: &[FlatOut],
) -> Markup {
    html! {
        div.table {
            table {
                tr {
                    th { (property) } th.left { "verdict" } th { "msg/s" } th { "lowest" } th { "highest" }
                    th { "CPU a message" } th { "lowest" } th { "highest" }
                    th { (to_first(points)) " msg/s" } th { "CPU" }
                }
                @for (point, one) in points.iter().zip(figures) {
                    @let (rates, cpu) = (one.msgs_per_s, one.cpu_ns_per_msg);
                    tr {
                        td { (point.value) }
                        td.left { (validity(point.validity())) }
                        @for value in [rates.median, rates.lowest, rates.highest] { td { (rate_or_none(value)) } }
                        @for value in [cpu.median, cpu.lowest, cpu.highest] { td { (Unit::Time.show(value)) } }
                        @for ratio in [one.msgs_per_s_to_first, one.cpu_ns_per_msg_to_first] {
                            td { (Unit::Ratio.show(ratio)) }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn at_rate(
    property: Property,
    points: &[Point<LatencyRun>],
    traces: &[Trace],
) -> Markup {
    let figures = at_rate_figures(points);
    let across = across(property, points);
    let cost = figures.iter().map(|one| (one.value, one.cpu_ns_per_msg));
    let percentiles: Vec<Line> = Quantiles::NAMES
        .iter()
        .enumerate()
        .map(|(column, name)| {
            let feed = figures.iter().map(|one| (one.value, one.feed_ns[column]));
            logarithmic(line(name, feed))
        })
        .filter(|line| !line.places.is_empty())
        .collect();
    let up = Axis::around("latency", &percentiles);
    // Traces are in the order of the runs.
    let mut rest = traces;
    let firsts: Vec<_> = points
        .iter()
        .filter_map(|point| {
            let (of_point, others) = rest.split_at_checked(point.runs.len())?;
            rest = others;
            Some((point.value, point.runs.first()?, of_point.first()?))
        })
        .collect();
    html! {
        (run_warnings(property, points))
        (warnings(&named(property, points)))
        p.note { (SPREAD_NOTE) }
        (cost_plot(property, &across, line("median", cost)))
        @if percentiles.is_empty() {
            p.note { "No feed latency was recorded." }
        } @else {
            (lines(&format!("Feed latency by {property}"), &across, &up, &percentiles))
        }
        (at_rate_table(property, points, &figures))
        p.note { "Of each value, the first run is shown over time." }
        @for (value, first, trace) in firsts {
            details {
                summary { (property) "=" (value) ", run 1 over time" (badge(first.verdict.is_ok())) }
                (run(first, trace))
            }
        }
    }
}

fn at_rate_table(property: Property, points: &[Point<LatencyRun>], figures: &[AtRate]) -> Markup {
    html! {
        div.table {
            table {
                tr {
                    th { (property) } th.left { "verdict" } th { "CPU a message" }
                    @for name in Quantiles::NAMES { th { (name) } }
                    th { (to_first(points)) " p50" }
                }
                @for (point, one) in points.iter().zip(figures) {
                    tr {
                        td { (point.value) }
                        td.left { (validity(point.validity())) }
                        td { (Unit::Time.show(one.cpu_ns_per_msg.median)) }
                        @for spread in &one.feed_ns { td { (Unit::Time.show(spread.median)) } }
                        td { (Unit::Ratio.show(one.p50_to_first)) }
                    }
                }
            }
        }
    }
}

fn cost_plot(property: Property, across: &Axis, cost: Line) -> Markup {
    let up = Axis::time("CPU time a message", highest(&cost));
    let title = format!("CPU time a message by {property}: less is better");
    html! { (lines(&title, across, &up, &[cost])) }
}

fn across<R>(property: Property, points: &[Point<R>]) -> Axis {
    let values = points
        .iter()
        .map(|point| (point.value as f64, point.value.to_string()));
    Axis::values(&property.to_string(), values)
}

/// Returns a line of the values that have valid runs.
fn line(name: &str, by_value: impl Iterator<Item = (usize, Spread)>) -> Line {
    let known = by_value.filter(|(value, spread)| *value > 0 && spread.median.is_finite());
    let known = known.map(|(value, spread)| ((value as f64).log10(), spread));
    let mut known: Vec<(f64, Spread)> = known.collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let places = known.iter().map(|(x, spread)| (*x, spread.median));
    let spreads = known
        .iter()
        .map(|(x, spread)| (*x, spread.lowest, spread.highest));
    Line {
        spreads: spreads.collect(),
        ..Line::new(name, places.collect())
    }
}

/// Returns a line of times for an axis that is logarithmic.
fn logarithmic(line: Line) -> Line {
    let log = |ns: f64| ns.max(1.0).log10();
    let places = line.places.iter().map(|(x, ns)| (*x, log(*ns)));
    let spreads = line
        .spreads
        .iter()
        .map(|(x, low, high)| (*x, log(*low), log(*high)));
    Line {
        spreads: spreads.collect(),
        ..Line::new(&line.name, places.collect())
    }
}

fn highest(line: &Line) -> f64 {
    line.spreads.iter().map(|one| one.2).fold(0.0, f64::max)
}

fn to_first<R>(points: &[Point<R>]) -> String {
    let first = points.first().map_or(0, |first| first.value);
    format!("to {first}:")
}

fn named<R>(property: Property, points: &[Point<R>]) -> Vec<(String, &R)> {
    let of_point = |point: &'_ Point<R>| -> Vec<String> {
        let runs = 1..=point.runs.len();
        runs.map(|number| format!("{property}={}, run {number}", point.value))
            .collect()
    };
    points
        .iter()
        .flat_map(|point| of_point(point).into_iter().zip(&point.runs))
        .collect()
}

fn run_warnings<R: HasVerdict>(property: Property, points: &[Point<R>]) -> Markup {
    html! {
        @for (name, run) in named(property, points) {
            @if !run.verdict().is_ok() { p.warning.bad { (name) ": " (run.verdict()) } }
        }
    }
}
