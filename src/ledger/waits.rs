//! What a lane waited. Times are nanoseconds, points in time those of the pipeline's clock.

use crate::ledger::Counter;

/// What a lane has waited, and whether it waits. Lanes that carry copies of a feed look at each other's all the time.
#[derive(Debug, Default)]
pub struct Waits {
    /// Times the handoff was full, so that the lane had to wait.
    pub blocked: Counter,
    /// For how long the lane waited for a full handoff.
    pub blocked_ns: Counter,
    /// For how long the lane waited for its turn with a feed that other lanes carry copies of.
    pub queued_ns: Counter,
    /// From when on it waits, beside what is counted of that wait; 0 while it does not.
    since_ns: Counter,
}

impl Waits {
    /// Takes note that the lane waits from `now_ns` on. What it has waited is to be [counted](Counter::add) before it
    /// [ends](Self::end), or before it begins again with a later time.
    pub(crate) fn begin(&self, now_ns: u64) {
        self.since_ns.set(now_ns);
    }

    /// Takes note that it waits no longer.
    pub(crate) fn end(&self) {
        self.since_ns.set(0);
    }

    /// For how long the lane has waited until `now_ns`, and so could hear nothing. While a wait is being counted this
    /// may be more than it will be, never less.
    #[inline]
    pub(crate) fn waited_ns(&self, now_ns: u64) -> u64 {
        // First: whatever it no longer tells of has been counted.
        let since_ns = match self.since_ns.get() {
            0 => now_ns,
            since_ns => since_ns,
        };
        self.blocked_ns.get() + self.queued_ns.get() + now_ns.saturating_sub(since_ns)
    }
}
