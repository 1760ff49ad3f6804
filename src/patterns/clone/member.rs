//! A client with sockets: for each server a DEALER for snapshots, a SUB for what is published, and a PUSH or PUB
//! for its own updates. All servers are connected to from the beginning.

mod edge;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    clock::{Clock, wall_ns},
    error::{Error, Result},
    patterns::{
        clone::{
            Now,
            client::{Counters, Fate, Machine, Wishes},
            serve::beside,
            state::{Key, Update, Value},
        },
        kvmsg::{Form, HUGZ, KeyValue, Uuid, with_ttl},
        reactor::{Reactor, SocketPlan},
    },
    random,
    zmtp::SocketType,
};
use edge::{Edge, Sockets};

/// Bytes of a key that errors show.
const KEY_BYTES_SHOWN: usize = 80;

/// What a client sends its updates by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collector {
    /// PUSH, as in models 3 to 5.
    Push,
    /// PUB, as in model 6.
    Pub,
}

/// What a client is to be.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// The servers' first endpoints, `tcp://HOST:P`.
    pub servers: Vec<String>,
    /// What to send updates by: by default PUSH to one server, PUB to several.
    pub collector: Option<Collector>,
    /// Whether servers speak three frames or five. With three they send no heartbeats.
    pub form: Form,
    /// What it wants.
    pub wishes: Wishes,
}

impl ClientPlan {
    /// A client of these servers that follows a subtree, everything if it is empty.
    #[must_use]
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>, subtree: &[u8]) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            collector: None,
            form: Form::Five,
            wishes: Wishes {
                subtree: subtree.to_vec(),
                ..Wishes::default()
            },
        }
    }
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The state is whole, and goes on from this sequence.
    Synchronised {
        /// The server, by its place in the plan.
        server: usize,
        /// The sequence.
        sequence: u64,
    },
    /// A key is set, or, where the body is empty, deleted.
    Changed(Update),
    /// The state is not kept up to date at the moment.
    Stale,
    /// What became of an update of the client's own.
    Own {
        /// What [`Client::set`] returned.
        uuid: Uuid,
        /// What became of it.
        fate: Fate,
    },
}

/// A client.
#[derive(Debug)]
pub struct Client {
    reactor: Reactor,
    edge: Edge,
    clock: Clock,
}

impl Client {
    /// Begins to connect.
    ///
    /// # Errors
    /// [`Error::Config`] where an endpoint is none.
    pub fn start(plan: &ClientPlan) -> Result<Self> {
        if plan.servers.is_empty() {
            return Err(Error::config(
                "--connect",
                "",
                "there is no server",
                "give one or two",
            ));
        }
        let clock = Clock::start();
        let mut reactor = Reactor::new(clock.clone())?;
        let is_one = plan.servers.len() == 1;
        let collector = plan.collector.unwrap_or(if is_one {
            Collector::Push
        } else {
            Collector::Pub
        });
        let mut all = Vec::new();
        for server in &plan.servers {
            let mut socket = |socket_type| reactor.socket(SocketPlan::new(socket_type));
            let sockets = Sockets {
                snapshot: socket(SocketType::Dealer),
                published: socket(SocketType::Sub),
                collector: socket(match collector {
                    Collector::Push => SocketType::Push,
                    Collector::Pub => SocketType::Pub,
                }),
            };
            let behind = |offset| beside("--connect", server, offset);
            let endpoints = [behind(0)?, behind(1)?, behind(2)?];
            for (socket, endpoint) in sockets.all().into_iter().zip(&endpoints) {
                reactor.connect(socket, endpoint)?;
            }
            let links = reactor.links();
            links.subscribe(sockets.published, &plan.wishes.subtree);
            if !plan.wishes.subtree.is_empty() {
                // Behind the subtree: the first heartbeat tells that this subscription holds.
                links.subscribe(sockets.published, HUGZ);
            }
            all.push((sockets, endpoints));
        }
        let wishes = Wishes {
            is_plain: plan.form != Form::Five,
            ..plan.wishes.clone()
        };
        let now = now(&clock);
        let machine = Machine::new(all.len(), wishes, now);
        let edge = Edge::new(machine, all, plan.form, plan.wishes.subtree.clone());
        Ok(Self {
            reactor,
            edge,
            clock,
        })
    }

