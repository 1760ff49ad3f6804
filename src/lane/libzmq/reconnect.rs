//! Watching a socket's connections, and making them again where libzmq gives up.
//!
//! Libzmq connects again by itself after a connection is lost or refused. After a protocol error, a
//! frame above the size limit or a peer that turns out to be no publisher, it never does, and says
//! nothing: the socket stays deaf. Its monitor tells the two apart. A connection that is lost is
//! followed at once by word of when the next attempt will be; where that word does not come, this
//! makes the attempt, with waits that double from one failure to the next.
//!
//! A socket has one endpoint only, so that each event is about that one: libzmq names an endpoint by the host's
//! name in one event and by its address in another.

use std::cell::Cell;

use zmq::{DONTWAIT, SocketType};

use crate::{
    clock::Deadline,
    error::{Error, Result},
    lane::{Reach, Router},
    ledger::LaneLedger,
    libzmq::{Context, Socket},
    net::Backoff,
};

/// The shortest wait, before chance shortens it by up to a half. Libzmq says within microseconds
/// whether it will connect again itself.
const DELAY_MS_MIN: u32 = 100;
/// Frames of events kept here, besides as many as libzmq keeps, while the lane has no time for them.
/// Then libzmq's I/O thread waits.
const EVENT_FRAMES_MAX: i32 = 10_000;

const CONNECTED: u16 = zmq_sys::ZMQ_EVENT_CONNECTED as u16;
const CONNECT_DELAYED: u16 = zmq_sys::ZMQ_EVENT_CONNECT_DELAYED as u16;
const CONNECT_RETRIED: u16 = zmq_sys::ZMQ_EVENT_CONNECT_RETRIED as u16;
const DISCONNECTED: u16 = zmq_sys::ZMQ_EVENT_DISCONNECTED as u16;
const HANDSHAKE_SUCCEEDED: u16 = zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED as u16;
/// Not every failure has one of these: a peer of the wrong kind is only disconnected.
const HANDSHAKE_FAILED: u16 = (zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) as u16;

/// The connections of one socket: the one it makes, or those it is bound for.
pub(super) struct Connections {
    monitor: Socket,
    reach: Reach,
    kept: Option<Kept>,
    /// Connections whose handshake has succeeded.
    up: Cell<u64>,
    /// Handshakes that failed, and whose connections are still to end.
    failing: Cell<u64>,
}

/// The endpoint that the socket stays connected to.
struct Kept {
    endpoint: String,
    /// When to connect again, if libzmq does not say before that it will.
    retry_at: Cell<Option<Deadline>>,
    backoff: Cell<Backoff>,
}

impl Connections {
    /// Starts watching a socket. To be called before it binds or connects. `reach` is told what comes of its endpoint.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    pub(super) fn watch(
        context: &Context,
        socket: &Socket,
        name: &str,
        reach: Reach,
    ) -> Result<Self> {
        let endpoint = format!("inproc://monitor-{name}");
        let doing = "watching the connections of a socket";
        let monitor = context.socket(SocketType::PAIR)?;
        monitor
            .set_rcvhwm(EVENT_FRAMES_MAX)
            .map_err(Error::zmq(doing))?;
        let events = CONNECTED
            | CONNECT_DELAYED
            | CONNECT_RETRIED
            | DISCONNECTED
            | HANDSHAKE_SUCCEEDED
            | HANDSHAKE_FAILED;
        socket
            .monitor(&endpoint, events.into())
            .map_err(Error::zmq(doing))?;
        monitor.connect(&endpoint).map_err(Error::zmq(doing))?;
        Ok(Self {
            monitor,
            reach,
            kept: None,
            up: Cell::new(0),
            failing: Cell::new(0),
        })
    }

    /// Notes that the socket was connected to an endpoint, for it to stay so. Waits before connecting
    /// again double from one limit to the other.
    pub(super) fn keep(&mut self, endpoint: String, delays_ms: (u32, u32)) {
        let backoff = Backoff::new(delays_ms.0.max(DELAY_MS_MIN), delays_ms.1);
        self.kept = Some(Kept {
            endpoint,
            retry_at: Cell::new(None),
            backoff: Cell::new(backoff),
        });
    }

    /// What tells whether the endpoint was reached.
    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// How many there are, as far as events have told.
    pub(super) fn up(&self) -> u64 {
        self.up.get()
    }

    /// The socket that has something to receive when a connection changes.
    pub(super) fn monitor(&self) -> &Socket {
        &self.monitor
    }

    /// Takes note of what has happened to connections, all of which are the line's.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    pub(super) fn note_events(&self, router: &mut Router, line: usize) -> Result<()> {
        while let Some(event) = self.next_event()? {
            match event {
                HANDSHAKE_SUCCEEDED => {
                    router.counters().connects.add(1);
                    router.note_connection(line, true);
                    self.up.set(self.up.get() + 1);
                }
                DISCONNECTED if self.failing.get() > 0 => {
                    router.counters().handshake_failures.add(1);
                    self.failing.set(self.failing.get() - 1);
                }
                DISCONNECTED if self.up.get() > 0 => {
                    router.counters().disconnects.add(1);
                    router.note_connection(line, false);
                    self.up.set(self.up.get() - 1);
                }
                DISCONNECTED => router.counters().handshake_failures.add(1),
                failed if failed & HANDSHAKE_FAILED != 0 => {
                    self.failing.set(self.failing.get() + 1);
                    continue;
                }
                _ => {}
            }
            match event {
                HANDSHAKE_SUCCEEDED => self.reach.reached(),
                DISCONNECTED => self.reach.failed(Some("the handshake failed".to_owned())),
                CONNECT_RETRIED => self.reach.failed(None),
                _ => {}
            }
            if let Some(kept) = &self.kept {
                kept.note(event);
            }
        }
        Ok(())
    }

    /// Returns the next event's number, if there is one.
    fn next_event(&self) -> Result<Option<u16>> {
        // An event is a frame with its number and a frame with the endpoint.
        let Some(event) = self.next_frame()? else {
            return Ok(None);
        };
        while self.next_frame()?.is_none() {}
        let number = event.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
        Ok(number)
    }

    fn next_frame(&self) -> Result<Option<Vec<u8>>> {
        match self.monitor.recv_bytes(DONTWAIT) {
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => Ok(None),
            frame => frame
                .map(Some)
                .map_err(Error::zmq("reading of connections")),
        }
    }

    /// Connects the socket again, if libzmq has given its endpoint up and the wait is over.
    #[inline]
    pub(super) fn retry(&self, socket: &Socket, counters: &LaneLedger) {
        if let Some(kept) = &self.kept
            && kept.retry_at.get().is_some_and(|at| at.passed())
        {
            counters.given_up.add(1);
            // What fails here, a name that does not resolve, is tried again.
            let connected = socket
                .disconnect(&kept.endpoint)
                .and_then(|()| socket.connect(&kept.endpoint));
            let failed = connected.is_err();
            kept.retry_at.set(failed.then(|| kept.next_attempt()));
        }
    }
}

impl Kept {
    fn note(&self, event: u16) {
        if event == DISCONNECTED {
            self.retry_at.set(Some(self.next_attempt()));
            return;
        }
        self.retry_at.set(None);
        if event == HANDSHAKE_SUCCEEDED {
            let mut backoff = self.backoff.get();
            backoff.connected();
            self.backoff.set(backoff);
        }
    }

    fn next_attempt(&self) -> Deadline {
        let mut backoff = self.backoff.get();
        let next = backoff.failed();
        self.backoff.set(backoff);
        next
    }
}
