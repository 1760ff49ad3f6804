//! A feed that has a past: on start, after messages were missing and after each reconnect its lane takes a
//! snapshot, and hands over what is received meanwhile behind it, so that nothing is missing between the
//! two, and nothing comes twice.
//!
//! While a snapshot is under way, messages are held. When all of it has come, those that it holds already
//! are counted as duplicates, and the others follow. Where the feed's numbers count all of its updates, the
//! snapshot's own number decides that; where they count each topic's, the number of the topic's value.
//!
//! What is held is bounded: where there is no more room all of it is dropped, and counted, and a newer snapshot
//! is asked for, which holds what was lost.

use std::{collections::VecDeque, ops::Deref, time::Duration};

use crate::{
    envelope::Envelope,
    error::Result,
    flight::{AnomalyKind, FlightRecord, Hop, Sighting},
    lane::{Dispatch, line::Told, router::address, tally::Tally},
    message::Origin,
    patterns::snapshot::{Piece, Snapshots},
    sequence::{Event, EventKind, Position, Scope, SnapshotMark, TrackVerdict, Tracker},
};

/// How often the lane looks whether more of a snapshot has come.
const LOOK_AFTER: Duration = Duration::from_millis(2);
/// Values handed over at once, before the lane looks at its sockets again.
const VALUES_PER_LOOK: usize = 4_096;

/// What a join works with, of the line's router.
pub(super) struct Desk<'a> {
    pub dispatch: &'a mut Dispatch,
    pub tally: &'a mut Tally,
    pub flight: &'a FlightRecord,
    pub envelope: &'a Envelope,
    pub origin: Origin,
    pub bytes_max: usize,
    /// The time, in nanoseconds of the pipeline's clock.
    pub now_ns: u64,
}

/// A message that waits for a snapshot.
struct Held {
    received_ns: u64,
    frames: Vec<Box<[u8]>>,
}

/// A line that takes snapshots.
pub(crate) struct Join {
    tracker: Box<Tracker>,
    snapshots: Snapshots,
    /// What the feed's numbers count, where they are looked at.
    scope: Option<Scope>,
    held_bytes_max: usize,
    /// Whether messages are held.
    is_holding: bool,
    held: VecDeque<Held>,
    held_bytes: usize,
    /// How far the snapshot has to reach at least, where numbers count all updates.
    needs: u64,
    /// Values of the snapshot under way.
    values: u64,
}

impl Join {
    /// Starts by holding: the first connection asks for a snapshot.
    pub(crate) fn new(
        tracker: Tracker,
        scope: Option<Scope>,
        snapshots: Snapshots,
        held_bytes_max: usize,
    ) -> Self {
        Self {
            tracker: Box::new(tracker),
            snapshots,
            scope,
            held_bytes_max,
            is_holding: true,
            held: VecDeque::new(),
            held_bytes: 0,
            needs: 0,
            values: 0,
        }
    }

    pub(super) fn tracker(&mut self) -> &mut Tracker {
        &mut self.tracker
    }

    /// Does what is due by now.
    pub(super) fn tick(&mut self, desk: &mut Desk<'_>, heard_ns: u64) -> Result<()> {
        self.look(desk)?;
        let mut told = desk.told();
        self.tracker.tick(heard_ns, &mut |event| told.tell(event));
        told.outcome
    }

    /// Returns how long until something is due, in nanoseconds of the time by which silence is judged.
    pub(super) fn due_in_ns(&self, heard_ns: u64) -> Option<u64> {
        let tracker = self.tracker.due_ns();
        let tracker = tracker.map(|due_ns| due_ns.saturating_sub(heard_ns));
        let look = self.is_holding.then_some(LOOK_AFTER.as_nanos() as u64);
        tracker.into_iter().chain(look).min()
    }

    /// Asks for a snapshot that reaches this far, and holds what comes.
    fn hold(&mut self, needs: u64) {
        self.is_holding = true;
        self.needs = self.needs.max(needs);
        self.snapshots.ask();
    }

    /// Takes note of a connection made or lost.
    pub(super) fn note_connection(&mut self, made: bool, heard_ns: u64, told: &mut Told<'_>) {
        // A worker that is gone is met again by the next message.
        self.tracker
            .connected(made, heard_ns, &mut |event| told.tell(event));
        if made {
            // What a publisher before this one, or this one before it began anew, had got to says nothing.
            self.needs = 0;
            self.hold(0);
        }
    }

