//! Frames in, batches out: the envelope finds a message's fields, its number is looked at, and it goes to
//! its worker.
//!
//! The same code stands behind every engine. An engine calls [`Router::route`] for each message, or
//! [`Router::route_run`] for several, and then [`Router::announce`] at the end of the read; [`Router::offer`] now
//! and then, since its sockets may never run dry; [`Router::flush`] when its sockets have run dry: a burst leaves
//! in large batches, a lone message at once; and [`Router::tick`] at least as often as [`Router::due_in`] says.

mod together;

use std::{ops::Deref, time::Duration};

use crate::{
    clock::Clock,
    envelope::{Envelope, Inflater, Inflation, pinfeed, raw},
    error::Result,
    flight::FlightRecord,
    lane::{
        Dispatch, LineRoute, MoveOrder,
        dispatch::LOOK_AFTER,
        fields,
        join::Desk,
        line::Watch,
        merge::{Merge, Share},
        sorter::Sorter,
        tally::Tally,
        told::Told,
    },
    ledger::{LaneLedger, Rejection, Sample},
    message::{FRAMES_MAX, Origin},
    sequence::{TrackVerdict, Tracker},
    wait::IDLE_AFTER,
};

/// Where messages go, and where it is counted and noted what became of them.
struct Way {
    dispatch: Dispatch,
    tally: Tally,
    flight: FlightRecord,
}

impl Way {
    fn told(&mut self, origin: Origin, now_ns: u64) -> Told<'_> {
        Told::new(
            &mut self.dispatch,
            &mut self.tally,
            &self.flight,
            origin,
            now_ns,
        )
    }

    /// Heeds a heartbeat, if the message is one: what its publisher had sent before and has not come is missing.
    #[cold]
    #[inline(never)]
    fn heed<F: Deref<Target = [u8]>>(
        &mut self,
        tracker: &mut Tracker,
        envelope: &Envelope,
        origin: Origin,
        now_ns: u64,
        frames: &[F],
    ) -> Result<()> {
        let said = envelope.heartbeat_in(frames);
        let Some(reached) = said.and_then(|stamp| stamp.position()) else {
            return Ok(());
        };
        let mut told = self.told(origin, now_ns);
        tracker.note_reached(reached, &mut |event| told.tell(event));
        told.outcome
    }

    /// Takes this lane's turn among those that share a merge.
    #[inline(always)]
    fn merge<T>(
        &mut self,
        share: &Share,
        clock: &Clock,
        take: impl FnOnce(&mut Merge, &mut Tally, &FlightRecord) -> Result<T>,
    ) -> Result<T> {
        let Self {
            dispatch,
            tally,
            flight,
        } = self;
        // What one lane has received another may hand over; and what is ready for workers must not
        // wait where this one waits for its turn, or for a worker.
        tally.settle();
        dispatch.offer(tally)?;
        let mut merge = share.lock_for(tally, clock);
        take(&mut merge, tally, flight)
    }

    fn desk<'a>(
        &'a mut self,
        envelope: &'a Envelope,
        origin: Origin,
        bytes_max: usize,
        now_ns: u64,
    ) -> Desk<'a> {
        Desk {
            dispatch: &mut self.dispatch,
            tally: &mut self.tally,
            flight: &self.flight,
            envelope,
            origin,
            bytes_max,
            now_ns,
        }
    }
}

/// The way from a lane's engine to the workers.
pub(crate) struct Router {
    way: Way,
    /// By the line's place among those of the lane.
    lines: Vec<LineRoute>,
    message_bytes_max: usize,
    /// Where messages are compressed: made for the first of them.
    inflater: Option<Box<Inflater>>,
    /// Where runs are sorted by worker.
    sorter: Box<Sorter>,
    clock: Clock,
}

impl Router {
    pub(crate) fn new(
        dispatch: Dispatch,
        tally: Tally,
        lines: Vec<LineRoute>,
        message_bytes_max: usize,
        flight: FlightRecord,
        clock: Clock,
    ) -> Self {
        Self {
            way: Way {
                dispatch,
                tally,
                flight,
            },
            lines,
            message_bytes_max,
            inflater: None,
            sorter: Box::new(Sorter::new()),
            clock,
        }
    }

    /// The lane's side of the ledger.
    pub(crate) fn counters(&self) -> &LaneLedger {
        self.way.tally.counters()
    }

