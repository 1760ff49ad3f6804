//! A feed that has a past: on start, after messages were missing and after each reconnect its lane takes a
//! snapshot, and hands over what is received meanwhile behind it, so that nothing is missing between the
//! two, and nothing comes twice.
//!
//! While a snapshot is under way, messages are held. When all of it has come, those that it holds already
//! are counted as duplicates, and the others follow. Where the feed's numbers count all of its updates, the
//! snapshot's own number decides that; where they count each topic's, the number of the topic's value.
//! Heartbeats wait for no snapshot. Where numbers count all updates, they say how far one has to reach.
//!
//! What is held is bounded: where there is no more room all of it is dropped, and counted, and a newer snapshot
//! is asked for, which holds what was lost.

use std::{collections::VecDeque, ops::Deref, time::Duration};

use crate::{
    envelope::Envelope,
    error::Result,
    flight::{AnomalyKind, FlightRecord, Hop, Sighting},
    lane::{Dispatch, Reach, fields, tally::Tally, told::Told},
    message::{NO_TIMESTAMP, Origin},
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
    /// The number of the connection that it came by.
    connection: u32,
    /// How many connections there had been when it came.
    connections: u32,
    frames: Vec<Box<[u8]>>,
}

/// A line that takes snapshots.
pub(crate) struct Join {
    tracker: Box<Tracker>,
    snapshots: Snapshots,
    /// Whether a whole snapshot has ever come.
    reach: Reach,
    /// What the feed's numbers count, where they are looked at.
    scope: Option<Scope>,
    held_bytes_max: usize,
    /// Connections made so far.
    connections: u32,
    /// The newest one that has brought anything.
    newest: u32,
    /// Whether messages are held.
    is_holding: bool,
    held: VecDeque<Held>,
    held_bytes: usize,
    /// How far the snapshot has to reach at least, where numbers count all updates.
    needs: u64,
    /// Whether the snapshot under way was asked for too early: what came after it was given up.
    is_outdated: bool,
    /// Values of the snapshot under way.
    values: u64,
}

