//! `pinfeed bench`: figures add up, a rate that is missed is said to be, a subject that stalls shows it,
//! and what can't be carried out is refused and leaves nothing behind.

#![allow(missing_docs)]

mod support;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use pinfeed::{host::topology::usable_cores, latency::log};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{
    Pinfeed,
    benchmark::{alone, bench, count, names, until_valid},
    captures, number, wait_until,
};
use tempfile::tempdir;

/// Waits for the end of a latency run, and returns its report if its rate was held.
fn valid(process: &mut Pinfeed) -> Option<Value> {
    let (status, output) = process.finish();
    let report: Value = serde_json::from_str(&output).expect("one JSON object");
    let verdict = report["results"][0]["verdict"].as_str().expect("a verdict");
    let is_ok = verdict == "OK";
    assert_eq!(status.code(), Some(i32::from(!is_ok)), "{}", process.said);
    assert!(is_ok || verdict.starts_with("INVALID: "), "{verdict}");
    is_ok.then_some(report)
}

#[test]
fn a_latency_run_adds_up() {
    let _alone = alone();
    let (folder, report) = until_valid(|| {
        let folder = tempdir().unwrap();
        let output = folder.path().join("results");
        let mut process = bench(&[
            "latency",
            "--rate",
            "20000",
            "--for",
            "1s",
            "--warm-up",
            "500ms",
            "--runs",
            "1",
            "--json",
            "--hiccups",
            "--output",
            output.to_str().unwrap(),
        ]);
        Some((folder, valid(&mut process)?))
    });
    let output = folder.path().join("results");
    let run = &report["results"][0];
    for key in ["due", "published", "received"] {
        assert_eq!(number(run, key), 30_000, "{run}");
    }
    assert_eq!(number(run, "lost"), 0);
    assert_eq!(run["balanced"], true);
    // What was received within the warm-up is left out of the subject's, to the batch.
    let measured = count(run, "feed");
    assert!((1..=30_000).contains(&measured), "{run}");
    assert_eq!(count(run, "queue"), measured);
    assert_eq!(count(run, "handler"), measured);
    // The same span, to what was due within it and stamped after it.
    let late = count(run, "lateness");
    assert!((20_000..=30_000).contains(&late), "{run}");
    let hiccups = format!("hiccup-{}", usable_cores()[0]);
    assert!(count(run, &hiccups) > 1_000, "one a millisecond: {run}");
    assert!(
        run["latency_ns"]["feed"]["p99_99"].is_null(),
        "too few beyond it"
    );
    assert!(number(&run["latency_ns"]["feed"], "p99") > 0);
    assert_eq!(
        report["environment"]["cores"].as_array().unwrap().len(),
        usable_cores().len()
    );
    assert_eq!(report["parameters"]["rate"], 20_000.0);
    assert_eq!(report["parameters"]["hiccups"], true);
    assert_eq!(report["verdict"], "OK");
    assert!(run["warnings"].is_array(), "{run}");

    let [name] = &names(&output)[..] else {
        panic!("one folder: {:?}", names(&output));
    };
    assert!(name.starts_with("latency-rate20000-"), "{name}");
    let place = output.join(name);
    let summary = fs::read(place.join("summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    assert_eq!(summary, report, "what is printed is what is written");
    let csv = fs::read_to_string(place.join("runs.csv")).unwrap();
    let cores = usable_cores().len().min(2);
    assert!(csv.lines().count() >= 1 + 4 + cores, "{csv}");
    assert!(csv.contains(&format!("feed,{measured},")), "{csv}");
    let logged = log::read(place.join("run-1.hlog")).unwrap();
    let feed = logged.iter().filter(|interval| interval.tag == "feed");
    assert_eq!(
        feed.map(|interval| interval.histogram.len()).sum::<u64>(),
        measured
    );
    for stage in ["feed", "queue", "handler", "lateness"] {
        let text = fs::read_to_string(place.join(format!("run-1.{stage}.hgrm"))).unwrap();
        assert!(text.contains("#[Mean"), "{text}");
    }
}

#[test]
fn a_rate_that_no_generator_holds_is_invalid() {
    let _alone = alone();
    let mut process = bench(&[
        "latency",
        "--rate",
        "900000000",
        "--for",
        "300ms",
        "--warm-up",
        "0s",
        "--runs",
        "1",
        "--json",
    ]);
    let report = process.json(1);
    let verdict = report["results"][0]["verdict"].as_str().unwrap();
    assert!(verdict.starts_with("INVALID: rate missed by "), "{verdict}");
    assert!(process.said.contains(verdict), "{}", process.said);
    let run = &report["results"][0];
    let received = number(run, "received");
    assert_eq!(
        count(run, "feed"),
        received,
        "without a warm-up, all is measured: {run}"
    );
}

#[test]
fn a_subject_that_stalls_shows_it() {
    let _alone = alone();
    let report = until_valid(|| {
        let mut process = bench(&[
            "latency",
            "--rate",
            "20000",
            "--for",
            "3s",
            "--warm-up",
            "200ms",
            "--runs",
            "1",
            "--json",
        ]);
        let line = process.wait_for_line("run-1 (");
        let (_, subject) = line.split_once("subject is process ").unwrap();
        let subject = Pid::from_raw(subject.parse().unwrap()).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let stalls = thread::spawn({
            let ended = ended.clone();
            move || stall(subject, &ended)
        });
        let report = valid(&mut process);
        ended.store(true, SeqCst);
        assert!(stalls.join().unwrap() >= 1);
        // On a machine that stalls as well there is no telling.
        report.filter(|report| {
            let lateness = &report["results"][0]["latency_ns"]["lateness"];
            number(lateness, "p99") < 20_000_000
        })
    });
    let run = &report["results"][0];
    let feed = &run["latency_ns"]["feed"];
    // Of 200 ms in a second a fifth of all messages wait for, the longest for all of it. A closed loop
    // would have had one message a stall under way.
    assert!(number(feed, "p99") > 100_000_000, "{run}");
    assert!(number(feed, "p50") < 100_000_000, "{run}");
}

/// Stops a process for 200 ms of each second, and returns how often.
fn stall(process: Pid, ended: &AtomicBool) -> usize {
    let mut stalls = 0;
    loop {
        // What is measured.
        thread::sleep(Duration::from_millis(800));
        if ended.load(SeqCst) || kill_process(process, Signal::STOP).is_err() {
            return stalls;
        }
        thread::sleep(Duration::from_millis(200));
        if kill_process(process, Signal::CONT).is_err() {
            return stalls;
        }
        stalls += 1;
    }
}

#[test]
fn what_cannot_be_carried_out_is_refused_by_flag() {
    let absent = (usable_cores().last().unwrap() + 1).to_string();
    let many = format!("0-{absent}");
    for (arguments, said) in [
        (
            &["latency", "--rate", "0"][..],
            "--rate = 0: it is out of range; give",
        ),
        (
            &["latency", "--rate", "max"],
            "give a number of messages a second; bench throughput",
        ),
        (
            &["latency", "--workers", "100000"],
            "--workers = 100000: it is out of range; give 1 to 256",
        ),
        (
            &["sweep", "--vary", "size=64,8"],
            "--vary = size=8: it is out of range; give 28 to",
        ),
        (
            &["sweep", "--vary", "colour=1"],
            "give size, frames, topics, publishers",
        ),
        (
            &["replay", "/nowhere/capture"],
            "/nowhere/capture: No such file",
        ),
        (
            &["latency", "--rate", "1e12"],
            "--rate = 1000000000000: it is out of range; give",
        ),
        (
            &["latency", "--rate", "nan"],
            "--rate = NaN: it is out of range; give",
        ),
        (
            &["capacity", "--from", "-5"],
            "--from = -5: it is out of range; give",
        ),
        (
            &["sweep", "--vary", "workers=1", "--rate", "inf"],
            "--rate = inf: it is out of range; give",
        ),
        (
            &["replay", "/nowhere/capture", "--speeds", "1,10,1.0"],
            "--speeds = 1: it is given twice; give each speed once",
        ),
        (
            &["replay", "/nowhere/capture", "--speeds", "1e-9"],
            "give numbers from 0.000001 to 1000000",
        ),
        (
            &["throughput", "--hiccups"],
            "unexpected argument '--hiccups'",
        ),
        (
            &["throughput", "--lanes", "2"],
            "--lanes = 2: 1 connection(s) can't be spread over so many lanes; give no more than that, or more --connections",
        ),
        (
            &["throughput", "--frames", "29"],
            "--frames = 29: it is out of range; give 1 to 28",
        ),
        (
            &["throughput", "--publishers", "0"],
            "--publishers = 0: it is out of range; give 1 to 64",
        ),
        (
            &["sweep", "--vary", "publishers=1,2", "--rate", "1000"],
            "--publishers = 2: at a rate there is one",
        ),
        (
            &["sweep", "--vary", "lanes=1,2,3", "--connections", "2"],
            "--vary = lanes=3: 2 connection(s) can't be spread over so many lanes",
        ),
        (
            &["sweep", "--vary", "publishers=1,300"],
            "--vary = publishers=300: it is out of range; give 1 to 64",
        ),
        (
            &["sweep", "--vary", "size=64,256", "--frames", "65"],
            "--vary = size=64: with --frames = 65, it is out of range; give 1 to 64",
        ),
        (&["sweep", "--vary", "size=28", "--for", "1s"], "--rate <N>"),
        (
            &["throughput", "--tui"],
            "--tui: standard error is no terminal",
        ),
        (
            &["latency", "--for", "0s"],
            "--for = 0s: it is out of range; give",
        ),
        (
            &["latency", "--topics", "0"],
            "--topics = 0: it is out of range; give 1 to 100000",
        ),
        (
            &["latency", "--size", "8"],
            "--size = 8: it is out of range; give 28 to",
        ),
        (
            &["latency", "--generator-core", &absent],
            "this process may not use core",
        ),
        (
            &["latency", "--subject-cores", &many],
            "this process may not use core",
        ),
    ] {
        let folder = tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let mut process = bench(&[arguments, &["--output", path]].concat());
        let (status, _) = process.finish();
        assert_eq!(status.code(), Some(2), "{arguments:?}: {}", process.said);
        assert!(
            process.said.contains(said),
            "{arguments:?}: {}",
            process.said
        );
        assert_eq!(names(folder.path()), [""; 0], "{arguments:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_at_once() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let inside = file.join("results");
    let mut process = bench(&["latency", "--output", inside.to_str().unwrap()]);
    let (status, _) = process.finish();
    assert_eq!(status.code(), Some(2), "{}", process.said);
    assert!(
        process.said.contains(inside.to_str().unwrap()),
        "{}",
        process.said
    );
    assert!(
        !process.said.contains("generator is process"),
        "{}",
        process.said
    );
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn an_interrupted_benchmark_leaves_nothing() {
    let _alone = alone();
    let folder = tempdir().unwrap();
    let output = folder.path().join("results");
    let path = output.to_str().unwrap();
    let mut process = bench(&["latency", "--for", "30s", "--output", path]);
    let line = process.wait_for_line("run-1 (");
    let (_, ids) = line.split_once("generator is process ").unwrap();
    let (generator, subject) = ids.split_once(", subject is process ").unwrap();
    process.signal(Signal::INT);
    let (status, _) = process.finish();
    assert_eq!(status.code(), Some(130), "{}", process.said);
    assert!(!output.exists());
    for id in [generator, subject] {
        wait_until("its processes have ended", || {
            !Path::new(&format!("/proc/{id}")).exists()
        });
    }
}

/// The ids of generator and receiver in what a step is announced with.
fn processes(line: &str) -> [String; 2] {
    let (_, ids) = line.split_once("generator is process ").unwrap();
    let (generator, subject) = ids.split_once(", subject is process ").unwrap();
    [generator.to_owned(), subject.to_owned()]
}

/// Waits until processes have ended, which as nobody's children may stay as zombies.
fn wait_for_end(processes: &[String]) {
    for id in processes {
        wait_until("its processes have ended", || {
            let stat = fs::read_to_string(format!("/proc/{id}/stat"));
            !stat.is_ok_and(|stat| !stat.contains(") Z "))
        });
    }
}

#[test]
fn what_a_killed_benchmark_leaves_goes_by_itself_or_with_the_next() {
    let _alone = alone();
    let folder = tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mut killed = bench(&["latency", "--for", "30s", "--output", path]);
    let line = killed.wait_for_line("run-1 (");
    killed.signal(Signal::KILL);
    killed.finish();
    wait_for_end(&processes(&line));
    let [left] = &names(folder.path())[..] else {
        panic!("one folder: {:?}", names(folder.path()));
    };
    assert!(left.starts_with(".pinfeed-bench-"), "{left}");

    let mut killed = bench(&["throughput", "--messages", "20000000", "--output", path]);
    let line = killed.wait_for_line("warm-up, bare libzmq SUB loop");
    killed.signal(Signal::KILL);
    killed.finish();
    wait_for_end(&processes(&line));
    let removed = format!("{left}, which a benchmark");
    assert!(killed.said.contains(&removed), "{}", killed.said);

    let short = ["--runs", "1", "--messages", "20000", "--output", path];
    let mut next = bench(&[&["sweep", "--vary", "workers=1"][..], &short].concat());
    let (status, _) = next.finish();
    assert!(status.success(), "{}", next.said);
    let [results] = &names(folder.path())[..] else {
        panic!("only results: {:?}", names(folder.path()));
    };
    assert!(results.starts_with("sweep-workers1-"), "{results}");
}

/// Replays a capture at these speeds, for half a second each, until no rate was missed.
fn replay(capture: &Path, speeds: &str) -> Value {
    let capture = capture.to_str().unwrap();
    let objective = ["--objective", "max<1h,loss=0", "--json"];
    let length = ["--for", "500ms", "--warm-up", "0s", "--speeds", speeds];
    until_valid(|| {
        let mut process = bench(&[&["replay", capture][..], &objective, &length].concat());
        let (_, output) = process.finish();
        let report: Value = serde_json::from_str(&output).expect("one JSON object");
        (report["results"]["end"] == "all-held").then_some(report)
    })
}

#[test]
fn a_replay_keeps_the_bursts_of_its_capture() {
    let _alone = alone();
    let folder = tempdir().unwrap();
    let path = folder.path().join("capture");
    // Ten messages a millisecond, at once, for a tenth of a second; then anew, after a tenth of a millisecond.
    let line = |message: u64| {
        let time_ns = 1_723_000_000_000_000_000 + message / 10 * 1_000_000;
        format!("{time_ns} {{\"stream\":\"btcusdt@trade\",\"data\":{message}}}\n")
    };
    fs::write(&path, (0..1_000).map(line).collect::<String>()).unwrap();
    let report = replay(&path, "1,10");
    assert_eq!(report["results"]["highest_speed"], 10.0);
    assert!(report["parameters"]["payload_bytes"].is_null(), "{report}");
    for (speed, busiest_ms, due) in [(1.0, 10, 5_050), (10.0, 100, 50_460)] {
        // The last one, should it have been repeated.
        let steps = report["results"]["steps"].as_array().unwrap().iter();
        let step = steps.rev().find(|step| step["speed"] == speed).unwrap();
        assert_eq!(number(step, "busiest_ms"), busiest_ms);
        for key in ["due", "received"] {
            assert_eq!(number(step, key), due, "{step}");
        }
        assert_eq!(number(step, "lost"), 0);
        assert_eq!(count(step, "feed"), due);
    }
}

#[test]
fn a_real_capture_is_replayed() {
    let Some(folder) = captures() else { return };
    let _alone = alone();
    let report = replay(&folder.join("binance/usdm_btcusdt_20240808.gz"), "20");
    let steps = report["results"]["steps"].as_array().unwrap();
    let step = steps.last().unwrap();
    assert!(number(step, "due") > 1_000, "{step}");
    assert_eq!(number(step, "received"), number(step, "due"), "{step}");
    assert_eq!(number(step, "lost"), 0, "{step}");
}

#[test]
fn a_search_for_capacity_says_where_it_ended() {
    let _alone = alone();
    // Nothing is handled within a nanosecond, and all is within an hour.
    let flags = [
        "--from",
        "5000",
        "--for",
        "300ms",
        "--warm-up",
        "0s",
        "--json",
    ];
    let search =
        |objective: &str| bench(&[&["capacity", "--objective", objective][..], &flags].concat());
    let report = until_valid(|| {
        let report = search("queue.max<1ns").json(1);
        (report["results"]["end"] != "generator-limit").then_some(report)
    });
    assert_eq!(report["results"]["end"], "nothing-held");
    assert!(report["results"]["highest_msgs_per_s"].is_null());
    let step = &report["results"]["steps"][0];
    assert!(
        step["broken"][0]
            .as_str()
            .unwrap()
            .starts_with("queue.max "),
        "{step}"
    );

    let folder = tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let generous = [
        "capacity",
        "--objective",
        "max<1h,loss=0",
        "--from",
        "100000000",
        "--for",
        "300ms",
    ];
    let mut process = bench(&[&generous[..], &["--warm-up", "0s", "--output", path]].concat());
    let (status, _) = process.finish();
    assert_eq!(status.code(), Some(1), "no rate was held: {}", process.said);
    let said = &process.said;
    let tries = said.matches("100M msg/s: INVALID: rate missed by ").count();
    // Two runs in which the subject took no more decide, or three in which the generator sent no more.
    assert!((2..=4).contains(&tries), "{said}");
    let end = if said.contains("breaks by 2 to 0") {
        "no rate holds max<1h,loss=0, not even the first"
    } else {
        "INVALID: nothing is known: in 3 runs at the first rate the generator gave out"
    };
    assert!(said.contains(end), "{said}");
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn objectives_that_make_no_sense_are_told_the_grammar() {
    for (objective, said) in [
        ("p99=1ms", "pNN[.N]<TIME or max<TIME"),
        (
            "p99.999<1ms",
            "are too few to tell p99.999, which takes 1250000; give 125s or more, or a higher --from",
        ),
    ] {
        let mut process = bench(&["capacity", "--objective", objective]);
        let (status, _) = process.finish();
        assert_eq!(status.code(), Some(2), "{}", process.said);
        assert!(
            process.said.replace("\n", " ").contains(said),
            "{}",
            process.said
        );
    }
}
