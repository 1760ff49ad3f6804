//! Goal: where only numbers and connections tell of a publisher's restart, it loses no message however much of the time
//! before is still unread, if its numbers fall back: what each connection brought is judged with what that connection
//! brought before.

mod support;

use std::{thread, time::Duration};

use pinfeed::{
    config::{Config, Engine},
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, Gate, finish, wait_until, xpub};

/// Messages before the restart, and what is sent after it: its first three are lost.
const BEFORE: u32 = 3_000;
const AFTER: std::ops::Range<u32> = 3..1_500;
const PAYLOAD: [u8; 1_000] = [b'x'; 1_000];

/// Waits at the gate, and is slow behind it.
struct Slow(Gate);

impl Handler for Slow {
    fn on_message(&mut self, _message: &Message<'_>) {
        self.0.pass();
        thread::sleep(Duration::from_micros(300));
    }
}

/// A publisher that waits for its subscriber to take all that it sends, also once it is closed.
fn patient(context: &zmq::Context) -> zmq::Socket {
    let socket = xpub(context);
    socket.set_sndhwm(0).expect("it is set");
    socket.set_linger(-1).expect("it is set");
    socket
}

fn publish(publisher: &zmq::Socket, numbers: std::ops::Range<u32>) {
    publisher.recv_bytes(0).expect("a subscription");
    for number in numbers {
        let frames = [&b"hashtx"[..], &PAYLOAD, &number.to_le_bytes()];
        publisher.send_multipart(frames, 0).expect("it is sent");
    }
}

fn check(engine: Engine, binds: bool) {
    let context = zmq::Context::new();
    let first = patient(&context);
    let mut config = if binds {
        Config::bind("tcp://127.0.0.1:*", "bitcoind".parse().unwrap())
    } else {
        first.bind("tcp://127.0.0.1:*").expect("a free port");
        let endpoint = first.get_last_endpoint().unwrap().unwrap();
        Config::connect(&endpoint, "bitcoind".parse().unwrap())
    };
    config.engine = Some(engine);
    config.workers.count = 1;
    config.handoff.batches = 4;
    config.handoff.batch_messages = 16;
    config.receive.high_water_mark = BEFORE + AFTER.end;
    let (gate, stop) = (Gate::default(), Stop::default());
    let start = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
        Slow(gate.clone())
    });
    let mut pipeline = start.unwrap();
    let endpoint = match pipeline.endpoints() {
        [] => config.feeds[0].lines[0].connect[0].clone(),
        [endpoint, ..] => endpoint.clone(),
    };
    if binds {
        first.connect(&endpoint).expect("it connects");
    }
    publish(&first, 0..BEFORE);
    wait_until("the lane waits", || pipeline.look().blocked > 0);
    drop(first);
    let second = patient(&context);
    if binds {
        second.connect(&endpoint).expect("it connects");
    } else {
        wait_until("the port is free", || second.bind(&endpoint).is_ok());
    }
    gate.open();
    publish(&second, AFTER);
    if binds {
        // Who connects again reads the rest before.
        assert!(pipeline.look().received < BEFORE.into(), "all was read");
    }
    let sent = u64::from(BEFORE) + AFTER.len() as u64;
    wait_until("all has come", || pipeline.look().received == sent);
    stop.request();
    let outcome = finish(pipeline);
    let totals = &outcome.totals;
    let case = format!("{engine:?}, binds: {binds}: {totals:?}");
    assert_eq!(totals.delivered, sent, "{case}");
    assert_eq!((outcome.lost, totals.restarts), (Some(3), 1), "{case}");
}

#[test]
fn a_restart_behind_much_that_is_unread_loses_nothing() {
    for engine in ENGINES {
        for binds in [true, false] {
            check(engine, binds);
        }
    }
}
