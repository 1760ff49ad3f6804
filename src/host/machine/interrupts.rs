//! Interrupts: what they are for, where they may go, where they went.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::host::machine::tree::{Fact, Tree};

/// A numbered interrupt that something has asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interrupt {
    /// Its number.
    pub number: usize,
    /// Where it comes from and who handles it, as `/proc/interrupts` says.
    pub name: String,
    /// The cores that it may go to.
    pub cores_allowed: Fact<Vec<usize>>,
    /// The cores that it does go to, as far as the kernel tells.
    pub cores: Fact<Vec<usize>>,
    /// How often it came since start, by core; without cores that it never came to.
    pub counts: BTreeMap<usize, u64>,
}

impl Interrupt {
    /// Returns where it goes, or where that is not known, where it may go.
    ///
    /// # Errors
    /// Where neither is known.
    pub fn destination(&self) -> Result<&[usize], &super::Unavailable> {
        match (&self.cores, &self.cores_allowed) {
            // Empty until it is first asked for.
            (Ok(cores), _) if !cores.is_empty() => Ok(cores),
            (_, Ok(allowed)) => Ok(allowed),
            (_, Err(unavailable)) => Err(unavailable),
        }
    }
}

pub(super) fn interrupts(tree: &Tree) -> Fact<Vec<Interrupt>> {
    let path = "/proc/interrupts";
    let interrupts = tree.parse(path, "a table of interrupts", |text| {
        let mut lines = text.lines();
        let heads = lines.next()?.split_whitespace();
        let cores: Vec<usize> = heads
            .map(|head| head.strip_prefix("CPU")?.parse().ok())
            .collect::<Option<_>>()?;
        Some(lines.filter_map(|line| interrupt(line, &cores)).collect())
    });
    let mut interrupts: Vec<Interrupt> = interrupts?;
    for interrupt in &mut interrupts {
        let file = |name: &str| format!("/proc/irq/{}/{name}", interrupt.number);
        interrupt.cores_allowed = tree.cores(&file("smp_affinity_list"));
        interrupt.cores = tree.cores(&file("effective_affinity_list"));
    }
    Ok(interrupts)
}

/// Reads a line of a numbered interrupt; others (`NMI:`, `LOC:`) are the cores' own.
fn interrupt(line: &str, cores: &[usize]) -> Option<Interrupt> {
    let (number, rest) = line.split_once(':')?;
    let number = number.trim().parse().ok()?;
    let mut words = rest.split_whitespace();
    let mut counts = BTreeMap::new();
    for &core in cores {
        let count = words.next()?.parse().ok()?;
        if count > 0 {
            counts.insert(core, count);
        }
    }
    let name: Vec<&str> = words.collect();
    let unread = || super::Unavailable::new(format!("/proc/irq/{number}"), "not read");
    Some(Interrupt {
        number,
        name: name.join(" "),
        cores_allowed: Err(unread()),
        cores: Err(unread()),
        counts,
    })
}
