//! What a conflated delivery says about the messages it stands for.

use crate::message::Message;

/// What a message says about the older ones of its topic that it was delivered in place of.
///
/// Receipts add up: the messages of a topic that were received are those delivered without a receipt,
/// those that receipts stand for, and those counted as dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Messages that the delivery stands for, itself included: at least 2.
    pub messages: u64,
    /// The publisher's number of the oldest of them, where the envelope carries one.
    pub first_sequence: Option<u64>,
    /// The publisher's number of the newest of them, the one delivered: lower than the first where the publisher has
    /// started anew between them.
    pub last_sequence: Option<u64>,
    /// When the oldest of them was received, in nanoseconds of the pipeline's clock.
    pub oldest_received_ns: u64,
    /// How long ago that was when the worker took the batch to the handler, in nanoseconds.
    pub oldest_age_ns: u64,
}

impl Receipt {
    /// What a message that stands for itself alone would say.
    pub(crate) fn of(message: &Message<'_>) -> Self {
        Self {
            messages: 1,
            first_sequence: message.sequence(),
            last_sequence: message.sequence(),
            oldest_received_ns: message.received_ns(),
            oldest_age_ns: 0,
        }
    }

    /// Stands for what an older message of the topic stood for as well.
    pub(crate) fn take_over(&mut self, older: Self) {
        self.messages += older.messages;
        self.first_sequence = older.first_sequence.or(self.first_sequence);
        self.oldest_received_ns = self.oldest_received_ns.min(older.oldest_received_ns);
    }

    /// The receipt as of a time of the pipeline's clock.
    pub(crate) fn at(self, now_ns: u64) -> Self {
        Self {
            oldest_age_ns: now_ns.saturating_sub(self.oldest_received_ns),
            ..self
        }
    }
}
