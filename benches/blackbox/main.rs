//! The whole black box against its baselines, in one run, in turn, with the same publisher:
//!
//! - bare: a libzmq SUB socket in a loop that does nothing with the message, as anyone would write it;
//! - bare on one core: the same with the loop and its I/O thread tied to one core, as pinfeed does
//!   with a lane where cores are few;
//! - one by one: the black box as the ZeroMQ Guide sketches it, one inproc PUSH a message;
//! - pinfeed, with ledger and histograms on, and a handler that does nothing;
//! - the same with the handler that counts by topic and digests payloads.
//!
//! The publisher is a process of its own that writes frames encoded beforehand, so that nearly all
//! of the machine is left to the subscriber. Each run checks that every message came.
//!
//! `cargo bench --bench blackbox -- [MESSAGES] [ROUNDS]` prints a Markdown table. What is unplaced varies
//! much from run to run, since the kernel decides whether two threads share a core.

mod blaster;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
};

use pinfeed::{
    clock::{Clock, process_cpu_ns},
    config::{Config, PinPolicy},
    envelope::Envelope,
    host::{pin::pin_current, topology::usable_cores},
    lane::Quota,
    pipeline::Pipeline,
    stop::Stop,
    worker::{
        Handler,
        handlers::{Count, Null},
    },
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of each message, its envelope included.
const MESSAGE_BYTES: usize = 64;
const TOPICS: usize = 1_000;
const WORKERS: usize = 2;
const HIGH_WATER_MARK: i32 = 100_000;

/// What a run took.
#[derive(Clone, Copy)]
struct Cost {
    elapsed_ns: u64,
    cpu_ns: u64,
}

type Subject = fn(&str, u64) -> Cost;

const SUBJECTS: [(&str, Subject); 5] = [
    ("bare libzmq SUB loop", bare),
    ("bare libzmq SUB loop, on one core", bare_on_one_core),
    ("one inproc PUSH a message, 2 workers", one_by_one),
    ("pinfeed, 2 workers", |endpoint, messages| {
        black_box(endpoint, messages, |_| Null)
    }),
    (
        "pinfeed, 2 workers, count and digest by topic",
        |endpoint, messages| black_box(endpoint, messages, |_| Count::default()),
    ),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, messages] = &arguments[..]
        && word == "blaster"
    {
        let messages = messages.parse().expect("a number of messages");
        blaster::serve(messages).expect("the subscriber stays until it has all");
        return;
    }
    // Without `--bench` this is `cargo test`, which only wants to know whether it works.
    let measure = arguments.iter().any(|word| word == "--bench");
    let numbers: Option<Vec<u64>> = arguments
        .iter()
        .filter(|word| *word != "--bench")
        .map(|word| word.parse().ok().filter(|number| *number > 0))
        .collect();
    let (messages, rounds) = match numbers.as_deref() {
        Some([]) if measure => (4_000_000, 5),
        Some([]) => (20_000, 1),
        Some(&[messages]) => (messages, 5),
        Some(&[messages, rounds]) => (messages, rounds),
        _ => {
            eprintln!("usage: blackbox [MESSAGES] [ROUNDS], whole numbers above 0");
            std::process::exit(2);
        }
    };
    let mut costs = SUBJECTS.map(|_| Vec::new());
    for _ in 0..rounds {
        for ((_, subject), costs) in SUBJECTS.iter().zip(&mut costs) {
            let publisher = Publisher::start(messages);
            costs.push(subject(&publisher.endpoint, messages));
        }
    }
    if measure {
        print_table(messages, &costs);
    }
}

/// The publisher's process; it ends when its subscriber has gone.
struct Publisher {
    child: Child,
    endpoint: String,
}

