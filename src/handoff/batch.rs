//! A run of messages handed from one lane to one worker at once, in arrival order.
//!
//! The bytes of all frames lie end to end in one buffer, beside one `Header` a message and the
//! list of frame bounds.
//!
//! Messages are copied in. Sharing the engine's receive buffer by an index was tried
//! (`cargo bench --bench copy_or_share`): the same within the spread, since both pay for the way from
//! core to core, beside which a copy within the lane's cache is nothing.

use std::{mem, ops::Deref};

use crate::{
    envelope::{Fields, Place},
    handoff::{Fence, fence::Mark, notes::Notes},
    message::{Bounds, FRAMES_MAX, Header, Message, Notice, Origin, Span},
    receipt::Receipt,
};

/// How large a batch may grow.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// The number of messages at which a batch is full.
    pub messages: usize,
    /// The number of bytes at which a batch is full. The last message may overshoot it.
    pub bytes: usize,
}

impl BatchLimits {
    /// The number of frame bounds at which a batch is full: where messages have more than two frames,
    /// before it has its number of messages.
    fn bounds(self) -> usize {
        2 * self.messages + 1
    }
}

/// The bytes of the longest short frame.
const SHORT_BYTES_MAX: usize = 255;

/// Messages of `N` short frames each that were received together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a, const N: usize> {
    pub origin: Origin,
    pub received_ns: u64,
    pub messages: &'a [[&'a [u8]; N]],
}

/// Some messages of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picked<'a> {
    /// Their places in the run.
    pub places: &'a [u8],
    /// By place: the hash of the message's topic.
    pub hashes: &'a [u64],
}

impl<'a> Picked<'a> {
    /// The messages' places and hashes.
    #[inline(always)]
    pub(crate) fn iter(self) -> impl ExactSizeIterator<Item = (usize, u64)> + 'a {
        let places = self.places.iter().map(|&place| usize::from(place));
        places.map(move |place| (place, self.hashes[place]))
    }
}

/// A run of messages handed from one lane to one worker at once, in arrival order.
#[derive(Debug)]
pub struct Batch {
    limits: BatchLimits,
    bytes: Vec<u8>,
    headers: Vec<Header>,
    /// A message with `n` frames owns the `n + 1` bounds that its header names; the last bound of a message is
    /// the first of the next.
    bounds: Vec<u32>,
    /// Of messages that stand for others, with their places in the batch, in order. Mostly there are none.
    receipts: Vec<(usize, Receipt)>,
    /// What happened between the messages, in order. Mostly nothing.
    notes: Notes,
    /// Of a fence right behind the messages, where there is one.
    mark: Option<Mark>,
    /// The outlet that fills this batch, and so the one to return it to.
    pub(crate) source: usize,
    /// The slot that carries this batch over.
    pub(crate) slot: usize,
}

impl Batch {
    pub(crate) fn new(limits: BatchLimits, source: usize, slot: usize) -> Self {
        Self {
            limits,
            // Over the limits by the last message, so that a batch hardly ever grows.
            bytes: Vec::with_capacity(limits.bytes + limits.bytes / 8),
            headers: Vec::with_capacity(limits.messages),
            bounds: {
                let mut bounds = Vec::with_capacity(limits.bounds() + FRAMES_MAX);
                bounds.push(0);
                bounds
            },
            receipts: Vec::new(),
            notes: Notes::default(),
            mark: None,
            source,
            slot,
        }
    }

    /// Takes note of something that happened after the messages so far.
    #[cold]
    pub(crate) fn note(&mut self, notice: &Notice<'_>) {
        self.notes.push(self.headers.len(), notice);
    }

    /// Takes note of more, as if it had happened after the messages so far.
    #[cold]
    pub(crate) fn note_all(&mut self, notes: &Notes) {
        self.notes.push_all(self.headers.len(), notes);
    }

    /// Takes over the notes of a batch that was before this one.
    #[cold]
    pub(crate) fn note_ahead(&mut self, earlier: &mut Self) {
        self.notes.put_ahead(mem::take(&mut earlier.notes));
    }

