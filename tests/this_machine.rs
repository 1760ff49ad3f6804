//! Goal: of the machine that it runs on, the doctor tells what it measures itself, and asks the kernel, not programs that
//! may not be there.

mod support;

use std::process::Command;

use support::{Pinfeed, number};

#[test]
fn this_machine_is_measured() {
    let mut process = Pinfeed::start(&["doctor", "--json", "--measure", "300ms"]);
    let (status, output) = process.finish();
    let report: serde_json::Value = serde_json::from_str(&output).expect("one JSON object");
    let code = i32::from(report["failed_required"] != 0);
    assert_eq!(status.code(), Some(code), "{}", process.said);
    let usable = pinfeed::host::topology::usable_cores();
    let hot = usable.iter().filter(|core| **core != 0).count();
    let hiccups = report["measured"]["hiccups"].as_array().expect("a list");
    assert_eq!(hiccups.len(), hot, "{report}");
    let elapsed_ns = report["measured"]["elapsed_s"].as_f64().expect("a time") * 1e9;
    for core in hiccups {
        // None at all on a core that is well isolated.
        let count = number(core, "count");
        let [p99_ns, max_ns, stolen_ns] =
            ["p99_ns", "max_ns", "stolen_ns"].map(|key| number(core, key));
        assert_eq!(count == 0, max_ns == 0, "{core}");
        assert!(p99_ns <= max_ns, "{core}");
        // As exact as a histogram is.
        assert!(max_ns <= stolen_ns + stolen_ns / 100, "{core}");
        assert!(stolen_ns as f64 <= 1.01 * elapsed_ns, "{core}");
    }
    let conditions = report["checks"].as_array().expect("a list");
    let measured: Vec<_> = (conditions.iter())
        .filter(|check| check["condition"] == "hiccups")
        .collect();
    assert!(!measured.is_empty());
    for check in measured {
        assert_ne!(check["outcome"], "unavailable");
    }
}

#[test]
fn whether_the_clock_is_synchronised_is_told_without_programs() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinfeed"));
    let nowhere = tempfile::TempDir::new().unwrap();
    command
        .args(["doctor", "--json"])
        .env("PATH", nowhere.path());
    let (_, output) = Pinfeed::spawn(&mut command).finish();
    let report: serde_json::Value = serde_json::from_str(&output).expect("one JSON object");
    let checks = report["checks"].as_array().expect("a list").iter();
    let mut found = checks.filter(|check| check["condition"] == "clock synchronised");
    let outcome = &found.next().expect("it is checked")["outcome"];
    assert!(outcome == "passed" || outcome == "failed", "{report}");
}
