//! Goal: a million messages of the synthetic exchange come to the same topics, counts and digests
//! through either engine.

mod support;

use std::fs;

use pinfeed::config::Engine;
use support::{ENGINES, assert_all_delivered, publisher, subscriber};

const MESSAGES: u64 = 1_000_000;

/// Returns the digests of all topics, sorted.
fn digests_by(engine: Engine) -> Vec<String> {
    let messages = MESSAGES.to_string();
    let (_publisher, endpoint) = publisher(&["--rate", "max", "--messages", &messages]);
    let digests = tempfile::NamedTempFile::new().expect("a file");
    let mut run = subscriber(
        &endpoint,
        &[
            "--engine",
            engine.name(),
            "--messages",
            &messages,
            "--digests",
            digests.path().to_str().expect("UTF-8"),
        ],
    );
    assert_all_delivered(&run.json(0), MESSAGES);
    let text = fs::read_to_string(digests.path()).expect("the digests");
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn on_a_million_messages() {
    let [native, libzmq] = ENGINES.map(digests_by);
    assert_eq!(native, libzmq);
    assert_eq!(native.len(), 1 + 1_000, "a row a topic, and the heading");
}
