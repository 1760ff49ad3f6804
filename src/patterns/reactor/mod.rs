//! One thread that speaks ZMTP with many peers: sockets of any type, on one poll loop, with time.
//!
//! An [`Application`] is told what comes, and says what is to be sent through [`Links`]; between the two a
//! [`Reactor`] waits for all sockets at once. A turn of its loop reads each connection that has something
//! once, tells the application, and then writes what was put into outboxes, so that what came together
//! leaves together. Connections are made again by themselves, with growing waits, and all subscriptions are
//! asked for again. Heartbeats find peers that are gone. Everything that a peer can make this side hold
//! has a limit.
//!
//! Why not libzmq's sockets: they hide who is subscribed, so that nothing can be sent to one subscriber
//! alone; how much waits for whom; and what they drop. And they take ten times as long. The price: the
//! transports are TCP and Unix sockets, without CURVE.

mod audience;
mod inbound;
mod links;
mod outbox;
mod waker;

use std::time::Duration;

use crate::{
    clock::{Clock, Deadline, SECOND_NS},
    error::{Error, Result},
    net::{
        Backoff, Endpoint, Interest, Listener, Malformed, Poller, Ready, Resolver, SocketOptions,
        begin_connect,
    },
    stop::Stop,
    zmtp::{
        Command, Cut, Frames, Handshake, SocketType, Splitter, Subscription, Version, Violation,
        encode_pong,
    },
};
pub use audience::{Audience, Shift, TooMany};
pub use inbound::End;
use inbound::{Found, Inbound, Phase};
pub use links::{Link, Links, NoRoom, SocketCounters, SocketId, SocketPlan};
pub use waker::Waker;

/// Bytes read from a connection at once.
const READ_BYTES: usize = 256 * 1024;
/// The most connections of a reactor; peers beyond are hung up on.
const LINKS_MAX: usize = 16_384;
/// The most endpoints that a reactor connects to.
const DIALS_MAX: usize = 1_024;
/// How long a connection and its handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// The first wait before connecting again, and the longest, in milliseconds.
const BACKOFF_MS: (u32, u32) = (50, 2_000);
/// The silence after which a peer is asked for a sign of life.
const HEARTBEAT_NS: u64 = SECOND_NS;
/// How long it may take to give one.
const HEARTBEAT_NS_MAX: u64 = 3 * SECOND_NS;
/// How long a peer's host may leave what it was sent unacknowledged.
const GONE_AFTER: Duration = Duration::from_secs(10);
/// How long a listener rests after the kernel refused a connection.
const REST: Duration = Duration::from_millis(100);
/// How often connections are looked at for what time has done to them, and the longest wait, so that a
/// request to stop is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the poller calls listeners; connections go by their places.
const LISTENERS: u64 = 1 << 32;
/// What it calls the waker.
const WAKER: u64 = u64::MAX;

const REMEDY: &str =
    "give an endpoint like tcp://127.0.0.1:5556 or ipc:///tmp/feed, with a free port to bind";

/// What a reactor's events are for.
pub trait Application {
    /// A message has come.
    fn on_message(&mut self, links: &mut Links, link: Link, frames: &[&[u8]]);

    /// A peer's handshake is done.
    fn on_open(&mut self, _links: &mut Links, _link: Link) {}

    /// A subscriber has subscribed or cancelled; [`Links`] know of it already. `shift` says whether that
    /// changed anything for all peers of the socket together.
    fn on_subscription(
        &mut self,
        _links: &mut Links,
        _link: Link,
        _subscription: Subscription<'_>,
        _shift: Shift,
    ) {
    }

    /// All that waited for a peer has been sent, as [`Links::tell_when_sent`] asked for.
    fn on_room(&mut self, _links: &mut Links, _link: Link) {}

    /// A connection whose handshake was done has ended. `orphaned` are the prefixes that nobody is
    /// subscribed to any more.
    fn on_close(&mut self, _links: &mut Links, _link: Link, _end: &End, _orphaned: &[Box<[u8]>]) {}

    /// A peer was hung up on, or a connection failed, before its handshake was done. Of an endpoint that
    /// is connected to only the first failure since it was last reached is told, with its name.
    fn on_refused(&mut self, _socket: SocketId, _endpoint: Option<&str>, _end: &End) {}