    /// Takes a message that was received, and counted as that.
    #[inline(never)]
    pub(super) fn take<F: Deref<Target = [u8]>>(
        &mut self,
        desk: &mut Desk<'_>,
        received_ns: u64,
        frames: &[F],
    ) -> Result<()> {
        if self.is_holding {
            let frames = frames.iter().map(|frame| (**frame).into()).collect();
            self.keep(
                desk,
                Held {
                    received_ns,
                    frames,
                },
            );
            return Ok(());
        }
        self.pass(desk, received_ns, frames)
    }

    fn keep(&mut self, desk: &mut Desk<'_>, held: Held) {
        self.held_bytes += held.bytes();
        self.held.push_back(held);
        if self.held_bytes <= self.held_bytes_max {
            return;
        }
        let dropped = self.held.len() as u64;
        let newest = self
            .held
            .iter()
            .filter_map(|held| self.number_of(desk, held));
        let needs = newest.max().unwrap_or(0);
        self.drop_held(desk, || {
            format!("{dropped} messages were held for a snapshot, more than there is room for")
        });
        self.hold(needs);
    }

    fn number_of(&self, desk: &Desk<'_>, held: &Held) -> Option<u64> {
        let (fields, _) = address(desk.envelope, desk.bytes_max, &held.frames).ok()?;
        let position = fields.stamp?.position()?;
        (self.scope == Some(Scope::Line)).then_some(position.sequence)
    }

    /// Passes a message on, unless it shows that others are missing: then it is the first to be held.
    fn pass<F: Deref<Target = [u8]>>(
        &mut self,
        desk: &mut Desk<'_>,
        received_ns: u64,
        frames: &[F],
    ) -> Result<()> {
        let (fields, hash) = match address(desk.envelope, desk.bytes_max, frames) {
            Ok(addressed) => addressed,
            Err(reason) => {
                desk.tally.reject(desk.origin, received_ns, reason, frames);
                return Ok(());
            }
        };
        let position = fields.stamp.and_then(|stamp| stamp.position());
        if !self.tracker.follow(hash, position) {
            let gaps = self.tracker.counts().gaps;
            let topic = fields.topic.of(frames);
            let told = desk.told();
            if told.judge(&mut self.tracker, topic, hash, position)? == TrackVerdict::Duplicate {
                desk.tally.note_duplicate(received_ns);
                return Ok(());
            }
            if self.tracker.counts().gaps > gaps {
                let missing = position.map_or(0, |at| at.sequence.saturating_sub(1));
                let is_of_line = self.scope == Some(Scope::Line);
                self.hold(if is_of_line { missing } else { 0 });
                let frames = frames.iter().map(|frame| (**frame).into()).collect();
                self.keep(
                    desk,
                    Held {
                        received_ns,
                        frames,
                    },
                );
                return Ok(());
            }
        }
        desk.dispatch
            .put(desk.tally, desk.origin, received_ns, hash, &fields, frames)
    }

    /// Hands over what has come of a snapshot, and when it is complete what was held meanwhile.
    fn look(&mut self, desk: &mut Desk<'_>) -> Result<()> {
        for _ in 0..VALUES_PER_LOOK {
            if !self.is_holding {
                return Ok(());
            }
            match self.snapshots.take_piece() {
                None => return Ok(()),
                Some(Piece::Begins) => {
                    self.values = 0;
                    self.mark(desk, SnapshotMark::Begins)?;
                }
                Some(Piece::Value(frames)) => self.take_value(desk, &frames)?,
                Some(Piece::Complete { sequence }) => self.complete(desk, sequence)?,
                Some(Piece::Failed(reason)) => {
                    desk.note(AnomalyKind::Snapshot, 1, || reason);
                }
            }
        }
        Ok(())
    }

