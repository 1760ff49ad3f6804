//! A pair of Clone servers and some clients in a simulated world: connections, disks and time.

#![allow(missing_docs)]

mod faults;
mod nodes;
mod verdict;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
};

use pinfeed::{
    patterns::{
        binary_star::{Freshness, Role, Side, Star, wire::Tidings},
        clone::{
            Now, RECENT, client,
            server::{self, Changes, Output, Restored},
            state::{Limits, Update, View},
        },
        kvmsg::{Form, HUGZ, ICANHAZ, KTHXBAI, KeyValue, Uuid, with_ttl},
    },
    random::seeded,
};
use rand::{RngExt, rngs::StdRng};

const MS: u64 = 1_000_000;
const STEP_NS: u64 = 20 * MS;
const CLIENTS: usize = 3;
const FAULTS: u32 = 5;
/// By when all have to have the same state after the last fault.
const QUIET_NS: u64 = 45_000 * MS;
/// The wall clock runs beside the other one.
const WALL_NS: u64 = 1_700_000_000_000 * MS;

type Frames = Vec<Vec<u8>>;
type ClientId = (usize, u64);

#[derive(Debug, Default)]
pub struct Totals {
    pub published: u64,
    pub takeovers: u64,
    pub preempted: u64,
    pub resent: u64,
    pub gaps: u64,
    pub duplicates: u64,
    pub pending_made: u64,
    pub expired: u64,
    pub given_up: u64,
}

impl Totals {
    pub fn add(&mut self, one: &Self) {
        self.published += one.published;
        self.takeovers += one.takeovers;
        self.preempted += one.preempted;
        self.resent += one.resent;
        self.gaps += one.gaps;
        self.duplicates += one.duplicates;
        self.pending_made += one.pending_made;
        self.expired += one.expired;
        self.given_up += one.given_up;
    }
}

/// What a connection is for. The first node named is the one that connects.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A client's, or the passive server's, for snapshots.
    Snapshot,
    /// A client's, for what is published.
    Published,
    /// A client's, for its updates.
    Collected,
    /// From the second server, the one that is followed, to the first.
    State,
}

#[derive(Debug)]
struct Connection {
    from: usize,
    to: usize,
    kind: Kind,
    /// Goes up with each connection that is made or ends.
    life: u64,
    is_up: bool,
    up_ns: u64,
    /// Whether something was asked over it, and whether something is to be asked once it is up.
    is_used: bool,
    asks: Option<Frames>,
    /// When the last message arrives, there and back.
    arrives_ns: [u64; 2],
    /// What was sent while the link is cut, if the connection outlasts that.
    stalled: Option<Vec<(bool, Frames)>>,
}

/// A message under way: when it arrives, its number, its connection with its life, and whether it goes to the node
/// that connected.
type Flight = Reverse<(u64, u64, usize, u64, bool, Frames)>;

#[derive(Debug)]
enum Heard {
    Message(usize, Frames),
    Up(usize),
    Down(usize, u64),
}

#[derive(Debug, Default)]
struct Node {
    is_dead: bool,
    is_stopped: bool,
    inbox: Vec<Heard>,
}

#[derive(Debug, Default)]
struct Disk {
    values: BTreeMap<Vec<u8>, (Update, Option<u64>)>,
    recent: BTreeMap<u64, Uuid>,
    state: Freshness,
}

impl Disk {
    fn commit(&mut self, changes: Changes, now: Now) {
        if changes.replaces {
            self.values.clear();
            self.recent.clear();
        }
        self.recent.extend(changes.recent);
        for update in changes.updates {
            if let (Some(uuid), false) = (
                update.value.uuid,
                changes.replaces && self.recent.contains_key(&update.value.sequence),
            ) {
                self.recent.insert(update.value.sequence, uuid);
            }
            if update.deletes() {
                self.values.remove(&*update.key);
            } else {
                let wall_ns = update.value.expires_ns.map(|at_ns| now.to_wall_ns(at_ns));
                self.values.insert(update.key.to_vec(), (update, wall_ns));
            }
        }
        self.state = changes.state;
    }

