//! When each message of a steady stream is due.

use crate::clock::SECOND_NS;

/// The highest rate, in messages a second: schedules count in nanoseconds.
pub const RATE_MAX: f64 = 1e9;

/// A rate, kept on average: messages are due at equal distances, or as many at once as a burst has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Messages a second, above 0; `None` for as many as possible.
    pub rate: Option<f64>,
    /// Messages that are due at once, 1 or more.
    pub burst: u64,
}

impl Schedule {
    /// Returns when a message is due, in nanoseconds after the first; `None` for as soon as possible.
    /// Messages are counted from 0.
    #[inline]
    #[must_use]
    pub fn due_ns(&self, message: u64) -> Option<u64> {
        let rate = self.rate?;
        let first_of_burst = message - message % self.burst;
        // To the nearest nanosecond, or the distance between two would now and then be one short.
        Some((first_of_burst as f64 * SECOND_NS as f64 / rate + 0.5) as u64)
    }
}

/// Returns how many messages are due before `end_ns`, given when each is, ascending; 0 where they are due as
/// soon as possible.
pub(super) fn due_before(due_ns: impl Fn(u64) -> Option<u64>, end_ns: u64) -> u64 {
    let is_due = |message| due_ns(message).is_some_and(|due_ns| due_ns < end_ns);
    let (mut due, mut not_due) = (0, 1);
    while is_due(not_due - 1) && not_due < u64::MAX / 2 {
        (due, not_due) = (not_due, 2 * not_due);
    }
    // Between the two: the first one counted from 0 that is not due.
    while due < not_due {
        let middle = due + (not_due - due) / 2;
        if is_due(middle) {
            due = middle + 1;
        } else {
            not_due = middle;
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_equal_where_the_rate_divides_a_second() {
        for rate in [1_000.0, 100_000.0, 1_000_000.0] {
            let schedule = Schedule {
                rate: Some(rate),
                burst: 1,
            };
            let period_ns = (1e9 / rate) as u64;
            for message in (0..3_000).chain(1_000_000_000..1_000_003_000) {
                assert_eq!(schedule.due_ns(message), Some(message * period_ns));
            }
        }
    }

    #[test]
    fn a_burst_is_due_at_once() {
        let schedule = Schedule {
            rate: Some(1_000.0),
            burst: 3,
        };
        let due: Vec<_> = (0..7).filter_map(|n| schedule.due_ns(n)).collect();
        assert_eq!(due, [0, 0, 0, 3_000_000, 3_000_000, 3_000_000, 6_000_000]);
        let flat_out = Schedule {
            rate: None,
            burst: 3,
        };
        assert_eq!(flat_out.due_ns(7), None);
    }

    #[test]
    fn what_is_due_before_a_time_is_counted() {
        for (rate, burst) in [(1_000.0, 1), (1_000.0, 3), (333_333.0, 7), (0.5, 1)] {
            let schedule = Schedule {
                rate: Some(rate),
                burst,
            };
            for end_ns in [0, 1, 999_999, 1_000_000, 1_000_001, 3_000_000, 20_000_000] {
                let due = due_before(|message| schedule.due_ns(message), end_ns);
                let first_not_due = (0..).find(|&n| schedule.due_ns(n) >= Some(end_ns));
                assert_eq!(Some(due), first_not_due, "{rate} {burst} {end_ns}");
            }
        }
        let flat_out = Schedule {
            rate: None,
            burst: 1,
        };
        assert_eq!(due_before(|message| flat_out.due_ns(message), 1_000_000), 0);
    }
}
