//! What numbers and silence tell, told on: to the ledger, to workers, to the flight record.

use crate::{
    error::Result,
    flight::{AnomalyKind, FlightRecord, Hop, Sighting},
    lane::{Dispatch, tally::Tally},
    message::{Notice, Origin},
    sequence::{Event, EventKind, Position, Quality, TrackVerdict, Tracker},
};

/// Where events are told: to the ledger, to workers, to the flight record.
pub(super) struct Told<'a> {
    pub dispatch: &'a mut Dispatch,
    pub tally: &'a mut Tally,
    pub flight: &'a FlightRecord,
    pub origin: Origin,
    /// When it was noticed, in nanoseconds of the pipeline's clock.
    pub now_ns: u64,
    /// The first failure to tell a worker.
    pub outcome: Result<()>,
}

impl<'a> Told<'a> {
    #[inline]
    pub(super) fn new(
        dispatch: &'a mut Dispatch,
        tally: &'a mut Tally,
        flight: &'a FlightRecord,
        origin: Origin,
        now_ns: u64,
    ) -> Self {
        Self {
            dispatch,
            tally,
            flight,
            origin,
            now_ns,
            outcome: Ok(()),
        }
    }

    /// Has a message judged that a tracker did not expect.
    ///
    /// # Errors
    /// What telling gives.
    #[cold]
    #[inline(never)]
    pub(super) fn judge(
        mut self,
        tracker: &mut Tracker,
        topic: &[u8],
        hash: u64,
        position: Option<Position>,
    ) -> Result<TrackVerdict> {
        let verdict = tracker.judge(topic, hash, position, &mut |event| self.tell(event));
        self.outcome.map(|()| verdict)
    }

    #[cold]
    pub(super) fn tell(&mut self, event: Event<'_>) {
        self.tally.note_event(event.kind);
        self.record(&event);
        let notice = Notice {
            origin: self.origin,
            topic: event.topic,
            noticed_ns: self.now_ns,
            kind: event.kind,
        };
        if self.outcome.is_ok() {
            self.outcome = self.dispatch.tell(self.tally, event.hash, &notice);
        }
    }

    fn record(&self, event: &Event<'_>) {
        let (kind, hop, count) = match event.kind {
            EventKind::Gap(gap) => (AnomalyKind::Gap, Hop::Network, gap.count),
            EventKind::Duplicate(_) => (AnomalyKind::Duplicate, Hop::Network, 1),
            EventKind::Reordered(_) => (AnomalyKind::Reorder, Hop::Network, 1),
            EventKind::Restarted { .. } => (AnomalyKind::Restart, Hop::Publisher, 1),
            EventKind::Quality { to, .. } => match to {
                Quality::Stale => (AnomalyKind::Stale, Hop::Network, 1),
                Quality::Disconnected => (AnomalyKind::Reconnect, Hop::Network, 1),
                Quality::Gapped | Quality::Recovering | Quality::Ok => return,
            },
            EventKind::FirstSeen => (AnomalyKind::FirstSeen, Hop::Publisher, 1),
            EventKind::Snapshot(_) => return,
        };
        let sighting = Sighting {
            at_ns: self.now_ns,
            kind,
            hop,
            feed: Some(self.origin.feed),
            topic: event.topic,
            count,
        };
        let line = self.origin.line;
        if event.kind == EventKind::FirstSeen {
            let evidence = || format!("its first message came by line {line}");
            return self.flight.note_news(sighting, evidence);
        }
        self.flight.note(sighting, || match event.kind {
            EventKind::Gap(gap) => format!(
                "numbers {} to {} were missing when they were received, before any queue of ours",
                gap.from, gap.to
            ),
            EventKind::Duplicate(at) => {
                format!("number {} came again by line {line}", at.sequence)
            }
            EventKind::Reordered(at) => {
                format!(
                    "number {} came by line {line} after later ones",
                    at.sequence
                )
            }
            EventKind::Restarted { from, to } => format!(
                "epoch {}, number {} followed epoch {}, number {}",
                to.epoch, to.sequence, from.epoch, from.sequence
            ),
            EventKind::Quality {
                to: Quality::Stale, ..
            } => format!("nothing came over line {line} although the lane was listening"),
            _ => format!("line {line} has no connection"),
        });
    }
}
