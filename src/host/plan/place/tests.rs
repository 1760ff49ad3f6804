//! Whatever machine it is, however its cards' interrupts and the cores that are left to us lie: what can be avoided
//! is. Whether it can is counted here, not asked of the planner.

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::host::{
    machine::{ControlGroup, Interrupt, Nic, Node},
    plan::{Costs, Demand, Plan, Traffic, plan},
};

/// The most cores that a made machine has.
const CORES_MAX: usize = 36;
/// The faults that a core has for any thread, the least first: all but to be far from lanes.
const LEVELS: [Fault; 6] = [
    Fault::System,
    Fault::Zero,
    Fault::Interrupts,
    Fault::OffNode,
    Fault::BusySibling,
    Fault::Shared,
];

/// A machine of `nodes` nodes with `physical` physical cores each, of `siblings` cores each; with a card on
/// each node. Cores are numbered as Linux does it: siblings behind all first ones.
fn machine(nodes: usize, physical: usize, siblings: usize) -> Machine {
    let mut machine = Machine::read("/nonexistent".as_ref());
    let all = nodes * physical;
    machine.cores = (0..all * siblings)
        .map(|core| Core {
            core,
            package: Some(core % all / physical),
            node: Some(core % all / physical),
            siblings: (0..siblings)
                .map(|sibling| core % all + sibling * all)
                .collect(),
            governor: machine.settings.release.clone(),
            idle_states: Vec::new(),
        })
        .collect();
    machine.nodes = (0..nodes)
        .map(|node| Node {
            node,
            cores: (machine.cores.iter())
                .filter(|core| core.node == Some(node))
                .map(|core| core.core)
                .collect(),
        })
        .collect();
    machine.nics = (0..nodes).map(|node| nic(&machine, node)).collect();
    machine
}

fn nic(machine: &Machine, node: usize) -> Nic {
    Nic {
        name: format!("eth{node}"),
        has_device: true,
        state: machine.settings.release.clone(),
        node: Some(node),
        local_cores: Ok(machine.nodes[node].cores.clone()),
        speed_mbit: None,
        rx_queues: 1,
        tx_queues: 1,
        interrupts: Vec::new(),
        rx_dropped: Ok(0),
        rx_missed: Ok(0),
    }
}

/// Has an interrupt of a card come to these cores.
fn interrupt(machine: &mut Machine, card: usize, cores: Vec<usize>) {
    let mut interrupts =
        std::mem::replace(&mut machine.interrupts, Ok(Vec::new())).unwrap_or_default();
    let number = 40 + interrupts.len();
    machine.nics[card].interrupts.push(number);
    interrupts.push(Interrupt {
        number,
        name: format!("eth{card}-rx"),
        cores_allowed: Ok(cores),
        cores: Ok(Vec::new()),
        counts: Default::default(),
    });
    machine.interrupts = Ok(interrupts);
}

/// Some cores: each is among them with the same chance, in percent.
fn some_cores(percent: std::ops::Range<u32>) -> impl Strategy<Value = Vec<usize>> {
    let each = |percent| vec(prop::bool::weighted(f64::from(percent) / 100.0), CORES_MAX);
    percent.prop_flat_map(each).prop_map(|is_in| {
        let cores = is_in.into_iter().enumerate();
        cores
            .filter_map(|(core, is_in)| is_in.then_some(core))
            .collect()
    })
}

prop_compose! {
    /// Any machine. Of some the mask, the control group or both take cores away; to some cores a card's interrupts come;
    /// some are isolated, which is worth less than any fault.
    fn any_machine()(
        nodes in 1_usize..4,
        physical in 1_usize..7,
        siblings in 1_usize..3,
        mask in option::of(some_cores(40..100)),
        group in option::of(some_cores(40..100)),
        interrupted in some_cores(0..60),
        isolated in some_cores(0..60),
    ) -> Machine {
        let mut machine = machine(nodes, physical, siblings);
        let unknown = machine.process.cores_allowed.clone().unwrap_err();
        machine.process.cores_allowed = mask.ok_or(unknown.clone());
        machine.process.control_group = group.map(|cores| ControlGroup {
            path: "/".to_owned(),
            cores: Ok(cores),
            partition: Err(unknown.clone()),
            quota_cores: Ok(None),
        }).ok_or(unknown);
        machine.isolation.at_start = Ok(isolated);
        let cores: Vec<usize> = machine.cores.iter().map(|core| core.core).collect();
        for core in interrupted {
            if core < cores.len() {
                interrupt(&mut machine, core % nodes, vec![core]);
            }
        }
        // One that may come to any says nothing of any.
        interrupt(&mut machine, 0, cores);
        machine
    }
}

/// By node, the lanes of its card; `None` for one without.
fn any_lanes() -> impl Strategy<Value = Vec<Option<usize>>> {
    vec(option::weighted(0.8, 0_usize..3), 1..5)
}