    /// Somebody has rung the [`Waker`].
    fn on_wake(&mut self, _links: &mut Links) {}

    /// All that had come has been told. What is put into outboxes now leaves at once.
    fn on_turn_end(&mut self, _links: &mut Links) {}

    /// Returns when [`on_time`](Self::on_time) is due, by the reactor's clock, in nanoseconds.
    fn due_ns(&self) -> Option<u64> {
        None
    }

    /// What was due, is due.
    fn on_time(&mut self, _links: &mut Links) {}
}

/// A listener, and until when it rests, after the kernel refused a connection.
#[derive(Debug)]
struct Bound {
    socket: SocketId,
    listener: Listener,
    rests: Option<Deadline>,
}

/// An endpoint that is connected to.
#[derive(Debug)]
struct Dial {
    socket: SocketId,
    text: String,
    endpoint: Endpoint,
    backoff: Backoff,
    state: DialState,
    /// Attempts so far, by which an endpoint's addresses take turns.
    attempts: usize,
    /// Whether the application knows that it can't be reached.
    is_told: bool,
}

#[derive(Debug)]
enum DialState {
    Waiting(Deadline),
    Asking,
    Connected,
}

/// The loop, and all it waits for.
#[derive(Debug)]
pub struct Reactor {
    clock: Clock,
    poller: Poller,
    bound: Vec<Bound>,
    dials: Vec<Dial>,
    resolver: Option<Resolver>,
    inbound: Vec<Option<Inbound>>,
    links: Links,
    buffer: Box<[u8]>,
    ready: Vec<Ready>,
    waker: Waker,
    look_at: Deadline,
}

fn options() -> SocketOptions {
    SocketOptions {
        user_timeout: Some(GONE_AFTER),
        keepalive: Some(GONE_AFTER / 4),
        ..SocketOptions::default()
    }
}

impl Reactor {
    /// Starts with no sockets. `clock` is what [`Links::now_ns`] goes by.
    ///
    /// # Errors
    /// [`Error::Socket`]: the process has too many files open.
    pub fn new(clock: Clock) -> Result<Self> {
        let poller = Poller::new().map_err(Error::socket("waiting for sockets"))?;
        let waker = Waker::new().map_err(Error::socket("waiting for sockets"))?;
        poller
            .add(&waker, WAKER, Interest::Read)
            .map_err(Error::socket("waiting for sockets"))?;
        Ok(Self {
            clock,
            poller,
            bound: Vec::new(),
            dials: Vec::new(),
            resolver: None,
            inbound: Vec::new(),
            links: Links::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            ready: Vec::new(),
            waker,
            look_at: Deadline::after(LOOK_EVERY),
        })
    }

    /// Adds a socket, without peers.
    pub fn socket(&mut self, plan: SocketPlan) -> SocketId {
        self.links.add_socket(plan)
    }

    /// Has peers connect to a socket. Returns the endpoint, with the port that a wildcard was given.
    ///
    /// # Errors
    /// [`Error::Config`] where the endpoint is none, or the kernel refuses it.
    pub fn bind(&mut self, socket: SocketId, endpoint: &str) -> Result<String> {
        let listener = Listener::bind(&parse("--bind", endpoint)?, &options());
        let listener = listener.and_then(|listener| {
            let token = LISTENERS + self.bound.len() as u64;
            self.poller.add(listener.socket(), token, Interest::Read)?;
            Ok(listener)
        });
        let listener = listener.map_err(|refused| {
            let problem = format!("it can't be bound ({refused})");
            Error::config("--bind", endpoint, problem, REMEDY)
        })?;
        let endpoint = listener.endpoint().to_owned();
        self.bound.push(Bound {
            socket,
            listener,
            rests: None,
        });
        Ok(endpoint)
    }

