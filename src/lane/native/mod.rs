//! The engine that speaks ZMTP itself: TCP and Unix sockets, a few nanoseconds a message.
//!
//! A lane is one thread that waits for all of its connections with epoll and reads whatever has come,
//! up to half a megabyte at once, into one buffer that stays in the core's cache. Messages
//! are cut off where they lie and copied once, into the batch of their worker. Each connection that
//! has something gets one read a round, so none starves another.
//!
//! Libzmq reads 8 KiB at a time and moves each message through a queue to another thread, which is
//! what nearly all of its time goes to.

mod connection;
mod dialer;
mod sink;

use std::{io, time::Duration};

use crate::{
    clock::Deadline,
    config::{self, SocketKind},
    error::{Error, Result},
    handoff::FRAMES_MAX,
    lane::{
        Assigned, Reach, Router, Setup,
        orders::{Change, Order},
        subscriptions::Subscriptions,
    },
    net::{
        Backoff, Endpoint, Interest, Listener, Malformed, Poller, Ready, Resolver, SocketOptions,
        is_exhausted,
    },
    zmtp::{Limits, SocketType, Subscription},
};
use connection::{Connection, End, Made, Turn};
use dialer::Dialer;
use sink::{Line, Sink};

/// Bytes read at once. Each read wakes a publisher on the same host that waits for room, and more costs
/// time under full load: 256 KiB took in 28.1 million messages a second for 40 ns of CPU time each and
/// let half of them wait for 108 µs, 512 KiB 29.2 for 38 and 145, 1 MiB 31.3 for 36 and 224, with
/// a second-level cache of 2 MiB; 64 KiB 24 for 49.
const READ_BYTES: usize = 512 * 1024;
/// Connections that publishers may make to a lane; more are closed as they come.
const CONNECTIONS_MAX: usize = 4_096;
/// How often a lane looks at its clocks while messages keep coming, and at most otherwise.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often it looks for the addresses of a name that it has asked for.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// Sockets with something, a read each mostly, after which the router does what is due, even under full load.
const READS_PER_TICK: usize = 8;
/// Likewise, after which it looks whether that is due: 32 MiB, some 10 ms, where the rest of the round is not more.
const READS_PER_LOOK: usize = 64;

/// What the poller calls the lane's orders.
const ORDERS: u64 = u64::MAX;
/// What it calls the first listener; connections go by their place, counted from 0.
const LISTENERS: u64 = 1 << 32;

/// The receive loop of a lane.
pub(crate) struct NativeLane {
    setup: Setup,
    receive: config::Receive,
    lines: Vec<Line>,
    listeners: Vec<Bound>,
    dialers: Vec<Dialer>,
    resolver: Option<Resolver>,
    connections: Vec<Option<Connection>>,
    options: SocketOptions,
    limits: Limits,
    poller: Poller,
    ready: Vec<Ready>,
    buffer: Box<[u8]>,
}

/// A listener, and the line whose publishers connect to it.
struct Bound {
    listener: Listener,
    line: usize,
    reach: Reach,
    /// Whether it waits for the next look, after the kernel refused a connection.
    paused: bool,
}

