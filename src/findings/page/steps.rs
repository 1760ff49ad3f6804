//! Runs held against an objective: a search for capacity, a replay.

use maud::{Markup, html};

use crate::{
    bench::{Found, LatencyRun, ReplayStep, Replayed, Step, Tells, record::Trace},
    findings::{
        figures::Unit,
        page::{
            parts::{CURVES_MAX, badge, curves, shown},
            run::run,
        },
        plot::{Axis, Line, lines},
    },
    latency::{Quantiles, log::FEED},
    report::{count, rate},
};

/// A step with what is written before its figures.
struct Row<'a> {
    cells: Vec<String>,
    step: &'a Step,
    trace: &'a Trace,
}

pub(super) fn capacity(found: &Found, traces: &[Trace]) -> Markup {
    let rows = found.steps.iter().zip(traces).map(|(step, trace)| Row {
        cells: vec![format!("{} msg/s", rate(step.run.rate))],
        step,
        trace,
    });
    let mut rows: Vec<Row<'_>> = rows.collect();
    rows.sort_by(|a, b| a.step.run.rate.total_cmp(&b.step.run.rate));
    steps(&["rate"], &rows)
}

pub(super) fn replay(replayed: &Replayed, traces: &[Trace]) -> Markup {
    let mut steps_by_speed: Vec<(&ReplayStep, &Trace)> =
        replayed.steps.iter().zip(traces).collect();
    steps_by_speed.sort_by(|a, b| a.0.speed.total_cmp(&b.0.speed));
    let rows = steps_by_speed.iter().map(|(one, trace)| Row {
        cells: vec![
            Unit::Speed.show(one.speed),
            rate(one.step.run.rate),
            count(one.busiest_ms),
        ],
        step: &one.step,
        trace,
    });
    let rows: Vec<Row<'_>> = rows.collect();
    html! {
        (by_speed(steps_by_speed.iter().map(|(one, _)| *one)))
        (steps(&["speed", "msg/s", "busiest ms"], &rows))
    }
}

/// Shows percentiles over speeds, the lowest first, up to the first that breaks the objective.
fn by_speed<'a>(steps: impl Iterator<Item = &'a ReplayStep>) -> Markup {
    let mut told: Vec<(f64, Quantiles)> = Vec::new();
    for one in steps {
        let tells = one.step.tells();
        if !matches!(tells, Tells::Holds | Tells::Breaks) {
            continue;
        }
        let feed = one.step.run.stage(FEED).map(|stage| stage.quantiles());
        told.push((one.speed, feed.unwrap_or_default()));
        if tells == Tells::Breaks {
            break;
        }
    }
    let of_column = |(column, name): (usize, &&str)| {
        let places = told.iter().filter_map(|(speed, feed)| {
            let ns = feed.columns()[column]?.max(1);
            Some((speed.log10(), (ns as f64).log10()))
        });
        Line::new(name, places.collect())
    };
    let drawn: Vec<Line> = Quantiles::NAMES.iter().enumerate().map(of_column).collect();
    let drawn: Vec<Line> = drawn
        .into_iter()
        .filter(|line| !line.places.is_empty())
        .collect();
    if drawn.is_empty() {
        return html! { p.note { "No speed says anything of the subject." } };
    }
    let values = told
        .iter()
        .map(|(speed, _)| (*speed, Unit::Speed.show(*speed)));
    let across = Axis::values("times as fast as captured", values);
    let up = Axis::around("latency", &drawn);
    html! { (lines("Feed latency by speed, up to the break", &across, &up, &drawn)) }
}

/// Shows steps, the lowest first: curves, a table, and each over time.
fn steps(head: &[&str], rows: &[Row<'_>]) -> Markup {
    let named: Vec<(String, &LatencyRun)> = rows
        .iter()
        .map(|row| (row.cells[0].clone(), &row.step.run))
        .collect();
    // Those on both sides of the limit are what matters.
    let held = rows.iter().filter(|row| row.step.tells() == Tells::Holds);
    let from = (held.count() + CURVES_MAX / 2)
        .min(named.len())
        .saturating_sub(CURVES_MAX);
    html! {
        (curves(&named[from..]))
        div.table {
            table {
                tr {
                    @for name in head { th { (name) } }
                    th.left { "verdict" } th { "feed p50" } th { "p99" } th { "p99.9" } th { "max" }
                    th { "CPU a message" } th.left { "why" }
                }
                @for row in rows {
                    @let step = row.step;
                    @let feed = step.run.stage(FEED).map(|stage| stage.quantiles()).unwrap_or_default();
                    tr {
                        @for cell in &row.cells { td { (cell) } }
                        td.left { (step_badge(step)) }
                        @for value in [feed.p50, feed.p99, feed.p99_9, feed.max] { td { (shown(value)) } }
                        td { (Unit::Time.show(step.run.cpu_ns_per_msg)) }
                        td.left.wrap { (step.verdict()) }
                    }
                }
            }
        }
        @for row in rows {
            details {
                summary { (row.cells[0]) " over time" (step_badge(row.step)) }
                (run(&row.step.run, row.trace))
            }
        }
    }
}

fn step_badge(step: &Step) -> Markup {
    match step.tells() {
        Tells::Holds => badge(true),
        Tells::Breaks => html! { span.badge.bad { "breaks" } },
        Tells::Nothing if step.run.verdict.is_ok() => {
            html! { span.badge.bad { "INCONCLUSIVE" } }
        }
        Tells::GeneratorLimit | Tells::Nothing => badge(false),
    }
}
