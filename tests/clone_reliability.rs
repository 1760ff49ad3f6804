//! Goal: what a Clone server has published outlives it: it is killed, alone and as one of a pair, stopped, and both
//! are killed, under load; nothing that a client was told of is lost, clients turn to the other server by
//! themselves, and how long that takes is printed. And under load with clients that join, all have the same state
//! in the end, and the server keeps up; where the machine can't carry that load, this says so.

#[path = "support/clone_load.rs"]
mod clone_load;
mod support;

use std::{path::Path, time::Duration};

use clone_load::{Load, assert_nothing_lost, four_ports};
use pinfeed::{
    clock::{Deadline, Stopwatch},
    patterns::clone::{Client, ClientPlan, Event, client::Fate},
};
use rustix::process::Signal;
use support::{LIMIT, Pinfeed, number, skip, wait_until};

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
        pair.servers[0].wait_for_line("the other server is in step");
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
fn an_active_server_says_when_the_other_one_is_out_of_step() {
    let mut pair = Pair::start();
    let loads = loads(&pair.endpoints, Stopwatch::start());
    wait_for_more(&loads, 100);
    pair.kill(1);
    pair.servers[0].wait_for_line("the other server is no longer in step");
    wait_for_more(&loads, 100);
    pair.servers[1] = pair.serve(1, &[]);
    pair.servers[0].wait_for_line("the other server is in step");
    finish(loads, &pair.endpoints);
    print_one_shots(&pair.endpoints);
    pair.kill(1);
    pair.servers[0].wait_for_line("the other server is no longer in step");
    pair.servers[0].signal(Signal::INT);
    let summary = pair.servers[0].json(130);
    assert_eq!(summary["in_step"], false);
    assert!(number(&summary, "left_behind") >= 2, "{summary}");
    let said = &pair.servers[0].said;
    assert!(
        said.contains("Active, the other server not in step"),
        "{said}"
    );
}

#[test]
fn a_server_that_does_not_hear_the_other_one_says_so_and_when_it_does() {
    let (folder, endpoints) = (
        tempfile::tempdir().expect("a folder"),
        [four_ports(), four_ports()],
    );
    let serve = |side: usize, name: &str| {
        let store = folder.path().join(name);
        serve(
            &endpoints[side],
            &store,
            &[name, "--peer", &endpoints[1 - side]],
        )
    };
    let mut backup = serve(1, "--backup");
    let said = backup.wait_for_line("nothing is heard of the other server for 5 s: ");
    let refused = format!("{}: Connection refused", endpoints[0]);
    assert!(
        said.starts_with(&refused) && said.contains("--peer"),
        "{said}"
    );
    let _primary = serve(0, "--primary");
    backup.wait_for_line("the other server is heard of");
}

#[test]
fn its_ports_are_free_at_the_end_although_nobody_takes_what_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let endpoint = four_ports();
    let server = serve(&endpoint, &folder.path().join("store"), &[]);
    server.fill_stderr();
    server.signal(Signal::TERM);
    let address = endpoint.strip_prefix("tcp://").expect("of TCP");
    wait_until("its port is free", || {
        std::net::TcpListener::bind(address).is_ok()
    });
    wait_until("asked again, it ends", || {
        server.signal(Signal::TERM);
        !server.is_running()
    });
}

#[test]
fn a_client_that_is_given_another_port_of_the_server_is_told_which_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let endpoint = four_ports();
    let _server = serve(&endpoint, &folder.path().join("store"), &[]);
    let (host, port) = endpoint.rsplit_once(':').expect("a port");
    let port: u16 = port.parse().expect("a number");
    for offset in [1, 2] {
        let wrong = format!("{host}:{}", port + offset);
        let mut client = Pinfeed::start(&[
            "clone",
            "get",
            "key",
            "--timeout",
            "500ms",
            "--connect",
            &wrong,
        ]);
        assert_eq!(client.finish().0.code(), Some(1), "{}", client.said);
        let said = "give the server's --endpoint, whose port is P";
        assert!(client.said.contains(said), "{}", client.said);
    }
}