    /// What happened between the messages.
    #[inline]
    pub(crate) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Tells whether there is nothing but messages that stand for themselves.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.notes.is_empty() && self.receipts.is_empty()
    }

    /// Forgets the messages, but neither what happened between them nor a fence.
    pub(crate) fn clear_messages(&mut self) {
        let notes = mem::take(&mut self.notes);
        let mark = self.mark.take();
        self.clear();
        (self.notes, self.mark) = (notes, mark);
        self.notes.move_ahead();
    }

    /// Has a fence right behind the messages.
    pub(crate) fn fence(&mut self, fence: &Fence) {
        self.mark = Some(fence.mark());
    }

    /// Tells whether there is a fence right behind the messages.
    pub(crate) fn is_fenced(&self) -> bool {
        self.mark.is_some()
    }

    /// Takes over the fence of a batch that was before, or is merged with this one. An outlet has one at a
    /// time.
    pub(crate) fn take_fence(&mut self, other: &mut Self) {
        self.mark = other.mark.take().or(self.mark.take());
    }

    /// Exchanges all but the homes of two batches.
    pub(super) fn swap_contents(&mut self, other: &mut Self) {
        mem::swap(self, other);
        mem::swap(&mut self.source, &mut other.source);
        mem::swap(&mut self.slot, &mut other.slot);
    }

    /// Makes an empty batch with the same limits and home.
    pub(crate) fn another(&self) -> Box<Self> {
        Box::new(Self::new(self.limits, self.source, self.slot))
    }

    /// Appends a message: copies its frames and notes where its fields stand.
    ///
    /// # Panics
    /// Where there are more than [`FRAMES_MAX`] frames, or a field stands outside them.
    #[inline(always)]
    pub fn push<F: Deref<Target = [u8]>>(
        &mut self,
        origin: Origin,
        received_ns: u64,
        topic_hash: u64,
        fields: &Fields,
        frames: &[F],
    ) {
        assert!(frames.len() <= FRAMES_MAX);
        let (start, first_bound) = (self.bytes.len(), self.bounds.len() - 1);
        for frame in frames {
            self.bytes.extend_from_slice(frame);
            self.bounds.push(self.bytes.len() as u32);
        }
        self.headers.push(Header::new(
            received_ns,
            topic_hash,
            fields.stamp,
            span(fields.topic, start, frames),
            span(fields.payload, start, frames),
            Bounds::new(first_bound, frames.len(), origin),
        ));
    }

    /// Tells whether there is room for so many messages of `frames` short frames each.
    #[inline]
    pub(crate) fn has_room_for(&self, messages: usize, frames: usize) -> bool {
        let frames = messages * frames;
        self.headers.len() + messages <= self.limits.messages
            && self.bytes.len() + frames * SHORT_BYTES_MAX <= self.limits.bytes
            && self.bounds.len() + frames <= self.limits.bounds()
    }

    /// Appends messages of a run, for which there [is room](Self::has_room_for): as
    /// [`push`](Self::push) for each, but all bytes first, and then all that is known of them, so that less has to
    /// be stored in between.
    #[inline(always)]
    pub(crate) fn push_run<const N: usize>(
        &mut self,
        run: Run<'_, N>,
        picked: Picked<'_>,
        open: impl Fn(&[&[u8]; N]) -> Fields,
    ) {
        let Self {
            bytes,
            headers,
            bounds,
            ..
        } = self;
        let first_bound = bounds.len() - 1;
        let mut copy = |frame: &&[u8]| {
            bytes.extend_from_slice(frame);
            bytes.len() as u32
        };
        let places = picked.places.iter().map(|&place| usize::from(place));
        for place in places {
            bounds.extend(run.messages[place].iter().map(&mut copy));
        }
        headers.extend(picked.iter().enumerate().map(|(index, (place, hash))| {
            let frames = &run.messages[place];
            let fields = open(frames);
            let first_bound = first_bound + index * N;
            let start = bounds[first_bound] as usize;
            Header::new(
                run.received_ns,
                hash,
                fields.stamp,
                span(fields.topic, start, frames),
                span(fields.payload, start, frames),
                Bounds::new(first_bound, N, run.origin),
            )
        }));
    }

    /// Appends a message of another batch, and what it stands for.
    pub(crate) fn append(&mut self, message: &Message<'_>, receipt: Receipt) {
        let (header, bytes, bounds) = message.parts();
        let (from, to) = (bounds[0], self.bytes.len() as u32);
        let first_bound = self.bounds.len() - 1;
        if receipt.messages > 1 {
            self.receipts.push((self.headers.len(), receipt));
        }
        self.headers.push(header.moved(from, to, first_bound));
        let ends = bounds[1..].iter();
        self.bounds.extend(ends.map(|end| end - from + to));
        let end = bounds[bounds.len() - 1];
        self.bytes
            .extend_from_slice(&bytes[from as usize..end as usize]);
    }

    /// Tells whether the batch has to be handed over before it takes another message.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.headers.len() >= self.limits.messages
            || self.bytes.len() >= self.limits.bytes
            || self.bounds.len() >= self.limits.bounds()
    }

    /// Empties the batch, and gives back what a large message made it grow by, unless this one had one, too: where
    /// they follow each other nothing is allocated.
    pub(crate) fn clear(&mut self) {
        let was_large = self.bytes.len() > self.limits.bytes;
        self.bytes.clear();
        self.headers.clear();
        self.receipts.clear();
        self.bounds.truncate(1);
        self.notes.clear();
        self.mark = None;
        if !was_large && self.bytes.capacity() > 2 * self.limits.bytes {
            self.bytes.shrink_to(self.limits.bytes);
        }
    }

    /// Returns the number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.headers.len()
    }

    /// Tells whether there are no messages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Returns the messages in arrival order.
    #[inline]
    #[must_use]
    pub fn messages(&self) -> impl ExactSizeIterator<Item = Message<'_>> + DoubleEndedIterator {
        self.headers.iter().map(|header| self.view(header))
    }

    /// Returns the message at a place in the batch, counted from 0.
    ///
    /// # Panics
    /// Where there are not as many messages.
    #[must_use]
    pub fn message(&self, index: usize) -> Message<'_> {
        self.view(&self.headers[index])
    }

    #[inline(always)]
    fn view<'a>(&'a self, header: &'a Header) -> Message<'a> {
        Message::new(header, &self.bytes, &self.bounds[header.bounds()])
    }

    /// Returns the receipts of messages that stand for others, each with its message's place in the batch,
    /// in order.
    #[inline]
    #[must_use]
    pub fn receipts(&self) -> &[(usize, Receipt)] {
        &self.receipts
    }

    /// The fixed parts of the messages in arrival order, for a second look at their times.
    #[inline]
    pub(crate) fn headers(&self) -> &[Header] {
        &self.headers
    }
}

