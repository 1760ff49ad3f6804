//! Goal: whoever received nothing is told which endpoints never had a connection, and why, as far as it is known.

mod support;

use std::{io::Write, net::TcpListener, thread};

use pinfeed::{
    config::{Config, Engine},
    envelope::Envelope,
    lane::Quota,
    pipeline::Pipeline,
    stop::Stop,
    worker::handlers::Null,
};
use support::{
    ENGINES, Pinfeed, finish, free_endpoint, nobody, number,
    peer::{command, greeting},
    publisher, subscriber, wait_until,
};

#[test]
fn the_command_says_which_endpoint_and_why() {
    for (engine, reason) in [
        ("native", "Connection refused"),
        ("libzmq", "libzmq does not say why"),
    ] {
        let absent = free_endpoint();
        let (_publisher, present) = publisher(&["--rate", "1000"]);
        let mut run = Pinfeed::start(&[
            "run",
            "--json",
            "--messages",
            "1000",
            "--engine",
            engine,
            "--envelope",
            "pinfeed",
            "--connect",
            &present,
            "--connect",
            &absent,
        ]);
        let summary = run.json(0);
        let [unreached] = &summary["unreached"].as_array().expect("a list")[..] else {
            panic!("only one: {summary}");
        };
        assert_eq!(unreached["endpoint"], absent.as_str());
        let why = unreached["reason"].as_str().expect("text");
        assert!(why.contains(reason), "{why}");
        assert!(number(unreached, "attempts") > 0, "{unreached}");
        let said = format!("warning: never connected to {absent}, line 0 of ");
        assert!(run.said.contains(&said), "{}", run.said);
        assert!(run.said.contains(reason), "{}", run.said);
    }
}

#[test]
fn an_endpoint_that_nobody_connected_to_is_named() {
    for engine in ["native", "libzmq"] {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = |name| format!("ipc://{}", folder.path().join(name).display());
        let (met, idle) = (endpoint("met"), endpoint("idle"));
        let mut run = Pinfeed::start(&[
            "run",
            "--json",
            "--messages",
            "1000",
            "--engine",
            engine,
            "--envelope",
            "pinfeed",
            "--bind",
            &met,
            "--bind",
            &idle,
        ]);
        let _publisher = Pinfeed::start(&["publish", "--connect", &met, "--rate", "1000"]);
        let summary = run.json(0);
        let [unreached] = &summary["unreached"].as_array().expect("a list")[..] else {
            panic!("only one: {summary}");
        };
        assert_eq!(unreached["endpoint"], idle.as_str());
        assert_eq!(unreached["source"], "publishers");
        let said = format!("warning: no publisher came to {idle}, line 0 of ");
        assert!(run.said.contains(&said), "{}", run.said);
    }
}

#[test]
fn what_there_is_no_connection_to_yet_is_said_while_it_is_so() {
    for engine in ["native", "libzmq"] {
        let endpoint = free_endpoint();
        let run = ["run", "--json", "--messages", "1000", "--engine", engine];
        let feed = ["--envelope", "pinfeed", "--connect", &endpoint];
        let mut run = Pinfeed::start(&[&run[..], &feed].concat());
        run.wait_for_line(&format!(
            "no connection to {endpoint}, line 0 of feed yet, "
        ));
        let _publisher = Pinfeed::start(&["publish", "--bind", &endpoint, "--rate", "200"]);
        run.wait_for_line(&format!("connected to {endpoint}, line 0 of feed"));
        let summary = run.json(0);
        assert_eq!(summary["unreached"], serde_json::json!([]));
        assert!(!run.said.contains("never connected to"), "{}", run.said);
    }
}

#[test]
fn a_run_whose_snapshot_never_came_says_so_and_is_no_failure() {
    let (_nobody, absent) = nobody();
    let (_publisher, endpoint) = publisher(&["--rate", "1000"]);
    let mut run = subscriber(&endpoint, &["--snapshot", &absent, "--for", "200ms"]);
    let summary = run.json(0);
    assert_eq!(number(&summary, "delivered"), 0, "{summary}");
    let unreached = summary["unreached"].as_array().expect("a list").iter();
    let mut servers = unreached.filter(|one| one["source"] == "snapshots");
    let server = servers.next().expect("it is named");
    assert_eq!(server["endpoint"], absent.as_str());
    let said =
        format!("warning: nothing is delivered before a snapshot, and none came from {absent}");
    assert!(run.said.contains(&said), "{}", run.said);
}

#[test]
fn the_last_reason_is_kept() {
    // It answers, but not as a publisher does.
    let stranger = |words: Vec<u8>| {
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = stranger.local_addr().unwrap();
        thread::spawn(move || {
            for stream in stranger.incoming() {
                let _ = stream.unwrap().write_all(&words);
            }
        });
        format!("tcp://{address}")
    };
    let web = stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    let refusal = command(b"ERROR", b"\x0cnot\x1b you, Z\xfc");
    let refusing = stranger([greeting(1, b"NULL"), refusal].concat());
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().join("nobody");
    let nobody = nobody.display();
    for (endpoint, reason) in [
        (free_endpoint(), "Connection refused"),
        (format!("ipc://{nobody}"), "No such file"),
        ("tcp://nosuch.invalid:5556".to_owned(), "lookup"),
        (web, "not ZMTP"),
        (
            refusing,
            r"the peer refused the connection: not\x1b you, Z\xfc",
        ),
    ] {
        let stop = Stop::default();
        let mut config = Config::connect(&endpoint, Envelope::Raw);
        config.engine = Some(Engine::Native);
        let pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| Null);
        let pipeline = pipeline.unwrap();
        wait_until("an attempt has failed", || {
            pipeline.unreached()[0].attempts > 0
        });
        stop.request();
        let unreached = &finish(pipeline).unreached[0];
        assert_eq!((&unreached.endpoint, unreached.line), (&endpoint, 0));
        assert!(unreached.reason.contains(reason), "{unreached:?}");
    }
}

#[test]
fn an_endpoint_that_was_lost_was_reached() {
    for engine in ENGINES {
        let (mut process, endpoint) = publisher(&["--rate", "1000"]);
        let stop = Stop::default();
        let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
        config.engine = Some(engine);
        let mut pipeline =
            Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| Null).unwrap();
        wait_until("messages flow", || pipeline.look().delivered > 0);
        process.signal(rustix::process::Signal::KILL);
        process.finish();
        wait_until("the connection is lost", || pipeline.look().disconnects > 0);
        stop.request();
        assert_eq!(finish(pipeline).unreached, []);
    }
}
