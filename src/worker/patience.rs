//! What a worker does with messages that have waited for too long: conflates them, or says that it is
//! too slow. When that is for too long, the [snail](crate::worker::Snail) decides.
//!
//! Times are nanoseconds of the pipeline's clock.

use std::{mem, sync::Arc};

use crate::{
    clock::Clock,
    config::PolicyLimits,
    error::Error,
    flight::{AnomalyKind, FlightRecord, Hop, Sighting},
    handoff::{Batch, Inlet},
    latency::{FeedClocks, HandledAt},
    ledger::WorkerLedger,
    message::Header,
    policy::{Conflator, Policy, TopicTally, only_feed, only_topic},
    worker::{
        Lately, Moment, Snail,
        snail::{late_hop, late_ns},
    },
};

const MS_NS: u64 = 1_000_000;
/// How long a handler may take for a batch before that is noted.
const SLOW_NS: u64 = 100 * MS_NS;

/// How long a worker lets messages wait, and what it does then.
pub(crate) struct Patience {
    pub worker: usize,
    /// The policy of each source.
    pub policies: Vec<Policy>,
    /// The number of batches of each source.
    pub batches: usize,
    pub limits: PolicyLimits,
    pub flight: FlightRecord,
    /// What became of messages, by topic.
    pub topics: TopicTally,
    pub lately: Lately,
    pub snail: Arc<Snail>,
    pub work: Work,
}

/// What is kept from one time to the next.
pub(crate) struct Work {
    conflator: Conflator,
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    taken: Vec<Box<Batch>>,
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    emptied: Vec<Box<Batch>>,
    /// By feed: whether it was judged in the batch at hand.
    judged: Vec<bool>,
    /// By feed and line, whose publishers' clocks differ: how late messages come to us.
    late: Vec<Box<[LateLine]>>,
    late_after_ns: u64,
    grace_ns: u64,
}

/// How late messages of a line come to us, by their stamps.
#[derive(Clone, Copy, Default)]
struct LateLine {
    /// When the first of the batches in a row that were late was done.
    since_ns: Option<u64>,
    is_noted: bool,
}

impl LateLine {
    /// Tells whether all have been late for longer than the grace time by now, the first time that this is so.
    #[inline]
    fn is_for_long(&mut self, is_late: bool, now_ns: u64, grace_ns: u64) -> bool {
        if !is_late {
            *self = Self::default();
            return false;
        }
        let since_ns = *self.since_ns.get_or_insert(now_ns);
        now_ns - since_ns > grace_ns && !mem::replace(&mut self.is_noted, true)
    }
}

impl Work {
    /// Begins with nothing late. `lines` is the number of lines of each feed.
    pub(crate) fn new(limits: &PolicyLimits, lines: &[usize]) -> Self {
        Self {
            conflator: Conflator::default(),
            taken: Vec::new(),
            emptied: Vec::new(),
            judged: vec![false; lines.len()],
            late: (lines
                .iter()
                .map(|&lines| vec![LateLine::default(); lines].into()))
            .collect(),
            late_after_ns: u64::from(limits.late_after_ms) * MS_NS,
            grace_ns: u64::from(limits.grace_ms) * MS_NS,
        }
    }
}

#[expect(clippy::vec_box, reason = "they travel in their boxes")]
impl Patience {
    /// Tells whether a batch, and what waits behind it, is to be conflated.
    #[inline]
    pub(super) fn is_over(&self, batch: &Batch, clock: &Clock) -> bool {
        self.policies[batch.source] == Policy::Conflate
            && batch.headers().first().is_some_and(|oldest| {
                let age_ns = clock.now_ns().saturating_sub(oldest.received_ns);
                age_ns > u64::from(self.limits.conflate_after_ms) * MS_NS
            })
    }

    /// Takes what waits behind a batch, to be conflated with it: but no more than half of the batches,
    /// so that the lane can go on meanwhile.
    pub(super) fn take_more(&mut self, batch: Box<Batch>, inlet: &mut Inlet) -> Vec<Box<Batch>> {
        let mut taken = mem::take(&mut self.work.taken);
        let (source, more) = (batch.source, (self.batches / 2).saturating_sub(1));
        taken.push(batch);
        inlet.take_more(source, more, &mut taken);
        taken
    }

    /// Conflates batches, counts the messages that are superseded, and gives those batches back that are empty then.
    pub(super) fn conflate(
        &mut self,
        batches: &mut Vec<Box<Batch>>,
        inlet: &mut Inlet,
        counters: &WorkerLedger,
        clock: &Clock,
    ) {
        let (oldest, waited) = (batches[0].headers()[0], batches.len());
        let work = &mut self.work;
        let superseded = self.topics.conflating();
        let count = work
            .conflator
            .conflate(batches, &mut work.emptied, superseded);
        // Before the lane can fill them anew, or more would seem to be under way than there is room for.
        counters.conflated.add(count);
        counters.batches.add(work.emptied.len() as u64);
        for batch in work.emptied.drain(..) {
            inlet.give_back(batch);
        }
        if count > 0 {
            let now_ns = clock.now_ns();
            let sighting = Sighting {
                at_ns: now_ns,
                kind: AnomalyKind::Conflation,
                hop: Hop::Worker,
                feed: Some(oldest.origin().feed),
                topic: match &batches[..] {
                    [kept] => only_topic(kept),
                    _ => None,
                },
                count,
            };
            self.flight.note(sighting, || {
                format!(
                    "worker-{} found {waited} batches waiting, the oldest for {} ms",
                    self.worker,
                    now_ns.saturating_sub(oldest.received_ns) / MS_NS
                )
            });
        }
    }

