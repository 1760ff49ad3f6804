//! The pipeline's threads while they run: whether each is still tied to its core, and what the kernel counted
//! of it.
//!
//! Once a second each thread's affinity mask is compared with the core it was tied to, a call of the kernel
//! each: `taskset`, cpusets and cores that go away change it without a word. What the kernel counted is read
//! when a thread ends, by itself, since nothing is left of it afterwards.

use std::sync::{Arc, OnceLock};

use rustix::thread::{Pid, gettid};

use crate::{
    clock::SECOND_NS,
    flight::{AnomalyKind, FlightRecord, Hop, Sighting},
    host::{
        cpulist,
        pin::{self, Placement},
        probe::{self, ThreadSample},
    },
    pipeline::ThreadOutcome,
};

/// What a thread leaves when it ends: what the kernel knew of it, where it said.
#[derive(Debug, Default)]
pub(super) struct LastLook(Arc<OnceLock<Option<ThreadSample>>>);

impl Drop for LastLook {
    /// To be dropped by the thread itself, at its end.
    fn drop(&mut self) {
        self.0
            .get_or_init(|| probe::thread(gettid().as_raw_nonzero().get() as u32));
    }
}

/// A thread, and where it was put.
#[derive(Debug)]
pub(super) struct Enlisted {
    pub placement: Placement,
    thread: Pid,
    end: Arc<OnceLock<Option<ThreadSample>>>,
    /// Whether it was found off its core, and that was said.
    is_astray: bool,
}

impl Enlisted {
    pub(super) fn new(placement: Placement, thread: Pid, last_look: &LastLook) -> Self {
        Self {
            // What did not work out to begin with is known.
            is_astray: placement.failed(),
            placement,
            thread,
            end: last_look.0.clone(),
        }
    }

    /// A thread of another library's, which leaves nothing when it ends.
    pub(super) fn foreign(placement: Placement, thread: Pid) -> Self {
        Self {
            is_astray: placement.failed(),
            placement,
            thread,
            end: Arc::default(),
        }
    }

    fn hop(&self) -> Hop {
        if self.placement.name.starts_with("worker-") {
            Hop::Worker
        } else {
            Hop::Network
        }
    }

    /// Returns how it went astray, if it has since the last look.
    fn strays(&mut self) -> Option<String> {
        let wanted = self.placement.core_wanted?;
        if self.end.get().is_some() {
            return None;
        }
        let is_astray = !pin::is_tied_to(self.thread, wanted)?;
        let was_astray = std::mem::replace(&mut self.is_astray, is_astray);
        (is_astray && !was_astray).then(|| {
            let name = &self.placement.name;
            let allowed = cpulist::show(&pin::cores_allowed(Some(self.thread)));
            let last = probe::thread(self.thread.as_raw_nonzero().get() as u32);
            let last = last.map_or_else(String::new, |last| format!(", ran last on {}", last.core));
            format!("{name} was tied to core {wanted}, may run on {allowed}{last}")
        })
    }

    fn outcome(&self) -> ThreadOutcome {
        let now = || probe::thread(self.thread.as_raw_nonzero().get() as u32);
        let sample = self.end.get().cloned().unwrap_or_else(now);
        ThreadOutcome {
            placement: self.placement.clone(),
            core_now: sample.as_ref().map(|sample| sample.core),
            involuntary_switches: sample.as_ref().map(|sample| sample.involuntary_switches),
            migrations: sample.and_then(|sample| sample.migrations),
        }
    }
}

/// All threads of a pipeline.
#[derive(Debug)]
pub(super) struct Roster {
    threads: Vec<Enlisted>,
    placements: Vec<Placement>,
    looked_at_ns: u64,
}

impl Roster {
    pub(super) fn new(threads: Vec<Enlisted>, now_ns: u64) -> Self {
        Self {
            placements: threads.iter().map(|one| one.placement.clone()).collect(),
            threads,
            looked_at_ns: now_ns,
        }
    }

    pub(super) fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// Looks for threads off their cores, unless it did less than a second ago, and notes them down, once for
    /// each time that they go.
    pub(super) fn look(&mut self, now_ns: u64, flight: &FlightRecord) {
        if now_ns.saturating_sub(self.looked_at_ns) < SECOND_NS {
            return;
        }
        self.looked_at_ns = now_ns;
        for hop in [Hop::Network, Hop::Worker] {
            let of_hop = self.threads.iter_mut().filter(|one| one.hop() == hop);
            let astray: Vec<String> = of_hop.filter_map(Enlisted::strays).collect();
            if astray.is_empty() {
                continue;
            }
            let sighting = Sighting {
                at_ns: now_ns,
                kind: AnomalyKind::OffCore,
                hop,
                feed: None,
                topic: None,
                count: astray.len() as u64,
            };
            flight.note(sighting, || astray.join("; "));
        }
    }

    /// Returns where the threads ran, and what the kernel counted of them.
    pub(super) fn outcomes(&self) -> Vec<ThreadOutcome> {
        self.threads.iter().map(Enlisted::outcome).collect()
    }
}
