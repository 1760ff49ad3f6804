//! Whether a worker is too slow for good, by the Suicidal Snail of the ZeroMQ Guide (chapter 5).
//!
//! The worker judges each batch when it is done with it. Since a handler may take long for a batch, or never return,
//! whoever looks at the pipeline judges what the worker is at meanwhile, which then leaves the rest of the batch. Both go
//! by the same lateness, so that what one has said the other does not say again before a grace time.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::{
    clock::{Clock, WallClock, WallTime},
    config::{OnLate, PolicyLimits},
    error::Error,
    flight::{AnomalyKind, FlightRecord, Hop, Sighting},
    latency::FeedClocks,
    message::Header,
    policy::{Lateness, Verdict},
    worker::Lately,
};

const MS_NS: u64 = 1_000_000;

/// A moment, by both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    /// Nanoseconds of the pipeline's clock.
    pub now_ns: u64,
    pub wall: WallTime,
}

/// How late a worker is.
#[derive(Debug)]
pub(crate) struct Snail {
    worker: usize,
    limits: PolicyLimits,
    flight: FlightRecord,
    state: Mutex<State>,
    /// Whether it was too slow for too long, and that ends the pipeline.
    given_up: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// By feed, since one that is in time says nothing of another.
    lateness: Vec<Lateness>,
    /// The newest message of the batch that the worker is at, and when it took that up, in nanoseconds of the
    /// pipeline's clock.
    at_hand: Option<(Header, u64)>,
    too_long: Option<TooLong>,
}

/// How a worker was too slow for too long, in nanoseconds.
#[derive(Debug)]
struct TooLong {
    for_ns: u64,
    /// How late the last message was.
    late_ns: u64,
    /// How much of that it was with us.
    queue_ns: u64,
}

impl TooLong {
    fn of(newest: &Header, now_ns: u64, for_ns: u64, late_ns: u64) -> Self {
        Self {
            for_ns,
            late_ns,
            queue_ns: now_ns.saturating_sub(newest.received_ns),
        }
    }
}

impl Snail {
    /// Begins with nothing late, of as many feeds.
    pub(crate) fn new(
        worker: usize,
        limits: &PolicyLimits,
        feeds: usize,
        flight: FlightRecord,
    ) -> Self {
        let [late_after_ns, grace_ns] =
            [limits.late_after_ms, limits.grace_ms].map(|ms| u64::from(ms) * MS_NS);
        let state = State {
            lateness: vec![Lateness::new(late_after_ns, grace_ns); feeds],
            at_hand: None,
            too_long: None,
        };
        Self {
            worker,
            limits: limits.clone(),
            flight,
            state: Mutex::new(state),
            given_up: AtomicBool::new(false),
        }
    }

    /// Takes note that the worker takes up a batch, of which this is the newest message, or has put it down.
    pub(super) fn set_at_hand(&self, at_hand: Option<(Header, u64)>) {
        self.state().at_hand = at_hand;
    }

