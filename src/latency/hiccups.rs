//! The platform's hiccups: what holds up a thread that does nothing but sleep, or nothing but spin, core by core.
//!
//! What holds up such a thread (other threads, interrupts, a hypervisor, a frozen process) holds up lanes and
//! workers there just as well, so a delay that hiccups show as well is not their doing. There are two ways to look.
//!
//! By sleeping, beside lanes and workers: how late a thread is woken. The method is
//! that of jHiccup (Gil Tene): a thread a core sleeps for 1 ms again and again, and records how late it
//! woke, less the smallest lateness seen, which is the timer's own. The times it should have woken at in
//! the meantime are made up for (coordinated omission): of a hiccup of 100 ms, 99 ms, 98 ms and so on are
//! recorded with it. Moments to wake at are on a grid, so that lateness does not add up.
//!
//! A thread wakes a thousand times a second, which takes 2 to 3 % of a core of a virtual
//! machine of two (13 to 23 of its 30 µs a wake are a bare `nanosleep`'s); so measure cores that lanes poll on only
//! while you look for something.
//!
//! By spinning, on cores that do nothing else yet: a thread reads the clock over and over, and records each gap
//! between two readings that is longer than what the reading itself takes. So whatever came between shows, at any
//! moment, and what it took in all; as with `hiccups` (Erik Rigtorp) and `rtla osnoise`. It takes the whole core.
//!
//! Values are nanoseconds.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam::channel;
use hdrhistogram::Histogram;
use rustix::thread::set_current_timer_slack;

use crate::{
    clock::Stopwatch,
    error::{Error, Result},
    host::pin::pin_current,
    latency::stages::{HIGHEST_NS, empty_histogram},
    stop::Stop,
};

/// How often a thread is to wake.
const EVERY_NS: u64 = 1_000_000;
/// Of a thread that spins, shorter gaps are its own: reading the clock, and what misses a cache.
const GAP_NS: u64 = 5_000;

/// Threads that measure hiccups. They end when it is dropped.
///
/// ```no_run
/// use pinfeed::latency::Hiccups;
///
/// let mut hiccups = Hiccups::start(&[2, 3])?;
/// // ... some time later, and again:
/// for (core, histogram) in hiccups.collect() {
///     println!("core {core}: up to {} ns late", histogram.max());
/// }
/// # Ok::<(), pinfeed::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "hiccups that are dropped are measured no more"]
pub struct Hiccups {
    meters: Vec<Meter>,
    stop: Stop,
}

/// The thread of a core.
#[derive(Debug)]
struct Meter {
    core: usize,
    recorded: Arc<Mutex<Histogram<u64>>>,
    thread: Option<JoinHandle<()>>,
}

/// What a thread does until the stop.
type Measure = fn(&Mutex<Histogram<u64>>, &Stop);

impl Hiccups {
    /// Starts a thread that sleeps on each of these cores, and returns when all of them are there.
    ///
    /// # Errors
    /// [`Error::Pin`] and [`Error::Thread`].
    pub fn start(cores: &[usize]) -> Result<Self> {
        Self::start_by(cores, sleep)
    }

    /// Starts a thread that spins on each of these cores, and returns when all of them are there. What is collected is
    /// then for how long each was held up, times of more than 5 µs.
    ///
    /// # Errors
    /// [`Error::Pin`] and [`Error::Thread`].
    pub fn start_spinning(cores: &[usize]) -> Result<Self> {
        Self::start_by(cores, spin)
    }

    fn start_by(cores: &[usize], measure: Measure) -> Result<Self> {
        let mut hiccups = Self {
            meters: Vec::new(),
            stop: Stop::default(),
        };
        for &core in cores {
            let meter = Meter::start(core, hiccups.stop.clone(), measure)?;
            hiccups.meters.push(meter);
        }
        Ok(hiccups)
    }

    /// Returns for each core how late its thread woke since the last call, in nanoseconds, a count a
    /// millisecond; or for how long it was held up, where it spins.
    pub fn collect(&mut self) -> Vec<(usize, Histogram<u64>)> {
        let collect = |meter: &Meter| (meter.core, meter.collect());
        self.meters.iter().map(collect).collect()
    }

    /// Ends the threads, and returns what was recorded since the last [`collect`](Self::collect).
    pub fn stop(mut self) -> Vec<(usize, Histogram<u64>)> {
        self.end();
        self.collect()
    }

