//! Goal: what a Clone server has published outlives it: it is killed, alone and as one of a pair, stopped, and both are killed,
//! under load; nothing that a client was told of is lost, clients turn to the other server by themselves, and how
//! long that takes is printed. And under load with clients that join, all have the same state in the end.

#[path = "support/clone_load.rs"]
mod clone_load;
mod support;

use std::{path::Path, time::Duration};

use clone_load::{Load, assert_nothing_lost, four_ports};
use pinfeed::{
    clock::{Deadline, Stopwatch},
    patterns::clone::{Client, ClientPlan},
};
use rustix::process::Signal;
use support::{LIMIT, Pinfeed, wait_until};

const LOADS: usize = 3;

fn serve(endpoint: &str, store: &Path, more: &[&str]) -> Pinfeed {
    let store = store.to_str().expect("text");
    let fixed = [
        "clone",
        "serve",
        "--json",
        "--endpoint",
        endpoint,
        "--store",
        store,
    ];
    let mut server = Pinfeed::start(&[&fixed[..], more].concat());
    server.wait_for_line("serving on ");
    server
}

fn loads(servers: &[String], since: Stopwatch) -> Vec<Load> {
    (0..LOADS)
        .map(|name| Load::start(servers, name, since))
        .collect()
}

/// Waits until each load has had so many more updates published.
fn wait_for_more(loads: &[Load], more: u64) {
    let before: Vec<u64> = loads.iter().map(Load::published).collect();
    wait_until("updates are published", || {
        std::thread::sleep(Duration::from_millis(5));
        let mut now = loads.iter().zip(&before);
        now.all(|(load, before)| load.published() >= before + more)
    });
}

fn finish(loads: Vec<Load>, servers: &[String]) {
    let published: Vec<_> = loads.into_iter().map(Load::finish).collect();
    assert_nothing_lost(servers, &published);
}

#[test]
fn a_server_on_its_own_that_is_killed_loses_nothing_published() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    let endpoint = four_ports();
    let servers = [endpoint.clone()];
    let mut server = serve(&endpoint, &store, &[]);
    let loads = loads(&servers, Stopwatch::start());
    for _ in 0..3 {
        wait_for_more(&loads, 300);
        server.signal(Signal::KILL);
        server.finish();
        server = serve(&endpoint, &store, &[]);
    }
    wait_for_more(&loads, 100);
    finish(loads, &servers);
}

/// A pair of servers with their stores.
struct Pair {
    _folder: tempfile::TempDir,
    stores: [std::path::PathBuf; 2],
    endpoints: [String; 2],
    servers: Vec<Pinfeed>,
}

impl Pair {
    /// Starts both, and waits until the backup has the primary's state.
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let stores = ["primary", "backup"].map(|name| folder.path().join(name));
        let mut pair = Self {
            _folder: folder,
            stores,
            endpoints: [four_ports(), four_ports()],
            servers: Vec::new(),
        };
        pair.servers = vec![pair.serve(0, &[]), pair.serve(1, &[])];
        pair.servers[0].wait_for_line("active");
        pair.servers[1].wait_for_line("in step");
        pair
    }

    fn serve(&self, side: usize, more: &[&str]) -> Pinfeed {
        let side_name = ["--primary", "--backup"][side];
        let arguments = [&[side_name, "--peer", &self.endpoints[1 - side]], more].concat();
        serve(&self.endpoints[side], &self.stores[side], &arguments)
    }

    fn kill(&mut self, side: usize) {
        self.servers[side].signal(Signal::KILL);
        self.servers[side].finish();
    }
}

/// Prints how long it took from `from_ns` until each load heard of an update published by the backup.
fn print_takeover(what: &str, loads: &[Load], from_ns: u64) {
    wait_until("the backup publishes", || {
        std::thread::sleep(Duration::from_millis(5));
        loads.iter().all(|load| {
            load.watched
                .lock()
                .expect("no panic")
                .second_published_ns
                .is_some()
        })
    });
    let times = loads.iter().map(|load| {
        let at_ns = load.watched.lock().expect("no panic").second_published_ns;
        at_ns.map_or(0, |at_ns| at_ns.saturating_sub(from_ns)) / 1_000_000
    });
    let (first, last) = (times.clone().min(), times.max());
    println!(
        "{what}: published by the backup again after {first:?} to {last:?} ms; the limit is 2,500 ms"
    );
}

#[test]
fn the_backup_takes_over_from_a_primary_that_is_killed_and_back() {
    let mut pair = Pair::start();
    let since = Stopwatch::start();
    let loads = loads(&pair.endpoints, since);
    wait_for_more(&loads, 300);
    let killed_ns = since.elapsed_ns();
    pair.kill(0);
    pair.servers[1].wait_for_line("active");
    println!(
        "active {} ms after the kill",
        (since.elapsed_ns() - killed_ns) / 1_000_000
    );
    print_takeover("killed", &loads, killed_ns);
    wait_for_more(&loads, 100);
    // The primary comes back, follows, and takes over in its turn.
    pair.servers[0] = pair.serve(0, &[]);
    pair.servers[0].wait_for_line("in step");
    wait_for_more(&loads, 100);
    pair.kill(1);
    pair.servers[0].wait_for_line("active");
    wait_for_more(&loads, 100);
    finish(loads, &pair.endpoints);
}

