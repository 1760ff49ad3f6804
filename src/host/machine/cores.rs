//! Cores, what they share, and how they sleep.

use serde::Serialize;

use crate::host::machine::tree::{Fact, Tree};

const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";
/// Caches of lower levels belong to one physical core everywhere.
const CACHE_LEVEL_MIN: u8 = 2;

/// A core as the kernel counts them: a hardware thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Core {
    /// Its number.
    pub core: usize,
    /// The socket it is in.
    pub package: Option<usize>,
    /// The NUMA node it belongs to.
    pub node: Option<usize>,
    /// The hardware threads of its physical core, itself included; only itself where nothing is known.
    pub siblings: Vec<usize>,
    /// What governs its frequency.
    pub governor: Fact<String>,
    /// How it may sleep, from the lightest to the deepest; none where the machine has no such choice.
    pub idle_states: Vec<IdleState>,
}

/// A way for a core to sleep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IdleState {
    /// Its name, for instance `C1`.
    pub name: String,
    /// Whether it is switched off.
    pub disabled: Fact<bool>,
    /// How long waking from it takes, in microseconds.
    pub latency_us: Option<u64>,
}

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its number.
    pub node: usize,
    /// Its cores that are online, ascending; none where it is memory only.
    pub cores: Vec<usize>,
}

/// A cache of the second level or above.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cache {
    /// Its level.
    pub level: u8,
    /// The cores that share it, ascending.
    pub cores: Vec<usize>,
    /// Its size as the kernel writes it, for instance `2048K`.
    pub size: Option<String>,
}

/// Returns the cores that are online.
pub(super) fn online(tree: &Tree) -> Fact<Vec<usize>> {
    tree.cores(&format!("{CPUS}/online"))
}

pub(super) fn nodes(tree: &Tree) -> Vec<Node> {
    let node = |node| Node {
        node,
        cores: tree
            .cores(&format!("{NODES}/node{node}/cpulist"))
            .unwrap_or_default(),
    };
    tree.numbered(NODES, "node").into_iter().map(node).collect()
}

pub(super) fn core(tree: &Tree, core: usize, nodes: &[Node]) -> Core {
    let file = |name: &str| format!("{CPUS}/cpu{core}/{name}");
    let siblings = tree.cores(&file("topology/thread_siblings_list"));
    Core {
        core,
        package: tree.number(&file("topology/physical_package_id")).ok(),
        node: nodes
            .iter()
            .find(|node| node.cores.contains(&core))
            .map(|node| node.node),
        siblings: siblings.unwrap_or_else(|_| vec![core]),
        governor: tree.text(&file("cpufreq/scaling_governor")),
        idle_states: tree
            .numbered(&file("cpuidle"), "state")
            .into_iter()
            .map(|state| idle_state(tree, &file(&format!("cpuidle/state{state}"))))
            .collect(),
    }
}

fn idle_state(tree: &Tree, folder: &str) -> IdleState {
    let name = tree.text(&format!("{folder}/name"));
    IdleState {
        name: name.unwrap_or_else(|_| "?".to_owned()),
        disabled: tree
            .number(&format!("{folder}/disable"))
            .map(|off: u64| off != 0),
        latency_us: tree.number(&format!("{folder}/latency")).ok(),
    }
}

/// Returns each cache that one of these cores has once.
pub(super) fn caches(tree: &Tree, cores: &[Core]) -> Vec<Cache> {
    let mut caches = Vec::new();
    for core in cores {
        let folder = format!("{CPUS}/cpu{}/cache", core.core);
        for index in tree.numbered(&folder, "index") {
            let file = |name: &str| format!("{folder}/index{index}/{name}");
            let level = tree.number(&file("level"));
            let shared = tree.cores(&file("shared_cpu_list"));
            if let (Ok(level @ CACHE_LEVEL_MIN..), Ok(cores)) = (level, shared) {
                let size = tree.text(&file("size")).ok();
                caches.push(Cache { level, cores, size });
            }
        }
    }
    caches.sort_unstable();
    caches.dedup();
    caches
}
