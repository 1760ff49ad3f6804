//! Envelopes: where topic, payload, sequence number and timestamp stand inside a message.
//!
//! An envelope only looks: it takes the frames of one message and answers with places in them, so
//! the bytes are copied once, by the batch, whatever the envelope. It never fails the lane: a
//! message that does not fit is a [`Rejection`], which the ledger counts by reason.
//!
//! Most formats are described by a [`Layout`], in `feeds.toml` or as a preset: to add a publisher's, add
//! a function to `preset.rs`. The three that are variants of [`Envelope`] are opened in
//! a few nanoseconds; a layout takes some more (`cargo bench --bench envelope`).

mod inflate;
mod layout;
mod number;
pub mod pinfeed;
pub mod preset;
mod table;
mod time;

use std::{fmt, ops::Deref, str::FromStr, sync::Arc};

pub use inflate::{INFLATED_BYTES_MAX, INFLATED_LIMIT_BYTES_MAX, Inflater, Inflation};
pub use layout::{Layout, TopicAt};
pub use number::{Endian, NumberAt, SequenceAt, Width};
pub use preset::Preset;
pub use time::{FieldName, TextTime, TimestampAt, Unit};

use memchr::memchr;

use crate::{
    ledger::Rejection,
    message::Stamp,
    sequence::{Numbering, Scope},
};

/// A format of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// The topic is the first frame; the payload is the second, or that same frame where there is
    /// only one.
    Raw,
    /// The topic is the first frame up to this byte, the payload what follows the byte in it.
    Delimited(u8),
    /// The format of `pinfeed publish`, with epoch, sequence number and timestamp: [`pinfeed`].
    Pinfeed,
    /// A format that is described.
    Layout(Arc<Layout>),
}

/// What tells a publisher, and then a message, that exactly one topic is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exact {
    /// The first frame starts with these bytes, and only those of this topic do.
    Prefix(Vec<u8>),
    /// The first frame is these bytes. Publishers, which only know prefixes, send more.
    Frame(Vec<u8>),
}

/// A run of bytes in one frame of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The frame, counted from 0.
    pub frame: usize,
    /// The offset of the first byte.
    pub start: usize,
    /// The offset after the last byte.
    pub end: usize,
}

impl Place {
    /// Returns the bytes that stand there.
    #[inline]
    #[must_use]
    pub fn of<F: Deref<Target = [u8]>>(self, frames: &[F]) -> &[u8] {
        &frames[self.frame][self.start..self.end]
    }
}

/// What an envelope finds in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The bytes that subscriptions match on.
    pub topic: Place,
    /// The bytes that are left to the handler.
    pub payload: Place,
    /// What the publisher wrote beside them: [`Stamp::NONE`] where the format has none of it.
    pub stamp: Stamp,
}

impl Envelope {
    /// Finds the fields of a message in its frames, of which there is at least one, with that
    /// [inflated](Self::inflation) which is compressed.
    ///
    /// # Errors
    /// The [`Rejection`], where the message is not in this format.
    // A handful of instructions for the formats that are programmed, in a lane's innermost loop.
    #[inline(always)]
    pub fn open<F: Deref<Target = [u8]>>(&self, frames: &[F]) -> Result<Fields, Rejection> {
        let first = &*frames[0];
        match self {
            Self::Raw => Ok(raw(frames)),
            Self::Delimited(delimiter) => {
                let at = memchr(*delimiter, first).ok_or(Rejection::NoDelimiter)?;
                Ok(Fields {
                    topic: Place {
                        frame: 0,
                        start: 0,
                        end: at,
                    },
                    payload: Place {
                        frame: 0,
                        start: at + 1,
                        end: first.len(),
                    },
                    stamp: Stamp::NONE,
                })
            }
            Self::Pinfeed => pinfeed::open(first),
            Self::Layout(layout) => layout.open(frames),
        }
    }

