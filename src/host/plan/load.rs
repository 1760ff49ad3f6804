//! What threads have to do, how evenly it is spread over them, and at what rate they can't.

use serde::Serialize;

use super::{Demand, LOAD_MAX, Placed, Spot, first_table};
use crate::{
    host::machine::Machine,
    shard::{SHARDS, ShardTable, even_out, shard_of, topic_hash},
};

/// Topics are counted in parts of this many for their shards to be evened out.
const PARTS: f64 = 1e6;
/// Rounds of moves that are counted on: as many as `rebalance` makes in a few seconds.
const ROUNDS: usize = 8;

/// What comes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Traffic {
    /// Messages a second.
    pub rate: f64,
    /// The busiest topic and its share, if topics are known.
    pub busiest: Option<(String, f64)>,
    /// By shard: its share.
    #[serde(skip)]
    pub by_shard: Box<[f64; SHARDS]>,
    /// By worker, up to the last one that has any: the share of topics that an override gives to it.
    #[serde(skip)]
    pub placed: Vec<f64>,
}

impl Traffic {
    /// Traffic of which only the rate is known: all shards get as much.
    #[must_use]
    pub fn even(rate: f64) -> Self {
        Self {
            rate,
            busiest: None,
            by_shard: Box::new([1.0 / SHARDS as f64; SHARDS]),
            placed: Vec::new(),
        }
    }

    /// Traffic with these messages of each topic, where topics have the overrides of `table`.
    #[must_use]
    pub fn of_topics<'a>(
        rate: f64,
        topics: impl IntoIterator<Item = (&'a [u8], u64)>,
        table: &ShardTable,
    ) -> Self {
        let (mut by_shard, mut placed) = (Box::new([0.0; SHARDS]), Vec::new());
        let (mut all, mut busiest): (f64, (&[u8], u64)) = (0.0, (b"", 0));
        for (topic, messages) in topics {
            let share = match table.override_for(topic) {
                Some(worker) => {
                    placed.resize(placed.len().max(worker + 1), 0.0);
                    &mut placed[worker]
                }
                None => &mut by_shard[shard_of(topic_hash(topic))],
            };
            *share += messages as f64;
            all += messages as f64;
            if messages > busiest.1 {
                busiest = (topic, messages);
            }
        }
        let shares = by_shard.iter_mut().chain(&mut placed);
        shares.for_each(|share| *share /= all.max(1.0));
        let name = busiest.0.escape_ascii().to_string();
        Self {
            rate,
            busiest: (busiest.1 > 0).then(|| (name, busiest.1 as f64 / all)),
            by_shard,
            placed,
        }
    }
}

/// What a message costs, in nanoseconds of CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// The lane that receives it.
    pub lane_ns: f64,
    /// The worker that handles it.
    pub worker_ns: f64,
    /// What else runs on this machine for each message: a publisher that is here as well. Mostly nothing.
    pub elsewhere_ns: f64,
    /// How busy threads and cores get at most, as a part of 1: less than that where a publisher on this machine and the
    /// lane wait for each other, as they do with long messages.
    pub busy_at_most: f64,
}

/// How evenly workers are loaded: the part of all messages that each gets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Balance {
    /// At the start.
    pub at_first: Vec<f64>,
    /// After shards have moved (`sharding.rebalance`), as far as they may and that helps.
    pub settled: Vec<f64>,
    /// The number of moves that takes.
    pub moves: usize,
}

impl Balance {
    /// Where workers get batches in turn, any worker gets any message.
    pub(super) fn of(demand: &Demand, workers: usize) -> Self {
        let traffic = &demand.traffic;
        if demand.in_turn {
            let shares = vec![1.0 / workers as f64; workers];
            return Self {
                at_first: shares.clone(),
                settled: shares,
                moves: 0,
            };
        }
        let mut table = first_table(workers);
        let mut placed = traffic.placed.clone();
        placed.resize(workers, 0.0);
        let shares = |table: &ShardTable| {
            let mut shares = placed.clone();
            for (shard, share) in traffic.by_shard.iter().enumerate() {
                shares[table.owner_of(shard)] += share;
            }
            shares
        };
        let at_first = shares(&table);
        let parts = |share: f64| (share * PARTS) as u64;
        let loads = traffic.by_shard.map(parts);
        let placed: Vec<u64> = placed.iter().copied().map(parts).collect();
        let mut moves = 0;
        let rounds = if demand.may_rebalance { ROUNDS } else { 0 };
        for _ in 0..rounds {
            let steps = even_out(&loads, &placed, &table);
            moves += steps.len();
            for step in &steps {
                table.give(step.shard, step.to);
            }
            if steps.is_empty() {
                break;
            }
        }
        Self {
            at_first,
            settled: shares(&table),
            moves,
        }
    }