    /// Connects a socket to an endpoint, from the next turn on, and again whenever the connection is lost.
    ///
    /// # Errors
    /// [`Error::Config`] where the endpoint is none, or there are too many; [`Error::Thread`] where names
    /// can't be looked up.
    pub fn connect(&mut self, socket: SocketId, endpoint: &str) -> Result<()> {
        let parsed = parse("--connect", endpoint)?;
        if self.dials.len() == DIALS_MAX {
            let problem = format!("more than {DIALS_MAX} endpoints");
            return Err(Error::config("--connect", endpoint, problem, "give fewer"));
        }
        if parsed.has_name() && self.resolver.is_none() {
            self.resolver = Some(Resolver::start("reactor", DIALS_MAX)?);
        }
        self.dials.push(Dial {
            socket,
            text: endpoint.to_owned(),
            endpoint: parsed,
            backoff: Backoff::new(BACKOFF_MS.0, BACKOFF_MS.1),
            state: DialState::Waiting(Deadline::after(Duration::ZERO)),
            attempts: 0,
            is_told: false,
        });
        Ok(())
    }

    /// Returns the peers, for instance to subscribe before the first turn.
    pub fn links(&mut self) -> &mut Links {
        self.links.now_ns = self.clock.now_ns();
        &mut self.links
    }

    /// Returns what makes the loop turn, from whatever thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Turns until `stop` is requested.
    ///
    /// # Errors
    /// [`Error::Socket`], from waiting.
    pub fn run(&mut self, application: &mut impl Application, stop: &Stop) -> Result<()> {
        while !stop.requested() {
            self.turn(application, LOOK_EVERY)?;
        }
        Ok(())
    }

    /// Sends what still waits for peers, for `limit` at most, and tells nobody of anything that comes.
    ///
    /// # Errors
    /// [`Error::Socket`], from waiting.
    pub fn drain(&mut self, limit: Duration) -> Result<()> {
        let end = Deadline::after(limit);
        while !end.passed() && self.links.are_waiting() {
            self.turn(&mut Deaf, end.left().min(LOOK_EVERY))?;
        }
        Ok(())
    }

    /// Waits for at most `timeout` for something to do, and does it.
    ///
    /// # Errors
    /// [`Error::Socket`], from waiting.
    pub fn turn(&mut self, application: &mut impl Application, timeout: Duration) -> Result<()> {
        self.dial(application);
        let mut wait = timeout.min(LOOK_EVERY);
        if let Some(due_ns) = application.due_ns() {
            wait = wait.min(Duration::from_nanos(
                due_ns.saturating_sub(self.clock.now_ns()),
            ));
        }
        if !self.links.dirty.is_empty() {
            wait = Duration::ZERO;
        }
        self.poller
            .wait(Some(wait))
            .map_err(Error::socket("waiting for sockets"))?;
        self.links.now_ns = self.clock.now_ns();
        self.ready.clear();
        self.ready.extend(self.poller.ready());
        for index in 0..self.ready.len() {
            let ready = self.ready[index];
            match ready.token {
                WAKER => {
                    self.waker.hush();
                    application.on_wake(&mut self.links);
                }
                token if token >= LISTENERS => self.accept((token - LISTENERS) as usize),
                token => self.attend(token as u32, ready, application),
            }
        }
        if application
            .due_ns()
            .is_some_and(|due_ns| due_ns <= self.links.now_ns)
        {
            application.on_time(&mut self.links);
        }
        if self.look_at.passed() {
            self.look(application);
            self.look_at = Deadline::after(LOOK_EVERY);
        }
        application.on_turn_end(&mut self.links);
        self.settle(application);
        Ok(())
    }

    /// Writes what waits, and ends connections that are over.
    fn settle(&mut self, application: &mut impl Application) {
        // What the application does when it is told of these is settled in the next turn.
        let mut dirty = std::mem::take(&mut self.links.dirty);
        for place in dirty.drain(..) {
            let Some(outbound) = &mut self.links.outbound[place as usize] else {
                continue;
            };
            let is_sent = !outbound.is_over && outbound.settle(&self.poller);
            if outbound.is_over {
                self.end(place, End::HungUp, application);
            } else if is_sent && std::mem::take(&mut outbound.wants_room) {
                let link = outbound.link;
                application.on_room(&mut self.links, link);
            }
        }
        dirty.append(&mut self.links.dirty);
        self.links.dirty = dirty;
    }

