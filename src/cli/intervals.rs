//! What the stages recorded, interval by interval, for several who look at paces of their own.
//!
//! Workers hand over what they have recorded once, whoever asked for it; here it is added to the share
//! of each who looks, so that nobody takes from another.

use std::time::Duration;

use crate::{
    clock::{Stopwatch, wall_ns},
    latency::Stages,
    pipeline::{Outcome, Pipeline},
    wait::IDLE_AFTER,
    worker::Handler,
};

/// How long answers are waited for: what a worker recorded whose handler takes longer comes with the next
/// interval.
const ANSWERS_LIMIT: Duration = Duration::from_millis(2 * IDLE_AFTER.as_millis() as u64);

/// Asks workers for what they have recorded, and shares it out.
#[derive(Default)]
pub(super) struct Intervals {
    /// Since when answers are waited for.
    requested: Option<Stopwatch>,
}

impl Intervals {
    /// Asks the workers once a share is due, and adds their answers to all shares when they have come. Returns
    /// whether it did. To be called again and again.
    pub(super) fn collect<'a, H: Handler>(
        &mut self,
        pipeline: &mut Pipeline<H>,
        shares: impl Iterator<Item = &'a mut Share>,
    ) -> bool {
        match self.requested {
            None => {
                let mut shares = shares;
                if shares.any(|share| share.is_due()) {
                    pipeline.request_stages();
                    self.requested = Some(Stopwatch::start());
                }
                false
            }
            Some(requested)
                if pipeline.awaits_stages()
                    && Duration::from_nanos(requested.elapsed_ns()) < ANSWERS_LIMIT =>
            {
                false
            }
            Some(_) => {
                self.requested = None;
                let stages = pipeline.collect_stages();
                shares.for_each(|share| share.add(stages));
                true
            }
        }
    }
}

/// What one who looks has not looked at yet.
pub(super) struct Share {
    every_ns: u64,
    clock: Stopwatch,
    /// When the interval ends, and when it began, by `clock`.
    due_ns: u64,
    since_ns: u64,
    /// When it began, since 1970.
    since_wall_ns: u64,
    stages: Stages,
    is_taken: bool,
}

/// What was recorded from one look to the next.
pub(super) struct Interval<'a> {
    /// When it began, since 1970.
    pub start: Duration,
    pub length: Duration,
    pub stages: &'a Stages,
}

impl Share {
    /// The share of one who looks every so often, from now on.
    pub(super) fn new(every: Duration) -> Self {
        let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        Self {
            every_ns,
            clock: Stopwatch::start(),
            due_ns: every_ns,
            since_ns: 0,
            since_wall_ns: wall_ns(),
            stages: Stages::default(),
            is_taken: false,
        }
    }

    fn is_due(&self) -> bool {
        self.clock.elapsed_ns() >= self.due_ns
    }

    fn add(&mut self, stages: &Stages) {
        if self.is_taken {
            self.stages.reset();
            self.is_taken = false;
        }
        self.stages.merge(stages);
    }

    /// Takes the interval if it is over. The next one ends at a multiple of its length from the first one's
    /// start, so that lateness does not add up.
    pub(super) fn take_due(&mut self) -> Option<Interval<'_>> {
        self.is_due().then(|| self.take())
    }

    /// Takes what is left once the pipeline has stopped.
    pub(super) fn take_last<H>(&mut self, outcome: &Outcome<H>) -> Interval<'_> {
        self.add(&outcome.uncollected);
        self.take()
    }

    fn take(&mut self) -> Interval<'_> {
        let now_ns = self.clock.elapsed_ns();
        let start = Duration::from_nanos(self.since_wall_ns);
        let length = Duration::from_nanos(now_ns - self.since_ns);
        (self.since_ns, self.since_wall_ns) = (now_ns, wall_ns());
        self.due_ns = (now_ns / self.every_ns + 1).saturating_mul(self.every_ns);
        self.is_taken = true;
        Interval {
            start,
            length,
            stages: &self.stages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Deadline, config::Config, envelope::Envelope, lane::Quota, stop::Stop,
        worker::handlers::Null,
    };

    const MESSAGES: u64 = 3_000;

    #[test]
    fn shares_take_nothing_from_each_other() {
        let config = Config::bind("tcp://127.0.0.1:*", Envelope::Raw);
        let (quota, stop) = (Quota::of(MESSAGES), Stop::default());
        let mut pipeline = Pipeline::start(&config, quota, stop, |_| Null).unwrap();
        let publisher = zmq::Context::new().socket(zmq::XPUB).unwrap();
        publisher.set_sndhwm(0).unwrap();
        publisher.connect(&pipeline.endpoints()[0]).unwrap();
        publisher.set_rcvtimeo(60_000).unwrap();
        publisher.recv_bytes(0).unwrap();

        let mut intervals = Intervals::default();
        let mut shares = [5, 30].map(|every_ms| Share::new(Duration::from_millis(every_ms)));
        let mut totals = [Stages::default(), Stages::default()];
        let (mut taken, mut sent) = ([0, 0], 0);
        let deadline = Deadline::after(Duration::from_secs(60));
        while !pipeline.is_finished() {
            assert!(!deadline.passed(), "{sent} sent, {taken:?} taken");
            // The last ones when both have looked, so that there is something left after that.
            if sent < MESSAGES / 2 || (sent < MESSAGES && taken[1] >= 2) {
                publisher.send("topic", 0).unwrap();
                sent += 1;
            }
            if intervals.collect(&mut pipeline, shares.iter_mut()) {
                for (index, share) in shares.iter_mut().enumerate() {
                    if let Some(interval) = share.take_due() {
                        totals[index].merge(interval.stages);
                        taken[index] += 1;
                    }
                }
            }
        }
        let outcome = pipeline.finish();
        assert_eq!(outcome.totals.delivered, MESSAGES);
        for (share, mut total) in shares.iter_mut().zip(totals) {
            total.merge(share.take_last(&outcome).stages);
            assert!(total.queue == outcome.stages.queue);
            assert!(total.handler == outcome.stages.handler);
        }
    }
}
