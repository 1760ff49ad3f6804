//! Types of sockets, and which go together.

/// The types of sockets that feeds and the patterns around them run between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketType {
    /// Publishes.
    Pub,
    /// Publishes, and sees subscriptions.
    XPub,
    /// Subscribes.
    Sub,
    /// Subscribes, by messages of its own.
    XSub,
    /// Hands messages out, each to one of those that pull.
    Push,
    /// Takes what is pushed.
    Pull,
    /// Talks with each of its peers apart.
    Router,
    /// Talks with its peers.
    Dealer,
    /// Talks with one peer.
    Pair,
}

impl SocketType {
    /// Returns the type's name in READY.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pub => "PUB",
            Self::XPub => "XPUB",
            Self::Sub => "SUB",
            Self::XSub => "XSUB",
            Self::Push => "PUSH",
            Self::Pull => "PULL",
            Self::Router => "ROUTER",
            Self::Dealer => "DEALER",
            Self::Pair => "PAIR",
        }
    }

    /// Tells whether a socket of this type can meet a peer whose READY names this type.
    pub(super) fn goes_with(self, peer: &[u8]) -> bool {
        match self {
            Self::Pub | Self::XPub => matches!(peer, b"SUB" | b"XSUB"),
            Self::Sub | Self::XSub => matches!(peer, b"PUB" | b"XPUB"),
            Self::Push => peer == b"PULL",
            Self::Pull => peer == b"PUSH",
            Self::Router => matches!(peer, b"REQ" | b"DEALER" | b"ROUTER"),
            Self::Dealer => matches!(peer, b"REP" | b"DEALER" | b"ROUTER"),
            Self::Pair => peer == b"PAIR",
        }
    }
}