    /// The largest share.
    pub(super) fn most(&self) -> f64 {
        self.settled.iter().copied().fold(0.0, f64::max)
    }
}

/// Finds the rate at which a core has no time left, and says which.
///
/// Threads with a core have that, together with what shares it; those without have what is left of all.
pub(super) fn breaking_rate(machine: &Machine, threads: &[Placed], costs: &Costs) -> (f64, String) {
    let mut bounds: Vec<(f64, String)> = Vec::new();
    for thread in threads {
        // No thread is on two cores at once.
        bounds.push((thread.ns_per_message, format!("{} is busy", thread.name())));
    }
    for core in machine.usable_cores() {
        let here = threads.iter().filter(|thread| thread.core() == Some(core));
        let (count, ns) = here.fold((0, 0.0), |(count, ns), thread| {
            (count + 1, ns + thread.ns_per_message)
        });
        if count > 1 {
            bounds.push((ns, format!("the {count} threads on core {core} are busy")));
        }
    }
    let all: f64 = threads.iter().map(|thread| thread.ns_per_message).sum();
    let cores = cores_of(machine);
    bounds.push((
        (all + costs.elsewhere_ns) / cores,
        format!("all {cores} cores are busy"),
    ));
    let (ns, by) = bounds
        .into_iter()
        .max_by(|(ns, _), (other, _)| ns.total_cmp(other))
        .unwrap_or_default();
    let by = match (100.0 * costs.busy_at_most).round() {
        100.0 => by,
        percent => format!(
            "{by}, for {percent} % of the time; then they wait for the publisher, or it for them"
        ),
    };
    (costs.busy_at_most * 1e9 / ns, by)
}

/// The cores that this process has, whole or in part.
pub(crate) fn cores_of(machine: &Machine) -> f64 {
    let usable = machine.usable_cores().len() as f64;
    let group = machine.process.control_group.as_ref().ok();
    let quota = group.and_then(|group| group.quota_cores.clone().ok().flatten());
    quota.map_or(usable, |quota| usable.min(quota))
}

pub(super) fn concerns(
    demand: &Demand,
    threads: &[Placed],
    (breaks_at, breaks_by): (f64, &str),
    concerns: &mut Vec<String>,
) {
    let rate = demand.traffic.rate;
    let busiest = demand.traffic.busiest.as_ref();
    if let Some((topic, share)) = busiest.filter(|_| !demand.in_turn) {
        let load = share * rate * demand.costs.worker_ns / 1e9;
        if load > LOAD_MAX {
            concerns.push(format!(
                "topic {topic} alone has {:.0} % of all messages, which is {load:.2} of a worker: a topic is \
                 never split, so no number of workers helps; a cheaper handler does, or a policy that gives \
                 up messages of it",
                100.0 * share
            ));
        }
    }
    if demand.traffic.busiest.is_none() && !demand.overrides.is_empty() {
        concerns.push(
            "how many messages the topics of [[sharding.override]] have is unknown, so none are counted on for \
             them: give --capture"
                .to_owned(),
        );
    }
    if breaks_at < rate {
        concerns.push(format!(
            "{rate:.0} messages a second are too many: {breaks_by}"
        ));
        return;
    }
    for thread in threads.iter().filter(|thread| thread.load > LOAD_MAX) {
        concerns.push(format!(
            "{} has {:.2} of a core to do, which leaves little for bursts{}",
            thread.name(),
            thread.load,
            match thread.spot {
                Spot::Lane => {
                    let lanes = demand.lanes.len() as f64 * thread.load / LOAD_MAX;
                    format!(": spread its publishers over {:.0} lanes", lanes.ceil())
                }
                Spot::Worker => String::new(),
            }
        ));
    }
}
