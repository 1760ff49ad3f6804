//! What this process may do: its cores, its rights and its limits, and its control group.

use serde::Serialize;

use crate::host::machine::{
    control_group::ControlGroup,
    tree::{Fact, Tree, Unavailable},
};

/// The bit of `CAP_NET_RAW` among the capabilities, as `linux/capability.h` counts them.
const CAP_NET_RAW: u32 = 13;
/// The bit of `CAP_IPC_LOCK`.
const CAP_IPC_LOCK: u32 = 14;
/// The bit of `CAP_SYS_NICE`.
const CAP_SYS_NICE: u32 = 23;

/// What this process may do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Process {
    /// The cores in its affinity mask, ascending. The mask is the main thread's.
    pub cores_allowed: Fact<Vec<usize>>,
    /// Whether it may use raw sockets, and on kernels before 5.7 tie a socket to a card (`CAP_NET_RAW`).
    pub may_net_raw: Fact<bool>,
    /// Whether it may lock memory whatever its limit (`CAP_IPC_LOCK`).
    pub may_ipc_lock: Fact<bool>,
    /// Whether it may raise priorities and move others' threads (`CAP_SYS_NICE`).
    pub may_sys_nice: Fact<bool>,
    /// How many files and sockets it may have open.
    pub open_files_max: Fact<Limit>,
    /// How many bytes it may lock into memory.
    pub locked_memory_bytes_max: Fact<Limit>,
    /// The highest real-time priority it may give itself, 0 for none.
    pub realtime_priority_max: Fact<Limit>,
    /// Its control group.
    pub control_group: Fact<ControlGroup>,
}

/// A limit of a process, the soft one: none where it is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limit(pub Option<u64>);

impl Limit {
    /// Tells whether so much is allowed.
    #[must_use]
    pub fn allows(&self, wanted: u64) -> bool {
        self.0.is_none_or(|limit| limit >= wanted)
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(limit) => write!(out, "{limit}"),
            None => out.write_str("unlimited"),
        }
    }
}

pub(super) fn process(tree: &Tree) -> Process {
    let capability = |bit: u32| {
        field(tree, "CapEff", |text| {
            let bits = u64::from_str_radix(text, 16).ok()?;
            Some(bits >> bit & 1 == 1)
        })
    };
    Process {
        cores_allowed: field(tree, "Cpus_allowed_list", |text| {
            crate::host::cpulist::parse_kernel(text).ok()
        }),
        may_net_raw: capability(CAP_NET_RAW),
        may_ipc_lock: capability(CAP_IPC_LOCK),
        may_sys_nice: capability(CAP_SYS_NICE),
        open_files_max: limit(tree, "Max open files"),
        locked_memory_bytes_max: limit(tree, "Max locked memory"),
        realtime_priority_max: limit(tree, "Max realtime priority"),
        control_group: ControlGroup::read(tree),
    }
}

/// Reads a line `name: value` of the process's status.
fn field<T>(tree: &Tree, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Fact<T> {
    let path = "/proc/self/status";
    let text = tree.text(path)?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let value = lines.find(|(key, _)| *key == name);
    value
        .and_then(|(_, value)| parse(value.trim()))
        .ok_or_else(|| Unavailable::new(path, format!("no {name} that makes sense")))
}

fn limit(tree: &Tree, name: &str) -> Fact<Limit> {
    let path = "/proc/self/limits";
    let text = tree.text(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let soft = line.and_then(|line| match line.split_whitespace().next()? {
        "unlimited" => Some(Limit(None)),
        number => number.parse().ok().map(|number| Limit(Some(number))),
    });
    soft.ok_or_else(|| Unavailable::new(path, format!("no {name} that makes sense")))
}
