//! A result folder: figures with their verdicts, plots, and what they depend on.

use maud::{Markup, html};

use crate::{
    bench::{
        Figures, LatencyRun,
        record::{Points, Record, Results, Trace},
    },
    findings::{
        figures::{Unit, ratios, valid},
        page::{
            parts::{badge, curves, facts, rate_or_none, shown, validity, warnings},
            run::run,
            steps::{capacity, replay},
            sweep,
        },
        plot::{Bar, bars},
        words::{command, pairs},
    },
    latency::log::FEED,
    report::{count, rate},
};

pub(super) fn folder(record: &Record) -> Markup {
    html! {
        @match &record.results {
            Results::Latency(runs) => (latency(runs, &record.traces)),
            Results::Throughput(figures) => (throughput(figures)),
            Results::Capacity(found) => (capacity(found, &record.traces)),
            Results::Sweep(property, Points::FlatOut(points)) => (sweep::flat_out(*property, points)),
            Results::Sweep(property, Points::AtRate(points)) => (sweep::at_rate(*property, points, &record.traces)),
            Results::Replay(replayed) => (replay(replayed, &record.traces)),
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

fn latency(runs: &[LatencyRun], traces: &[Trace]) -> Markup {
    let named: Vec<(String, &LatencyRun)> = (1..)
        .zip(runs)
        .map(|(number, run)| match run.verdict.is_ok() {
            true => (format!("run {number}"), run),
            false => (format!("run {number}, INVALID"), run),
        })
        .collect();
    let feeds = named
        .iter()
        .map(|(name, run)| (name.clone(), run.stage(FEED)));
    let feeds: Vec<_> = feeds.collect();
    html! {
        @for (number, run) in (1..).zip(runs) {
            @if !run.verdict.is_ok() { p.warning.bad { "run " (number) ": " (run.verdict) } }
        }
        (warnings(&named))
        (curves(&feeds))
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

fn throughput(figures: &Figures) -> Markup {
    let all = &figures.contenders;
    let bar = |at: usize, name: String, values: Vec<f64>, shown: String| Bar {
        name,
        values,
        shown,
        is_subject: at == 0,
    };
    let rates = all.iter().enumerate().map(|(at, one)| {
        let valid = valid(&one.runs).into_iter();
        let values = valid.map(|run| run.msgs_per_s).collect();
        let shown = Unit::Rate.show(one.msgs_per_s().median);
        bar(at, one.name.to_string(), values, shown)
    });
    let cpu = all.iter().enumerate().map(|(at, one)| {
        let valid = valid(&one.runs).into_iter();
        let values = valid.map(|run| run.cpu_ns_per_msg).collect();
        let shown = Unit::Time.show(one.cpu_ns_per_msg().median);
        bar(at, one.name.to_string(), values, shown)
    });
    let ratios = ratios(all).into_iter().zip(all.iter().skip(1));
    let ratios = ratios.map(|(figure, baseline)| {
        let shown = format!("{} times", Unit::Ratio.show(figure.spread().median));
        bar(0, format!("to {}", baseline.name), figure.values, shown)
    });
    let subject = all
        .first()
        .map(|one| one.name.to_string())
        .unwrap_or_default();
    let [rates, cpu, ratios] = [rates.collect::<Vec<_>>(), cpu.collect(), ratios.collect()];
    html! {
        @for one in all {
            @for (number, run) in (1..).zip(&one.runs) {
                @if !run.verdict.is_ok() { p.warning.bad { (one.name) ", run " (number) ": " (run.verdict) } }
            }
        }
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
                        td.left { (validity(one.validity())) }
                        @for value in [spread.median, spread.lowest, spread.highest] { td { (rate_or_none(value)) } }
                        td { (Unit::Time.show(one.cpu_ns_per_msg().median)) }
                        td { (one.runs.len()) }
                        td { (count(one.messages)) }
                    }
                }
            }
        }
    }
}
