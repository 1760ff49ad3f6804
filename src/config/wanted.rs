//! What a configuration asks of the machine, for the doctor to judge it by.

use crate::{
    config::Config,
    host::{
        doctor::{HotThread, Role, Wanted, WantedNic},
        machine::Machine,
    },
};

/// Files that a process has open beside its connections: standard streams, libraries' own, logs.
const OPEN_FILES_BASE: usize = 64;
/// Files a thread has open: its poller, its wake-ups, what tells of its CPU time.
const OPEN_FILES_PER_THREAD: usize = 8;
/// Files a connection or a bound endpoint takes, with what libzmq keeps for its socket.
const OPEN_FILES_PER_ENDPOINT: usize = 4;

impl Config {
    /// Returns what this asks of a machine. Publishers that connect to bound
    /// endpoints take a file each on top of [`Wanted::open_files`].
    #[must_use]
    pub fn wanted_on(&self, machine: &Machine) -> Wanted {
        let cores = self.cores_on(machine);
        let mut threads = Vec::new();
        let mut thread = |name: String, core, role| threads.push(HotThread { name, core, role });
        let mut nics = Vec::new();
        for (lane, (io_core, core)) in self.lanes.iter().zip(&cores.lanes) {
            thread(lane.name.clone(), *core, Role::Lane);
            if self.engine() == super::Engine::Libzmq {
                thread(format!("{} (I/O)", lane.name), *io_core, Role::Lane);
            }
            nics.extend(lane.nic.clone().map(|nic| WantedNic {
                lane: lane.name.clone(),
                nic,
                cores: [*core, *io_core].into_iter().flatten().collect(),
            }));
        }
        for (index, core) in cores.workers.iter().enumerate() {
            thread(format!("worker-{index}"), *core, Role::Worker);
        }
        let lines = self.feeds.iter().flat_map(|feed| &feed.lines);
        let endpoints: usize = lines.map(|line| line.connect.len() + line.bind.len()).sum();
        let open_files = OPEN_FILES_BASE
            + OPEN_FILES_PER_THREAD * threads.len()
            + OPEN_FILES_PER_ENDPOINT * endpoints;
        Wanted {
            is_configured: true,
            threads,
            nics,
            wait: self.wait,
            buffer_bytes: u64::from(self.receive.buffer_bytes),
            busy_poll_us: u64::from(self.receive.busy_poll_us),
            open_files: open_files as u64,
            fifo: self.threads.fifo,
            lock_memory: self.threads.lock_memory,
            huge_pages: self.threads.huge_pages,
        }
    }
}
