//! What a peer says of its socket in READY: properties, each a name and a value.

use crate::zmtp::{SocketType, Violation, command::short_prefixed};

/// The name of the property that every socket has.
const SOCKET_TYPE: &[u8] = b"Socket-Type";

/// Properties, as they stand in READY's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata<'a>(&'a [u8]);

impl<'a> Metadata<'a> {
    /// Takes the properties that make up `bytes`.
    ///
    /// # Errors
    /// [`Violation::MalformedCommand`].
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Violation> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = property(rest)?;
        }
        Ok(Self(bytes))
    }

    /// Returns the properties, name and value, in the order in which they came. Names are ASCII, and their case does not
    /// matter.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (found, behind) = property(rest).ok()?;
            rest = behind;
            Some(found)
        })
    }

    /// Returns the value of a property, the last one where it came several times.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        let named = |(one, _): &(&[u8], &[u8])| one.eq_ignore_ascii_case(name);
        self.iter().filter(named).last().map(|(_, value)| value)
    }

    /// Returns the type of the peer's socket, as text, if it gives one.
    #[must_use]
    pub fn socket_type(&self) -> Option<&'a [u8]> {
        self.get(SOCKET_TYPE)
    }
}

/// Appends the property that a socket is of this type.
pub(super) fn encode_socket_type(out: &mut Vec<u8>, socket_type: SocketType) {
    let value = socket_type.name().as_bytes();
    out.push(SOCKET_TYPE.len() as u8);
    out.extend_from_slice(SOCKET_TYPE);
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

type Property<'a> = (&'a [u8], &'a [u8]);

/// Splits the first property, name and value, from the rest.
fn property(bytes: &[u8]) -> Result<(Property<'_>, &[u8]), Violation> {
    let (name, rest) = short_prefixed(bytes)?;
    let (length, rest) = rest
        .split_first_chunk()
        .ok_or(Violation::MalformedCommand)?;
    let (value, rest) = rest
        .split_at_checked(u32::from_be_bytes(*length) as usize)
        .ok_or(Violation::MalformedCommand)?;
    Ok(((name, value), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_in_order_whatever_their_case() {
        let bytes = b"\x08Identity\0\0\0\x02me\x0bsocket-TYPE\0\0\0\x03PUB\x01X\0\0\0\0";
        let metadata = Metadata::decode(bytes).unwrap();
        let all: Vec<Property<'_>> = metadata.iter().collect();
        let identity = (&b"Identity"[..], &b"me"[..]);
        assert_eq!(all, [identity, (b"socket-TYPE", b"PUB"), (b"X", b"")]);
        assert_eq!(metadata.socket_type(), Some(&b"PUB"[..]));
        assert_eq!(metadata.get(b"identity"), Some(&b"me"[..]));
        assert_eq!(metadata.get(b"Resource"), None);
        assert_eq!(Metadata::decode(b"").unwrap().iter().count(), 0);
    }
}
