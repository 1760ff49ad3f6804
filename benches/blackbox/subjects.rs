//! What is measured: ways to take messages in. Each checks that all of them came.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread::{self, JoinHandle},
    time::Duration,
};

use hdrhistogram::Histogram;
use pinfeed::{
    clock::{Stopwatch, process_cpu_ns, wall_ns},
    config::{Config, PinPolicy},
    envelope::Envelope,
    host::{pin::pin_current, topology::usable_cores},
    lane::Quota,
    latency::Stages,
    net::{Interest, Poller, is_not_ready},
    pipeline::Pipeline,
    stop::Stop,
    worker::{
        Handler,
        handlers::{Count, Null},
    },
    zmtp::{Handshake, SocketType, Subscription, Version, encode_subscription},
};

use crate::publisher::{Feed, WIRE_BYTES};

const WORKERS: usize = 2;
const HIGH_WATER_MARK: i32 = 100_000;
/// What a plain loop receives into.
const BUFFER_BYTES: usize = 256 * 1024;

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub elapsed_ns: u64,
    pub cpu_ns: u64,
    /// From the intended send time to the end of the subject's way, where it was asked for.
    pub latency: Option<Latency>,
}

/// Percentiles, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub p50_ns: u64,
    pub p99_ns: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            p50_ns: histogram.value_at_quantile(0.5),
            p99_ns: histogram.value_at_quantile(0.99),
        }
    }
}

/// How pinfeed is set up.
#[derive(Clone, Copy)]
pub struct Setup {
    pub name: &'static str,
    /// How many messages it takes for some seconds.
    pub messages: u64,
    pub configure: fn(&mut Config),
}

/// A way to take messages in.
#[derive(Clone, Copy)]
pub enum Subject {
    /// Receive calls only: what the kernel's copy costs.
    Plain,
    /// A libzmq SUB socket in a loop that does nothing with the message, as anyone would write it.
    Bare,
    /// The same with the loop and its I/O thread tied to one core, as pinfeed does with a libzmq
    /// lane where cores are few.
    BareOnOneCore,
    /// The black box as the ZeroMQ Guide sketches it, one inproc PUSH a message.
    OneByOne,
    /// pinfeed, with ledger and histograms on, and a handler that does nothing.
    Pinfeed(Setup),
    /// The same with the handler that counts by topic and digests payloads.
    Counting(Setup),
}

impl Subject {
    pub fn name(&self) -> String {
        match self {
            Self::Plain => "plain recv, nothing parsed".to_owned(),
            Self::Bare => "bare libzmq SUB loop".to_owned(),
            Self::BareOnOneCore => "bare libzmq SUB loop, on one core".to_owned(),
            Self::OneByOne => format!("one inproc PUSH a message, {WORKERS} workers"),
            Self::Pinfeed(setup) => setup.name.to_owned(),
            Self::Counting(setup) => format!("{}, count and digest by topic", setup.name),
        }
    }

    /// How many messages it takes for some seconds.
    pub fn messages(&self) -> u64 {
        match self {
            Self::Plain => 40_000_000,
            Self::Bare | Self::BareOnOneCore | Self::OneByOne => 4_000_000,
            Self::Pinfeed(setup) | Self::Counting(setup) => setup.messages,
        }
    }

    /// Takes in all `messages` that come from the endpoints.
    pub fn run(&self, feed: &Feed, endpoints: &[String], messages: u64) -> Cost {
        match self {
            Self::Plain => plain(endpoints, messages),
            Self::Bare if feed.rate.is_some() => bare_timed(endpoints, messages),
            Self::Bare => bare(endpoints, messages),
            Self::BareOnOneCore => bare_on_one_core(endpoints, messages),
            Self::OneByOne => one_by_one(endpoints, messages),
            Self::Pinfeed(setup) => black_box(setup, feed, endpoints, messages, |_| Null),
            Self::Counting(setup) => {
                black_box(setup, feed, endpoints, messages, |_| Count::default())
            }
        }
    }
}

