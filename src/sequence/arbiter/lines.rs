//! What is counted of each line.

use hdrhistogram::Histogram;

/// The longest lag that is told from longer ones: an hour.
const LAG_NS_MAX: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// What one line brought, and how it stands against the others.
///
/// `copies = wins + duplicates + too_late`.
#[derive(Clone, Debug)]
pub struct LineCounts {
    /// Copies received by this line.
    pub copies: u64,
    /// Copies that came first, and so were passed on or held to be.
    pub wins: u64,
    /// Copies of messages that were passed on or held already.
    pub duplicates: u64,
    /// Copies that came after their message was reported lost, its epoch was left, or its series had
    /// begun with a later number.
    pub too_late: u64,
    /// Messages that this line went past without bringing them, and that another line brought. One that
    /// the line brings later after all still counts.
    pub repaired: u64,
    /// How long this line's copies came after the first ones, in nanoseconds, for a sample of the
    /// messages: 1 in [`LAG_SAMPLE_EVERY`](super::LAG_SAMPLE_EVERY) of those passed on, and at most one
    /// at a time a series.
    pub lag: Histogram<u64>,
}

impl LineCounts {
    pub(super) fn new() -> Self {
        Self {
            copies: 0,
            wins: 0,
            duplicates: 0,
            too_late: 0,
            repaired: 0,
            lag: Histogram::new_with_bounds(1, LAG_NS_MAX, SIGNIFICANT_DIGITS)
                .expect("the bounds are constants that fit each other"),
        }
    }

    pub(super) fn note_lag(&mut self, lag_ns: u64) {
        self.lag.saturating_record(lag_ns.min(LAG_NS_MAX));
    }
}
