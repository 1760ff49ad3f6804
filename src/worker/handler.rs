//! The user's code: what sees each message.

use crate::{
    handoff::Batch,
    message::{Message, Notice},
    receipt::Receipt,
    sequence::{EventKind, Gap, Quality, SnapshotMark},
};

/// The code that sees each message, one instance a worker.
///
/// With keyed sharding all messages of a topic come to one instance, in the order they were
/// received, so an instance may keep a topic's state without locks. Calls come from the worker's
/// thread only. What a handler has gathered is returned by
/// [`Pipeline::finish`](crate::pipeline::Pipeline::finish).
///
/// ```
/// use pinfeed::{message::Message, worker::Handler};
///
/// #[derive(Default)]
/// struct Largest {
///     payload_bytes: usize,
/// }
///
/// impl Handler for Largest {
///     fn on_message(&mut self, message: &Message<'_>) {
///         self.payload_bytes = self.payload_bytes.max(message.payload().len());
///     }
/// }
/// ```
pub trait Handler: Send + 'static {
    /// Called for each message, in the order its lane received them.
    fn on_message(&mut self, message: &Message<'_>);

    /// Called just before [`on_message`](Self::on_message) for a message that stands for older ones of its
    /// topic as well: with the policy [`Conflate`](crate::policy::Policy::Conflate) only.
    fn on_receipt(&mut self, _receipt: &Receipt, _message: &Message<'_>) {}

    /// Called after the last message of each batch: the place to flush what was gathered for it. Where the worker was
    /// [too slow](crate::policy::Policy::Snail), that is the last one it was at, and those behind it in the batch
    /// are dropped.
    fn on_batch_end(&mut self, _batch: &Batch) {}

    /// Called where something happened to a topic or a line, in its place among the messages: messages
    /// that are missing are told before the one that comes after them. What concerns a whole line is told
    /// to every worker.
    ///
    /// Unless overridden, it calls [`on_gap`](Self::on_gap), [`on_quality`](Self::on_quality) and
    /// [`on_snapshot`](Self::on_snapshot).
    fn on_notice(&mut self, notice: &Notice<'_>) {
        match notice.kind {
            EventKind::Gap(gap) => self.on_gap(notice, &gap),
            EventKind::Quality { from, to } => self.on_quality(notice, from, to),
            EventKind::Snapshot(mark) => self.on_snapshot(notice, mark),
            _ => {}
        }
    }

    /// Called where messages are missing: published, and lost before they reached us.
    fn on_gap(&mut self, _notice: &Notice<'_>, _gap: &Gap) {}

    /// Called where a topic, or a line, can be trusted more or less than before.
    fn on_quality(&mut self, _notice: &Notice<'_>, _from: Quality, _to: Quality) {}

    /// Called before the first message of a feed's snapshot and after its last one. The messages between
    /// are those of the worker's topics; of a [whole](SnapshotMark::Begins) one, what the handler has of others
    /// of the feed is no more.
    fn on_snapshot(&mut self, _notice: &Notice<'_>, _mark: SnapshotMark) {}

    /// Called now and then while there are no messages, every
    /// [`IDLE_AFTER`](crate::wait::IDLE_AFTER).
    fn on_idle(&mut self) {}

    /// Called once, after the last message.
    fn on_stop(&mut self) {}
}