impl Join {
    /// Starts by holding: the first connection asks for a snapshot.
    pub(crate) fn new(
        tracker: Tracker,
        scope: Option<Scope>,
        snapshots: Snapshots,
        reach: Reach,
        held_bytes_max: usize,
    ) -> Self {
        Self {
            tracker: Box::new(tracker),
            snapshots,
            reach,
            scope,
            held_bytes_max,
            connections: 0,
            newest: 0,
            is_holding: true,
            held: VecDeque::new(),
            held_bytes: 0,
            needs: 0,
            is_outdated: false,
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

    /// Tells whether numbers count all updates of the feed.
    fn is_of_line(&self) -> bool {
        self.scope == Some(Scope::Line)
    }

    /// Asks for a snapshot that reaches this far, and holds what comes.
    fn hold(&mut self, needs: u64) {
        self.is_holding = true;
        self.is_outdated = false;
        self.needs = self.needs.max(needs);
        self.reach.asked();
        self.snapshots.ask();
    }

    /// Takes note of a connection made or lost.
    pub(super) fn note_connection(&mut self, made: bool, heard_ns: u64, desk: &mut Desk<'_>) {
        let mut told = desk.told();
        // A worker that is gone is met again by the next message.
        self.tracker
            .connected(made, heard_ns, &mut |event| told.tell(event));
        if !made {
            return;
        }
        self.connections = self.connections.saturating_add(1);
        self.needs = 0;
        self.hold(0);
    }

    /// Takes a message that was received, and counted as that.
    #[inline(never)]
    pub(super) fn take<F: Deref<Target = [u8]>>(
        &mut self,
        desk: &mut Desk<'_>,
        received_ns: u64,
        frames: &[F],
    ) -> Result<()> {
        let connection = self.tracker.connection();
        if connection > self.newest {
            self.newest = connection;
            // What was published before may have been so in a life that is over.
            self.needs = 0;
        }
        if let Some(said) = desk.envelope.heartbeat_in(frames) {
            if let Some(reached) = said.position().filter(|_| self.is_of_line()) {
                self.heed(desk, reached)?;
            }
            // It is no part of what a snapshot brings, and waits for none.
            return self.pass(desk, received_ns, frames).map(drop);
        }
        if self.is_holding || !self.pass(desk, received_ns, frames)? {
            self.keep(
                desk,
                Held::new(received_ns, connection, self.connections, frames),
            );
        }
        Ok(())
    }

    /// Heeds how far the publisher has got, as a heartbeat says: where that has not come, it is missing.
    fn heed(&mut self, desk: &mut Desk<'_>, reached: Position) -> Result<()> {
        if self.tracker.connection() < self.newest {
            // It may be of a life that is over.
            return Ok(());
        }
        if self.is_holding {
            self.needs = self.needs.max(reached.sequence);
            return Ok(());
        }
        let mut told = desk.told();
        let is_missing = self
            .tracker
            .note_reached(reached, &mut |event| told.tell(event));
        told.outcome?;
        if is_missing {
            self.hold(reached.sequence);
        }
        Ok(())
    }

    fn keep(&mut self, desk: &mut Desk<'_>, held: Held) {
        self.held_bytes += held.bytes();
        self.held.push_back(held);
        if self.held_bytes <= self.held_bytes_max {
            return;
        }
        let dropped = self.held.len();
        // What the snapshot under way has not, the next one has. That is asked for when this one has come, or
        // none would ever be.
        self.is_outdated = true;
        self.drop_held(desk, || {
            format!(
                "{dropped} messages were held for a snapshot, more than there is room for; raise held_bytes_max"
            )
        });
    }

    fn number_of(&self, desk: &Desk<'_>, held: &Held) -> Option<u64> {
        let (fields, _) = fields::find(desk.envelope, desk.bytes_max, &held.frames).ok()?;
        let position = fields.stamp.position()?;
        self.is_of_line().then_some(position.sequence)
    }

    /// Passes a message on. Returns whether it did: not where it shows that updates are missing before it.
    fn pass<F: Deref<Target = [u8]>>(
        &mut self,
        desk: &mut Desk<'_>,
        received_ns: u64,
        frames: &[F],
    ) -> Result<bool> {
        let (fields, hash) = match fields::find(desk.envelope, desk.bytes_max, frames) {
            Ok(addressed) => addressed,
            Err(reason) => {
                desk.tally.reject(desk.origin, received_ns, reason, frames);
                return Ok(true);
            }
        };
        let position = fields.stamp.position();
        if !self.tracker.follow(hash, position) {
            let gaps = self.tracker.counts().gaps;
            let topic = fields.topic.of(frames);
            let told = desk.told();
            if told.judge(&mut self.tracker, topic, hash, position)? == TrackVerdict::Duplicate {
                desk.tally.note_duplicates(received_ns, 1);
                return Ok(true);
            }
            if self.tracker.counts().gaps > gaps {
                let missing = position.map_or(0, |at| at.sequence.saturating_sub(1));
                self.hold(if self.is_of_line() { missing } else { 0 });
                // Where each topic has numbers of its own it is the newest of its topic all the same.
                if self.is_of_line() {
                    return Ok(false);
                }
            }
        }
        let origin = desk.origin;
        desk.dispatch
            .put(desk.tally, origin, received_ns, hash, &fields, frames)?;
        Ok(true)
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
                    let is_whole = self.scope != Some(Scope::Topic);
                    self.mark(desk, SnapshotMark::Begins { is_whole })?;
                }
                Some(Piece::Value(frames)) => self.take_value(desk, &frames)?,
                Some(Piece::Complete { sequence }) => self.complete(desk, sequence)?,
                Some(Piece::Failed(reason)) => {
                    self.reach.failed(Some(reason.clone()));
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
        let (mut fields, hash) = match fields::find(desk.envelope, desk.bytes_max, frames) {
            Ok(addressed) => addressed,
            Err(reason) => {
                desk.tally.reject(desk.origin, desk.now_ns, reason, frames);
                return Ok(());
            }
        };
        let position = fields.stamp.position();
        // How old a value is says nothing of how late it comes.
        fields.stamp.timestamp_ns = NO_TIMESTAMP;
        if let (Some(Scope::Topic), Some(position)) = (self.scope, position) {
            let topic = fields.topic.of(frames);
            let mut told = desk.told();
            let is_newer = self
                .tracker
                .rebase(Some((topic, hash)), position, &mut |event| told.tell(event));
            told.outcome?;
            if !is_newer {
                desk.tally.note_duplicates(desk.now_ns, 1);
                return Ok(());
            }
        }
        let (origin, now_ns) = (desk.origin, desk.now_ns);
        desk.dispatch
            .put(desk.tally, origin, now_ns, hash, &fields, frames)
    }

    fn complete(&mut self, desk: &mut Desk<'_>, sequence: u64) -> Result<()> {
        let needs = self.needs;
        if sequence < needs || self.is_outdated {
            let reason = if self.is_outdated {
                "there was no room for what came meanwhile; raise held_bytes_max".to_owned()
            } else {
                format!("it ends at number {sequence}, and {needs} was published before")
            };
            self.reach.failed(Some(reason.clone()));
            desk.note(AnomalyKind::Snapshot, 1, || reason);
            // What has come is worth what it is; the next one reaches further.
            self.is_outdated = false;
            self.snapshots.ask_later();
            return Ok(());
        }
        let messages = self.values;
        self.mark(desk, SnapshotMark::Ends { sequence, messages })?;
        desk.tally.counters().snapshots.add(1);
        self.reach.reached();
        self.is_holding = false;
        self.needs = 0;
        let mut told = desk.told();
        if self.is_of_line() {
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
            match number {
                Some(number) if number <= sequence => {
                    desk.tally.note_duplicates(desk.now_ns, 1);
                    continue;
                }
                // It came before the connection that the snapshot was taken for, and is not in it: the publisher
                // has begun anew.
                Some(_) if held.connections < self.connections => {
                    desk.tally.note_dropped(desk.now_ns);
                    desk.note(AnomalyKind::Drop, 1, || {
                        "it was held, and its publisher began anew meanwhile".to_owned()
                    });
                    continue;
                }
                _ => {}
            }
            let connection = self.tracker.connection();
            self.tracker.set_connection(held.connection);
            let passed = self.pass(desk, held.received_ns, &held.frames);
            self.tracker.set_connection(connection);
            if !passed? {
                self.held_bytes += held.bytes();
                self.held.push_front(held);
            }
            if self.is_holding {
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
    fn new<F: Deref<Target = [u8]>>(
        received_ns: u64,
        connection: u32,
        connections: u32,
        frames: &[F],
    ) -> Self {
        let frames = frames.iter().map(|frame| (**frame).into()).collect();
        Self {
            received_ns,
            connection,
            connections,
            frames,
        }
    }

    /// What it takes, in bytes, with what is kept beside its frames.
    fn bytes(&self) -> usize {
        let frames: usize = self.frames.iter().map(|frame| frame.len()).sum();
        size_of::<Self>() + self.frames.len() * size_of::<Box<[u8]>>() + frames
    }
}

impl Desk<'_> {
    fn told(&mut self) -> Told<'_> {
        Told::new(
            self.dispatch,
            self.tally,
            self.flight,
            self.origin,
            self.now_ns,
        )
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