fn threads(lanes: &[Option<usize>], workers: usize) -> Vec<Thread> {
    let lane = |(index, node): (usize, &Option<usize>)| Thread::Lane {
        name: format!("lane-{index}"),
        nic: node.map(|node| format!("eth{node}")),
    };
    let lanes = lanes.iter().enumerate().map(lane);
    let worker = |index| Thread::Worker {
        name: format!("worker-{index}"),
    };
    lanes.chain((0..workers).map(worker)).collect()
}

/// A machine, and where its threads are.
struct Judge<'a> {
    machine: &'a Machine,
    /// What the mask and the control group leave.
    usable: Vec<usize>,
    /// Where interrupts of cards come that come nowhere else.
    interrupted: Vec<usize>,
    /// The first of each node.
    system: Vec<usize>,
    /// By lane: the node of its card.
    lanes: Vec<Option<usize>>,
    /// By thread, lanes first.
    cores: Vec<Option<usize>>,
}

impl<'a> Judge<'a> {
    fn of(machine: &'a Machine, lanes: &[Option<usize>], placed: &[Placed]) -> Self {
        let process = &machine.process;
        let mask = process.cores_allowed.clone().ok();
        let group = process.control_group.clone().ok().map(|group| group.cores);
        let leaves = |limit: &Option<Vec<usize>>, core: usize| {
            limit.as_ref().is_none_or(|cores| cores.contains(&core))
        };
        let group = group.and_then(Result::ok);
        let online = machine.cores.iter().map(|core| core.core);
        let usable: Vec<usize> = online
            .filter(|core| leaves(&mask, *core) && leaves(&group, *core))
            .collect();
        let interrupts = machine.interrupts.as_deref().unwrap_or_default().iter();
        let alone = |interrupt: &Interrupt| match interrupt.cores_allowed.as_deref() {
            Ok([core]) => Some(*core),
            _ => None,
        };
        let first = |node: &Node| {
            usable
                .iter()
                .copied()
                .find(|core| node.cores.contains(core))
        };
        Self {
            interrupted: interrupts.filter_map(alone).collect(),
            system: machine.nodes.iter().filter_map(first).collect(),
            lanes: lanes.to_vec(),
            cores: placed.iter().map(Placed::core).collect(),
            usable,
            machine,
        }
    }

    fn physical(&self, core: usize) -> usize {
        self.machine.core(core).unwrap().siblings[0]
    }

    fn node(&self, core: usize) -> usize {
        self.machine.core(core).unwrap().node.unwrap()
    }

    /// Tells whether a core by itself is free of a fault and of all that are graver.
    fn suits(&self, core: usize, level: Fault) -> bool {
        self.usable.contains(&core)
            && !(level <= Fault::Interrupts && self.interrupted.contains(&core))
            && !(level <= Fault::Zero && core == 0)
            && !(level <= Fault::System && self.system.contains(&core))
    }

    /// Tells whether a thread's core is free of a fault and of all that are graver, alone and among the others.
    fn is_well_off(&self, thread: usize, level: Fault) -> bool {
        let Some(core) = self.cores[thread] else {
            return false;
        };
        let others = self.cores.iter().enumerate();
        let others: Vec<usize> = others
            .filter_map(|(other, core)| core.filter(|_| other != thread))
            .collect();
        let near = |other: &usize| self.physical(*other) == self.physical(core);
        let has_busy_sibling = level <= Fault::BusySibling && others.iter().any(near);
        let card = self.lanes.get(thread).copied().flatten();
        let is_off = level <= Fault::OffNode && card.is_some_and(|node| node != self.node(core));
        self.suits(core, level) && !others.contains(&core) && !has_busy_sibling && !is_off
    }

    /// The physical cores, of a node or of all, that have a core free of a fault and of all that are graver.
    fn room(&self, node: Option<usize>, level: Fault) -> BTreeSet<usize> {
        let here = |core: &usize| node.is_none_or(|node| self.node(*core) == node);
        let good = |core: &usize| here(core) && self.suits(*core, level);
        let cores = self.usable.iter().copied().filter(good);
        cores.map(|core| self.physical(core)).collect()
    }

    /// The lanes of a node's card.
    fn lanes_of(&self, node: usize) -> Vec<usize> {
        let here = |lane: &usize| self.lanes[*lane] == Some(node);
        (0..self.lanes.len()).filter(here).collect()
    }

    /// Tells whether the lanes of a node's card all find a core there without a fault.
    fn has_room_for_lanes(&self, node: usize, level: Fault) -> bool {
        self.lanes_of(node).len() <= self.room(Some(node), level).len()
    }
}

/// Places threads, those of lanes on nodes that there are.
fn judged<'a>(machine: &'a Machine, lanes: &[Option<usize>], workers: usize) -> Judge<'a> {
    let lanes: Vec<_> = (lanes.iter())
        .map(|node| node.map(|node| node % machine.nodes.len()))
        .collect();
    let placed = place(machine, &threads(&lanes, workers));
    assert_eq!(placed.len(), lanes.len() + workers);
    Judge::of(machine, &lanes, &placed)
}

