//! One set of histograms: HdrHistograms with three significant digits, from 1 ns to one hour.
//!
//! Three digits keep a bucket within 0.1 % of its value; a set is about 0.8 MB, of which a run
//! touches a few kilobytes. Longer than an hour counts as an hour.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use hdrhistogram::Histogram;

use crate::{
    clock::WallTime,
    latency::log,
    message::{Header, Origin},
};

pub(super) const HIGHEST_NS: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// Bits of a nanosecond's parts, enough that the last message of the largest batch is not a nanosecond off.
const PART_BITS: u32 = 16;
/// How far ahead of ours a publisher's clock must have been for one message that shows less than half of that to tell
/// that it was set right: rather than that the message took as long.
const SET_RIGHT_NS: i64 = 60_000_000_000;

/// What is known about the publishers' clocks against ours, line by line.
///
/// Clocks of two hosts differ, and a histogram takes no negative numbers. As long as no message of a
/// line seems to have arrived before it was sent, its feed times are plain differences. Once one has,
/// the clocks are known to differ, and what is recorded from then on is the excess over the smallest
/// difference seen: zero for the fastest message, and true for how much longer the others took.
///
/// Clocks are set, too. Where ours was, a message may be stamped by a clock that was set with it, as on the same
/// host, or by one that was not, and ours may have been wrong before or after. So its feed time is the one of the
/// two, by [our clock](crate::clock::WallClock) as it went on and as it stands, that fits what the line has shown
/// so far: no step of ours, of 0.1 s or more, makes messages late or early, but for those that are older than half of
/// it. From then on nothing more is learned of how clocks differ. A publisher's clock that was more than a minute
/// ahead, and is less than half as far, was set right, or nearly. One that is set back
/// can't be told from late messages: what it says is taken as said.
///
/// Copies share what they know, so all workers record the same for the same message.
#[derive(Clone, Debug)]
pub struct FeedClocks(Arc<[Box<[AtomicI64]>]>);

impl FeedClocks {
    /// Starts with nothing known. `lines` is the number of lines of each feed.
    #[must_use]
    pub fn new(lines: impl IntoIterator<Item = usize>) -> Self {
        let unknown = |lines| (0..lines).map(|_| AtomicI64::new(0)).collect();
        Self(lines.into_iter().map(unknown).collect())
    }

    /// Returns the feed time to record for a message handled at `handled` by our wall clock and
    /// stamped at `stamped_ns` by the publisher's, and whether it seems to have come before it was
    /// sent.
    #[inline]
    pub(crate) fn feed_ns(
        &self,
        origin: Origin,
        handled: WallTime,
        stamped_ns: u64,
    ) -> (u64, bool) {
        let smallest = self.smallest(origin);
        let mut behind = smallest.load(Relaxed);
        let difference = difference(behind, handled, stamped_ns);
        if handled.set_ns == 0 && difference < behind {
            behind = smallest.fetch_min(difference, Relaxed).min(difference);
        }
        if is_set_right(behind, difference) {
            behind = difference.min(0);
            smallest.store(behind, Relaxed);
        }
        let excess = difference.saturating_sub(behind).max(0);
        (excess as u64, difference < 0)
    }

    /// Returns how much longer than the fastest a message has been under way that was stamped at `stamped_ns`, by what is
    /// known. Nothing is learned of clocks: the message may not be handled yet.
    pub(crate) fn excess_ns(&self, origin: Origin, now: WallTime, stamped_ns: u64) -> u64 {
        let mut behind = self.smallest(origin).load(Relaxed);
        let difference = difference(behind, now, stamped_ns);
        if is_set_right(behind, difference) {
            behind = difference.min(0);
        }
        difference.saturating_sub(behind).max(0) as u64
    }

    #[inline]
    fn smallest(&self, origin: Origin) -> &AtomicI64 {
        &self.0[usize::from(origin.feed)][usize::from(origin.line)]
    }

    /// Returns how far our clock is behind the one of the publisher that is ahead of it most, in
    /// nanoseconds; 0 where none is known to be ahead.
    #[must_use]
    pub fn behind_ns(&self) -> u64 {
        let smallest = self.0.iter().flatten().map(|one| one.load(Relaxed)).min();
        smallest.unwrap_or(0).unsigned_abs()
    }
}

