//! The clock by which merged lines are waited for: it stands still while one of their lanes waits for a worker, or for
//! another lane, since what that line has brought meanwhile lies unread.
//!
//! But a worker that hangs must not hold up what other lanes bring for ever. So where some of the lanes can hear, the
//! clock has a budget to stand still on, which what it goes on by fills again: it stands still no longer than that at
//! once, and half of the time in the long run.

use std::time::Duration;

/// How long before the next look a lane sleeps at least while the clock stands still.
const LOOK_AFTER: Duration = Duration::from_millis(1);

/// The time that all lanes of a feed were attentive for. Times are nanoseconds, the pipeline's but for what
/// [`hear`](Self::hear) returns.
#[derive(Debug)]
pub(super) struct Attention {
    lanes: Vec<Lane>,
    now_ns: u64,
    heard_ns: u64,
    /// For how long it may stand still at once while some lane can hear, and from here on.
    patience_ns: u64,
    patience_left_ns: u64,
    /// Whether it stood still when it was last looked at.
    stands_still: bool,
}

#[derive(Debug)]
struct Lane {
    lane: usize,
    /// For how long it has waited so far.
    waited_ns: u64,
    /// How much of that is still to be left out: what a lane received before a wait is heard after it.
    pending_ns: u64,
}

impl Attention {
    /// Starts without lanes. While some lane can hear it stands still for `patience_ns` at once, at most.
    pub(super) fn new(patience_ns: u64) -> Self {
        Self {
            lanes: Vec::new(),
            now_ns: 0,
            heard_ns: 0,
            patience_ns,
            patience_left_ns: patience_ns,
            stands_still: false,
        }
    }

    /// A lane takes part from here on, for one line.
    pub(super) fn join(&mut self, lane: usize) {
        self.lanes.push(Lane {
            lane,
            waited_ns: 0,
            pending_ns: 0,
        });
    }

    /// A lane has ended, as far as one line goes: it is waited for no longer.
    pub(super) fn leave(&mut self, lane: usize) {
        if let Some(at) = self.lanes.iter().position(|one| one.lane == lane) {
            self.lanes.swap_remove(at);
        }
    }

