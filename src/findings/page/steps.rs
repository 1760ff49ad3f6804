//! Runs held against an objective: a search for capacity, a replay.

use maud::{Markup, html};

use crate::{
    bench::{
        Found, LatencyRun, ReplayStep, Replayed, Step, Tells, by_speed, record::Trace, verdicts,
    },
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
    /// What several with the same load have in common.
    load: f64,
    step: &'a Step,
    trace: &'a Trace,
}

pub(super) fn capacity(found: &Found, traces: &[Trace]) -> Markup {
    let rows = found.steps.iter().zip(traces).map(|(step, trace)| Row {
        cells: vec![format!("{} msg/s", rate(step.run.rate))],
        load: step.run.rate,
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
        load: one.speed,
        step: &one.step,
        trace,
    });
    let rows: Vec<Row<'_>> = rows.collect();
    html! {
        (over_speeds(&replayed.steps))
        (steps(&["speed", "msg/s", "busiest ms"], &rows))
    }
}

/// Shows percentiles over speeds, the lowest first, up to the first that breaks the objective.
fn over_speeds(steps: &[ReplayStep]) -> Markup {
    let mut told: Vec<(f64, Quantiles)> = Vec::new();
    for (speed, tells) in by_speed(steps) {
        if !matches!(tells, Tells::Holds | Tells::Breaks) {
            continue;
        }
        // The first of those that agree.
        let agrees = |one: &&ReplayStep| one.speed == speed && one.step.tells() == tells;
        let step = steps.iter().find(agrees);
        let feed = step.and_then(|one| one.step.run.stage(FEED));
        told.push((
            speed,
            feed.map(|stage| stage.quantiles()).unwrap_or_default(),
        ));
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
    let loads: Vec<_> = rows.iter().map(|row| (row.load, row.step)).collect();
    let verdicts = verdicts(&loads);
    html! {
        (curves(&named[from..]))
        div.table {
            table {
                tr {
                    @for name in head { th { (name) } }
                    th.left { "verdict" } th { "feed p50" } th { "p99" } th { "p99.9" } th { "max" }
                    th { "CPU a message" } th.left { "why" }
                }
                @for (row, verdict) in rows.iter().zip(&verdicts) {
                    @let step = row.step;
                    @let feed = step.run.stage(FEED).map(|stage| stage.quantiles()).unwrap_or_default();
                    tr {
                        @for cell in &row.cells { td { (cell) } }
                        td.left { (step_badge(step)) }
                        @for value in [feed.p50, feed.p99, feed.p99_9, feed.max] { td { (shown(value)) } }
                        td { (Unit::Time.show(step.run.cpu_ns_per_msg)) }
                        td.left.wrap { (verdict) }
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
