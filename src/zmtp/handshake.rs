//! The handshake: greetings, then a READY from each side.

use crate::zmtp::{
    Command, SocketType, Version, Violation, encode_ready,
    frame::{COMMAND, decode_head},
    greeting::{self, GREETING_BYTES},
};

/// The largest READY or ERROR taken from a peer that is still a stranger.
const HANDSHAKE_COMMAND_BYTES_MAX: usize = 8 * 1024;

/// What a handshake tells of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The lower version of the two, which the connection speaks.
    pub version: Version,
    /// What this side is to the other: of several types the one that goes with the peer's.
    pub met_as: SocketType,
}

/// One side's view of a handshake.
#[derive(Clone, Debug)]
pub struct Handshake {
    socket_type: SocketType,
    /// What this side can be as well. Then it waits for the peer's READY to choose.
    or: Option<SocketType>,
    version: Version,
    /// The peer's, once its greeting has come.
    peer_version: Option<Version>,
    /// What the peer's ERROR says, once that has come.
    refusal: Option<String>,
}

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes used; the rest is to be offered again together with what comes after it.
    pub consumed: usize,
    /// The other side, once the handshake is done. What follows is for a
    /// [`Splitter`](crate::zmtp::Splitter).
    pub peer: Option<Peer>,
}

impl Handshake {
    /// Starts a handshake for a socket of this type, and appends what to send first.
    pub fn start(socket_type: SocketType, version: Version, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&greeting::encode(version));
        Self {
            socket_type,
            or: None,
            version,
            peer_version: None,
            refusal: None,
        }
    }

    /// Starts a handshake for a socket of either type, whichever goes with the peer's, and appends what
    /// to send first. The peer has to say what it is before it is told: two such sides would wait for
    /// each other, so this is for those who are connected to.
    pub fn start_either(
        socket_type: SocketType,
        or: SocketType,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Self {
        Self {
            or: Some(or),
            ..Self::start(socket_type, version, out)
        }
    }

    /// Returns why the peer refused the handshake, in its own words, after [`Violation::Refused`], if it gave a reason:
    /// up to 255 bytes, escaped as in a string of ASCII.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Takes what has come from the peer, and appends what to send next.
    ///
    /// # Errors
    /// The [`Violation`].
    pub fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Progress, Violation> {
        let mut consumed = 0;
        if self.peer_version.is_none() {
            let Some(version) = greeting::decode(bytes)? else {
                return Ok(Progress {
                    consumed,
                    peer: None,
                });
            };
            consumed = GREETING_BYTES;
            self.peer_version = Some(version.min(self.version));
            if self.or.is_none() {
                encode_ready(out, self.socket_type);
            }
        }
        let peer = self.read_ready(&bytes[consumed..])?;
        Ok(match (peer, self.peer_version) {
            (Some((ready_bytes, met_as)), Some(version)) => {
                if self.or.is_some() {
                    encode_ready(out, met_as);
                }
                Progress {
                    consumed: consumed + ready_bytes,
                    peer: Some(Peer { version, met_as }),
                }
            }
            _ => Progress {
                consumed,
                peer: None,
            },
        })
    }

    /// Reads the peer's READY, and returns how many bytes it takes, and what this side is to the peer.
    fn read_ready(&mut self, bytes: &[u8]) -> Result<Option<(usize, SocketType)>, Violation> {
        let limit = HANDSHAKE_COMMAND_BYTES_MAX;
        let head = decode_head(bytes, usize::MAX, limit)?;
        if bytes.first().is_some_and(|flags| flags & COMMAND == 0) {
            return Err(Violation::NotReady);
        }
        let Some(head) = head else {
            return Ok(None);
        };
        let whole = head.head_bytes + head.body_bytes;
        let Some(body) = bytes.get(head.head_bytes..whole) else {
            return Ok(None);
        };
        match Command::decode(body)? {
            Command::Ready { metadata } => {
                let mut types = [Some(self.socket_type), self.or].into_iter().flatten();
                let peer = metadata.socket_type();
                let met_as = peer.and_then(|peer| types.find(|one| one.goes_with(peer)));
                met_as.map_or(Err(Violation::WrongSocketType), |met_as| {
                    Ok(Some((whole, met_as)))
                })
            }
            Command::Error { reason } => {
                self.refusal = (!reason.is_empty()).then(|| reason.escape_ascii().to_string());
                Err(Violation::Refused)
            }
            _ => Err(Violation::NotReady),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zmtp::{encode_error, encode_ping, frame::LONG};

    fn sub() -> Handshake {
        Handshake::start(SocketType::Sub, Version::V3_1, &mut Vec::new())
    }

    fn from_peer(version: Version, rest: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = greeting::encode(version).to_vec();
        rest(&mut bytes);
        bytes
    }

    #[test]
    fn two_sides_agree_whatever_the_pieces() {
        for step in 1..=100 {
            let (mut to_pub, mut to_sub) = (Vec::new(), Vec::new());
            let mut sides = [
                Handshake::start(SocketType::Sub, Version::V3_1, &mut to_pub),
                Handshake::start(SocketType::Pub, Version::V3_0, &mut to_sub),
            ];
            let mut inboxes = [Vec::new(), Vec::new()];
            let mut peers = [None, None];
            for _ in 0..200 {
                let piece: Vec<u8> = to_sub.drain(..step.min(to_sub.len())).collect();
                inboxes[0].extend(piece);
                let piece: Vec<u8> = to_pub.drain(..step.min(to_pub.len())).collect();
                inboxes[1].extend(piece);
                for (side, out) in [(0, &mut to_pub), (1, &mut to_sub)] {
                    if peers[side].is_none() {
                        let progress = sides[side].advance(&inboxes[side], out).unwrap();
                        inboxes[side].drain(..progress.consumed);
                        peers[side] = progress.peer;
                    }
                }
            }
            let expected = [SocketType::Sub, SocketType::Pub].map(|met_as| {
                let version = Version::V3_0;
                Some(Peer { version, met_as })
            });
            assert_eq!(peers, expected, "pieces of {step}");
        }
    }

    #[test]
    fn a_socket_of_either_type_is_what_its_peer_needs() {
        for (peer, expected) in [
            (SocketType::Push, Some(SocketType::Pull)),
            (SocketType::Pub, Some(SocketType::Sub)),
            (SocketType::Dealer, None),
        ] {
            let mut out = Vec::new();
            let (first, or) = (SocketType::Pull, SocketType::Sub);
            let mut side = Handshake::start_either(first, or, Version::V3_1, &mut out);
            let bytes = from_peer(Version::V3_1, |out| encode_ready(out, peer));
            out.clear();
            let outcome = side.advance(&bytes, &mut out);
            let met_as = outcome.map(|progress| progress.peer.map(|peer| peer.met_as));
            assert_eq!(
                met_as,
                expected.map_or(Err(Violation::WrongSocketType), |one| Ok(Some(one)))
            );
            let mut answer = Vec::new();
            if let Some(met_as) = expected {
                encode_ready(&mut answer, met_as);
            }
            assert_eq!(out, answer);
        }
    }

    #[test]
    fn what_follows_the_handshake_is_left() {
        let mut bytes = from_peer(Version::V3_1, |out| encode_ready(out, SocketType::Pub));
        let handshake_bytes = bytes.len();
        bytes.extend_from_slice(b"\0\x02hi");
        let progress = sub().advance(&bytes, &mut Vec::new()).unwrap();
        assert_eq!(progress.consumed, handshake_bytes);
        assert!(progress.peer.is_some());
    }

    #[test]
    fn each_wrong_start_has_its_name() {
        for (bytes, violation) in [
            (
                from_peer(Version::V3_1, |out| encode_ready(out, SocketType::Sub)),
                Violation::WrongSocketType,
            ),
            (
                from_peer(Version::V3_1, |out| out.extend(b"\x04\x06\x05READY")),
                Violation::WrongSocketType,
            ),
            (
                from_peer(Version::V3_1, |out| encode_error(out, "go away")),
                Violation::Refused,
            ),
            (
                from_peer(Version::V3_1, |out| encode_ping(out, 0, b"")),
                Violation::NotReady,
            ),
            (
                from_peer(Version::V3_1, |out| out.extend(b"\0\x02hi")),
                Violation::NotReady,
            ),
            // The first byte of a message, whatever its length.
            (
                from_peer(Version::V3_1, |out| out.push(LONG)),
                Violation::NotReady,
            ),
            (
                from_peer(Version::V3_1, |out| {
                    out.extend(b"\x02\x80\0\0\0\0\0\0\0");
                }),
                Violation::NotReady,
            ),
            (
                from_peer(Version::V3_1, |out| {
                    out.extend(b"\x06\0\0\0\0\x40\0\0\0");
                }),
                Violation::CommandTooLarge,
            ),
            (
                from_peer(Version::V3_1, |out| out.extend(b"\x05\x06\x05READY")),
                Violation::CommandWithMore,
            ),
        ] {
            let outcome = sub().advance(&bytes, &mut Vec::new());
            assert_eq!(outcome, Err(violation), "{bytes:?}");
        }
    }
}
