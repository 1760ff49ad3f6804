//! Copies of what a handler was given, for watchers and a cache on threads of their own.

use std::thread;

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
/// Copies leave with their batch, before any other worker can have a newer message of a topic. Where the handler
/// panics they leave at once, and those who take copies learn that no more come from here.
#[derive(Debug)]
pub struct Tapped<H> {
    handler: H,
    copiers: Vec<Copier>,
    /// The wall clock in this batch, once it was read: when all its copies passed.
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

    /// Calls into the handler.
    #[inline]
    fn call(&mut self, call: impl FnOnce(&mut H)) {
        let _copiers = GoneAtPanic(&mut self.copiers);
        call(&mut self.handler);
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

/// What copies, and is gone once the handler has panicked: it is not called any more, so nothing else would send
/// off what was copied before.
struct GoneAtPanic<'a>(&'a mut Vec<Copier>);

impl Drop for GoneAtPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.clear();
        }
    }
}

impl<H: Handler> Handler for Tapped<H> {
    #[inline]
    fn on_message(&mut self, message: &Message<'_>) {
        self.call(|handler| handler.on_message(message));
        self.copy(message);
    }

    fn on_receipt(&mut self, receipt: &Receipt, message: &Message<'_>) {
        self.call(|handler| handler.on_receipt(receipt, message));
    }

    fn on_batch_end(&mut self, batch: &Batch) {
        self.flush();
        self.call(|handler| handler.on_batch_end(batch));
    }

    fn on_notice(&mut self, notice: &Notice<'_>) {
        self.call(|handler| handler.on_notice(notice));
    }

    fn on_gap(&mut self, notice: &Notice<'_>, gap: &Gap) {
        self.call(|handler| handler.on_gap(notice, gap));
    }

    fn on_quality(&mut self, notice: &Notice<'_>, from: Quality, to: Quality) {
        self.call(|handler| handler.on_quality(notice, from, to));
    }

    fn on_snapshot(&mut self, notice: &Notice<'_>, mark: SnapshotMark) {
        self.call(|handler| handler.on_snapshot(notice, mark));
    }

    fn on_idle(&mut self) {
        self.flush();
        self.call(H::on_idle);
    }

    fn on_stop(&mut self) {
        // Nothing comes any more: who waits for the last copies learns that there are no more.
        self.copiers.clear();
        self.handler.on_stop();
    }
}
