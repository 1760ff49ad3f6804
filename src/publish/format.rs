//! The formats that messages are published in: those envelopes that can be written as well as read.

use crate::{
    envelope::Envelope,
    error::{Error, Result},
};

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
