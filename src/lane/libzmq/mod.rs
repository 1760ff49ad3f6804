//! The engine that libzmq is: every transport it has, at libzmq's price.
//!
//! Each endpoint of a line has a socket of its own, since libzmq does not tell reliably which connection an event is
//! about. All of a lane's sockets share the lane's I/O thread.

mod peers;
mod reconnect;

use std::{cell::RefCell, os::fd::AsRawFd, time::Duration};

use zmq::{PollEvents, PollItem, SocketType};

use crate::{
    clock::{Clock, Deadline},
    config::{Lane, Receive, SocketKind},
    error::{Error, Result},
    handoff::FRAMES_MAX,
    lane::{Assigned, Order, Orders, Reach, Router, Setup, subscriptions::Subscriptions},
    libzmq::{Context, Frame, Socket},
    message::Origin,
    random,
    wait::Wait,
};
use peers::Peers;
use reconnect::Connections;

/// Messages taken from one socket before the next has its turn.
const RECEIVE_BUDGET: usize = 256;

/// Sockets' turns after which the router does what is due, and hands over what there is for workers that have nothing
/// to do, even under full load: some milliseconds.
const TURNS_PER_TICK: usize = 64;
/// Sockets' turns after which a lane looks at their connections even under full load.
const TURNS_PER_LOOK: usize = 1_024;

/// Bytes read from a connection at once. Libzmq's own 8,192 are some 120 small messages, after each
/// of which the I/O thread looks at all of its connections again: 5 % less throughput.
const READ_BYTES: u32 = 65_536;

/// One socket of a lane, and how to read what comes by it.
struct Source {
    socket: Socket,
    connections: Connections,
    /// The endpoint bound, if it is, with the port that a wildcard was given.
    bound: Option<String>,
    /// The line's place among those of the lane.
    line: usize,
    feed: u16,
    /// Libzmq compares prefixes, and lets through what starts with a topic that is wanted exactly.
    subscriptions: RefCell<Subscriptions>,
    /// Where only connections tell of publishers' restarts.
    peers: Option<RefCell<Peers>>,
}

impl Source {
    /// Takes note of what has happened to its connections.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    fn note_events(&self, router: &mut Router) -> Result<()> {
        self.connections.note_events(router, self.line)?;
        if let Some(peers) = &self.peers {
            let mut peers = peers.borrow_mut();
            peers.set_connections(self.connections.up());
            // Nothing has come by a new one yet.
            if let Some(number) = peers.last_number() {
                router.set_connection(self.line, number);
            }
        }
        Ok(())
    }
}

/// What the sockets of a line are opened with.
struct Opening<'a> {
    context: &'a Context,
    /// The lane's place in the configuration, which is that of its I/O thread.
    lane_index: usize,
    lane: &'a Lane,
    receive: &'a Receive,
    /// The line's place among those of the lane.
    line: usize,
    assigned: &'a Assigned<'a>,
}

