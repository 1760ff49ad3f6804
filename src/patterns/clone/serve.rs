//! A server with sockets and a store: on port P a ROUTER answers requests for snapshots, on P+1 a PUB publishes, on P+2
//! updates are collected from PUSH and PUB alike, and of a pair a PUB on P+3 tells the peer.
//!
//! Snapshots leave in pieces, as connections drain, while updates go on. A subscriber that does not keep up is hung
//! up on as soon as anything would be missing, so that it connects again and takes a snapshot.

mod edge;

use std::{path::PathBuf, time::Duration};

use crate::{
    clock::{Clock, wall_ns},
    error::{Error, Result},
    net::{Endpoint, Host},
    patterns::{
        binary_star::{Role, Side, Star},
        clone::{
            Now,
            server::{Counters, Machine, Restored},
            state::Limits,
            store::Store,
        },
        kvmsg::Form,
        reactor::{Reactor, SocketPlan},
    },
    stop::Stop,
    zmtp::SocketType,
};
use edge::{Edge, SUBSCRIBER_WAITING_BYTES_MAX, Sockets};

/// How often a wildcard port is tried until those behind it are free as well.
const PORT_ATTEMPTS: usize = 100;
/// How long what is under way may take to leave in the end.
const DRAIN: Duration = Duration::from_millis(500);

/// How a server is to be one of a pair.
#[derive(Clone, Debug)]
pub struct PairPlan {
    /// Which one it is.
    pub side: Side,
    /// The peer's first endpoint, `tcp://HOST:P`.
    pub peer: String,
    /// Whether the primary becomes active again by itself.
    pub preempts: bool,
}

/// What a server is to be.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    /// Its first endpoint, `tcp://HOST:P`; `*` for any port.
    pub endpoint: String,
    /// Where to keep the state; in memory only, if nowhere.
    pub store: Option<PathBuf>,
    /// Whether it sends three frames or five.
    pub form: Form,
    /// What the state may hold.
    pub limits: Limits,
    /// Its part of a pair.
    pub pair: Option<PairPlan>,
}

impl ServerPlan {
    /// A server on its own, in memory, with five frames.
    #[must_use]
    pub fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            store: None,
            form: Form::Five,
            limits: Limits::default(),
            pair: None,
        }
    }
}

/// What a server has done.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// What became of updates and requests.
    pub counters: Counters,
    /// The number of keys.
    pub keys: usize,
    /// The sequence of the last update.
    pub sequence: u64,
    /// Subscribers that were hung up on because they did not keep up.
    pub slow_subscribers: u64,
    /// Messages of a peer that are none.
    pub malformed_peer: u64,
    /// Its role.
    pub role: Role,
}

/// What changes while a server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Its role within the pair.
    Role(Role),
    /// It is passive, and has got the active server's state.
    InStep,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    reactor: Reactor,
    edge: Edge,
    endpoint: String,
}

impl Server {
    /// Binds its sockets and reads its store.
    ///
    /// # Errors
    /// [`Error::Config`] where an endpoint or the store can't be used.
    pub fn start(plan: &ServerPlan) -> Result<Self> {
        if plan.pair.is_some() && plan.form != Form::Five {
            return Err(Error::config(
                "--three-frames",
                "true",
                "a pair of servers tells updates apart by their uuids, which three frames lack",
                "leave out --three-frames, or --primary and --backup",
            ));
        }
        let clock = Clock::start();
        let (mut reactor, sockets, endpoint) = bind(plan, &clock)?;
        let now = Now {
            ns: clock.now_ns(),
            wall_ns: wall_ns(),
        };
        let (store, restored) = match &plan.store {
            Some(path) => {
                let (store, restored) = Store::open(path, now)?;
                (Some(store), restored)
            }
            None => (None, Restored::default()),
        };
        let star = plan
            .pair
            .as_ref()
            .map(|pair| Star::new(pair.side, pair.preempts, now.wall_ns, now.ns));
        let machine = Machine::new(&restored, plan.limits, star, now);
        if let Some(pair) = &plan.pair {
            reactor.connect(sockets.peer_snapshot, &beside("--peer", &pair.peer, 0)?)?;
            reactor.connect(sockets.peer_state, &beside("--peer", &pair.peer, 3)?)?;
        }
        let links = reactor.links();
        links.subscribe(sockets.collector, b"");
        links.subscribe(sockets.peer_state, b"");
        let edge = Edge::new(machine, store, sockets, plan.form, clock);
        Ok(Self {
            reactor,
            edge,
            endpoint,
        })
    }