    /// Does what the poller has found of one connection.
    fn attend(&mut self, place: u32, ready: Ready, application: &mut impl Application) {
        let (Some(Some(inbound)), Some(Some(outbound))) = (
            self.inbound.get_mut(place as usize),
            self.links.outbound.get_mut(place as usize),
        ) else {
            return;
        };
        if matches!(inbound.phase, Phase::Connecting) {
            match outbound.stream.take_error() {
                Ok(None) => {}
                Ok(Some(refused)) | Err(refused) => {
                    self.end(place, End::NotMade(refused), application);
                    return;
                }
            }
            let plan = self.links.sockets[outbound.link.socket.0].plan;
            let handshake = Handshake::start(plan.socket_type, Version::V3_1, outbound.aside());
            inbound.phase = Phase::Meeting(handshake);
            outbound.interest = Interest::ReadWrite;
            let waits = self
                .poller
                .change(&outbound.stream, place.into(), Interest::ReadWrite);
            if waits.is_err() {
                self.end(place, End::Lost, application);
                return;
            }
        }
        if ready.writable {
            self.links.soil(place);
        }
        if ready.readable
            && let Err(end) = self.read(place, application)
        {
            self.end(place, end, application);
        }
    }

    /// Reads once, and tells the application what is whole.
    fn read(
        &mut self,
        place: u32,
        application: &mut impl Application,
    ) -> std::result::Result<(), End> {
        let Self {
            inbound,
            links,
            buffer,
            dials,
            ..
        } = self;
        let (Some(Some(inbound)), Some(Some(outbound))) = (
            inbound.get_mut(place as usize),
            links.outbound.get(place as usize),
        ) else {
            return Ok(());
        };
        let found = inbound.read(&outbound.stream, buffer)?;
        if !matches!(found, Found::Nothing) {
            inbound.heard_ns = links.now_ns;
            inbound.asked_ns = None;
        }
        let own;
        let bytes = match found {
            Found::Shared(length) => &buffer[..length],
            Found::Own(bytes) => {
                own = bytes;
                &own[..]
            }
            Found::Part | Found::Nothing => return Ok(()),
        };
        let used = understand(bytes, place, inbound, links, dials, application)?;
        inbound.keep(&bytes[used..]);
        Ok(())
    }

    /// Ends a connection, and tells the application.
    fn end(&mut self, place: u32, mut end: End, application: &mut impl Application) {
        let Some(inbound) = self.inbound[place as usize].take() else {
            return;
        };
        let Some((outbound, orphaned)) = self.links.remove(place) else {
            return;
        };
        let link = outbound.link;
        let is_up = outbound.met.is_some();
        if matches!(inbound.phase, Phase::Connecting) && matches!(end, End::HandshakeTimeout) {
            end = End::NotMade(std::io::ErrorKind::TimedOut.into());
        }
        if !matches!(end, End::Lost | End::NotMade(_)) {
            self.links.count(link.socket).rejected += 1;
        }
        let mut endpoint = None;
        if let Some(index) = inbound.dial {
            let dial = &mut self.dials[index];
            dial.state = DialState::Waiting(dial.backoff.failed());
            endpoint = Some(index);
        }
        // Closed before the application hears of it.
        drop(outbound);
        if is_up {
            application.on_close(&mut self.links, link, &end, &orphaned);
            return;
        }
        match endpoint {
            None => application.on_refused(link.socket, None, &end),
            Some(index) if !self.dials[index].is_told => {
                self.dials[index].is_told = true;
                application.on_refused(link.socket, Some(&self.dials[index].text), &end);
            }
            Some(_) => {}
        }
    }

    fn accept(&mut self, index: usize) {
        loop {
            let bound = &mut self.bound[index];
            let socket = bound.socket;
            match bound.listener.accept() {
                Ok(Some(stream)) => {
                    let plan = self.links.sockets[socket.0].plan;
                    let begun = self.take_in(socket, stream, None, |out| {
                        let version = Version::V3_1;
                        Phase::Meeting(match plan.or {
                            None => Handshake::start(plan.socket_type, version, out),
                            Some(or) => Handshake::start_either(plan.socket_type, or, version, out),
                        })
                    });
                    // Dropping the stream has hung up.
                    if !begun {
                        self.links.count(socket).rejected += 1;
                    }
                }
                Ok(None) => return,
                Err(_) => {
                    // Perhaps the process has too many files open, and would be told so again and again.
                    if self.poller.remove(bound.listener.socket()).is_ok() {
                        bound.rests = Some(Deadline::after(REST));
                    }
                    return;
                }
            }
        }
    }

