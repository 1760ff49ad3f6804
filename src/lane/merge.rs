//! The lines of a feed that are copies of each other, made one.
//!
//! Lines may come over different cards and so by different lanes, and what one of them lost comes by
//! another. So all lanes of such a feed share one [`Arbiter`], and one way to the workers behind it,
//! under a lock: who has the lock passes on what it has received and what waited for that, in order. A
//! lane takes the lock once for a run of messages. An arbiter a worker would need no lock,
//! but knows nothing of numbers that went to other workers, and where one series counts all topics that is
//! most of them.
//!
//! Its clock stands still while one of its lanes waits, for a worker or for another lane (`attention.rs`): what that one
//! has received meanwhile could not be heard. It does for as long as a line without a connection is waited for.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    clock::Clock,
    envelope::{Envelope, Fields},
    error::Result,
    flight::FlightRecord,
    handoff::Run,
    lane::{
        Dispatch, MoveOrder,
        attendance::{Absence, Attendance},
        attention::Attention,
        dispatch::LOOK_AFTER,
        sorter::{Destination, Sorter},
        tally::Tally,
        told::Told,
    },
    ledger::Rejection,
    message::Origin,
    sequence::{
        Event, EventKind, Position, Scope, Tracker,
        arbiter::{Arbiter, Limits, LineCounts, Released, Verdict},
    },
    shard::shard_of,
};

/// The arbiter of a feed's lines, and the way to the workers behind it.
pub(crate) struct Merge {
    envelope: Envelope,
    arbiter: Arbiter<Held>,
    /// Listens for silence, and says how far topics can be trusted.
    quality: Tracker,
    dispatch: Dispatch,
    /// The feed, and its first line: what concerns all of them is told of that.
    origin: Origin,
    scope: Scope,
    /// The time by which messages are waited for, and silence is judged, and the lanes that have not ended.
    attention: Attention,
    attendance: Attendance,
    /// The number of the last move that it was told to make.
    moves_taken: u64,
}

/// A lane's part in a [`Merge`]. The last one to be dropped ends the way to the workers.
pub(crate) struct Share {
    merge: Arc<Mutex<Merge>>,
    lane: usize,
    /// Whether it has said that its lane has ended.
    ended: bool,
}

/// A message as it came.
struct Arrival<'a, F> {
    origin: Origin,
    received_ns: u64,
    hash: u64,
    fields: &'a Fields,
    frames: &'a [F],
    /// Bytes of all frames.
    bytes: usize,
}

/// A message that waits for others.
struct Held {
    origin: Origin,
    received_ns: u64,
    hash: u64,
    fields: Fields,
    frames: Box<[Box<[u8]>]>,
}

impl Held {
    fn topic(&self) -> &[u8] {
        let topic = self.fields.topic;
        &self.frames[topic.frame][topic.start..topic.end]
    }
}

impl fmt::Debug for Merge {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Merge").finish_non_exhaustive()
    }
}

impl Merge {
    /// `lines` is the number of the lines of `feed`, and `quality` judges no numbers. A line that is silent
    /// for `silent_after_ns` while another one is not is noted.
    ///
    /// # Panics
    /// Where there are none, or more than [`LINES_MAX`](crate::sequence::arbiter::LINES_MAX); or where the
    /// envelope has no numbers.
    pub(crate) fn new(
        feed: u16,
        envelope: Envelope,
        lines: usize,
        limits: Limits,
        quality: Tracker,
        silent_after_ns: Option<u64>,
        dispatch: Dispatch,
    ) -> Self {
        let numbering = envelope.numbering();
        let numbering = numbering.expect("only messages with numbers are merged");
        let mut arbiter = Arbiter::new(numbering, lines, limits);
        for line in 0..lines {
            arbiter.disconnected(line as u8, 0);
        }
        Self {
            envelope,
            arbiter,
            quality,
            attention: Attention::new(limits.patience_ns()),
            origin: Origin { feed, line: 0 },
            dispatch,
            scope: numbering.scope,
            attendance: Attendance::new(feed, lines, silent_after_ns),
            moves_taken: 0,
        }
    }

    /// Returns the number of series seen.
    pub(crate) fn first_seen(&self) -> u64 {
        self.arbiter.series()
    }

    /// Returns the number of copies of topics beyond the limit.
    pub(crate) fn untracked(&self) -> u64 {
        self.arbiter.untracked()
    }