    /// Ends the threads; what they recorded can still be collected.
    pub(crate) fn end(&mut self) {
        self.stop.request();
        for meter in &mut self.meters {
            // It panics only where this crate has a defect, and then there is nothing to measure by.
            let _ = meter.thread.take().map(JoinHandle::join);
        }
    }
}

impl Drop for Hiccups {
    fn drop(&mut self) {
        self.end();
    }
}

impl Meter {
    fn start(core: usize, stop: Stop, measure: Measure) -> Result<Self> {
        let name = format!("hiccups-{core}");
        let recorded = Arc::new(Mutex::new(empty_histogram()));
        let (say, word) = channel::bounded(1);
        let run = {
            let (name, recorded) = (name.clone(), recorded.clone());
            move || {
                let pinned = pin_current(&name, Some(core), true);
                let is_pinned = pinned.is_ok();
                let _ = say.send(pinned);
                if is_pinned {
                    measure(&recorded, &stop);
                }
            }
        };
        let thread = thread::Builder::new().name(name.clone()).spawn(run);
        let thread = thread.map_err(|source| Error::Thread {
            thread: name.clone(),
            source,
        })?;
        word.recv()
            .map_err(|_| Error::ThreadPanicked { thread: name })??;
        Ok(Self {
            core,
            recorded,
            thread: Some(thread),
        })
    }

    fn collect(&self) -> Histogram<u64> {
        let empty = empty_histogram();
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        mem::replace(&mut recorded, empty)
    }
}

fn sleep(recorded: &Mutex<Histogram<u64>>, stop: &Stop) {
    // Where it is not granted, the usual 50 µs are part of the smallest lateness.
    let _ = set_current_timer_slack(std::num::NonZeroU64::new(1));
    let clock = Stopwatch::start();
    let (mut due_ns, mut smallest_ns) = (EVERY_NS, u64::MAX);
    while !stop.requested() {
        thread::sleep(Duration::from_nanos(
            due_ns.saturating_sub(clock.elapsed_ns()),
        ));
        let late_ns = clock.elapsed_ns().saturating_sub(due_ns);
        smallest_ns = smallest_ns.min(late_ns);
        let hiccup_ns = (late_ns - smallest_ns).min(HIGHEST_NS);
        recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record_correct(hiccup_ns, EVERY_NS)
            .expect("the value is within the bounds");
        due_ns += (late_ns / EVERY_NS + 1) * EVERY_NS;
    }
}

fn spin(recorded: &Mutex<Histogram<u64>>, stop: &Stop) {
    let clock = Stopwatch::start();
    let mut last_ns = clock.elapsed_ns();
    while !stop.requested() {
        let now_ns = clock.elapsed_ns();
        let gap_ns = now_ns - last_ns;
        if gap_ns > GAP_NS {
            recorded
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .record(gap_ns.min(HIGHEST_NS))
                .expect("the value is within the bounds");
        }
        last_ns = now_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Deadline, host::topology::usable_cores};

    #[test]
    fn a_core_that_does_not_exist_is_an_error() {
        let cores = usable_cores();
        let error = Hiccups::start(&[cores[0], usize::MAX]).unwrap_err();
        assert!(matches!(error, Error::Pin { .. }), "{error}");
    }

    #[test]
    fn each_core_has_a_count_a_millisecond() {
        let cores = usable_cores();
        let clock = Stopwatch::start();
        let mut hiccups = Hiccups::start(&cores).unwrap();
        let mut counts = vec![0; cores.len()];
        let mut add = |collected: Vec<(usize, Histogram<u64>)>| {
            for ((count, core), collected) in counts.iter_mut().zip(&cores).zip(collected) {
                assert_eq!(collected.0, *core);
                *count += collected.1.len();
            }
            counts.iter().copied().min().unwrap()
        };
        let deadline = Deadline::after(Duration::from_secs(60));
        while add(hiccups.collect()) < 300 {
            assert!(!deadline.passed());
            thread::sleep(Duration::from_millis(10));
        }
        add(hiccups.stop());
        let elapsed_ms = clock.elapsed_ns() / 1_000_000;
        for count in counts {
            // Those made up for are rounded down, and each hiccup leaves one out.
            assert!(count <= elapsed_ms, "{count} in {elapsed_ms} ms");
        }
    }
}
