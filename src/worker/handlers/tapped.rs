//! Copies of what a handler was given, for watchers and a cache on threads of their own.

use std::mem;

use crate::{
    clock::wall_ns,
    handoff::Batch,
    message::{FRAMES_MAX, Message, Notice},
    patterns::copies::{Copier, Kind, Passed},
    receipt::Receipt,
    sequence::{Gap, Quality, SnapshotMark},
    worker::Handler,
};

/// Frames of most messages, at most.
const FEW_FRAMES: usize = 4;

/// A handler whose messages are copied, each when the handler is done with it: what was copied was delivered.
///
/// Copies leave with their batch, before any other worker can have a newer message of a topic.
#[derive(Debug)]
pub struct Tapped<H> {
    handler: H,
    copiers: Vec<Copier>,
    /// The wall clock in this batch, once it was read.
    batch_wall_ns: Option<u64>,
}

impl<H> Tapped<H> {
    /// Copies for all of these, one after the other.
    #[must_use]
    pub fn new(handler: H, copiers: Vec<Copier>) -> Self {
        Self {
            handler,
            copiers,
            batch_wall_ns: None,
        }
    }

    /// Returns the handler. What copied for it is gone.
    #[must_use]
    pub fn into_handler(self) -> H {
        self.handler
    }

    fn copy(&mut self, message: &Message<'_>) {
        let first = message.frames().next().unwrap_or_default();
        if !self.copiers.iter().any(|copier| copier.wants(first)) {
            return;
        }
        let (mut few, mut many);
        // To clear room for the most frames takes longer than to copy a small message.
        let room: &mut [&[u8]] = if message.frames().len() <= FEW_FRAMES {
            few = [&[][..]; FEW_FRAMES];
            &mut few
        } else {
            many = [&[][..]; FRAMES_MAX];
            &mut many
        };
        let mut count = 0;
        for (place, frame) in room.iter_mut().zip(message.frames()) {
            *place = frame;
            count += 1;
        }
        let frames = &room[..count];
        let topic = message.topic();
        // Subscriptions match on the first frame's start: the topic is there, or is none for them.
        let is_in_front = first.as_ptr() == topic.as_ptr() && first.len() >= topic.len();
        let copy = Passed {
            at_ns: *self.batch_wall_ns.get_or_insert_with(wall_ns),
            kind: Kind::Message,
            topic_bytes: is_in_front.then_some(topic.len()),
            frames,
        };
        for copier in &mut self.copiers {
            copier.copy(&copy);
        }
    }

    fn flush(&mut self) {
        self.batch_wall_ns = None;
        self.copiers.iter_mut().for_each(Copier::flush);
    }
}

impl<H: Handler> Handler for Tapped<H> {
    #[inline]
    fn on_message(&mut self, message: &Message<'_>) {
        self.handler.on_message(message);
        self.copy(message);
    }

    fn on_receipt(&mut self, receipt: &Receipt, message: &Message<'_>) {
        self.handler.on_receipt(receipt, message);
    }

    fn on_batch_end(&mut self, batch: &Batch) {
        self.flush();
        self.handler.on_batch_end(batch);
    }

    fn on_notice(&mut self, notice: &Notice<'_>) {
        self.handler.on_notice(notice);
    }

    fn on_gap(&mut self, notice: &Notice<'_>, gap: &Gap) {
        self.handler.on_gap(notice, gap);
    }

    fn on_quality(&mut self, notice: &Notice<'_>, from: Quality, to: Quality) {
        self.handler.on_quality(notice, from, to);
    }

    fn on_snapshot(&mut self, notice: &Notice<'_>, mark: SnapshotMark) {
        self.handler.on_snapshot(notice, mark);
    }

    fn on_idle(&mut self) {
        self.flush();
        self.handler.on_idle();
    }

    fn on_stop(&mut self) {
        // Nothing comes any more: who waits for the last copies learns that there are no more.
        drop(mem::take(&mut self.copiers));
        self.handler.on_stop();
    }
}
