//! One set of histograms: HdrHistograms with three significant digits, from 1 ns to one hour.
//!
//! Three digits keep a bucket within 0.1 % of its value; a set is about 0.8 MB, of which a run
//! touches a few kilobytes. Longer than an hour counts as an hour.

use hdrhistogram::Histogram;

use crate::message::Header;

const HIGHEST_NS: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// What is known about the publishers' clock against ours.
///
/// Clocks of two hosts differ, and a histogram takes no negative numbers. As long as no message
/// seems to have arrived before it was sent, feed times are plain differences. Once one has, the
/// clocks are known to differ, and what is recorded from then on is the excess over the smallest
/// difference seen: zero for the fastest message, and true for how much longer the others took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedClock {
    /// The smallest difference seen, ours minus theirs, in nanoseconds, where below zero.
    pub behind_ns: i64,
    /// Messages that seemed to have arrived before they were sent.
    pub negative: u64,
}

impl FeedClock {
    /// Returns the feed time to record for a message handled at `handled_ns` by our wall clock and
    /// stamped at `stamped_ns` by the publisher's.
    #[inline]
    pub fn feed_ns(&mut self, handled_ns: u64, stamped_ns: u64) -> u64 {
        let difference = handled_ns.wrapping_sub(stamped_ns) as i64;
        if difference < 0 {
            self.negative += 1;
            self.behind_ns = self.behind_ns.min(difference);
        }
        difference.abs_diff(self.behind_ns)
    }

    /// Tells whether feed times are an excess over the fastest message, not plain differences.
    #[must_use]
    pub fn is_excess(&self) -> bool {
        self.behind_ns < 0
    }

    fn merge(&mut self, other: &Self) {
        self.behind_ns = self.behind_ns.min(other.behind_ns);
        self.negative += other.negative;
    }
}

/// Histograms of the stages of a message's way, in nanoseconds, a count a message.
#[derive(Clone, Debug)]
pub struct Stages {
    /// Received to handler start.
    pub queue: Histogram<u64>,
    /// Handler start to handler done.
    pub handler: Histogram<u64>,
    /// Publisher's timestamp to handler start; empty where the envelope has no timestamp.
    pub feed: Histogram<u64>,
    /// How to read `feed`.
    pub feed_clock: FeedClock,
}

impl Default for Stages {
    fn default() -> Self {
        let empty = || {
            Histogram::new_with_bounds(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
                .expect("the bounds are constants that fit each other")
        };
        Self {
            queue: empty(),
            handler: empty(),
            feed: empty(),
            feed_clock: FeedClock::default(),
        }
    }
}

/// When a handler worked on a batch.
#[derive(Clone, Copy, Debug)]
pub struct HandledAt {
    /// Before the first message, in nanoseconds of the pipeline's clock.
    pub start_ns: u64,
    /// After the last message, by the same clock.
    pub end_ns: u64,
    /// Before the first message, by the wall clock, in nanoseconds since 1970.
    pub start_wall_ns: u64,
}

impl Stages {
    /// Records the messages that the handler has seen of a batch, in order.
    pub(crate) fn record(&mut self, handled: &[Header], at: HandledAt) {
        if handled.is_empty() {
            return;
        }
        let mean_ns = at.end_ns.saturating_sub(at.start_ns) as f64 / handled.len() as f64;
        self.handler
            .record_n((mean_ns as u64).min(HIGHEST_NS), handled.len() as u64)
            .expect("the value is within the bounds");
        for (index, header) in handled.iter().enumerate() {
            let behind_ns = (mean_ns * index as f64) as u64;
            let queue_ns = (at.start_ns + behind_ns).saturating_sub(header.received_ns);
            self.queue.saturating_record(queue_ns);
            if let Some(stamped_ns) = header.timestamp_ns() {
                let feed_ns = self
                    .feed_clock
                    .feed_ns(at.start_wall_ns + behind_ns, stamped_ns);
                self.feed.saturating_record(feed_ns);
            }
        }
    }

    /// Adds another set's counts to this one's.
    pub fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.queue, &other.queue),
            (&mut self.handler, &other.handler),
            (&mut self.feed, &other.feed),
        ];
        for (into, from) in pairs {
            into.add(from).expect("all histograms have the same bounds");
        }
        self.feed_clock.merge(&other.feed_clock);
    }

    /// Forgets the counts, but not what was learned of the publishers' clock.
    pub(crate) fn reset(&mut self) {
        self.queue.reset();
        self.handler.reset();
        self.feed.reset();
        self.feed_clock.negative = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_clocks_give_plain_differences() {
        let mut clock = FeedClock::default();
        assert_eq!(clock.feed_ns(150, 100), 50);
        assert_eq!(clock.feed_ns(220, 200), 20);
        assert!(!clock.is_excess());
    }

    #[test]
    fn a_publisher_ahead_of_us_gives_the_excess_over_the_fastest() {
        let mut clock = FeedClock::default();
        assert_eq!(clock.feed_ns(1_000, 1_500), 0);
        assert_eq!(clock.feed_ns(2_000, 2_470), 30);
        assert_eq!(clock.feed_ns(3_000, 3_510), 0);
        assert_eq!((clock.behind_ns, clock.negative), (-510, 3));
        assert!(clock.is_excess());
    }

    #[test]
    fn hours_of_clock_jump_stay_within_the_histogram() {
        let mut stages = Stages::default();
        let hours = 48 * 3_600_000_000_000;
        for (handled, stamped) in [(hours, 1), (1, hours), (0, u64::MAX), (u64::MAX, 1)] {
            let feed_ns = stages.feed_clock.feed_ns(handled, stamped);
            stages.feed.saturating_record(feed_ns);
        }
        assert_eq!(stages.feed.len(), 4);
    }

    proptest! {
        #[test]
        fn never_above_the_distance_from_the_fastest(times: Vec<(u64, u64)>) {
            let mut clock = FeedClock::default();
            for (handled, stamped) in times {
                let feed_ns = clock.feed_ns(handled, stamped);
                let difference = handled.wrapping_sub(stamped) as i64;
                prop_assert_eq!(i128::from(feed_ns), i128::from(difference) - i128::from(clock.behind_ns));
            }
        }
    }
}
