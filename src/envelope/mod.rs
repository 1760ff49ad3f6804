//! Envelopes: where topic, payload, sequence number and timestamp stand inside a message.
//!
//! An envelope only looks: it takes the frames of one message and answers with places in them, so
//! the bytes are copied once, by the batch, whatever the envelope. It never fails the lane: a
//! message that does not fit is a [`Rejection`], which the ledger counts by reason.
//!
//! To add a publisher's format, add a variant here and a file beside `pinfeed.rs` that says where
//! its fields stand, byte by byte.

pub mod pinfeed;

use std::{fmt, ops::Deref, str::FromStr};

use memchr::memchr;

use crate::{
    ledger::Rejection,
    message::Stamp,
    sequence::{Numbering, Scope},
};

/// A format of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// The topic is the first frame; the payload is the second, or that same frame where there is
    /// only one.
    Raw,
    /// The topic is the first frame up to this byte, the payload what follows the byte in it.
    Delimited(u8),
    /// The format of `pinfeed publish`, with epoch, sequence number and timestamp: [`pinfeed`].
    Pinfeed,
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

/// What an envelope finds in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The bytes that subscriptions match on.
    pub topic: Place,
    /// The bytes that are left to the handler.
    pub payload: Place,
    /// What the publisher wrote beside them.
    pub stamp: Option<Stamp>,
}

impl Envelope {
    /// Finds the fields of a message in its frames, of which there is at least one.
    ///
    /// # Errors
    /// The [`Rejection`], where the message is not in this format.
    #[inline]
    pub fn open<F: Deref<Target = [u8]>>(&self, frames: &[F]) -> Result<Fields, Rejection> {
        let first = &*frames[0];
        match *self {
            Self::Raw => {
                let payload = usize::from(frames.len() > 1);
                Ok(Fields {
                    topic: whole(0, first),
                    payload: whole(payload, &frames[payload]),
                    stamp: None,
                })
            }
            Self::Delimited(delimiter) => {
                let at = memchr(delimiter, first).ok_or(Rejection::NoDelimiter)?;
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
                    stamp: None,
                })
            }
            Self::Pinfeed => pinfeed::open(first),
        }
    }
}

impl Envelope {
    /// Returns how messages in this format are numbered, where they are.
    #[must_use]
    pub fn numbering(&self) -> Option<Numbering> {
        match self {
            Self::Raw | Self::Delimited(_) => None,
            Self::Pinfeed => Some(Numbering {
                scope: Scope::Topic,
                width_bits: 64,
                start: Some(0),
                has_epoch: true,
            }),
        }
    }
}

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
        }
    }
}

/// The text was not the name of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an envelope; give raw, pinfeed, delimited:C with an ASCII character, or delimited:0xNN"
)]
pub struct UnknownEnvelope;

impl FromStr for Envelope {
    type Err = UnknownEnvelope;

    fn from_str(name: &str) -> Result<Self, UnknownEnvelope> {
        match name {
            "raw" => Ok(Self::Raw),
            "pinfeed" => Ok(Self::Pinfeed),
            _ => {
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
        ] {
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
}
