//! Goal: messages arrive by every kind of endpoint and binding: tcp, IPv6 and ipc, connected and
//! bound, over a network card by name and from a source address.

mod support;

use std::net::TcpListener;

use pinfeed::config::Engine;
use rustix::process::Signal;
use support::{ENGINES, Pinfeed, assert_all_delivered, publisher, subscriber, wait_until};

const MESSAGES: &str = "5000";

fn assert_arrives(engine: Engine, run: &[&str]) {
    let common = [
        "run",
        "--engine",
        engine.name(),
        "--envelope",
        "pinfeed",
        "--messages",
        MESSAGES,
        "--json",
    ];
    let mut process = Pinfeed::start(&[&common[..], run].concat());
    assert_all_delivered(&process.json(0), 5_000);
}

fn arrives_from_publisher(bind: &str, run: &[&str]) {
    for engine in ENGINES {
        arrives_by(engine, bind, run);
    }
}

fn arrives_by(engine: Engine, bind: &str, run: &[&str]) {
    let mut publish = Pinfeed::start(&["publish", "--bind", bind, "--messages", MESSAGES]);
    let endpoint = publish.wait_for_line("publishing on ");
    assert_arrives(engine, &[&["--connect", &endpoint], run].concat());
}

#[test]
fn over_a_card_by_name() {
    arrives_from_publisher("tcp://127.0.0.1:*", &["--nic", "lo"]);
}

#[test]
fn from_a_source_address() {
    arrives_from_publisher("tcp://127.0.0.1:*", &["--source", "127.0.0.2"]);
    for engine in ENGINES {
        shows_its_source(engine);
    }
}

/// What the publisher sees.
fn shows_its_source(engine: Engine) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let _run = Pinfeed::start(&[
        "run",
        "--engine",
        engine.name(),
        "--connect",
        &endpoint,
        "--source",
        "127.0.0.2",
    ]);
    let mut peer = None;
    wait_until("it connects", || {
        peer = listener.accept().ok();
        peer.is_some()
    });
    let (_, address) = peer.unwrap();
    assert_eq!(address.ip().to_string(), "127.0.0.2");
}

#[test]
fn over_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        support::skip("this machine has no IPv6 loopback");
        return;
    }
    arrives_from_publisher("tcp://[::1]:*", &[]);
    arrives_from_publisher("tcp://[::1]:*", &["--source", "::1"]);
    // All addresses are those of both kinds.
    for engine in ENGINES {
        arrives_from_a_publisher_that_connects(
            "tcp://[::]:*",
            &["--engine", engine.name()],
            engine.name(),
        );
    }
}

#[test]
fn over_ipc() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("ipc://{}/feed", folder.path().display());
    arrives_from_publisher(&endpoint, &[]);
}

#[test]
fn from_a_publisher_that_connects() {
    let folder = tempfile::tempdir().unwrap();
    let ipc = format!("ipc://{}/feed", folder.path().display());
    for (bind, engines) in [
        ("tcp://127.0.0.1:*", &["native", "libzmq"]),
        (&ipc, &["native", "libzmq"]),
    ] {
        for engine in engines {
            arrives_from_a_publisher_that_connects(bind, &["--engine", engine], engine);
        }
    }
    // What is chosen by itself: libzmq for the name of a card.
    for (bind, engine) in [
        ("tcp://127.0.0.1:*", "native"),
        (&ipc, "native"),
        ("tcp://lo:*", "libzmq"),
    ] {
        arrives_from_a_publisher_that_connects(bind, &[], engine);
    }
}

fn arrives_from_a_publisher_that_connects(bind: &str, flags: &[&str], engine: &str) {
    let common = [
        "run",
        "--envelope",
        "pinfeed",
        "--messages",
        MESSAGES,
        "--json",
        "--bind",
        bind,
    ];
    let mut run = Pinfeed::start(&[&common[..], flags].concat());
    let endpoint = run.wait_for_line("listening on ");
    let endpoint = endpoint.replace("[::]", "127.0.0.1");
    let mut publish = Pinfeed::start(&["publish", "--connect", &endpoint, "--messages", MESSAGES]);
    let summary = run.json(0);
    assert_all_delivered(&summary, 5_000);
    assert_eq!(summary["engine"], engine);
    // It can't see that the subscriber has gone, and would stay for a while.
    publish.signal(Signal::TERM);
    assert_eq!(publish.finish().0.code(), Some(143));
}

#[test]
fn only_topics_subscribed_to() {
    for engine in ENGINES {
        only_topics_subscribed_to_by(engine);
    }
}

fn only_topics_subscribed_to_by(engine: Engine) {
    let (_publish, endpoint) = publisher(&["--skew", "0", "--topics", "20", "--wait-for", "2"]);
    let mut run = subscriber(
        &endpoint,
        &[
            "--engine",
            engine.name(),
            "--subscribe",
            "sim.00007",
            "--subscribe",
            "sim.0001",
            "--messages",
            "1100",
        ],
    );
    let summary = run.json(0);
    assert_all_delivered(&summary, 1_100);
    assert_eq!(
        summary["topics"], 11,
        "sim.00007 and sim.00010 to sim.00019"
    );
}

#[test]
fn however_threads_wait() {
    for wait in ["spin", "park", "adaptive"] {
        for engine in ENGINES {
            let (_publish, endpoint) = publisher(&["--messages", MESSAGES, "--rate", "50000"]);
            assert_arrives(engine, &["--connect", &endpoint, "--wait", wait]);
        }
    }
}