    /// Returns the epoch and number of the message before, where this one is a heartbeat that repeats them.
    #[inline]
    #[must_use]
    pub fn heartbeat_in<F: Deref<Target = [u8]>>(&self, frames: &[F]) -> Option<Stamp> {
        match self {
            Self::Layout(layout) => layout.heartbeat_in(frames),
            Self::Raw | Self::Delimited(_) | Self::Pinfeed => None,
        }
    }

    /// Returns which frame is compressed, if one is.
    #[inline]
    #[must_use]
    pub fn inflation(&self) -> Option<Inflation> {
        match self {
            Self::Layout(layout) => layout.inflate,
            Self::Raw | Self::Delimited(_) | Self::Pinfeed => None,
        }
    }

    /// Returns how messages are numbered, if they are.
    #[must_use]
    pub fn numbering(&self) -> Option<Numbering> {
        match self {
            Self::Raw | Self::Delimited(_) => None,
            Self::Pinfeed => Some(Numbering {
                scope: Scope::Topic,
                width_bits: u64::BITS,
                start: Some(0),
                has_epoch: true,
            }),
            Self::Layout(layout) => layout.numbering(),
        }
    }

    /// Returns how to subscribe to exactly this topic; or `None` where no message has this topic, or
    /// its topic is not what its first frame starts with.
    #[must_use]
    pub fn exact(&self, topic: &[u8]) -> Option<Exact> {
        let until = |delimiter: &[u8]| {
            let prefix = [topic, delimiter].concat();
            let found = layout::find(&prefix, delimiter) == Some(topic.len());
            found.then_some(Exact::Prefix(prefix))
        };
        match self {
            Self::Raw => Some(Exact::Frame(topic.to_vec())),
            Self::Delimited(delimiter) => until(&[*delimiter]),
            Self::Pinfeed => until(&[0]),
            Self::Layout(_) if self.compresses_first() => None,
            Self::Layout(layout) => match &layout.topic {
                TopicAt::Frame(0) => Some(Exact::Frame(topic.to_vec())),
                TopicAt::Until(0, delimiter) => until(delimiter),
                TopicAt::Bytes(0, bytes) if topic.len() == *bytes => {
                    Some(Exact::Prefix(topic.to_vec()))
                }
                _ => None,
            },
        }
    }

    /// Tells whether the first frame, which subscriptions match on, is compressed.
    #[must_use]
    pub fn compresses_first(&self) -> bool {
        self.inflation()
            .is_some_and(|inflation| inflation.frame == 0)
    }
}

/// Finds the fields of a message in the format [`Raw`](Envelope::Raw).
#[inline(always)]
pub(crate) fn raw<F: Deref<Target = [u8]>>(frames: &[F]) -> Fields {
    let payload = usize::from(frames.len() > 1);
    Fields {
        topic: whole(0, &frames[0]),
        payload: whole(payload, &frames[payload]),
        stamp: Stamp::NONE,
    }
}

#[inline(always)]
fn whole(frame: usize, bytes: &[u8]) -> Place {
    Place {
        frame,
        start: 0,
        end: bytes.len(),
    }
}

impl fmt::Display for Envelope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw => out.write_str("raw"),
            Self::Delimited(byte) if byte.is_ascii_graphic() => {
                write!(out, "delimited:{}", char::from(*byte))
            }
            Self::Delimited(byte) => write!(out, "delimited:{byte:#04x}"),
            Self::Pinfeed => out.write_str("pinfeed"),
            Self::Layout(layout) => out.write_str(&layout.name),
        }
    }
}

/// The text was not the name of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an envelope; give raw, pinfeed, delimited:C with an ASCII character, delimited:0xNN, bitcoind, \
     kvmsg, cryptofeed, eddn or dwx"
)]
pub struct UnknownEnvelope;

impl FromStr for Envelope {
    type Err = UnknownEnvelope;

