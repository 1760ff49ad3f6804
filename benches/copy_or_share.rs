//! Whether a lane should copy messages into batches, or share the buffer it received them in.
//!
//! Both ways receive from a TCP connection, cut with `zmtp::Splitter`, choose one of two workers by the
//! hash of a topic, and hand batches over through rings; the workers digest each payload.
//!
//! - copy: the bytes go into the batch of their worker, as `handoff::Batch` has them. One receive
//!   buffer, whose unfinished end moves to its front.
//! - share: a batch is an index into the block that was received into. A block is received into again
//!   once no batch refers to it. What was handed over can't be written behind, so the first batch that
//!   leaves ends its block for all, and the unfinished end is copied into the next.
//!
//! Beside them, in turn in the same run: receiving and cutting alone. Each with batches that leave when
//! they are full or the socket is dry, and with batches that leave after each read of at most 8 KiB. The
//! publisher is a process of its own that writes frames encoded beforehand; its CPU time does not
//! count. Each run checks the number of messages and the sum of their digests.
//!
//! On a virtual machine of two cores neither wins up to 1,024 bytes: both pay for the way from core to
//! core, beside which a copy within the lane's cache is nothing. At 16 KiB a copy costs a fifth more
//! CPU, and as much rate as the noise. Reusing the spare batch that came back last changed nothing.
//!
//! `cargo bench --bench copy_or_share -- [ROUNDS]` prints a Markdown table.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::{self, Thread},
    time::Duration,
};

use pinfeed::{
    clock::{Clock, process_cpu_ns},
    zmtp::{Cut, Frames, Limits, Splitter, frame::encode_message},
};
use rtrb::{Consumer, Producer, RingBuffer};
use rustix::event::{PollFd, PollFlags, poll};
use xxhash_rust::xxh3::xxh3_64;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sizes of messages, with how many make a run of about half a second.
const SIZES: [(usize, u64); 5] = [
    (16, 8_000_000),
    (64, 8_000_000),
    (256, 4_000_000),
    (1_024, 1_500_000),
    (16_384, 100_000),
];
const ROUNDS: usize = 7;
const TOPICS: usize = 1_000;
const TOPIC_BYTES: usize = 8;
const WORKERS: usize = 2;
/// What is received into.
const BLOCK_BYTES: usize = 256 * 1024;
/// Blocks that may be shared at a time.
const BLOCKS: usize = 32;
/// Read less than this, and the system calls weigh.
const READ_BYTES_MIN: usize = 64 * 1024;
/// At which a batch leaves: pinfeed's defaults.
const BATCH_MESSAGES: usize = 1_024;
const BATCH_BYTES: usize = 128 * 1024;
/// Batches between the lane and one worker.
const BATCHES: usize = 32;
/// How much is read at once where batches leave after each read.
const SMALL_READ_BYTES: usize = 8 * 1024;
const LIMITS: Limits = Limits {
    frame_bytes_max: 1 << 20,
    message_bytes_max: 1 << 20,
    frames_max: 64,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// When a batch is full or the socket dry.
    WhenDry,
    /// After each small read.
    EachRead,
}

impl Flush {
    fn read_bytes_max(self) -> usize {
        match self {
            Self::WhenDry => BLOCK_BYTES,
            Self::EachRead => SMALL_READ_BYTES,
        }
    }
}

#[derive(Clone, Copy)]
struct Cost {
    elapsed_ns: u64,
    cpu_ns: u64,
}

/// Receives a number of messages from a connection. Returns how many came, and the sum of their
/// digests.
type Way = fn(&mut Connection, u64, Flush) -> (u64, u64);

