//! Goal: the interval log of `run --hlog` and the percentiles of `--hgrm` tell the same as the summary, to the
//! message, to us and to HdrHistogram's own package; and a log that cannot be written stops nothing.

mod support;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use hdrhistogram::Histogram;
use pinfeed::latency::{
    Stages,
    log::{Interval, read},
    write_percentiles,
};
use rustix::process::Signal;
use serde_json::Value;
use support::{
    Pinfeed, assert_all_delivered, number, publisher, python::python_with_hdrhistogram, skip,
    subscriber,
};
use tempfile::TempDir;

const MESSAGES: u64 = 120_000;
const TAGS: [&str; 3] = ["queue", "handler", "feed"];

/// Runs for three seconds with these files of histograms, and returns the summary.
fn run(arguments: &[&str]) -> Value {
    let (_publisher, endpoint) = publisher(&["--rate", "40000"]);
    let messages = MESSAGES.to_string();
    let fixed = ["--messages", &messages];
    let summary = subscriber(&endpoint, &[&fixed[..], arguments].concat()).json(0);
    assert_all_delivered(&summary, MESSAGES);
    summary
}

fn log_in(folder: &TempDir) -> String {
    folder
        .path()
        .join("run.hlog")
        .to_str()
        .expect("UTF-8")
        .to_owned()
}

/// All that the intervals have of each tag.
fn totals(intervals: &[Interval]) -> BTreeMap<&str, Histogram<u64>> {
    let mut totals = BTreeMap::new();
    for interval in intervals {
        let total = totals
            .entry(interval.tag.as_str())
            .or_insert_with(|| Stages::default().queue);
        total.add(&interval.histogram).expect("the same bounds");
    }
    totals
}

#[test]
fn intervals_add_up_to_the_summary() {
    let folder = TempDir::new().expect("a folder");
    let (log, hgrm) = (log_in(&folder), folder.path().join("run"));
    let hgrm = hgrm.to_str().expect("UTF-8");
    let summary = run(&["--hlog", &log, "--interval", "500ms", "--hgrm", hgrm]);
    let intervals = read(&log).expect("a log");
    for (index, interval) in intervals.iter().enumerate() {
        assert_eq!(interval.tag, TAGS[index % 3]);
    }
    let spans: Vec<&Interval> = intervals.iter().step_by(3).collect();
    // Of three seconds or more, some held up.
    assert!(spans.len() >= 4, "{spans:?}");
    for pair in spans.windows(2) {
        assert!(pair[0].start_s < pair[1].start_s, "{spans:?}");
        assert!(pair[0].duration_s > 0.0, "{spans:?}");
    }
    let busy = spans
        .iter()
        .filter(|interval| !interval.histogram.is_empty());
    assert!(
        busy.count() >= 3,
        "messages are in the intervals they came in: {spans:?}"
    );
    for (tag, total) in totals(&intervals) {
        assert_eq!(total.len(), number(&summary, "delivered"), "{tag}");
        let stage = &summary["latency_ns"][tag];
        for (name, quantile) in [
            ("p50", 0.5),
            ("p90", 0.9),
            ("p99", 0.99),
            ("p99_9", 0.999),
            ("p99_99", 0.9999),
            ("max", 1.0),
        ] {
            assert_eq!(
                total.value_at_quantile(quantile),
                number(stage, name),
                "{tag} {name}"
            );
        }
        let mut table = Vec::new();
        write_percentiles(&mut table, &total, 1_000.0).expect("a Vec takes all");
        let written = fs::read(format!("{hgrm}.{tag}.hgrm")).expect("a file");
        assert!(written == table, "{tag}");
    }
}

