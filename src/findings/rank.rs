//! Whether two groups of values differ by more than chance: the rank-sum test of Wilcoxon, Mann and Whitney, two-sided,
//! at a level of 5 %.
//!
//! It asks in how many pairs, one of each group, the first is the larger, and how rarely as many or as few would be by
//! chance. Where there are few values, that is counted out; with more than [`EXACT_MAX`] in a group the normal
//! distribution stands in for it. A tie counts against a difference.

/// How often groups that do not differ are said to.
pub(super) const LEVEL: f64 = 0.05;
/// What lies beyond of a normal distribution, at this level.
const NORMAL_BOUND: f64 = 1.959_964;
/// The largest groups that are counted out.
const EXACT_MAX: usize = 25;

/// Tells whether the values of `a` are larger than those of `b`.
pub(super) fn is_larger(a: &[f64], b: &[f64]) -> bool {
    let pairs = a
        .iter()
        .flat_map(|one| b.iter().map(move |other| (one, other)));
    // The pairs that speak against it.
    let against = pairs.filter(|(one, other)| one <= other).count();
    if a.len().max(b.len()) <= EXACT_MAX {
        return 2.0 * chance(a.len(), b.len(), against) <= LEVEL;
    }
    let (n, m) = (a.len() as f64, b.len() as f64);
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    (n * m / 2.0 - against as f64 - 0.5) / deviation >= NORMAL_BOUND
}

/// Tells whether groups of these sizes can differ by more than chance: whether none of the pairs speaking against it
/// is rare enough.
pub(super) fn can_tell(a: usize, b: usize) -> bool {
    a.max(b) > EXACT_MAX && a.min(b) > 1 || 2.0 * chance(a, b, 0) <= LEVEL
}

/// Returns how likely no more than `pairs` pairs speak against a difference, where there is none.
///
/// Of all ways to mix the two groups, those with so many pairs are the coefficients of a Gaussian binomial, the product
/// of (1 - q^(m+i)) / (1 - q^i) for i from 1 to n.
fn chance(n: usize, m: usize, pairs: usize) -> f64 {
    let mut ways = vec![0.0_f64; n * m + 1];
    ways[0] = 1.0;
    for i in 1..=n {
        for at in (m + i..ways.len()).rev() {
            ways[at] -= ways[at - m - i];
        }
        for at in i..ways.len() {
            ways[at] += ways[at - i];
        }
    }
    let all: f64 = ways.iter().sum();
    ways.iter().take(pairs + 1).sum::<f64>() / all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_those_of_the_tables() {
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
        close(chance(3, 3, 0), 1.0 / 20.0);
        close(chance(4, 4, 0), 1.0 / 70.0);
        close(chance(5, 3, 0), 1.0 / 56.0);
        // 1 + 1 + 2 of 126 ways.
        close(chance(5, 4, 2), 4.0 / 126.0);
        close(chance(25, 25, 625), 1.0);
        // The bound that tables have for two sides at 5 %: 2 of 5 and 5, 23 of 10 and 10, 211 of 25 and 25.
        for (size, bound) in [(5, 2), (10, 23), (25, 211)] {
            assert!(2.0 * chance(size, size, bound) <= LEVEL, "{size}");
            assert!(2.0 * chance(size, size, bound + 1) > LEVEL, "{size}");
        }
    }

    #[test]
    fn three_and_three_runs_cannot_tell() {
        for (a, b, can) in [
            (3, 3, false),
            (4, 3, false),
            (4, 4, true),
            (5, 3, true),
            (3, 5, true),
            (7, 2, false),
            (8, 2, true),
            (1, 25, false),
            (1, 30, false),
            (30, 30, true),
        ] {
            assert_eq!(can_tell(a, b), can, "{a} and {b}");
        }
    }

    #[test]
    fn many_values_are_judged_as_few_are() {
        let group = |length: usize, shift: f64| -> Vec<f64> {
            (0..length).map(|place| place as f64 + shift).collect()
        };
        for length in [EXACT_MAX, EXACT_MAX + 1, 200] {
            let same = group(length, 0.0);
            assert!(!is_larger(&same, &same));
            assert!(!is_larger(&group(length, 0.5), &same), "{length}");
            assert!(
                is_larger(&group(length, length as f64 / 2.0), &same),
                "{length}"
            );
            assert!(!is_larger(&same, &group(length, length as f64 / 2.0)));
        }
    }
}
