//! The formats that messages are published in: those envelopes that can be written as well as read.

use crate::{
    envelope::Envelope,
    error::{Error, Result},
    message::FRAMES_MAX,
};

/// Returns how many bytes of a payload go into each of so many frames of a message: all frames but the first get the
/// same, and the first what is left.
pub(crate) fn payload_parts(payload_bytes: usize, frames: usize) -> impl Iterator<Item = usize> {
    let part = payload_bytes / frames;
    let others = frames - 1;
    std::iter::once(payload_bytes - others * part).chain(std::iter::repeat_n(part, others))
}

/// Checks that a payload can be sent in so many frames.
///
/// # Errors
/// [`Error::Config`], naming the flag, where one would be empty, or they are too many for a message.
pub(crate) fn check_frames(frames: usize, payload_bytes: usize) -> Result<()> {
    let max = FRAMES_MAX.min(payload_bytes);
    if (1..=max).contains(&frames) {
        return Ok(());
    }
    let remedy = format!("give 1 to {max}");
    Err(Error::config(
        "--frames",
        frames,
        "it is out of range",
        remedy,
    ))
}

/// A format to publish in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// [`Envelope::Raw`], in two frames.
    Raw,
    /// [`Envelope::Delimited`].
    Delimited(u8),
    /// [`Envelope::Pinfeed`].
    Pinfeed,
}

impl Format {
    /// Returns the format that an envelope reads.
    ///
    /// # Errors
    /// [`Error::Config`], where it is only read.
    pub(super) fn of(envelope: &Envelope) -> Result<Self> {
        match envelope {
            Envelope::Raw => Ok(Self::Raw),
            Envelope::Delimited(delimiter) => Ok(Self::Delimited(*delimiter)),
            Envelope::Pinfeed => Ok(Self::Pinfeed),
            Envelope::Layout(_) => Err(Error::config(
                "--envelope",
                envelope,
                "messages can be read in this format, but not published",
                "give pinfeed, raw, delimited:C or delimited:0xNN",
            )),
        }
    }
}
