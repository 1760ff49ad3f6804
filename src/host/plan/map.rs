//! The machine as a plan uses it, for people to read.

use std::fmt;

use super::Plan;
use crate::host::{cpulist::show, machine::Machine};

/// A plan on its machine. Shows each node with its cards, the cores that have something to do, and the others.
#[derive(Debug)]
pub struct Map<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The plan.
    pub plan: &'a Plan,
    /// Whether to say of each thread why it is where it is.
    pub why: bool,
}

impl Map<'_> {
    /// Shows the cores of a node.
    fn node(&self, out: &mut fmt::Formatter<'_>, cores: &[usize]) -> fmt::Result {
        let usable = self.machine.usable_cores();
        let mut idle = Vec::new();
        for &core in cores.iter().filter(|core| usable.contains(core)) {
            let mut here = self.plan.threads.iter();
            let here: Vec<_> = here
                .by_ref()
                .filter(|one| one.core() == Some(core))
                .collect();
            if here.is_empty() {
                idle.push(core);
            }
            for thread in here {
                write!(out, "\n    core {core:<4} ")?;
                self.thread(out, thread)?;
            }
        }
        if !idle.is_empty() {
            write!(out, "\n    left to the system and others: {}", show(&idle))?;
        }
        Ok(())
    }

    fn thread(&self, out: &mut fmt::Formatter<'_>, thread: &super::Placed) -> fmt::Result {
        write!(out, "{:<12} {:>4.2} of a core", thread.name(), thread.load)?;
        if self.why {
            let faults = thread.faults.iter().map(|fault| fault.to_string());
            let why: Vec<String> = thread.merits.iter().cloned().chain(faults).collect();
            write!(out, "   {}", why.join("; "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Map<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.machine;
        let mut cards_of_none: Vec<&str> = Vec::new();
        for (_, nic) in &self.plan.demand.lanes {
            let nic = nic.as_deref().and_then(|name| machine.nic(name));
            cards_of_none.extend(nic.filter(|nic| nic.node.is_none()).map(|nic| &*nic.name));
        }
        let mut lines = "";
        if machine.nodes.len() < 2 {
            let cores: Vec<usize> = machine.cores.iter().map(|core| core.core).collect();
            write!(out, "  this machine")?;
            self.node(out, &cores)?;
            lines = "\n";
        } else {
            for node in &machine.nodes {
                let cards = machine
                    .nics
                    .iter()
                    .filter(|nic| nic.node == Some(node.node));
                let cards: Vec<&str> = cards.map(|nic| &*nic.name).collect();
                let cards = if cards.is_empty() {
                    String::new()
                } else {
                    format!(", with {}", cards.join(", "))
                };
                write!(out, "{lines}  node {}{cards}", node.node)?;
                self.node(out, &node.cores)?;
                lines = "\n";
            }
        }
        if !cards_of_none.is_empty() {
            let cards = cards_of_none.join(", ");
            write!(
                out,
                "{lines}  the node of {cards} is unknown, or of no matter"
            )?;
        }
        for thread in self.plan.threads.iter().filter(|one| one.core().is_none()) {
            write!(out, "{lines}    any core  ")?;
            self.thread(out, thread)?;
        }
        Ok(())
    }
}
