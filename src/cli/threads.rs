//! The CPU time of this process's threads, from one look to the next.

use std::collections::HashMap;

use crate::host::{
    pin::Placement,
    probe::{self, ThreadSample},
};

/// Bytes that the kernel keeps of a thread's name.
const THREAD_NAME_MAX: usize = 15;

/// What was seen at the last look: CPU time by thread, in nanoseconds.
#[derive(Default)]
pub(super) struct Threads {
    before: HashMap<u32, u64>,
}

/// A thread of the process.
#[derive(Clone, Debug, Default)]
pub(super) struct ThreadRow {
    pub name: String,
    pub cpu_share: f64,
    pub cpu_ns: u64,
    pub core_wanted: Option<usize>,
    /// The one core that it may run on, if it is one.
    pub core_got: Option<usize>,
    /// The core that it ran on last.
    pub core_last: usize,
    /// Times its core was given to another although it had work.
    pub involuntary_switches: u64,
    /// Times it went on on another core, if the kernel says.
    pub migrations: Option<u64>,
}

impl Threads {
    /// Returns all threads, those of the pipeline first. A share of CPU time is of `elapsed_ns`, the time since
    /// the last look.
    pub(super) fn look(&mut self, placements: &[Placement], elapsed_ns: u64) -> Vec<ThreadRow> {
        let threads = probe::threads();
        let (before, mut io) = (&self.before, 0);
        let mut rows: Vec<(usize, ThreadRow)> = threads
            .iter()
            .map(|thread| {
                let place = place_of(thread, placements, &mut io);
                let placement = place.map(|place| &placements[place]);
                let since_before = before
                    .get(&thread.id)
                    .map(|before| thread.cpu_ns.saturating_sub(*before));
                let row = ThreadRow {
                    name: placement.map_or(&thread.name, |one| &one.name).clone(),
                    cpu_share: since_before.unwrap_or(0) as f64 / elapsed_ns as f64,
                    cpu_ns: thread.cpu_ns,
                    core_wanted: placement.and_then(|one| one.core_wanted),
                    core_got: thread.core_tied,
                    core_last: thread.core,
                    involuntary_switches: thread.involuntary_switches,
                    migrations: thread.migrations,
                };
                (place.unwrap_or(usize::MAX), row)
            })
            .collect();
        self.before = threads.iter().map(|one| (one.id, one.cpu_ns)).collect();
        // Those of the pipeline first.
        rows.sort_by_key(|row| row.0);
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

/// Finds a thread among those that were placed. Libzmq's I/O threads go by names of its own, in the order of
/// their lanes: `io` is the number of those found so far.
fn place_of(thread: &ThreadSample, placements: &[Placement], io: &mut usize) -> Option<usize> {
    if thread.name.contains("/ZMQbg/IO/") {
        let mut of_io = (0..placements.len()).filter(|&at| placements[at].name.starts_with("io-"));
        let place = of_io.nth(*io);
        *io += 1;
        return place;
    }
    let kept = |name: &str| {
        let bytes = name.as_bytes();
        bytes[..bytes.len().min(THREAD_NAME_MAX)] == *thread.name.as_bytes()
    };
    placements.iter().position(|one| kept(&one.name))
}