    /// Returns what was counted of each line.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (LineCounts, Absence)> {
        self.glance()
            .map(|(counts, absence)| (counts.clone(), absence))
    }

    /// As [`lines`](Self::lines), without a copy of their histograms.
    pub(crate) fn glance(&self) -> impl Iterator<Item = (&LineCounts, Absence)> {
        self.arbiter.lines().iter().zip(self.attendance.absences())
    }

    /// Returns how often messages were given up before their time because too much was held.
    pub(crate) fn given_up(&self) -> u64 {
        self.arbiter.given_up()
    }

    /// Returns when something is due, in nanoseconds of the pipeline's clock.
    pub(super) fn due_ns(&self) -> u64 {
        let quality_ns = self.quality.due_ns().unwrap_or(u64::MAX);
        let mut due_ns = self.arbiter.due_ns().min(quality_ns);
        if self.dispatch.has_to_look() {
            due_ns = due_ns.min(self.attention.heard_ns() + LOOK_AFTER.as_nanos() as u64);
        }
        self.attention.when(due_ns)
    }

    /// As [`Dispatch::move_shard`], where none of its lines has brought the order before.
    pub(super) fn move_shard(&mut self, order: MoveOrder) {
        if order.number > self.moves_taken {
            self.moves_taken = order.number;
            self.dispatch.move_shard(order.shard, order.worker);
        }
    }

    /// Takes note of the time, and returns the one by which it judges.
    fn hear(&mut self, tally: &Tally, now_ns: u64) -> u64 {
        let waited_ns = |lane| tally.waited_ns(lane, now_ns);
        let heard_ns = self.attention.hear(now_ns, waited_ns);
        self.quality.hear(heard_ns);
        heard_ns
    }

    /// Takes messages of a line one by one, each with its fields and its topic's hash, or with why it is rejected.
    ///
    /// # Errors
    /// As [`Dispatch::put`].
    #[inline]
    pub(super) fn take_each<'a, F: Deref<Target = [u8]> + 'a>(
        &mut self,
        tally: &mut Tally,
        flight: &FlightRecord,
        origin: Origin,
        received_ns: u64,
        mut messages: impl Iterator<Item = (std::result::Result<(Fields, u64), Rejection>, &'a [F])>,
    ) -> Result<()> {
        messages.try_for_each(|(found, frames)| match found {
            Ok((fields, hash)) => {
                let arrival = Arrival {
                    origin,
                    received_ns,
                    hash,
                    fields: &fields,
                    frames,
                    bytes: frames.iter().map(|frame| frame.len()).sum(),
                };
                self.take(tally, flight, &arrival)
            }
            Err(reason) => {
                tally.reject(origin, received_ns, reason, frames);
                Ok(())
            }
        })
    }

    /// Passes a message on, keeps it until those before it have come, or finds that it came before.
    ///
    /// # Errors
    /// As [`Dispatch::put`].
    #[inline]
    fn take<F: Deref<Target = [u8]>>(
        &mut self,
        tally: &mut Tally,
        flight: &FlightRecord,
        arrival: &Arrival<'_, F>,
    ) -> Result<()> {
        let (received_ns, heard_ns) = (arrival.received_ns, self.hear(tally, arrival.received_ns));
        let line = arrival.origin.line;
        self.attendance.hear(line, heard_ns);
        let verdict = match arrival.fields.stamp.position() {
            Some(position) => self.arbiter.offer(line, arrival.hash, position, heard_ns),
            // There is no telling whose copy it is.
            None => match self.reached_in(arrival.frames) {
                Some(reached) => self.arbiter.heed(line, reached, heard_ns),
                None => Verdict::Pass,
            },
        };
        if self.arbiter.take_begun() {
            self.tell_first_seen(tally, flight, arrival)?;
        }
        match verdict {
            Verdict::Duplicate => tally.note_duplicates(received_ns, 1),
            Verdict::TooLate => {
                let reason = Rejection::TooLate;
                tally.reject(arrival.origin, received_ns, reason, arrival.frames);
            }
            Verdict::Pass | Verdict::Hold => {
                if !self.quality.follow(arrival.hash, None) {
                    self.judge(tally, flight, arrival)?;
                }
                if verdict == Verdict::Hold {
                    self.hold(arrival);
                } else {
                    let (fields, frames) = (arrival.fields, arrival.frames);
                    let (origin, hash) = (arrival.origin, arrival.hash);
                    self.dispatch
                        .put(tally, origin, received_ns, hash, fields, frames)?;
                }
            }
        }
        if self.arbiter.due_ns() <= heard_ns {
            self.release(tally, flight, heard_ns)?;
        }
        Ok(())
    }

    /// How far the publisher has got, where the message is a heartbeat that says so.
    #[cold]
    fn reached_in<F: Deref<Target = [u8]>>(&self, frames: &[F]) -> Option<Position> {
        self.envelope.heartbeat_in(frames)?.position()
    }

    /// As [`take`](Self::take), for what a run begins with that needs no closer look: copies that are in step with
    /// their line. Returns how many they are. `hash_of` gives the hash of a message's topic, if it is one that can be
    /// read, and `open` then its fields.
    ///
    /// # Errors
    /// As [`Dispatch::put`].
    #[inline(always)]
    pub(super) fn take_run<const N: usize>(
        &mut self,
        tally: &mut Tally,
        sorter: &mut Sorter,
        run: Run<'_, N>,
        hash_of: impl Fn(&[&[u8]; N]) -> Option<u64>,
        open: impl Fn(&[&[u8]; N]) -> Fields,
    ) -> Result<usize> {
        let heard_ns = self.hear(tally, run.received_ns);
        let Some(table) = self.dispatch.sorting_table() else {
            return Ok(0);
        };
        if !self.quality.follows_all() || self.arbiter.due_ns() <= heard_ns {
            return Ok(0);
        }
        let line = run.origin.line;
        let (arbiter, mut duplicates) = (&mut self.arbiter, 0);
        let hashed = sorter.hash(run.messages, hash_of, |hash| arbiter.fetch(hash));
        let sorted = sorter.sort(hashed, |frames, hash| {
            let position = open(frames).stamp.position();
            let verdict =
                position.and_then(|position| arbiter.offer_in_step(line, hash, position, heard_ns));
            match verdict {
                Some(Verdict::Pass) => Destination::Outlet(table.owner_of(shard_of(hash))),
                Some(_) => {
                    duplicates += 1;
                    Destination::Nowhere
                }
                None => Destination::Unknown,
            }
        });
        if sorted.messages > 0 {
            self.attendance.hear(line, heard_ns);
        }
        if duplicates > 0 {
            tally.note_duplicates(run.received_ns, duplicates);
        }
        self.dispatch.put_sorted(tally, sorter, sorted, run, open)?;
        // Another lane may be the next to have its turn.
        self.dispatch.announce();
        Ok(sorted.messages)
    }

    /// Tells of a series that begins.
    #[cold]
    fn tell_first_seen<F: Deref<Target = [u8]>>(
        &mut self,
        tally: &mut Tally,
        flight: &FlightRecord,
        arrival: &Arrival<'_, F>,
    ) -> Result<()> {
        let (origin, received_ns) = (arrival.origin, arrival.received_ns);
        let mut told = Told::new(&mut self.dispatch, tally, flight, origin, received_ns);
        let topic = (self.scope == Scope::Topic)
            .then(|| (arrival.fields.topic.of(arrival.frames), arrival.hash));
        told.tell(Event::new(topic, EventKind::FirstSeen));
        told.outcome
    }

    /// Has a message of a topic or a feed that is not well judged.
    #[cold]
    fn judge<F: Deref<Target = [u8]>>(
        &mut self,
        tally: &mut Tally,
        flight: &FlightRecord,
        arrival: &Arrival<'_, F>,
    ) -> Result<()> {
        let (origin, received_ns) = (arrival.origin, arrival.received_ns);
        let mut told = Told::new(&mut self.dispatch, tally, flight, origin, received_ns);
        let topic = arrival.fields.topic.of(arrival.frames);
        self.quality.judge(topic, arrival.hash, None, &mut |event| {
            // What begins is the arbiter's to tell.
            if event.kind != EventKind::FirstSeen {
                told.tell(event);
            }
        });
        told.outcome
    }

    #[cold]
    fn hold<F: Deref<Target = [u8]>>(&mut self, arrival: &Arrival<'_, F>) {
        let frames = arrival.frames.iter().map(|frame| frame[..].into());
        let held = Held {
            origin: arrival.origin,
            received_ns: arrival.received_ns,
            hash: arrival.hash,
            fields: *arrival.fields,
            frames: frames.collect(),
        };
        self.arbiter.hold(arrival.bytes, held);
    }

    /// Passes on what need not wait any longer at `now_ns`, of its own clock.
    ///
    /// # Errors
    /// As [`Dispatch::put`].
    #[cold]
    pub(super) fn release(
        &mut self,
        tally: &mut Tally,
        flight: &FlightRecord,
        now_ns: u64,
    ) -> Result<()> {
        let (dispatch, quality, scope) = (&mut self.dispatch, &mut self.quality, self.scope);
        let heard_ns = self.attention.heard_ns();
        let noticed_ns = self.attention.now_ns();
        let mut outcome = Ok(());
        self.arbiter.release(now_ns, &mut |released| {
            if outcome.is_err() {
                return;
            }
            let before = match &released {
                Released::Message(held) => {
                    let (origin, received_ns, hash) = (held.origin, held.received_ns, held.hash);
                    outcome =
                        dispatch.put(tally, origin, received_ns, hash, &held.fields, &held.frames);
                    return;
                }
                Released::Lost { before, .. } | Released::Restarted { before, .. } => *before,
            };
            let mut told = Told::new(dispatch, tally, flight, before.origin, noticed_ns);
            let topic = (scope == Scope::Topic).then(|| (before.topic(), before.hash));
            let mut tell = |event: Event<'_>| told.tell(event);
            match released {
                Released::Lost { gap, .. } => quality.note_gap(topic, gap, heard_ns, &mut tell),
                Released::Restarted { from, to, .. } => {
                    quality.note_restart(topic, from, to, heard_ns, &mut tell);
                }
                Released::Message(_) => {}
            }
            outcome = told.outcome;
        });
        outcome
    }

    /// Does what is due at `now_ns`.
    ///
    /// # Errors
    /// As [`Dispatch::put`].
    pub(super) fn tick(
        &mut self,
        tally: &mut Tally,
        flight: &FlightRecord,
        now_ns: u64,
    ) -> Result<()> {
        let heard_ns = self.hear(tally, now_ns);
        let due = self.arbiter.due_ns() <= heard_ns;
        if due {
            self.release(tally, flight, heard_ns)?;
        }
        self.attendance.tick(flight, now_ns);
        let mut told = Told::new(&mut self.dispatch, tally, flight, self.origin, now_ns);
        self.quality.tick(heard_ns, &mut |event| told.tell(event));
        told.outcome?;
        if self.dispatch.is_moving() {
            self.dispatch.go_on_moving(tally)?;
        }
        if due {
            self.dispatch.offer(tally)?;
        }
        Ok(())
    }

    /// As [`Arbiter::set_connection`].
    pub(super) fn set_connection(&mut self, line: u8, connection: u32) {
        self.arbiter.set_connection(line, connection);
    }

    /// Takes note that a connection of a line was made, or ended.
    pub(super) fn note_connection(
        &mut self,
        tally: &mut Tally,
        flight: &FlightRecord,
        line: u8,
        made: bool,
        now_ns: u64,
    ) {
        let heard_ns = self.hear(tally, now_ns);
        let is_up = (self.attendance).note_connection(line, made, heard_ns, flight, now_ns);
        match (made, is_up) {
            (true, _) => self.arbiter.connected(line),
            (false, false) => self.arbiter.disconnected(line, heard_ns),
            (false, true) => {}
        }
        let mut told = Told::new(
            &mut self.dispatch,
            tally,
            flight,
            Origin {
                line,
                ..self.origin
            },
            now_ns,
        );
        // A worker that is gone is met again by the next message.
        self.quality
            .connected(made, heard_ns, &mut |event| told.tell(event));
    }

    /// As [`Dispatch::offer`].
    ///
    /// # Errors
    /// As [`Dispatch::put`].
    pub(super) fn offer(&mut self, tally: &mut Tally) -> Result<()> {
        self.dispatch.offer(tally)
    }

    /// As [`Dispatch::flush`].
    ///
    /// # Errors
    /// As [`Dispatch::put`].
    pub(super) fn flush(&mut self, tally: &mut Tally) -> Result<()> {
        self.dispatch.flush(tally)
    }
}