    /// Keeps the room that batches were gathered in.
    pub(super) fn keep(&mut self, empty: Vec<Box<Batch>>) {
        self.work.taken = empty;
    }

    /// Takes note that a batch is taken up. Returns who may say that the rest of it is to be left.
    #[inline]
    pub(super) fn take_up(&self, batch: &Batch, now_ns: u64) -> Option<Arc<Snail>> {
        (self.policies[batch.source] == Policy::Snail).then(|| {
            let newest = batch.headers().last();
            self.snail
                .set_at_hand(newest.map(|&newest| (newest, now_ns)));
            self.snail.clone()
        })
    }

    /// Takes note that it is put down, whether it was handled or not.
    #[inline]
    pub(super) fn put_down(&self, batch: &Batch) {
        if self.policies[batch.source] == Policy::Snail {
            self.snail.set_at_hand(None);
        }
    }

    /// Judges a batch that was handled. Returns an error where its topics' policy ends the pipeline.
    #[inline]
    pub(super) fn judge(
        &mut self,
        batch: &Batch,
        at: HandledAt,
        clocks: &FeedClocks,
    ) -> Option<Error> {
        if at.end_ns.saturating_sub(at.start_ns) > SLOW_NS {
            self.note_slow(batch, at);
        }
        let done = Moment {
            now_ns: at.end_ns,
            wall: at.start_wall.after(at.end_ns.saturating_sub(at.start_ns)),
        };
        if self.policies[batch.source] != Policy::Snail {
            // If even the newest is late, all are.
            let newest = batch.headers().last()?;
            let feed = newest.origin().feed;
            let queue_ns = at.end_ns.saturating_sub(newest.received_ns);
            let late_ns = late_ns(newest, done, clocks);
            let work = &mut self.work;
            let line = &mut work.late[usize::from(feed)][usize::from(newest.origin().line)];
            let is_late = late_ns > work.late_after_ns;
            let begins = line.is_for_long(is_late, at.end_ns, work.grace_ns);
            if queue_ns > self.work.late_after_ns {
                self.note_late(batch, feed, at, queue_ns);
            } else if begins {
                self.note_late_before(newest, at.end_ns, (queue_ns, late_ns));
            }
            return None;
        }
        self.work.judged.fill(false);
        let (mut left, mut failure) = (self.work.judged.len(), None);
        for header in batch.headers().iter().rev() {
            if mem::replace(
                &mut self.work.judged[usize::from(header.origin().feed)],
                true,
            ) {
                continue;
            }
            let evidence = || self.lately.evidence(at.end_ns);
            failure = failure.or((self.snail).judge(header, at.start_ns, done, clocks, evidence));
            left -= 1;
            if left == 0 {
                break;
            }
        }
        failure
    }

    /// Notes a batch all of which waited for too long on our side: by our clock alone, since a publisher's may
    /// be off.
    #[cold]
    fn note_late(&self, batch: &Batch, feed: u16, at: HandledAt, queue_ns: u64) {
        let sighting = Sighting {
            at_ns: at.end_ns,
            kind: AnomalyKind::Late,
            hop: Hop::Worker,
            feed: Some(feed),
            topic: only_topic(batch),
            count: batch.len() as u64,
        };
        self.flight.note(sighting, || {
            format!(
                "worker-{} was done with the newest of {} messages {} ms after it was received, {} ms of that in \
                 the handler with its batch; the limit is {} ms{}",
                self.worker,
                batch.len(),
                queue_ns / MS_NS,
                (at.end_ns - at.start_ns) / MS_NS,
                self.limits.late_after_ms,
                self.lately.evidence(at.end_ns)
            )
        });
    }

    /// Notes that messages of a line come late to us, when they have for longer than the grace time: what is old, or
    /// stamped by a clock that is off, is so for as long as it comes.
    #[cold]
    fn note_late_before(&self, newest: &Header, now_ns: u64, (queue_ns, late_ns): (u64, u64)) {
        let origin = newest.origin();
        let sighting = Sighting {
            at_ns: now_ns,
            kind: AnomalyKind::Late,
            hop: late_hop(queue_ns, late_ns),
            feed: Some(origin.feed),
            topic: None,
            count: 1,
        };
        let (late_after_ms, grace_ms) = (self.limits.late_after_ms, self.limits.grace_ms);
        self.flight.note(sighting, || {
            format!(
                "by their stamps, worker-{} was done with no message of line {} within {late_after_ms} ms for {grace_ms} ms; \
                 the last one was {} ms late, {} ms of that since it was received; no more is noted until one is in time",
                self.worker,
                origin.line,
                late_ns / MS_NS,
                queue_ns / MS_NS,
            )
        });
    }

    #[cold]
    fn note_slow(&self, batch: &Batch, at: HandledAt) {
        let sighting = Sighting {
            at_ns: at.end_ns,
            kind: AnomalyKind::Stall,
            hop: Hop::Worker,
            feed: only_feed(batch),
            topic: only_topic(batch),
            count: 1,
        };
        self.flight.note(sighting, || {
            format!(
                "the handler of worker-{} took {} ms for {} messages{}",
                self.worker,
                (at.end_ns - at.start_ns) / MS_NS,
                batch.len(),
                self.lately.evidence(at.end_ns)
            )
        });
    }
}
