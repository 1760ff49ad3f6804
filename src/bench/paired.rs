//! Ratios of runs that were made in turn, round by round: what slowed a round down slowed both of its runs, and is no
//! part of their ratio. Medians are taken of these ratios, not the other way round.

use crate::bench::HasVerdict;

/// Returns the ratio of a figure of each run to that of the other side's run of the same round, of the rounds in which
/// both are valid.
#[must_use]
pub fn paired_ratios<R: HasVerdict>(runs: &[R], others: &[R], figure: fn(&R) -> f64) -> Vec<f64> {
    let is_valid = |run: &R| run.verdict().is_ok();
    let rounds = runs.iter().zip(others);
    rounds
        .filter(|(run, other)| is_valid(run) && is_valid(other))
        .map(|(run, other)| figure(run) / figure(other))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Spread, ThroughputRun, Verdict};

    #[test]
    fn a_slow_round_is_slow_for_both() {
        let run = |msgs_per_s: f64| ThroughputRun {
            verdict: Verdict::Ok,
            elapsed_s: 1.0,
            msgs_per_s,
            cpu_ns_per_msg: 1.0,
        };
        let [mut runs, others] =
            [[10.0, 2.0, 30.0, 4.0], [5.0, 1.0, 10.0, 2.0]].map(|rates| rates.map(run));
        let ratios = paired_ratios(&runs, &others, |run| run.msgs_per_s);
        assert_eq!(ratios, [2.0, 2.0, 3.0, 2.0]);
        assert_eq!(Spread::of(ratios).median, 2.0);
        runs[2].verdict = Verdict::Failed("it broke".to_owned());
        let ratios = paired_ratios(&runs, &others, |run| run.msgs_per_s);
        assert_eq!(ratios, [2.0; 3]);
    }
}
