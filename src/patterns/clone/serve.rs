//! A server with sockets and a store: on port P a ROUTER answers requests for snapshots, on P+1 a PUB publishes, on P+2
//! updates are collected from PUSH and PUB alike, and of a pair a PUB on P+3 tells the peer.
//!
//! Snapshots leave in pieces, as connections drain, while updates go on. A subscriber that does not keep up is hung
//! up on as soon as anything would be missing, so that it connects again and takes a snapshot.

mod edge;
mod hearing;

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
use hearing::Hearing;

/// What its ports follow from, as errors name it.
const FLAG: &str = "--endpoint";
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
    /// Of a pair, whether each server has what the other one has, as far as this one knows.
    pub in_step: Option<bool>,
}

/// Where a server is bound, with the ports that a wildcard was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Snapshots, on P.
    pub snapshots: String,
    /// Updates out, on P+1.
    pub updates_out: String,
    /// Updates in, on P+2.
    pub updates_in: String,
    /// Of a pair, what the other server is told, on P+3.
    pub peer: Option<String>,
}

/// What changes while a server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Its role within the pair.
    Role(Role),
    /// Whether each of the two servers has what the other one has.
    Step {
        /// The role of this server.
        role: Role,
        /// Whether they are in step.
        in_step: bool,
    },
    /// Nothing has come of the other server for some time.
    Unheard {
        /// For how long, in seconds.
        for_s: u64,
        /// What stands in the way: an endpoint of it and a reason.
        obstacle: String,
    },
    /// The other server is heard of, after that it was not.
    Heard,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    reactor: Reactor,
    edge: Edge,
    bound: Bound,
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
        let (mut reactor, sockets, bound) = bind(plan, &clock)?;
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
        let mut hearing = None;
        if let Some(pair) = &plan.pair {
            let peer = |offset| beside("--peer", &pair.peer, offset);
            let endpoints = [peer(0)?, peer(3)?];
            reactor.connect(sockets.peer_snapshot, &endpoints[0])?;
            reactor.connect(sockets.peer_state, &endpoints[1])?;
            hearing = Some(Hearing::new(endpoints, now.ns));
        }
        let links = reactor.links();
        links.subscribe(sockets.collector, b"");
        links.subscribe(sockets.peer_state, b"");
        let edge = Edge::new(machine, store, sockets, hearing, plan.form, clock);
        Ok(Self {
            reactor,
            edge,
            bound,
        })
    }

    /// Returns its first endpoint, with the port that a wildcard was given.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.bound.snapshots
    }

    /// Returns all endpoints that it is bound to.
    #[must_use]
    pub fn bound(&self) -> &Bound {
        &self.bound
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
fn bind(plan: &ServerPlan, clock: &Clock) -> Result<(Reactor, Sockets, Bound)> {
    let is_wildcard = matches!(parse(FLAG, &plan.endpoint)?, Endpoint::Tcp { port: 0, .. });
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

fn try_bind(plan: &ServerPlan, clock: &Clock) -> Result<(Reactor, Sockets, Bound)> {
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
    let mut bind = |socket, endpoint: &str, what: &str| {
        let bound = reactor.bind(socket, endpoint);
        bound.map_err(|refused| unbound(&plan.endpoint, endpoint, what, refused))
    };
    let snapshots = bind(sockets.snapshot, &plan.endpoint, "P, snapshots")?;
    let behind = |offset| beside(FLAG, &snapshots, offset);
    let updates_out = bind(sockets.publisher, &behind(1)?, "P+1, updates out")?;
    let updates_in = bind(sockets.collector, &behind(2)?, "P+2, updates in")?;
    let peer = match plan.pair {
        Some(_) => Some(bind(sockets.state, &behind(3)?, "P+3, the other server")?),
        None => None,
    };
    let bound = Bound {
        snapshots,
        updates_out,
        updates_in,
        peer,
    };
    Ok((reactor, sockets, bound))
}

/// Says which of the ports it is that can't be bound, of the flag that they follow from.
fn unbound(first: &str, endpoint: &str, what: &str, refused: Error) -> Error {
    match refused {
        Error::Config { problem, .. } => {
            let port = endpoint.rsplit_once(':').map_or("", |(_, port)| port);
            let problem = format!("port {port} ({what}): {problem}");
            Error::config(
                FLAG,
                first.escape_debug(),
                problem,
                "give a P whose ports behind it are free as well: P to P+2, of a pair to P+3",
            )
        }
        other => other,
    }
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