    /// Takes in a connection. Returns whether there was room for it.
    fn take_in(
        &mut self,
        socket: SocketId,
        stream: socket2::Socket,
        dial: Option<usize>,
        begin: impl FnOnce(&mut Vec<u8>) -> Phase,
    ) -> bool {
        let place = match self.inbound.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.inbound.len() < LINKS_MAX => {
                self.inbound.push(None);
                self.links.outbound.push(None);
                self.inbound.len() - 1
            }
            None => return false,
        };
        let mut out = Vec::new();
        let phase = begin(&mut out);
        let interest = if matches!(phase, Phase::Connecting) {
            Interest::Write
        } else {
            Interest::ReadWrite
        };
        if self.poller.add(&stream, place as u64, interest).is_err() {
            return false;
        }
        let mut inbound = Inbound::new(phase, dial, Deadline::after(HANDSHAKE_LIMIT));
        inbound.heard_ns = self.clock.now_ns();
        self.inbound[place] = Some(inbound);
        self.links.add(place as u32, socket, stream, interest);
        if let Some(outbound) = &mut self.links.outbound[place] {
            outbound.aside().extend_from_slice(&out);
        }
        true
    }

    /// Makes the connections that are due.
    fn dial(&mut self, application: &mut impl Application) {
        while let Some((index, addresses)) = self.resolver.as_ref().and_then(Resolver::answer) {
            self.connect_to(index, addresses, application);
        }
        for index in 0..self.dials.len() {
            let dial = &mut self.dials[index];
            if !matches!(dial.state, DialState::Waiting(due) if due.passed()) {
                continue;
            }
            match &self.resolver {
                Some(resolver) if dial.endpoint.has_name() => {
                    dial.state = DialState::Asking;
                    resolver.ask(index, &dial.endpoint);
                }
                _ => {
                    let addresses = dial.endpoint.addresses();
                    self.connect_to(index, addresses, application);
                }
            }
        }
    }

    fn connect_to(
        &mut self,
        index: usize,
        addresses: std::io::Result<Vec<socket2::SockAddr>>,
        application: &mut impl Application,
    ) {
        let dial = &mut self.dials[index];
        let socket = dial.socket;
        let attempt = dial.attempts;
        dial.attempts = attempt.wrapping_add(1);
        dial.state = DialState::Connected;
        let begun = addresses.and_then(|addresses| {
            let address = &addresses[attempt % addresses.len()];
            let stream = begin_connect(address, &options())?;
            if self.take_in(socket, stream, Some(index), |_| Phase::Connecting) {
                Ok(())
            } else {
                Err(std::io::Error::other("there are too many connections"))
            }
        });
        if let Err(refused) = begun {
            let dial = &mut self.dials[index];
            dial.state = DialState::Waiting(dial.backoff.failed());
            if !std::mem::replace(&mut dial.is_told, true) {
                application.on_refused(socket, Some(&dial.text), &End::NotMade(refused));
            }
        }
    }

    /// Looks at what time has done.
    fn look(&mut self, application: &mut impl Application) {
        for (index, bound) in self.bound.iter_mut().enumerate() {
            let token = LISTENERS + index as u64;
            let listener = bound.listener.socket();
            if bound.rests.is_some_and(|until| until.passed())
                && self.poller.add(listener, token, Interest::Read).is_ok()
            {
                bound.rests = None;
            }
        }
        let now_ns = self.links.now_ns;
        for place in 0..self.inbound.len() {
            let (Some(inbound), Some(outbound)) =
                (&mut self.inbound[place], &mut self.links.outbound[place])
            else {
                continue;
            };
            let Some((version, _)) = outbound.met else {
                if inbound.handshake_by.passed() {
                    self.end(place as u32, End::HandshakeTimeout, application);
                }
                continue;
            };
            let silent_ns = now_ns.saturating_sub(inbound.heard_ns);
            // Counted from the question: this side may have been late to ask.
            let is_dead = inbound.silence_ns_max > 0 && silent_ns > inbound.silence_ns_max
                || inbound
                    .asked_ns
                    .is_some_and(|asked_ns| now_ns.saturating_sub(asked_ns) > HEARTBEAT_NS_MAX);
            if is_dead {
                self.end(place as u32, End::Silent, application);
            } else if version >= Version::V3_1
                && inbound.asked_ns.is_none()
                && silent_ns > HEARTBEAT_NS
            {
                inbound.asked_ns = Some(now_ns);
                outbound.ping();
                self.links.soil(place as u32);
            }
        }
    }
}