impl Opening<'_> {
    /// Opens a socket for each endpoint that the line binds or connects to.
    fn open(&self, sources: &mut Vec<Source>) -> Result<()> {
        let (assigned, line) = (self.assigned, self.assigned.line);
        for (index, endpoint) in line.bind.iter().enumerate() {
            let reach = Reach::of_bound(assigned, endpoint);
            let mut source = self.source(&format!("bind-{index}"), endpoint, reach)?;
            let bound = source.socket.bind(endpoint);
            source.bound =
                Some(bound.map_err(|reason| assigned.refused("bind", index, endpoint, &reason))?);
            sources.push(source);
        }
        for (index, endpoint) in line.connect.iter().enumerate() {
            let reach = Reach::new(assigned, endpoint, "libzmq does not say why");
            let mut source = self.source(&format!("connect-{index}"), endpoint, reach)?;
            let name = from_source(endpoint, self.lane);
            let connected = source.socket.connect(&name);
            connected.map_err(|reason| assigned.refused("connect", index, endpoint, &reason))?;
            let delays_ms = (self.receive.reconnect_ms, self.receive.reconnect_max_ms);
            source.connections.keep(name, delays_ms);
            sources.push(source);
        }
        Ok(())
    }

    fn source(&self, name: &str, endpoint: &str, reach: Reach) -> Result<Source> {
        let wanted = self.assigned.feed;
        let mut socket = self.context.socket(match wanted.socket {
            SocketKind::Sub => SocketType::SUB,
            SocketKind::Pull => SocketType::PULL,
        })?;
        let Origin { feed, line } = self.assigned.origin;
        let name = format!("{feed}-{line}-{name}");
        let connections = Connections::watch(self.context, &socket, &name, reach)?;
        self.set_options(&socket, endpoint)
            .map_err(Error::zmq(format!(
                "setting up a socket of lane {}",
                self.lane.name
            )))?;
        // A libzmq without its draft API keeps its own 8,192, and works.
        let _ = socket.set_read_bytes(READ_BYTES);
        socket.set_tcp_user_timeout(self.receive.heartbeat_timeout_ms)?;
        if let Some(nic) = &self.lane.nic {
            socket.set_bind_to_device(nic)?;
        }
        let subscriptions = Subscriptions::of(wanted);
        for prefix in subscriptions.prefixes() {
            let subscribed = socket.set_subscribe(prefix);
            subscribed.map_err(Error::zmq(format!(
                "subscribing to {:?}",
                prefix.escape_ascii().to_string()
            )))?;
        }
        Ok(Source {
            socket,
            connections,
            bound: None,
            line: self.line,
            feed,
            subscriptions: RefCell::new(subscriptions),
            peers: wanted.is_told_by_connections().then(RefCell::default),
        })
    }

    fn set_options(&self, socket: &Socket, endpoint: &str) -> std::result::Result<(), zmq::Error> {
        let receive = self.receive;
        socket.set_affinity(1 << self.lane_index)?;
        // After a reconnect libzmq sends all subscriptions again, and drops those over this mark.
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(receive.high_water_mark as i32)?;
        socket.set_maxmsgsize(i64::from(receive.message_bytes_max))?;
        // While a slow worker makes the lane wait, libzmq reads nothing, answers to its heartbeats
        // included, and would hang up on a publisher that is well. So heartbeats are sent, and the
        // kernel says whether they arrive: see `set_tcp_user_timeout`.
        socket.set_heartbeat_ivl(receive.heartbeat_ms as i32)?;
        socket.set_handshake_ivl(receive.handshake_timeout_ms as i32)?;
        socket.set_heartbeat_timeout(0)?;
        // Doubling from one start for all would bring all subscribers back at once, and libzmq adds
        // no chance of its own once it doubles.
        socket.set_reconnect_ivl(random::spread(receive.reconnect_ms) as i32)?;
        socket.set_reconnect_ivl_max(receive.reconnect_max_ms as i32)?;
        if receive.buffer_bytes > 0 {
            socket.set_rcvbuf(receive.buffer_bytes as i32)?;
        }
        socket.set_ipv6(endpoint.contains('['))
    }
}

/// Writes the address to connect from into an endpoint, the way libzmq wants it.
fn from_source(endpoint: &str, lane: &Lane) -> String {
    match (lane.source, endpoint.strip_prefix("tcp://")) {
        (Some(source), Some(address)) if source.is_ipv6() => {
            format!("tcp://[{source}]:0;{address}")
        }
        (Some(source), Some(address)) => format!("tcp://{source}:0;{address}"),
        _ => endpoint.to_owned(),
    }
}

/// The receive loop of a lane.
pub(crate) struct LibzmqLane {
    sources: Vec<Source>,
    frames: Box<[Frame]>,
    /// The number of the connection that was the last to bring a first message, by any line.
    newest: u32,
    setup: Setup,
}

