//! What the kernel knows of a thread: the CPU time it got, and how often its core was taken from it.
//!
//! Read from `/proc` by whoever waits for the thread, and only then. Times are nanoseconds.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering::Relaxed},
    },
};

/// A thread to be looked at. Copies look at the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probe(Arc<AtomicI32>);

/// A thread's counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub cpu_ns: u64,
    /// Times its core was given to another although it had work.
    pub involuntary_switches: u64,
}

impl Probe {
    /// To be called by the thread itself.
    pub(crate) fn attach(&self) {
        self.0
            .store(rustix::thread::gettid().as_raw_nonzero().get(), Relaxed);
    }

    /// Reads the thread's counters. `None` before it is attached, and where the kernel does not say.
    pub(crate) fn sample(&self) -> Option<Sample> {
        let folder = match self.0.load(Relaxed) {
            0 => return None,
            thread => format!("/proc/self/task/{thread}"),
        };
        let schedstat = fs::read_to_string(format!("{folder}/schedstat")).ok()?;
        let status = fs::read_to_string(format!("{folder}/status")).ok()?;
        let switches = status
            .lines()
            .find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?;
        Some(Sample {
            cpu_ns: schedstat.split_whitespace().next()?.parse().ok()?,
            involuntary_switches: switches.trim().parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_at_work_uses_cpu_time() {
        let probe = Probe::default();
        assert_eq!(probe.sample(), None, "nothing is attached");
        probe.attach();
        let before = probe.sample().expect("the kernel says");
        let deadline = crate::clock::Deadline::after(std::time::Duration::from_secs(60));
        while probe.sample().expect("the kernel says").cpu_ns == before.cpu_ns {
            assert!(!deadline.passed());
        }
    }
}
