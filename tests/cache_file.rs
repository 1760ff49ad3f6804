//! Goal: a cache that was ended, or killed, is warm again by its file; one that can't be written costs nothing but
//! itself; and no file is taken for what it is not.

mod support;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::Value;
use support::{
    Pinfeed,
    cached::{Cached, frames},
    free_endpoint, number, patient_xpub, wait_until,
};

/// Returns how many topics a copy of a cache's file holds, where it can be read.
fn restored(file: &std::path::Path, folder: &std::path::Path) -> Option<u64> {
    let copy = folder.join("copy");
    std::fs::copy(file, &copy).ok()?;
    let nowhere = free_endpoint();
    let fixed = [
        "cache",
        "--json",
        "--serve",
        "tcp://127.0.0.1:*",
        "--for",
        "0s",
    ];
    let store = ["--connect", &nowhere, "--store", copy.to_str()?];
    let (status, output) = Pinfeed::start(&[&fixed[..], &store].concat()).finish();
    let summary: Value = serde_json::from_str(&output).ok()?;
    status.success().then(|| number(&summary, "restored"))
}

#[test]
fn a_cache_that_was_killed_is_warm_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values");
    let store = ["--store", file.to_str().unwrap()];
    let mut cached = Cached::start(&store);
    for topic in 0..500 {
        cached.publish(&[format!("{topic:03}").as_bytes(), b"old"]);
        cached.publish(&[format!("{topic:03}").as_bytes(), b"new", b"frame"]);
    }
    // A copy that is made while the file is written may be unreadable.
    wait_until("all is written", || {
        restored(&file, folder.path()) == Some(500)
    });
    cached.process.signal(Signal::KILL);
    cached.process.finish();
    let again = Cached::start(&store);
    assert_eq!(
        again.process.said.lines().next().unwrap().split(' ').next(),
        Some("500")
    );
    let late = again.subscriber(&[b""]);
    for topic in 0..500 {
        let expected = frames(&[format!("{topic:03}").as_bytes(), b"new", b"frame"]);
        assert_eq!(late.recv_multipart(0).unwrap(), expected);
    }
    // Ended in order, it has all.
    again.publish(&[b"last", b"moment"]);
    assert_eq!(late.recv_multipart(0).unwrap()[0], b"last");
    let summary = again.summary();
    assert_eq!(number(&summary, "restored"), 500);
    assert_eq!(restored(&file, folder.path()), Some(501));
}

/// Limits the size of files that a process writes, where it can be raised again.
fn limit_files(process: &Pinfeed, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    let process = Pid::from_raw(process.id() as i32);
    prlimit(process, Resource::Fsize, limit).unwrap();
}

#[test]
fn a_file_that_cannot_be_written_takes_nothing_from_the_summary() {
    const TOPICS: u64 = 4_000;
    for is_mended in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("values");
        let (publisher, upstream) = patient_xpub(&zmq::Context::new());
        // So that what goes beyond the limit is an error, not the end.
        let ignoring = ["-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
        let arguments = ["cache", "--json", "--serve", "tcp://127.0.0.1:*"];
        let mut command = std::process::Command::new("sh");
        command
            .args(ignoring)
            .arg(env!("CARGO_BIN_EXE_pinfeed"))
            .args(arguments)
            .args(["--messages", &TOPICS.to_string()])
            .args(["--connect", &upstream, "--store"])
            .arg(&file);
        let mut process = Pinfeed::spawn(&mut command);
        process.wait_for_line("serving on ");
        assert_eq!(publisher.recv_bytes(0).unwrap(), b"\x01");
        limit_files(&process, Some(4 << 20));
        let publish = |index: u64| {
            let message = [&index.to_be_bytes()[..], &[7; 4_000]];
            publisher.send_multipart(message, 0).unwrap();
        };
        (1..TOPICS).for_each(publish);
        process.wait_for_text("it is tried again");
        if is_mended {
            limit_files(&process, None);
        }
        // The last one ends it.
        publish(TOPICS);
        let summary = process.json(if is_mended { 0 } else { 1 });
        assert_eq!(number(&summary, "received"), TOPICS);
        assert!(number(&summary, "write_failures") > 0, "{summary}");
        if is_mended {
            assert_eq!(restored(&file, folder.path()), Some(TOPICS));
        } else {
            assert!(process.said.contains("Error: "), "{}", process.said);
        }
    }
}

#[test]
fn nobody_takes_a_file_of_another_kind() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["cache", "clone"].map(|name| folder.path().join(name));
    let [kept, state] = paths.each_ref().map(|path| path.to_str().unwrap());
    let any = "tcp://127.0.0.1:*";
    let cache = |file| {
        [
            "cache", "--for=0s", "--bind", any, "--serve", any, "--store", file,
        ]
    };
    let clone = |file| ["clone", "serve", "--endpoint", any, "--store", file];
    assert!(Pinfeed::start(&cache(kept)).finish().0.success());
    let mut serving = Pinfeed::start(&clone(state));
    serving.wait_for_line("serving on ");
    serving.signal(Signal::TERM);
    serving.finish();
    let mut wrong_cache = Pinfeed::start(&cache(state));
    let mut wrong_clone = Pinfeed::start(&clone(kept));
    for (process, what) in [
        (&mut wrong_cache, "it holds the state of a clone server"),
        (&mut wrong_clone, "it holds the messages of a cache"),
    ] {
        assert_eq!(process.finish().0.code(), Some(2), "{}", process.said);
        assert!(process.said.contains(what), "{}", process.said);
    }
}