impl NativeLane {
    /// Binds what the lane's lines bind. Connections are made once it runs.
    ///
    /// # Errors
    /// [`Error::Config`], naming the endpoint that was refused; [`Error::Socket`], [`Error::Thread`].
    pub(crate) fn open(
        lane: &config::Lane,
        assigned: &[Assigned<'_>],
        receive: &config::Receive,
        setup: Setup,
    ) -> Result<Self> {
        let poller = Poller::new().map_err(Error::socket("waiting for sockets"))?;
        poller
            .add(&setup.orders, ORDERS, Interest::Read)
            .map_err(Error::socket("waiting for orders"))?;
        let options = socket_options(lane, receive);
        options.probe().map_err(|refused| {
            Error::config(
                "receive.busy_poll_us, receive.buffer_bytes or lane.nic",
                format!("{}, {}", receive.busy_poll_us, receive.buffer_bytes),
                format!("the kernel refused it ({refused})"),
                "set 0 for the system's default, or run with CAP_NET_ADMIN and CAP_NET_RAW",
            )
        })?;
        let message_bytes_max = receive.message_bytes_max as usize;
        let mut native = Self {
            setup,
            receive: receive.clone(),
            lines: Vec::new(),
            listeners: Vec::new(),
            dialers: Vec::new(),
            resolver: None,
            connections: Vec::new(),
            options,
            limits: Limits {
                frame_bytes_max: message_bytes_max,
                message_bytes_max,
                frames_max: FRAMES_MAX,
            },
            poller,
            ready: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        };
        for (line, assigned) in assigned.iter().enumerate() {
            native.add_line(line, assigned)?;
        }
        let names = native.dialers.iter().any(Dialer::has_name);
        native.resolver = names
            .then(|| Resolver::start(&lane.name, native.dialers.len()))
            .transpose()?;
        Ok(native)
    }

    fn add_line(&mut self, line: usize, assigned: &Assigned<'_>) -> Result<()> {
        self.lines.push(Line {
            index: line,
            feed: assigned.origin.feed,
            subscriptions: Subscriptions::of(assigned.feed),
            socket_type: match assigned.feed.socket {
                SocketKind::Sub => SocketType::Sub,
                SocketKind::Pull => SocketType::Pull,
            },
        });
        for (index, text) in assigned.line.bind.iter().enumerate() {
            let listener = parse(text)
                .and_then(|endpoint| Listener::bind(&endpoint, &self.options))
                .map_err(|reason| assigned.refused("bind", index, text, &reason))?;
            let token = LISTENERS + self.listeners.len() as u64;
            self.poller
                .add(listener.socket(), token, Interest::Read)
                .map_err(Error::socket("waiting for connections"))?;
            self.listeners.push(Bound {
                listener,
                line,
                reach: Reach::of_bound(assigned, text),
                paused: false,
            });
        }
        for (index, text) in assigned.line.connect.iter().enumerate() {
            let endpoint =
                parse(text).map_err(|reason| assigned.refused("connect", index, text, &reason))?;
            let backoff = Backoff::new(self.receive.reconnect_ms, self.receive.reconnect_max_ms);
            let reach = Reach::new(assigned, text, "no answer yet");
            self.dialers
                .push(Dialer::new(endpoint, line, backoff, reach));
        }
        Ok(())
    }

    /// Returns the endpoints that publishers may connect to, with the ports that wildcards were given.
    pub(crate) fn bound(&self) -> impl Iterator<Item = &str> {
        self.listeners.iter().map(|bound| bound.listener.endpoint())
    }

    /// Returns what tells which of its endpoints were reached.
    pub(crate) fn reaches(&self) -> impl Iterator<Item = &Reach> {
        let bound = self.listeners.iter().map(|bound| &bound.reach);
        bound.chain(self.dialers.iter().map(Dialer::reach))
    }

    /// Receives until asked to stop, or the quota is used up.
    ///
    /// # Errors
    /// [`Error::Socket`] where waiting fails, and what [`Router::route`] gives.
    pub(crate) fn run(mut self, mut router: Router) -> Result<()> {
        let outcome = self.receive_all(&mut router);
        // Whatever happened, what was received is handed over.
        outcome.and(router.end())
    }

    fn receive_all(&mut self, router: &mut Router) -> Result<()> {
        let mut look_at = Deadline::after(Duration::ZERO);
        let (mut since_tick, mut since_look) = (0, 0);
        while !self.setup.stop.requested() {
            let waiting = "waiting for messages";
            let mut found = self
                .poller
                .wait(Some(Duration::ZERO))
                .map_err(Error::socket(waiting))?;
            if !found {
                router.flush()?;
                let sleep_max = look_at.left().min(router.due_in());
                let wake_at = Deadline::after(sleep_max);
                let poller = &mut self.poller;
                found = self
                    .setup
                    .wait
                    .until(|may_sleep| {
                        let limit = if may_sleep { sleep_max } else { Duration::ZERO };
                        match poller.wait(Some(limit)) {
                            Ok(false) if !may_sleep && wake_at.passed() => Some(Ok(false)),
                            Ok(false) => None,
                            found => Some(found),
                        }
                    })
                    .unwrap_or(Ok(false))
                    .map_err(Error::socket(waiting))?;
            }
            self.serve(router)?;
            router.offer()?;
            if self.setup.quota.is_used_up() {
                self.setup.stop.request();
            }
            since_tick += self.ready.len();
            since_look += self.ready.len();
            if !found || since_tick >= READS_PER_TICK {
                since_tick = 0;
                router.tick()?;
            }
            if !found || since_look >= READS_PER_LOOK {
                since_look = 0;
                if look_at.passed() {
                    look_at = self.look(router)?;
                }
            }
        }
        Ok(())
    }

    /// Does what the last wait has found to do.
    #[inline]
    fn serve(&mut self, router: &mut Router) -> Result<()> {
        self.ready.clear();
        self.ready.extend(self.poller.ready());
        for index in 0..self.ready.len() {
            let ready = self.ready[index];
            match ready.token {
                ORDERS => self.obey(router),
                token if token >= LISTENERS => {
                    self.accept((token - LISTENERS) as usize, router);
                }
                token => self.serve_connection(token as usize, ready, router)?,
            }
        }
        Ok(())
    }

    #[inline]
    fn serve_connection(&mut self, index: usize, ready: Ready, router: &mut Router) -> Result<()> {
        let Some(connection) = &mut self.connections[index] else {
            return Ok(());
        };
        let mut turn = Turn::Open;
        if ready.writable {
            turn = connection.write();
        }
        if ready.readable && turn == Turn::Open && connection.is_connected() {
            turn = self.read(index, router)?;
        }
        self.conclude(index, turn, router);
        Ok(())
    }

    #[inline]
    fn read(&mut self, index: usize, router: &mut Router) -> Result<Turn> {
        let Some(connection) = &mut self.connections[index] else {
            return Ok(Turn::Open);
        };
        let was_up = connection.is_up();
        let mut sink = Sink {
            router,
            clock: &self.setup.clock,
            quota: &self.setup.quota,
            line: &self.lines[connection.line],
        };
        let turn = connection.read(&mut self.buffer, &mut sink)?;
        router.announce();
        if !was_up && connection.is_up() {
            router.counters().connects.add(1);
            match connection.made {
                Made::Dialed(dialer) => self.dialers[dialer].connected(),
                Made::Accepted(listener) => self.listeners[listener].reach.reached(),
            }
        }
        Ok(turn)
    }

    /// Waits for what the connection waits for now, or ends it.
    #[inline]
    fn conclude(&mut self, index: usize, turn: Turn, router: &mut Router) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        match turn {
            Turn::Open => {
                if let Some(interest) = connection.changed_interest() {
                    let changed = self.poller.change(connection, index as u64, interest);
                    if changed.is_err() {
                        self.end(index, End::Lost, router);
                    }
                }
            }
            Turn::Ended(end) => self.end(index, end, router),
        }
    }

