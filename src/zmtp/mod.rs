//! ZMTP 3.0 and 3.1, the protocol of ZeroMQ connections, for publishers and subscribers: bytes in,
//! events out. No sockets, no clock, no thread.
//!
//! A connection begins with a [`greeting`] from each side and a [`Handshake`], after which a
//! [`Splitter`] cuts what arrives into messages and [commands](Command). Everything borrows: a frame is
//! a slice of the caller's buffer, wherever it lies there. What a peer can make its reader hold is
//! bounded by [`Limits`], and everything that the protocol forbids is a [`Violation`], found before the
//! body of its frame has come.
//!
//! The specifications are [23/ZMTP](https://rfc.zeromq.org/spec/23/) and
//! [37/ZMTP](https://rfc.zeromq.org/spec/37/). The mechanism is NULL. Sizes are in bytes.

mod command;
pub mod frame;
pub mod greeting;
mod handshake;
mod metadata;
mod socket_type;
mod splitter;
mod violation;

pub use command::{
    Command, Subscription, encode_error, encode_ping, encode_pong, encode_ready,
    encode_subscription,
};
pub use greeting::Version;
pub use handshake::{Handshake, Peer, Progress};
pub use metadata::Metadata;
pub use socket_type::SocketType;
pub use splitter::{Cut, Frames, Limits, Oversize, Splitter};
pub use violation::Violation;