/// Passes on what is whole of `bytes`. Returns how many of them are used.
fn understand(
    bytes: &[u8],
    place: u32,
    inbound: &mut Inbound,
    links: &mut Links,
    dials: &mut [Dial],
    application: &mut impl Application,
) -> std::result::Result<usize, End> {
    let mut used = 0;
    if let Phase::Meeting(handshake) = &mut inbound.phase {
        let Some(outbound) = &mut links.outbound[place as usize] else {
            return Ok(0);
        };
        let progress = handshake
            .advance(bytes, outbound.aside())
            .map_err(End::Violation)?;
        used = progress.consumed;
        let link = outbound.link;
        links.soil(place);
        let Some(peer) = progress.peer else {
            return Ok(used);
        };
        inbound.phase = Phase::Up(Splitter::new(links.sockets[link.socket.0].plan.limits));
        links.meet(place, peer.version, peer.met_as);
        if let Some(index) = inbound.dial {
            dials[index].backoff.connected();
            dials[index].is_told = false;
        }
        application.on_open(links, link);
    }
    let mut frames = Frames::default();
    loop {
        let Some(outbound) = &mut links.outbound[place as usize] else {
            return Ok(used);
        };
        let (link, Some((_, met_as)), Phase::Up(splitter)) =
            (outbound.link, outbound.met, &mut inbound.phase)
        else {
            return Ok(used);
        };
        if outbound.is_over {
            return Err(End::HungUp);
        }
        let publishes = matches!(met_as, SocketType::Pub | SocketType::XPub);
        let (cut, length) = splitter
            .cut(&bytes[used..], &mut frames)
            .map_err(End::Violation)?;
        let mut change = None;
        match cut {
            Cut::Need(need_bytes) => {
                inbound.need_bytes = need_bytes;
                return Ok(used);
            }
            Cut::Skipped => {}
            Cut::Oversize(..) => links.count(link.socket).oversize += 1,
            Cut::Message => {
                let frames = frames.as_slice();
                if publishes && frames.len() == 1 {
                    change = Subscription::decode_message(frames[0]);
                }
                // What an XSUB says beside its subscriptions is for an XPUB.
                if change.is_none() && met_as != SocketType::Pub {
                    links.count(link.socket).received += 1;
                    application.on_message(links, link, frames);
                }
            }
            Cut::Command(body) => match Command::decode(body).map_err(End::Violation)? {
                Command::Subscription(subscription) if publishes => change = Some(subscription),
                Command::Ping {
                    ttl_deciseconds,
                    context,
                } => {
                    inbound.silence_ns_max = u64::from(ttl_deciseconds) * SECOND_NS / 10;
                    encode_pong(outbound.aside(), context);
                    links.soil(place);
                }
                Command::Error { .. } => return Err(End::Violation(Violation::Refused)),
                _ => {}
            },
        }
        if let Some(change) = change {
            let shift = links
                .change_audience(link, change)
                .map_err(|_| End::TooManyPrefixes)?;
            application.on_subscription(links, link, change, shift);
        }
        used += length;
    }
}

fn parse(flag: &str, endpoint: &str) -> Result<Endpoint> {
    endpoint.parse().map_err(|problem: Malformed| {
        Error::config(flag, endpoint.escape_debug(), problem.0, REMEDY)
    })
}

/// Hears nothing.
struct Deaf;

impl Application for Deaf {
    fn on_message(&mut self, _links: &mut Links, _link: Link, _frames: &[&[u8]]) {}
}

#[cfg(test)]
mod tests;