    #[cold]
    fn end(&mut self, index: usize, end: End, router: &mut Router) {
        let counters = router.counters();
        let Some(connection) = self.connections[index].take() else {
            return;
        };
        match end {
            End::Lost | End::NotMade(_) => {}
            End::Violation(violation) => counters.violations[violation as usize].add(1),
            End::HandshakeTimeout if connection.is_connected() => {
                counters.handshake_timeouts.add(1);
            }
            End::HandshakeTimeout => {}
            End::HeartbeatTimeout => counters.heartbeat_timeouts.add(1),
            End::MessageTimeout => counters.message_timeouts.add(1),
        }
        if connection.is_up() {
            counters.disconnects.add(1);
            if connection.is_within_message() {
                counters.truncated.add(1);
            }
        } else if connection.is_connected() {
            counters.handshake_failures.add(1);
        } else {
            counters.connect_failures.add(1);
        }
        if connection.is_up() {
            router.note_connection(connection.line, false);
        }
        let reason = connection.reason(end);
        match connection.made {
            Made::Dialed(dialer) => self.dialers[dialer].failed(&reason),
            Made::Accepted(listener) => self.listeners[listener].reach.failed(Some(reason)),
        }
    }

    /// Waits for a new connection in the first free place.
    fn keep(&mut self, connection: Connection, router: &mut Router) {
        let free = self.connections.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let mut connection = connection;
        let turn = if connection.is_connected() {
            connection.write()
        } else {
            Turn::Open
        };
        connection.changed_interest();
        let added = self
            .poller
            .add(&connection, index as u64, connection.interest());
        self.connections[index] = Some(connection);
        let turn = if added.is_ok() {
            turn
        } else {
            Turn::Ended(End::Lost)
        };
        self.conclude(index, turn, router);
    }

