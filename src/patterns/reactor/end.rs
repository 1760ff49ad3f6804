//! Why connections end.

use std::io;

use crate::zmtp::Violation;

/// Why a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// It could not be made, for the kernel's reason.
    NotMade(io::Error),
    /// The peer closed it, or the network did.
    Lost,
    /// The peer did what the protocol forbids.
    Violation(Violation),
    /// Its handshake took too long.
    HandshakeTimeout,
    /// The peer was silent for too long.
    Silent,
    /// The peer asked for more prefixes than it may.
    TooManyPrefixes,
    /// This side hung up, or what the peer left unread grew too large.
    HungUp,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotMade(reason) => write!(f, "{reason}"),
            Self::Lost => f.write_str("the peer hung up"),
            Self::Violation(violation) => write!(f, "{violation}"),
            Self::HandshakeTimeout => f.write_str("the handshake took too long"),
            Self::Silent => f.write_str("the peer was silent for too long"),
            Self::TooManyPrefixes => f.write_str("the peer asked for too many prefixes"),
            Self::HungUp => f.write_str("it was hung up on"),
        }
    }
}
