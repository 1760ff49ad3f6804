//! What the kernel knows of a thread: the CPU time it got, and how often its core was taken from it.
//!
//! The thread opens what `/proc` has of it; whoever waits for the thread reads it, and only then, without
//! allocating. Times are nanoseconds.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, OnceLock},
};

/// Bytes of the longest file read.
const FILE_BYTES_MAX: usize = 4_096;

/// A thread to be looked at. Copies look at the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probe(Arc<OnceLock<Files>>);

#[derive(Debug)]
struct Files {
    schedstat: File,
    status: File,
}

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
        let open = |name: &str| File::open(format!("/proc/thread-self/{name}"));
        if let (Ok(schedstat), Ok(status)) = (open("schedstat"), open("status")) {
            self.0.get_or_init(|| Files { schedstat, status });
        }
    }

    /// Reads the thread's counters. `None` before it is attached, and where the kernel does not say.
    pub(crate) fn sample(&self) -> Option<Sample> {
        let files = self.0.get()?;
        let mut buffer = [0; FILE_BYTES_MAX];
        let cpu_ns = number_after(read(&files.schedstat, &mut buffer)?, "")?;
        let switches = "nonvoluntary_ctxt_switches:";
        let involuntary_switches = number_after(read(&files.status, &mut buffer)?, switches)?;
        Some(Sample {
            cpu_ns,
            involuntary_switches,
        })
    }
}

fn read<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
    let length = file.read_at(buffer, 0).ok()?;
    str::from_utf8(&buffer[..length]).ok()
}

/// Returns the first number behind `start` on the first line that begins with it.
fn number_after(text: &str, start: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(start))?;
    rest.split_whitespace().next()?.parse().ok()
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