/// Measures from now, when the first message has come, to the end of `rest`.
fn measured<T>(first: T, rest: impl FnOnce(T)) -> Cost {
    let (watch, cpu_ns) = (Stopwatch::start(), process_cpu_ns());
    rest(first);
    Cost {
        elapsed_ns: watch.elapsed_ns(),
        cpu_ns: process_cpu_ns() - cpu_ns,
        latency: None,
    }
}

fn plain(endpoints: &[String], messages: u64) -> Cost {
    let streams: Vec<TcpStream> = endpoints.iter().map(|one| subscribed_stream(one)).collect();
    let bytes = messages * WIRE_BYTES as u64;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut take = |mut stream: &TcpStream| match stream.read(&mut buffer) {
        Ok(0) => panic!("the publisher left early"),
        Ok(count) => count as u64,
        Err(nothing) if is_not_ready(&nothing) => 0,
        Err(broken) => panic!("{broken}"),
    };
    if let [stream] = &streams[..] {
        return until_all(|| take(stream), bytes);
    }
    let mut poller = Poller::new().expect("a poller");
    for (token, stream) in (0..).zip(&streams) {
        stream.set_nonblocking(true).expect("a mode");
        poller.add(stream, token, Interest::Read).expect("room");
    }
    let turn = || {
        poller.wait(None).expect("events");
        let ready = poller.ready();
        ready
            .map(|ready| take(&streams[ready.token as usize]))
            .sum()
    };
    until_all(turn, bytes)
}

/// Measures from the first bytes that `take` takes to the last.
fn until_all(mut take: impl FnMut() -> u64, bytes: u64) -> Cost {
    let first = take();
    measured(first, |mut received| {
        while received < bytes {
            received += take();
        }
        assert_eq!(received, bytes);
    })
}

/// Connects, shakes hands and subscribes to everything.
fn subscribed_stream(endpoint: &str) -> TcpStream {
    let address = endpoint.strip_prefix("tcp://").expect("a TCP endpoint");
    let mut stream = TcpStream::connect(address).expect("a connection");
    let mut out = Vec::new();
    let mut inbox = Vec::new();
    let mut handshake = Handshake::start(SocketType::Sub, Version::V3_1, &mut out);
    loop {
        stream.write_all(&out).expect("room for a few bytes");
        out.clear();
        let mut piece = [0; 256];
        let count = stream.read(&mut piece).expect("a piece of the handshake");
        inbox.extend_from_slice(&piece[..count]);
        let progress = handshake.advance(&inbox, &mut out).expect("a publisher");
        inbox.drain(..progress.consumed);
        if let Some(peer) = progress.peer {
            assert!(inbox.is_empty(), "nothing comes before it is asked for");
            encode_subscription(&mut out, peer.version, Subscription::Start(b""));
            stream.write_all(&out).expect("room for a few bytes");
            return stream;
        }
    }
}

fn subscribed_socket(context: &zmq::Context, endpoints: &[String]) -> zmq::Socket {
    let socket = context.socket(zmq::SUB).expect("a socket");
    socket
        .set_rcvhwm(HIGH_WATER_MARK)
        .expect("a high-water mark");
    socket.set_subscribe(b"").expect("a subscription");
    for endpoint in endpoints {
        socket.connect(endpoint).expect("a connection");
    }
    socket
}

fn bare(endpoints: &[String], messages: u64) -> Cost {
    let context = zmq::Context::new();
    let socket = subscribed_socket(&context, endpoints);
    let first = socket.recv_msg(0).expect("the first message");
    measured(first, |mut message| {
        for _ in 1..messages {
            socket.recv(&mut message, 0).expect("a message");
        }
    })
}

/// As [`bare`], but looks at each message's timestamp and at the wall clock.
fn bare_timed(endpoints: &[String], messages: u64) -> Cost {
    let context = zmq::Context::new();
    let socket = subscribed_socket(&context, endpoints);
    // With the bounds that pinfeed's own have.
    let mut histogram = Stages::default().feed;
    let mut record = |message: &zmq::Message| {
        let received_ns = wall_ns();
        let fields = Envelope::Pinfeed
            .open(&[&**message])
            .expect("a whole message");
        let sent_ns = fields.stamp.expect("a stamp").timestamp_ns;
        histogram.saturating_record(received_ns.saturating_sub(sent_ns));
    };
    let first = socket.recv_msg(0).expect("the first message");
    let cost = measured(first, |mut message| {
        record(&message);
        for _ in 1..messages {
            socket.recv(&mut message, 0).expect("a message");
            record(&message);
        }
    });
    assert_eq!(histogram.len(), messages);
    Cost {
        latency: Some(Latency::of(&histogram)),
        ..cost
    }
}

