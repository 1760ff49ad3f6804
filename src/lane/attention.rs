//! The clock by which merged lines are waited for: it stands still while one of their lanes waits for a worker, or for
//! another lane, since what that line has brought meanwhile lies unread.

/// The time that all lanes of a feed were attentive for. Times are nanoseconds, the pipeline's but for what
/// [`hear`](Self::hear) returns.
#[derive(Debug, Default)]
pub(super) struct Attention {
    lanes: Vec<Lane>,
    now_ns: u64,
    heard_ns: u64,
}

#[derive(Debug)]
struct Lane {
    lane: usize,
    /// For how long it has been deaf so far.
    deaf_ns: u64,
    /// How much of that is still to be left out: what a lane received before a wait is heard after it.
    owed_ns: u64,
}

impl Attention {
    /// A lane takes part from here on.
    pub(super) fn join(&mut self, lane: usize) {
        self.lanes.push(Lane {
            lane,
            deaf_ns: 0,
            owed_ns: 0,
        });
    }

    /// A lane has ended: it is waited for no longer.
    pub(super) fn leave(&mut self, lane: usize) {
        if let Some(at) = self.lanes.iter().position(|one| one.lane == lane) {
            self.lanes.swap_remove(at);
        }
    }

    /// Tells how many lanes take part.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Takes note of the time, and returns the one by which is judged. `deaf_ns` is for how long a lane has waited so far.
    #[inline]
    pub(super) fn hear(&mut self, now_ns: u64, deaf_ns: impl Fn(usize) -> u64) -> u64 {
        let passed_ns = now_ns.saturating_sub(self.now_ns);
        if passed_ns == 0 {
            return self.heard_ns;
        }
        self.now_ns = now_ns;
        let mut left_out_ns = 0;
        for one in &mut self.lanes {
            // Of a wait that is just over it may read more than it was.
            let deaf_ns = deaf_ns(one.lane).max(one.deaf_ns);
            one.owed_ns += deaf_ns - one.deaf_ns;
            one.deaf_ns = deaf_ns;
            let paid_ns = one.owed_ns.min(passed_ns);
            one.owed_ns -= paid_ns;
            // Lanes wait at the same time, mostly one for the other.
            left_out_ns = left_out_ns.max(paid_ns);
        }
        self.heard_ns += passed_ns - left_out_ns;
        self.heard_ns
    }

    /// Returns the time that is judged by.
    pub(super) fn heard_ns(&self) -> u64 {
        self.heard_ns
    }

    /// Returns when a time that is judged by will be, if no lane waits until then.
    pub(super) fn when(&self, heard_ns: u64) -> u64 {
        heard_ns.saturating_add(self.now_ns - self.heard_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_a_lane_is_deaf_does_not_pass() {
        let mut attention = Attention::default();
        attention.join(3);
        attention.join(5);
        let mut deaf_ns = [0; 6];
        let mut hear = |now_ns, lane: usize, total_ns| {
            deaf_ns[lane] = total_ns;
            let heard_ns = attention.hear(now_ns, |lane| deaf_ns[lane]);
            assert_eq!(attention.when(heard_ns), now_ns.max(attention.now_ns));
            heard_ns
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
        let mut attention = Attention::default();
        attention.join(0);
        attention.join(1);
        attention.leave(1);
        assert_eq!(attention.lanes(), 1);
        assert_eq!(attention.hear(10, |lane| 10 * lane as u64), 10);
        attention.leave(0);
        assert_eq!(attention.lanes(), 0);
    }
}
