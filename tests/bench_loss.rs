//! Goal: a benchmark at a rate is not OK with a single message missing, and says how many.

#![allow(missing_docs)]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use pinfeed::{
    bench::{
        Bench, Cores, LatencyPlan, LatencyRun, Objective, Progress, ResultFolder, Shape, Step,
        Tells, Verdict,
    },
    config::{Engine, Handoff},
    handoff::HandoffKind,
    stop::Stop,
    wait::Wait,
};
use tempfile::tempdir;

/// A pinfeed whose `run` leaves three messages before it should.
const LEAVES_EARLY: &str = r#"#!/bin/sh
if [ "$1" = run ]; then
    previous=
    for word do
        shift
        [ "$previous" != --messages ] || word=$((word - 3))
        previous=$word
        set -- "$@" "$word"
    done
fi
exec 'PROGRAM' "$@"
"#;

struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &str, _: Duration, _: &[u32], _: u32) {}
    fn left(&mut self, _: &str, _: Duration) {}
}

#[test]
fn three_messages_of_thousands_that_are_missing_are_said() {
    let folder = tempdir().unwrap();
    let program = folder.path().join("leaves-early");
    let script = LEAVES_EARLY.replace("PROGRAM", env!("CARGO_BIN_EXE_pinfeed"));
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let bench = Bench {
        program,
        shape: Shape {
            payload_bytes: 28,
            frames: 1,
            topics: 10,
            skew: 0.0,
            workers: 1,
            engine: Engine::Native,
            handoff: HandoffKind::Ring,
            wait: Wait::Park,
            batch_messages: Handoff::default().batch_messages,
            publishers: 1,
            connections: 1,
            lanes: 1,
        },
        cores: Cores::choose(1, None, None).unwrap(),
        hiccups: false,
        stop: Stop::default(),
    };
    let plan = LatencyPlan {
        rate: 5_000.0,
        length: Duration::from_secs(1),
        warm_up: Duration::ZERO,
        runs: 1,
    };
    let results = ResultFolder::create(Some(folder.path())).unwrap();
    // A busy machine may make a generator miss its rate.
    let runs = (1..=8).map(|number| run(&bench, &plan, number, &results));
    let mut runs = runs.filter(|run| matches!(run.verdict, Verdict::NotReceived(_)));
    let run = runs
        .next()
        .expect("one of several generators holds its rate");
    assert_eq!(run.verdict, Verdict::NotReceived(3));
    assert_eq!((run.published, run.received), (5_000, 4_997));
    assert!(
        run.to_string()
            .starts_with("INVALID: 3 messages sent were not received"),
        "{run}"
    );
    let tells = |objective: &str| {
        let objective: Objective = objective.parse().unwrap();
        Step::new(run.clone(), &objective).tells()
    };
    assert_eq!(tells("p50<1h"), Tells::Breaks);
    assert_eq!(tells("p50<1h,loss=2"), Tells::Breaks);
    assert_eq!(tells("p50<1h,loss=3"), Tells::Holds, "what it allows for");
}

fn run(bench: &Bench, plan: &LatencyPlan, number: u32, results: &ResultFolder) -> LatencyRun {
    let name = format!("run-{number}");
    let run = bench.latency(plan, &name, results, &mut Silent).unwrap();
    assert_ne!(run.verdict, Verdict::Ok, "{run}");
    run
}
