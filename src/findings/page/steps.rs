//! Runs held against an objective: a search for capacity, a replay.

use maud::{Markup, html};

use crate::{
    bench::{
        Found, ReplayStep, Replayed, Stage, Step, Tells, by_load, record::Trace, together, verdicts,
    },
    findings::{
        figures::Unit,
        page::{
            parts::{CURVES_MAX, badge, curves, merged, shown},
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
    for (speed, steps) in by_load(steps, |one| one.speed) {
        let steps: Vec<&Step> = steps.into_iter().map(|one| &one.step).collect();
        let (tells, feed) = told_by(&steps);
        if !matches!(tells, Tells::Holds | Tells::Breaks) {
            continue;
        }
        let quantiles = feed.map(|stage| stage.quantiles());
        told.push((speed, quantiles.unwrap_or_default()));
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
    let by_load = by_load(rows, |row| row.load);
    let told: Vec<(String, Tells, Option<Stage>)> =
        by_load.iter().map(|(_, rows)| curve(rows)).collect();
    // Those on both sides of the limit are what matters.
    let held = told.iter().filter(|one| one.1 == Tells::Holds);
    let from = (held.count() + CURVES_MAX / 2)
        .min(told.len())
        .saturating_sub(CURVES_MAX);
    let drawn = told[from..].iter();
    let drawn: Vec<_> = drawn
        .map(|(name, _, stage)| (name.clone(), stage.as_ref()))
        .collect();
    let loads: Vec<_> = rows.iter().map(|row| (row.load, row.step)).collect();
    let verdicts = verdicts(&loads);
    html! {
        (curves(&drawn))
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

/// Returns what runs under the same load say together, and the feed's latency of those that say so.
fn told_by(steps: &[&Step]) -> (Tells, Option<Stage>) {
    let tells = together(steps.iter().copied());
    let agree = steps.iter().filter(|step| step.tells() == tells);
    (tells, merged(agree.map(|step| &step.run)))
}

/// Returns the curve of runs under the same load, by its name, with what they say.
fn curve(rows: &[&Row<'_>]) -> (String, Tells, Option<Stage>) {
    let steps: Vec<&Step> = rows.iter().map(|row| row.step).collect();
    let (tells, stage) = told_by(&steps);
    let agreeing = steps.iter().filter(|step| step.tells() == tells).count();
    let load = &rows[0].cells[0];
    let mut name = match steps.len() {
        1 => load.clone(),
        runs => format!("{load}, {agreeing} of {runs} runs"),
    };
    if !matches!(tells, Tells::Holds | Tells::Breaks) {
        name += ", INVALID";
    }
    (name, tells, stage)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{LatencyRun, SearchEnd, Verdict};

    /// A run whose messages all took so long, held against a limit of a millisecond.
    fn step(rate: f64, feed_ns: u64) -> Step {
        let mut feed = Stage::empty(FEED);
        feed.histogram.saturating_record_n(feed_ns, 1_000);
        let run = LatencyRun {
            step: String::new(),
            rate,
            verdict: Verdict::Ok,
            due: 1_000,
            published: 1_000,
            elapsed_s: 1.0,
            sent_per_s: rate,
            blocked_s: 0.0,
            received: 1_000,
            lost: Some(0),
            balanced: true,
            cpu_ns_per_msg: 1.0,
            threads: Vec::new(),
            warnings: Vec::new(),
            anomalies: Vec::new(),
            stages: vec![feed],
        };
        Step::new(run, &"p50<1ms".parse().unwrap())
    }

    #[test]
    fn repeated_steps_have_one_curve_of_the_runs_that_decided() {
        let steps = vec![
            step(1_000.0, 10_000),
            step(2_000.0, 5_000_000),
            step(2_000.0, 20_000),
            step(2_000.0, 20_000),
        ];
        let trace = Trace::default();
        let row = |step| Row {
            cells: vec!["2k msg/s".to_owned()],
            load: 2_000.0,
            step,
            trace: &trace,
        };
        let rows = [row(&steps[1]), row(&steps[2]), row(&steps[3])];
        let (name, tells, stage) = curve(&rows.each_ref());
        assert_eq!((&*name, tells), ("2k msg/s, 2 of 3 runs", Tells::Holds));
        assert_eq!(stage.unwrap().histogram.len(), 2_000);

        let traces = vec![Trace::default(); steps.len()];
        let found = Found {
            highest_msgs_per_s: Some(2_000.0),
            end: SearchEnd::Found,
            steps,
        };
        let page = capacity(&found, &traces).into_string();
        let (plot, table) = page.split_once("<table>").unwrap();
        assert!(plot.contains("2 of 3 runs"), "{plot}");
        assert!(!plot.contains("1 of 3 runs"), "{plot}");
        assert!(table.contains("run 3 of 3: holds by 2 to 1"), "{table}");
    }
}
