//! Axes: what is at which place, and where to write a number.
//!
//! Places are linear. Logarithmic axes count in powers of ten, percentiles in nines.

use std::ops::Range;

use crate::{
    findings::{
        plot::Size,
        words::{short, short_count, short_time},
    },
    latency::is_supported,
};

/// Steps that people count in, with the decades between.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];
/// The same where there is room for all.
const ALL_STEPS: [f64; 9] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
/// Steps in seconds beyond a decade.
const SECONDS: [f64; 15] = [
    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0,
    21_600.0, 86_400.0,
];

/// What an axis counts.
#[derive(Clone, Debug)]
enum Scale {
    /// Powers of ten of nanoseconds.
    LogTime,
    /// Nines: 1 for 90 %, 2 for 99 %.
    Percentile,
    Seconds,
    /// A number, and what is written behind it.
    Number(&'static str),
    /// Nanoseconds.
    Time,
    /// Some values on a logarithmic axis: their places, the lowest first, with what is written there.
    Values(Vec<(f64, String)>),
}

/// An axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub name: String,
    pub range: Range<f64>,
    scale: Scale,
}

/// Returns the place of a percentile: the number of its nines.
pub(crate) fn percentile_place(share: f64) -> f64 {
    -(1.0 - share).log10()
}

impl Axis {
    /// Nanoseconds on a logarithmic axis.
    pub(crate) fn log_time(name: &str, lowest_ns: f64, highest_ns: f64) -> Self {
        let lowest = lowest_ns.max(1.0).log10();
        let highest = highest_ns.max(1.0).log10();
        // Never of no height.
        let margin = ((highest - lowest) * 0.04).max(0.1);
        Self {
            name: name.to_owned(),
            range: (lowest - margin).max(0.0)..highest + margin,
            scale: Scale::LogTime,
        }
    }

    /// Percentiles from the median to the highest that so many samples support.
    pub(crate) fn percentiles(samples: u64) -> Self {
        let mut nines = 1.0;
        while is_supported(samples, 1.0 - 10_f64.powf(-(nines + 0.1))) {
            nines += 0.1;
        }
        Self {
            name: "percentile, %".to_owned(),
            range: percentile_place(0.5)..nines,
            scale: Scale::Percentile,
        }
    }

    /// Seconds from 0.
    pub(crate) fn seconds(name: &str, length_s: f64) -> Self {
        Self {
            name: name.to_owned(),
            range: 0.0..length_s.max(0.001),
            scale: Scale::Seconds,
        }
    }