    /// Returns its first endpoint, with the port that a wildcard was given.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Serves until `stop` is requested. `told` hears of what changes.
    ///
    /// # Errors
    /// [`Error::Store`] where the store can't be written, [`Error::Clone`] where it can't go on with its peer.
    pub fn run(&mut self, stop: &Stop, mut told: impl FnMut(News)) -> Result<Summary> {
        while !stop.requested() {
            self.reactor
                .turn(&mut self.edge, Duration::from_millis(50))?;
            for news in self.edge.take_news() {
                told(news);
            }
            if let Some(failure) = self.edge.take_failure() {
                return Err(failure);
            }
        }
        self.reactor.drain(DRAIN)?;
        Ok(self.edge.summary())
    }
}

/// Binds all sockets; where the port is a wildcard, to four ports in a row that are free.
fn bind(plan: &ServerPlan, clock: &Clock) -> Result<(Reactor, Sockets, String)> {
    let is_wildcard = matches!(
        parse("--endpoint", &plan.endpoint)?,
        Endpoint::Tcp { port: 0, .. }
    );
    let attempts = if is_wildcard { PORT_ATTEMPTS } else { 1 };
    let mut refused = None;
    for _ in 0..attempts {
        match try_bind(plan, clock) {
            Err(failure) => refused = Some(failure),
            bound => return bound,
        }
    }
    Err(refused.unwrap_or(Error::Stopped))
}

fn try_bind(plan: &ServerPlan, clock: &Clock) -> Result<(Reactor, Sockets, String)> {
    let mut reactor = Reactor::new(clock.clone())?;
    let mut socket = |socket_type| reactor.socket(SocketPlan::new(socket_type));
    let sockets = Sockets {
        snapshot: socket(SocketType::Router),
        state: socket(SocketType::Pub),
        peer_state: socket(SocketType::Sub),
        peer_snapshot: socket(SocketType::Dealer),
        publisher: reactor.socket(SocketPlan {
            waiting_bytes_max: SUBSCRIBER_WAITING_BYTES_MAX,
            ..SocketPlan::new(SocketType::Pub)
        }),
        collector: reactor.socket(SocketPlan {
            or: Some(SocketType::Sub),
            ..SocketPlan::new(SocketType::Pull)
        }),
    };
    let first = reactor.bind(sockets.snapshot, &plan.endpoint)?;
    let ports = [
        (sockets.publisher, 1),
        (sockets.collector, 2),
        (sockets.state, 3),
    ];
    let ports_used = if plan.pair.is_some() { 3 } else { 2 };
    for (socket, offset) in &ports[..ports_used] {
        reactor.bind(*socket, &beside("--endpoint", &first, *offset)?)?;
    }
    Ok((reactor, sockets, first))
}

fn parse(flag: &str, endpoint: &str) -> Result<Endpoint> {
    endpoint.parse().map_err(|problem: crate::net::Malformed| {
        let remedy = "give an endpoint like tcp://127.0.0.1:5556";
        Error::config(flag, endpoint.escape_debug(), problem.0, remedy)
    })
}

/// Returns the endpoint `offset` ports behind another one.
pub(super) fn beside(flag: &str, endpoint: &str, offset: u16) -> Result<String> {
    let refused = |problem: &str| {
        let remedy =
            "give an endpoint like tcp://127.0.0.1:5556; the ports behind it are used as well";
        Error::config(flag, endpoint.escape_debug(), problem, remedy)
    };
    match parse(flag, endpoint)? {
        Endpoint::Ipc { .. } => Err(refused("it has no ports")),
        Endpoint::Tcp { port, host } => {
            let behind = port.checked_add(offset);
            let behind = behind.ok_or_else(|| refused("there are no ports behind it"))?;
            let text = match host {
                Host::Any => "*",
                _ => {
                    let address = endpoint.trim_start_matches("tcp://");
                    address.rsplit_once(':').map_or(address, |(host, _)| host)
                }
            };
            Ok(format!("tcp://{text}:{behind}"))
        }
    }
}
