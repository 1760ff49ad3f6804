//! Goal: a publisher that is not ours, pyzmq's PUB, is ingested whole by either engine: bound and
//! connected, with one frame and with several.

mod support;

use std::{fs, path::Path, process::Command};

use pinfeed::config::Engine;
use support::{ENGINES, Pinfeed, assert_all_delivered, python::python};

const MESSAGES: u64 = 50_000;
const TOPICS: u64 = 100;

fn start_publisher(python: &Path, side: &str, endpoint: &str, frames: &str) -> Pinfeed {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/publisher.py");
    let topics = TOPICS.to_string();
    Pinfeed::spawn(
        Command::new(python)
            .arg(script)
            .args([side, endpoint, frames, &topics]),
    )
}

fn ingested_whole(engine: Engine, python: &Path, side: &str, frames: &str, envelope: &str) {
    let messages = MESSAGES.to_string();
    let digests = tempfile::NamedTempFile::new().expect("a file");
    let digests_path = digests.path().to_str().expect("UTF-8");
    let common = [
        "run",
        "--engine",
        engine.name(),
        "--envelope",
        envelope,
        "--messages",
        &messages,
        "--digests",
        digests_path,
        "--json",
    ];
    let (mut run, _publisher);
    if side == "bind" {
        let mut publisher = start_publisher(python, side, "tcp://127.0.0.1:*", frames);
        let endpoint = publisher.wait_for_line("publishing on ");
        run = Pinfeed::start(&[&common[..], &["--connect", &endpoint]].concat());
        _publisher = publisher;
    } else {
        run = Pinfeed::start(&[&common[..], &["--bind", "tcp://127.0.0.1:*"]].concat());
        let endpoint = run.wait_for_line("listening on ");
        _publisher = start_publisher(python, side, &endpoint, frames);
    }
    assert_all_delivered(&run.json(0), MESSAGES);
    // Topics take turns, so a run of messages without a gap has as many of each.
    let counts = fs::read_to_string(digests.path()).expect("the digests");
    let mut topics: Vec<&str> = counts
        .lines()
        .skip(1)
        .map(|row| {
            let mut fields = row.split(',');
            let topic = fields.next().expect("a topic");
            assert_eq!(
                fields.next(),
                Some("500"),
                "{engine:?} {side} {frames} {envelope}: {row}"
            );
            topic
        })
        .collect();
    topics.sort_unstable();
    let expected: Vec<String> = (0..TOPICS).map(|topic| format!("SYM{topic:03}")).collect();
    assert_eq!(topics, expected);
}

#[test]
fn bound_and_connected_with_one_frame_and_several() {
    let Some(python) = python() else { return };
    for engine in ENGINES {
        for side in ["bind", "connect"] {
            ingested_whole(engine, &python, side, "1", "delimited: ");
            ingested_whole(engine, &python, side, "2", "raw");
            ingested_whole(engine, &python, side, "5", "raw");
        }
    }
}