    /// Takes a message of at least one frame that came by a line of the lane, received at `received_ns`
    /// by the pipeline's clock.
    ///
    /// Where the handoff to the message's worker is full, its topic's policy decides.
    ///
    /// # Errors
    /// [`Error::WorkerGone`](crate::Error::WorkerGone).
    #[inline]
    pub(crate) fn route<F: Deref<Target = [u8]>>(
        &mut self,
        line: usize,
        received_ns: u64,
        frames: &[F],
    ) -> Result<()> {
        let bytes = frames.iter().map(|frame| frame.len()).sum();
        self.way.tally.note_received(received_ns, 1, bytes);
        match self.lines[line].envelope.inflation() {
            Some(inflation) => self.pass_compressed(line, inflation, received_ns, frames),
            None => self.pass(line, received_ns, std::iter::once(frames)),
        }
    }

    /// As [`route`](Self::route), for messages of `N` short frames each. They are copied worker by worker: in order
    /// for each of them, and no worker knows of the order between two.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    #[inline]
    pub(crate) fn route_run<const N: usize>(
        &mut self,
        line: usize,
        received_ns: u64,
        messages: &[[&[u8]; N]],
    ) -> Result<()> {
        let bytes = messages.iter().flatten().map(|frame| frame.len()).sum();
        self.way
            .tally
            .note_received(received_ns, messages.len() as u64, bytes);
        if let Some(inflation) = self.lines[line].envelope.inflation() {
            return messages
                .iter()
                .try_for_each(|frames| self.pass_compressed(line, inflation, received_ns, frames));
        }
        let passed = match self.lines[line].envelope {
            Envelope::Pinfeed => self.pass_together(line, received_ns, messages, |frames| {
                pinfeed::open(frames[0])
            })?,
            Envelope::Raw => {
                self.pass_together(line, received_ns, messages, |frames| Ok(raw(frames)))?
            }
            // Each would be opened more than once, which costs more than it saves.
            Envelope::Delimited(_) | Envelope::Layout(_) => 0,
        };
        let rest = &messages[passed..];
        if rest.is_empty() {
            return Ok(());
        }
        self.pass(line, received_ns, rest.iter().map(|frames| &frames[..]))
    }

    /// As [`pass`](Self::pass), with what a frame inflates to in its place. The ledger counts the bytes
    /// that were received.
    #[inline(never)]
    fn pass_compressed<F: Deref<Target = [u8]>>(
        &mut self,
        line: usize,
        inflation: Inflation,
        received_ns: u64,
        frames: &[F],
    ) -> Result<()> {
        let mut inflater = self.inflater.take().unwrap_or_default();
        let mut inflated = [&[][..]; FRAMES_MAX];
        let opened = fields::check_size(self.message_bytes_max, frames).and_then(|()| {
            let frame = frames.get(inflation.frame).ok_or(Rejection::MissingFrame)?;
            for (inflated, frame) in inflated.iter_mut().zip(frames) {
                *inflated = frame;
            }
            inflated[inflation.frame] = inflater.inflate(frame, inflation.bytes_max)?;
            Ok(())
        });
        let passed = match opened {
            Ok(()) => {
                let inflated = &inflated[..frames.len()];
                self.pass(line, received_ns, std::iter::once(inflated))
            }
            Err(reason) => {
                let origin = self.lines[line].origin;
                self.way.tally.reject(origin, received_ns, reason, frames);
                Ok(())
            }
        };
        self.inflater = Some(inflater);
        passed
    }