#[test]
fn the_backup_takes_over_from_a_primary_that_is_stopped_which_then_follows() {
    let mut pair = Pair::start();
    let since = Stopwatch::start();
    let loads = loads(&pair.endpoints, since);
    wait_for_more(&loads, 300);
    let stopped_ns = since.elapsed_ns();
    pair.servers[0].signal(Signal::STOP);
    pair.servers[1].wait_for_line("active");
    print_takeover("stopped", &loads, stopped_ns);
    pair.servers[0].signal(Signal::CONT);
    pair.servers[0].wait_for_line("starting over");
    pair.servers[0].wait_for_line("in step");
    wait_for_more(&loads, 100);
    finish(loads, &pair.endpoints);
    for server in &mut pair.servers {
        server.signal(Signal::INT);
        server.json(130);
    }
}

#[test]
fn both_servers_that_are_killed_and_started_again_have_what_was_published() {
    let mut pair = Pair::start();
    let loads = loads(&pair.endpoints, Stopwatch::start());
    wait_for_more(&loads, 300);
    pair.kill(0);
    pair.kill(1);
    pair.servers = vec![pair.serve(0, &[]), pair.serve(1, &[])];
    wait_for_more(&loads, 100);
    finish(loads, &pair.endpoints);
}

#[test]
fn a_primary_that_preempts_is_active_again() {
    let mut pair = Pair::start();
    let loads = loads(&pair.endpoints, Stopwatch::start());
    wait_for_more(&loads, 100);
    pair.kill(0);
    pair.servers[1].wait_for_line("active");
    wait_for_more(&loads, 100);
    pair.servers[0] = pair.serve(0, &["--preempt"]);
    pair.servers[0].wait_for_line("active");
    pair.servers[1].wait_for_line("in step");
    wait_for_more(&loads, 100);
    finish(loads, &pair.endpoints);
}

const KEYS: usize = 100_000;
const CLIENTS: usize = 50;
/// Of these one follows all keys, the others a tenth each.
const WHOLE_EVERY: usize = 5;

/// Turns a client until `reached`.
fn turn_until(client: &mut Client, what: &str, mut reached: impl FnMut(&mut Client) -> bool) {
    let end = Deadline::after(LIMIT);
    while !reached(client) {
        assert!(!end.passed(), "not in time: {what}");
        client.turn(Duration::from_millis(20)).expect("it goes on");
        while client.event().is_some() {}
    }
}

fn key(number: usize) -> String {
    format!("/{}/{number}", number % 10)
}

#[test]
fn clients_that_join_under_load_all_have_the_servers_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let endpoint = four_ports();
    let _server = serve(&endpoint, &folder.path().join("store"), &[]);
    let servers = [endpoint];
    let mut writer = Client::start(&ClientPlan::new(&servers, b"")).expect("an endpoint");
    turn_until(&mut writer, "it is ready", |client| {
        client.is_ready() && client.can_send()
    });
    let mut sent = 0_usize;
    // Fills the state, then goes on changing it at 5,000 a second while clients join.
    let mut write = |writer: &mut Client, until: usize, since: &Stopwatch, rate: usize| {
        let start = sent;
        let end = Deadline::after(LIMIT);
        while sent < until {
            assert!(!end.passed(), "{sent} of {until} updates were sent");
            let due = start + (since.elapsed_ns() as usize / 1_000_000) * rate / 1_000;
            while sent < until.min(due) && writer.under_way() < 5_000 {
                let key = key(sent * 7 % KEYS);
                writer
                    .set(key.as_bytes(), sent.to_string().as_bytes(), None)
                    .expect("a good key");
                sent += 1;
            }
            writer.turn(Duration::from_millis(2)).expect("it goes on");
            while writer.event().is_some() {}
        }
    };
    write(&mut writer, KEYS, &Stopwatch::start(), 1_000_000);
    let joining: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let servers = servers.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(number as u64 * 37 % 2_000));
                let subtree = if number % WHOLE_EVERY == 0 {
                    String::new()
                } else {
                    format!("/{}/", number % 10)
                };
                let mut client = Client::start(&ClientPlan::new(&servers, subtree.as_bytes()))
                    .expect("an endpoint");
                let last = format!("{subtree}end");
                turn_until(&mut client, "the last update is there", |client| {
                    client.values().contains_key(last.as_bytes())
                });
                let state = client.values().iter();
                let state: Vec<_> = state
                    .map(|(key, value)| (key.clone(), value.body.clone()))
                    .collect();
                (subtree, state, client.counters().snapshots)
            })
        })
        .collect();
    write(&mut writer, KEYS + 15_000, &Stopwatch::start(), 5_000);
    turn_until(&mut writer, "all is published", |client| {
        client.under_way() == 0
    });
    for digit in 0..10 {
        writer
            .set(format!("/{digit}/end").as_bytes(), b"x", None)
            .expect("a good key");
    }
    turn_until(&mut writer, "all is published", |client| {
        client.under_way() == 0
    });
    writer.set(b"end", b"x", None).expect("a good key");
    turn_until(&mut writer, "all is published", |client| {
        client.under_way() == 0
    });
    let mut reference = Client::start(&ClientPlan::new(&servers, b"")).expect("an endpoint");
    turn_until(&mut reference, "it is ready", |client| client.is_ready());
    assert_eq!(reference.values().len(), KEYS + 11);
    let mut snapshots = 0;
    for client in joining {
        let (subtree, state, taken) = client.join().expect("a client does not panic");
        snapshots += taken;
        let expected = reference.values().iter();
        let expected = expected.filter(|(key, _)| key.starts_with(subtree.as_bytes()));
        let expected: Vec<_> = expected
            .map(|(key, value)| (key.clone(), value.body.clone()))
            .collect();
        assert!(
            state == expected,
            "a client of {subtree:?} has another state than the server"
        );
    }
    println!("{CLIENTS} clients took {snapshots} snapshots");
}
