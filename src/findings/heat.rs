//! Latency over time as counts in cells: a column an interval or several, a row a part of a decade.

use crate::latency::log::Interval;

/// Counts of an interval's values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    /// Seconds since 1970.
    pub from_s: f64,
    pub to_s: f64,
    /// By row, the lowest first.
    pub counts: Vec<u64>,
}

/// A map of counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HeatMap {
    pub columns: Vec<Column>,
    pub rows_per_decade: usize,
    /// The number of the lowest row: it begins at `10^(lowest / rows_per_decade)` ns.
    pub lowest: usize,
    /// The highest count of a cell.
    pub count_max: u64,
}

impl HeatMap {
    /// Makes a map of the intervals with a tag, of `columns_max` columns at most. `None` where nothing was
    /// recorded.
    pub(super) fn of(
        intervals: &[Interval],
        tag: &str,
        columns_max: usize,
        rows_per_decade: usize,
    ) -> Option<Self> {
        let tagged: Vec<&Interval> = intervals.iter().filter(|one| one.tag == tag).collect();
        let row = |ns: u64| ((ns.max(1) as f64).log10() * rows_per_decade as f64) as usize;
        let recorded = tagged.iter().filter(|one| !one.histogram.is_empty());
        let ends = recorded.map(|one| (row(one.histogram.min()), row(one.histogram.max())));
        let (lowest, highest) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let together = tagged.len().div_ceil(columns_max.max(1)).max(1);
        let columns: Vec<Column> = tagged
            .chunks(together)
            .map(|chunk| {
                let mut counts = vec![0_u64; highest - lowest + 1];
                for value in chunk.iter().flat_map(|one| one.histogram.iter_recorded()) {
                    let at = row(value.value_iterated_to()).clamp(lowest, highest) - lowest;
                    counts[at] = counts[at].saturating_add(value.count_at_value());
                }
                let ends = chunk
                    .iter()
                    .map(|one| (one.start_s, one.start_s + one.duration_s));
                let (from_s, to_s) = ends
                    .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
                    .unwrap_or_default();
                Column {
                    from_s,
                    to_s,
                    counts,
                }
            })
            .collect();
        let counts = columns.iter().flat_map(|column| &column.counts);
        Some(Self {
            count_max: counts.copied().max().unwrap_or(0),
            columns,
            rows_per_decade,
            lowest,
        })
    }

    /// Returns where a row begins, as a power of ten of nanoseconds.
    pub(super) fn bottom(&self, row: usize) -> f64 {
        (self.lowest + row) as f64 / self.rows_per_decade as f64
    }

    /// Returns which of `levels` colours a count has: equal steps of its logarithm. `None` for 0.
    pub(super) fn level(&self, count: u64, levels: usize) -> Option<usize> {
        let share = (count as f64).ln_1p() / (self.count_max as f64).ln_1p();
        (count > 0).then(|| ((share * levels as f64) as usize).min(levels - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;

    #[test]
    fn every_value_is_in_a_cell_of_its_time_and_size() {
        let interval = |start_s: f64, tag: &str, values: &[u64]| {
            let mut histogram = Histogram::new(3).unwrap();
            values
                .iter()
                .for_each(|value| histogram.record(*value).unwrap());
            Interval {
                tag: tag.to_owned(),
                start_s,
                duration_s: 1.0,
                histogram,
            }
        };
        let intervals = [
            interval(10.0, "feed", &[150, 150, 2_000]),
            interval(10.0, "queue", &[7]),
            interval(11.0, "feed", &[]),
            interval(12.0, "feed", &[150]),
        ];
        let map = HeatMap::of(&intervals, "feed", 10, 1).unwrap();
        let counts: Vec<&[u64]> = map.columns.iter().map(|one| &one.counts[..]).collect();
        assert_eq!(counts, [&[2, 1][..], &[0, 0], &[1, 0]]);
        assert_eq!((map.bottom(0), map.count_max), (2.0, 2));
        assert_eq!(map.level(0, 8), None);
        assert_eq!((map.level(1, 8), map.level(2, 8)), (Some(5), Some(7)));

        let merged = HeatMap::of(&intervals, "feed", 2, 1).unwrap();
        assert_eq!(merged.columns.len(), 2);
        let first = &merged.columns[0];
        assert_eq!((first.from_s, first.to_s), (10.0, 12.0));
        assert_eq!(HeatMap::of(&intervals, "handler", 2, 1), None);
    }
}
