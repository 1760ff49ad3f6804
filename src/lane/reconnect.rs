//! Watching a socket's connections, and making them again where libzmq gives up.
//!
//! Libzmq connects again by itself after a connection is lost or refused. After a protocol error, a
//! frame above the size limit or a peer that turns out to be no publisher, it never does, and says
//! nothing: the socket stays deaf to that endpoint. Its monitor tells the two apart. A connection
//! that is lost is followed at once by word of when the next attempt will be; where that word does
//! not come, this makes the attempt.

use std::{cell::Cell, time::Duration};

use zmq::{DONTWAIT, SocketType};

use crate::{
    clock::Deadline,
    error::{Error, Result},
    ledger::LaneLedger,
    libzmq::{Context, Socket},
    random,
};

/// How long libzmq may take to say when it will connect again; then, how long to wait before this
/// does. It says so within microseconds, and the wait keeps a bad peer from being asked too often.
const RETRY_AFTER_MS: u32 = 500;

const CONNECTED: u16 = zmq_sys::ZMQ_EVENT_CONNECTED as u16;
const CONNECT_DELAYED: u16 = zmq_sys::ZMQ_EVENT_CONNECT_DELAYED as u16;
const CONNECT_RETRIED: u16 = zmq_sys::ZMQ_EVENT_CONNECT_RETRIED as u16;
const DISCONNECTED: u16 = zmq_sys::ZMQ_EVENT_DISCONNECTED as u16;
const HANDSHAKE_SUCCEEDED: u16 = zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED as u16;
const HANDSHAKE_FAILED_NO_DETAIL: u16 = zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL as u16;
const HANDSHAKE_FAILED_PROTOCOL: u16 = zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL as u16;
const HANDSHAKE_FAILED_AUTH: u16 = zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH as u16;

/// The connections of one socket.
pub(super) struct Connections {
    monitor: Socket,
    endpoints: Vec<Endpoint>,
    /// Handshakes that failed, and whose end of connection is still to be told.
    failing: Cell<u64>,
}

/// An endpoint that the socket connects to.
struct Endpoint {
    /// As it was asked for.
    asked: String,
    /// As libzmq calls it.
    resolved: String,
    /// When to connect again, if libzmq does not say before that it will.
    retry_at: Cell<Option<Deadline>>,
}

impl Connections {
    /// Starts watching a socket. To be called before it binds or connects.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    pub(super) fn watch(context: &Context, socket: &Socket, name: &str) -> Result<Self> {
        let endpoint = format!("inproc://monitor-{name}");
        let failed = || Error::zmq("watching the connections of a socket");
        let monitor = context.socket(SocketType::PAIR)?;
        // The I/O thread waits where it can't tell of an event, so there must always be room.
        monitor.set_rcvhwm(0).map_err(failed())?;
        let events = [
            CONNECTED,
            CONNECT_DELAYED,
            CONNECT_RETRIED,
            DISCONNECTED,
            HANDSHAKE_SUCCEEDED,
            HANDSHAKE_FAILED_NO_DETAIL,
            HANDSHAKE_FAILED_PROTOCOL,
            HANDSHAKE_FAILED_AUTH,
        ];
        let events = events
            .into_iter()
            .fold(0, |mask, event| mask | i32::from(event));
        socket.monitor(&endpoint, events).map_err(failed())?;
        monitor.connect(&endpoint).map_err(failed())?;
        Ok(Self {
            monitor,
            endpoints: Vec::new(),
            failing: Cell::new(0),
        })
    }

    /// Connects the socket to an endpoint, and sees to it that it stays connected.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    pub(super) fn connect(&mut self, socket: &Socket, endpoint: String) -> Result<()> {
        socket
            .connect(&endpoint)
            .map_err(Error::zmq(format!("connecting to {endpoint}")))?;
        let resolved = socket.get_last_endpoint().ok().and_then(|name| name.ok());
        self.endpoints.push(Endpoint {
            resolved: resolved.unwrap_or_else(|| endpoint.clone()),
            asked: endpoint,
            retry_at: Cell::new(None),
        });
        Ok(())
    }

    /// The socket that has something to receive when a connection changes.
    pub(super) fn monitor(&self) -> &Socket {
        &self.monitor
    }

    /// Takes note of what has happened to connections.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    pub(super) fn note_events(&self, counters: &LaneLedger) -> Result<()> {
        while let Some((event, address)) = self.next_event()? {
            let retry_at = match event {
                HANDSHAKE_SUCCEEDED => {
                    counters.connects.add(1);
                    None
                }
                HANDSHAKE_FAILED_NO_DETAIL | HANDSHAKE_FAILED_PROTOCOL | HANDSHAKE_FAILED_AUTH => {
                    counters.handshake_failures.add(1);
                    self.failing.set(self.failing.get() + 1);
                    continue;
                }
                DISCONNECTED => {
                    match self.failing.get() {
                        0 => counters.disconnects.add(1),
                        failing => self.failing.set(failing - 1),
                    }
                    let after_ms = random::spread(RETRY_AFTER_MS);
                    Some(Deadline::after(Duration::from_millis(after_ms.into())))
                }
                _ => None,
            };
            for endpoint in &self.endpoints {
                if endpoint.resolved == address {
                    endpoint.retry_at.set(retry_at);
                }
            }
        }
        Ok(())
    }

    /// Returns the next event with the endpoint that it is about, if there is one.
    fn next_event(&self) -> Result<Option<(u16, String)>> {
        let event = match self.monitor.recv_bytes(DONTWAIT) {
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => return Ok(None),
            event => event.map_err(Error::zmq("reading of connections"))?,
        };
        let address = self
            .monitor
            .recv_bytes(0)
            .map_err(Error::zmq("reading of connections"))?;
        let number = event
            .first_chunk()
            .map_or(0, |bytes| u16::from_ne_bytes(*bytes));
        Ok(Some((
            number,
            String::from_utf8_lossy(&address).into_owned(),
        )))
    }

    /// Connects the socket again to the endpoints that libzmq has given up.
    pub(super) fn retry(&self, socket: &Socket) {
        for endpoint in &self.endpoints {
            if endpoint.retry_at.get().is_some_and(|at| at.passed()) {
                // What fails here, a name that no longer resolves, fails again until it does not.
                let _ = socket.disconnect(&endpoint.resolved);
                let again = socket
                    .connect(&endpoint.asked)
                    .err()
                    .map(|_| Deadline::after(Duration::from_millis(RETRY_AFTER_MS.into())));
                endpoint.retry_at.set(again);
            }
        }
    }
}
