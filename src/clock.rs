//! The one seam to time: a monotonic clock for durations, the wall clock for what publishers stamp,
//! and this process's CPU time. All in nanoseconds.
//!
//! The monotonic clock is the time-stamp counter through `quanta` where the kernel trusts it, and
//! `clock_gettime` elsewhere. It is read once a message on the receive side, so its cost counts;
//! the wall clock is read at most once a batch. The two are never subtracted from each other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One second in nanoseconds.
pub const SECOND_NS: u64 = 1_000_000_000;

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
