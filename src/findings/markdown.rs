//! Results as Markdown, for an issue or a mail.

use std::fmt::Write;

use crate::{
    bench::{
        AtRate, FlatOut, HasVerdict, LatencyRun, Point, Property, ReplayStep, Spread, Stage,
        ThroughputRun, Validity, at_rate_figures, curve, flat_out_figures,
        record::{Points, Record, Results},
        verdicts,
    },
    findings::{
        figures::{Unit, ratios},
        source::Source,
        words::{command, file_name, pairs},
    },
    latency::{Quantiles, log::FEED},
    report::{count, rate, time},
};

/// Returns all of the sources as Markdown.
#[must_use]
pub fn markdown(sources: &[Source]) -> String {
    let mut text = String::new();
    for source in sources {
        let name = escaped(&file_name(source.path()));
        let title = escaped(&source.title());
        text += &format!("## {title}\n\n{name}\n\n");
        if let Some((is_ok, why)) = source.verdict() {
            let verdict = if is_ok { "OK" } else { "INVALID" };
            text += &format!("**{verdict}**: {}\n\n", escaped(&why));
        }
        match source {
            Source::Folder(record) => folder(&mut text, record),
            Source::Log(log) => stages(&mut text, &log.stages),
        }
    }
    text
}

fn folder(text: &mut String, record: &Record) {
    match &record.results {
        Results::Latency(runs) => {
            let head = [
                "run",
                "verdict",
                "p50",
                "p90",
                "p99",
                "p99.9",
                "p99.99",
                "max",
                "CPU a message",
            ];
            let rows = (1..).zip(runs).map(|(number, run)| {
                let mut row = vec![format!("{number}"), run.verdict.to_string()];
                row.extend(percentiles(run.stage(FEED)));
                row.push(Unit::Time.show(run.cpu_ns_per_msg));
                row
            });
            table(text, &head, rows);
            for (number, run) in (1..).zip(runs) {
                for warning in &run.warnings {
                    *text += &format!("Warning, run {number}: {}\n\n", escaped(warning));
                }
            }
        }
        Results::Throughput(figures) => {
            let head = [
                "receiver",
                "verdict",
                "median",
                "lowest",
                "highest",
                "CPU a message",
            ];
            let rows = figures.contenders.iter().map(|one| {
                let mut row = vec![one.name.to_string(), one.validity().to_string()];
                row.extend(spread(Unit::Rate, &one.msgs_per_s()));
                row.push(Unit::Time.show(one.cpu_ns_per_msg().median));
                row
            });
            table(text, &head, rows);
            let rows = ratios(&figures.contenders).into_iter().map(|figure| {
                let values = spread(Unit::Ratio, &figure.spread());
                let mut row = vec![figure.name];
                row.extend(values);
                row
            });
            table(
                text,
                &["ratio of rates", "median", "lowest", "highest"],
                rows,
            );
        }
        Results::Capacity(found) => {
            let head = [
                "msg/s", "p50", "p90", "p99", "p99.9", "p99.99", "max", "verdict",
            ];
            let rows = curve(&found.steps).into_iter().map(|(step, verdict)| {
                let mut row = vec![rate(step.run.rate)];
                row.extend(percentiles(step.run.stage(FEED)));
                row.push(verdict);
                row
            });
            table(text, &head, rows);
        }
        Results::Sweep(property, Points::FlatOut(points)) => flat_out(text, *property, points),
        Results::Sweep(property, Points::AtRate(points)) => at_rate(text, *property, points),
        Results::Replay(replayed) => replay(text, &replayed.steps),
    }
    let summary = &record.summary;
    for object in [&summary.parameters, &summary.environment] {
        let facts: Vec<String> = pairs(object)
            .into_iter()
            .map(|(key, value)| format!("{} {}", escaped(&key), escaped(&value)))
            .collect();
        *text += &format!("{}\n\n", facts.join("; "));
    }
    // Indented, so that nothing in it ends the block.
    let line = command(&summary.command_line).replace(['\n', '\r'], " ");
    *text += &format!("    {line}\n\n");
}