impl Publisher {
    fn start(messages: u64) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .args(["blaster", &messages.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the publisher starts");
        let mut endpoint = String::new();
        let output = child.stdout.take().expect("its output is a pipe");
        BufReader::new(output)
            .read_line(&mut endpoint)
            .expect("it says where it listens");
        Self {
            child,
            endpoint: endpoint.trim().to_owned(),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let status = self.child.wait().expect("the publisher can be waited for");
        assert!(status.success(), "the publisher failed");
    }
}

/// Measures from when `first` has received the first message to the end of `rest`.
fn measured<T>(first: impl FnOnce() -> T, rest: impl FnOnce(T)) -> Cost {
    // Before the first message: the first clock of a process takes a while.
    let clock = Clock::start();
    let message = first();
    let (start_ns, cpu_ns) = (clock.now_ns(), process_cpu_ns());
    rest(message);
    Cost {
        elapsed_ns: clock.now_ns() - start_ns,
        cpu_ns: process_cpu_ns() - cpu_ns,
    }
}

fn subscribed(context: &zmq::Context, endpoint: &str) -> zmq::Socket {
    let socket = context.socket(zmq::SUB).expect("a socket");
    socket
        .set_rcvhwm(HIGH_WATER_MARK)
        .expect("a high-water mark");
    socket.set_subscribe(b"").expect("a subscription");
    socket.connect(endpoint).expect("a connection");
    socket
}

fn bare(endpoint: &str, messages: u64) -> Cost {
    let context = zmq::Context::new();
    let socket = subscribed(&context, endpoint);
    let first = || socket.recv_msg(0).expect("the first message");
    measured(first, |mut message| {
        for _ in 1..messages {
            socket.recv(&mut message, 0).expect("a message");
        }
    })
}

fn bare_on_one_core(endpoint: &str, messages: u64) -> Cost {
    let core = *usable_cores().last().expect("there is a core");
    // On a thread of its own, whose core the I/O thread inherits.
    let endpoint = endpoint.to_owned();
    let tied = thread::spawn(move || {
        pin_current("bare", Some(core), true).expect("the core is usable");
        bare(&endpoint, messages)
    });
    tied.join().expect("the loop does not panic")
}

fn one_by_one(endpoint: &str, messages: u64) -> Cost {
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
    let socket = subscribed(&context, endpoint);
    let first = || socket.recv_msg(0).expect("the first message");
    measured(first, |message| {
        push.send(message, 0).expect("room for a message");
        for _ in 1..messages {
            let message = socket.recv_msg(0).expect("a message");
            push.send(message, 0).expect("room for a message");
        }
        for _ in 0..WORKERS {
            push.send("", 0).expect("room for the end");
        }
        let received: u64 = workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker does not panic"))
            .sum();
        assert_eq!(received, messages);
    })
}

fn black_box<H: Handler>(endpoint: &str, messages: u64, handler: fn(usize) -> H) -> Cost {
    let mut config = Config::connect(endpoint, Envelope::Pinfeed);
    config.pin = Some(PinPolicy::BestEffort);
    config.workers.count = WORKERS;
    let pipeline = Pipeline::start(&config, Quota::of(messages), Stop::default(), handler)
        .expect("the pipeline starts");
    let outcome = pipeline.finish();
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert_eq!(outcome.totals.delivered, messages);
    assert!(outcome.totals.balanced());
    assert_eq!(outcome.stages.queue.len(), messages);
    Cost {
        elapsed_ns: outcome.elapsed_ns,
        cpu_ns: outcome.cpu_ns,
    }
}

fn print_table(messages: u64, costs: &[Vec<Cost>]) {
    let rate = |cost: &Cost| messages as f64 / cost.elapsed_ns as f64 * 1e3;
    let cpu = |cost: &Cost| cost.cpu_ns as f64 / messages as f64;
    println!(
        "{MESSAGE_BYTES}-byte messages, {TOPICS} topics; medians of {} rounds, ratios of medians",
        costs[0].len()
    );
    println!();
    println!(
        "| | M msg/s | from - to | CPU ns/msg | to bare | to bare on one core | to one by one |"
    );
    println!("|---|---|---|---|---|---|---|");
    let medians: Vec<f64> = costs
        .iter()
        .map(|costs| median(costs.iter().map(rate)))
        .collect();
    for (index, ((name, _), costs)) in SUBJECTS.iter().zip(costs).enumerate() {
        let rates = costs.iter().map(rate);
        let [bare, bare_on_one_core, one_by_one] =
            [0, 1, 2].map(|baseline: usize| medians[index] / medians[baseline]);
        println!(
            "| {name} | {:.2} | {:.2} - {:.2} | {:.0} | {bare:.2} | {bare_on_one_core:.2} | {one_by_one:.2} |",
            medians[index],
            rates.clone().fold(f64::INFINITY, f64::min),
            rates.fold(0.0, f64::max),
            median(costs.iter().map(cpu)),
        );
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}