/// Returns the difference of a message's clocks, that which fits what is known where ours was set.
#[inline]
fn difference(behind: i64, now: WallTime, stamped_ns: u64) -> i64 {
    let difference = now.steady_ns.wrapping_sub(stamped_ns) as i64;
    if now.set_ns == 0 {
        difference
    } else {
        closest(behind, difference, now.set_ns)
    }
}

/// Tells whether a publisher's clock that was ahead was set right, as this difference shows.
#[inline]
fn is_set_right(behind: i64, difference: i64) -> bool {
    behind < -SET_RIGHT_NS && difference > behind / 2
}

/// Returns the difference to a clock as it went on, or as it was set, whichever is closer to what is known.
#[cold]
fn closest(known: i64, difference: i64, set_ns: i64) -> i64 {
    let by_set = difference.saturating_add(set_ns);
    if by_set.abs_diff(known) < difference.abs_diff(known) {
        by_set
    } else {
        difference
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
    /// Messages that seemed to have arrived before they were sent; see [`FeedClocks`].
    pub feed_negative: u64,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            queue: empty_histogram(),
            handler: empty_histogram(),
            feed: empty_histogram(),
            feed_negative: 0,
        }
    }
}

pub(super) fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
        .expect("the bounds are constants that fit each other")
}

/// Values in a row that a histogram cannot tell apart: messages read together have waited equally long
/// but for a few nanoseconds. They are counted here and recorded at once, which costs a comparison
/// instead of finding the bucket: of 50 ns a message in all it took 6.
#[derive(Default)]
struct Run {
    /// The lowest value of the bucket, and the first above it.
    bucket: (u64, u64),
    count: u64,
}

impl Run {
    #[inline]
    fn record(&mut self, histogram: &mut Histogram<u64>, value: u64) {
        if value >= self.bucket.0 && value < self.bucket.1 {
            self.count += 1;
        } else {
            self.begin(histogram, value);
        }
    }

    #[inline(never)]
    fn begin(&mut self, histogram: &mut Histogram<u64>, value: u64) {
        self.end(histogram);
        let value = value.min(HIGHEST_NS);
        self.bucket = (
            histogram.lowest_equivalent(value),
            histogram.next_non_equivalent(value),
        );
        self.count = 1;
    }

    fn end(&self, histogram: &mut Histogram<u64>) {
        if self.count > 0 {
            record_n(histogram, self.bucket.0, self.count);
        }
    }
}

fn record_n(histogram: &mut Histogram<u64>, value: u64, count: u64) {
    histogram
        .record_n(value.min(HIGHEST_NS), count)
        .expect("the value is within the bounds");
}

/// When a handler worked on a batch.
#[derive(Clone, Copy, Debug)]
pub struct HandledAt {
    /// Before the first message, in nanoseconds of the pipeline's clock.
    pub start_ns: u64,
    /// After the last message, by the same clock.
    pub end_ns: u64,
    /// Before the first message, by the wall clock.
    pub start_wall: WallTime,
}

impl Stages {
    /// Records the messages that the handler has seen of a batch, in order.
    pub(crate) fn record(&mut self, handled: &[Header], at: HandledAt, clocks: &FeedClocks) {
        if handled.is_empty() {
            return;
        }
        let took_ns = at.end_ns.saturating_sub(at.start_ns);
        let count = handled.len() as u64;
        record_n(&mut self.handler, took_ns / count, count);
        // How far behind the first a message was handled, in parts of a nanosecond.
        let step = took_ns.saturating_mul(1 << PART_BITS) / count;
        let mut behind = 0_u64;
        let (mut queue, mut feed) = (Run::default(), Run::default());
        for header in handled {
            let behind_ns = behind >> PART_BITS;
            behind = behind.saturating_add(step);
            let queue_ns = (at.start_ns + behind_ns).saturating_sub(header.received_ns);
            queue.record(&mut self.queue, queue_ns);
            if let Some(stamped_ns) = header.timestamp_ns() {
                let handled = at.start_wall.after(behind_ns);
                let (feed_ns, negative) = clocks.feed_ns(header.origin(), handled, stamped_ns);
                self.feed_negative += u64::from(negative);
                feed.record(&mut self.feed, feed_ns);
            }
        }
        queue.end(&mut self.queue);
        feed.end(&mut self.feed);
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
        self.feed_negative += other.feed_negative;
    }