    /// Passes messages of a line on, or rejects them. Who looks at their numbers is asked once for all.
    #[inline(always)]
    fn pass<'a, F: Deref<Target = [u8]> + 'a>(
        &mut self,
        line: usize,
        received_ns: u64,
        messages: impl Iterator<Item = &'a [F]>,
    ) -> Result<()> {
        let Self { way, clock, .. } = self;
        let LineRoute {
            origin,
            envelope,
            watch,
            ..
        } = &mut self.lines[line];
        let (origin, bytes_max) = (*origin, self.message_bytes_max);
        match watch {
            Watch::Nothing => {
                let Way {
                    dispatch, tally, ..
                } = way;
                for frames in messages {
                    match fields::find(envelope, bytes_max, frames) {
                        Ok((fields, hash)) => {
                            dispatch.put(tally, origin, received_ns, hash, &fields, frames)?;
                        }
                        Err(reason) => tally.reject(origin, received_ns, reason, frames),
                    }
                }
            }
            Watch::Tracked(tracker) => {
                tracker.hear(way.tally.heard(received_ns));
                for frames in messages {
                    let (fields, hash) = match fields::find(envelope, bytes_max, frames) {
                        Ok(addressed) => addressed,
                        Err(reason) => {
                            way.tally.reject(origin, received_ns, reason, frames);
                            continue;
                        }
                    };
                    let position = fields.stamp.position();
                    if !tracker.follow(hash, position) {
                        if position.is_none() {
                            way.heed(tracker, envelope, origin, received_ns, frames)?;
                        }
                        let topic = fields.topic.of(frames);
                        let told = way.told(origin, received_ns);
                        match told.judge(tracker, topic, hash, position)? {
                            TrackVerdict::Deliver => {}
                            TrackVerdict::Duplicate => {
                                way.tally.note_duplicates(received_ns, 1);
                                continue;
                            }
                        }
                    }
                    way.dispatch
                        .put(&mut way.tally, origin, received_ns, hash, &fields, frames)?;
                }
            }
            Watch::Merged(share) => {
                let messages =
                    messages.map(|frames| (fields::find(envelope, bytes_max, frames), frames));
                way.merge(share, clock, |merge, tally, flight| {
                    merge.take_each(tally, flight, origin, received_ns, messages)
                })?;
            }
            Watch::Joined(join) => {
                join.tracker().hear(way.tally.heard(received_ns));
                let mut desk = way.desk(envelope, origin, bytes_max, received_ns);
                for frames in messages {
                    join.take(&mut desk, received_ns, frames)?;
                }
            }
        }
        Ok(())
    }

    /// Takes note of a message that was thrown away as it came.
    pub(crate) fn reject(&mut self, line: usize, received_ns: u64, bytes: u64, reason: Rejection) {
        let origin = self.lines[line].origin;
        self.way.tally.note_received(received_ns, 1, bytes as usize);
        self.way.tally.note_rejected(received_ns, reason);
        self.way
            .tally
            .sample(reason, || Sample::unseen(origin, reason, bytes));
    }

    /// Takes note of which connection of a line what comes next came by: its number, higher than those of the line's
    /// connections before it. That may be what [`note_connection`](Self::note_connection) gave, or an engine's own.
    #[inline]
    pub(crate) fn set_connection(&mut self, line: usize, connection: u32) {
        let line = &mut self.lines[line];
        if line.connection == connection {
            return;
        }
        line.connection = connection;
        match &mut line.watch {
            Watch::Nothing => {}
            Watch::Tracked(tracker) => tracker.set_connection(connection),
            Watch::Joined(join) => join.tracker().set_connection(connection),
            Watch::Merged(share) => {
                let mut merge = share.lock_for(&self.way.tally, &self.clock);
                merge.set_connection(line.origin.line, connection);
            }
        }
    }

    /// Takes note that a connection of a line was made, or ended. Returns how many were made so far, which is the
    /// number of the one made; what comes next by the line came by that one, unless
    /// [`set_connection`](Self::set_connection) says otherwise.
    #[cold]
    pub(crate) fn note_connection(&mut self, line: usize, made: bool) -> u32 {
        let now_ns = self.clock.now_ns();
        let heard_ns = self.way.tally.heard(now_ns);
        let line = &mut self.lines[line];
        if made {
            line.made = line.made.saturating_add(1);
            line.connection = line.made;
        }
        match &mut line.watch {
            Watch::Nothing => {}
            Watch::Tracked(tracker) => {
                let mut told = self.way.told(line.origin, now_ns);
                // A worker that is gone is met again by the next message.
                tracker.connected(made, heard_ns, &mut |event| told.tell(event));
            }
            Watch::Joined(join) => {
                let mut desk =
                    self.way
                        .desk(&line.envelope, line.origin, self.message_bytes_max, now_ns);
                join.note_connection(made, heard_ns, &mut desk);
            }
            Watch::Merged(share) => share
                .lock_for(&self.way.tally, &self.clock)
                .note_connection(
                    &mut self.way.tally,
                    &self.way.flight,
                    line.origin.line,
                    made,
                    now_ns,
                ),
        }
        line.made
    }

    /// Moves a shard to a worker, for everything that comes by the lane.
    #[cold]
    pub(crate) fn move_shard(&mut self, order: MoveOrder) {
        self.way.dispatch.move_shard(order.shard, order.worker);
        for line in &self.lines {
            if let Watch::Merged(share) = &line.watch {
                share
                    .lock_for(&self.way.tally, &self.clock)
                    .move_shard(order);
            }
        }
    }

    /// Tells whether a shard is being moved, but for those of feeds whose lines are merged: then
    /// [`tick`](Self::tick) is due all the time.
    #[inline]
    pub(crate) fn is_moving(&self) -> bool {
        self.way.dispatch.is_moving()
    }

