//! Goal: where a limit is reached that no configuration shows, on open files, on connections, on orders, it is
//! said or counted, nothing spins, and all is well again once there is room.

mod support;

use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpStream},
};

use pinfeed::{
    Error,
    config::Config,
    envelope::Envelope,
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::{Handler, handlers::Null},
};
use rustix::process::{Resource, getrlimit, setrlimit};
use support::{
    ENGINES, Gate, LIMIT, Pinfeed, assert_all_delivered, bound_xpub, finish, skip, sleeps,
    wait_until, with_open_files, xpub,
};

/// Connections that publishers may make to a lane.
const CONNECTIONS_MAX: usize = 4_096;
/// Connections made at once: what the kernel has no room for until the lane has taken some in is made again
/// only seconds later.
const AT_ONCE: usize = 64;
/// Orders that may wait for a lane.
const ORDERS_MAX: usize = 16_384;

fn address(endpoint: &str) -> SocketAddr {
    let address = endpoint.strip_prefix("tcp://").expect("over TCP");
    address.parse().expect("an address and a port")
}

#[test]
fn a_lane_with_too_many_open_files_waits() {
    const FILES_MAX: u32 = 32;
    let arguments = [
        "run",
        "--json",
        "--messages",
        "1",
        "--bind",
        "tcp://127.0.0.1:*",
    ];
    let mut run = Pinfeed::spawn(&mut with_open_files(FILES_MAX, &arguments));
    let endpoint = run.wait_for_line("listening on ");
    let strangers: Vec<TcpStream> = (0..3 * FILES_MAX)
        .map(|_| TcpStream::connect(address(&endpoint)).unwrap())
        .collect();
    let folder = format!("/proc/{}/fd", run.id());
    wait_until("all files are open", || {
        let names = fs::read_dir(&folder).unwrap().flatten();
        let numbers = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // What it was started with may be numbered beyond.
        numbers.filter(|number: &u32| *number < FILES_MAX).count() == FILES_MAX as usize
    });
    assert!(sleeps(run.id()), "it asks over and over");
    // One that has to wait as well, and that the kernel keeps meanwhile.
    let context = zmq::Context::new();
    let publisher = xpub(&context);
    publisher.connect(&endpoint).unwrap();
    drop(strangers);
    assert_eq!(publisher.recv_bytes(0).unwrap(), [1]);
    publisher.send("topic", 0).unwrap();
    assert_all_delivered(&run.json(0), 1);
}

#[test]
fn connections_beyond_what_a_lane_takes_are_refused_and_counted() {
    // Both ends are in this process.
    let needed = 2 * CONNECTIONS_MAX as u64 + 500;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|files| files < needed) {
        limit.current = Some(limit.maximum.map_or(needed, |most| most.min(needed)));
        if limit.current < Some(needed) || setrlimit(Resource::Nofile, limit).is_err() {
            skip("this process may not have so many open files");
            return;
        }
    }
    let mut config = Config::bind("tcp://127.0.0.1:*", Envelope::Raw);
    config.receive.handshake_timeout_ms = 10 * LIMIT.as_millis() as u32;
    let stop = Stop::default();
    let mut pipeline =
        Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| Null).unwrap();
    let endpoint = pipeline.endpoints()[0].clone();
    let connect = || TcpStream::connect(address(&endpoint)).unwrap();
    let mut strangers: Vec<TcpStream> = Vec::new();
    while strangers.len() < CONNECTIONS_MAX {
        let mut some: Vec<TcpStream> = (0..AT_ONCE).map(|_| connect()).collect();
        for stranger in &mut some {
            stranger.set_read_timeout(Some(LIMIT)).unwrap();
            let mut greeting = [0];
            stranger.read_exact(&mut greeting).unwrap();
            assert_eq!(greeting, [0xff], "it is taken in");
        }
        strangers.append(&mut some);
    }
    strangers.push(connect());
    wait_until("the last one is refused", || pipeline.look().refused == 1);
    let mut last = strangers.pop().unwrap();
    last.set_read_timeout(Some(LIMIT)).unwrap();
    let heard = last.read(&mut [0; 1]).unwrap();
    assert_eq!(heard, 0, "it is hung up on without a word");
    // There is room again once one has gone.
    drop(strangers.pop());
    wait_until("it is noticed", || pipeline.look().handshake_failures == 1);
    let context = zmq::Context::new();
    let publisher = xpub(&context);
    publisher.connect(&endpoint).unwrap();
    assert_eq!(publisher.recv_bytes(0).unwrap(), [1]);
    publisher.send("topic", 0).unwrap();
    wait_until("its message has come", || pipeline.look().delivered == 1);
    stop.request();
    let totals = finish(pipeline).totals;
    assert_eq!((totals.refused, totals.connects), (1, 1));
}

/// Waits at each message until its gate is open.
struct Held(Gate);

impl Handler for Held {
    fn on_message(&mut self, _message: &Message<'_>) {
        self.0.pass();
    }
}

#[test]
fn a_lane_that_hears_nothing_takes_no_more_orders() {
    for engine in ENGINES {
        let context = zmq::Context::new();
        let (publisher, endpoint) = bound_xpub(&context);
        let mut config = Config::connect(&endpoint, Envelope::Raw);
        config.engine = Some(engine);
        config.workers.count = 1;
        (config.handoff.batches, config.handoff.batch_messages) = (2, 1);
        let gate = Gate::default();
        let stop = Stop::default();
        let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
            Held(gate.clone())
        })
        .unwrap();
        assert_eq!(publisher.recv_bytes(0).unwrap(), [1]);
        for _ in 0..16 {
            publisher.send("topic", 0).unwrap();
        }
        wait_until("the lane waits for its worker", || {
            pipeline.look().blocked > 0
        });
        let order = || pipeline.subscribe("feed", b"topic");
        let taken = (0..=ORDERS_MAX).take_while(|_| order().is_ok()).count();
        assert_eq!(taken, ORDERS_MAX, "{engine:?}");
        let refused = order().unwrap_err();
        assert!(matches!(refused, Error::LaneBusy), "{refused}");
        assert!(refused.to_string().contains("try again later"));
        gate.open();
        wait_until("there is room for another", || order().is_ok());
        stop.request();
        wait_until("the lane has ended", || pipeline.is_finished());
        assert!(matches!(order(), Err(Error::LaneBusy)), "nobody is there");
        assert!(finish(pipeline).totals.balanced());
    }
}
