//! A message as a handler sees it: borrowed from its batch, never copied again.
//!
//! `Header` is what a lane writes beside the bytes of each message. It fills one cache line, so
//! that a worker's walk over a batch touches one line of headers a message and the bytes in order. Tried
//! without gain: to keep the stamps apart from what handlers ask for, so that recording times touches
//! less.

use std::ops::{Range, RangeInclusive};

use crate::sequence::{EventKind, Position};

/// The most frames a message may have; one with more is rejected.
pub const FRAMES_MAX: usize = 64;

/// The sequence number of a message whose envelope carries none.
const NO_SEQUENCE: u64 = u64::MAX;
/// The epoch of a message whose envelope carries none.
const NO_EPOCH: u64 = u64::MAX;
/// The timestamp of a message whose envelope carries none.
pub(crate) const NO_TIMESTAMP: u64 = 0;

/// What a publisher wrote beside topic and payload. Each of the three may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which life of the publisher this is: a restart starts a new epoch. `u64::MAX` is none.
    pub epoch: u64,
    /// The publisher's number for this message. `u64::MAX` is not a number.
    pub sequence: u64,
    /// The publisher's wall clock, in nanoseconds since 1970. Zero is no time.
    pub timestamp_ns: u64,
}

impl Stamp {
    /// Nothing.
    pub const NONE: Self = Self {
        epoch: NO_EPOCH,
        sequence: NO_SEQUENCE,
        timestamp_ns: NO_TIMESTAMP,
    };

    /// Returns the epoch, if there is one.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        (self.epoch != NO_EPOCH).then_some(self.epoch)
    }

    /// Returns the sequence number, if there is one.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        (self.sequence != NO_SEQUENCE).then_some(self.sequence)
    }

    /// Returns where the message stands in its series, if it has a number.
    #[inline]
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.sequence().map(|sequence| Position {
            epoch: self.epoch().unwrap_or(0),
            sequence,
        })
    }

    /// Returns the timestamp, if there is one.
    #[must_use]
    pub fn timestamp_ns(&self) -> Option<u64> {
        (self.timestamp_ns != NO_TIMESTAMP).then_some(self.timestamp_ns)
    }
}

/// Which feed and which line of it a message came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The feed's place in the configuration.
    pub feed: u16,
    /// The line's place in its feed.
    pub line: u8,
}

/// Something that happened between messages, told in its place among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice<'a> {
    /// The feed and line it happened on.
    pub origin: Origin,
    /// The topic it happened to; `None` where it concerns the whole line.
    pub topic: Option<&'a [u8]>,
    /// When the lane noticed, in nanoseconds of the pipeline's clock.
    pub noticed_ns: u64,
    /// What happened.
    pub kind: EventKind,
}

/// The fixed part of a message in a batch. Offsets are in bytes from the start of the batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub received_ns: u64,
    pub topic_hash: u64,
    epoch: u64,
    sequence: u64,
    timestamp_ns: u64,
    topic: Span,
    payload: Span,
    bounds: Bounds,
}

/// Bytes of the fixed part of a message in a batch: one cache line.
pub(crate) const HEADER_BYTES: usize = 64;

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

/// A run of bytes in a batch: its start in the low 32 bits, its length in the high ones, so that both are one store.
/// By itself that made no difference that could be measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span(u64);

impl Span {
    #[inline(always)]
    pub(crate) fn new(start: usize, bytes: usize) -> Self {
        Self(start as u64 | (bytes as u64) << 32)
    }

    #[inline(always)]
    fn range(self) -> Range<usize> {
        let start = self.0 as u32 as usize;
        start..start + (self.0 >> 32) as usize
    }

    /// The same bytes, of a message that starts at `to` instead of `from`.
    fn moved(self, from: u32, to: u32) -> Self {
        let Range { start, end } = self.range();
        Self::new(start - from as usize + to as usize, end - start)
    }
}

/// Where a message stands in its batch's list of frame bounds, and what else is small: from the low bits on the
/// index of its first bound, 32 of them; its feed, 16; its line, 8; the number of its frames, 8.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds(u64);

impl Bounds {
    #[inline(always)]
    pub(crate) fn new(first: usize, frames: usize, origin: Origin) -> Self {
        let (feed, line) = (u64::from(origin.feed), u64::from(origin.line));
        Self(u64::from(first as u32) | feed << 32 | line << 48 | (frames as u64) << 56)
    }