    /// Tells whether no lane takes part any more.
    pub(super) fn is_over(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Takes note of the time, and returns the one by which is judged. `waited_ns` is for how long a lane has waited so
    /// far.
    #[inline]
    pub(super) fn hear(&mut self, now_ns: u64, waited_ns: impl Fn(usize) -> u64) -> u64 {
        let passed_ns = now_ns.saturating_sub(self.now_ns);
        if passed_ns == 0 {
            return self.heard_ns;
        }
        self.now_ns = now_ns;
        let (mut of_some_ns, mut of_all_ns) = (0, passed_ns);
        for one in &mut self.lanes {
            // Of a wait that is just over it may read more than it was.
            let waited_ns = waited_ns(one.lane).max(one.waited_ns);
            one.pending_ns += waited_ns - one.waited_ns;
            one.waited_ns = waited_ns;
            let taken_ns = one.pending_ns.min(passed_ns);
            one.pending_ns -= taken_ns;
            // Lanes wait at the same time, mostly one for the other.
            of_some_ns = of_some_ns.max(taken_ns);
            of_all_ns = of_all_ns.min(taken_ns);
        }
        // While none can hear, nobody is held up.
        let of_all_ns = of_all_ns.min(of_some_ns);
        let patient_ns = (of_some_ns - of_all_ns).min(self.patience_left_ns);
        let gone_on_ns = passed_ns - of_all_ns - patient_ns;
        self.patience_left_ns =
            (self.patience_left_ns - patient_ns + gone_on_ns).min(self.patience_ns);
        self.stands_still = gone_on_ns == 0;
        self.heard_ns += gone_on_ns;
        self.heard_ns
    }

    /// Returns when it was last looked at.
    pub(super) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Returns the time that is judged by.
    pub(super) fn heard_ns(&self) -> u64 {
        self.heard_ns
    }

    /// Returns when to look whether a time that is judged by has come: when it will have if no lane waits until then.
    pub(super) fn when(&self, heard_ns: u64) -> u64 {
        let when_ns = heard_ns.saturating_add(self.now_ns - self.heard_ns);
        if self.stands_still {
            when_ns.max(self.now_ns + LOOK_AFTER.as_nanos() as u64)
        } else {
            when_ns
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_a_lane_waits_does_not_pass() {
        let mut attention = Attention::new(1_000);
        attention.join(3);
        attention.join(5);
        let mut waited_ns = [0; 6];
        let mut hear = |now_ns, lane: usize, total_ns| {
            waited_ns[lane] = total_ns;
            attention.hear(now_ns, |lane| waited_ns[lane])
        };
        assert_eq!(hear(100, 3, 0), 100);
        assert_eq!(hear(150, 3, 50), 100, "it waits");
        assert_eq!(hear(200, 3, 70), 130, "and goes on");
        // Both at once, as one for the other.
        assert_eq!(hear(200, 3, 110), 130, "no time has passed");
        assert_eq!(hear(240, 5, 40), 130);
        assert_eq!(hear(250, 5, 40), 140);
        // Received before the wait, and heard behind it.
        assert_eq!(hear(251, 5, 90), 140);
        assert_eq!(hear(301, 5, 90), 141);
        assert_eq!(hear(290, 5, 90), 141, "clocks of two lanes");
        // A wait that is just over was read twice.
        assert_eq!(hear(321, 5, 130), 141);
        assert_eq!(hear(341, 5, 110), 141);
        assert_eq!(hear(342, 5, 110), 142);
    }

    #[test]
    fn a_lane_that_has_ended_is_not_waited_for() {
        let mut attention = Attention::new(1_000);
        attention.join(0);
        attention.join(1);
        attention.leave(1);
        assert!(!attention.is_over());
        assert_eq!(attention.hear(10, |lane| 10 * lane as u64), 10);
        attention.leave(0);
        assert!(attention.is_over());
    }

    #[test]
    fn a_lane_that_hears_no_more_is_not_waited_for() {
        let mut attention = Attention::new(1_000);
        attention.join(0);
        attention.join(1);
        assert_eq!(attention.hear(5_000, |_| 0), 5_000);
        let mut hear = |now_ns| attention.hear(now_ns, |lane| lane as u64 * (now_ns - 5_000));
        assert_eq!(hear(5_700), 5_000);
        assert_eq!(hear(6_000), 5_000);
        assert_eq!(hear(6_400), 5_400, "it has waited long enough");
        let mut heard_ns = 0;
        for now_ns in 6_400..=26_400 {
            heard_ns = hear(now_ns);
        }
        assert_eq!(heard_ns, 15_200, "half of the time");
        // What it waited is not left out later.
        assert_eq!(
            attention.hear(27_400, |lane| lane as u64 * 21_400),
            15_200 + 1_000
        );
        assert_eq!(
            attention.hear(27_900, |lane| lane as u64 * 21_400),
            15_200 + 1_500
        );
    }

    #[test]
    fn time_that_all_lanes_wait_does_not_pass_however_long() {
        let mut attention = Attention::new(1_000);
        attention.join(0);
        attention.join(1);
        assert_eq!(attention.hear(5_000, |_| 0), 5_000);
        // One for a worker, and the other one for its turn, a little later.
        assert_eq!(attention.hear(25_000, |lane| 20_000 - lane as u64), 5_000);
        assert_eq!(attention.hear(25_500, |lane| 20_000 - lane as u64), 5_500);
    }

    #[test]
    fn a_time_that_does_not_come_is_not_looked_for_all_the_time() {
        let mut attention = Attention::new(1_000);
        attention.join(0);
        attention.hear(500, |_| 0);
        assert_eq!(attention.when(600), 600);
        attention.hear(550, |_| 50);
        assert_eq!(attention.when(501), 550 + LOOK_AFTER.as_nanos() as u64);
        attention.hear(560, |_| 50);
        assert_eq!(attention.when(600), 650);
    }
}