impl Share {
    /// Takes a part in a merge, for a lane.
    pub(crate) fn of(merge: &Arc<Mutex<Merge>>, lane: usize) -> Self {
        let share = Self {
            merge: merge.clone(),
            lane,
            ended: false,
        };
        share.lock().attention.join(lane);
        share
    }

    /// Waits for its turn, and counts how long.
    #[inline]
    pub(super) fn lock_for(&self, tally: &Tally, clock: &Clock) -> MutexGuard<'_, Merge> {
        if let Ok(merge) = self.merge.try_lock() {
            return merge;
        }
        let since_ns = clock.now_ns();
        let waits = &tally.counters().waits;
        waits.begin(since_ns);
        let merge = self.lock();
        let waited_ns = clock.now_ns().saturating_sub(since_ns);
        waits.queued_ns.add(waited_ns);
        waits.end();
        merge
    }

    fn lock(&self) -> MutexGuard<'_, Merge> {
        // A lane that panicked in between takes the pipeline down; what it left is still to be counted.
        self.merge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes everything on that waits, if no other lane can bring what it waits for.
    ///
    /// # Errors
    /// As [`Dispatch::put`].
    pub(super) fn end(&mut self, tally: &mut Tally, flight: &FlightRecord) -> Result<()> {
        self.ended = true;
        let mut merge = self.lock();
        merge.attention.leave(self.lane);
        if !merge.attention.is_over() {
            return merge.flush(tally);
        }
        merge.release(tally, flight, u64::MAX)?;
        merge.dispatch.end(tally)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let ended = self.ended;
        let mut merge = self.lock();
        if !ended {
            // The lane has failed.
            merge.attention.leave(self.lane);
        }
        if merge.attention.is_over() {
            merge.dispatch.close();
        }
    }
}
