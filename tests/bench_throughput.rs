//! `pinfeed bench throughput` and `sweep`: the subject beside baselines that get the same messages, whatever their
//! frames and however many publishers send them; and values of a property in turn.

#![allow(missing_docs)]

mod support;

use std::fs;

use serde_json::Value;
use support::benchmark::{alone, bench, count, names, until_valid};
use tempfile::tempdir;

#[test]
fn a_sweep_goes_through_all_values_round_by_round() {
    let _alone = alone();
    let folder = tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mut process = bench(&[
        "sweep",
        "--vary",
        "connections=1,3",
        "--runs",
        "2",
        "--messages",
        "50000",
        "--json",
        "--output",
        path,
    ]);
    let report = process.json(0);
    let order = [
        "warm-up-connections",
        "run-1-connections",
        "run-2-connections",
    ];
    let places: Vec<usize> = order
        .iter()
        .flat_map(|round| [1, 3].map(|value| format!("\n{round}{value}")))
        .map(|step| {
            process
                .said
                .find(&step)
                .unwrap_or_else(|| panic!("{step:?}: {}", process.said))
        })
        .collect();
    assert!(places.is_sorted(), "{}", process.said);
    assert_eq!(report["parameters"]["values"], serde_json::json!([1, 3]));
    let results = &report["results"];
    for (index, value) in [1, 3].into_iter().enumerate() {
        let (point, figures) = (&results["points"][index], &results["figures"][index]);
        assert_eq!(point["value"], value);
        assert_eq!(point["messages"], 50_000);
        assert_eq!(point["runs"].as_array().unwrap().len(), 2, "{point}");
        // The middle of the two rounds' ratios.
        let rate = |index: usize, round: usize| {
            let run = &results["points"][index]["runs"][round];
            run["msgs_per_s"].as_f64().unwrap()
        };
        let of_round = |round| rate(index, round) / rate(0, round);
        let expected = f64::midpoint(of_round(0), of_round(1));
        let ratio = figures["msgs_per_s_to_first"].as_f64().unwrap();
        assert!((ratio / expected - 1.0).abs() < 1e-9, "{figures}");
    }
    let place = folder.path().join(&names(folder.path())[0]);
    assert_eq!(names(&place), ["runs.csv", "summary.json"]);
    let csv = fs::read_to_string(place.join("runs.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 4, "{csv}");
}

#[test]
fn a_sweep_at_a_rate_has_latencies_by_value() {
    let _alone = alone();
    let report = until_valid(|| {
        let flags = ["--runs", "1", "--rate", "5000", "--for", "400ms"];
        let vary = [
            "sweep",
            "--vary",
            "batch=1,1024",
            "--warm-up",
            "0s",
            "--json",
        ];
        let mut process = bench(&[&vary[..], &flags].concat());
        let (status, output) = process.finish();
        status.success().then_some(output)
    });
    let report: Value = serde_json::from_str(&report).expect("one JSON object");
    for index in 0..2 {
        let run = &report["results"]["points"][index]["runs"][0];
        assert_eq!(report["results"]["points"][index]["messages"], 2_000);
        assert_eq!(count(run, "feed"), 2_000, "{run}");
        let figures = &report["results"]["figures"][index];
        assert!(
            figures["feed_ns"][0]["median"].as_f64().unwrap() > 0.0,
            "{figures}"
        );
    }
}

#[test]
fn throughput_stands_beside_its_baselines() {
    let _alone = alone();
    let mut process = bench(&[
        "throughput",
        "--runs",
        "1",
        "--messages",
        "200000",
        "--json",
    ]);
    let report = process.json(0);
    let contenders = report["results"]["contenders"].as_array().unwrap();
    let names: Vec<&str> = contenders
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "pinfeed, native",
            "plain recv, nothing parsed",
            "bare libzmq SUB loop",
            "one inproc PUSH a message, 2 workers",
        ]
    );
    for contender in contenders {
        let runs = contender["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "the warm-up is dropped: {contender}");
        assert!(runs[0]["msgs_per_s"].as_f64().unwrap() > 0.0, "{contender}");
    }
    let figure = |index: usize| contenders[index]["runs"][0]["msgs_per_s"].as_f64().unwrap();
    let ratios = report["results"]["ratios"].as_array().unwrap();
    assert_eq!(ratios.len(), 3);
    for (index, ratio) in ratios.iter().enumerate() {
        let expected = figure(0) / figure(index + 1);
        let shown = ratio["msgs_per_s"].as_f64().unwrap();
        assert!((shown / expected - 1.0).abs() < 1e-9, "{ratio}");
    }
}

#[test]
fn two_publishers_send_two_frames_over_two_lanes_to_all_contenders() {
    let _alone = alone();
    let folder = tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    for engine in ["native", "libzmq"] {
        let flags =
            "--publishers 2 --lanes 2 --frames 2 --connections 2 --runs 1 --messages 100001";
        let flags: Vec<&str> = ["throughput", "--json", "--engine", engine, "--output", path]
            .into_iter()
            .chain(flags.split(' '))
            .collect();
        // Each contender has taken in all messages, or there is no result.
        let mut process = bench(&flags);
        let report = process.json(0);
        assert_eq!(report["verdict"], "OK", "{report}");
        let said = &process.said;
        assert!(said.contains("2 publishers on core "), "{said}");
        assert!(said.contains(": publishers are processes "), "{said}");
        let parameters = &report["parameters"];
        for (key, value) in [
            ("frames", 2),
            ("publishers", 2),
            ("connections", 2),
            ("lanes", 2),
        ] {
            assert_eq!(parameters[key], value, "{parameters}");
        }
        for contender in report["results"]["contenders"].as_array().unwrap() {
            assert_eq!(
                contender["runs"].as_array().unwrap().len(),
                1,
                "{contender}"
            );
        }
    }
    let names = names(folder.path());
    assert_eq!(names.len(), 2, "{names:?}");
    for name in &names {
        let unusual = "-frames2-publishers2-connections2-lanes2-";
        assert!(name.contains(unusual), "{name}");
    }
    let page = folder.path().join("page.html");
    let results = folder.path().join(&names[0]);
    let arguments = [
        "report",
        results.to_str().unwrap(),
        "--output",
        page.to_str().unwrap(),
    ];
    let (status, _) = support::Pinfeed::start(&arguments).finish();
    assert!(status.success());
    let page = fs::read_to_string(page).unwrap();
    for fact in ["frames", "publishers", "lanes"] {
        assert!(
            page.contains(&format!("<th>{fact}</th><td>2</td>")),
            "{fact}"
        );
    }
}

#[test]
fn each_property_is_swept_with_what_its_values_go_with() {
    let _alone = alone();
    for (vary, more) in [
        ("frames=1,3", &[][..]),
        ("publishers=1,2", &[]),
        ("lanes=1,2", &["--publishers", "2"]),
        // Neither goes with one connection, or 28 bytes.
        ("connections=2,4", &["--lanes", "2"]),
        ("size=64,256", &["--frames", "40"]),
    ] {
        let flags = [
            "sweep",
            "--vary",
            vary,
            "--runs",
            "1",
            "--messages",
            "20000",
            "--json",
        ];
        let report = bench(&[&flags, more].concat()).json(0);
        let points = report["results"]["points"].as_array().unwrap();
        let values: Vec<String> = points
            .iter()
            .map(|point| point["value"].to_string())
            .collect();
        assert!(vary.ends_with(&format!("={}", values.join(","))), "{vary}");
        assert_eq!(report["verdict"], "OK", "{report}");
    }
}

#[test]
fn messages_of_several_frames_are_timed_over_several_lanes() {
    let _alone = alone();
    until_valid(|| {
        let flags = "latency --rate 5000 --for 400ms --warm-up 0s --runs 1 --json --frames 3 --connections 4 --lanes 2";
        let flags: Vec<&str> = flags.split(' ').collect();
        let (status, output) = bench(&flags).finish();
        let report: Value = serde_json::from_str(&output).expect("one JSON object");
        let run = &report["results"][0];
        status.success().then(|| {
            assert_eq!(count(run, "feed"), 2_000, "{run}");
            let threads = run["threads"].to_string();
            assert!(
                threads.contains("lane-0") && threads.contains("lane-1"),
                "{threads}"
            );
        })
    });
}