    /// A number from 0.
    pub(crate) fn number(name: &str, highest: f64, unit: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            range: 0.0..highest.max(1.0) * 1.04,
            scale: Scale::Number(unit),
        }
    }

    /// Nanoseconds from 0.
    pub(crate) fn time(name: &str, highest_ns: f64) -> Self {
        Self {
            name: name.to_owned(),
            range: 0.0..highest_ns.max(1.0) * 1.04,
            scale: Scale::Time,
        }
    }

    /// Some values above 0, on a logarithmic axis: each with what is written there. A value's place is its
    /// decimal logarithm.
    pub(crate) fn values(name: &str, values: impl IntoIterator<Item = (f64, String)>) -> Self {
        let mut places: Vec<(f64, String)> = values
            .into_iter()
            .map(|(value, shown)| (value.log10(), shown))
            .filter(|(place, _)| place.is_finite())
            .collect();
        places.sort_by(|a, b| a.0.total_cmp(&b.0));
        let lowest = places.first().map_or(0.0, |first| first.0);
        let highest = places.last().map_or(lowest, |last| last.0);
        let margin = ((highest - lowest) * 0.05).max(0.1);
        Self {
            name: name.to_owned(),
            range: lowest - margin..highest + margin,
            scale: Scale::Values(places),
        }
    }

    /// Returns where numbers are written: about `wanted` at most.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<f64> {
        let (low, high) = (self.range.start, self.range.end);
        let within = |place: &f64| (low - 1e-9..=high + 1e-9).contains(place);
        let multiples = |step: f64| -> Vec<f64> {
            let first = (low / step - 1e-9).ceil() as i64;
            let last = (high / step + 1e-9).floor() as i64;
            (first..=last.min(first + 1_000))
                .map(|number| number as f64 * step)
                .collect()
        };
        match &self.scale {
            Scale::Percentile => {
                let last = (high + 1e-9).floor() as usize;
                // Those of many nines are wide.
                let every = if last > wanted { 2 } else { 1 };
                let nines = (1..=last).rev().step_by(every).map(|nines| nines as f64);
                [percentile_place(0.5)].into_iter().chain(nines).collect()
            }
            Scale::LogTime => {
                let decades = low.floor() as i32..=high.ceil() as i32;
                for steps in [&ALL_STEPS[..], &STEPS] {
                    let decades = decades.clone();
                    let fine = decades.flat_map(|decade| {
                        steps
                            .iter()
                            .map(move |step| f64::from(decade) + step.log10())
                    });
                    let fine: Vec<f64> = fine.filter(within).collect();
                    if fine.len() <= wanted {
                        return fine;
                    }
                }
                let decades: Vec<f64> = decades.map(f64::from).filter(within).collect();
                let every = decades.len().div_ceil(wanted.max(1)).max(1);
                decades.into_iter().step_by(every).collect()
            }
            Scale::Seconds if high > SECONDS[0] * wanted as f64 => {
                let enough = |step: &&f64| high / **step <= wanted as f64;
                multiples(SECONDS.iter().find(enough).copied().unwrap_or(high))
            }
            Scale::Values(places) => {
                // Each in the room that a number takes.
                let room = (high - low) / wanted.max(1) as f64;
                let mut kept: Vec<f64> = Vec::new();
                for (place, _) in places {
                    if kept.last().is_none_or(|last| place - last >= room) {
                        kept.push(*place);
                    }
                }
                kept
            }
            Scale::Seconds | Scale::Number(_) | Scale::Time => {
                let rough = (high - low) / wanted.max(1) as f64;
                let decade = 10_f64.powf(rough.log10().floor());
                let step = STEPS
                    .iter()
                    .map(|step| step * decade)
                    .find(|step| *step >= rough);
                multiples(step.unwrap_or(decade * 10.0))
            }
        }
    }

    /// Returns how many numbers there is room for.
    pub(super) fn wanted(&self, size: Size, is_across: bool) -> usize {
        match is_across {
            true => size.pick(10, 5),
            false => size.pick(7, 6),
        }
    }

    /// Returns what is written at a place.
    pub(super) fn show(&self, place: f64) -> String {
        match &self.scale {
            Scale::LogTime => short_time(10_f64.powf(place)),
            Scale::Percentile if place < 0.5 => "50".to_owned(),
            Scale::Percentile => {
                let nines = place.round().max(1.0) as usize;
                match nines {
                    1 => "90".to_owned(),
                    2 => "99".to_owned(),
                    _ => format!("99.{}", "9".repeat(nines - 2)),
                }
            }
            Scale::Seconds if self.range.end >= 7_200.0 => format!("{} h", short(place / 3_600.0)),
            Scale::Seconds if self.range.end >= 180.0 => format!("{} min", short(place / 60.0)),
            Scale::Seconds => format!("{} s", short(place)),
            Scale::Number(unit) => format!("{}{unit}", short_count(place)),
            Scale::Time => short_time(place),
            Scale::Values(places) => {
                let shown = places.iter().find(|(at, _)| *at == place);
                shown.map_or_else(String::new, |(_, shown)| shown.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, wanted: usize) -> Vec<String> {
        let ticks = axis.ticks(wanted).into_iter();
        ticks.map(|tick| axis.show(tick)).collect()
    }

    #[test]
    fn numbers_stand_where_people_count() {
        let time = |low, high| Axis::log_time("", low, high);
        assert_eq!(
            labels(&time(900.0, 1.1e6), 5),
            ["1 µs", "10 µs", "100 µs", "1 ms"]
        );
        assert_eq!(labels(&time(900.0, 6_000.0), 5), ["1 µs", "2 µs", "5 µs"]);
        assert_eq!(
            labels(&Axis::seconds("", 5.3), 10),
            ["0 s", "1 s", "2 s", "3 s", "4 s", "5 s"]
        );
        assert_eq!(
            labels(&Axis::seconds("", 250.0), 5),
            ["0 min", "1 min", "2 min", "3 min", "4 min"]
        );
        assert_eq!(
            labels(&Axis::number("", 100.0, " %"), 5),
            ["0 %", "50 %", "100 %"]
        );
        assert_eq!(labels(&Axis::number("", 0.0, ""), 2), ["0", "1"]);
        assert_eq!(
            labels(&Axis::number("", 3e7, ""), 4),
            ["0", "10M", "20M", "30M"]
        );
        assert_eq!(
            labels(&Axis::time("", 90.0), 5),
            ["0 ns", "20 ns", "40 ns", "60 ns", "80 ns"]
        );
    }

    #[test]
    fn values_are_written_where_there_is_room() {
        let values = |values: &[u32]| {
            let values = values.iter().map(|one| (f64::from(*one), one.to_string()));
            Axis::values("", values)
        };
        assert_eq!(labels(&values(&[1_024, 64, 256]), 5), ["64", "256", "1024"]);
        assert_eq!(
            labels(&values(&[10, 100, 101, 1_000]), 5),
            ["10", "100", "1000"]
        );
        let one = values(&[7]);
        assert_eq!(labels(&one, 5), ["7"]);
        assert!(one.range.start < one.range.end, "{one:?}");
        assert!(labels(&values(&[]), 5).is_empty());
    }

    #[test]
    fn percentiles_end_where_ten_samples_lie_beyond() {
        let axis = Axis::percentiles(100_000);
        assert_eq!(labels(&axis, 9), ["50", "99.99", "99.9", "99", "90"]);
        assert!((axis.range.end - 4.0).abs() < 0.01, "{axis:?}");
        assert!(Axis::percentiles(0).range.end >= 1.0);
    }
}