    /// Does what is due by now: to be called at least every [`due_in`](Self::due_in).
    ///
    /// # Errors
    /// As [`route`](Self::route).
    pub(crate) fn tick(&mut self) -> Result<()> {
        let now_ns = self.clock.now_ns();
        let heard_ns = self.way.tally.heard(now_ns);
        let (mut first_seen, mut untracked) = (0, 0);
        for line in &mut self.lines {
            match &mut line.watch {
                Watch::Nothing => {}
                Watch::Tracked(tracker) => {
                    let mut told = self.way.told(line.origin, now_ns);
                    tracker.tick(heard_ns, &mut |event| told.tell(event));
                    told.outcome?;
                    first_seen += tracker.counts().first_seen;
                    untracked += tracker.counts().untracked;
                }
                Watch::Merged(share) => {
                    let mut merge = share.lock_for(&self.way.tally, &self.clock);
                    merge.tick(&mut self.way.tally, &self.way.flight, now_ns)?;
                }
                Watch::Joined(join) => {
                    let mut desk =
                        self.way
                            .desk(&line.envelope, line.origin, self.message_bytes_max, now_ns);
                    join.tick(&mut desk, heard_ns)?;
                    first_seen += join.tracker().counts().first_seen;
                    untracked += join.tracker().counts().untracked;
                }
            }
        }
        self.counters().first_seen.set(first_seen);
        self.counters().untracked.set(untracked);
        if self.way.dispatch.is_moving() {
            self.way.dispatch.go_on_moving(&mut self.way.tally)?;
        }
        Ok(())
    }

    /// Returns how long the lane may sleep before something is due, at most [`IDLE_AFTER`].
    pub(crate) fn due_in(&self) -> Duration {
        let now_ns = self.clock.now_ns();
        let limit = if self.way.dispatch.has_to_look() {
            LOOK_AFTER
        } else {
            IDLE_AFTER
        };
        let mut left_ns = limit.as_nanos() as u64;
        for line in &self.lines {
            let line_left_ns = match &line.watch {
                Watch::Nothing => None,
                Watch::Tracked(tracker) => tracker
                    .due_ns()
                    .map(|due_ns| due_ns.saturating_sub(self.way.tally.heard(now_ns))),
                Watch::Merged(share) => {
                    let due_ns = share.lock_for(&self.way.tally, &self.clock).due_ns();
                    Some(due_ns.saturating_sub(now_ns))
                }
                Watch::Joined(join) => join.due_in_ns(self.way.tally.heard(now_ns)),
            };
            left_ns = left_ns.min(line_left_ns.unwrap_or(u64::MAX));
        }
        Duration::from_nanos(left_ns)
    }

    /// Hands over what there is for workers that have nothing else to do: to be called from time to time.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    #[inline]
    pub(crate) fn offer(&mut self) -> Result<()> {
        // First what waits for no other lane.
        self.way.dispatch.offer(&mut self.way.tally)?;
        for line in &self.lines {
            if let Watch::Merged(share) = &line.watch {
                share
                    .lock_for(&self.way.tally, &self.clock)
                    .offer(&mut self.way.tally)?;
            }
        }
        Ok(())
    }

    /// Hands over all batches that hold messages, but for workers that are behind: to be called when there is nothing
    /// more to receive.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.way.dispatch.flush(&mut self.way.tally)?;
        for line in &self.lines {
            if let Watch::Merged(share) = &line.watch {
                share
                    .lock_for(&self.way.tally, &self.clock)
                    .flush(&mut self.way.tally)?;
            }
        }
        self.way.tally.settle();
        Ok(())
    }

    /// Wakes workers that batches were handed over to. To be called after each read.
    #[inline]
    pub(crate) fn announce(&mut self) {
        self.way.dispatch.announce();
    }

    /// Hands over everything, also what waits for messages that will not come any more.
    ///
    /// # Errors
    /// As [`route`](Self::route).
    pub(crate) fn end(&mut self) -> Result<()> {
        self.tick()?;
        // Also of the lines: what waits may have been received by this lane.
        self.way.tally.settle();
        for line in &mut self.lines {
            match &mut line.watch {
                Watch::Merged(share) => share.end(&mut self.way.tally, &self.way.flight)?,
                Watch::Joined(join) => join.end(&mut self.way.desk(
                    &line.envelope,
                    line.origin,
                    self.message_bytes_max,
                    self.clock.now_ns(),
                )),
                Watch::Nothing | Watch::Tracked(_) => {}
            }
        }
        self.way.dispatch.end(&mut self.way.tally)?;
        self.way.tally.settle();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