    /// Tells whether the worker is to discard what is left.
    #[inline]
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }

    /// Judges a feed by its newest message of a batch that the worker is done with: if even that is late, all are.
    /// Returns an error where that ends the pipeline. It was taken up at `begun_ns`; `evidence` is of what the worker's
    /// thread did.
    pub(super) fn judge(
        &self,
        newest: &Header,
        begun_ns: u64,
        done: Moment,
        clocks: &FeedClocks,
        evidence: impl FnOnce() -> String,
    ) -> Option<Error> {
        let late_ns = late_ns(newest, done, clocks);
        let mut state = self.state();
        let lateness = &mut state.lateness[usize::from(newest.origin().feed)];
        if let Verdict::TooLong { for_ns } = lateness.judge(done.now_ns, late_ns, begun_ns) {
            let last = "the last message was";
            self.note(newest, last, done.now_ns, (for_ns, late_ns), evidence);
            state
                .too_long
                .get_or_insert(TooLong::of(newest, done.now_ns, for_ns, late_ns));
        }
        self.failure(&state)
    }

    /// As [`judge`](Self::judge), of what the worker is at; tells whether that is late, too.
    fn judge_at_hand(
        &self,
        state: &mut State,
        now: Moment,
        clocks: &FeedClocks,
        evidence: impl FnOnce() -> String,
    ) -> (Verdict, Option<Error>) {
        let Some((newest, begun_ns)) = state.at_hand else {
            return (Verdict::InTime, None);
        };
        let late_ns = late_ns(&newest, now, clocks);
        let lateness = &mut state.lateness[usize::from(newest.origin().feed)];
        // In time so far, and not done: that tells nothing of the batches before.
        if !lateness.is_late(late_ns) {
            return (Verdict::InTime, None);
        }
        let verdict = lateness.judge(now.now_ns, late_ns, begun_ns);
        if let Verdict::TooLong { for_ns } = verdict {
            let last = "the newest message of the batch it is at is";
            self.note(&newest, last, now.now_ns, (for_ns, late_ns), evidence);
            state
                .too_long
                .get_or_insert(TooLong::of(&newest, now.now_ns, for_ns, late_ns));
        }
        (verdict, self.failure(state))
    }

    /// Returns what ends the pipeline, if anything does.
    fn failure(&self, state: &State) -> Option<Error> {
        let too_long = state
            .too_long
            .as_ref()
            .filter(|_| self.limits.on_late == OnLate::Exit)?;
        self.given_up.store(true, Relaxed);
        Some(Error::Late {
            worker: self.worker,
            late_for_ms: too_long.for_ns / MS_NS,
            limit_ms: u64::from(self.limits.late_after_ms),
            late_ms: too_long.late_ns / MS_NS,
            queue_ms: too_long.queue_ns / MS_NS,
        })
    }

    #[cold]
    fn note(
        &self,
        newest: &Header,
        last: &str,
        now_ns: u64,
        (for_ns, late_ns): (u64, u64),
        evidence: impl FnOnce() -> String,
    ) {
        let queue_ns = now_ns.saturating_sub(newest.received_ns);
        let sighting = Sighting {
            at_ns: now_ns,
            kind: AnomalyKind::Late,
            hop: late_hop(queue_ns, late_ns),
            feed: Some(newest.origin().feed),
            topic: None,
            count: 1,
        };
        let limit_ms = self.limits.late_after_ms;
        self.flight.note(sighting, || {
            format!(
                "worker-{} was done with nothing of the feed within {limit_ms} ms for {} ms; {last} {} ms late, {} ms of \
                 that since it was received{}",
                self.worker,
                for_ns / MS_NS,
                late_ns / MS_NS,
                queue_ns / MS_NS,
                evidence(),
            )
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked within has at worst judged a batch too few.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how late a message is: since its publisher stamped it, as far as clocks tell, and no less than since it was
/// received.
pub(super) fn late_ns(message: &Header, now: Moment, clocks: &FeedClocks) -> u64 {
    let queue_ns = now.now_ns.saturating_sub(message.received_ns);
    let feed_ns = |stamped_ns| clocks.excess_ns(message.origin(), now.wall, stamped_ns);
    message.timestamp_ns().map_or(0, feed_ns).max(queue_ns)
}

/// Returns where a message was late that has been with us for `queue_ns` of `late_ns`.
pub(super) fn late_hop(queue_ns: u64, late_ns: u64) -> Hop {
    if queue_ns > late_ns / 2 {
        Hop::Worker
    } else {
        Hop::Network
    }
}

/// How long a handler has at least to return once its worker is found to be too slow.
const RETURN_AFTER_MIN_NS: u64 = 500 * MS_NS;

/// Looks at a worker from another thread.
#[derive(Debug)]
pub(crate) struct Watchdog {
    snail: Arc<Snail>,
    /// What its thread did since it was last seen to be in time.
    lately: Lately,
    /// When it was found to be too slow by this.
    since_ns: Option<u64>,
}

/// What a [`Watchdog`] has found.
#[derive(Debug)]
pub(crate) enum Finding {
    /// Nothing that ends the pipeline.
    Nothing,
    /// The worker is too slow for too long.
    TooSlow(Error),
    /// And has not returned from its handler since.
    Stuck,
}

impl Watchdog {
    pub(crate) fn new(snail: Arc<Snail>, lately: Lately) -> Self {
        Self {
            snail,
            lately,
            since_ns: None,
        }
    }

    /// Judges what the worker is at.
    pub(crate) fn look(
        &mut self,
        (clock, wall): (&Clock, &WallClock),
        clocks: &FeedClocks,
    ) -> Finding {
        self.lately.look_first(clock.now_ns());
        let snail = self.snail.clone();
        let mut state = snail.state();
        // Not before: what is at hand now may be younger than what it took to get here.
        let now = Moment {
            now_ns: clock.now_ns(),
            wall: wall.now(),
        };
        if let Some(since_ns) = self.since_ns {
            let limits = &snail.limits;
            let again_ns = u64::from(limits.late_after_ms) + u64::from(limits.grace_ms);
            let until_ns = since_ns + (again_ns * MS_NS).max(RETURN_AFTER_MIN_NS);
            let is_stuck = state.at_hand.is_some() && now.now_ns >= until_ns;
            return if is_stuck {
                Finding::Stuck
            } else {
                Finding::Nothing
            };
        }
        let lately = &self.lately;
        let (verdict, failure) =
            snail.judge_at_hand(&mut state, now, clocks, || lately.evidence(now.now_ns));
        // The worker waits for it when it is done.
        drop(state);
        if verdict == Verdict::InTime {
            self.lately.note(now.now_ns);
        }
        failure.map_or(Finding::Nothing, |error| {
            self.since_ns = Some(now.now_ns);
            Finding::TooSlow(error)
        })
    }
}