/// Prints how long a command takes that reads one key of one server, and of a pair.
fn print_one_shots(servers: &[String]) {
    for servers in [&servers[..1], servers] {
        let since = Stopwatch::start();
        let reach = servers.iter().flat_map(|server| ["--connect", server]);
        let get = ["clone", "get", "/load/0/1"].into_iter().chain(reach);
        let (status, _) = Pinfeed::start(&get.collect::<Vec<_>>()).finish();
        assert!(status.success());
        let ms = since.elapsed_ns() / 1_000_000;
        println!("get from {} servers: {ms} ms", servers.len());
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
/// Updates a second that the server has to sustain while clients join, and for how long.
const RATE: usize = 5_000;
const SPAN: Duration = Duration::from_secs(3);
/// Spans that are tried until one tells. In each, clients join.
const ROUNDS: usize = 3;
/// Of the updates that are due, those that have to be sent, and those that have to be published, at the span's end.
const SENT_MIN: f64 = 0.95;
const PUBLISHED_MIN: f64 = 0.9;
/// The most updates under way.
const UNDER_WAY_MAX: usize = RATE;

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

/// A client that sets one key after the other, at a rate.
struct Writer {
    client: Client,
    sent: usize,
    published: usize,
}

impl Writer {
    fn turn(&mut self) {
        self.client
            .turn(Duration::from_millis(2))
            .expect("it goes on");
        while let Some(event) = self.client.event() {
            match event {
                Event::Own {
                    fate: Fate::Published(_),
                    ..
                } => self.published += 1,
                Event::Own { fate, .. } => panic!("an update is {fate:?}"),
                _ => {}
            }
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        let set = self.client.set(key.as_bytes(), value.as_bytes(), None);
        set.expect("a good key");
        self.sent += 1;
    }

    fn settle(&mut self) {
        let end = Deadline::after(LIMIT);
        while self.client.under_way() > 0 {
            let left = self.client.under_way();
            assert!(!end.passed(), "{left} updates are not published");
            self.turn();
        }
        assert_eq!(self.published, self.sent);
    }

    /// Sets keys as fast as they are published.
    fn fill(&mut self) {
        let end = Deadline::after(LIMIT);
        while self.sent < KEYS {
            assert!(!end.passed(), "{} of {KEYS} updates were sent", self.sent);
            while self.sent < KEYS && self.client.under_way() < UNDER_WAY_MAX {
                self.set(&key(self.sent * 7 % KEYS), &self.sent.to_string());
            }
            self.turn();
        }
        self.settle();
    }

    /// Sets keys at [`RATE`] for [`SPAN`], and tells what came of it.
    fn write(&mut self, server: &Pinfeed) -> Span {
        let (sent, published, before_ns) = (self.sent, self.published, waited_ns(server));
        let since = Stopwatch::start();
        let mut held_up = false;
        while since.elapsed_ns() < SPAN.as_nanos() as u64 {
            let due = sent + (since.elapsed_ns() / 1_000) as usize * RATE / 1_000_000;
            while self.sent < due && self.client.under_way() < UNDER_WAY_MAX {
                self.set(&key(self.sent * 7 % KEYS), &self.sent.to_string());
            }
            held_up |= self.sent < due && self.client.under_way() == UNDER_WAY_MAX;
            self.turn();
        }
        let span_s = since.elapsed_ns() as f64 / 1e9;
        Span {
            sent_per_s: (self.sent - sent) as f64 / span_s,
            published_per_s: (self.published - published) as f64 / span_s,
            waited: (waited_ns(server).zip(before_ns))
                .map(|(now_ns, before_ns)| (now_ns - before_ns) as f64 / 1e9 / span_s),
            held_up,
        }
    }
}

/// What came of a span of writing.
#[derive(Debug)]
struct Span {
    sent_per_s: f64,
    published_per_s: f64,
    /// The part of it that the server's thread waited for a core, where the kernel counts that.
    waited: Option<f64>,
    /// Whether as much as may be was under way, so that the writer had to wait for the server.
    held_up: bool,
}

/// What a span says of the server.
enum Verdict {
    Sustained,
    Fell(String),
    /// The machine did not carry the load.
    Nothing(String),
}

impl Span {
    fn verdict(&self) -> Verdict {
        let (sent, published) = (
            self.sent_per_s / RATE as f64,
            self.published_per_s / RATE as f64,
        );
        if published >= PUBLISHED_MIN {
            Verdict::Sustained
        } else if sent < SENT_MIN && !self.held_up {
            Verdict::Nothing(format!("the writer could not send at the rate: {self:?}"))
        } else {
            // What it would have published without the wait.
            match self.waited {
                None => Verdict::Nothing(format!(
                    "no schedstat tells whether the server had to wait for a core: {self:?}"
                )),
                Some(waited) if published >= PUBLISHED_MIN * (1.0 - waited) => {
                    Verdict::Nothing(format!("the server had to wait for a core: {self:?}"))
                }
                Some(_) => Verdict::Fell(format!("the server fell behind: {self:?}")),
            }
        }
    }
}

/// How long the one thread of a server that serves has been ready to run without a core, in nanoseconds, as the
/// kernel counts it.
fn waited_ns(server: &Pinfeed) -> Option<u64> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.id())).expect("it runs");
    let read = |thread: &Path, file: &str| std::fs::read_to_string(thread.join(file)).ok();
    let mut paths = threads.filter_map(|thread| Some(thread.ok()?.path()));
    let serving = paths.find(|thread| read(thread, "comm").as_deref() == Some("serving\n"));
    let text = read(&serving.expect("a thread serves"), "schedstat")?;
    text.split_whitespace().nth(1)?.parse().ok()
}

