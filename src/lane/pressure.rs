//! What a lane does where a worker has no room: gives up messages as their policy says, counts each one,
//! and notes what it knows of why.
//!
//! All of it is off the way of a message that there is room for. Times are nanoseconds of the pipeline's
//! clock.

use std::time::Duration;

use crate::{
    clock::Clock,
    error::Result,
    flight::{AnomalyKind, FlightRecord, Hop, Sighting},
    handoff::{Batch, Outlet, Waiting},
    host::probe::{Probe, Sample},
    lane::tally::Tally,
    message::Origin,
    policy::{Conflator, Fate, Policy, TopicTally, only_feed, only_topic},
    sequence::topics::NAME_BYTES_MAX,
};

/// Messages dropped one by one that may not be in the flight record yet.
const UNNOTED_MAX: u64 = 1_024;
/// For how long a lane has to wait for a worker before that is noted: with back-pressure, which a feed at
/// full speed lives by, waits of some milliseconds are nothing wrong.
const STALL_NS: u64 = 100_000_000;
/// Of this many batches taken back to be conflated, one has to be spare then: so each message is looked
/// at a few times at most, however many topics there are.
const SPARE_OF: usize = 4;
/// Batches conflated to begin with: meanwhile the lane does nothing for its other workers.
const CONFLATED_AT_FIRST: usize = SPARE_OF;

/// Makes room, and says so.
pub(crate) struct Pressure {
    pub clock: Clock,
    pub flight: FlightRecord,
    /// What became of messages, by topic.
    pub topics: TopicTally,
    /// The workers' threads.
    pub workers: Vec<Probe>,
    /// The number of batches of each outlet.
    pub batches: usize,
    pub work: Work,
}

/// What is kept from one time to the next.
#[derive(Default)]
pub(crate) struct Work {
    conflator: Conflator,
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    taken: Vec<Box<Batch>>,
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    emptied: Vec<Box<Batch>>,
    /// Dropped one by one: for whom, the feed, and how many.
    unnoted: Option<(Full, u16, u64)>,
    /// The hash of the first one's topic, and its name; that is empty where others have another, or it is itself.
    unnoted_topic: (u64, Vec<u8>),
}

/// Whom there is no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// The worker that the batches are for.
    pub worker: usize,
    /// While a shard moves to it, and what is held for it is more than may be: whom the lane waits for.
    pub moving_by: Option<usize>,
}

/// A wait for a worker, from its beginning on.
pub(super) struct Stall {
    full: Full,
    since_ns: u64,
    sample: Option<Sample>,
    /// Whether it was noted, since it is long, and the number of the entry where that is its own.
    is_noted: bool,
    entry: Option<u64>,
}

impl Stall {
    /// Tells whether this is still whom there is no room for.
    pub(super) fn is_for(&self, full: Full) -> bool {
        self.full == full
    }
}

impl Full {
    /// Whom the lane waits for.
    fn waits_for(self) -> usize {
        self.moving_by.unwrap_or(self.worker)
    }
}

impl Work {
    /// Hands what was taken back over again, but for a batch to be filled next, if there is one. Counts
    /// those that were not.
    fn put_back(
        &mut self,
        tally: &Tally,
        worker: usize,
        outlet: &mut Outlet,
    ) -> Result<Option<Box<Batch>>> {
        // The last one goes on being filled.
        let filling = self.taken.pop_if(|batch| !batch.is_full());
        let filling = filling.or_else(|| self.emptied.pop());
        let kept = self.emptied.len() + usize::from(filling.is_some());
        let way = &tally.counters().ways[worker];
        way.taken_back.add(kept as u64);
        if let Some(filling) = &filling {
            way.messages_taken_back.add(filling.len() as u64);
        }
        for batch in self.taken.drain(..) {
            outlet.send(batch)?;
        }
        for batch in self.emptied.drain(..) {
            outlet.keep(batch);
        }
        Ok(filling)
    }
}

