//! The machine as the kernel shows it in `/sys` and `/proc`: its shape, its settings, and what this process
//! may do on it.
//!
//! Everything is read through one root, needs no daemon and no rights, and may be missing: the shape's parts
//! are `None` or empty then, settings are [`Unavailable`] with the reason. Cores, nodes and sockets are
//! numbered as the kernel does.

mod control_group;
mod cores;
mod interrupts;
mod nics;
mod process;
mod settings;
mod shape;
mod tree;

use std::path::Path;

use serde::Serialize;

pub use control_group::ControlGroup;
pub use cores::{Cache, Core, IdleState, Node};
pub use interrupts::Interrupt;
pub use nics::Nic;
pub use process::{Limit, Process};
pub use settings::{Settings, Softnet};
pub use shape::{NicShape, NodeShape, Shape};
pub use tree::{Fact, Unavailable};

pub(crate) use nics::names as nic_names;
pub(crate) use tree::Tree;

/// A machine at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// The cores that are online, ascending. Where the kernel does not say, those that this process may use.
    pub cores: Vec<Core>,
    /// The NUMA nodes, ascending.
    pub nodes: Vec<Node>,
    /// The caches of the second level and above.
    pub caches: Vec<Cache>,
    /// The network cards, by name.
    pub nics: Vec<Nic>,
    /// The interrupts that something has asked for, by number.
    pub interrupts: Fact<Vec<Interrupt>>,
    /// Which cores are kept free.
    pub isolation: Isolation,
    /// The kernel's settings.
    pub settings: Settings,
    /// What this process may do.
    pub process: Process,
}

/// Which cores the kernel keeps free, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Isolation {
    /// Of scheduling by itself, since start (`isolcpus`).
    pub at_start: Fact<Vec<usize>>,
    /// Of scheduling by itself, by control groups' isolated partitions.
    pub by_partition: Fact<Vec<usize>>,
    /// Of the timer, while they have one task (`nohz_full`).
    pub nohz_full: Fact<Vec<usize>>,
}

impl Isolation {
    /// Reads which cores are kept free.
    pub(crate) fn read(tree: &Tree) -> Self {
        Self {
            at_start: tree.cores("/sys/devices/system/cpu/isolated"),
            by_partition: control_group::isolated(tree),
            nohz_full: tree.cores("/sys/devices/system/cpu/nohz_full"),
        }
    }

    /// Returns the cores that the kernel schedules nothing on by itself, ascending.
    ///
    /// # Errors
    /// Where it says nothing of either kind.
    pub fn cores(&self) -> Fact<Vec<usize>> {
        let (start, partition) = (self.at_start.as_deref(), self.by_partition.as_deref());
        if let (Err(unavailable), Err(_)) = (start, partition) {
            return Err(unavailable.clone());
        }
        let mut cores = [start.unwrap_or_default(), partition.unwrap_or_default()].concat();
        cores.sort_unstable();
        cores.dedup();
        Ok(cores)
    }
}

impl Machine {
    /// Reads the machine below a root: `/`, or the folder that holds a recorded `sys`, `proc` and `etc`.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let tree = Tree::at(root);
        let process = process::process(&tree);
        let online = cores::online(&tree).or_else(|_| process.cores_allowed.clone());
        let nodes = cores::nodes(&tree);
        let cores: Vec<Core> = online
            .unwrap_or_default()
            .into_iter()
            .map(|core| cores::core(&tree, core, &nodes))
            .collect();
        Self {
            caches: cores::caches(&tree, &cores),
            nics: nics::names(&tree)
                .into_iter()
                .map(|name| nics::nic(&tree, name))
                .collect(),
            interrupts: interrupts::interrupts(&tree),
            isolation: Isolation::read(&tree),
            settings: settings::settings(&tree),
            cores,
            nodes,
            process,
        }
    }

    /// Returns a core that is online.
    #[must_use]
    pub fn core(&self, core: usize) -> Option<&Core> {
        let found = self.cores.binary_search_by_key(&core, |one| one.core);
        found.ok().map(|index| &self.cores[index])
    }

    /// Returns the cores that this process may run on, ascending: those in its mask that are online and in its
    /// control group. Where the kernel does not say, all that are online.
    #[must_use]
    pub fn usable_cores(&self) -> Vec<usize> {
        let group = self.process.control_group.as_ref().ok();
        let limits = [
            self.process.cores_allowed.as_ref().ok(),
            group.and_then(|group| group.cores.as_ref().ok()),
        ];
        let usable = |core: &usize| limits.iter().flatten().all(|cores| cores.contains(core));
        self.cores
            .iter()
            .map(|core| core.core)
            .filter(usable)
            .collect()
    }

    /// Returns the card with this name.
    #[must_use]
    pub fn nic(&self, name: &str) -> Option<&Nic> {
        self.nics.iter().find(|nic| nic.name == name)
    }

    /// Returns the interrupts of a card.
    pub fn interrupts_of<'a>(&'a self, nic: &'a Nic) -> impl Iterator<Item = &'a Interrupt> {
        let all = self.interrupts.as_deref().unwrap_or_default().iter();
        all.filter(|interrupt| nic.interrupts.contains(&interrupt.number))
    }
}