const WAYS: [(&str, Way); 3] = [("cut only", cut_only), ("copy", copy), ("share", share)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, bytes, messages] = &arguments[..]
        && word == "publisher"
    {
        let number = |text: &String| text.parse().expect("a number");
        publish(number(bytes) as usize, number(messages)).expect("the subscriber takes all");
        return;
    }
    // Without `--bench` this is `cargo test`, which only wants to know whether it works.
    let measure = arguments.iter().any(|word| word == "--bench");
    let rounds = arguments.iter().find(|word| *word != "--bench");
    let rounds = match rounds.map(|rounds| rounds.parse()) {
        None if measure => ROUNDS,
        None => 1,
        Some(Ok(rounds)) if rounds > 0 => rounds,
        Some(_) => {
            eprintln!("usage: copy_or_share [ROUNDS], a whole number above 0");
            std::process::exit(2);
        }
    };
    for flush in [Flush::WhenDry, Flush::EachRead] {
        if measure {
            print_head(flush, rounds);
        }
        for (bytes, messages) in SIZES {
            let messages = if measure { messages } else { messages / 100 };
            let mut costs = WAYS.map(|_| Vec::new());
            for _ in 0..rounds {
                for ((name, way), costs) in WAYS.iter().zip(&mut costs) {
                    costs.push(run(name, *way, bytes, messages, flush));
                }
            }
            if measure {
                print_row(bytes, messages, &costs);
            }
        }
    }
}

fn run(name: &str, way: Way, bytes: usize, messages: u64, flush: Flush) -> Cost {
    let mut connection = Connection::open(bytes, messages);
    let (start_ns, cpu_ns) = (connection.clock.now_ns(), process_cpu_ns());
    let (count, digest) = way(&mut connection, messages, flush);
    let cost = Cost {
        elapsed_ns: connection.clock.now_ns() - start_ns,
        cpu_ns: process_cpu_ns() - cpu_ns,
    };
    assert_eq!(count, messages, "{name}");
    if name != "cut only" {
        assert_eq!(digest, digest_of(bytes, messages), "{name}");
    }
    cost
}

/// A connection from a publisher that is a process of its own.
struct Connection {
    socket: TcpStream,
    clock: Clock,
    publisher: Child,
}

impl Connection {
    fn open(bytes: usize, messages: u64) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut publisher = Command::new(program)
            .args(["publisher", &bytes.to_string(), &messages.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the publisher starts");
        let output = publisher.stdout.take().expect("its output is a pipe");
        let mut address = String::new();
        BufReader::new(output)
            .read_line(&mut address)
            .expect("it says where it listens");
        let socket = TcpStream::connect(address.trim()).expect("it listens");
        socket
            .set_nonblocking(true)
            .expect("a socket that can be waited for");
        let connection = Self {
            socket,
            clock: Clock::start(),
            publisher,
        };
        connection.wait();
        connection
    }

    /// Reads what there is, or returns `None` where there is nothing.
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> Option<usize> {
        match self.socket.read(into) {
            Ok(0) => panic!("the publisher left early"),
            Ok(bytes) => Some(bytes),
            Err(dry) if dry.kind() == io::ErrorKind::WouldBlock => None,
            Err(broken) => panic!("{broken}"),
        }
    }

    fn wait(&self) {
        let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
        poll(&mut sockets, None).expect("a socket that can be waited for");
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let status = self.publisher.wait().expect("a child");
        assert!(status.success(), "the publisher failed");
    }
}

/// What stands beside a message in a batch: one cache line, as in pinfeed.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Header {
    received_ns: u64,
    topic_hash: u64,
    start: u32,
    end: u32,
}

const _: () = assert!(size_of::<Header>() == 64);

/// What a worker needs of a batch.
trait Batch: Default + Send + 'static {
    fn headers(&self) -> &[Header];
    /// Where the headers point into.
    fn bytes(&self) -> &[u8];
    fn clear(&mut self);
}

struct Copied {
    headers: Vec<Header>,
    bytes: Vec<u8>,
}

impl Default for Copied {
    fn default() -> Self {
        Self {
            headers: Vec::with_capacity(BATCH_MESSAGES),
            bytes: Vec::with_capacity(2 * BATCH_BYTES),
        }
    }
}

impl Batch for Copied {
    fn headers(&self) -> &[Header] {
        &self.headers
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn clear(&mut self) {
        self.headers.clear();
        self.bytes.clear();
    }
}

struct Shared {
    headers: Vec<Header>,
    bytes: usize,
    block: Option<Arc<Vec<u8>>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            headers: Vec::with_capacity(BATCH_MESSAGES),
            bytes: 0,
            block: None,
        }
    }
}

impl Batch for Shared {
    fn headers(&self) -> &[Header] {
        &self.headers
    }

    fn bytes(&self) -> &[u8] {
        self.block.as_deref().map_or(&[], Vec::as_slice)
    }

