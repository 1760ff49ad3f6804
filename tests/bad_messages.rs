//! Goal: a message that does not fit its envelope, whatever is wrong with it, is rejected and counted by
//! reason, the first few are kept to look at, and what comes after it by the same connection arrives.

mod support;

use std::{io::Write, time::Duration};

use flate2::{Compression, write::ZlibEncoder};
use pinfeed::{
    clock::Stopwatch,
    config::{Config, Engine},
    envelope::Envelope,
    lane::Quota,
    ledger::{Rejection, SAMPLE_BYTES_MAX, SAMPLES_MAX},
    message::Message,
    pipeline::{Outcome, Pipeline},
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, LIMIT, Pinfeed, bound_xpub, finish, number, wait_until};

#[derive(Default)]
struct Keep(Vec<(Vec<u8>, Vec<u8>)>);

impl Handler for Keep {
    fn on_message(&mut self, message: &Message<'_>) {
        let fields = (message.topic().to_vec(), message.payload().to_vec());
        self.0.push(fields);
    }
}

/// Publishes messages by one connection, and returns what became of them.
fn receive(engine: Engine, envelope: &str, messages: &[&[&[u8]]]) -> Outcome<Keep> {
    let context = zmq::Context::new();
    let (socket, endpoint) = bound_xpub(&context);
    let envelope: Envelope = envelope.parse().expect("a name");
    let mut config = Config::connect(&endpoint, envelope);
    config.engine = Some(engine);
    config.workers.count = 1;
    let stop = Stop::default();
    let (quota, handler) = (Quota::of(messages.len() as u64), |_| Keep::default());
    let mut pipeline = Pipeline::start(&config, quota, stop, handler).unwrap();
    socket.recv_bytes(0).expect("it subscribes");
    for frames in messages {
        socket.send_multipart(*frames, 0).unwrap();
    }
    wait_until("all are accounted for", || {
        pipeline.look().accounted() == messages.len() as u64
    });
    let outcome = finish(pipeline);
    assert!(outcome.totals.balanced());
    assert_eq!(outcome.totals.received, messages.len() as u64);
    assert_eq!(outcome.totals.disconnects, 0);
    outcome
}

fn rejected(outcome: &Outcome<Keep>, reason: Rejection) -> u64 {
    outcome.totals.rejected_by_reason[reason as usize]
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn sequence_frames_that_are_cut_short_or_missing() {
    for engine in ENGINES {
        let outcome = receive(
            engine,
            "bitcoind",
            &[
                &[b"hashtx", b"0", b"\0\0\0\0"],
                &[b"hashtx", b"1", b"\x01\0\0"],
                &[b"hashtx", b"2", b""],
                &[b"hashtx", b"3"],
                &[b"hashtx"],
                &[b"hashtx", b"5", b"\x05\0\0\0"],
            ],
        );
        let payloads: Vec<&[u8]> = outcome.handlers[0]
            .0
            .iter()
            .map(|seen| &seen.1[..])
            .collect();
        assert_eq!(payloads, [b"0", b"5"], "{engine:?}");
        assert_eq!(rejected(&outcome, Rejection::TruncatedField), 2);
        assert_eq!(rejected(&outcome, Rejection::MissingFrame), 2);
        let sample = &outcome.rejected_samples[0];
        assert_eq!(
            (sample.feed.as_str(), sample.reason),
            ("feed", "truncated_field")
        );
        assert_eq!(sample.bytes, 10);
        let starts: Vec<&[u8]> = sample.frames.iter().map(|frame| &frame.start[..]).collect();
        assert_eq!(starts, [&b"hashtx"[..], b"1", b"\x01\0\0"]);
    }
}

#[test]
fn text_that_is_not_utf8() {
    for engine in ENGINES {
        let bad: [&[&[u8]]; 4] = [
            &[b"BTC-USD {\"a\": \"\xff\"}"],
            &[b"BTC-\xc3\x28 {}"],
            &[b"nodelimiter"],
            &["BTC-€ {}".as_bytes()],
        ];
        let outcome = receive(engine, "cryptofeed", &bad);
        assert_eq!(outcome.handlers[0].0, [("BTC-€".into(), b"{}".to_vec())]);
        assert_eq!(rejected(&outcome, Rejection::NotUtf8), 2);
        assert_eq!(rejected(&outcome, Rejection::NoDelimiter), 1);
        // Where the envelope does not claim text, bytes are bytes.
        let outcome = receive(engine, "delimited: ", &bad[..2]);
        assert_eq!(outcome.totals.delivered, 2);
    }
}

/// 200 MiB in a message of less than one: it costs the time and the memory of the limit.
#[test]
fn a_zlib_bomb() {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..200 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let good = deflate(b"{\"gatewayTimestamp\": \"2020-08-03T11:03:25Z\"}");
    let plain = b"{}";
    let cut = &good[..good.len() - 2];
    let resident_bytes = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("it is Linux");
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        4_096 * pages.unwrap_or(0_u64)
    };
    for engine in ENGINES {
        let mut messages: Vec<&[&[u8]]> = Vec::new();
        let (bombs, goods) = ([&bomb[..]], [&good[..]]);
        let broken = [[&plain[..]], [cut]];
        for _ in 0..10 {
            messages.extend([&bombs[..], &goods]);
        }
        messages.extend([&broken[0][..], &broken[1], &goods]);
        let before = resident_bytes();
        let watch = Stopwatch::start();
        let outcome = receive(engine, "eddn", &messages);
        let elapsed = Duration::from_nanos(watch.elapsed_ns());
        assert!(elapsed < LIMIT / 2, "{elapsed:?}");
        assert!(resident_bytes() < before + (100 << 20), "{engine:?}");
        assert_eq!(outcome.totals.delivered, 11);
        assert_eq!(rejected(&outcome, Rejection::TooInflated), 10);
        assert_eq!(rejected(&outcome, Rejection::Corrupt), 2);
        assert!(outcome.handlers[0].0[0].1.starts_with(b"{\"gateway"));
        // The first few, and the start of each.
        assert_eq!(outcome.rejected_samples.len(), SAMPLES_MAX + 2);
        let sample = &outcome.rejected_samples[0];
        assert_eq!(sample.frames[0].bytes, bomb.len());
        assert_eq!(sample.frames[0].start, bomb[..SAMPLE_BYTES_MAX]);
    }
}

