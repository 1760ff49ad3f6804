//! The middle of several values, and how far apart they are.

use serde::{Deserialize, Deserializer, Serialize};

/// The middle value, or the mean of the two in the middle, and the ends. Of no values, all is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the values are no higher.
    pub median: f64,
    /// The lowest value.
    pub lowest: f64,
    /// The highest value.
    pub highest: f64,
}

impl Spread {
    /// Sums values up.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        Self {
            median: if values.len() % 2 == 1 {
                at(middle)
            } else {
                f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
            },
            lowest: at(0),
            highest: at(values.len().wrapping_sub(1)),
        }
    }
}

/// Shows a figure, or `-` where there is none.
pub(super) fn known(figure: f64, show: impl FnOnce(f64) -> String) -> String {
    if figure.is_nan() {
        "-".to_owned()
    } else {
        show(figure)
    }
}

/// Reads a figure; JSON has null for what is not a number.
pub(super) fn figure<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Option::deserialize(deserializer).map(|figure| figure.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_between_the_ends() {
        let odd = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((odd.lowest, odd.median, odd.highest), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0]).median, 2.5);
        assert!(Spread::of([]).median.is_nan());
    }
}
