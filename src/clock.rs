//! The one seam to time: a monotonic clock for durations, the wall clock for what publishers stamp,
//! and this process's CPU time. All in nanoseconds.
//!
//! The monotonic clock is the time-stamp counter through `quanta` where the kernel trusts it, and
//! `clock_gettime` elsewhere. It is read once a message on the receive side, so its cost counts;
//! the wall clock is read at most once a batch. The two are never subtracted from each other.

#[cfg(test)]
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One second in nanoseconds.
pub const SECOND_NS: u64 = 1_000_000_000;
/// By how much the wall clock must have been set to count as set. Time daemons slew what is less (`ntpd` up to
/// 128 ms), and a thread that loses its core between two readings rarely does for as long.
const SET_NS: u64 = 100_000_000;
/// Readings of two clocks, one after the other, of which the closest pair counts.
const READINGS: usize = 16;

/// A monotonic clock whose zero is the moment it was made.
///
/// Copies share that zero, so their readings compare across threads.
#[derive(Clone, Debug)]
pub struct Clock {
    counter: quanta::Clock,
    zero: u64,
}

impl Clock {
    /// Starts a clock. The first one in a process calibrates the counter, which takes up to 0.2 s.
    #[must_use]
    pub fn start() -> Self {
        let counter = quanta::Clock::new();
        let zero = counter.raw();
        Self { counter, zero }
    }

    /// Returns the time since the clock was started, in nanoseconds.
    #[inline]
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.counter.delta_as_nanos(self.zero, self.counter.raw())
    }
}

/// The time since a moment, by the kernel's monotonic clock.
///
/// It costs twice what a [`Clock`] does, but keeps pace with the wall clock, since the kernel
/// disciplines both. A `Clock` goes by the counter alone: what it differs by, a few parts in a million
/// from one process to the next, is microseconds after seconds.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts at zero.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Returns the time since the start, in nanoseconds.
    #[inline]
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// Returns the wall clock: nanoseconds since 1970-01-01 UTC, 0 if it stands before that.
#[inline]
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn wall_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// The wall clock as it stood at the start and has gone on since, and as it stands now.
///
/// The first goes by the kernel's monotonic clock, which is slewed as the wall clock is. So the two stay
/// together, for however long, until the wall clock is set: by people, by a time daemon that finds it far off,
/// by a leap second, by a host that slept. Which of the two is right from then on can't be known here: it may
/// have been wrong before as well as after.
#[derive(Clone, Debug)]
pub struct WallClock {
    start_ns: u64,
    since_start: Stopwatch,
    /// By how much a test sets it.
    #[cfg(test)]
    jumped_ns: Arc<AtomicI64>,
}

/// A moment by a [`WallClock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime {
    /// What the wall clock would show had it not been set since the start, in nanoseconds since 1970.
    pub steady_ns: u64,
    /// By how many nanoseconds it has been set since the start; 0 where by less than 0.1 s.
    pub set_ns: i64,
}

impl WallClock {
    /// Reads the wall clock, to go on from there.
    #[must_use]
    pub fn start() -> Self {
        let since_start = Stopwatch::start();
        let readings = (0..READINGS).map(|_| {
            let before_ns = since_start.elapsed_ns();
            let wall_ns = wall_ns();
            let took_ns = since_start.elapsed_ns() - before_ns;
            (took_ns, wall_ns.saturating_sub(before_ns + took_ns / 2))
        });
        Self {
            start_ns: readings.min().map_or(0, |(_, start_ns)| start_ns),
            since_start,
            #[cfg(test)]
            jumped_ns: Arc::default(),
        }
    }

    /// Reads it.
    #[inline]
    #[must_use]
    pub fn now(&self) -> WallTime {
        // In this order: who loses its core in between takes the wall clock to be ahead, and no message to be early.
        let steady_ns = self.start_ns + self.since_start.elapsed_ns();
        let wall_ns = wall_ns();
        #[cfg(test)]
        let wall_ns = wall_ns.saturating_add_signed(self.jumped_ns.load(Relaxed));
        let set_ns = wall_ns.wrapping_sub(steady_ns) as i64;
        let is_set = set_ns.unsigned_abs() >= SET_NS;
        WallTime {
            steady_ns,
            set_ns: if is_set { set_ns } else { 0 },
        }
    }

    /// Sets the clock, and all its copies, to this far from what the host's shows.
    #[cfg(test)]
    pub(crate) fn set(&self, jumped_ns: i64) {
        self.jumped_ns.store(jumped_ns, Relaxed);
    }
}

impl WallTime {
    /// Returns the moment `ns` later.
    #[inline]
    #[must_use]
    pub fn after(self, ns: u64) -> Self {
        Self {
            steady_ns: self.steady_ns.saturating_add(ns),
            ..self
        }
    }
}

/// Returns the CPU time, user and system, that all threads of this process have used so far.
#[must_use]
pub fn process_cpu_ns() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as u64 * SECOND_NS + used.tv_nsec as u64
}

/// A moment by which something must have happened.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(std::time::Instant);

impl Deadline {
    /// The moment `after` from now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn after(after: Duration) -> Self {
        Self(std::time::Instant::now() + after)
    }

    /// Returns how long is left, zero once it has passed.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn left(&self) -> Duration {
        self.0.saturating_duration_since(std::time::Instant::now())
    }

    /// Tells whether it has passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.left().is_zero()
    }
}
