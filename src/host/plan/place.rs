//! Which core each thread gets.
//!
//! One after the other, lanes of cards whose node is known first: each gets the free core with the fewest
//! faults, the graver ones first. So what can be avoided for all of them is, where there are enough cores.

use std::fmt;

use serde::Serialize;

use crate::host::machine::{Core, Machine};

/// A thread to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thread {
    /// A lane, and its card, if it is tied to one.
    Lane {
        /// The thread's name.
        name: String,
        /// The card's name.
        nic: Option<String>,
    },
    /// A worker.
    Worker {
        /// The thread's name.
        name: String,
    },
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spot {
    /// It receives.
    Lane,
    /// It handles.
    Worker,
}

/// A thread with its core.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Placed {
    name: String,
    /// What it does.
    pub spot: Spot,
    core: Option<usize>,
    /// What is wrong with the core, the gravest first.
    pub faults: Vec<Fault>,
    /// What is right with it.
    pub merits: Vec<String>,
    /// Nanoseconds of CPU time for each message of all.
    pub ns_per_message: f64,
    /// The part of a core that it takes at the rate planned for.
    pub load: f64,
}

/// What may be wrong with a core, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// It is of another node than the lanes.
    FarFromLanes,
    /// It is the one of its node that is left to the system.
    System,
    /// It is core 0, where the kernel does most of what is its own.
    Zero,
    /// A card's interrupts come there.
    Interrupts,
    /// It is of another node than the card.
    OffNode,
    /// A busy thread has the other half of the physical core.
    BusySibling,
    /// Another busy thread has it.
    Shared,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::FarFromLanes => "not on the lanes' node",
            Self::System => "the system's core as well",
            Self::Zero => "core 0, the kernel's own",
            Self::Interrupts => "card's interrupts as well",
            Self::OffNode => "not on its card's node",
            Self::BusySibling => "a busy thread on its sibling",
            Self::Shared => "no core of its own",
        })
    }
}

impl Placed {
    /// The thread's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its core; `None` where it may run on any.
    #[must_use]
    pub fn core(&self) -> Option<usize> {
        self.core
    }

    /// Says what is wrong with its core, if that is much.
    pub(super) fn concern(&self) -> Option<String> {
        let worst = self.faults.first()?;
        let what = match worst {
            Fault::Shared => "shares its core with another busy thread: there are too few",
            Fault::BusySibling => {
                "is on a sibling of a core with a busy thread: there are too few physical cores"
            }
            Fault::OffNode => "is not on its card's node: there is no core left there",
            Fault::Interrupts => {
                "is on a core that a card's interrupts come to: tuning/irq-affinity moves them"
            }
            Fault::Zero | Fault::System | Fault::FarFromLanes => return None,
        };
        Some(format!("{} {what}", self.name))
    }
}

/// What is known of the machine and what was placed already.
struct Board<'a> {
    machine: &'a Machine,
    usable: Vec<usize>,
    /// The cores left to the system: the first of each node.
    system: Vec<usize>,
    interrupts: Vec<usize>,
    isolated: Vec<usize>,
    taken: Vec<usize>,
    /// The nodes of lanes.
    lane_nodes: Vec<usize>,
}

/// Places threads. Where there are fewer cores than threads, and workers could not have their own, those
/// that are left over run anywhere.
#[must_use]
pub fn place(machine: &Machine, threads: &[Thread]) -> Vec<Placed> {
    let mut board = Board::new(machine);
    let node_of = |thread: &Thread| match thread {
        Thread::Lane { nic: Some(nic), .. } => machine.nic(nic).and_then(|nic| nic.node),
        _ => None,
    };
    let mut order: Vec<usize> = (0..threads.len()).collect();
    order.sort_by_key(|&index| {
        let thread = &threads[index];
        let is_worker = matches!(thread, Thread::Worker { .. });
        (is_worker, node_of(thread).is_none())
    });
    let mut placed: Vec<Option<Placed>> = threads.iter().map(|_| None).collect();
    // A lane that finds no good core on its card's node waits for those that do.
    let (lanes, others): (Vec<usize>, Vec<usize>) =
        (order.into_iter()).partition(|&index| node_of(&threads[index]).is_some());
    let mut late = Vec::new();
    for index in lanes {
        let thread = &threads[index];
        if board.is_well_off(node_of(thread)) {
            placed[index] = Some(board.put(thread, node_of(thread)));
        } else {
            late.push(index);
        }
    }
    for index in late.into_iter().chain(others) {
        let thread = &threads[index];
        placed[index] = Some(board.put(thread, node_of(thread)));
    }
    placed.into_iter().flatten().collect()
}

/// The number of physical cores that this process may use.
pub(super) fn physical_cores(machine: &Machine) -> usize {
    let usable = machine.usable_cores();
    let mut first: Vec<usize> = usable
        .iter()
        .filter_map(|&core| physical(machine.core(core)?))
        .collect();
    first.sort_unstable();
    first.dedup();
    first.len()
}

/// A core's physical core, by the first of its siblings.
fn physical(core: &Core) -> Option<usize> {
    core.siblings.first().copied().or(Some(core.core))
}