impl LibzmqLane {
    /// Opens the sockets of the lane's lines. `lane_index` is the lane's place in the configuration, and
    /// that of its I/O thread in `context`.
    ///
    /// # Errors
    /// [`Error::Config`], naming the endpoint that libzmq refused, and [`Error::Zmq`].
    pub(crate) fn open(
        context: &Context,
        (lane_index, lane): (usize, &Lane),
        assigned: &[Assigned<'_>],
        receive: &Receive,
        setup: Setup,
    ) -> Result<Self> {
        let mut sources = Vec::new();
        for (line, assigned) in assigned.iter().enumerate() {
            let opening = Opening {
                context,
                lane_index,
                lane,
                receive,
                line,
                assigned,
            };
            opening.open(&mut sources)?;
        }
        Ok(Self {
            sources,
            // One more than a batch carries, for the router to see that a message has too many.
            frames: (0..=FRAMES_MAX).map(|_| Frame::new()).collect(),
            newest: 0,
            setup,
        })
    }

    /// Returns the endpoints that publishers may connect to, with the ports that wildcards were given.
    pub(crate) fn bound(&self) -> impl Iterator<Item = &str> {
        self.sources
            .iter()
            .filter_map(|source| source.bound.as_deref())
    }

    /// Returns what tells which of its endpoints were reached.
    pub(crate) fn reaches(&self) -> impl Iterator<Item = &Reach> {
        self.sources.iter().map(|source| source.connections.reach())
    }

    /// Receives until asked to stop, or the quota is used up.
    ///
    /// # Errors
    /// [`Error::Zmq`] where a socket breaks, and what [`Router::route`] gives.
    pub(crate) fn run(mut self, mut router: Router) -> Result<()> {
        let outcome = self.receive_all(&mut router);
        // Whatever happened, what was received is handed over.
        let flushed = router.end();
        let noted = self
            .sources
            .iter()
            .try_for_each(|source| source.note_events(&mut router));
        outcome.and(flushed).and(noted)
    }

    fn receive_all(&mut self, router: &mut Router) -> Result<()> {
        let Self {
            sources,
            frames,
            newest,
            setup,
        } = self;
        let sockets = sources.iter().map(|source| &source.socket);
        let monitors = sources.iter().map(|source| source.connections.monitor());
        let mut items: Vec<PollItem<'_>> = sockets
            .chain(monitors)
            .map(|socket| socket.as_poll_item(PollEvents::POLLIN))
            .collect();
        items.push(PollItem::from_fd(
            setup.orders.as_raw_fd(),
            PollEvents::POLLIN,
        ));
        let (mut since_tick, mut since_look) = (0, 0);
        while !setup.stop.requested() {
            let mut dry = true;
            for source in sources.iter() {
                let received = take(source, frames, newest, setup, router)?;
                dry &= received == 0;
                // Making a connection again drops what is unread of the one before.
                if received < RECEIVE_BUDGET {
                    source.connections.retry(&source.socket, router.counters());
                }
            }
            since_tick += sources.len();
            since_look += sources.len();
            let mut look_around = since_look >= TURNS_PER_LOOK;
            if setup.quota.is_used_up() {
                setup.stop.request();
            } else if dry {
                router.flush()?;
                let waited = wait_for_any(&mut items, setup.wait, router.due_in())?;
                let (_, others) = items.split_at(sources.len());
                look_around = !waited || others.iter().any(PollItem::is_readable);
            }
            if look_around || since_tick >= TURNS_PER_TICK || router.is_moving() {
                since_tick = 0;
                router.tick()?;
                router.offer()?;
            }
            if look_around || setup.orders.wait() {
                obey(sources, &setup.orders, router)?;
            }
            if look_around {
                since_look = 0;
                for source in sources.iter() {
                    source.note_events(router)?;
                }
            }
        }
        Ok(())
    }
}

/// Does what it was asked for from outside.
fn obey(sources: &[Source], orders: &Orders, router: &mut Router) -> Result<()> {
    orders.hush();
    while let Some(order) = orders.next() {
        let change = match order {
            Order::Subscribe(change) => change,
            Order::Move(order) => {
                router.move_shard(order);
                continue;
            }
        };
        let of_feed = |source: &&Source| source.feed == change.feed;
        for source in sources.iter().filter(of_feed) {
            let mut subscriptions = source.subscriptions.borrow_mut();
            let changed = if change.subscribe && subscriptions.start(&change.prefix) {
                source.socket.set_subscribe(&change.prefix)
            } else if !change.subscribe && subscriptions.end(&change.prefix) {
                source.socket.set_unsubscribe(&change.prefix)
            } else {
                Ok(())
            };
            changed.map_err(Error::zmq("changing a subscription"))?;
        }
    }
    for source in sources {
        source.subscriptions.borrow_mut().settle();
    }
    Ok(())
}

/// Takes what a source has, up to the budget, to the router. Returns the number of messages.
#[inline]
fn take(
    source: &Source,
    frames: &mut [Frame],
    newest: &mut u32,
    setup: &Setup,
    router: &mut Router,
) -> Result<usize> {
    let subscriptions = source.subscriptions.borrow();
    let inexact = subscriptions.are_inexact();
    for received in 0..RECEIVE_BUDGET {
        let Some((count, received_ns)) = receive(&source.socket, frames, &setup.clock)? else {
            return Ok(received);
        };
        if inexact && !subscriptions.cover(&frames[0]) {
            router.counters().unwanted.add(1);
            continue;
        }
        if setup.quota.take(1) == 0 {
            return Ok(received);
        }
        if let Some(peers) = &source.peers
            && let Some(number) = (peers.borrow_mut()).number_of(&mut frames[..count], newest)
        {
            router.set_connection(source.line, number);
        }
        // Each look at a frame's bytes is two calls into libzmq, so there is one.
        if count == 1 {
            router.route(source.line, received_ns, &[&*frames[0]])?;
        } else {
            let mut parts = [&[][..]; FRAMES_MAX + 1];
            for (part, frame) in parts.iter_mut().zip(&frames[..count]) {
                *part = frame;
            }
            router.route(source.line, received_ns, &parts[..count])?;
        }
    }
    Ok(RECEIVE_BUDGET)
}

/// Receives a message into `frames`, if there is one. Returns its number of frames, at most as many
/// as fit, and when it was received.
#[inline]
fn receive(socket: &Socket, frames: &mut [Frame], clock: &Clock) -> Result<Option<(usize, u64)>> {
    if !socket.receive(&mut frames[0], false)? {
        return Ok(None);
    }
    let received_ns = clock.now_ns();
    let mut count = 1;
    while frames[count - 1].has_more() {
        // The rest of a message has arrived with its first frame.
        let next = count.min(frames.len() - 1);
        socket.receive(&mut frames[next], true)?;
        count = next + 1;
    }
    Ok(Some((count, received_ns)))
}

/// Waits until a socket has something, for a while. Returns whether one has.
fn wait_for_any(items: &mut [PollItem<'_>], wait: Wait, sleep_max: Duration) -> Result<bool> {
    let wake_at = Deadline::after(sleep_max);
    let ready = wait.until(|may_sleep| {
        let timeout_ms = if may_sleep {
            // Rounded up, or the last fraction of a millisecond would be polled away.
            sleep_max.as_millis() as i64 + 1
        } else {
            0
        };
        match zmq::poll(items, timeout_ms) {
            Ok(0) if !may_sleep && wake_at.passed() => Some(Ok(0)),
            Ok(0) | Err(zmq::Error::EINTR) => None,
            ready => Some(ready),
        }
    });
    match ready {
        Some(Err(broken)) => Err(Error::zmq("waiting for messages")(broken)),
        Some(Ok(ready)) => Ok(ready > 0),
        None => Ok(false),
    }
}
