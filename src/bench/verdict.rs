//! Whether a run at a rate says anything.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::report::count;

/// The share of the rate that may be missed.
const MISSED_MAX: f64 = 0.01;

/// How what was sent in vain is shown, after its number.
const NOT_RECEIVED: &str = "messages sent were not received, and are in no percentile";

/// Whether a run says anything; at a rate, whether that was held, and if not, who gave out. The share is that
/// of the rate that was missed.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The generator sent at the rate, and the subject received all.
    Ok,
    /// The generator did not send at the rate, although the subject took what came.
    GeneratorGaveOut(f64),
    /// The subject made the generator wait, or did not receive all in time.
    SubjectGaveOut(f64),
    /// The rate was held, and so many messages were sent and not received: what they would have taken is unknown.
    NotReceived(u64),
    /// Generator or subject did not do its part, for this reason: figures are of nothing that is known.
    Failed(String),
}

/// What came of a run at a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub rate: f64,
    /// Messages that were due.
    pub due: u64,
    pub published: u64,
    pub received: u64,
    /// Messages missing by their numbers.
    pub lost: u64,
    /// From the first message to the last.
    pub elapsed_s: f64,
    /// For how long the subject made the generator wait.
    pub blocked_s: f64,
}

/// Returns messages that were sent and not received: `lost` by their numbers, or more where counts tell so.
pub(super) fn missing(published: u64, received: u64, lost: u64) -> u64 {
    lost.max(published.saturating_sub(received))
}

impl Held {
    /// Returns how many messages were sent and not received.
    pub(super) fn missing(&self) -> u64 {
        missing(self.published, self.received, self.lost)
    }

    /// Returns the rate of sending.
    pub(super) fn sent_per_s(&self) -> f64 {
        self.published as f64 / self.elapsed_s.max(self.published as f64 / self.rate)
    }

    pub(super) fn verdict(&self) -> Verdict {
        let unsent = 1.0 - self.sent_per_s() / self.rate;
        if unsent > MISSED_MAX {
            let behind_s = self.elapsed_s - self.published as f64 / self.rate;
            return if self.blocked_s * 2.0 >= behind_s {
                Verdict::SubjectGaveOut(unsent)
            } else {
                Verdict::GeneratorGaveOut(unsent)
            };
        }
        let missing = 1.0 - self.received as f64 / self.due.max(1) as f64;
        if missing > MISSED_MAX {
            return Verdict::SubjectGaveOut(missing);
        }
        match self.missing() {
            0 => Verdict::Ok,
            missing => Verdict::NotReceived(missing),
        }
    }
}

impl Verdict {
    /// Tells whether the run's figures are of the rate that was asked for.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        *self == Self::Ok
    }

    /// Returns it in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::GeneratorGaveOut(_) => "generator-gave-out",
            Self::SubjectGaveOut(_) => "subject-gave-out",
            Self::NotReceived(_) => "not-received",
            Self::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (share, why) = match self {
            Self::Ok => return out.write_str("OK"),
            Self::GeneratorGaveOut(share) => (share, "the generator gave out"),
            Self::SubjectGaveOut(share) => (share, "the subject took no more"),
            Self::NotReceived(messages) => {
                return write!(out, "INVALID: {} {NOT_RECEIVED}", count(*messages));
            }
            Self::Failed(reason) => return write!(out, "INVALID: {reason}"),
        };
        write!(out, "INVALID: rate missed by {:.1} %: {why}", 100.0 * share)
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is not a verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no verdict")]
pub struct UnknownVerdict(String);

impl FromStr for Verdict {
    type Err = UnknownVerdict;