/// A plan that chooses the number of workers for more messages than they can be enough for.
fn plan_for_all(machine: &Machine, lanes: usize) -> Plan {
    let demand = Demand {
        lanes: (0..lanes).map(|lane| (lane.to_string(), None)).collect(),
        workers: None,
        traffic: Traffic::even(1e9),
        costs: Costs {
            lane_ns: 40.0,
            worker_ns: 100.0,
            elsewhere_ns: 0.0,
            busy_at_most: 1.0,
        },
        batch_messages: 1_024,
        overrides: Vec::new(),
        in_turn: false,
        rebalance: false,
        may_rebalance: false,
    };
    plan(machine, demand)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_thread_has_what_all_can_do_without(
        machine in any_machine(),
        lanes in any_lanes(),
        workers in 1_usize..12,
    ) {
        let judge = judged(&machine, &lanes, workers);
        let busy = judge.cores.len();
        for level in LEVELS {
            let nodes = 0..machine.nodes.len();
            let has_room = match level {
                Fault::Shared => busy <= judge.usable.len(),
                Fault::BusySibling => busy <= judge.room(None, level).len(),
                // Lanes on their nodes, all others anywhere: there is a way if and only if both find room.
                _ => busy <= judge.room(None, level).len()
                    && nodes.into_iter().all(|node| judge.has_room_for_lanes(node, level)),
            };
            for thread in (0..busy).filter(|_| has_room) {
                prop_assert!(
                    judge.is_well_off(thread, level),
                    "{level:?}: thread {thread} of {:?} with cards of {:?}", judge.cores, judge.lanes
                );
            }
        }
    }

    /// However many workers there are, and lanes elsewhere.
    #[test]
    fn lanes_find_what_there_is_on_their_node(
        machine in any_machine(),
        lanes in any_lanes(),
        workers in 1_usize..12,
    ) {
        let judge = judged(&machine, &lanes, workers);
        for level in [Fault::System, Fault::Zero, Fault::Interrupts, Fault::OffNode] {
            for node in (0..machine.nodes.len()).filter(|node| judge.has_room_for_lanes(*node, level)) {
                for lane in judge.lanes_of(node) {
                    let core = judge.cores[lane].unwrap();
                    prop_assert!(
                        judge.node(core) == node && judge.suits(core, level),
                        "{level:?}: lane {lane} of {:?} with cards of {:?}", judge.cores, judge.lanes
                    );
                }
            }
        }
    }

    /// However badly off these are.
    #[test]
    fn workers_find_what_lanes_have_left(
        machine in any_machine(),
        lanes in any_lanes(),
        workers in 1_usize..12,
    ) {
        let judge = judged(&machine, &lanes, workers);
        let taken: BTreeSet<usize> = (judge.cores[..lanes.len()].iter())
            .flatten()
            .map(|core| judge.physical(*core))
            .collect();
        for level in LEVELS.into_iter().filter(|level| *level < Fault::Shared) {
            let room = judge.room(None, level);
            for worker in (lanes.len()..judge.cores.len()).filter(|_| workers <= room.difference(&taken).count()) {
                prop_assert!(
                    judge.is_well_off(worker, level),
                    "{level:?}: worker {worker} of {:?}", judge.cores
                );
            }
        }
    }

    #[test]
    fn no_thread_is_where_it_may_not_run(
        machine in any_machine(),
        lanes in any_lanes(),
        workers in 1_usize..40,
    ) {
        let judge = judged(&machine, &lanes, workers);
        prop_assert!(judge.cores.iter().flatten().all(|core| judge.usable.contains(core)), "{:?}", judge.cores);
    }

    /// Also one that could do with more workers.
    #[test]
    fn a_plan_leaves_the_system_a_physical_core(machine in any_machine(), lanes in 1_usize..5) {
        let plan = plan_for_all(&machine, lanes);
        let judge = Judge::of(&machine, &vec![None; lanes], &plan.threads);
        let all = judge.room(None, Fault::Shared);
        // Each lane, and a worker, come first.
        if all.len() > lanes + 1 {
            let cores = judge.cores.iter().flatten();
            let busy: BTreeSet<usize> = cores.map(|core| judge.physical(*core)).collect();
            prop_assert_eq!(busy.len(), judge.cores.len(), "a physical core of its own for each");
            prop_assert_eq!(all.len(), busy.len() + 1, "all others work");
        }
    }
}

#[test]
fn the_cores_of_interrupts_are_left_to_them() {
    let mut machine = machine(1, 8, 1);
    interrupt(&mut machine, 0, vec![1]);
    let placed = place(&machine, &threads(&[Some(0)], 2));
    let cores: Vec<_> = placed.iter().map(Placed::core).collect();
    assert_eq!(cores, [Some(2), Some(3), Some(4)]);
    assert!(placed.iter().all(|one| one.faults.is_empty()));
}

#[test]
fn workers_that_find_no_core_run_anywhere() {
    let placed = place(&machine(1, 2, 1), &threads(&[Some(0)], 4));
    let cores: Vec<_> = placed.iter().map(Placed::core).collect();
    assert_eq!(cores, [Some(1), Some(0), None, None, None]);
}
