//! Publishers that share a feed, each with topics of its own, and a subscriber that spreads their endpoints over
//! lanes: what is published is received, once, in as many frames.

#![allow(missing_docs)]

mod support;

use serde_json::Value;
use support::{ENGINES, Pinfeed, assert_all_delivered, number, publisher};

/// What each publisher sends, in messages.
const EACH: u64 = 30_000;

fn share(name: &str, frames: &str) -> (Pinfeed, String) {
    let messages = EACH.to_string();
    publisher(&[
        "--blast",
        "--share",
        name,
        "--frames",
        frames,
        "--topics",
        "101",
        "--skew",
        "0",
        "--rate",
        "max",
        "--messages",
        &messages,
    ])
}

fn run(endpoints: &[&str], flags: &[&str]) -> Value {
    let mut arguments = vec!["run", "--json", "--envelope", "pinfeed"];
    for endpoint in endpoints {
        arguments.extend(["--connect", endpoint]);
    }
    arguments.extend(flags);
    Pinfeed::start(&arguments).json(0)
}

#[test]
fn shares_come_whole_over_lanes_of_their_own() {
    let messages = (2 * EACH).to_string();
    for engine in ENGINES {
        for frames in ["1", "2", "5"] {
            let (_first, a) = share("1/2", frames);
            let (_second, b) = share("2/2", frames);
            let flags = [
                "--lanes",
                "2",
                "--messages",
                &messages,
                "--engine",
                engine.name(),
            ];
            let summary = run(&[&a, &b], &flags);
            assert_all_delivered(&summary, 2 * EACH);
            assert_eq!(number(&summary, "lost"), 0, "{summary}");
            // 51 of one and 50 of the other, none of both.
            assert_eq!(number(&summary, "topics"), 101, "{summary}");
            let threads = summary["threads"].to_string();
            assert!(
                threads.contains("lane-0") && threads.contains("lane-1"),
                "{threads}"
            );
        }
    }
}

#[test]
fn what_cannot_be_shared_or_spread_is_refused() {
    for (arguments, said) in [
        (
            &["run", "--connect", "tcp://127.0.0.1:1", "--lanes", "2"][..],
            "--lanes = 2: 1 endpoint(s) can't be spread over so many lanes; give no more than that, or more --connect",
        ),
        (
            &["run", "--connect", "tcp://127.0.0.1:1", "--lanes", "0"],
            "--lanes = 0: nothing would receive; give 1 or more",
        ),
        (
            &[
                "run",
                "--connect",
                "tcp://nowhere",
                "--connect",
                "nothing",
                "--lanes",
                "2",
            ],
            "--connect",
        ),
        (
            &["run", "--bind", "tcp://127.0.0.1:*", "--lanes", "2"],
            "--lanes",
        ),
        (
            &["publish", "--blast", "--share", "0/2"],
            "give one of N shares: 1/N to N/N",
        ),
        (
            &["publish", "--blast", "--share", "3/2"],
            "give one of N shares: 1/N to N/N",
        ),
        (
            &["publish", "--blast", "--share", "7/9", "--topics", "8"],
            "--share = 7/9: it is out of range; give 1/N to N/N, with N up to 8",
        ),
        (&["publish", "--share", "1/2"], "--blast"),
        (
            &["publish", "--blast", "--frames", "29"],
            "--frames = 29: it is out of range; give 1 to 28",
        ),
        (
            &["publish", "--blast", "--frames", "2", "--envelope", "raw"],
            "--frames = 2: messages in the envelope raw are not split",
        ),
        (
            &["run"],
            "FEEDS.toml: nothing says where messages come from",
        ),
        (
            &["tap", "--serve", "tcp://127.0.0.1:*"],
            "--connect: no publisher could be heard",
        ),
    ] {
        let mut process = Pinfeed::start(arguments);
        let (status, _) = process.finish();
        assert_eq!(status.code(), Some(2), "{arguments:?}: {}", process.said);
        assert!(
            process.said.contains(said),
            "{arguments:?}: {}",
            process.said
        );
    }
}