    fn clear(&mut self) {
        self.headers.clear();
        self.bytes = 0;
        self.block = None;
    }
}

/// A lane's end of the rings to one worker.
struct Outlet<B> {
    filled: Producer<Box<B>>,
    spares: Consumer<Box<B>>,
    filling: Option<Box<B>>,
    worker: Thread,
}

impl<B: Batch> Outlet<B> {
    #[inline]
    fn filling(&mut self) -> &mut B {
        let spares = &mut self.spares;
        self.filling.get_or_insert_with(|| {
            loop {
                match spares.pop() {
                    Ok(batch) => return batch,
                    Err(_) => thread::park_timeout(Duration::from_millis(1)),
                }
            }
        })
    }

    fn hand_over(&mut self) {
        if let Some(batch) = self.filling.take() {
            self.filled.push(batch).expect("room for all its batches");
            self.worker.unpark();
        }
    }
}

/// Runs the lane with outlets to its workers, and adds up what these found.
fn with_workers<B: Batch>(lane: impl FnOnce(&mut [Outlet<B>])) -> (u64, u64) {
    let this = thread::current();
    let (mut outlets, workers): (Vec<_>, Vec<_>) = (0..WORKERS)
        .map(|_| {
            let (filled, inbox) = RingBuffer::new(BATCHES);
            let (mut home, spares) = RingBuffer::new(BATCHES);
            for _ in 0..BATCHES {
                let _ = home.push(Box::<B>::default());
            }
            let lane = this.clone();
            let worker = thread::spawn(move || work(inbox, home, &lane));
            let outlet = Outlet {
                filled,
                spares,
                filling: None,
                worker: worker.thread().clone(),
            };
            (outlet, worker)
        })
        .unzip();
    lane(&mut outlets);
    for mut outlet in outlets {
        outlet.hand_over();
        let Outlet { filled, worker, .. } = outlet;
        drop(filled);
        worker.unpark();
    }
    let found = workers.into_iter().map(|worker| worker.join());
    found.fold((0, 0), |(count, digest), found| {
        let (more, with) = found.expect("a worker does not panic");
        (count + more, with.wrapping_add(digest))
    })
}

fn work<B: Batch>(
    mut inbox: Consumer<Box<B>>,
    mut home: Producer<Box<B>>,
    lane: &Thread,
) -> (u64, u64) {
    let (mut count, mut digest) = (0, 0_u64);
    loop {
        // Before the look: what was pushed before the end is seen.
        let ended = inbox.is_abandoned();
        let Ok(mut batch) = inbox.pop() else {
            if ended {
                return (count, digest);
            }
            thread::park_timeout(Duration::from_millis(10));
            continue;
        };
        let bytes = batch.bytes();
        for header in batch.headers() {
            let payload = &bytes[header.start as usize..header.end as usize];
            digest = digest.wrapping_add(xxh3_64(payload));
            std::hint::black_box((header.received_ns, header.topic_hash));
        }
        count += batch.headers().len() as u64;
        batch.clear();
        let _ = home.push(batch);
        lane.unpark();
    }
}

#[inline]
fn topic_hash(message: &[u8]) -> u64 {
    xxh3_64(&message[..TOPIC_BYTES])
}

#[inline]
fn worker_of(hash: u64) -> usize {
    (hash >> 32) as usize % WORKERS
}

/// Cuts messages off the front of `bytes` until there is no whole one. Returns how many bytes they
/// took.
#[inline]
fn cut_all<'a>(
    splitter: &mut Splitter,
    bytes: &'a [u8],
    mut each: impl FnMut(&'a [u8], usize),
) -> usize {
    let mut frames = Frames::default();
    let mut at = 0;
    loop {
        let (cut, used) = splitter
            .cut(&bytes[at..], &mut frames)
            .expect("valid frames");
        at += used;
        match cut {
            Cut::Message => {
                let message = frames.as_slice()[0];
                each(message, at - message.len());
            }
            Cut::Need(_) => return at,
            other => panic!("{other:?}"),
        }
    }
}

