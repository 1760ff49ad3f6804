//! A machine's shape in a few lines.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use crate::host::{cpulist::show, machine::Machine};

/// What matters of a machine to whoever places threads on it. Cores are written as lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Sockets.
    pub packages: usize,
    /// Cores that have their own pipelines and first two caches.
    pub physical_cores: usize,
    /// Cores as the kernel counts them: hardware threads.
    pub cores: usize,
    /// Those that this process may use.
    pub usable_cores: String,
    /// NUMA nodes, with their cores.
    pub nodes: Vec<NodeShape>,
    /// Cores that share a cache of the third level.
    pub shared_l3: Vec<String>,
    /// Network cards with a device behind them.
    pub nics: Vec<NicShape>,
}

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeShape {
    /// Its number.
    pub node: usize,
    /// Its cores.
    pub cores: String,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NicShape {
    /// Its name.
    pub name: String,
    /// Its NUMA node, if it is nearer to one.
    pub node: Option<usize>,
    /// Megabits a second.
    pub speed_mbit: Option<u64>,
    /// Receive queues.
    pub rx_queues: usize,
    /// The cores that its interrupts go to.
    pub interrupt_cores: String,
}

impl Machine {
    /// Returns its shape.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let packages: BTreeSet<_> = self.cores.iter().map(|core| core.package).collect();
        let physical: BTreeSet<_> = self.cores.iter().map(|core| &core.siblings).collect();
        let node = |node: &super::Node| NodeShape {
            node: node.node,
            cores: show(&node.cores),
        };
        let nic = |nic: &super::Nic| {
            let cores = self
                .interrupts_of(nic)
                .filter_map(|one| one.destination().ok());
            let cores: BTreeSet<usize> = cores.flatten().copied().collect();
            NicShape {
                name: nic.name.clone(),
                node: nic.node,
                speed_mbit: nic.speed_mbit,
                rx_queues: nic.rx_queues,
                interrupt_cores: show(&cores.into_iter().collect::<Vec<_>>()),
            }
        };
        Shape {
            packages: packages.len(),
            physical_cores: physical.len(),
            cores: self.cores.len(),
            usable_cores: show(&self.usable_cores()),
            nodes: self.nodes.iter().map(node).collect(),
            shared_l3: self
                .caches
                .iter()
                .filter(|cache| cache.level == 3)
                .map(|cache| show(&cache.cores))
                .collect(),
            nics: self
                .nics
                .iter()
                .filter(|nic| nic.has_device)
                .map(nic)
                .collect(),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} package(s), {} physical cores, {} hardware threads; this process may use {}",
            self.packages, self.physical_cores, self.cores, self.usable_cores
        )?;
        for node in &self.nodes {
            write!(out, "\n  node {}  {}", node.node, node.cores)?;
        }
        for cores in &self.shared_l3 {
            write!(out, "\n  L3      {cores}")?;
        }
        for nic in &self.nics {
            let node = nic
                .node
                .map_or("any node".to_owned(), |node| format!("node {node}"));
            let speed = nic
                .speed_mbit
                .map_or("unknown speed".to_owned(), |mbit| format!("{mbit} Mbit/s"));
            write!(
                out,
                "\n  {:<6}  {node}, {speed}, {} receive queue(s), interrupts on {}",
                nic.name, nic.rx_queues, nic.interrupt_cores
            )?;
        }
        Ok(())
    }
}
