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

mod application;
mod audience;
mod dial;
mod end;
mod inbound;
mod links;
mod outbox;
mod waker;

use std::time::Duration;

use crate::{
    clock::{Clock, Deadline, SECOND_NS},
    error::{Error, Result},
    net::{Endpoint, Interest, Listener, Malformed, Poller, Ready, Resolver, SocketOptions},
    stop::Stop,
    zmtp::{Handshake, SocketType, Version},
};
pub use application::Application;
pub use audience::{Audience, Shift, TooMany};
use dial::Dial;
pub use end::End;
use inbound::{Found, Inbound, Phase};
use links::Removed;
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
/// The silence after which a peer is asked for a sign of life.
const HEARTBEAT_NS: u64 = SECOND_NS;
/// How long it may take to give one. A peer that takes a while over what lies in the kernel is alive.
const HEARTBEAT_NS_MAX: u64 = 5 * SECOND_NS;
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

/// A listener, and until when it rests, after the kernel refused a connection.
#[derive(Debug)]
struct Bound {
    socket: SocketId,
    listener: Listener,
    rests: Option<Deadline>,
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
        self.dials.push(Dial::new(socket, endpoint, parsed));
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
                let end = if outbound.is_broken {
                    End::Lost
                } else {
                    End::HungUp
                };
                self.end(place, end, application);
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
        let used = inbound.understand(bytes, place, links, dials, application)?;
        inbound.keep(&bytes[used..]);
        Ok(())
    }

    /// Ends a connection, and tells the application.
    fn end(&mut self, place: u32, mut end: End, application: &mut impl Application) {
        let Some(inbound) = self.inbound[place as usize].take() else {
            return;
        };
        let Some(Removed {
            outbound,
            orphaned,
            given_up,
        }) = self.links.remove(place)
        else {
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
        // Closed before the application hears of it.
        drop(outbound);
        let dial = inbound.dial.map(|index| &mut self.dials[index]);
        let is_news = dial.map(Dial::failed);
        if is_up {
            if given_up > 0 {
                application.on_given_up(link, given_up);
            }
            application.on_close(&mut self.links, link, &end, &orphaned);
            return;
        }
        match (inbound.dial, is_news) {
            (Some(index), Some(true)) => {
                self.dials[index].told();
                application.on_refused(link.socket, Some(&self.dials[index].text), &end);
            }
            (Some(_), _) => {}
            (None, _) => application.on_refused(link.socket, None, &end),
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
            if dial.is_due()
                && let Some(addresses) = dial.addresses(index, self.resolver.as_ref())
            {
                self.connect_to(index, addresses, application);
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
        let begun = dial.begin(addresses, &options()).and_then(|stream| {
            if self.take_in(socket, stream, Some(index), |_| Phase::Connecting) {
                Ok(())
            } else {
                Err(std::io::Error::other("there are too many connections"))
            }
        });
        if let Err(refused) = begun {
            let dial = &mut self.dials[index];
            if dial.failed() {
                dial.told();
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
            let Some((version, met_as)) = outbound.met else {
                if inbound.handshake_by.passed() {
                    self.end(place as u32, End::HandshakeTimeout, application);
                }
                continue;
            };
            if outbound.is_waiting() {
                // It has not come to what was asked.
                inbound.asked_ns = None;
                continue;
            }
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
                && hears(met_as)
            {
                inbound.asked_ns = Some(now_ns);
                outbound.ping();
                self.links.soil(place as u32);
            }
        }
    }
}

/// Tells whether a peer of such a socket is to answer heartbeats. One that only receives may leave unread what it
/// has no room for, heartbeats with it; the kernel finds hosts that are gone.
fn hears(met_as: SocketType) -> bool {
    !matches!(
        met_as,
        SocketType::Pub | SocketType::XPub | SocketType::Push
    )
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
