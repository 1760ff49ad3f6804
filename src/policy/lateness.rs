//! When late is too late: beyond a limit in every batch, for longer than a grace time.
//!
//! The idea is the Suicidal Snail of the ZeroMQ Guide (chapter 5): a subscriber that knows it is too slow
//! says so rather than deliver old prices as if they were new.

/// Judges batch after batch. Times are nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Lateness {
    late_after_ns: u64,
    grace_ns: u64,
    /// When the first of the batches in a row that were late was done.
    since_ns: Option<u64>,
}

/// What a batch was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// In time.
    InTime,
    /// Late, but not for longer than the grace time.
    Late,
    /// Late, as all others have been for this long.
    TooLong { for_ns: u64 },
}

impl Lateness {
    pub(crate) fn new(late_after_ns: u64, grace_ns: u64) -> Self {
        Self {
            late_after_ns,
            grace_ns,
            since_ns: None,
        }
    }

    /// Tells whether a message is late that is `late_ns` late.
    pub(crate) fn is_late(&self, late_ns: u64) -> bool {
        late_ns > self.late_after_ns
    }

    /// Judges a batch whose newest message was `late_ns` late at `now_ns`, and that was begun at `begun_ns`: since when
    /// that message was late, no other was done in time. After each [`Verdict::TooLong`] the grace time begins anew.
    pub(crate) fn judge(&mut self, now_ns: u64, late_ns: u64, begun_ns: u64) -> Verdict {
        if !self.is_late(late_ns) {
            self.since_ns = None;
            return Verdict::InTime;
        }
        let was_due_ns = now_ns.saturating_sub(late_ns - self.late_after_ns);
        let since_ns = *self.since_ns.get_or_insert(was_due_ns.max(begun_ns));
        let for_ns = now_ns.saturating_sub(since_ns);
        if for_ns <= self.grace_ns {
            return Verdict::Late;
        }
        self.since_ns = Some(now_ns);
        Verdict::TooLong { for_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_late_for_longer_than_the_grace_time_is_too_long() {
        let mut lateness = Lateness::new(10, 100);
        assert_eq!(lateness.judge(0, 10, 0), Verdict::InTime);
        assert_eq!(lateness.judge(1, 11, 1), Verdict::Late);
        assert_eq!(lateness.judge(101, 50, 90), Verdict::Late);
        let for_ns = 101;
        assert_eq!(lateness.judge(102, 50, 101), Verdict::TooLong { for_ns });
        assert_eq!(
            lateness.judge(103, 50, 102),
            Verdict::Late,
            "said once a grace time"
        );
        assert_eq!(lateness.judge(104, 0, 103), Verdict::InTime);
        assert_eq!(lateness.judge(300, 11, 290), Verdict::Late, "begins anew");
    }

    #[test]
    fn a_batch_that_takes_too_long_alone_is_too_long() {
        let mut lateness = Lateness::new(10, 100);
        // Due at 110, and taken up before; only taken up at 450.
        assert_eq!(
            lateness.judge(500, 400, 0),
            Verdict::TooLong { for_ns: 390 }
        );
        assert_eq!(lateness.judge(501, 0, 500), Verdict::InTime);
        assert_eq!(lateness.judge(900, 800, 850), Verdict::Late);
    }
}