fn bare_on_one_core(endpoints: &[String], messages: u64) -> Cost {
    let core = *usable_cores().last().expect("there is a core");
    // On a thread of its own, whose core the I/O thread inherits.
    thread::scope(|scope| {
        let tied = scope.spawn(|| {
            pin_current("bare", Some(core), true).expect("the core is usable");
            bare(endpoints, messages)
        });
        tied.join().expect("the loop does not panic")
    })
}

fn one_by_one(endpoints: &[String], messages: u64) -> Cost {
    let context = zmq::Context::new();
    let push = context.socket(zmq::PUSH).expect("a socket");
    push.set_sndhwm(HIGH_WATER_MARK).expect("a high-water mark");
    let workers: Vec<_> = (0..WORKERS)
        .map(|index| {
            let worker_endpoint = format!("inproc://worker-{index}");
            let pull = context.socket(zmq::PULL).expect("a socket");
            pull.set_rcvhwm(HIGH_WATER_MARK).expect("a high-water mark");
            pull.bind(&worker_endpoint).expect("an endpoint");
            push.connect(&worker_endpoint).expect("a connection");
            thread::spawn(move || {
                let mut message = zmq::Message::new();
                let mut received = 0;
                loop {
                    pull.recv(&mut message, 0).expect("a message");
                    if message.is_empty() {
                        return received;
                    }
                    received += 1;
                }
            })
        })
        .collect();
    let socket = subscribed_socket(&context, endpoints);
    let first = socket.recv_msg(0).expect("the first message");
    measured(first, |message| {
        push.send(message, 0).expect("room for a message");
        for _ in 1..messages {
            let message = socket.recv_msg(0).expect("a message");
            push.send(message, 0).expect("room for a message");
        }
        // PUSH passes over a worker whose queue is full, so the number of ends sent says nothing.
        while !workers.iter().all(JoinHandle::is_finished) {
            let _ = push.send("", zmq::DONTWAIT);
            thread::sleep(Duration::from_millis(1));
        }
        let received: u64 = workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker does not panic"))
            .sum();
        assert_eq!(received, messages);
    })
}

fn black_box<H: Handler>(
    setup: &Setup,
    feed: &Feed,
    endpoints: &[String],
    messages: u64,
    handler: fn(usize) -> H,
) -> Cost {
    let mut config = Config::connect(&endpoints[0], feed.envelope.clone());
    config.feeds[0].lines[0].connect = endpoints.to_vec();
    config.pin = Some(PinPolicy::BestEffort);
    config.workers.count = WORKERS;
    (setup.configure)(&mut config);
    let line = config.feeds[0].lines[0].clone();
    config.feeds[0].lines = vec![line; feed.copies as usize];
    let pipeline = Pipeline::start(&config, Quota::of(messages), Stop::default(), handler)
        .expect("the pipeline starts");
    let outcome = pipeline.finish();
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert_eq!(outcome.totals.received, messages);
    let delivered = match config.feeds[0].arbitration {
        Some(_) => messages / feed.copies,
        None => messages,
    };
    assert_eq!(outcome.totals.delivered, delivered);
    assert!(outcome.totals.balanced());
    assert_eq!(outcome.stages.queue.len(), delivered);
    let stamped = feed.envelope == Envelope::Pinfeed;
    assert_eq!(
        outcome.stages.feed.len(),
        if stamped { delivered } else { 0 }
    );
    Cost {
        elapsed_ns: outcome.elapsed_ns,
        cpu_ns: outcome.cpu_ns,
        latency: stamped.then(|| Latency::of(&outcome.stages.feed)),
    }
}