    fn take_value(&mut self, desk: &mut Desk<'_>, frames: &[Box<[u8]>]) -> Result<()> {
        let bytes = frames.iter().map(|frame| frame.len()).sum();
        desk.tally.note_received(desk.now_ns, 1, bytes);
        desk.tally.counters().from_snapshots.add(1);
        self.values += 1;
        let (fields, hash) = match address(desk.envelope, desk.bytes_max, frames) {
            Ok(addressed) => addressed,
            Err(reason) => {
                desk.tally.reject(desk.origin, desk.now_ns, reason, frames);
                return Ok(());
            }
        };
        let position = fields.stamp.and_then(|stamp| stamp.position());
        if let (Some(Scope::Topic), Some(position)) = (self.scope, position) {
            let topic = fields.topic.of(frames);
            let mut told = desk.told();
            let is_newer = self
                .tracker
                .rebase(Some((topic, hash)), position, &mut |event| told.tell(event));
            told.outcome?;
            if !is_newer {
                desk.tally.note_duplicate(desk.now_ns);
                return Ok(());
            }
        }
        let (origin, now_ns) = (desk.origin, desk.now_ns);
        desk.dispatch
            .put(desk.tally, origin, now_ns, hash, &fields, frames)
    }

    fn complete(&mut self, desk: &mut Desk<'_>, sequence: u64) -> Result<()> {
        if sequence < self.needs {
            // The server is behind the publisher. What has come is worth what it is; the next one reaches
            // further.
            self.snapshots.ask();
            return Ok(());
        }
        let messages = self.values;
        self.mark(desk, SnapshotMark::Ends { sequence, messages })?;
        desk.tally.counters().snapshots.add(1);
        self.is_holding = false;
        self.needs = 0;
        let mut told = desk.told();
        if self.scope == Some(Scope::Line) {
            let position = Position { epoch: 0, sequence };
            self.tracker
                .rebase(None, position, &mut |event| told.tell(event));
        }
        let heard_ns = told.tally.heard(told.now_ns);
        self.tracker
            .caught_up(heard_ns, &mut |event| told.tell(event));
        told.outcome?;
        while let Some(held) = self.held.pop_front() {
            self.held_bytes -= held.bytes();
            let number = self.number_of(desk, &held);
            if number.is_some_and(|number| number <= sequence) {
                desk.tally.note_duplicate(desk.now_ns);
                continue;
            }
            self.pass(desk, held.received_ns, &held.frames)?;
            if self.is_holding {
                // It shows that others are missing, and comes before the rest again.
                if !self.held.is_empty() {
                    self.held.rotate_right(1);
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// Gives up what is held: there will be no snapshot any more.
    pub(super) fn end(&mut self, desk: &mut Desk<'_>) {
        let dropped = self.held.len();
        if dropped > 0 {
            self.drop_held(desk, || {
                format!("{dropped} messages were held for a snapshot that did not come in time")
            });
        }
    }

    fn drop_held(&mut self, desk: &mut Desk<'_>, why: impl FnOnce() -> String) {
        let dropped = self.held.len() as u64;
        for _ in self.held.drain(..) {
            desk.tally.note_dropped(desk.now_ns);
        }
        self.held_bytes = 0;
        desk.note(AnomalyKind::Drop, dropped, why);
    }

    fn mark(&self, desk: &mut Desk<'_>, mark: SnapshotMark) -> Result<()> {
        let mut told = desk.told();
        told.tell(Event {
            topic: None,
            hash: 0,
            kind: EventKind::Snapshot(mark),
        });
        told.outcome
    }
}

impl Held {
    /// What it takes, in bytes, with what is kept beside its frames.
    fn bytes(&self) -> usize {
        let frames: usize = self.frames.iter().map(|frame| frame.len()).sum();
        size_of::<Self>() + self.frames.len() * size_of::<Box<[u8]>>() + frames
    }
}

impl Desk<'_> {
    fn told(&mut self) -> Told<'_> {
        Told {
            dispatch: self.dispatch,
            tally: self.tally,
            flight: self.flight,
            origin: self.origin,
            now_ns: self.now_ns,
            outcome: Ok(()),
        }
    }

    fn note(&self, kind: AnomalyKind, count: u64, evidence: impl FnOnce() -> String) {
        let sighting = Sighting {
            at_ns: self.now_ns,
            kind,
            hop: Hop::Network,
            feed: Some(self.origin.feed),
            topic: None,
            count,
        };
        self.flight.note(sighting, evidence);
    }
}
