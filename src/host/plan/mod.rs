//! Which thread goes to which core, how many threads there are to be, and at what rate they break: from the
//! machine's shape, its network cards, and what a message costs.
//!
//! Everything here is arithmetic on what was read and measured elsewhere. Rates are messages a second, costs
//! nanoseconds of CPU time a message, loads parts of a core, and shares parts of all messages.

mod load;
mod map;
mod place;

pub(crate) use load::cores_of;
pub use load::{Balance, Costs, Traffic};
pub use map::Map;
pub use place::{Placed, Spot, Thread, place};

use serde::Serialize;

use crate::{
    host::machine::Machine,
    shard::{Override, SHARDS, ShardTable},
};

/// A busy thread is planned for no more than this part of a core: bursts and the system need the rest.
pub const LOAD_MAX: f64 = 0.7;
/// How long a worker may be held up before its lanes have no batch left, in seconds.
const HELD_UP_S: f64 = 0.05;
/// The fewest batches of a handoff that are proposed, as many as it has by default, and the most.
const BATCHES: (usize, usize) = (128, 256);

/// What is to be received, and by what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Demand {
    /// A lane each: its name, and the card it is tied to.
    pub lanes: Vec<(String, Option<String>)>,
    /// The number of workers; as many as it takes, if none is given.
    pub workers: Option<usize>,
    /// What comes.
    pub traffic: Traffic,
    /// What a message costs here.
    pub costs: Costs,
    /// The number of messages at which a batch is full.
    pub batch_messages: usize,
    /// Topics that one worker gets, whatever its shards.
    #[serde(skip)]
    pub overrides: Vec<Override>,
    /// Whether workers get batches in turn, whatever their topics.
    pub in_turn: bool,
    /// Whether shards move to other workers in any case.
    pub rebalance: bool,
    /// Whether shards may: not where a worker that fails is isolated.
    pub may_rebalance: bool,
}

/// A plan. Threads are lanes, then workers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What was asked for.
    pub demand: Demand,
    /// The threads, with their cores.
    pub threads: Vec<Placed>,
    /// The part of all messages that each worker gets.
    pub balance: Balance,
    /// The number of batches from each lane to each worker.
    pub batches: usize,
    /// How long the busiest worker may be held up before one of its lanes has none left, in seconds.
    pub holds_s: f64,
    /// The rate at which the first thread or core has no time left.
    pub breaks_at: f64,
    /// What that is.
    pub breaks_by: String,
    /// What is not as it should be, and what to do about it.
    pub concerns: Vec<String>,
}

/// Plans.
#[must_use]
pub fn plan(machine: &Machine, demand: Demand) -> Plan {
    let mut concerns = Vec::new();
    let workers = workers(machine, &demand, &mut concerns);
    let balance = Balance::of(&demand, workers);
    let lanes = demand.lanes.len();
    let threads: Vec<Thread> = (demand.lanes.iter())
        .map(|(name, nic)| Thread::Lane {
            name: format!("lane-{name}"),
            nic: nic.clone(),
        })
        .chain((0..workers).map(|worker| Thread::Worker {
            name: format!("worker-{worker}"),
        }))
        .collect();
    let mut threads = place(machine, &threads);
    let costs = demand.costs;
    let worker_shares = &balance.settled;
    let shares = std::iter::repeat_n(1.0 / lanes as f64, lanes).map(|share| share * costs.lane_ns);
    let shares = shares.chain(worker_shares.iter().map(|share| share * costs.worker_ns));
    for (thread, ns) in threads.iter_mut().zip(shares) {
        thread.ns_per_message = ns;
        thread.load = ns * demand.traffic.rate / 1e9;
    }
    let (breaks_at, breaks_by) = load::breaking_rate(machine, &threads, &costs);
    concerns.extend(threads.iter().filter_map(Placed::concern));
    load::concerns(&demand, &threads, (breaks_at, &breaks_by), &mut concerns);
    let way_rate = demand.traffic.rate / lanes as f64 * balance.most();
    let batches = way_rate * HELD_UP_S / demand.batch_messages as f64;
    let batches = (batches.ceil() as usize)
        .next_power_of_two()
        .clamp(BATCHES.0, BATCHES.1);
    Plan {
        holds_s: (batches * demand.batch_messages) as f64 / way_rate,
        batches,
        demand,
        threads,
        balance,
        breaks_at,
        breaks_by,
        concerns,
    }
}

/// The number of workers: as many as keep each below its load, if there are cores for them.
fn workers(machine: &Machine, demand: &Demand, concerns: &mut Vec<String>) -> usize {
    if let Some(workers) = demand.workers {
        return workers;
    }
    let busy = demand.traffic.rate * demand.costs.worker_ns / 1e9;
    let mut wanted = ((busy / LOAD_MAX).ceil() as usize).clamp(1, SHARDS);
    // Uneven topics take more, up to where one more changes nothing.
    while wanted < SHARDS {
        let most = |workers| Balance::of(demand, workers).most();
        if most(wanted) * busy <= LOAD_MAX || most(wanted + 1) > 0.99 * most(wanted) {
            break;
        }
        wanted += 1;
    }
    // One core is the system's.
    let free = place::physical_cores(machine).saturating_sub(demand.lanes.len() + 1);
    if wanted > free.max(1) {
        concerns.push(format!(
            "{wanted} workers would keep each below {:.0} % of a core, and there are cores for {}: give \
             --workers {wanted} to have them share cores",
            100.0 * LOAD_MAX,
            free.max(1)
        ));
    }
    wanted.min(free.max(1))
}

impl Plan {
    /// Returns the lanes and workers, and what goes with them, as a part of a feeds.toml.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let (lanes, workers) = self.threads.split_at(self.demand.lanes.len());
        let mut toml = String::new();
        for ((name, nic), placed) in self.demand.lanes.iter().zip(lanes) {
            toml += &format!("[[lane]]\nname = {name:?}\n");
            if let Some(core) = placed.core() {
                toml += &format!("core = {core}\n");
            }
            if let Some(nic) = nic {
                toml += &format!("nic = {nic:?}\n");
            }
            toml.push('\n');
        }
        let cores: Vec<String> = workers
            .iter()
            .filter_map(|worker| Some(worker.core()?.to_string()))
            .collect();
        toml += &format!(
            "[workers]\ncount = {}\ncores = [{}]\n\n[handoff]\nbatches = {}\n",
            workers.len(),
            cores.join(", "),
            self.batches
        );
        if self.demand.in_turn {
            toml += "\n[sharding]\nmode = \"balanced\"\n";
        } else if self.demand.rebalance || self.balance.moves > 0 {
            toml += "\n[sharding]\nrebalance = true\n";
        }
        for rule in &self.demand.overrides {
            let prefix = toml::Value::from(String::from_utf8_lossy(&rule.prefix).into_owned());
            let worker = rule.worker;
            toml += &format!("\n[[sharding.override]]\nprefix = {prefix}\nworker = {worker}\n");
        }
        toml
    }
}

/// The table that workers start with.
fn first_table(workers: usize) -> ShardTable {
    ShardTable::new(workers, Vec::new()).expect("there are as many as there may be")
}