/// Where a field stands in the batch, of a message that starts at `start`.
#[inline(always)]
fn span<F: Deref<Target = [u8]>>(place: Place, start: usize, frames: &[F]) -> Span {
    let before = frames[..place.frame].iter().map(|frame| frame.len());
    let frame_start = start + before.sum::<usize>();
    Span::new(frame_start + place.start, place.end - place.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;

    const LIMITS: BatchLimits = BatchLimits {
        messages: 4,
        bytes: 64,
    };
    const ORIGIN: Origin = Origin { feed: 3, line: 1 };

    fn push(batch: &mut Batch, frames: &[&[u8]]) {
        let fields = Envelope::Raw.open(frames).unwrap();
        batch.push(ORIGIN, 7, 9, &fields, frames);
    }

    #[test]
    fn frame_boundaries_survive() {
        let sent: [&[&[u8]]; 3] = [&[b"a", b"", b"ccc"], &[b""], &[b"topic", b"payload"]];
        let mut batch = Batch::new(LIMITS, 0, 0);
        for round in 0..2 {
            for frames in sent {
                push(&mut batch, frames);
            }
            let got: Vec<Vec<&[u8]>> = batch.messages().map(|m| m.frames().collect()).collect();
            assert_eq!(got, sent, "round {round}");
            batch.clear();
            assert!(batch.is_empty());
        }
    }

    #[test]
    fn fields_are_found_behind_other_messages() {
        let mut batch = Batch::new(LIMITS, 0, 0);
        push(&mut batch, &[b"first"]);
        push(&mut batch, &[b"topic", b"payload", b"more"]);
        let message = batch.messages().nth(1).unwrap();
        assert_eq!(message.topic(), b"topic");
        assert_eq!(message.payload(), b"payload");
        assert_eq!(message.origin(), ORIGIN);
        assert_eq!((message.received_ns(), message.topic_hash()), (7, 9));
        assert_eq!((message.sequence(), message.timestamp_ns()), (None, None));
    }

    #[test]
    fn full_by_messages_or_by_bytes() {
        let mut batch = Batch::new(LIMITS, 0, 0);
        for _ in 0..4 {
            assert!(!batch.is_full());
            push(&mut batch, &[b"x"]);
        }
        assert!(batch.is_full());
        batch.clear();
        push(&mut batch, &[&[0; 64]]);
        assert!(batch.is_full());
    }

    #[test]
    fn a_large_message_is_not_paid_for_ever() {
        let mut batch = Batch::new(LIMITS, 0, 0);
        for _ in 0..2 {
            push(&mut batch, &[&[0; 4096]]);
            batch.clear();
            assert!(batch.bytes.capacity() >= 4096, "another may follow");
        }
        push(&mut batch, &[b"small"]);
        batch.clear();
        assert!(batch.bytes.capacity() <= 2 * LIMITS.bytes);
    }
}
