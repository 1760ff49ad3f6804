//! Making a connection to one endpoint, and making it again.

use std::{io, time::Duration};

use socket2::{SockAddr, Socket};

use crate::{
    clock::Deadline,
    lane::reach::Reach,
    net::{Backoff, Endpoint, Resolver, SocketOptions, begin_connect},
};

/// What a dialer is about.
enum State {
    /// To try again then.
    Waiting(Deadline),
    /// The endpoint's name is being looked up.
    Asking,
    /// There is a connection, or one is being made.
    Connected,
}

/// Keeps one endpoint connected.
pub(super) struct Dialer {
    endpoint: Endpoint,
    /// The line that its connections are for.
    pub line: usize,
    backoff: Backoff,
    reach: Reach,
    state: State,
    /// Attempts so far, by which an endpoint's addresses take turns.
    attempts: usize,
}

impl Dialer {
    /// Starts without a connection; the first attempt is due at once.
    pub(super) fn new(endpoint: Endpoint, line: usize, backoff: Backoff, reach: Reach) -> Self {
        Self {
            endpoint,
            line,
            backoff,
            reach,
            state: State::Waiting(Deadline::after(Duration::ZERO)),
            attempts: 0,
        }
    }

    /// What tells whether its endpoint was reached.
    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Tells whether its endpoint has a name to look up.
    pub(super) fn has_name(&self) -> bool {
        self.endpoint.has_name()
    }

    /// Returns how long until the next attempt is due, if one is.
    pub(super) fn due_in(&self) -> Option<Duration> {
        match &self.state {
            State::Waiting(until) => Some(until.left()),
            State::Asking | State::Connected => None,
        }
    }

    /// Tells whether it waits for the resolver.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking)
    }

    /// Makes an attempt, or asks `resolver` for the addresses first, under the name of `number`.
    pub(super) fn dial(
        &mut self,
        number: usize,
        resolver: Option<&Resolver>,
        options: &SocketOptions,
    ) -> Option<Socket> {
        match resolver {
            Some(resolver) if self.endpoint.has_name() => {
                self.state = State::Asking;
                resolver.ask(number, &self.endpoint);
                None
            }
            _ => self.connect(self.endpoint.addresses(), options),
        }
    }

    /// Begins a connection to one of these addresses. What fails is tried again later.
    pub(super) fn connect(
        &mut self,
        addresses: io::Result<Vec<SockAddr>>,
        options: &SocketOptions,
    ) -> Option<Socket> {
        let begun = addresses.and_then(|mut addresses| {
            if let Some(source) = options.source {
                addresses.retain(|one| one.is_ipv4() == source.is_ipv4());
            }
            let turn = self.attempts % addresses.len().max(1);
            self.attempts = self.attempts.wrapping_add(1);
            let address = addresses.get(turn);
            address.map_or_else(
                || Err(io::Error::other("no address goes with the source")),
                |address| begin_connect(address, options),
            )
        });
        match begun {
            Ok(socket) => {
                self.state = State::Connected;
                Some(socket)
            }
            Err(refused) => {
                self.failed(&refused.to_string());
                None
            }
        }
    }

    /// Notes that the handshake is done.
    pub(super) fn connected(&mut self) {
        self.backoff.connected();
        self.reach.reached();
    }

    /// Notes that the connection was lost, or could not be made, and why.
    pub(super) fn failed(&mut self, reason: &str) {
        self.reach.failed(Some(reason.to_owned()));
        self.state = State::Waiting(self.backoff.failed());
    }
}
