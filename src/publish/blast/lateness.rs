//! How late the blaster was by its own fault, so that a measurement can tell the generator from the
//! subject. Times are nanoseconds on the blaster's watch.
//!
//! A message counts as late from when it was due, or from when subscribers last let go, whichever is
//! later, to when it is stamped. Messages of a chunk are recorded in a few groups, each as late as its
//! first and latest message: one by one would take a tenth of the top rate.

use hdrhistogram::Histogram;

use crate::latency::{Quantiles, Stages};

/// The most groups that a chunk is recorded in.
const GROUPS_MAX: usize = 16;

/// How late messages were, and how long subscribers made the blaster wait.
pub(super) struct Lateness {
    histogram: Histogram<u64>,
    /// What is stamped before is left out.
    warm_until_ns: u64,
    /// When subscribers last let go.
    excused_until_ns: u64,
    blocked_ns: u64,
}

impl Lateness {
    /// Begins without messages. Those stamped before `warm_until_ns` will be left out.
    pub(super) fn new(warm_until_ns: u64) -> Self {
        Self {
            // With the bounds that latencies have.
            histogram: Stages::default().feed,
            warm_until_ns,
            excused_until_ns: 0,
            blocked_ns: 0,
        }
    }

    /// Records `messages` stamped at `now_ns`, of which `due_ns` says when each was due, counted from 0.
    pub(super) fn record(&mut self, now_ns: u64, messages: usize, due_ns: impl Fn(u64) -> u64) {
        if now_ns < self.warm_until_ns {
            return;
        }
        let group = messages.div_ceil(GROUPS_MAX).max(1);
        for first in (0..messages).step_by(group) {
            let since_ns = due_ns(first as u64).max(self.excused_until_ns);
            let count = group.min(messages - first) as u64;
            self.histogram
                .saturating_record_n(now_ns.saturating_sub(since_ns), count);
        }
    }

    /// Notes that subscribers made the blaster wait.
    pub(super) fn excuse(&mut self, from_ns: u64, until_ns: u64) {
        self.blocked_ns += until_ns - from_ns;
        self.excused_until_ns = until_ns;
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        Quantiles::of(&self.histogram)
    }

    pub(super) fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    pub(super) fn blocked_s(&self) -> f64 {
        self.blocked_ns as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_subscribers_cost_is_not_the_generators_fault() {
        let mut lateness = Lateness::new(0);
        lateness.record(1_000, 1, |_| 900);
        assert_eq!(lateness.quantiles().max, Some(100));
        lateness.excuse(1_000, 501_000);
        lateness.record(501_200, 3, |index| 2_000 + index);
        lateness.record(501_900, 1, |_| 501_500);
        let quantiles = lateness.quantiles();
        assert_eq!(
            (quantiles.count, quantiles.p50, quantiles.max),
            (5, Some(200), Some(400))
        );
        assert_eq!(lateness.blocked_s(), 0.000_5);
    }

    #[test]
    fn what_is_stamped_while_warming_up_is_left_out() {
        let mut lateness = Lateness::new(1_000);
        lateness.record(999, 5, |_| 0);
        assert_eq!(lateness.quantiles().count, 0);
        // Due before, and stamped after: it was late in the time that counts.
        lateness.record(1_000, 2, |_| 900);
        let quantiles = lateness.quantiles();
        assert_eq!((quantiles.count, quantiles.max), (2, Some(100)));
        lateness.excuse(1_000, 2_000);
        assert_eq!(lateness.blocked_s(), 0.000_001);
    }

    #[test]
    fn every_message_of_a_chunk_counts_once() {
        for messages in [1, 15, 16, 17, 500] {
            let mut lateness = Lateness::new(0);
            lateness.record(1_000, messages, |index| index);
            let quantiles = lateness.quantiles();
            assert_eq!(quantiles.count, messages as u64);
            assert_eq!(quantiles.max, Some(1_000));
        }
    }
}
