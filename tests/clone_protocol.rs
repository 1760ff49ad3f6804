//! Goal: Clone as the Guide has it: clients written in Python against its description work with our server, by PUSH
//! and by PUB, with five frames and with three; our client works with such a server; and what is malformed is
//! counted and does no harm.

#[path = "support/clone_load.rs"]
mod clone_load;
mod support;

use std::{fs::File, io::Write, net::TcpListener, path::Path, process::Command, time::Duration};

use clone_load::four_ports;
use pinfeed::patterns::clone::{Client, ClientPlan};
use rustix::{
    fs::{Mode, OFlags},
    process::Signal,
};
use support::{LIMIT, Pinfeed, number, python::python};

/// Starts `pinfeed clone serve --json` on free ports, and returns it and its endpoint.
fn serve(arguments: &[&str]) -> (Pinfeed, String) {
    let fixed = [
        "clone",
        "serve",
        "--json",
        "--endpoint",
        "tcp://127.0.0.1:*",
    ];
    let mut server = Pinfeed::start(&[&fixed[..], arguments].concat());
    let endpoint = server.wait_for_line("serving on ");
    (server, endpoint)
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/support")
        .join(name)
}

fn run_python(endpoint: &str, collector: &str, scenario: &str) -> Option<String> {
    let python = python()?;
    let mut client = Pinfeed::spawn(
        Command::new(python)
            .arg(script("clone_client.py"))
            .args([endpoint, collector, scenario]),
    );
    let (status, output) = client.finish();
    assert!(
        status.success(),
        "{scenario} by {collector}: {}",
        client.said
    );
    Some(output)
}

#[test]
fn pyzmq_clients_work_by_push_and_by_pub() {
    for collector in ["push", "pub"] {
        let (mut server, endpoint) = serve(&[]);
        let Some(output) = run_python(&endpoint, collector, "protocol") else {
            return;
        };
        assert_eq!(output, "state 4\n");
        server.signal(Signal::INT);
        let summary = server.json(130);
        assert_eq!(number(&summary, "malformed"), 8, "{summary}");
        assert_eq!(number(&summary, "unknown_requests"), 4, "{summary}");
        assert_eq!(number(&summary, "expired"), 1, "{summary}");
        assert_eq!(number(&summary, "keys"), 4, "{summary}");
        assert_eq!(number(&summary, "snapshots"), 3, "{summary}");
    }
}

#[test]
fn pyzmq_clients_work_with_three_frames() {
    for (form, scenario) in [
        (&["--three-frames"][..], "three_frames"),
        (&["--three-frames", "--short-sequences"], "short_sequences"),
    ] {
        let (_server, endpoint) = serve(form);
        if let Some(output) = run_python(&endpoint, "push", scenario) {
            assert_eq!(output, "state 1\n");
        }
    }
}

fn client(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut client = Pinfeed::start(&[&["clone"], arguments].concat());
    let (status, output) = client.finish();
    (status.code(), output, client.said.clone())
}

/// What each client command does against a server of whatever make.
fn commands_work(endpoint: &str, collector: &str) {
    let at = ["--connect", endpoint, "--collector", collector];
    let with = |arguments: &[&str]| client(&[arguments, &at[..]].concat());
    assert_eq!(with(&["get", "/a/"]).0, Some(1), "nothing is there");
    for (key, value) in [("/a/1", "one"), ("/a/2", "two words"), ("/b/1", "three")] {
        let (code, _, said) = with(&["set", key, value]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("published as "), "{said}");
    }
    assert_eq!(with(&["get", "/a/2"]).1, "two words\n");
    let subtree = with(&["get", "--subtree", "/a/"]);
    assert_eq!(subtree.1, "/a/1 one\n/a/2 two words\n");
    let (code, printed, said) = with(&["get", "/a/"]);
    assert_eq!((code, &*printed), (Some(1), ""), "{said}");
    assert!(said.contains("2 keys below it are"), "{said}");
    let mut watch = Pinfeed::start(&[&["clone", "watch", "/a/"], &at[..]].concat());
    watch.wait_for_line("following ");
    assert_eq!(with(&["delete", "/a/1"]).0, Some(0));
    assert_eq!(with(&["get", "/a/1"]).0, Some(1));
    watch.signal(Signal::INT);
    let (status, output) = watch.finish();
    assert_eq!(status.code(), Some(130));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(
        lines,
        ["1 set /a/1 one", "2 set /a/2 two words", "4 delete /a/1"]
    );
}

#[test]
fn our_client_works_with_our_server() {
    for collector in ["push", "pub"] {
        let (_server, endpoint) = serve(&[]);
        commands_work(&endpoint, collector);
    }
}

#[test]
fn our_client_works_with_a_server_in_python() {
    let Some(python) = python() else { return };
    for collector in ["push", "pub"] {
        let mut server = Pinfeed::spawn(
            Command::new(&python)
                .arg(script("clone_server.py"))
                .arg(collector),
        );
        let endpoint = server.wait_for_line("serving on ");
        commands_work(&endpoint, collector);
    }
}

