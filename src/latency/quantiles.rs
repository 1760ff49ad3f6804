//! The figures that a histogram is summed up by.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// How many samples have to lie beyond a percentile for it to say something.
pub const SAMPLES_BEYOND_MIN: f64 = 10.0;

/// The percentiles of a histogram of nanoseconds; none where nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Samples recorded.
    pub count: u64,
    /// Half took no longer than this.
    pub p50: Option<u64>,
    /// 90 % took no longer than this.
    pub p90: Option<u64>,
    /// 99 % took no longer than this.
    pub p99: Option<u64>,
    /// 99.9 % took no longer than this.
    pub p99_9: Option<u64>,
    /// 99.99 % took no longer than this.
    pub p99_99: Option<u64>,
    /// The longest.
    pub max: Option<u64>,
}

impl Quantiles {
    /// The names of the columns, as people write them.
    pub const NAMES: [&str; 6] = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];

    /// Sums a histogram up.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let known = !histogram.is_empty();
        let at = |quantile| known.then(|| histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: known.then(|| histogram.max()),
        }
    }

    /// Returns all figures in the order of [`NAMES`](Self::NAMES).
    #[must_use]
    pub fn columns(&self) -> [Option<u64>; 6] {
        [
            self.p50,
            self.p90,
            self.p99,
            self.p99_9,
            self.p99_99,
            self.max,
        ]
    }

    /// Returns the same without percentiles that fewer than [`SAMPLES_BEYOND_MIN`] samples lie beyond.
    /// The longest stays: it is a fact, whatever it says.
    #[must_use]
    pub fn supported(&self) -> Self {
        let keep = |value: Option<u64>, share| value.filter(|_| is_supported(self.count, share));
        Self {
            count: self.count,
            p50: keep(self.p50, 0.5),
            p90: keep(self.p90, 0.9),
            p99: keep(self.p99, 0.99),
            p99_9: keep(self.p99_9, 0.999),
            p99_99: keep(self.p99_99, 0.9999),
            max: self.max,
        }
    }
}

/// Tells whether enough of `count` samples lie beyond the percentile that `share` of them do not exceed.
#[must_use]
pub fn is_supported(count: u64, share: f64) -> bool {
    // To the nearest, since 1 - 0.9999 is a little less than 0.0001.
    (count as f64 * (1.0 - share) * 1e6).round() / 1e6 >= SAMPLES_BEYOND_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        assert_eq!(Quantiles::of(&histogram), Quantiles::default());
        for value in 1..=10_000 {
            histogram.record(value).unwrap();
        }
        let columns = Quantiles::of(&histogram).supported().columns();
        assert_eq!(
            columns.map(|one| one.is_some()),
            [true, true, true, true, false, true]
        );
        assert!(columns[0].is_some_and(|p50| (5_000..5_005).contains(&p50)));
        for (count, share) in [
            (20, 0.5),
            (100, 0.9),
            (1_000, 0.99),
            (10_000, 0.999),
            (100_000, 0.9999),
        ] {
            assert!(is_supported(count, share), "{share}");
            assert!(!is_supported(count - 1, share), "{share}");
        }
    }
}