/// A client that joins a while after `number`, and when it has the last update of the round its keys with their values.
fn join(servers: &[String], number: usize, round: usize) -> Joined {
    let servers = servers.to_vec();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(number as u64 * 37 % 2_000));
        let subtree = if number.is_multiple_of(WHOLE_EVERY) {
            String::new()
        } else {
            format!("/{}/", number % 10)
        };
        let plan = ClientPlan::new(&servers, subtree.as_bytes());
        let mut client = Client::start(&plan).expect("an endpoint");
        let (last, body) = (format!("{subtree}end"), round.to_string());
        turn_until(&mut client, "the last update is there", |client| {
            let value = client.values().get(last.as_bytes());
            value.is_some_and(|value| *value.body == *body.as_bytes())
        });
        (subtree, contents(&client), client.counters().snapshots)
    })
}

type Contents = Vec<(Vec<u8>, Vec<u8>)>;
type Joined = std::thread::JoinHandle<(String, Contents, u64)>;

fn contents(client: &Client) -> Contents {
    let values = client.values().iter();
    values
        .map(|(key, value)| (key.to_vec(), value.body.to_vec()))
        .collect()
}

#[test]
fn clients_that_join_under_load_all_have_the_servers_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let endpoint = four_ports();
    let mut server = serve(&endpoint, &folder.path().join("store"), &[]);
    let servers = [endpoint];
    let client = Client::start(&ClientPlan::new(&servers, b"")).expect("an endpoint");
    let mut writer = Writer {
        client,
        sent: 0,
        published: 0,
    };
    turn_until(&mut writer.client, "it is ready", |client| {
        client.is_ready() && client.can_send()
    });
    writer.fill();
    let mut verdict = Verdict::Sustained;
    for round in 0..ROUNDS {
        let joining: Vec<_> = (0..CLIENTS)
            .map(|number| join(&servers, number, round))
            .collect();
        let span = writer.write(&server);
        println!("round {round}: of {RATE} updates a second: {span:?}");
        writer.settle();
        for digit in 0..10 {
            writer.set(&format!("/{digit}/end"), &round.to_string());
        }
        writer.settle();
        writer.set("end", &round.to_string());
        writer.settle();
        let mut reference = Client::start(&ClientPlan::new(&servers, b"")).expect("an endpoint");
        turn_until(&mut reference, "it is ready", |client| client.is_ready());
        let all = contents(&reference);
        assert_eq!(all.len(), KEYS + 11);
        let mut snapshots = 0;
        for client in joining {
            let (subtree, found, taken) = client.join().expect("a client does not panic");
            snapshots += taken;
            let below = |(key, _): &&(Vec<u8>, Vec<u8>)| key.starts_with(subtree.as_bytes());
            assert!(
                found.iter().eq(all.iter().filter(below)),
                "a client of {subtree:?} has another state than the server"
            );
        }
        println!("{CLIENTS} clients took {snapshots} snapshots");
        match span.verdict() {
            Verdict::Sustained => {
                verdict = Verdict::Sustained;
                break;
            }
            // One that tells counts for more than one that does not.
            Verdict::Nothing(_) if matches!(verdict, Verdict::Fell(_)) => {}
            new => verdict = new,
        }
    }
    server.signal(Signal::INT);
    let summary = server.json(130);
    assert_eq!(number(&summary, "accepted"), writer.sent as u64);
    match verdict {
        Verdict::Sustained => {}
        Verdict::Fell(why) => panic!("{why}"),
        Verdict::Nothing(why) => skip(&format!(
            "whether {RATE} updates a second are sustained; all else was tested: {why}"
        )),
    }
}