    fn accept(&mut self, index: usize, router: &mut Router) {
        let bound = &mut self.listeners[index];
        let accepted = match bound.listener.accept() {
            Ok(Some(socket)) => socket,
            Ok(None) => return,
            // It would be told so again and again.
            Err(refused) if is_exhausted(&refused) => {
                bound.paused = self.poller.remove(bound.listener.socket()).is_ok();
                return;
            }
            Err(_) => {
                router.counters().connect_failures.add(1);
                return;
            }
        };
        if self.connections.iter().flatten().count() >= CONNECTIONS_MAX {
            router.counters().refused.add(1);
            return;
        }
        let line = bound.line;
        let socket_type = self.lines[line].socket_type;
        let now_ns = self.setup.clock.now_ns();
        self.keep(
            Connection::new(
                accepted,
                Made::Accepted(index),
                line,
                socket_type,
                self.limits,
                now_ns,
            ),
            router,
        );
    }

    /// Does what it was asked for from outside.
    fn obey(&mut self, router: &mut Router) {
        self.setup.orders.hush();
        while let Some(order) = self.setup.orders.next() {
            match order {
                Order::Subscribe(change) => {
                    for line in 0..self.lines.len() {
                        if self.lines[line].feed == change.feed {
                            self.subscribe(line, &change);
                        }
                    }
                }
                Order::Move(order) => router.move_shard(order),
            }
        }
        for line in &mut self.lines {
            line.subscriptions.settle();
        }
        for index in 0..self.connections.len() {
            let Some(connection) = &mut self.connections[index] else {
                continue;
            };
            let turn = match connection.is_connected().then(|| connection.write()) {
                Some(Turn::Open) if connection.is_choking() => Turn::Ended(End::Lost),
                written => written.unwrap_or(Turn::Open),
            };
            self.conclude(index, turn, router);
        }
    }

    fn subscribe(&mut self, line: usize, change: &Change) {
        let subscriptions = &mut self.lines[line].subscriptions;
        let (told, subscription) = if change.subscribe {
            (
                subscriptions.start(&change.prefix),
                Subscription::Start(&change.prefix),
            )
        } else {
            (
                subscriptions.end(&change.prefix),
                Subscription::End(&change.prefix),
            )
        };
        let connections = self.connections.iter_mut().flatten();
        for connection in connections.filter(|one| told && one.line == line) {
            connection.subscribe(subscription);
        }
    }

