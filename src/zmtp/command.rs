//! Commands: a name, and a body that the name gives a meaning.

use crate::zmtp::{
    Metadata, SocketType, Version, Violation,
    frame::{COMMAND, encode_head},
    metadata::encode_socket_type,
};

/// The most bytes of context that a PING may carry.
const CONTEXT_BYTES_MAX: usize = 16;

/// A command, as it stands in its frame's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// The end of the sender's handshake.
    Ready {
        /// What it says of its socket.
        metadata: Metadata<'a>,
    },
    /// A refusal, with a reason for people.
    Error {
        /// The reason.
        reason: &'a [u8],
    },
    /// The start or the end of a subscription.
    Subscription(Subscription<'a>),
    /// A heartbeat, to be answered by a PONG.
    Ping {
        /// How long the sender may be silent from now on before it should be taken for dead, in tenths
        /// of a second; 0 for any time.
        ttl_deciseconds: u16,
        /// What the PONG has to carry.
        context: &'a [u8],
    },
    /// The answer to a heartbeat.
    Pong {
        /// What the PING carried.
        context: &'a [u8],
    },
    /// A command that this version does not know, to be ignored after the handshake.
    Unknown,
}

/// The start or the end of a subscription to all messages that begin with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription<'a> {
    /// From now on.
    Start(&'a [u8]),
    /// No longer.
    End(&'a [u8]),
}

impl<'a> Command<'a> {
    /// Reads the body of a command's frame.
    ///
    /// # Errors
    /// [`Violation::MalformedCommand`].
    pub fn decode(body: &'a [u8]) -> Result<Self, Violation> {
        let (name, body) = short_prefixed(body)?;
        Ok(match name {
            b"READY" => Self::Ready {
                metadata: Metadata::decode(body)?,
            },
            b"ERROR" => Self::Error {
                reason: short_prefixed(body)?.0,
            },
            b"SUBSCRIBE" => Self::Subscription(Subscription::Start(body)),
            b"CANCEL" => Self::Subscription(Subscription::End(body)),
            b"PING" => {
                let Some((ttl, context)) = body.split_first_chunk() else {
                    return Err(Violation::MalformedCommand);
                };
                if context.len() > CONTEXT_BYTES_MAX {
                    return Err(Violation::MalformedCommand);
                }
                Self::Ping {
                    ttl_deciseconds: u16::from_be_bytes(*ttl),
                    context,
                }
            }
            b"PONG" => Self::Pong { context: body },
            _ => Self::Unknown,
        })
    }
}

impl<'a> Subscription<'a> {
    /// Reads a message by which ZMTP 3.0 subscribes, or returns `None` where the message is another.
    #[must_use]
    pub fn decode_message(frame: &'a [u8]) -> Option<Self> {
        match frame.split_first()? {
            (1, prefix) => Some(Self::Start(prefix)),
            (0, prefix) => Some(Self::End(prefix)),
            _ => None,
        }
    }
}

/// Splits what a byte of length stands before from the rest.
pub(super) fn short_prefixed(bytes: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let (&length, rest) = bytes.split_first().ok_or(Violation::MalformedCommand)?;
    rest.split_at_checked(length.into())
        .ok_or(Violation::MalformedCommand)
}

fn encode(out: &mut Vec<u8>, name: &str, parts: &[&[u8]]) {
    let body_bytes: usize = parts.iter().map(|part| part.len()).sum();
    encode_head(out, COMMAND, 1 + name.len() + body_bytes);
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Appends READY with the socket's type.
pub fn encode_ready(out: &mut Vec<u8>, socket_type: SocketType) {
    let mut metadata = Vec::new();
    encode_socket_type(&mut metadata, socket_type);
    encode(out, "READY", &[&metadata]);
}

/// Appends ERROR with a reason of at most 255 bytes; what is longer is cut.
pub fn encode_error(out: &mut Vec<u8>, reason: &str) {
    let reason = &reason.as_bytes()[..reason.len().min(u8::MAX.into())];
    encode(out, "ERROR", &[&[reason.len() as u8], reason]);
}

/// Appends a PING with a context of at most 16 bytes; what is longer is cut.
pub fn encode_ping(out: &mut Vec<u8>, ttl_deciseconds: u16, context: &[u8]) {
    let context = &context[..context.len().min(CONTEXT_BYTES_MAX)];
    encode(out, "PING", &[&ttl_deciseconds.to_be_bytes(), context]);
}

/// Appends the answer to a PING with this context.
pub fn encode_pong(out: &mut Vec<u8>, context: &[u8]) {
    encode(out, "PONG", &[context]);
}

/// Appends a subscription in the form that a peer of this version understands: a command for 3.1, a
/// message for 3.0.
pub fn encode_subscription(out: &mut Vec<u8>, to: Version, subscription: Subscription<'_>) {
    let (name, number, prefix) = match subscription {
        Subscription::Start(prefix) => ("SUBSCRIBE", 1, prefix),
        Subscription::End(prefix) => ("CANCEL", 0, prefix),
    };
    if to >= Version::V3_1 {
        encode(out, name, &[prefix]);
    } else {
        encode_head(out, 0, 1 + prefix.len());
        out.push(number);
        out.extend_from_slice(prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zmtp::frame::{LONG_HEAD_BYTES, SHORT_HEAD_BYTES};

    fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out);
        out
    }

    /// Pins the bytes of the specification's examples.
    #[test]
    fn commands_are_as_the_specification_says() {
        assert_eq!(
            encoded(|out| encode_ready(out, SocketType::Sub)),
            b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB"
        );
        assert_eq!(
            encoded(|out| encode_error(out, "no")),
            b"\x04\x09\x05ERROR\x02no"
        );
        assert_eq!(
            encoded(|out| encode_ping(out, 30, b"")),
            b"\x04\x07\x04PING\0\x1e"
        );
        assert_eq!(
            encoded(|out| encode_ping(out, 30, b"0123456789abcdefgh")),
            b"\x04\x17\x04PING\0\x1e0123456789abcdef"
        );
        assert_eq!(
            encoded(|out| encode_pong(out, b"ctx")),
            b"\x04\x08\x04PONGctx"
        );
        let start = Subscription::Start(b"BTC");
        let end = Subscription::End(b"BTC");
        let form = |to, one| encoded(|out| encode_subscription(out, to, one));
        assert_eq!(form(Version::V3_1, start), b"\x04\x0d\x09SUBSCRIBEBTC");
        assert_eq!(form(Version::V3_1, end), b"\x04\x0a\x06CANCELBTC");
        assert_eq!(form(Version::V3_0, start), b"\0\x04\x01BTC");
        assert_eq!(form(Version::V3_0, end), b"\0\x04\0BTC");
    }

    #[test]
    fn what_is_encoded_decodes() {
        let long = [b'x'; 300];
        let head_bytes = |command: &[u8]| {
            if command[0] & 2 == 0 {
                SHORT_HEAD_BYTES
            } else {
                LONG_HEAD_BYTES
            }
        };
        for (command, expected) in [
            (
                encoded(|out| encode_ready(out, SocketType::XPub)),
                Command::Ready {
                    metadata: Metadata::decode(b"\x0bSocket-Type\0\0\0\x04XPUB").unwrap(),
                },
            ),
            (
                encoded(|out| encode_error(out, "no")),
                Command::Error { reason: b"no" },
            ),
            (
                encoded(|out| encode_ping(out, 7, b"ctx")),
                Command::Ping {
                    ttl_deciseconds: 7,
                    context: b"ctx",
                },
            ),
            (
                encoded(|out| encode_pong(out, b"ctx")),
                Command::Pong { context: b"ctx" },
            ),
            (
                encoded(|out| encode_subscription(out, Version::V3_1, Subscription::Start(&long))),
                Command::Subscription(Subscription::Start(&long)),
            ),
            (b"\x04\x03\x02HM".to_vec(), Command::Unknown),
        ] {
            assert_eq!(
                Command::decode(&command[head_bytes(&command)..]),
                Ok(expected)
            );
        }
    }

    #[test]
    fn contradictions_are_violations() {
        for body in [
            &b""[..],
            b"\x06READY",
            b"\x05READY\x0bSocket-Type\0\0\0\x04SUB",
            b"\x05READY\x0bSocket-Type\0\0",
            b"\x05READY\x0bSocket",
            b"\x05ERROR",
            b"\x05ERROR\x03no",
            b"\x04PING\0",
            b"\x04PING\0\0seventeen bytes..",
        ] {
            assert_eq!(
                Command::decode(body),
                Err(Violation::MalformedCommand),
                "{body:?}"
            );
        }
    }

    #[test]
    fn the_older_form_of_subscriptions() {
        assert_eq!(
            Subscription::decode_message(b"\x01BTC"),
            Some(Subscription::Start(b"BTC"))
        );
        assert_eq!(
            Subscription::decode_message(b"\0"),
            Some(Subscription::End(b""))
        );
        assert_eq!(Subscription::decode_message(b""), None);
        assert_eq!(Subscription::decode_message(b"hello"), None);
    }
}
