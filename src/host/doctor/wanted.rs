//! What the machine is judged for: the threads that are to have a core of their own, and what they receive
//! over.

use serde::Serialize;

use crate::{host::machine::Machine, wait::Wait};

/// What the machine is judged for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whether a configuration says so; otherwise all cores that may come into question are judged.
    pub is_configured: bool,
    /// The threads that are busy, with or without a core.
    pub threads: Vec<HotThread>,
    /// The cards that lanes are tied to.
    pub nics: Vec<WantedNic>,
    /// How threads wait for work.
    pub wait: Wait,
    /// The receive buffer that sockets ask for in bytes, 0 for the system's default.
    pub buffer_bytes: u64,
    /// How long a receive call is to poll the card for in microseconds, 0 for the system's default.
    pub busy_poll_us: u64,
    /// Files and sockets that are open at once.
    pub open_files: u64,
    /// The real-time priority that busy threads are to have, 0 for none.
    pub fifo: u32,
    /// Whether all memory is to be locked.
    pub lock_memory: bool,
    /// Whether memory is to be in huge pages.
    pub huge_pages: bool,
}

/// A busy thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HotThread {
    /// Its name.
    pub name: String,
    /// Its core, if it is to have one.
    pub core: Option<usize>,
    /// What it does.
    pub role: Role,
}

/// What a busy thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It receives, and so is in the kernel much of the time.
    Lane,
    /// It handles messages.
    Worker,
    /// Its core may come into question for either.
    Candidate,
}

/// A card that a lane is tied to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WantedNic {
    /// The lane.
    pub lane: String,
    /// The card's name.
    pub nic: String,
    /// The cores of the lane's threads.
    pub cores: Vec<usize>,
}

impl Wanted {
    /// Without a configuration: every core that this process may use is a candidate but core 0, which is the
    /// system's.
    #[must_use]
    pub fn candidates(machine: &Machine) -> Self {
        let cores = machine.usable_cores().into_iter().filter(|core| *core != 0);
        let candidate = |core: usize| HotThread {
            name: format!("core {core}"),
            core: Some(core),
            role: Role::Candidate,
        };
        Self {
            is_configured: false,
            threads: cores.map(candidate).collect(),
            nics: Vec::new(),
            wait: Wait::default(),
            buffer_bytes: 0,
            busy_poll_us: 0,
            open_files: 0,
            fifo: 0,
            lock_memory: false,
            huge_pages: false,
        }
    }

    /// Returns the cores that busy threads are to have, ascending.
    #[must_use]
    pub fn hot_cores(&self) -> Vec<usize> {
        self.cores_of(|_| true)
    }

    /// Returns the cores of some threads, ascending.
    pub(super) fn cores_of(&self, is_meant: impl Fn(Role) -> bool) -> Vec<usize> {
        let meant = self.threads.iter().filter(|thread| is_meant(thread.role));
        let mut cores: Vec<usize> = meant.filter_map(|thread| thread.core).collect();
        cores.sort_unstable();
        cores.dedup();
        cores
    }
}
