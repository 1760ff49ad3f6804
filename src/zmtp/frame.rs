//! Frames: a byte of flags, a length of one byte or eight, big-endian, and a body.

use crate::zmtp::Violation;

/// The flag of a frame that is not the last of its message.
pub const MORE: u8 = 0b001;
/// The flag of a frame whose length takes eight bytes.
pub const LONG: u8 = 0b010;
/// The flag of a frame that is a command.
pub const COMMAND: u8 = 0b100;

/// The bytes before the body of a short frame.
pub const SHORT_HEAD_BYTES: usize = 2;
/// The bytes before the body of a long frame, and the most before any.
pub const LONG_HEAD_BYTES: usize = 9;
/// The longest body of a short frame.
pub const SHORT_BODY_BYTES_MAX: usize = u8::MAX as usize;

/// What stands before a frame's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whether another frame of the message follows.
    pub more: bool,
    /// Whether this is a command.
    pub command: bool,
    /// Bytes of the head itself.
    pub head_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
}

/// Reads the head of the frame that `bytes` start with, or returns `None` where not all of it has
/// come.
///
/// `frame_bytes_max` and `command_bytes_max` are the limits on bodies.
///
/// # Errors
/// [`Violation::ReservedFlags`], [`Violation::CommandWithMore`], [`Violation::FrameTooLarge`] and
/// [`Violation::CommandTooLarge`].
#[inline]
pub fn decode_head(
    bytes: &[u8],
    frame_bytes_max: usize,
    command_bytes_max: usize,
) -> Result<Option<Head>, Violation> {
    let Some(&flags) = bytes.first() else {
        return Ok(None);
    };
    if flags & !(MORE | LONG | COMMAND) != 0 {
        return Err(Violation::ReservedFlags);
    }
    let command = flags & COMMAND != 0;
    if command && flags & MORE != 0 {
        return Err(Violation::CommandWithMore);
    }
    let (head_bytes, body_bytes) = if flags & LONG == 0 {
        let Some(&length) = bytes.get(1) else {
            return Ok(None);
        };
        (SHORT_HEAD_BYTES, u64::from(length))
    } else {
        let Some(length) = bytes.get(1..).and_then(<[u8]>::first_chunk) else {
            return Ok(None);
        };
        (LONG_HEAD_BYTES, u64::from_be_bytes(*length))
    };
    let (limit, violation) = if command {
        (command_bytes_max, Violation::CommandTooLarge)
    } else {
        (frame_bytes_max, Violation::FrameTooLarge)
    };
    if body_bytes > limit as u64 {
        return Err(violation);
    }
    Ok(Some(Head {
        more: flags & MORE != 0,
        command,
        head_bytes,
        body_bytes: body_bytes as usize,
    }))
}

/// Appends the head of a frame with a body of `body_bytes` and the flags [`MORE`] or [`COMMAND`], or
/// none: 0.
pub fn encode_head(out: &mut Vec<u8>, flags: u8, body_bytes: usize) {
    match u8::try_from(body_bytes) {
        Ok(length) => out.extend_from_slice(&[flags, length]),
        Err(_) => {
            out.push(flags | LONG);
            out.extend_from_slice(&(body_bytes as u64).to_be_bytes());
        }
    }
}

/// Appends a message's frames.
pub fn encode_message(out: &mut Vec<u8>, frames: &[&[u8]]) {
    for (index, frame) in frames.iter().enumerate() {
        let more = if index + 1 < frames.len() { MORE } else { 0 };
        encode_head(out, more, frame.len());
        out.extend_from_slice(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Option<Head>, Violation> {
        decode_head(bytes, 1 << 20, 1 << 10)
    }

    #[test]
    fn heads_are_as_the_specification_says() {
        for (flags, body_bytes, expected) in [
            (0, 0, &[0, 0][..]),
            (MORE, 255, &[1, 255]),
            (0, 256, &[2, 0, 0, 0, 0, 0, 0, 1, 0]),
            (COMMAND, 5, &[4, 5]),
            (COMMAND, 300, &[6, 0, 0, 0, 0, 0, 0, 1, 44]),
        ] {
            let mut head = Vec::new();
            encode_head(&mut head, flags, body_bytes);
            assert_eq!(head, expected);
            for cut in 0..head.len() {
                assert_eq!(decode(&head[..cut]), Ok(None));
            }
            let decoded = decode(&head).unwrap().unwrap();
            assert_eq!(decoded.more, flags & MORE != 0);
            assert_eq!(decoded.command, flags & COMMAND != 0);
            assert_eq!(
                (decoded.head_bytes, decoded.body_bytes),
                (head.len(), body_bytes)
            );
        }
    }

    #[test]
    fn what_is_forbidden_is_seen_in_the_head() {
        for (bytes, violation) in [
            (&[0x08][..], Violation::ReservedFlags),
            (&[0x80], Violation::ReservedFlags),
            (&[COMMAND | MORE], Violation::CommandWithMore),
            (&[LONG, 0x80, 0, 0, 0, 0, 0, 0, 0], Violation::FrameTooLarge),
            (
                &[LONG, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                Violation::FrameTooLarge,
            ),
            (&[LONG, 0, 0, 0, 0, 0, 0x10, 0, 1], Violation::FrameTooLarge),
            (
                &[LONG | COMMAND, 0, 0, 0, 0, 0, 0, 4, 1],
                Violation::CommandTooLarge,
            ),
        ] {
            assert_eq!(decode(bytes), Err(violation), "{bytes:?}");
        }
    }
}