impl Pressure {
    /// Counts a message that there was no room for.
    pub(super) fn drop_newest(
        &mut self,
        tally: &mut Tally,
        full: Full,
        origin: Origin,
        received_ns: u64,
        (hash, topic): (u64, &[u8]),
    ) {
        tally.note_dropped(received_ns);
        self.topics.add(origin.feed, hash, topic, Fate::Dropped);
        match &mut self.work.unnoted {
            Some((same, same_feed, count))
                if (*same, *same_feed) == (full, origin.feed) && *count < UNNOTED_MAX =>
            {
                *count += 1;
                let (first, name) = &mut self.work.unnoted_topic;
                if *first != hash {
                    name.clear();
                }
            }
            _ => {
                self.note_rest(tally);
                self.work.unnoted = Some((full, origin.feed, 1));
                let (first, name) = &mut self.work.unnoted_topic;
                *first = hash;
                name.clear();
                name.extend_from_slice(&topic[..topic.len().min(NAME_BYTES_MAX)]);
            }
        }
    }

    /// Notes what was dropped one by one and is not noted yet.
    pub(super) fn note_rest(&mut self, tally: &Tally) {
        if let Some((full, feed, count)) = self.work.unnoted.take() {
            let topic = Some(&self.work.unnoted_topic.1[..]).filter(|topic| !topic.is_empty());
            self.note(tally, AnomalyKind::Drop, full, (Some(feed), topic), count);
        }
    }

    /// Takes batches back from an outlet until there is one to be filled, and returns it; or `None`, where
    /// the policy is to drop what comes.
    ///
    /// Never waits for a handler: of an outlet's batches, a worker holds half at most, and the others are
    /// spare or can be taken back. They are neither only where the worker gives some back and takes others
    /// between two looks.
    ///
    /// # Errors
    /// [`Error::WorkerGone`](crate::Error::WorkerGone).
    pub(super) fn make_room(
        &mut self,
        tally: &mut Tally,
        policy: Policy,
        full: Full,
        outlet: &mut Outlet,
    ) -> Result<Option<Box<Batch>>> {
        loop {
            if let Some(batch) = outlet.wait_for_spare(Duration::ZERO)? {
                return Ok(Some(batch));
            }
            let made = match policy {
                Policy::Conflate => self.conflate(tally, full, outlet)?,
                Policy::DropOldest => self.drop_oldest(tally, full, outlet),
                _ => return Ok(None),
            };
            if made.is_some() {
                return Ok(made);
            }
        }
    }

    fn drop_oldest(
        &mut self,
        tally: &mut Tally,
        full: Full,
        outlet: &mut Outlet,
    ) -> Option<Box<Batch>> {
        outlet.take_back(Waiting::Oldest, &mut self.work.taken);
        let mut batch = self.work.taken.pop()?;
        tally.counters().ways[full.worker].taken_back.add(1);
        self.discard(tally, full, &batch);
        // What it notes is told later than it happened, rather than never.
        batch.clear_messages();
        Some(batch)
    }

    /// Drops what waits by an outlet whose worker is waited for no longer.
    pub(super) fn give_up(&mut self, tally: &mut Tally, full: Full, outlet: &mut Outlet) {
        let mut taken = std::mem::take(&mut self.work.taken);
        outlet.take_back(Waiting::All, &mut taken);
        for batch in taken.drain(..) {
            tally.counters().ways[full.worker].taken_back.add(1);
            self.discard(tally, full, &batch);
            outlet.keep(batch);
        }
        self.work.taken = taken;
    }

    fn discard(&mut self, tally: &mut Tally, full: Full, batch: &Batch) {
        let dropped = batch.len() as u64;
        tally.note_taken_back(self.clock.now_ns(), full.worker, dropped, 0);
        self.topics.add_dropped(batch, 0);
        // One of notices alone costs nothing.
        if dropped > 0 {
            let whose = (only_feed(batch), only_topic(batch));
            self.note(tally, AnomalyKind::Drop, full, whose, dropped);
        }
    }

