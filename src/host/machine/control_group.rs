//! The control group of this process, version 2: which cores it leaves, and how much of them.

use serde::Serialize;

use crate::host::machine::tree::{Fact, Tree, Unavailable};

/// Where version 2 stands: by itself, or beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// How deep groups may lie.
const DEPTH_MAX: usize = 64;

/// A control group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ControlGroup {
    /// Its path below the mount.
    pub path: String,
    /// The cores that it and those above it leave to its processes, ascending.
    pub cores: Fact<Vec<usize>>,
    /// `member`, `root` or `isolated`: what its cores are to the scheduler.
    pub partition: Fact<String>,
    /// How many cores' time its processes may use, by the tightest of it and those above it; none where
    /// there is no quota.
    pub quota_cores: Fact<Option<f64>>,
}

impl ControlGroup {
    pub(super) fn read(tree: &Tree) -> Fact<Self> {
        let own = "/proc/self/cgroup";
        let path = tree.parse(own, "a list with a group of version 2", |text| {
            text.lines()
                .find_map(|line| line.strip_prefix("0::"))
                .map(str::to_owned)
        })?;
        // From within a namespace, what is outside shows as `..`, and can't be reached.
        if path.split('/').any(|part| part == "..") || path.split('/').count() > DEPTH_MAX {
            return Err(Unavailable::new(own, format!("{path} is out of sight")));
        }
        let mount = mount(tree)?;
        let folder = format!("{mount}{}", path.trim_end_matches('/'));
        Ok(Self {
            cores: tree.cores(&format!("{folder}/cpuset.cpus.effective")),
            partition: tree.text(&format!("{folder}/cpuset.cpus.partition")),
            quota_cores: quota(tree, mount, &path),
            path,
        })
    }
}

fn mount(tree: &Tree) -> Fact<&'static str> {
    let controllers = |mount: &str| tree.text(&format!("{mount}/cgroup.controllers"));
    let found = MOUNTS.into_iter().find(|mount| controllers(mount).is_ok());
    match found {
        Some(mount) => Ok(mount),
        None => controllers(MOUNTS[0]).map(|_| MOUNTS[0]),
    }
}

fn quota(tree: &Tree, mount: &str, path: &str) -> Fact<Option<f64>> {
    let controllers = tree.text(&format!("{mount}/cgroup.controllers"))?;
    if !controllers.split_whitespace().any(|one| one == "cpu") {
        let reason = "without the controller cpu; version 1 may have it";
        return Err(Unavailable::new(mount, reason));
    }
    let mut tightest: Option<f64> = None;
    let mut folder = path.trim_end_matches('/');
    loop {
        let file = format!("{mount}{folder}/cpu.max");
        match tree.parse(&file, "a quota", quota_cores) {
            Ok(Some(cores)) => tightest = Some(tightest.map_or(cores, |other| other.min(cores))),
            Ok(None) => {}
            // The machine's own group has no such file, nor one whose parent does not share out.
            Err(unavailable) if unavailable.reason == "not there" => {}
            Err(unavailable) => return Err(unavailable),
        }
        match folder.rsplit_once('/') {
            Some((parent, _)) => folder = parent,
            None => return Ok(tightest),
        }
    }
}

/// Reads `max 100000` or `200000 100000`: microseconds of CPU time in so many of time.
fn quota_cores(text: &str) -> Option<Option<f64>> {
    let (quota, period) = text.split_once(' ')?;
    let period_us: u64 = period.parse().ok().filter(|period| *period > 0)?;
    match quota {
        "max" => Some(None),
        quota_us => Some(Some(
            quota_us.parse::<u64>().ok()? as f64 / period_us as f64,
        )),
    }
}

/// Returns the cores in partitions that the scheduler leaves alone, of all groups.
pub(super) fn isolated(tree: &Tree) -> Fact<Vec<usize>> {
    let mount = mount(tree)?;
    let listed = tree.cores(&format!("{mount}/cpuset.cpus.isolated"));
    // Kernels before 6.7 list them nowhere; partitions of partitions are rare.
    listed.or_else(|unavailable| {
        let groups = tree.names(mount);
        let file = |group: &str, name: &str| format!("{mount}/{group}/cpuset.cpus.{name}");
        let mut known = false;
        let mut cores: Vec<usize> = Vec::new();
        for group in groups {
            let Ok(partition) = tree.text(&file(&group, "partition")) else {
                continue;
            };
            known = true;
            // One that does not take effect reads `isolated invalid (...)`.
            if partition == "isolated" {
                cores.extend(tree.cores(&file(&group, "effective")).unwrap_or_default());
            }
        }
        cores.sort_unstable();
        cores.dedup();
        if known { Ok(cores) } else { Err(unavailable) }
    })
}
