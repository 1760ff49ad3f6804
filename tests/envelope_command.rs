//! Goal: `pinfeed envelope` shows how an envelope reads messages of a file, of a publisher, and of a
//! configuration's feed, and its exit code tells whether all fit.

mod support;

use std::io::Write;

use serde_json::Value;
use support::{Pinfeed, free_endpoint, number, publisher};
use tempfile::NamedTempFile;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("it is written");
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("UTF-8")
}

fn run(arguments: &[&str], code: i32) -> (Value, String) {
    let arguments = [&["envelope", "--json"], arguments].concat();
    let mut process = Pinfeed::start(&arguments);
    (process.json(code), process.said.clone())
}

/// "hashtx", "body", and a number.
const BITCOIND: &str = "686173687478 626f6479 07000000\n";

#[test]
fn a_file_is_read_message_by_message() {
    let good = file(&format!("# captured\n\n{BITCOIND}"));
    let (report, said) = run(&["--envelope", "bitcoind", "--test", path(&good)], 0);
    assert_eq!(
        (number(&report, "fit"), number(&report, "rejected")),
        (1, 0)
    );
    let reading = &report["readings"][0];
    assert_eq!(reading["topic"], "hashtx");
    assert_eq!(reading["sequence"], 7);
    assert_eq!(reading["epoch"], Value::Null);
    assert_eq!(reading["payload"], "body");
    assert!(said.contains("topic \"hashtx\"  sequence 7"), "{said}");

    let mixed = file(&format!("{BITCOIND}6869 - 07\n6869\n{BITCOIND}"));
    let (report, said) = run(&["--envelope", "bitcoind", "--test", path(&mixed)], 1);
    assert_eq!(
        (number(&report, "fit"), number(&report, "rejected")),
        (2, 2)
    );
    assert_eq!(report["readings"][1]["rejected"], "truncated_field");
    assert_eq!(number(&report["rejected_by_reason"], "missing_frame"), 1);
    assert!(said.contains("REJECTED missing_frame"), "{said}");
    let limited = [
        "--envelope",
        "bitcoind",
        "--messages",
        "1",
        "--test",
        path(&mixed),
    ];
    assert_eq!(number(&run(&limited, 0).0, "messages"), 1);
}

#[test]
fn a_configuration_describes_its_own() {
    let config = file(
        r#"
        [[lane]]
        name = "a"
        [[feed]]
        name = "first"
        envelope = "dwx"
        [[feed]]
        name = "second"
        [feed.envelope]
        topic = { frame = 0, bytes = 2 }
        sequence = { frame = 0, offset = -4, width = 4, endian = "big", scope = "line" }
        "#,
    );
    let messages = file("4142ff00000102\n");
    let both = ["--config", path(&config), "--test", path(&messages)];
    let (report, _) = run(&[&both[..], &["--feed", "second"]].concat(), 0);
    assert_eq!(report["readings"][0]["sequence"], 258);
    assert_eq!(report["readings"][0]["topic"], "AB");
    let mut unnamed = Pinfeed::start(&[&["envelope"], &both[..]].concat());
    assert_eq!(unnamed.finish().0.code(), Some(2));
    assert!(unnamed.said.contains("first, second"), "{}", unnamed.said);
}

#[test]
fn a_publisher_is_listened_to() {
    let (_publisher, endpoint) = publisher(&["--topics", "3", "--rate", "1000"]);
    let connect = ["--connect", &endpoint, "--messages", "5"];
    let (report, said) = run(&[&connect[..], &["--envelope", "pinfeed"]].concat(), 0);
    assert_eq!(
        (number(&report, "messages"), number(&report, "fit")),
        (5, 5)
    );
    assert!(report["readings"][0]["timestamp_ns"].is_u64());
    assert!(
        said.contains("5 message(s) read as pinfeed: 5 fit"),
        "{said}"
    );
}

#[test]
fn silence_and_nonsense_are_said() {
    let endpoint = free_endpoint();
    let silent = ["--envelope", "raw", "--connect", &endpoint, "--for", "50ms"];
    let (report, said) = run(&silent, 1);
    assert_eq!(number(&report, "messages"), 0);
    assert!(said.contains("there was no message"), "{said}");

    let nonsense = file("686\n");
    let mut process = Pinfeed::start(&["envelope", "--envelope", "raw", "--test", path(&nonsense)]);
    assert_eq!(process.finish().0.code(), Some(2));
    assert!(
        process.said.contains(":1: it is not frames"),
        "{}",
        process.said
    );
}

#[test]
fn names_are_listed() {
    let (status, output) = Pinfeed::start(&["envelope", "--list"]).finish();
    assert!(status.success());
    for name in [
        "raw",
        "delimited:C",
        "pinfeed",
        "bitcoind",
        "kvmsg",
        "cryptofeed",
        "eddn",
        "dwx",
    ] {
        assert!(
            output.lines().any(|line| line.starts_with(name)),
            "{name} in {output}"
        );
    }
}
