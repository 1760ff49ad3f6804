//! The one seam to randomness: generators that repeat for a given seed, and numbers that don't.

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Returns a generator whose output is the same for the same seed.
#[must_use]
pub fn seeded(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Returns `base` stretched or shrunk at random by up to a half.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn spread(base: u32) -> u32 {
    rand::rng().random_range(base - base / 2..=base + base / 2)
}

/// Returns sixteen bytes that nobody else has, to tell something apart by.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn uuid() -> [u8; 16] {
    rand::rng().random()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_spread_lies_all_over() {
        let drawn: BTreeSet<u32> = (0..2_000).map(|_| spread(1_000)).collect();
        assert!(drawn.iter().all(|drawn| (500..=1_500).contains(drawn)));
        // Of 1,001 values most come up; each tenth does.
        assert!(drawn.len() > 500, "{}", drawn.len());
        for from in (500..1_500).step_by(100) {
            assert!(drawn.range(from..from + 100).next().is_some(), "{from}");
        }
        assert_eq!(spread(0), 0);
    }
}