    /// Reads what is shown; of the share that was missed, to a tenth of a percent.
    fn from_str(text: &str) -> Result<Self, UnknownVerdict> {
        let missed = || {
            let rest = text.strip_prefix("INVALID: rate missed by ")?;
            let (percent, why) = rest.split_once(" %: ")?;
            let share = percent.parse::<f64>().ok()? / 100.0;
            [Self::GeneratorGaveOut(share), Self::SubjectGaveOut(share)]
                .into_iter()
                .find(|verdict| verdict.to_string().ends_with(why))
        };
        let not_received = || {
            let rest = text.strip_prefix("INVALID: ")?;
            let number = rest.strip_suffix(NOT_RECEIVED)?.trim_end();
            Some(Self::NotReceived(number.replace(',', "").parse().ok()?))
        };
        let failed = || {
            let reason = text.strip_prefix("INVALID: ")?;
            (!reason.is_empty()).then(|| Self::Failed(reason.to_owned()))
        };
        match text {
            "OK" => Ok(Self::Ok),
            _ => missed()
                .or_else(not_received)
                .or_else(failed)
                .ok_or_else(|| UnknownVerdict(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for Verdict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A run, of whatever kind.
pub trait HasVerdict {
    /// Returns whether it says anything.
    fn verdict(&self) -> &Verdict;
}

/// How many of several runs say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// All runs.
    pub runs: usize,
    /// Those that are valid.
    pub valid: usize,
}

impl Validity {
    /// Counts verdicts.
    #[must_use]
    pub fn of<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Self {
        let mut counted = Self { runs: 0, valid: 0 };
        for verdict in verdicts {
            counted.runs += 1;
            counted.valid += usize::from(verdict.is_ok());
        }
        counted
    }
}

impl fmt::Display for Validity {
    /// Writes `OK`, or begins with `INVALID` where no run is valid.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, valid } = *self;
        match runs - valid {
            0 => out.write_str("OK"),
            invalid if valid == 0 => write!(
                out,
                "INVALID: {invalid} of {runs} runs, so nothing is known"
            ),
            invalid => write!(out, "OK, {invalid} of {runs} runs INVALID and left out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Held = Held {
        rate: 1_000.0,
        due: 2_000,
        published: 2_000,
        received: 2_000,
        lost: 0,
        elapsed_s: 1.999,
        blocked_s: 0.0,
    };

    #[test]
    fn whose_fault_it_was_is_told() {
        assert_eq!(GOOD.verdict(), Verdict::Ok);
        assert_eq!(GOOD.sent_per_s(), 1_000.0);
        let late = Held {
            published: 1_754,
            received: 1_754,
            elapsed_s: 2.0,
            ..GOOD
        };
        assert_eq!(
            late.verdict().to_string(),
            "INVALID: rate missed by 12.3 %: the generator gave out"
        );
        let shown = late.verdict().to_string();
        let read: Verdict = shown.parse().unwrap();
        assert_eq!(
            (read.word(), read.to_string()),
            ("generator-gave-out", shown)
        );
        for failed in ["the subject ended with exit status: 1", "rate missed"] {
            let failed = Verdict::Failed(failed.to_owned());
            assert_eq!(failed.to_string().parse(), Ok(failed));
        }
        assert!("INVALID: ".parse::<Verdict>().is_err());
        let blocked = Held {
            blocked_s: 0.2,
            ..late
        };
        assert_eq!(blocked.verdict().word(), "subject-gave-out");
        let incomplete = Held {
            received: 1_000,
            ..GOOD
        };
        assert_eq!(incomplete.verdict(), Verdict::SubjectGaveOut(0.5));
        let failed = Verdict::Failed("the subject ended with exit status: 3".to_owned());
        assert_eq!(
            failed.to_string(),
            "INVALID: the subject ended with exit status: 3"
        );
        let a_little_late = Held {
            elapsed_s: 2.01,
            ..GOOD
        };
        assert_eq!(a_little_late.verdict(), Verdict::Ok);
    }

    #[test]
    fn one_message_that_is_missing_is_too_many() {
        let one_short = Held {
            received: 1_999,
            ..GOOD
        };
        let verdict = one_short.verdict();
        assert_eq!(verdict, Verdict::NotReceived(1));
        assert!(!verdict.is_ok());
        let by_number = Held { lost: 3, ..GOOD };
        assert_eq!(by_number.verdict(), Verdict::NotReceived(3));
        let many = Verdict::NotReceived(12_345);
        assert_eq!(
            many.to_string(),
            "INVALID: 12,345 messages sent were not received, and are in no percentile"
        );
        assert_eq!(many.to_string().parse(), Ok(many));
    }

    #[test]
    fn several_runs_are_valid_where_one_is() {
        let bad = Verdict::SubjectGaveOut(0.5);
        let of = |verdicts: &[&Verdict]| Validity::of(verdicts.iter().copied()).to_string();
        assert_eq!(of(&[&Verdict::Ok, &Verdict::Ok]), "OK");
        assert_eq!(
            of(&[&Verdict::Ok, &bad]),
            "OK, 1 of 2 runs INVALID and left out"
        );
        assert!(of(&[&bad, &bad]).starts_with("INVALID: 2 of 2 runs"));
    }
}
