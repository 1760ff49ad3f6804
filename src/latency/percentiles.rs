//! A histogram's percentiles as text, in the `.hgrm` format that HdrHistogram's plotting tools read.

use std::io::{self, Write};

use hdrhistogram::Histogram;

/// Rows for each halving of the distance to 100 %, as in HdrHistogram's own files.
const TICKS_PER_HALF_DISTANCE: f64 = 5.0;

/// Writes the table of percentiles and its footer, with values divided by `unit_ratio`: of nanoseconds,
/// 1,000 makes microseconds.
///
/// # Errors
/// Those of `out`.
pub fn write_percentiles(
    out: &mut impl Write,
    histogram: &Histogram<u64>,
    unit_ratio: f64,
) -> io::Result<()> {
    let digits = usize::from(histogram.sigfig());
    let scaled = |value: f64| format!("{:12.digits$}", value / unit_ratio);
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    // In percent, not quantiles as the crate's iterator counts: the steps are exact then, and ties fall as
    // they do in other implementations.
    let (mut level, mut total_count) = (0.0, 0);
    for recorded in histogram.iter_recorded() {
        total_count += recorded.count_at_value();
        let value = scaled(recorded.value_iterated_to() as f64);
        let reached = 100.0 * total_count as f64 / histogram.len() as f64;
        while reached >= level && level < 100.0 {
            let quantile = level / 100.0;
            let inverse = 1.0 / (1.0 - quantile);
            writeln!(
                out,
                "{value} {quantile:.12} {total_count:10} {inverse:14.2}"
            )?;
            if total_count == histogram.len() {
                break;
            }
            let halvings = (100.0 / (100.0 - level)).log2().floor();
            level += 100.0 / (TICKS_PER_HALF_DISTANCE * (halvings + 1.0).exp2());
        }
    }
    let max = scaled(histogram.max() as f64);
    if total_count > 0 {
        writeln!(out, "{max} {:.12} {total_count:10}", 1.0)?;
    }
    let (mean, deviation) = (scaled(histogram.mean()), scaled(histogram.stdev()));
    writeln!(out, "#[Mean    = {mean}, StdDeviation   = {deviation}]")?;
    writeln!(out, "#[Max     = {max}, Total count    = {total_count:12}]")?;
    let sub_buckets = (2 * 10_u64.pow(digits as u32)).next_power_of_two();
    let buckets = histogram.buckets();
    writeln!(
        out,
        "#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(histogram: &Histogram<u64>, unit_ratio: f64) -> String {
        let mut out = Vec::new();
        write_percentiles(&mut out, histogram, unit_ratio).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_and_footer_are_the_formats() {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap();
        histogram.record_n(1_000, 3).unwrap();
        histogram.record(2_000).unwrap();
        let expected = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n\
            \x20      1.000 0.000000000000          3           1.00\n\
            \x20      1.000 0.100000000000          3           1.11\n\
            \x20      1.000 0.200000000000          3           1.25\n\
            \x20      1.000 0.300000000000          3           1.43\n\
            \x20      1.000 0.400000000000          3           1.67\n\
            \x20      1.000 0.500000000000          3           2.00\n\
            \x20      1.000 0.550000000000          3           2.22\n\
            \x20      1.000 0.600000000000          3           2.50\n\
            \x20      1.000 0.650000000000          3           2.86\n\
            \x20      1.000 0.700000000000          3           3.33\n\
            \x20      1.000 0.750000000000          3           4.00\n\
            \x20      2.000 0.775000000000          4           4.44\n\
            \x20      2.000 1.000000000000          4\n\
            #[Mean    =        1.250, StdDeviation   =        0.433]\n\
            #[Max     =        2.000, Total count    =            4]\n\
            #[Buckets =           32, SubBuckets     =         2048]\n";
        assert_eq!(table(&histogram, 1_000.0), expected);
    }

    #[test]
    fn an_empty_histogram_is_a_table_without_rows() {
        let text = table(&Histogram::new(3).unwrap(), 1.0);
        assert_eq!(
            text.lines().filter(|line| !line.is_empty()).count(),
            4,
            "{text}"
        );
        assert!(text.contains("Total count    =            0]"), "{text}");
    }
}