    /// Returns the histograms with their [tags](crate::latency::log).
    #[must_use]
    pub fn tagged(&self) -> [(&'static str, &Histogram<u64>); 3] {
        [
            (log::QUEUE, &self.queue),
            (log::HANDLER, &self.handler),
            (log::FEED, &self.feed),
        ]
    }

    /// Forgets the counts.
    pub(crate) fn reset(&mut self) {
        self.queue.reset();
        self.handler.reset();
        self.feed.reset();
        self.feed_negative = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Origin = Origin { feed: 0, line: 0 };
    const SECOND: Origin = Origin { feed: 0, line: 1 };
    const HOUR_NS: i64 = 3_600_000_000_000;

    /// A moment by a clock that nobody set.
    fn at(steady_ns: u64) -> WallTime {
        WallTime {
            steady_ns,
            set_ns: 0,
        }
    }

    #[test]
    fn equal_clocks_give_plain_differences() {
        let clocks = FeedClocks::new([1]);
        assert_eq!(clocks.feed_ns(FIRST, at(150), 100), (50, false));
        assert_eq!(clocks.feed_ns(FIRST, at(220), 200), (20, false));
        assert_eq!(clocks.behind_ns(), 0);
    }

    #[test]
    fn a_publisher_ahead_of_us_gives_the_excess_over_the_fastest() {
        let clocks = FeedClocks::new([1]);
        let other_worker = clocks.clone();
        assert_eq!(clocks.feed_ns(FIRST, at(1_000), 1_500), (0, true));
        assert_eq!(other_worker.feed_ns(FIRST, at(2_000), 2_470), (30, true));
        assert_eq!(clocks.feed_ns(FIRST, at(3_000), 3_510), (0, true));
        assert_eq!(other_worker.feed_ns(FIRST, at(4_000), 4_500), (10, true));
        assert_eq!(clocks.behind_ns(), 510);
    }

    #[test]
    fn a_look_at_a_message_learns_nothing() {
        let clocks = FeedClocks::new([1]);
        assert_eq!(clocks.excess_ns(FIRST, at(1_000), 1_500), 0);
        assert_eq!(clocks.behind_ns(), 0);
        assert_eq!(clocks.excess_ns(FIRST, at(2_000), 1_500), 500);
        clocks.feed_ns(FIRST, at(1_000), 1_500);
        assert_eq!(clocks.excess_ns(FIRST, at(2_000), 2_470), 30);
        assert_eq!(clocks.excess_ns(FIRST, at(2_000), 2_600), 0);
        assert_eq!(clocks.behind_ns(), 500);
        // Ahead by an hour, and then set right.
        let hour_ns = HOUR_NS as u64;
        clocks.feed_ns(FIRST, at(3_000), 3_000 + hour_ns);
        assert_eq!(clocks.excess_ns(FIRST, at(4_000), 3_900), 100);
        assert_eq!(clocks.behind_ns(), hour_ns);
    }

    #[test]
    fn one_publishers_clock_says_nothing_of_anothers() {
        let clocks = FeedClocks::new([2]);
        assert_eq!(clocks.feed_ns(FIRST, at(1_000), 6_000), (0, true));
        assert_eq!(clocks.feed_ns(SECOND, at(1_000), 900), (100, false));
        assert_eq!(clocks.feed_ns(FIRST, at(1_000), 5_900), (100, true));
    }

    #[test]
    fn a_step_of_our_clock_makes_no_message_late_or_early() {
        let now_ns = 10 * HOUR_NS as u64;
        // How far the publisher's clock is ahead, and whether it is set with ours.
        for ahead_ns in [0, 2_000_000_000, -300] {
            for is_set_too in [false, true] {
                let clocks = FeedClocks::new([1]);
                for (step, set_ns) in [0, HOUR_NS, 0, -HOUR_NS, 2 * HOUR_NS, -10_000_000_000, 0]
                    .into_iter()
                    .enumerate()
                {
                    for took_ns in [500, 700, 400, 600] {
                        let handled = at(now_ns + step as u64 * 1_000_000);
                        let handled = WallTime { set_ns, ..handled };
                        let stamped = handled.steady_ns - took_ns;
                        let stamped = stamped.saturating_add_signed(ahead_ns);
                        let set_too = if is_set_too { set_ns } else { 0 };
                        let stamped = stamped.saturating_add_signed(set_too);
                        let (feed_ns, negative) = clocks.feed_ns(FIRST, handled, stamped);
                        assert!(feed_ns <= 1_000, "{feed_ns} {ahead_ns} {is_set_too} {step}");
                        assert_eq!(negative, ahead_ns > 700, "{ahead_ns} {is_set_too} {step}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_clock_set_right_after_the_start_is_right_from_then_on() {
        // Ours was ten seconds ahead.
        let clocks = FeedClocks::new([1]);
        let late_ns = 10_000_000_000;
        assert_eq!(
            clocks.feed_ns(FIRST, at(late_ns + 700), 200).0,
            late_ns + 500
        );
        let handled = WallTime {
            steady_ns: late_ns + 900,
            set_ns: -(late_ns as i64),
        };
        assert_eq!(clocks.feed_ns(FIRST, handled, 300), (600, false));
    }

    #[test]
    fn a_publisher_an_hour_ahead_that_is_set_right_is_not_an_hour_late() {
        let clocks = FeedClocks::new([1]);
        let hour_ns = HOUR_NS as u64;
        assert_eq!(clocks.feed_ns(FIRST, at(1_000), hour_ns), (0, true));
        assert_eq!(clocks.feed_ns(FIRST, at(2_000), hour_ns + 970), (30, true));
        assert_eq!(clocks.feed_ns(FIRST, at(3_000), 2_950), (50, false));
        assert_eq!(clocks.feed_ns(FIRST, at(4_000), 3_980), (20, false));
        assert_eq!(clocks.behind_ns(), 0);
        // Or nearly.
        let clocks = FeedClocks::new([1]);
        assert_eq!(clocks.feed_ns(FIRST, at(1_000), hour_ns), (0, true));
        assert_eq!(clocks.feed_ns(FIRST, at(3_000), 3_400), (0, true));
        assert_eq!(clocks.feed_ns(FIRST, at(4_000), 4_370), (30, true));
    }

    #[test]
    fn what_waited_while_the_host_slept_tells_nothing_of_clocks() {
        // Our clock was set by ten seconds that the kernel's monotonic one did not count, the publisher's was not.
        let clocks = FeedClocks::new([1]);
        let second_ns = 1_000_000_000;
        assert_eq!(
            clocks.feed_ns(FIRST, at(20 * second_ns), 20 * second_ns - 500),
            (500, false)
        );
        let handled = WallTime {
            steady_ns: 21 * second_ns,
            set_ns: 10 * second_ns as i64,
        };
        for age_ns in [10, 9, 8, 7, 6].map(|age| age * second_ns) {
            clocks.feed_ns(FIRST, handled, 31 * second_ns - age_ns);
        }
        for age_ns in [4 * second_ns, second_ns, 700, 500] {
            let stamped_ns = 31 * second_ns - age_ns;
            assert_eq!(clocks.feed_ns(FIRST, handled, stamped_ns), (age_ns, false));
        }
    }

    #[test]
    fn hours_of_clock_jump_stay_within_the_histogram() {
        let clocks = FeedClocks::new([1]);
        let mut stages = Stages::default();
        let hours = 48 * 3_600_000_000_000;
        for (handled, stamped) in [(hours, 1), (1, hours), (0, u64::MAX), (u64::MAX, 1)] {
            let (feed_ns, _) = clocks.feed_ns(FIRST, at(handled), stamped);
            stages.feed.saturating_record(feed_ns);
        }
        assert_eq!(stages.feed.len(), 4);
    }

    proptest! {
        #[test]
        fn runs_are_recorded_as_if_value_by_value(values: Vec<u32>, step in 1u32..5_000) {
            let (mut at_once, mut one_by_one) = (Stages::default().feed, Stages::default().feed);
            let mut run = Run::default();
            for value in values {
                // Neighbours as well as strangers.
                for value in [value.into(), u64::from(value) + u64::from(step)] {
                    run.record(&mut at_once, value);
                    one_by_one.record(value).unwrap();
                }
            }
            run.end(&mut at_once);
            prop_assert!(at_once.iter_recorded().eq(one_by_one.iter_recorded()));
        }

        #[test]
        fn the_distance_from_the_fastest_so_far(times: Vec<(u32, u32)>) {
            let clocks = FeedClocks::new([1]);
            let mut smallest = 0;
            for (handled, stamped) in times {
                let difference = i64::from(handled) - i64::from(stamped);
                smallest = smallest.min(difference);
                let (feed_ns, negative) = clocks.feed_ns(FIRST, at(handled.into()), stamped.into());
                prop_assert_eq!(feed_ns as i64, difference - smallest);
                prop_assert_eq!(negative, difference < 0);
            }
        }
    }
}