    /// Does what is due: attempts to connect, heartbeats, timeouts. Returns when to look again.
    fn look(&mut self, router: &mut Router) -> Result<Deadline> {
        let now_ns = self.setup.clock.now_ns();
        for index in 0..self.connections.len() {
            let Some(connection) = &mut self.connections[index] else {
                continue;
            };
            let mut turn = connection.look(now_ns, &self.receive);
            if matches!(
                turn,
                Turn::Ended(End::HeartbeatTimeout | End::MessageTimeout)
            ) {
                // Its word may be waiting behind those of many others.
                turn = match self.read(index, router)? {
                    Turn::Open => self.connections[index]
                        .as_mut()
                        .map_or(Turn::Open, |connection| {
                            connection.look(now_ns, &self.receive)
                        }),
                    ended => ended,
                };
            }
            self.conclude(index, turn, router);
        }
        for (index, bound) in self.listeners.iter_mut().enumerate() {
            let token = LISTENERS + index as u64;
            let again = bound.paused
                && self
                    .poller
                    .add(bound.listener.socket(), token, Interest::Read)
                    .is_ok();
            bound.paused &= !again;
        }
        self.dial(router);
        let due = self.dialers.iter().filter_map(Dialer::due_in).min();
        let asking = self
            .dialers
            .iter()
            .any(Dialer::is_asking)
            .then_some(ASK_EVERY);
        let next = due
            .into_iter()
            .chain(asking)
            .fold(LOOK_EVERY, Duration::min);
        Ok(Deadline::after(next))
    }

    fn dial(&mut self, router: &mut Router) {
        let mut begun = Vec::new();
        while let Some((index, addresses)) = self.resolver.as_ref().and_then(Resolver::answer) {
            begun.push((index, self.dialers[index].connect(addresses, &self.options)));
        }
        for (index, dialer) in self.dialers.iter_mut().enumerate() {
            if dialer.due_in().is_some_and(|left| left.is_zero()) {
                begun.push((
                    index,
                    dialer.dial(index, self.resolver.as_ref(), &self.options),
                ));
            }
        }
        let now_ns = self.setup.clock.now_ns();
        for (index, socket) in begun {
            if socket.is_none() && !self.dialers[index].is_asking() {
                router.counters().connect_failures.add(1);
            }
            if let Some(socket) = socket {
                let line = self.dialers[index].line;
                let connection = Connection::new(
                    socket,
                    Made::Dialed(index),
                    line,
                    self.lines[line].socket_type,
                    self.limits,
                    now_ns,
                );
                self.keep(connection, router);
            }
        }
    }
}

fn parse(text: &str) -> io::Result<Endpoint> {
    text.parse()
        .map_err(|malformed: Malformed| io::Error::other(malformed))
}

/// What a lane's sockets are set to.
fn socket_options(lane: &config::Lane, receive: &config::Receive) -> SocketOptions {
    let milliseconds = |ms: u32| Some(Duration::from_millis(ms.into()));
    SocketOptions {
        nic: lane.nic.clone(),
        source: lane.source,
        buffer_bytes: receive.buffer_bytes,
        busy_poll_us: receive.busy_poll_us,
        no_delay: receive.no_delay,
        user_timeout: milliseconds(receive.heartbeat_timeout_ms),
        keepalive: milliseconds(receive.heartbeat_ms.max(1_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn sockets_are_set_to_what_the_file_says() {
        let text = "[receive]\nbuffer_bytes = 131072\nbusy_poll_us = 50\nno_delay = false\nheartbeat_ms = 2000\n\
                    heartbeat_timeout_ms = 3000\n[[lane]]\nname = \"a\"\nnic = \"lo\"\nsource = \"127.0.0.2\"\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(
            socket_options(&config.lanes[0], &config.receive),
            SocketOptions {
                nic: Some("lo".to_owned()),
                source: Some([127, 0, 0, 2].into()),
                buffer_bytes: 131_072,
                busy_poll_us: 50,
                no_delay: false,
                user_timeout: Some(Duration::from_secs(3)),
                keepalive: Some(Duration::from_secs(2)),
            }
        );
    }
}