#[test]
fn our_client_works_with_three_frames() {
    let (_server, endpoint) = serve(&["--three-frames"]);
    let at = ["--three-frames", "--connect", &endpoint];
    assert_eq!(
        client(&[&["set", "key", "value"], &at[..]].concat()).0,
        Some(0)
    );
    assert_eq!(client(&[&["get", "key"], &at[..]].concat()).1, "value\n");
}

#[test]
fn values_expire() {
    let (_server, endpoint) = serve(&[]);
    let at = ["--connect", &endpoint];
    assert_eq!(
        client(&[&["set", "brief", "value", "--ttl", "300ms"], &at[..]].concat()).0,
        Some(0)
    );
    support::wait_until("it has expired", || {
        client(&[&["get", "brief"], &at[..]].concat()).0 == Some(1)
    });
}

#[test]
fn a_subscriber_that_stands_still_is_hung_up_on_and_others_are_not_disturbed() {
    const UPDATES: usize = 800;
    let (mut server, endpoint) = serve(&[]);
    let context = zmq::Context::new();
    let still = context.socket(zmq::SUB).expect("a socket");
    still.set_rcvhwm(1).expect("an option");
    still.set_linger(0).expect("an option");
    still.set_subscribe(b"").expect("an option");
    let (host, port) = endpoint.rsplit_once(':').expect("a port");
    let published = port.parse::<u16>().expect("a port") + 1;
    still
        .connect(&format!("{host}:{published}"))
        .expect("an endpoint");
    // It has subscribed when it has a heartbeat, and takes nothing after that.
    assert_eq!(still.recv_multipart(0).expect("a message")[0], b"HUGZ");
    let mut client = Client::start(&ClientPlan::new([endpoint], b"")).expect("an endpoint");
    let body = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    support::wait_until("all is published", || {
        client.turn(Duration::from_millis(10)).expect("it goes on");
        while client.event().is_some() {}
        if client.is_ready() && client.can_send() && client.under_way() < 20 && sent < UPDATES {
            let key = format!("/{}", sent % 10);
            client.set(key.as_bytes(), &body, None).expect("a good key");
            sent += 1;
        }
        sent == UPDATES && client.under_way() == 0
    });
    assert_eq!(client.counters().snapshots, 1);
    server.signal(Signal::INT);
    let summary = server.json(130);
    assert!(number(&summary, "slow_subscribers") >= 1, "{summary}");
    assert_eq!(number(&summary, "accepted"), UPDATES as u64, "{summary}");
}