    fn from_str(name: &str) -> Result<Self, UnknownEnvelope> {
        match name {
            "raw" => Ok(Self::Raw),
            "pinfeed" => Ok(Self::Pinfeed),
            _ => {
                if let Some(envelope) = Preset::named(name) {
                    return Ok(envelope);
                }
                let delimiter = name.strip_prefix("delimited:").ok_or(UnknownEnvelope)?;
                match (delimiter.as_bytes(), delimiter.strip_prefix("0x")) {
                    ([byte], _) if byte.is_ascii() => Ok(Self::Delimited(*byte)),
                    (_, Some(hex)) if hex.len() == 2 => u8::from_str_radix(hex, 16)
                        .map(Self::Delimited)
                        .map_err(|_| UnknownEnvelope),
                    _ => Err(UnknownEnvelope),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<'a>(frames: &[&'a [u8]], place: Place) -> &'a [u8] {
        &frames[place.frame][place.start..place.end]
    }

    #[test]
    fn raw_takes_the_first_frame_as_topic() {
        for (frames, payload) in [
            (&[&b"EURUSD"[..], b"1.07"][..], &b"1.07"[..]),
            (&[b"SYM 100.23"], b"SYM 100.23"),
            (&[b"hashtx", b"body", b"\x01\0\0\0"], b"body"),
            (&[b""], b""),
        ] {
            let fields = Envelope::Raw.open(frames).unwrap();
            assert_eq!(text(frames, fields.topic), frames[0]);
            assert_eq!(text(frames, fields.payload), payload);
        }
    }

    #[test]
    fn delimited_cuts_at_the_first_delimiter() {
        let frames: &[&[u8]] = &[b"EURUSD:|:1.07;1.08"];
        let fields = Envelope::Delimited(b':').open(frames).unwrap();
        assert_eq!(text(frames, fields.topic), b"EURUSD");
        assert_eq!(text(frames, fields.payload), b"|:1.07;1.08");
        assert_eq!(
            Envelope::Delimited(b'#').open(frames),
            Err(Rejection::NoDelimiter)
        );
    }

    #[test]
    fn names_read_back_as_themselves() {
        for envelope in [
            Envelope::Raw,
            Envelope::Pinfeed,
            Envelope::Delimited(b'|'),
            Envelope::Delimited(b' '),
            Envelope::Delimited(0),
        ]
        .into_iter()
        .chain(Preset::ALL.iter().map(Preset::envelope))
        {
            assert_eq!(envelope.to_string().parse(), Ok(envelope));
        }
        for wrong in [
            "",
            "RAW",
            "delimited",
            "delimited:",
            "delimited:ab",
            "delimited:0xz1",
            "delimited:é",
        ] {
            assert_eq!(wrong.parse::<Envelope>(), Err(UnknownEnvelope), "{wrong}");
        }
    }
    #[test]
    fn exact_topics_end_with_the_delimiter() {
        let exact = |name: &str, topic: &[u8]| {
            let envelope: Envelope = name.parse().expect("a name");
            envelope.exact(topic)
        };
        let prefix = |bytes: &[u8]| Some(Exact::Prefix(bytes.to_vec()));
        let frame = |bytes: &[u8]| Some(Exact::Frame(bytes.to_vec()));
        for (name, topic, expected) in [
            ("raw", &b"BTC-USD"[..], frame(b"BTC-USD")),
            ("bitcoind", b"hashtx", frame(b"hashtx")),
            ("delimited:|", b"BTC-USD", prefix(b"BTC-USD|")),
            ("pinfeed", b"BTC-USD", prefix(b"BTC-USD\0")),
            ("cryptofeed", b"BTC-USD", prefix(b"BTC-USD ")),
            ("dwx", b"EURUSD", prefix(b"EURUSD:|:")),
            ("dwx", b"EURUSD:", prefix(b"EURUSD::|:")),
            // No message has these.
            ("delimited:|", b"BTC|USD", None),
            ("cryptofeed", b"BTC USD", None),
            // Its topic is not there to be matched.
            ("eddn", b"", None),
        ] {
            assert_eq!(exact(name, topic), expected, "{name}");
        }
    }
}
