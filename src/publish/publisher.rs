//! The publishing socket: XPUB, so that subscriptions are seen, and lossless.

use std::{collections::HashSet, time::Duration};

use zmq::{DONTWAIT, SNDMORE, SocketType};

use crate::{
    clock::{Deadline, wall_ns},
    envelope::{Envelope, pinfeed},
    errno::Errno,
    error::{Error, Result},
    libzmq::{Context, Socket},
    message::Stamp,
    publish::format::Format,
    stop::Stop,
};

/// Messages queued for a subscriber before the publisher waits for it.
const HIGH_WATER_MARK: i32 = 100_000;
/// How long the socket waits for room before it looks whether to stop.
const SEND_TIMEOUT_MS: i32 = 100;
/// How long unsent messages are kept for after the end.
const LINGER_MS: i32 = 10_000;

/// Where to publish, and in which format.
#[derive(Clone, Debug)]
pub struct PublisherOptions {
    /// Endpoints to bind.
    pub bind: Vec<String>,
    /// Endpoints of subscribers to connect to.
    pub connect: Vec<String>,
    /// The format of the messages.
    pub envelope: Envelope,
    /// The epoch of the messages, where the format has one: the time of opening, unless given. Publishers
    /// of the same source and epoch publish copies of one feed, its A and B lines.
    pub epoch: Option<u64>,
}

/// A publishing socket that waits for slow subscribers rather than dropping messages.
pub struct Publisher {
    socket: Socket,
    endpoints: Vec<String>,
    format: Format,
    epoch: u64,
    /// The next sequence number, by topic.
    sequences: Vec<u64>,
    frame: Vec<u8>,
    /// Subscriptions that have come.
    subscriptions: u64,
    /// Prefixes that somebody is subscribed to.
    prefixes: HashSet<Vec<u8>>,
}

impl Publisher {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`Error::Config`] for an endpoint that libzmq refuses and an envelope that can only be read,
    /// [`Error::Zmq`].
    pub fn open(options: &PublisherOptions) -> Result<Self> {
        let format = Format::of(&options.envelope)?;
        let context = Context::new(1, 1)?;
        let mut socket = context.socket(SocketType::XPUB)?;
        socket.set_xpub_nodrop()?;
        socket
            .set_sndhwm(HIGH_WATER_MARK)
            .and_then(|()| socket.set_sndtimeo(SEND_TIMEOUT_MS))
            .and_then(|()| socket.set_linger(LINGER_MS))
            .and_then(|()| socket.set_xpub_verbose(true))
            .and_then(|()| {
                let mut endpoints = options.bind.iter().chain(&options.connect);
                socket.set_ipv6(endpoints.any(|endpoint| endpoint.contains('[')))
            })
            .map_err(Error::zmq("setting up the publishing socket"))?;
        let refused = |flag: &str, endpoint: &str, reason: Errno| {
            Error::config(
                flag,
                endpoint,
                format!("libzmq refused it ({reason})"),
                "give an endpoint like tcp://127.0.0.1:5556 or ipc:///tmp/feed, with a free port to bind",
            )
        };
        let mut endpoints = Vec::new();
        for endpoint in &options.bind {
            let bound = socket.bind(endpoint);
            endpoints.push(bound.map_err(|reason| refused("--bind", endpoint, reason))?);
        }
        for endpoint in &options.connect {
            let connected = socket.connect(endpoint);
            connected.map_err(|reason| refused("--connect", endpoint, reason))?;
            endpoints.push(endpoint.clone());
        }
        Ok(Self {
            socket,
            endpoints,
            format,
            epoch: options.epoch.unwrap_or_else(wall_ns),
            sequences: Vec::new(),
            frame: Vec::new(),
            subscriptions: 0,
            prefixes: HashSet::new(),
        })
    }

    /// Returns the endpoints, with the ports that wildcards were given.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Waits until `count` subscriptions have come, one for each prefix of each subscriber, or
    /// `stop` is requested.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    pub fn wait_for_subscriptions(&mut self, count: u64, stop: &Stop) -> Result<()> {
        while self.subscriptions < count && !stop.requested() {
            self.poll()?;
        }
        Ok(())
    }

    /// Waits until all subscribers have gone, `limit` has passed, or `stop` is requested.
    ///
    /// A publisher that closes while a subscriber has not taken everything yet can cost it the end:
    /// the next heartbeat meets a closed socket, and the kernel answers by dropping what it holds.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    pub fn wait_for_departure(&mut self, limit: Duration, stop: &Stop) -> Result<()> {
        let deadline = Deadline::after(limit);
        self.read_subscriptions()?;
        while !self.prefixes.is_empty() && !deadline.passed() && !stop.requested() {
            self.poll()?;
        }
        Ok(())
    }

    /// Waits a while for subscriptions to change.
    fn poll(&mut self) -> Result<()> {
        match self.socket.poll(zmq::POLLIN, i64::from(SEND_TIMEOUT_MS)) {
            Ok(_) | Err(zmq::Error::EINTR) => self.read_subscriptions(),
            Err(broken) => Err(Error::zmq("waiting for subscribers")(broken)),
        }
    }

    fn read_subscriptions(&mut self) -> Result<()> {
        loop {
            match self.socket.recv_bytes(DONTWAIT) {
                Ok(request) => match request.split_first() {
                    Some((1, prefix)) => {
                        self.subscriptions += 1;
                        self.prefixes.insert(prefix.to_vec());
                    }
                    Some((0, prefix)) => {
                        self.prefixes.remove(prefix);
                    }
                    _ => {}
                },
                Err(zmq::Error::EINTR) => {}
                Err(zmq::Error::EAGAIN) => return Ok(()),
                Err(broken) => return Err(Error::zmq("reading subscriptions")(broken)),
            }
        }
    }

    /// Publishes a message, waiting while a subscriber's queue is full. Returns whether it was
    /// sent: not, where `stop` was requested meanwhile.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    pub fn send(
        &mut self,
        topic_index: usize,
        topic: &[u8],
        payload: &[u8],
        timestamp_ns: u64,
        stop: &Stop,
    ) -> Result<bool> {
        if self.sequences.len() <= topic_index {
            self.sequences.resize(topic_index + 1, 0);
        }
        let sequence = self.sequences[topic_index];
        self.frame.clear();
        match self.format {
            Format::Raw => {
                if !self.send_frame(topic, SNDMORE, stop)? {
                    return Ok(false);
                }
                self.frame.extend_from_slice(payload);
            }
            Format::Delimited(delimiter) => {
                self.frame.extend_from_slice(topic);
                self.frame.push(delimiter);
                self.frame.extend_from_slice(payload);
            }
            Format::Pinfeed => {
                let stamp = Stamp {
                    epoch: self.epoch,
                    sequence,
                    timestamp_ns,
                };
                pinfeed::seal(&mut self.frame, topic, payload, stamp);
            }
        }
        let frame = std::mem::take(&mut self.frame);
        let sent = self.send_frame(&frame, 0, stop);
        self.frame = frame;
        self.sequences[topic_index] += u64::from(matches!(sent, Ok(true)));
        sent
    }

    fn send_frame(&mut self, frame: &[u8], flags: i32, stop: &Stop) -> Result<bool> {
        loop {
            match self.socket.send(frame, flags) {
                Ok(()) => return Ok(true),
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) if stop.requested() => {
                    return Ok(false);
                }
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => self.read_subscriptions()?,
                Err(broken) => return Err(Error::zmq("publishing")(broken)),
            }
        }
    }
}
