//! Goal: a real capture published at full speed is ingested whole, with any number of workers: the
//! same messages by topic, and the same digests, as computed straight from the file.

mod support;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;
use pinfeed::config::Engine;
use support::{ENGINES, assert_all_delivered, captures, number, publisher, subscriber};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const CAPTURE: &str = "binance/usdm_btcusdt_20240808.gz";

/// By topic: messages, bytes, digest.
type Counts = BTreeMap<String, (u64, u64, u64)>;

/// Reads the file with a JSON parser, sharing no code with what is tested.
fn counts_in_file(path: &Path) -> Counts {
    let file = BufReader::new(File::open(path).expect("the capture"));
    let mut counts = Counts::new();
    for line in BufReader::new(MultiGzDecoder::new(file)).lines() {
        let line = line.expect("a line of text");
        let (_, json) = line.split_once(' ').expect("a time and a message");
        let message: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let stream = message["stream"].as_str().unwrap_or("other");
        let row = counts.entry(format!("binance.{stream}")).or_default();
        row.0 += 1;
        row.1 += json.len() as u64;
        row.2 = xxh3_64_with_seed(json.as_bytes(), row.2);
    }
    counts
}

fn counts_in_csv(path: &Path) -> Counts {
    let text = fs::read_to_string(path).expect("the digests");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("topic,messages,payload_bytes,digest"));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let [topic, messages, bytes, digest] = fields[..] else {
                panic!("four fields: {line}");
            };
            let number = |text: &str| text.parse().expect("a number");
            let digest = u64::from_str_radix(digest, 16).expect("a digest");
            (topic.to_owned(), (number(messages), number(bytes), digest))
        })
        .collect()
}

fn ingested_whole(workers: &str) {
    let Some(folder) = captures() else { return };
    let path = folder.join(CAPTURE);
    let expected = counts_in_file(&path);
    let messages: u64 = expected.values().map(|row| row.0).sum();
    let by_topic: Vec<u64> = expected.values().map(|row| row.0).collect();
    assert_eq!(messages, 93_954);
    assert_eq!(by_topic, [66_089, 6_551, 21_313, 1]);

    for engine in ENGINES {
        let found = ingested(&path, workers, engine, messages, expected.len());
        assert_eq!(found, expected, "{engine:?}");
    }
}

fn ingested(path: &Path, workers: &str, engine: Engine, messages: u64, topics: usize) -> Counts {
    let (mut publish, endpoint) = publisher(&[
        "--json",
        "--speed",
        "max",
        "--capture",
        path.to_str().expect("UTF-8"),
    ]);
    let digests = tempfile::NamedTempFile::new().expect("a file");
    let digests_path = digests.path().to_str().expect("UTF-8");
    let mut run = subscriber(
        &endpoint,
        &[
            "--engine",
            engine.name(),
            "--workers",
            workers,
            "--messages",
            "93954",
            "--digests",
            digests_path,
        ],
    );
    let summary = run.json(0);
    assert_all_delivered(&summary, messages);
    assert_eq!(number(&summary, "topics"), topics as u64);
    assert_eq!(number(&summary["latency_ns"]["feed"], "count"), messages);
    assert_eq!(summary["engine"], engine.name());
    assert_eq!(number(&publish.json(0), "published"), messages);
    counts_in_csv(digests.path())
}

#[test]
fn by_one_worker() {
    ingested_whole("1");
}

#[test]
fn by_two_workers() {
    ingested_whole("2");
}

#[test]
fn by_four_workers() {
    ingested_whole("4");
}
