//! What the kernel knows of a thread: the CPU time it got, and how often its core was taken from it.
//!
//! The thread opens what `/proc` has of it; whoever waits for the thread reads it, and only then, without
//! allocating. Times are nanoseconds.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    sync::{Arc, OnceLock},
};

use rustix::thread::Pid;

use crate::host::pin;

/// Bytes of the longest file read.
const FILE_BYTES_MAX: usize = 4_096;
/// The field of `stat` with the core that a thread ran on last, counted from 1 as in proc(5).
const STAT_CORE: usize = 39;
/// What stands in `status` before the times that a thread's core was taken.
const INVOLUNTARY: &str = "nonvoluntary_ctxt_switches";
/// What stands in `status` before the times that a thread gave its core away to wait.
const VOLUNTARY: &str = "voluntary_ctxt_switches";
/// What stands in `sched` before the times that a thread went on on another core.
const MIGRATIONS: &str = "se.nr_migrations";

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
    /// Times it gave its core away to wait for something.
    pub voluntary_switches: u64,
    /// Times its core was given to another although it had work.
    pub involuntary_switches: u64,
}

impl Sample {
    /// Returns what the thread did since an earlier sample, in words that follow "its thread".
    pub(crate) fn since(&self, before: &Self) -> String {
        format!(
            "had {:.1} ms of CPU time, waited {} times and lost its core {} times",
            self.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e6,
            self.voluntary_switches
                .saturating_sub(before.voluntary_switches),
            self.involuntary_switches
                .saturating_sub(before.involuntary_switches),
        )
    }
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
        let status = read(&files.status, &mut buffer)?;
        Some(Sample {
            cpu_ns,
            voluntary_switches: number_after(status, VOLUNTARY)?,
            involuntary_switches: number_after(status, INVOLUNTARY)?,
        })
    }
}

/// A thread of this process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ThreadSample {
    pub id: u32,
    /// As the kernel keeps it: 15 bytes at most.
    pub name: String,
    pub cpu_ns: u64,
    /// The core that it ran on last.
    pub core: usize,
    /// The one core that it may run on, if it is one.
    pub core_tied: Option<usize>,
    /// Times its core was given to another although it had work.
    pub involuntary_switches: u64,
    /// Times it went on on another core; `None` where the kernel does not say.
    pub migrations: Option<u64>,
}

/// Returns all threads of this process, as far as the kernel tells of them, by id. Opens five files each.
pub(crate) fn threads() -> Vec<ThreadSample> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let ids = tasks
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok());
    let mut threads: Vec<ThreadSample> = ids.filter_map(thread).collect();
    threads.sort_unstable_by_key(|thread| thread.id);
    threads
}

/// Returns the CPU time of the main thread of a process, in nanoseconds, if it is there.
pub(crate) fn process_cpu_ns(id: u32) -> Option<u64> {
    let mut buffer = [0; FILE_BYTES_MAX];
    let file = File::open(format!("/proc/{id}/schedstat")).ok()?;
    number_after(read(&file, &mut buffer)?, "")
}

/// Returns a thread of this process, if it is there and the kernel tells of it.
pub(crate) fn thread(id: u32) -> Option<ThreadSample> {
    let mut buffer = [0; FILE_BYTES_MAX];
    let file = |name: &str| File::open(format!("/proc/self/task/{id}/{name}")).ok();
    let cpu_ns = number_after(read(&file("schedstat")?, &mut buffer)?, "")?;
    let name = read(&file("comm")?, &mut buffer)?.trim_end().to_owned();
    // Behind the name, which may hold anything: the fields from the third on.
    let (_, fields) = read(&file("stat")?, &mut buffer)?.rsplit_once(')')?;
    let core = fields.split_whitespace().nth(STAT_CORE - 3)?.parse().ok()?;
    let status = file("status")?;
    let involuntary_switches = number_after(read(&status, &mut buffer)?, INVOLUNTARY)?;
    // Kernels without CONFIG_SCHED_DEBUG have no such file.
    let migrations =
        file("sched").and_then(|file| number_after(read(&file, &mut buffer)?, MIGRATIONS));
    Some(ThreadSample {
        id,
        name,
        cpu_ns,
        core,
        core_tied: pin::core_tied(Pid::from_raw(id.try_into().ok()?)),
        involuntary_switches,
        migrations,
    })
}

fn read<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
    let length = file.read_at(buffer, 0).ok()?;
    str::from_utf8(&buffer[..length]).ok()
}

/// Returns the first number behind `start`, and a colon if there is one, on the first line that begins with it.
fn number_after(text: &str, start: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(start))?;
    let rest = rest.trim_start();
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_found_by_name_on_a_core_of_theirs() {
        let name = std::thread::Builder::new().name("(a) b".to_owned());
        let found = name.spawn(|| {
            let core = *crate::host::topology::usable_cores().last().unwrap();
            crate::host::pin::pin_current("(a) b", Some(core), true).unwrap();
            (core, threads())
        });
        let (core, threads) = found.unwrap().join().unwrap();
        let named: Vec<_> = threads.iter().filter(|one| one.name == "(a) b").collect();
        assert_eq!(named.len(), 1, "{threads:?}");
        assert_eq!((named[0].core, named[0].core_tied), (core, Some(core)));
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(number_after("12 34 5", ""), Some(12));
        let status = "voluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t8\n";
        assert_eq!(number_after(status, VOLUNTARY), Some(7));
        assert_eq!(number_after(status, INVOLUNTARY), Some(8));
        let sched = "se.vruntime       :   1.5\nse.nr_migrations     :        9\n";
        assert_eq!(number_after(sched, MIGRATIONS), Some(9));
        assert_eq!(number_after(sched, INVOLUNTARY), None);
    }

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
