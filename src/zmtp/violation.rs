//! What a peer may not do.

/// Why a connection cannot go on: what its peer sent is not what the protocol allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The first bytes are not those of a ZMTP greeting.
    #[error("what the peer sends is not ZMTP")]
    NotZmtp,
    /// The greeting is of ZMTP 1 or 2.
    #[error("the peer speaks a version of ZMTP before 3.0")]
    OldVersion,
    /// The greeting asks for a security mechanism other than NULL.
    #[error("the peer asks for another security mechanism than NULL")]
    WrongMechanism,
    /// The handshake's command is missing, or is another.
    #[error("the peer did not send READY after its greeting")]
    NotReady,
    /// The handshake's command says that the peer's socket is of a type that does not go with ours.
    #[error("the peer's socket is of the wrong type")]
    WrongSocketType,
    /// The peer sent ERROR.
    #[error("the peer refused the connection")]
    Refused,
    /// A frame's flags have bits set that mean nothing.
    #[error("a frame has reserved flags")]
    ReservedFlags,
    /// A command is flagged as having more frames.
    #[error("a command is flagged as having more frames")]
    CommandWithMore,
    /// A command stands between the frames of a message.
    #[error("a command stands within a message")]
    CommandInMessage,
    /// A frame's length is above the limit.
    #[error("a frame is larger than the limit")]
    FrameTooLarge,
    /// A command's length is above the limit.
    #[error("a command is larger than the limit")]
    CommandTooLarge,
    /// A command's body contradicts itself.
    #[error("a command is malformed")]
    MalformedCommand,
}

impl Violation {
    /// All violations, in the order that counters keep them.
    pub const ALL: [Self; 12] = [
        Self::NotZmtp,
        Self::OldVersion,
        Self::WrongMechanism,
        Self::NotReady,
        Self::WrongSocketType,
        Self::Refused,
        Self::ReservedFlags,
        Self::CommandWithMore,
        Self::CommandInMessage,
        Self::FrameTooLarge,
        Self::CommandTooLarge,
        Self::MalformedCommand,
    ];

    /// Returns the violation's name in summaries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotZmtp => "not_zmtp",
            Self::OldVersion => "old_version",
            Self::WrongMechanism => "wrong_mechanism",
            Self::NotReady => "not_ready",
            Self::WrongSocketType => "wrong_socket_type",
            Self::Refused => "refused_by_peer",
            Self::ReservedFlags => "reserved_flags",
            Self::CommandWithMore => "command_with_more",
            Self::CommandInMessage => "command_in_message",
            Self::FrameTooLarge => "frame_too_large",
            Self::CommandTooLarge => "command_too_large",
            Self::MalformedCommand => "malformed_command",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_find_each_at_its_number() {
        for (number, violation) in Violation::ALL.into_iter().enumerate() {
            assert_eq!(violation as usize, number);
        }
    }
}