impl<'a> Board<'a> {
    fn new(machine: &'a Machine) -> Self {
        let usable = machine.usable_cores();
        let mut system: Vec<usize> = Vec::new();
        for node in &machine.nodes {
            let first = usable.iter().find(|core| node.cores.contains(core));
            system.extend(first);
        }
        system.extend(usable.first().filter(|_| machine.nodes.is_empty()));
        // All interrupts may come to all cores as a rule, so only those of one core say something.
        let of_cards = machine.nics.iter().flat_map(|nic| {
            machine
                .interrupts_of(nic)
                .filter_map(|interrupt| match interrupt.destination() {
                    Ok([core]) => Some(*core),
                    _ => None,
                })
        });
        Self {
            system,
            interrupts: of_cards.collect(),
            isolated: machine.isolation.cores().unwrap_or_default(),
            machine,
            usable,
            taken: Vec::new(),
            lane_nodes: Vec::new(),
        }
    }

    /// Tells whether there is a core for a lane that it shares nothing of with other busy threads, on its node.
    fn is_well_off(&self, node: Option<usize>) -> bool {
        let is_good = |core: &usize| {
            let faults = self.faults(Spot::Lane, node, *core);
            faults.first().is_none_or(|worst| *worst < Fault::OffNode)
        };
        self.usable.iter().any(is_good)
    }

    fn put(&mut self, thread: &Thread, node: Option<usize>) -> Placed {
        let (name, spot) = match thread {
            Thread::Lane { name, .. } => (name.clone(), Spot::Lane),
            Thread::Worker { name } => (name.clone(), Spot::Worker),
        };
        let core = (self.usable.iter().copied())
            .min_by_key(|&core| (self.faults(spot, node, core), self.demerits(core)));
        let faults = core.map_or(Vec::new(), |core| self.faults(spot, node, core));
        // A worker without a core of its own does better where the kernel finds it one.
        let core = core.filter(|_| spot == Spot::Lane || !faults.contains(&Fault::Shared));
        let merits = core.map_or(Vec::new(), |core| self.merits(spot, node, core));
        if let Some(core) = core {
            self.taken.push(core);
            let core_node = self.machine.core(core).and_then(|core| core.node);
            if spot == Spot::Lane {
                self.lane_nodes.extend(core_node);
            }
        }
        Placed {
            name,
            spot,
            core,
            faults: if core.is_some() {
                faults
            } else {
                vec![Fault::Shared]
            },
            merits,
            ns_per_message: 0.0,
            load: 0.0,
        }
    }

    /// What is wrong with a core, the gravest first, so that of two cores the lesser one is better.
    fn faults(&self, spot: Spot, node: Option<usize>, core: usize) -> Vec<Fault> {
        let known = self.machine.core(core);
        let siblings = known.map_or(&[][..], |core| &core.siblings);
        let core_node = known.and_then(|core| core.node);
        let is_off = |node: usize| core_node.is_some_and(|other| other != node);
        let is_busy = |other: &usize| *other != core && self.taken.contains(other);
        let far = !self.lane_nodes.is_empty()
            && core_node.is_some_and(|node| !self.lane_nodes.contains(&node));
        let mut faults = Vec::new();
        let mut note = |holds: bool, fault| {
            if holds {
                faults.push(fault);
            }
        };
        note(self.taken.contains(&core), Fault::Shared);
        note(siblings.iter().any(is_busy), Fault::BusySibling);
        note(node.is_some_and(is_off), Fault::OffNode);
        note(self.interrupts.contains(&core), Fault::Interrupts);
        note(core == 0, Fault::Zero);
        note(core != 0 && self.system.contains(&core), Fault::System);
        note(spot == Spot::Worker && far, Fault::FarFromLanes);
        faults
    }

    /// What is not as good about a core as it might be: not isolated where others are; far from what is busy
    /// already, by caches; late in the list.
    fn demerits(&self, core: usize) -> (bool, bool, usize) {
        let unlike = !self.isolated.is_empty() && !self.isolated.contains(&core);
        let near = |other: &usize| {
            let mut caches = self.machine.caches.iter();
            caches.any(|cache| cache.cores.contains(&core) && cache.cores.contains(other))
        };
        let far = !self.taken.is_empty() && !self.taken.iter().any(near);
        (unlike, far, core)
    }

    fn merits(&self, spot: Spot, node: Option<usize>, core: usize) -> Vec<String> {
        let mut merits = Vec::new();
        let known = self.machine.core(core);
        let core_node = known.and_then(|core| core.node);
        if let (Spot::Lane, Some(node)) = (spot, node)
            && core_node == Some(node)
        {
            merits.push(format!("on node {node}, where its card is"));
        }
        if spot == Spot::Worker
            && self.machine.nodes.len() > 1
            && core_node.is_some_and(|node| self.lane_nodes.contains(&node))
        {
            merits.push("on a node with a lane".to_owned());
        }
        if self.isolated.contains(&core) {
            merits.push("isolated".to_owned());
        }
        let siblings = known.map_or(&[][..], |core| &core.siblings);
        if siblings.len() > 1 && !siblings.iter().any(|other| self.taken.contains(other)) {
            merits.push("no busy thread on its sibling".to_owned());
        }
        if !self.interrupts.is_empty() && !self.interrupts.contains(&core) {
            merits.push("no card's interrupts".to_owned());
        }
        if core != 0 && !self.system.contains(&core) {
            merits.push("not the system's core".to_owned());
        }
        merits
    }
}

#[cfg(test)]
mod tests;
