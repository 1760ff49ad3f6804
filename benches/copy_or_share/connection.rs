//! The connection that messages come by, and the publisher at its other end: a process of its own.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use pinfeed::{clock::Clock, zmtp::frame::encode_message};
use rustix::event::{PollFd, PollFlags, poll};
use xxhash_rust::xxh3::xxh3_64;

const TOPICS: usize = 1_000;
/// Bytes that a message starts with, which are its topic.
pub const TOPIC_BYTES: usize = 8;

/// A connection from a publisher that is a process of its own.
pub struct Connection {
    socket: TcpStream,
    pub clock: Clock,
    publisher: Child,
}

impl Connection {
    pub fn open(bytes: usize, messages: u64) -> Self {
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
    pub fn read(&mut self, into: &mut [u8]) -> Option<usize> {
        match self.socket.read(into) {
            Ok(0) => panic!("the publisher left early"),
            Ok(bytes) => Some(bytes),
            Err(dry) if dry.kind() == io::ErrorKind::WouldBlock => None,
            Err(broken) => panic!("{broken}"),
        }
    }

    pub fn wait(&self) {
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

/// Number `index` of the messages that take turns.
fn message(index: usize, bytes: usize) -> Vec<u8> {
    let mut message = format!("sim{:05}", index % TOPICS).into_bytes();
    message.extend((TOPIC_BYTES..bytes).map(|at| (at * 7 + index) as u8));
    message
}

/// The sum of the digests of the first `messages` messages.
pub fn digest_of(bytes: usize, messages: u64) -> u64 {
    let (rounds, rest) = (messages / TOPICS as u64, messages % TOPICS as u64);
    (0..TOPICS).fold(0, |sum: u64, index| {
        let times = rounds + u64::from((index as u64) < rest);
        sum.wrapping_add(xxh3_64(&message(index, bytes)).wrapping_mul(times))
    })
}

/// Says on standard output where it listens, sends whoever connects the frames, and waits for it to go.
pub fn publish(bytes: usize, messages: u64) -> io::Result<()> {
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
