//! Network cards: where they are, how many queues they have, and which interrupts are theirs.

use serde::Serialize;

use crate::host::machine::tree::{Fact, Tree};

const NICS: &str = "/sys/class/net";

/// A network card, or what the kernel shows as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Whether there is a device behind it; the loopback and bridges have none.
    pub has_device: bool,
    /// `up`, `down`, or `unknown` where its driver does not say.
    pub state: Fact<String>,
    /// The NUMA node it is on; none where the machine has but one place.
    pub node: Option<usize>,
    /// The cores near it, ascending.
    pub local_cores: Fact<Vec<usize>>,
    /// Megabits a second; none where it has no link, or is not a real one.
    pub speed_mbit: Option<u64>,
    /// Receive queues.
    pub rx_queues: usize,
    /// Transmit queues.
    pub tx_queues: usize,
    /// The numbers of its interrupts, ascending.
    pub interrupts: Vec<usize>,
    /// Packets received and dropped since it is up.
    pub rx_dropped: Fact<u64>,
    /// Packets that it had no room for since it is up.
    pub rx_missed: Fact<u64>,
}

/// Returns the names of all, sorted.
pub(crate) fn names(tree: &Tree) -> Vec<String> {
    // A file of the bonding driver's stands among the cards.
    let names = tree.names(NICS).into_iter();
    names.filter(|name| name != "bonding_masters").collect()
}

pub(super) fn nic(tree: &Tree, name: String) -> Nic {
    let file = |name_of_file: &str| format!("{NICS}/{name}/{name_of_file}");
    let queues = tree.names(&file("queues"));
    let count = |prefix: &str| queues.iter().filter(|one| one.starts_with(prefix)).count();
    // Behind a virtio card is a virtio device, and that one's parent is on the bus.
    let places = ["device", "device/.."];
    let near = |name: &str| {
        let tried = places.map(|place| tree.cores(&file(&format!("{place}/{name}"))));
        let [own, parent] = tried;
        if parent.is_ok() { own.or(parent) } else { own }
    };
    let node = places.iter().find_map(|place| {
        tree.number::<i64>(&file(&format!("{place}/numa_node")))
            .ok()
    });
    let interrupts = places
        .iter()
        .map(|place| tree.numbered(&file(&format!("{place}/msi_irqs")), ""))
        .find(|numbers| !numbers.is_empty());
    Nic {
        has_device: !tree.names(&file("device")).is_empty(),
        state: tree.text(&file("operstate")),
        node: node.and_then(|node| usize::try_from(node).ok()),
        local_cores: near("local_cpulist"),
        speed_mbit: tree.number(&file("speed")).ok(),
        rx_queues: count("rx-"),
        tx_queues: count("tx-"),
        interrupts: interrupts.unwrap_or_default(),
        rx_dropped: tree.number(&file("statistics/rx_dropped")),
        rx_missed: tree.number(&file("statistics/rx_missed_errors")),
        name,
    }
}