    /// The indices of the message's start and of the end of each of its frames.
    #[inline(always)]
    fn range(self) -> RangeInclusive<usize> {
        let first = self.0 as u32 as usize;
        first..=first + (self.0 >> 56) as usize
    }

    #[inline(always)]
    fn origin(self) -> Origin {
        Origin {
            feed: (self.0 >> 32) as u16,
            line: (self.0 >> 48) as u8,
        }
    }
}

impl Header {
    #[inline(always)]
    pub(crate) fn new(
        received_ns: u64,
        topic_hash: u64,
        stamp: Stamp,
        topic: Span,
        payload: Span,
        bounds: Bounds,
    ) -> Self {
        Self {
            received_ns,
            topic_hash,
            epoch: stamp.epoch,
            sequence: stamp.sequence,
            timestamp_ns: stamp.timestamp_ns,
            topic,
            payload,
            bounds,
        }
    }

    /// The header of the same message in another batch: its bytes, which start at `from` here, start at
    /// `to` there.
    pub(crate) fn moved(&self, from: u32, to: u32, first_bound: usize) -> Self {
        let frames = self.bounds.range().count() - 1;
        Self {
            topic: self.topic.moved(from, to),
            payload: self.payload.moved(from, to),
            bounds: Bounds::new(first_bound, frames, self.origin()),
            ..*self
        }
    }

    /// The places of the message's bounds in its batch's list.
    #[inline]
    pub(crate) fn bounds(&self) -> RangeInclusive<usize> {
        self.bounds.range()
    }

    #[inline]
    pub(crate) fn origin(&self) -> Origin {
        self.bounds.origin()
    }

    /// The publisher's wall clock in nanoseconds, where the envelope carries it.
    #[inline]
    pub(crate) fn timestamp_ns(&self) -> Option<u64> {
        (self.timestamp_ns != NO_TIMESTAMP).then_some(self.timestamp_ns)
    }
}

/// One message: topic, payload, all frames, and what is known of its way here.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    header: &'a Header,
    bytes: &'a [u8],
    frame_bounds: &'a [u32],
}

impl<'a> Message<'a> {
    /// `bytes` is the whole batch's buffer; `frame_bounds` holds this message's start and the end of
    /// each of its frames, as offsets into it.
    #[inline]
    pub(crate) fn new(header: &'a Header, bytes: &'a [u8], frame_bounds: &'a [u32]) -> Self {
        Self {
            header,
            bytes,
            frame_bounds,
        }
    }

    /// The message's fixed part, its bytes, and their bounds.
    pub(crate) fn parts(&self) -> (&'a Header, &'a [u8], &'a [u32]) {
        (self.header, self.bytes, self.frame_bounds)
    }

    /// Returns the bytes that subscriptions match on and shards are chosen by.
    #[inline]
    #[must_use]
    pub fn topic(&self) -> &'a [u8] {
        &self.bytes[self.header.topic.range()]
    }

    /// Returns the bytes that the envelope leaves to the handler.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header.payload.range()]
    }

    /// Returns the message's frames as they came over the wire, envelope included.
    #[must_use]
    pub fn frames(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.frame_bounds
            .windows(2)
            .map(move |bounds| &bytes[bounds[0] as usize..bounds[1] as usize])
    }

    /// Returns the topic's [hash](crate::shard::topic_hash), computed once on the lane.
    #[inline]
    #[must_use]
    pub fn topic_hash(&self) -> u64 {
        self.header.topic_hash
    }

    /// Returns the feed and line that the message came by.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.header.origin()
    }

    /// Returns the publisher's sequence number, where the envelope carries one.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        (self.header.sequence != NO_SEQUENCE).then_some(self.header.sequence)
    }

    /// Returns the publisher's epoch, where the envelope carries one.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        (self.header.epoch != NO_EPOCH).then_some(self.header.epoch)
    }

    /// Returns the publisher's wall clock in nanoseconds since 1970, where the envelope carries it.
    #[must_use]
    pub fn timestamp_ns(&self) -> Option<u64> {
        self.header.timestamp_ns()
    }

    /// Returns when the lane received the message, in nanoseconds of the pipeline's monotonic clock.
    #[must_use]
    pub fn received_ns(&self) -> u64 {
        self.header.received_ns
    }
}