fn cut_only(connection: &mut Connection, messages: u64, flush: Flush) -> (u64, u64) {
    let mut splitter = Splitter::new(LIMITS);
    let mut buffer = vec![0; BLOCK_BYTES];
    let (mut held, mut count, mut sum) = (0, 0, 0_u64);
    while count < messages {
        let end = buffer.len().min(held + flush.read_bytes_max());
        let Some(read) = connection.read(&mut buffer[held..end]) else {
            connection.wait();
            continue;
        };
        let end = held + read;
        let used = cut_all(&mut splitter, &buffer[..end], |message, _| {
            count += 1;
            sum = sum.wrapping_add(message.len() as u64);
        });
        buffer.copy_within(used..end, 0);
        held = end - used;
    }
    (count, sum)
}

fn copy(connection: &mut Connection, messages: u64, flush: Flush) -> (u64, u64) {
    with_workers(|outlets: &mut [Outlet<Copied>]| {
        let mut splitter = Splitter::new(LIMITS);
        let mut buffer = vec![0; BLOCK_BYTES];
        let (mut held, mut count) = (0, 0);
        while count < messages {
            let end = buffer.len().min(held + flush.read_bytes_max());
            let Some(read) = connection.read(&mut buffer[held..end]) else {
                outlets.iter_mut().for_each(Outlet::hand_over);
                connection.wait();
                continue;
            };
            let end = held + read;
            let received_ns = connection.clock.now_ns();
            let used = cut_all(&mut splitter, &buffer[..end], |message, _| {
                count += 1;
                let topic_hash = topic_hash(message);
                let outlet = &mut outlets[worker_of(topic_hash)];
                let batch = outlet.filling();
                let start = batch.bytes.len() as u32;
                batch.bytes.extend_from_slice(message);
                batch.headers.push(Header {
                    received_ns,
                    topic_hash,
                    start,
                    end: batch.bytes.len() as u32,
                });
                if batch.headers.len() >= BATCH_MESSAGES || batch.bytes.len() >= BATCH_BYTES {
                    outlet.hand_over();
                }
            });
            buffer.copy_within(used..end, 0);
            held = end - used;
            if flush == Flush::EachRead {
                outlets.iter_mut().for_each(Outlet::hand_over);
            }
        }
    })
}

fn share(connection: &mut Connection, messages: u64, flush: Flush) -> (u64, u64) {
    with_workers(|outlets: &mut [Outlet<Shared>]| {
        let mut splitter = Splitter::new(LIMITS);
        let mut blocks: Vec<_> = (0..BLOCKS)
            .map(|_| Arc::new(vec![0; BLOCK_BYTES]))
            .collect();
        let mut now = 0;
        // Of the block that is received into: where the first message that is not whole starts, and
        // where the bytes end.
        let (mut start, mut end) = (0, 0);
        let mut count = 0;
        while count < messages {
            let block = Arc::get_mut(&mut blocks[now]).expect("not shared yet");
            let room = block.len().min(end + flush.read_bytes_max());
            let Some(read) = connection.read(&mut block[end..room]) else {
                if leave(outlets, &mut blocks, &mut now, start..end) {
                    (start, end) = (0, end - start);
                }
                connection.wait();
                continue;
            };
            end += read;
            let received_ns = connection.clock.now_ns();
            let mut shared = flush == Flush::EachRead;
            let block = &blocks[now];
            let used = cut_all(&mut splitter, &block[start..end], |message, at| {
                count += 1;
                let topic_hash = topic_hash(message);
                let outlet = &mut outlets[worker_of(topic_hash)];
                let batch = outlet.filling();
                let at = start + at;
                batch.headers.push(Header {
                    received_ns,
                    topic_hash,
                    start: at as u32,
                    end: (at + message.len()) as u32,
                });
                batch.bytes += message.len();
                if batch.headers.len() >= BATCH_MESSAGES || batch.bytes >= BATCH_BYTES {
                    batch.block = Some(block.clone());
                    outlet.hand_over();
                    shared = true;
                }
            });
            start += used;
            if shared || BLOCK_BYTES - end < READ_BYTES_MIN {
                leave(outlets, &mut blocks, &mut now, start..end);
                (start, end) = (0, end - start);
            }
        }
        hand_over_all(outlets, &blocks[now]);
    })
}

fn hand_over_all(outlets: &mut [Outlet<Shared>], block: &Arc<Vec<u8>>) {
    for outlet in outlets {
        if let Some(batch) = &mut outlet.filling {
            batch.block = Some(block.clone());
            outlet.hand_over();
        }
    }
}