/// What inflates to less than the envelope's limit, but more than that on messages, is too large.
#[test]
fn the_limit_on_messages_holds_for_what_they_inflate_to() {
    for engine in ENGINES {
        let (large, small) = (deflate(&vec![b'x'; 1 << 20]), deflate(b"small"));
        let messages: [&[&[u8]]; 2] = [&[&large, b"one byte more"], &[&small]];
        let outcome = receive(engine, "eddn", &messages);
        assert_eq!(rejected(&outcome, Rejection::TooLarge), 1);
        assert_eq!(outcome.totals.delivered, 1);
    }
}

#[test]
fn a_topic_of_64_kib() {
    let topic = vec![b'T'; 64 * 1024];
    let spaced = [&topic[..], b" payload"].concat();
    for engine in ENGINES {
        for (envelope, frames) in [
            ("raw", &[&topic[..], b"payload"][..]),
            ("bitcoind", &[&topic[..], b"payload", b"\0\0\0\0"]),
            ("cryptofeed", &[&spaced[..]]),
        ] {
            let outcome = receive(engine, envelope, &[frames, frames]);
            let seen = (topic.clone(), b"payload".to_vec());
            assert_eq!(outcome.handlers[0].0, [seen.clone(), seen], "{envelope}");
        }
        let outcome = receive(engine, "pinfeed", &[&[&topic[..]]]);
        assert_eq!(rejected(&outcome, Rejection::NotThisFormat), 1);
        assert_eq!(outcome.rejected_samples[0].frames[0].bytes, topic.len());
    }
}

#[test]
fn the_summary_shows_samples() {
    let context = zmq::Context::new();
    let (socket, endpoint) = bound_xpub(&context);
    let mut run = Pinfeed::start(&[
        "run",
        "--connect",
        &endpoint,
        "--envelope",
        "bitcoind",
        "--messages",
        "7",
        "--json",
    ]);
    socket.recv_bytes(0).unwrap();
    for _ in 0..6 {
        socket
            .send_multipart([&b"hash\xff"[..], b"body", b"\x01"], 0)
            .unwrap();
    }
    socket
        .send_multipart([&b"hashtx"[..], b"body", b"\x01\0\0\0"], 0)
        .unwrap();
    let summary = run.json(0);
    assert_eq!(number(&summary["rejected_by_reason"], "truncated_field"), 6);
    let samples = summary["rejected_samples"].as_array().expect("a list");
    assert_eq!(samples.len(), SAMPLES_MAX);
    assert_eq!(samples[0]["reason"], "truncated_field");
    assert_eq!(samples[0]["feed"], "feed");
    assert_eq!(samples[0]["frames"][0]["start"], "hash\\xff");
    assert_eq!(number(&samples[0]["frames"][2], "bytes"), 1);
    let warning = "warning: 6 message(s) rejected";
    assert!(run.said.contains(warning), "{}", run.said);
    assert!(
        run.said
            .contains("truncated_field of feed, 10 bytes  5:\"hash\\xff\"")
    );
}