#[test]
fn hdrhistograms_own_package_reads_the_same() {
    let Some(python) = python_with_hdrhistogram() else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let log = log_in(&folder);
    run(&["--hlog", &log]);
    let intervals = read(&log).expect("a log");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/interval_log.py");
    let output = Command::new(python)
        .arg(script)
        .arg(&log)
        .output()
        .expect("Python starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let (theirs, percentiles): (Vec<Value>, Vec<Value>) =
        lines.partition(|line: &Value| line["recorded"].is_array());
    assert_eq!(theirs.len(), intervals.len());
    for (theirs, ours) in theirs.iter().zip(&intervals) {
        assert_eq!(theirs["tag"], ours.tag.as_str());
        let (start_ms, end_ms) = (ours.start_s * 1e3, (ours.start_s + ours.duration_s) * 1e3);
        for (name, expected) in [("start_ms", start_ms), ("end_ms", end_ms)] {
            let found = theirs[name].as_f64().expect("a number");
            assert!((found - expected).abs() < 0.1, "{name} of {theirs}");
        }
        let recorded = ours.histogram.iter_recorded();
        let recorded = recorded.map(|item| (item.value_iterated_to(), item.count_at_value()));
        let expected = serde_json::to_value(recorded.collect::<Vec<_>>()).expect("JSON");
        assert!(theirs["recorded"] == expected, "{ours:?}");
    }
    let totals = totals(&intervals);
    assert_eq!(percentiles.len(), totals.len());
    for theirs in percentiles {
        let tag = theirs["total"].as_str().expect("a tag");
        assert_eq!(number(&theirs, "count"), MESSAGES);
        for (level, value) in theirs["values"].as_object().expect("an object") {
            let level: f64 = level.parse().expect("a number");
            // The package rounds to the nearest message where others take the next.
            let rank = (level * MESSAGES as f64 / 100.0 + 0.5).floor();
            let ours = totals[tag].value_at_quantile((rank - 0.5) / MESSAGES as f64);
            assert_eq!(value.as_u64(), Some(ours), "{tag} {level}");
        }
    }
}

#[test]
fn a_signal_leaves_the_log_whole() {
    let folder = TempDir::new().expect("a folder");
    let log = log_in(&folder);
    let (_publisher, endpoint) = publisher(&["--rate", "20000"]);
    let mut run = subscriber(&endpoint, &["--hlog", &log, "--interval", "200ms"]);
    support::wait_until("an interval is written", || {
        fs::metadata(&log).is_ok_and(|file| file.len() > 0)
    });
    run.signal(Signal::INT);
    let summary = run.json(130);
    let intervals = read(&log).expect("a log");
    for (tag, total) in totals(&intervals) {
        assert_eq!(total.len(), number(&summary, "delivered"), "{tag}");
    }
}

#[test]
fn full_files_are_shifted() {
    let folder = TempDir::new().expect("a folder");
    let log = log_in(&folder);
    let summary = run(&[
        "--hlog",
        &log,
        "--interval",
        "300ms",
        "--hlog-max-size",
        "20000",
    ]);
    let mut count = 0;
    let mut files = 0;
    for file in fs::read_dir(folder.path()).expect("a folder") {
        let path = file.expect("a file").path();
        assert!(fs::metadata(&path).expect("a file").len() <= 20_000);
        let intervals = read(&path).expect("a log");
        count += totals(&intervals)["queue"].len();
        files += 1;
    }
    assert!((2..10).contains(&files), "{files} files");
    assert_eq!(count, number(&summary, "delivered"));
}

#[test]
fn a_full_disk_stops_nothing_and_is_said_once() {
    if !Path::new("/dev/full").exists() {
        return skip("there is no /dev/full");
    }
    let (_publisher, endpoint) = publisher(&["--rate", "40000"]);
    let mut run = subscriber(
        &endpoint,
        &["--for", "2s", "--hlog", "/dev/full", "--interval", "200ms"],
    );
    let summary = run.json(1);
    assert_eq!(summary["balanced"], true, "{summary}");
    assert!(number(&summary, "delivered") > 0, "{summary}");
    assert_eq!(
        run.said
            .matches("warning: /dev/full: No space left")
            .count(),
        1,
        "{}",
        run.said
    );
    assert!(
        run.said.contains("intervals could not be written"),
        "{}",
        run.said
    );
}

#[test]
fn files_that_cannot_be_written_are_refused_before_the_start() {
    for (arguments, expected) in [
        (
            ["--hlog", "/nowhere/run.hlog"],
            "--hlog = /nowhere/run.hlog: it can't be written (No such file",
        ),
        (
            ["--hgrm", "/nowhere/run"],
            "--hgrm = /nowhere/run.queue.hgrm: it can't be written (No such file",
        ),
        (["--interval", "10ms"], "200ms or more"),
        (["--hlog-max-size", "1"], "16384 or more"),
    ] {
        let fixed = ["run", "--bind", "tcp://127.0.0.1:*", "--envelope", "raw"];
        let mut run = Pinfeed::start(&[&fixed[..], &arguments].concat());
        let (status, _) = run.finish();
        assert_eq!(status.code(), Some(2), "{}", run.said);
        assert!(run.said.contains(expected), "{}", run.said);
    }
}