    /// Waits for at most `timeout` for something to happen, and does what is to be done.
    ///
    /// # Errors
    /// [`Error::Clone`] where the state is more than the client takes.
    pub fn turn(&mut self, timeout: Duration) -> Result<()> {
        self.reactor.turn(&mut self.edge, timeout)?;
        self.edge.check()
    }

    /// Returns the next thing to be told.
    pub fn event(&mut self) -> Option<Event> {
        self.edge.event()
    }

    /// Returns the state as it was last whole.
    #[must_use]
    pub fn values(&self) -> &BTreeMap<Key, Arc<Value>> {
        self.edge.machine().values()
    }

    /// Tells whether the state is kept up to date.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.edge.machine().is_ready()
    }

    /// Tells whether the server that is followed can be sent updates. Those made before are sent again later.
    #[must_use]
    pub fn can_send(&mut self) -> bool {
        let links = self.reactor.links();
        self.edge.can_send(links)
    }

    /// Returns why the state is not kept up to date, an endpoint and a reason for each server; or why the server that is
    /// followed can't be sent updates. Nothing where neither is so.
    #[must_use]
    pub fn obstacles(&mut self) -> Vec<String> {
        let links = self.reactor.links();
        self.edge.obstacles(links)
    }

    /// Returns how many updates of its own are not known to be published.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.edge.machine().own()
    }

    /// Returns what has been counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.edge.machine().counters()
    }

    /// Sets a key, for a time or for good; an empty body deletes it. What becomes of it is told as [`Event::Own`].
    ///
    /// # Errors
    /// [`Error::Config`] where the update would be refused, as [`check_update`] tells, or the key is not below the
    /// subtree that this client follows; [`Error::Clone`] where too many updates are under way.
    pub fn set(&mut self, key: &[u8], body: &[u8], ttl: Option<Duration>) -> Result<Uuid> {
        check_update(key, body, ttl)?;
        if !key.starts_with(self.edge.subtree()) {
            let problem = "it is not below the subtree that this client follows, so nothing would be heard of it";
            return Err(refused(key, problem, "follow a subtree that it belongs to"));
        }
        let properties = properties(ttl);
        let message = update(key, body, &properties);
        let uuid = random::uuid();
        let now = now(&self.clock);
        let links = self.reactor.links();
        self.edge.make(links, message, uuid, now)?;
        Ok(uuid)
    }
}

/// Tells whether a server would take an update, as far as a client can know.
///
/// # Errors
/// [`Error::Config`] where the key or the time can't be; a time of nothing would set the key for good.
pub fn check_update(key: &[u8], body: &[u8], ttl: Option<Duration>) -> Result<()> {
    if ttl.is_some_and(|ttl| ttl.is_zero()) {
        return Err(Error::config(
            "ttl",
            "0",
            "it is no time; on the wire 0 stands for no limit, so the value would stay for good",
            "give a time above 0, or none",
        ));
    }
    let properties = properties(ttl);
    let sound = update(key, body, &properties).encode(Form::Five, |frames| {
        KeyValue::decode(frames)?.check_update()
    });
    sound.map(drop).map_err(|malformed| {
        let problem = malformed.to_string();
        refused(key, &problem, "no server would take it")
    })
}

fn refused(key: &[u8], problem: &str, remedy: &str) -> Error {
    let shown = String::from_utf8_lossy(&key[..key.len().min(KEY_BYTES_SHOWN)]);
    Error::config("key", shown.escape_debug(), problem, remedy)
}

fn properties(ttl: Option<Duration>) -> Vec<u8> {
    ttl.map_or_else(Vec::new, |ttl| with_ttl(b"", ttl))
}

fn update<'a>(key: &'a [u8], body: &'a [u8], properties: &'a [u8]) -> KeyValue<'a> {
    KeyValue {
        key,
        sequence: 0,
        uuid: None,
        properties,
        body,
    }
}

fn now(clock: &Clock) -> Now {
    Now {
        ns: clock.now_ns(),
        wall_ns: wall_ns(),
    }
}
