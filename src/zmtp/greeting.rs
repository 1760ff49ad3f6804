//! The 64 bytes that each side of a connection sends first.
//!
//! | offset | bytes | content                                                         |
//! |--------|-------|-----------------------------------------------------------------|
//! | 0      | 1     | `FF`                                                            |
//! | 1      | 8     | anything: libzmq fills in a length that ZMTP 1 would understand |
//! | 9      | 1     | `7F`                                                            |
//! | 10     | 2     | major and minor version                                         |
//! | 12     | 20    | mechanism, padded with zeros                                    |
//! | 32     | 1     | as-server, of no meaning to NULL                                |
//! | 33     | 31    | zeros                                                           |
//!
//! Libzmq sends its greeting in pieces and waits between them for ours, so each side sends its own
//! without waiting, and looks at every byte as it comes.

use crate::zmtp::Violation;

/// The bytes of a greeting.
pub const GREETING_BYTES: usize = 64;

const VERSION_AT: usize = 10;
const MECHANISM_AT: usize = 12;
const MECHANISM: [u8; 20] = *b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// A version of ZMTP 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The number after the dot: 1 knows commands for subscriptions and for heartbeats.
    pub minor: u8,
}

impl Version {
    /// ZMTP 3.0.
    pub const V3_0: Self = Self { minor: 0 };
    /// ZMTP 3.1.
    pub const V3_1: Self = Self { minor: 1 };
}

/// Returns the greeting of a side that speaks `version` with the mechanism NULL.
#[must_use]
pub fn encode(version: Version) -> [u8; GREETING_BYTES] {
    let mut greeting = [0; GREETING_BYTES];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[VERSION_AT] = 3;
    greeting[VERSION_AT + 1] = version.minor;
    greeting[MECHANISM_AT..MECHANISM_AT + MECHANISM.len()].copy_from_slice(&MECHANISM);
    greeting
}

/// Looks at what has come of a greeting. Returns the peer's version once all of it has.
///
/// # Errors
/// [`Violation::NotZmtp`], [`Violation::OldVersion`] and [`Violation::WrongMechanism`].
pub fn decode(bytes: &[u8]) -> Result<Option<Version>, Violation> {
    let at = |offset: usize| bytes.get(offset).copied();
    if at(0).is_some_and(|first| first != 0xff) || at(9).is_some_and(|tenth| tenth != 0x7f) {
        return Err(Violation::NotZmtp);
    }
    if at(VERSION_AT).is_some_and(|major| major < 3) {
        return Err(Violation::OldVersion);
    }
    let mechanism = bytes.iter().skip(MECHANISM_AT).zip(&MECHANISM);
    if mechanism.into_iter().any(|(got, expected)| got != expected) {
        return Err(Violation::WrongMechanism);
    }
    if bytes.len() < GREETING_BYTES {
        return Ok(None);
    }
    Ok(Some(match bytes[VERSION_AT] {
        3 => Version {
            minor: bytes[VERSION_AT + 1],
        },
        // One that can speak a later version speaks the latest of ours with us.
        _ => Version::V3_1,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_once_it_is_whole() {
        let greeting = encode(Version::V3_1);
        for cut in 0..GREETING_BYTES {
            assert_eq!(decode(&greeting[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(decode(&greeting), Ok(Some(Version::V3_1)));
    }

    #[test]
    fn padding_is_free_and_later_versions_are_welcome() {
        let mut greeting = encode(Version::V3_0);
        greeting[1..9].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
        greeting[VERSION_AT + 1] = 7;
        greeting[32] = 1;
        assert_eq!(decode(&greeting), Ok(Some(Version { minor: 7 })));
        greeting[VERSION_AT] = 4;
        greeting[VERSION_AT + 1] = 0;
        assert_eq!(decode(&greeting), Ok(Some(Version::V3_1)));
    }

    #[test]
    fn each_wrong_byte_is_seen_as_it_comes() {
        for (offset, byte, violation) in [
            (0, b'G', Violation::NotZmtp),
            (9, 0x00, Violation::NotZmtp),
            (10, 1, Violation::OldVersion),
            (12, b'C', Violation::WrongMechanism),
            (16, b'X', Violation::WrongMechanism),
        ] {
            let mut greeting = encode(Version::V3_1);
            greeting[offset] = byte;
            assert_eq!(decode(&greeting[..offset]), Ok(None));
            assert_eq!(decode(&greeting[..=offset]), Err(violation));
        }
        assert_eq!(decode(b"GET / HTTP/1.1\r\n"), Err(Violation::NotZmtp));
    }
}
