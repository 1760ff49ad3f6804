//! A result folder: figures with their verdicts, plots, and what they depend on.

use maud::{Markup, html};

use crate::{
    bench::{
        Figures, Found, LatencyRun, SearchEnd, Step,
        record::{Record, Results, Trace},
    },
    findings::{
        figures::{Unit, ratios},
        page::{
            parts::{badge, facts, percentile_axes, percentile_line, shown},
            run::run,
        },
        plot::{Bar, Line, bars, lines},
        words::{command, pairs},
    },
    latency::log::FEED,
    report::{count, rate},
};

/// The most curves on a plot.
const CURVES_MAX: usize = 8;

pub(super) fn folder(record: &Record) -> Markup {
    html! {
        @match &record.results {
            Results::Latency(runs) => (latency(runs, &record.traces)),
            Results::Throughput(figures) => (throughput(figures)),
            Results::Capacity(found) => (capacity(found, &record.traces)),
        }
        details open {
            summary { "What was measured, and where" }
            div.pair {
                div { h3 { "Parameters" } (facts(&pairs(&record.summary.parameters))) }
                div { h3 { "Environment" } (facts(&pairs(&record.summary.environment))) }
            }
            h3 { "Run it again" }
            pre { (command(&record.summary.command_line)) }
        }
    }
}

