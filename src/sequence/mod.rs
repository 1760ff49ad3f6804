//! What publishers' numbers tell: which messages are missing, which came twice, and how far a topic can
//! be trusted.
//!
//! Everything here is a state machine without threads, sockets or clocks: numbers and times in, events
//! out. The lane that receives a line feeds it, in the order messages came.

pub mod arbiter;
mod awaited;
mod event;
pub mod quality;
pub mod stream;
pub mod topics;
pub mod tracker;
mod wheel;

pub use event::{Event, EventKind, SnapshotMark};
pub use quality::StaleRule;
pub use tracker::{Tracker, TrackerOptions, Verdict as TrackVerdict};

/// What one series of numbers counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each topic has a series of its own.
    Topic,
    /// All messages of a line share one. A subscriber to some topics sees numbers missing that it never
    /// asked for.
    Line,
}

/// How a publisher numbers its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// What one series counts.
    pub scope: Scope,
    /// Bits of a number: after the highest comes 0.
    pub width_bits: u32,
    /// The first number of a series, where it is known.
    pub start: Option<u64>,
    /// Whether an epoch beside the number tells one life of the publisher from the next.
    pub has_epoch: bool,
}

impl Numbering {
    /// Returns the highest number of a series.
    #[inline]
    #[must_use]
    pub fn mask(&self) -> u64 {
        u64::MAX >> (u64::BITS - self.width_bits.clamp(1, u64::BITS))
    }
}

/// Where a message stands in its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The publisher's life; 0 where it does not say.
    pub epoch: u64,
    /// The number within it.
    pub sequence: u64,
}

/// Messages that were published and never came: a run of numbers of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The publisher's life.
    pub epoch: u64,
    /// The first number missing.
    pub from: u64,
    /// The last number missing.
    pub to: u64,
    /// How many are missing; with numbers that wrap not the difference of the two.
    pub count: u64,
}

/// How far what is known of a topic, or of a whole feed, can be trusted. The worse is the lesser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Quality {
    /// No connection.
    #[default]
    Disconnected,
    /// Silent for longer than its limit.
    Stale,
    /// A message is missing, and none in sequence has come since.
    Gapped,
    /// In sequence again, for a short time yet.
    Recovering,
    /// Connected, heard from in time, nothing missing lately.
    Ok,
}