    fn restore(&self, now: Now) -> Restored {
        let values = self.values.values().map(|(update, wall_ns)| {
            let expires_ns = wall_ns.map(|wall_ns| now.from_wall_ns(wall_ns));
            Update::new(&update.message(), expires_ns)
        });
        Restored {
            updates: values.collect(),
            recent: self.recent.iter().map(|(at, uuid)| (*at, *uuid)).collect(),
            state: self.state,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Death {
    BeforeCommit,
    AfterCommit,
}

/// An update as it was told: its sequence, its uuid, and whether it deletes.
type Told = (u64, Option<Uuid>, bool);

pub struct World {
    random: StdRng,
    tells: bool,
    preempts: bool,
    now_ns: u64,
    nodes: Vec<Node>,
    servers: [server::Machine<ClientId>; 2],
    disks: [Disk; 2],
    deaths: [Option<Death>; 2],
    clients: Vec<client::Machine>,
    connections: Vec<Connection>,
    cuts: Vec<(usize, usize)>,
    flights: BinaryHeap<Flight>,
    messages: u64,
    uuids: u64,
    /// The chance in a hundred that what is published or collected is dropped.
    loss: u32,
    /// What clients were told, by sequence: no sequence is two updates.
    by_sequence: HashMap<u64, (Vec<u8>, Option<Uuid>)>,
    by_uuid: HashMap<Uuid, u64>,
    /// The newest that any client was told, by key.
    newest: HashMap<Vec<u8>, Told>,
    /// Deletions that servers made, by key.
    deletions: HashMap<Vec<u8>, u64>,
    was_active: [bool; 2],
    accepted: [u64; 2],
    totals: Totals,
}

fn server_machine(side: usize, preempts: bool, disk: &Disk, now: Now) -> server::Machine<ClientId> {
    let side = if side == 0 {
        Side::Primary
    } else {
        Side::Backup
    };
    let star = Star::new(side, preempts, now.wall_ns, now.ns);
    server::Machine::new(&disk.restore(now), Limits::default(), Some(star), now)
}

impl World {
    /// Begins. In every other world the primary wants to be active again when it comes back.
    pub fn new(seed: u64, tells: bool) -> Self {
        let preempts = seed % 2 == 1;
        let now = Now {
            ns: 0,
            wall_ns: WALL_NS,
        };
        let disks = [Disk::default(), Disk::default()];
        let servers = [0, 1].map(|side| server_machine(side, preempts, &disks[side], now));
        let mut connections = Vec::new();
        let mut connect = |from, to, kind| {
            connections.push(Connection {
                from,
                to,
                kind,
                life: 0,
                is_up: false,
                up_ns: 0,
                is_used: false,
                asks: None,
                arrives_ns: [0; 2],
                stalled: None,
            });
        };
        for (from, to) in [(0, 1), (1, 0)] {
            connect(from, to, Kind::Snapshot);
            connect(from, to, Kind::State);
        }
        for from in 2..2 + CLIENTS {
            for to in [0, 1] {
                for kind in [Kind::Snapshot, Kind::Published, Kind::Collected] {
                    connect(from, to, kind);
                }
            }
        }
        let mut random = seeded(seed);
        let mut world = Self {
            tells,
            preempts,
            now_ns: 0,
            nodes: (0..2 + CLIENTS).map(|_| Node::default()).collect(),
            servers,
            disks,
            deaths: [None; 2],
            clients: Vec::new(),
            connections,
            cuts: Vec::new(),
            flights: BinaryHeap::new(),
            messages: 0,
            uuids: 0,
            loss: 0,
            by_sequence: HashMap::new(),
            by_uuid: HashMap::new(),
            newest: HashMap::new(),
            deletions: HashMap::new(),
            was_active: [false; 2],
            accepted: [0; 2],
            totals: Totals::default(),
            random: seeded(random.random()),
        };
        for _ in 0..CLIENTS {
            let client = world.new_client();
            world.clients.push(client);
        }
        world
    }

    fn new_client(&mut self) -> client::Machine {
        let wishes = client::Wishes::default();
        client::Machine::new(2, wishes, self.now())
    }

    fn now(&self) -> Now {
        Now {
            ns: self.now_ns,
            wall_ns: WALL_NS + self.now_ns,
        }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{:9.3} {}", self.now_ns as f64 / 1e9, what());
        }
    }

    fn chance(&mut self, of_hundred: u32) -> bool {
        self.random.random_range(0..100) < of_hundred
    }

    fn between(&mut self, from_ms: u64, to_ms: u64) -> u64 {
        self.random.random_range(from_ms..=to_ms) * MS
    }

    /// Runs to the end; fails with what should not have been.
    pub fn run(mut self) -> Result<Totals, String> {
        let mut faults = 0;
        let mut next_fault_ns = self.between(4_000, 6_000);
        let mut heal_ns = None;
        let mut quiet_since_ns = None;
        loop {
            self.now_ns += STEP_NS;
            self.carry();
            if let Some(at_ns) = heal_ns
                && self.now_ns >= at_ns
            {
                self.heal();
                heal_ns = None;
                next_fault_ns = self.now_ns + self.between(1_000, 3_000);
            }
            if heal_ns.is_none()
                && self.now_ns >= next_fault_ns
                && faults < FAULTS
                && self.is_in_step()
            {
                heal_ns = Some(self.now_ns + self.fault());
                faults += 1;
            }
            let is_quiet = faults == FAULTS && heal_ns.is_none();
            let since_ns = quiet_since_ns.get_or_insert(self.now_ns);
            if !is_quiet {
                *since_ns = self.now_ns;
            }
            let quiet_ns = self.now_ns - *since_ns;
            if quiet_ns < 1_000 * MS {
                self.make_updates();
            }
            for server in 0..2 {
                self.server_turn(server)?;
            }
            for client in 0..CLIENTS {
                self.client_turn(client)?;
            }
            self.check_roles()?;
            if quiet_ns > 5_000 * MS && self.difference().is_none() {
                self.check_end()?;
                return Ok(self.finish());
            }
            if quiet_ns > QUIET_NS {
                return Err(format!(
                    "not the same state: {}",
                    self.difference().unwrap_or_default()
                ));
            }
            if self.now_ns > 400_000 * MS {
                return Err("the servers never came in step".to_owned());
            }
        }
    }

    fn finish(mut self) -> Totals {
        for machine in &self.servers {
            let counters = machine.counters();
            self.totals.duplicates += counters.duplicate;
            self.totals.expired += counters.expired;
        }
        for machine in &self.clients {
            let counters = machine.counters();
            self.totals.resent += counters.resent;
            self.totals.gaps += counters.gaps;
            self.totals.published += counters.published;
        }
        self.totals
    }
    /// Has clients make updates: keys of their own, keys of all, deletions, some that expire.
    fn make_updates(&mut self) {
        for client in 0..CLIENTS {
            if self.nodes[2 + client].is_dead || !self.chance(8) {
                continue;
            }
            let number = self.random.random_range(0..4);
            let key = if self.chance(50) {
                format!("/own/{client}/{number}")
            } else {
                format!("/all/{number}")
            };
            let is_deletion = self.chance(15);
            let properties = if self.chance(15) { "ttl=1.5\n" } else { "" };
            self.uuids += 1;
            let uuid = (u128::from(self.uuids) << 8 | 1).to_be_bytes();
            let body = format!("{}", self.uuids);
            let message = KeyValue {
                key: key.as_bytes(),
                sequence: 0,
                uuid: None,
                properties: properties.as_bytes(),
                body: if is_deletion { b"" } else { body.as_bytes() },
            };
            let now = self.now();
            // Too many are under way when no server answers for long.
            let _ = self.clients[client].make(message, uuid, now);
        }
    }
}

fn bare(key: &[u8], sequence: u64) -> KeyValue<'_> {
    KeyValue {
        key,
        sequence,
        uuid: None,
        properties: b"",
        body: b"",
    }
}

fn owned(message: &KeyValue<'_>) -> Frames {
    message.encode(Form::Five, |frames| {
        frames.iter().map(|one| one.to_vec()).collect()
    })
}
