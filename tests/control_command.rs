//! Goal: a running `pinfeed run` does what `pinfeed ctl` asks for, and nobody who asks can hold it up.

mod support;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::Command,
};

use serde_json::Value;
use support::{Pinfeed, control::of_lanes, number, publisher, wait_until};
use tempfile::TempDir;

/// Asks, and returns the exit code and what was answered, on either output.
fn ctl(socket: &Path, request: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pinfeed"))
        .arg("ctl")
        .arg(socket)
        .args(request)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("it ends by itself");
    (code, String::from_utf8(said).unwrap())
}

fn json(socket: &Path, request: &[&str]) -> Value {
    let (code, answer) = ctl(socket, request);
    assert_eq!(code, 0, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

fn run(endpoint: &str, socket: &Path) -> Pinfeed {
    let path = socket.to_str().unwrap();
    let arguments = ["run", "--connect", endpoint, "--workers", "4", "--json"];
    let mut run = Pinfeed::start(&[&arguments[..], &["--control", path]].concat());
    run.wait_for_line("answering at ");
    run
}

#[test]
fn a_shard_is_moved_by_command() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("pinfeed.sock");
    let (_publisher, endpoint) = publisher(&["--rate", "20000"]);
    let mut run = run(&endpoint, &socket);
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let before = json(&socket, &["shards"]);
    assert_eq!(before["workers"][7], 3);
    // Somebody who says nothing.
    let _silent = UnixStream::connect(&socket).unwrap();
    let moved = json(&socket, &["move", "7", "1"]);
    assert_eq!(
        moved,
        serde_json::json!({ "shard": 7, "from": 3, "worker": 1 })
    );
    wait_until("the shard has moved", || {
        json(&socket, &["shards"])["moving"] == false
    });
    assert_eq!(json(&socket, &["shards"])["workers"][7], 1);
    // Its hash is pinned where topics are hashed: 0xdaab....
    let topic = json(&socket, &["topic", "BTC-USD"]);
    assert_eq!(
        (&topic["shard"], &topic["worker"]),
        (&0xda.into(), &2.into())
    );
    json(&socket, &["move", "218", "0"]);
    // Once more, and nothing moves.
    let unmoved = json(&socket, &["move", "218", "0"]);
    assert_eq!(unmoved["from"], unmoved["worker"]);
    assert_eq!(json(&socket, &["topic", "BTC-USD"])["worker"], 0);
    // A name is all that follows, blanks and all; too long a one is not answered for another.
    let spaced = json(&socket, &["topic", "a b"]);
    assert_eq!(spaced["topic"], "a b");
    let long = "x".repeat(2_048 - "topic ".len());
    assert_eq!(json(&socket, &["topic", &long])["topic"], long);
    let (code, said) = ctl(&socket, &["topic", &format!("{long}x")]);
    assert!(code == 2 && said.contains("of up to 2048 bytes"), "{said}");
    wait_until("messages come", || {
        json(&socket, &["status"])["received"].as_u64() >= Some(1_000)
    });
    for (request, expected) in [
        (["move", "256", "0"], "from 0 to 255"),
        (["move", "0", "4"], "from 0 to 3"),
    ] {
        let (code, said) = ctl(&socket, &request);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(expected), "{said}");
    }
    run.signal(rustix::process::Signal::TERM);
    let summary = run.json(143);
    assert_eq!(summary["balanced"], true);
    assert!(!socket.exists());
    let (code, said) = ctl(&socket, &["status"]);
    assert!(code == 2 && said.contains("--control"), "{said}");
    assert!(said.contains("SOCKET = "), "{said}");
}

#[test]
fn a_path_that_is_taken_is_refused_but_not_a_dead_one() {
    let folder = TempDir::new().unwrap();
    let (_publisher, endpoint) = publisher(&["--rate", "1000"]);
    let file = folder.path().join("file");
    fs::write(&file, "kept").unwrap();
    let refuse = |path: &Path, why: &str| {
        let arguments = [
            "run",
            "--connect",
            &endpoint,
            "--control",
            path.to_str().unwrap(),
        ];
        let mut run = Pinfeed::start(&arguments);
        let (status, _) = run.finish();
        assert_eq!(status.code(), Some(2), "{}", run.said);
        assert!(run.said.contains("--control = "), "{}", run.said);
        assert!(run.said.contains(why), "{}", run.said);
    };
    refuse(&file, "no socket");
    assert_eq!(fs::read(&file).unwrap(), b"kept");
    refuse(
        &folder.path().join("nowhere/socket"),
        "a directory that exists",
    );
    let socket = folder.path().join("socket");
    let live = run(&endpoint, &socket);
    refuse(&socket, "another process listens there");
    assert!(json(&socket, &["status"])["received"].is_u64());
    live.signal(rustix::process::Signal::KILL);
    drop(live);
    assert!(socket.exists(), "a killed process leaves it behind");
    let mut next = run(&endpoint, &socket);
    assert!(json(&socket, &["status"])["workers"].is_array());
    next.signal(rustix::process::Signal::INT);
    next.json(130);
}

#[test]
fn what_is_under_way_is_told_by_worker() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("pinfeed.sock");
    let (_publisher, endpoint) = publisher(&["--rate", "20000"]);
    // Nobody reads what its workers print, so that they come to a stand.
    let path = socket.to_str().unwrap();
    let arguments = ["run", "--connect", &endpoint, "--workers", "2"];
    let print = ["--handler", "print", "--control", path];
    let mut run = Pinfeed::start(&[&arguments[..], &print].concat());
    run.wait_for_line("answering at ");
    wait_until("some are under way to each", || {
        let status = json(&socket, &["status"]);
        let workers = status["workers"].as_array().unwrap().iter();
        status["under_way"].as_u64() > Some(0)
            && workers
                .map(|one| number(one, "messages_under_way"))
                .all(|under_way| under_way > 0)
    });
    run.signal(rustix::process::Signal::TERM);
    let (status, _) = run.finish();
    assert_eq!(status.code(), Some(143), "{}", run.said);
}

#[test]
fn connections_are_told_by_lane() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("pinfeed.sock");
    let (publisher, endpoint) = publisher(&["--rate", "1000"]);
    let mut run = run(&endpoint, &socket);
    wait_until("it has connected", || of_lanes(&socket, "connects") == 1);
    assert_eq!(of_lanes(&socket, "disconnects"), 0);
    drop(publisher);
    wait_until("it has noticed", || of_lanes(&socket, "disconnects") == 1);
    run.signal(rustix::process::Signal::INT);
    let summary = run.json(130);
    assert_eq!(summary["connects"], 1);
    assert_eq!(summary["disconnects"], 1);
}