/// Shows curves of feed latency, as many as a plot holds.
fn curves(named: &[(String, &LatencyRun)]) -> Markup {
    let stages = named.iter().filter_map(|(name, run)| {
        let stage = run.stage(FEED)?;
        (!stage.histogram.is_empty()).then_some((name, &stage.histogram))
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

fn latency(runs: &[LatencyRun], traces: &[Trace]) -> Markup {
    let named: Vec<(String, &LatencyRun)> = (1..)
        .zip(runs)
        .map(|(number, run)| match run.verdict.is_ok() {
            true => (format!("run {number}"), run),
            false => (format!("run {number}, INVALID"), run),
        })
        .collect();
    html! {
        (warnings(runs))
        (curves(&named))
        div.table {
            table {
                tr {
                    th.left { "run" } th.left { "verdict" } th { "feed p50" } th { "p99" } th { "p99.9" }
                    th { "max" } th { "sent a second" } th { "received" } th { "lost" } th { "CPU a message" }
                }
                @for (number, run) in (1..).zip(runs) {
                    @let feed = run.stage(FEED).map(|stage| stage.quantiles()).unwrap_or_default();
                    tr {
                        td.left { (number) }
                        td.left { (badge(run.verdict.is_ok())) }
                        @for value in [feed.p50, feed.p99, feed.p99_9, feed.max] { td { (shown(value)) } }
                        td { (rate(run.sent_per_s)) }
                        td { (count(run.received)) }
                        td { (count(run.missing())) }
                        td { (Unit::Time.show(run.cpu_ns_per_msg)) }
                    }
                }
            }
        }
        @for (number, (one, trace)) in (1..).zip(runs.iter().zip(traces)) {
            details open[number == 1] {
                summary { "run " (number) " over time" (badge(one.verdict.is_ok())) }
                (run(one, trace))
            }
        }
    }
}

/// Shows why runs say nothing, and what else is to be known before they are believed.
fn warnings(runs: &[LatencyRun]) -> Markup {
    html! {
        @for (number, run) in (1..).zip(runs) {
            @if !run.verdict.is_ok() { p.warning.bad { "run " (number) ": " (run.verdict) } }
            @for warning in &run.warnings { p.warning { "run " (number) ": " (warning) } }
            @if !run.balanced { p.warning.bad { "run " (number) ": the subject's ledger does not balance" } }
        }
    }
}

fn throughput(figures: &Figures) -> Markup {
    let all = &figures.contenders;
    let bar = |at: usize, name: String, values: Vec<f64>, shown: String| Bar {
        name,
        values,
        shown,
        is_subject: at == 0,
    };
    let rates = all.iter().enumerate().map(|(at, one)| {
        let values = one.runs.iter().map(|run| run.msgs_per_s).collect();
        let shown = Unit::Rate.show(one.msgs_per_s().median);
        bar(at, one.name.to_string(), values, shown)
    });
    let cpu = all.iter().enumerate().map(|(at, one)| {
        let values = one.runs.iter().map(|run| run.cpu_ns_per_msg).collect();
        let shown = Unit::Time.show(one.cpu_ns_per_msg().median);
        bar(at, one.name.to_string(), values, shown)
    });
    let ratios = ratios(all).into_iter().zip(all.iter().skip(1));
    let ratios = ratios.map(|(figure, baseline)| {
        let shown = format!("{:.2} times", figure.spread().median);
        bar(0, format!("to {}", baseline.name), figure.values, shown)
    });
    let subject = all
        .first()
        .map(|one| one.name.to_string())
        .unwrap_or_default();
    let [rates, cpu, ratios] = [rates.collect::<Vec<_>>(), cpu.collect(), ratios.collect()];
    html! {
        p.note { "Bars end at the median; dots are the runs, with a line from the lowest to the highest." }
        (bars("Messages a second: more is better", &rates, None))
        (bars(&format!("Rate of {subject}, round by round, to each baseline's: the mark is at 1"), &ratios, Some(1.0)))
        (bars("CPU time a message: less is better", &cpu, None))
        div.table {
            table {
                tr {
                    th.left { "receiver" } th.left { "verdict" } th { "msg/s, median" } th { "lowest" } th { "highest" }
                    th { "CPU a message" } th { "runs" } th { "messages" }
                }
                @for one in all {
                    @let spread = one.msgs_per_s();
                    tr {
                        td.left.wrap { (one.name) }
                        td.left { (badge(true)) }
                        @for value in [spread.median, spread.lowest, spread.highest] { td { (rate(value)) } }
                        td { (Unit::Time.show(one.cpu_ns_per_msg().median)) }
                        td { (one.runs.len()) }
                        td { (count(one.messages)) }
                    }
                }
            }
        }
    }
}

fn capacity(found: &Found, traces: &[Trace]) -> Markup {
    let mut steps: Vec<(&Step, &Trace)> = found.steps.iter().zip(traces).collect();
    steps.sort_by(|a, b| a.0.run.rate.total_cmp(&b.0.run.rate));
    let name = |step: &Step| format!("{} msg/s", rate(step.run.rate));
    let named: Vec<(String, &LatencyRun)> = steps
        .iter()
        .map(|(step, _)| (name(step), &step.run))
        .collect();
    // Those on both sides of the limit are what matters.
    let held = steps.iter().filter(|(step, _)| is_held(step)).count();
    let from = (held + CURVES_MAX / 2)
        .min(named.len())
        .saturating_sub(CURVES_MAX);
    html! {
        p { (end(found.end)) }
        (curves(&named[from..]))
        div.table {
            table {
                tr {
                    th { "rate" } th.left { "verdict" } th { "feed p50" } th { "p99" } th { "p99.9" } th { "max" }
                    th { "CPU a message" } th.left { "why" }
                }
                @for (step, _) in &steps {
                    @let feed = step.run.stage(FEED).map(|stage| stage.quantiles()).unwrap_or_default();
                    tr {
                        td { (rate(step.run.rate)) }
                        td.left { (step_badge(step)) }
                        @for value in [feed.p50, feed.p99, feed.p99_9, feed.max] { td { (shown(value)) } }
                        td { (Unit::Time.show(step.run.cpu_ns_per_msg)) }
                        td.left.wrap { (step.verdict()) }
                    }
                }
            }
        }
        @for (step, trace) in &steps {
            details {
                summary { (name(step)) " over time" (step_badge(step)) }
                (run(&step.run, trace))
            }
        }
    }
}

/// Tells whether a step held the objective.
fn is_held(step: &Step) -> bool {
    step.run.verdict.is_ok() && step.broken.is_empty()
}

fn step_badge(step: &Step) -> Markup {
    html! {
        @if step.run.verdict.is_ok() && !step.broken.is_empty() && !step.by_generator {
            span.badge.bad { "breaks" }
        } @else {
            (badge(is_held(step)))
        }
    }
}

fn end(end: SearchEnd) -> &'static str {
    match end {
        SearchEnd::Found => "The limit is the subject's, found to 5 %.",
        SearchEnd::GeneratorLimit => {
            "The generator gave out or was itself too late: the limit is its own, not the subject's."
        }
        SearchEnd::Inconclusive => {
            "Beyond what held, runs say nothing, however often they were tried: the steps say why."
        }
        SearchEnd::NothingHeld => "Not even the first rate held.",
        SearchEnd::RateMax => "The highest rate there is held.",
    }
}