    /// Conflates the newest of what waits, and more of it where that leaves too little room. Where even the newest
    /// messages of all topics do, the oldest of them are dropped.
    fn conflate(
        &mut self,
        tally: &mut Tally,
        full: Full,
        outlet: &mut Outlet,
    ) -> Result<Option<Box<Batch>>> {
        let mut work = std::mem::take(&mut self.work);
        let (mut looked_at, mut conflated) = (0, 0);
        let lacks_room = |work: &Work, looked_at: usize| {
            let is_full = work.taken.last().is_some_and(|batch| batch.is_full());
            work.emptied.len() < looked_at / SPARE_OF || (work.emptied.is_empty() && is_full)
        };
        while looked_at == 0 || lacks_room(&work, looked_at) {
            let kept = work.taken.len();
            let more = Waiting::Newest(looked_at.max(CONFLATED_AT_FIRST));
            outlet.take_back(more, &mut work.taken);
            if work.taken.len() == kept {
                break;
            }
            looked_at += work.taken.len() - kept;
            // They came before those that were kept.
            work.taken.rotate_left(kept);
            let superseded = self.topics.conflating();
            conflated += (work.conflator).conflate(&mut work.taken, &mut work.emptied, superseded);
        }
        let feed = work.taken.first().and_then(|batch| only_feed(batch));
        if conflated > 0 {
            tally.note_taken_back(self.clock.now_ns(), full.worker, 0, conflated);
            let topic = match &work.taken[..] {
                [kept] => only_topic(kept),
                _ => None,
            };
            let whose = (feed, topic);
            self.note(tally, AnomalyKind::Conflation, full, whose, conflated);
        }
        while lacks_room(&work, looked_at) {
            let mut batch = work.taken.remove(0);
            self.discard(tally, full, &batch);
            if let Some(first) = work.taken.first_mut() {
                first.note_ahead(&mut batch);
            }
            match work.taken.last_mut() {
                Some(last) => {
                    last.take_fence(&mut batch);
                    batch.clear();
                }
                None => batch.clear_messages(),
            }
            work.emptied.push(batch);
        }
        let room = work.put_back(tally, full.worker, outlet);
        self.work = work;
        room
    }

    /// Begins to watch how long the lane waits for a worker.
    pub(super) fn stall(&self, full: Full) -> Stall {
        Stall {
            full,
            since_ns: self.clock.now_ns(),
            sample: self.workers[full.waits_for()].sample(),
            is_noted: false,
            entry: None,
        }
    }

    /// Notes a wait that is long, and what its worker's thread did meanwhile.
    pub(super) fn note_stall(&self, stall: &mut Stall) {
        let now_ns = self.clock.now_ns();
        if stall.is_noted || now_ns.saturating_sub(stall.since_ns) < STALL_NS {
            return;
        }
        let sighting = Sighting {
            at_ns: now_ns,
            kind: AnomalyKind::Blocked,
            hop: Hop::Worker,
            feed: None,
            topic: None,
            count: 1,
        };
        let evidence = || self.evidence(stall, now_ns, "has waited");
        let entry = self.flight.note_lasting(sighting, evidence);
        (stall.is_noted, stall.entry) = (true, entry);
    }

    /// Notes how long a wait was that was noted, now that it is over.
    pub(super) fn end_stall(&self, stall: &Stall) {
        if let Some(number) = stall.entry {
            let now_ns = self.clock.now_ns();
            self.flight
                .conclude(number, now_ns, || self.evidence(stall, now_ns, "waited"));
        }
    }

    fn evidence(&self, stall: &Stall, now_ns: u64, waits: &str) -> String {
        let worker = stall.full.waits_for();
        let waited_ms = ms(now_ns.saturating_sub(stall.since_ns));
        let mut evidence = format!("a lane {waits} {waited_ms:.1} ms for worker-{worker}, ");
        evidence += &match stall.full.moving_by {
            None => format!("all {} batches to it were under way", self.batches),
            Some(_) => format!("while a shard moved to worker-{}", stall.full.worker),
        };
        if let (Some(before), Some(after)) = (stall.sample, self.workers[worker].sample()) {
            evidence += &format!("; its thread {}", after.since(&before));
        }
        evidence
    }

    fn note(
        &self,
        tally: &Tally,
        kind: AnomalyKind,
        full: Full,
        (feed, topic): (Option<u16>, Option<&[u8]>),
        count: u64,
    ) {
        let now_ns = self.clock.now_ns();
        let sighting = Sighting {
            at_ns: now_ns,
            kind,
            hop: Hop::Handoff,
            feed,
            topic,
            count,
        };
        self.flight.note(sighting, || {
            let worker = full.waits_for();
            let done_ns = tally.worker_done_ns(worker);
            let since = match done_ns {
                0 => "which has done none yet".to_owned(),
                _ => format!(
                    "which was last done with one {:.1} ms ago",
                    ms(now_ns.saturating_sub(done_ns))
                ),
            };
            match full.moving_by {
                None => {
                    let batches = self.batches;
                    format!("all {batches} batches to worker-{worker} were under way, {since}")
                }
                Some(_) => {
                    let to = full.worker;
                    format!("a shard that moves to worker-{to} waits for worker-{worker}, {since}")
                }
            }
        });
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}