fn flat_out(text: &mut String, property: Property, points: &[Point<ThroughputRun>]) {
    let property = property.to_string();
    let head = [
        &property,
        "verdict",
        "msg/s, median",
        "lowest",
        "highest",
        "CPU a message",
        "lowest",
        "highest",
        "times the first's msg/s",
        "CPU",
    ];
    let row = |(point, one): (&Point<ThroughputRun>, FlatOut)| {
        let mut row = first_cells(point.value, point.validity());
        row.extend(spread(Unit::Rate, &one.msgs_per_s));
        row.extend(spread(Unit::Time, &one.cpu_ns_per_msg));
        let ratios = [one.msgs_per_s_to_first, one.cpu_ns_per_msg_to_first];
        row.extend(ratios.map(|ratio| Unit::Ratio.show(ratio)));
        row
    };
    let figures = flat_out_figures(points);
    table(text, &head, points.iter().zip(figures).map(row));
    invalid(text, &property, points);
}

fn at_rate(text: &mut String, property: Property, points: &[Point<LatencyRun>]) {
    let property = property.to_string();
    let mut head: Vec<&str> = vec![&property, "verdict", "CPU a message"];
    head.extend(Quantiles::NAMES);
    head.push("times the first's p50");
    let row = |(point, one): (&Point<LatencyRun>, AtRate)| {
        let mut row = first_cells(point.value, point.validity());
        row.push(Unit::Time.show(one.cpu_ns_per_msg.median));
        row.extend(one.feed_ns.map(|spread| Unit::Time.show(spread.median)));
        row.push(Unit::Ratio.show(one.p50_to_first));
        row
    };
    let figures = at_rate_figures(points);
    table(text, &head, points.iter().zip(figures).map(row));
    invalid(text, &property, points);
}

fn first_cells(value: usize, validity: Validity) -> Vec<String> {
    vec![value.to_string(), validity.to_string()]
}

/// Says why runs are left out.
fn invalid<R: HasVerdict>(text: &mut String, property: &str, points: &[Point<R>]) {
    for point in points {
        for (number, run) in (1..).zip(&point.runs) {
            if !run.verdict().is_ok() {
                let why = escaped(&run.verdict().to_string());
                *text += &format!("{property}={}, run {number}: {why}\n\n", point.value);
            }
        }
    }
}

fn replay(text: &mut String, steps: &[ReplayStep]) {
    let mut head = vec!["speed", "msg/s", "busiest ms"];
    head.extend(Quantiles::NAMES);
    head.push("verdict");
    let by_speed: Vec<_> = steps.iter().map(|one| (one.speed, &one.step)).collect();
    let rows = steps.iter().zip(verdicts(&by_speed)).map(|(one, verdict)| {
        let run = &one.step.run;
        let mut row = vec![
            Unit::Speed.show(one.speed),
            rate(run.rate),
            count(one.busiest_ms),
        ];
        row.extend(percentiles(run.stage(FEED)));
        row.push(verdict);
        row
    });
    table(text, &head, rows);
}

/// Returns median, lowest and highest.
fn spread(unit: Unit, spread: &Spread) -> [String; 3] {
    [spread.median, spread.lowest, spread.highest].map(|value| unit.show(value))
}

fn stages(text: &mut String, stages: &[Stage]) {
    let head = [
        "stage", "samples", "p50", "p90", "p99", "p99.9", "p99.99", "max",
    ];
    let rows = stages.iter().map(|stage| {
        let mut row = vec![stage.name.clone(), count(stage.histogram.len())];
        row.extend(percentiles(Some(stage)));
        row
    });
    table(text, &head, rows);
}

fn percentiles(stage: Option<&Stage>) -> impl Iterator<Item = String> + use<> {
    let quantiles = stage.map_or(Quantiles::default(), Stage::quantiles);
    let shown = |value: Option<u64>| value.map_or("-".to_owned(), |ns| time(ns as f64));
    quantiles.columns().into_iter().map(shown)
}

fn table(text: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(text, "| {} |", head.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(head.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| escaped(cell)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text.push('\n');
}

/// Returns text that Markdown shows as it is, on one line.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for letter in text.chars() {
        match letter {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '&' | '|' | '#' => {
                safe.push('\\');
                safe.push(letter);
            }
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(escaped("a|b\n<i>`c`"), r"a\|b \<i\>\`c\`");
        let mut text = String::new();
        table(
            &mut text,
            &["a", "b"],
            [vec!["1".to_owned(), "|".to_owned()]].into_iter(),
        );
        assert_eq!(text, "| a | b |\n|---|---|\n| 1 | \\| |\n\n");
    }
}
