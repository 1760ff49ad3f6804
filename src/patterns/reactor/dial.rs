//! An endpoint that is connected to, and connected to again.

use std::{io, time::Duration};

use socket2::{SockAddr, Socket};

use crate::{
    clock::Deadline,
    net::{Backoff, Endpoint, Resolver, SocketOptions, begin_connect},
    patterns::reactor::SocketId,
};

/// The first wait before connecting again, and the longest, in milliseconds.
const BACKOFF_MS: (u32, u32) = (50, 2_000);

/// An endpoint that is connected to.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) socket: SocketId,
    /// The endpoint, as it was given.
    pub(super) text: String,
    endpoint: Endpoint,
    backoff: Backoff,
    state: State,
    /// Attempts so far, by which an endpoint's addresses take turns.
    attempts: usize,
    /// Whether the application knows that it can't be reached.
    is_told: bool,
}

#[derive(Debug)]
enum State {
    /// To try then.
    Waiting(Deadline),
    /// The endpoint's name is being looked up.
    Asking,
    /// There is a connection, or one is being made.
    Connected,
}

impl Dial {
    /// Starts without a connection; the first attempt is due at once.
    pub(super) fn new(socket: SocketId, text: &str, endpoint: Endpoint) -> Self {
        Self {
            socket,
            text: text.to_owned(),
            endpoint,
            backoff: Backoff::new(BACKOFF_MS.0, BACKOFF_MS.1),
            state: State::Waiting(Deadline::after(Duration::ZERO)),
            attempts: 0,
            is_told: false,
        }
    }

    /// Tells whether an attempt is due.
    pub(super) fn is_due(&self) -> bool {
        matches!(self.state, State::Waiting(due) if due.passed())
    }

    /// Returns the addresses, or asks for them under the name of `number` where they have to be looked up.
    pub(super) fn addresses(
        &mut self,
        number: usize,
        resolver: Option<&Resolver>,
    ) -> Option<io::Result<Vec<SockAddr>>> {
        match resolver {
            Some(resolver) if self.endpoint.has_name() => {
                self.state = State::Asking;
                resolver.ask(number, &self.endpoint);
                None
            }
            _ => Some(self.endpoint.addresses()),
        }
    }

    /// Begins a connection to one of the addresses.
    pub(super) fn begin(
        &mut self,
        addresses: io::Result<Vec<SockAddr>>,
        options: &SocketOptions,
    ) -> io::Result<Socket> {
        let addresses = addresses?;
        let turn = self.attempts % addresses.len();
        self.attempts = self.attempts.wrapping_add(1);
        let stream = begin_connect(&addresses[turn], options)?;
        self.state = State::Connected;
        Ok(stream)
    }

    /// Notes that a handshake is done.
    pub(super) fn reached(&mut self) {
        self.backoff.connected();
        self.is_told = false;
    }

    /// Notes that the connection was lost, or could not be made. Returns whether this is news: the first
    /// failure since the endpoint was last reached.
    pub(super) fn failed(&mut self) -> bool {
        self.state = State::Waiting(self.backoff.failed());
        !self.is_told
    }

    /// Notes that the application was told of a failure.
    pub(super) fn told(&mut self) {
        self.is_told = true;
    }
}