#[test]
fn bad_input_is_named_with_its_remedy() {
    let (_server, endpoint) = serve(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let no_store = folder.path().join("none/store");
    let no_store = no_store.to_str().expect("text");
    let (_nobody, nobody) = support::nobody();
    let long_key = "k".repeat(64 * 1024);
    let refused = format!("{nobody}: Connection refused");
    for (arguments, code, expected) in [
        (
            &["serve", "--endpoint", &endpoint][..],
            2,
            "it can't be bound",
        ),
        (
            &["serve", "--endpoint", "ipc:///tmp/nowhere"],
            2,
            "it has no ports",
        ),
        (
            &["serve", "--endpoint", "tcp://127.0.0.1:65535"],
            2,
            "there are no ports behind it",
        ),
        (
            &[
                "serve",
                "--endpoint",
                "tcp://127.0.0.1:*",
                "--store",
                no_store,
            ],
            2,
            "--store = ",
        ),
        (&["serve", "--primary"], 2, "--peer"),
        (
            &["serve", "--backup", "--peer", &nobody, "--preempt"],
            2,
            "--preempt",
        ),
        (
            &["set", "key", "x", "--ttl", "0s", "--connect", &endpoint],
            2,
            "0 stands for no limit",
        ),
        (
            &["set", "key", "x", "--ttl", "1s", "--three-frames"],
            2,
            "--three-frames",
        ),
        (
            &[
                "serve",
                "--primary",
                "--endpoint",
                &nobody,
                "--peer",
                &nobody,
            ],
            2,
            "this process itself is bound there",
        ),
        (&["serve", "--peer", &nobody], 2, "--primary or --backup"),
        (
            &["serve", "--three-frames", "--backup", "--peer", &nobody],
            2,
            "three frames lack",
        ),
        (
            &["set", "HUGZ", "x", "--connect", &endpoint],
            2,
            "use another key",
        ),
        (
            &["set", &long_key, "x", "--connect", &endpoint],
            2,
            "at most 16384",
        ),
        (
            &["set", "key", "", "--connect", &endpoint],
            2,
            "clone delete",
        ),
        (
            &[
                "set",
                "key",
                "x",
                "--ttl",
                "1000000h",
                "--connect",
                &endpoint,
            ],
            2,
            "up to a year",
        ),
        (
            &["set", "key", "x", "--connect", &nobody, "--timeout", "1s"],
            1,
            "nothing was sent: no server answered within 1s: ",
        ),
        (
            &["get", "key", "--connect", &nobody, "--timeout", "1s"],
            1,
            &refused,
        ),
        (&["watch", "--connect", "nonsense"], 2, "--connect"),
        (
            &["set", "key", "x", "--connect", "tcp://127.0.0.1"],
            2,
            "it has no port",
        ),
    ] {
        let (found, _, said) = client(arguments);
        assert_eq!(found, Some(code), "{:.80?}: {said}", arguments);
        assert!(said.contains(expected), "{:.80?}: {said}", arguments);
    }
}

#[test]
fn each_port_is_named_and_the_one_that_is_taken() {
    let endpoint = four_ports();
    let (host, port) = endpoint.rsplit_once(':').expect("a port");
    let port: u16 = port.parse().expect("a port");
    let behind = |offset| format!("{host}:{}", port + offset);
    let (_nobody, nobody) = support::nobody();
    let pair = ["clone", "serve", "--primary", "--peer", &nobody];
    let mut server = Pinfeed::start(&[&pair[..], &["--endpoint", &endpoint]].concat());
    assert_eq!(server.wait_for_line("serving on "), endpoint);
    assert_eq!(server.wait_for_line("updates out on "), behind(1));
    assert_eq!(server.wait_for_line("updates in on "), behind(2));
    assert_eq!(
        server.wait_for_line("telling the other server on "),
        behind(3)
    );
    drop(server);
    for (offset, what) in [(1, "P+1, updates out"), (2, "P+2, updates in")] {
        let _taken = TcpListener::bind(("127.0.0.1", port + offset)).expect("it is free");
        let (code, _, said) = client(&["serve", "--endpoint", &endpoint]);
        let expected = format!("port {} ({what}): it can't be bound", port + offset);
        assert!(code == Some(2) && said.contains(&expected), "{said}");
        assert!(
            said.contains(&format!("--endpoint = {endpoint}: ")),
            "{said}"
        );
        let (code, _, said) = client(&["serve", "--bind-port", &port.to_string()]);
        assert!(code == Some(2) && said.contains(&expected), "{said}");
        assert!(said.contains(&format!("--bind-port = {port}: ")), "{said}");
    }
}

#[test]
fn whoever_watches_is_told_which_server_is_absent() {
    let endpoint = four_ports();
    let mut watch = Pinfeed::start(&["clone", "watch", "--connect", &endpoint]);
    let absent = watch.wait_for_line("waiting for a server: ");
    let expected = format!("{endpoint}: Connection refused");
    assert!(absent.starts_with(&expected), "{absent}");
    let serve = ["clone", "serve", "--endpoint", &endpoint];
    let server = Pinfeed::start(&serve);
    assert!(watch.wait_for_line("following ").starts_with(&endpoint));
    drop(server);
    watch.wait_for_line("out of touch");
    watch.wait_for_line("waiting for a server: ");
}

#[test]
fn heartbeats_are_messages_without_a_number_to_a_black_box() {
    let (_server, endpoint) = serve(&[]);
    let (host, port) = endpoint.rsplit_once(':').expect("a port");
    let published = format!("{host}:{}", port.parse::<u16>().expect("a port") + 1);
    let (code, _, said) = client(&["set", "key", "value", "--connect", &endpoint]);
    assert_eq!(code, Some(0), "{said}");
    let arguments = ["run", "--connect", &published, "--envelope", "kvmsg"];
    let mut run = Pinfeed::start(&[&arguments[..], &["--messages", "3", "--json"]].concat());
    // Each has the number of the update before.
    let summary = run.json(0);
    assert_eq!(number(&summary, "duplicates"), 0, "{summary}");
    assert_eq!(number(&summary, "delivered"), 3, "{summary}");
    assert_eq!(number(&summary, "topics"), 1, "{summary}");
}

/// Leaves a server no room to say anything.
fn fill_stderr(server: &Pinfeed) {
    // A file of its own, so that only its writes don't wait.
    let path = format!("/proc/{}/fd/2", server.id());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK;
    let mut stderr = File::from(rustix::fs::open(path, flags, Mode::empty()).unwrap());
    for bytes in [4_096, 1] {
        while stderr.write(&vec![b'.'; bytes]).is_ok() {}
    }
}

#[test]
fn a_server_goes_on_where_nobody_reads_what_it_says() {
    let (_nobody, nobody) = support::nobody();
    let (mut server, endpoint) = serve(&["--primary", "--peer", &nobody]);
    fill_stderr(&server);
    // It becomes active when a client asks, and has no room to say so.
    let (code, _, said) = client(&["set", "key", "value", "--connect", &endpoint]);
    assert_eq!(code, Some(0), "{said}");
    server.signal(Signal::TERM);
    let summary = server.json(143);
    assert_eq!(number(&summary, "accepted"), 1, "{summary}");
    assert!(server.said.contains("active\n"), "{}", server.said);
}