/// Hands over what refers to the block that is received into, and goes on to one that is free, with the
/// unfinished end. Returns false where nothing refers to it, so that there is no need.
fn leave(
    outlets: &mut [Outlet<Shared>],
    blocks: &mut [Arc<Vec<u8>>],
    now: &mut usize,
    unfinished: std::ops::Range<usize>,
) -> bool {
    hand_over_all(outlets, &blocks[*now]);
    if Arc::get_mut(&mut blocks[*now]).is_some() && unfinished.start == 0 {
        return false;
    }
    // The first one: what was used last is still in the cache.
    let free = loop {
        let mut candidates = (0..blocks.len()).filter(|index| index != now);
        match candidates.find(|&index| Arc::strong_count(&blocks[index]) == 1) {
            Some(free) => break free,
            None => thread::park_timeout(Duration::from_millis(1)),
        }
    };
    let (from, to) = (blocks[*now].clone(), &mut blocks[free]);
    let bytes = unfinished.len();
    Arc::get_mut(to).expect("nobody else has it")[..bytes].copy_from_slice(&from[unfinished]);
    *now = free;
    true
}

/// Number `index` of the messages that take turns.
fn message(index: usize, bytes: usize) -> Vec<u8> {
    let mut message = format!("sim{:05}", index % TOPICS).into_bytes();
    message.extend((TOPIC_BYTES..bytes).map(|at| (at * 7 + index) as u8));
    message
}

/// The sum of the digests of the first `messages` messages.
fn digest_of(bytes: usize, messages: u64) -> u64 {
    let (rounds, rest) = (messages / TOPICS as u64, messages % TOPICS as u64);
    (0..TOPICS).fold(0, |sum: u64, index| {
        let times = rounds + u64::from((index as u64) < rest);
        sum.wrapping_add(xxh3_64(&message(index, bytes)).wrapping_mul(times))
    })
}

/// Says on standard output where it listens, sends whoever connects the frames, and waits for it to go.
fn publish(bytes: usize, messages: u64) -> io::Result<()> {
    let mut block = Vec::new();
    for index in 0..TOPICS {
        encode_message(&mut block, &[&message(index, bytes)]);
    }
    let frame_bytes = block.len() / TOPICS;
    // Larger writes, for small messages.
    let repeats = (1 << 20) / block.len() + 1;
    let block = block.repeat(repeats);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let (mut peer, _) = listener.accept()?;
    let mut left = messages as usize;
    while left > 0 {
        let count = left.min(repeats * TOPICS);
        peer.write_all(&block[..count * frame_bytes])?;
        left -= count;
    }
    let _ = io::copy(&mut peer, &mut io::sink());
    Ok(())
}

fn print_head(flush: Flush, rounds: usize) {
    let when = match flush {
        Flush::WhenDry => "batches leave when full or when the socket is dry",
        Flush::EachRead => "batches leave after each read of at most 8 KiB",
    };
    println!("\n{when}; {WORKERS} workers; medians of {rounds} rounds, from - to\n");
    print!("| bytes |");
    for (name, _) in WAYS {
        print!(" {name}: M msg/s | CPU ns/msg |");
    }
    println!(" share to copy: rate | CPU |");
    println!("|---|{}---|---|", "---|".repeat(2 * WAYS.len()));
}

fn print_row(bytes: usize, messages: u64, costs: &[Vec<Cost>]) {
    print!("| {bytes} |");
    let mut medians = Vec::new();
    for costs in costs {
        let rates = costs
            .iter()
            .map(|cost| messages as f64 / cost.elapsed_ns as f64 * 1e3);
        let cpu = costs
            .iter()
            .map(|cost| cost.cpu_ns as f64 / messages as f64);
        let ([rate, slowest, fastest], [cpu, least, most]) = (spread(rates), spread(cpu));
        print!(" {rate:.2} ({slowest:.2} - {fastest:.2}) | {cpu:.1} ({least:.1} - {most:.1}) |");
        medians.push((rate, cpu));
    }
    let (copy, share) = (medians[1], medians[2]);
    println!(" {:.2} | {:.2} |", share.0 / copy.0, share.1 / copy.1);
}

/// The median, the least and the most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    [median, values[0], values[values.len() - 1]]
}
