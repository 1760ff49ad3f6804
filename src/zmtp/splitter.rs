//! Cutting the bytes after a handshake into messages and commands, where they lie.
//!
//! Multipart messages are all or nothing, so a message is cut off only once its last frame has come.
//! Until then its bytes stay where they are, and its heads are read again when more have come: a
//! handful of them at most, which costs less than keeping track. A message that grows over what
//! [`Limits`] allow in all is not kept: its frames are thrown away one by one, and its end is reported,
//! so that it can be counted.

use crate::zmtp::{
    Violation,
    frame::{COMMAND, Head, LONG, MORE, decode_head},
};

/// The most frames of a message that a [`Splitter`] can cut off, and one more.
const SLOTS: usize = 65;

/// The largest command taken from a peer. It holds any topic that one would subscribe to.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// What a peer may make its reader hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest frame; a larger one is a [`Violation`].
    pub frame_bytes_max: usize,
    /// The largest message, all its frames together; a larger one is [`Cut::Oversize`].
    pub message_bytes_max: usize,
    /// The most frames of a message, 1 to 64; one with more is [`Cut::Oversize`].
    pub frames_max: usize,
}

/// The frames of a message.
#[derive(Clone, Copy, Debug)]
pub struct Frames<'a> {
    slots: [&'a [u8]; SLOTS],
    count: usize,
}

impl Default for Frames<'_> {
    fn default() -> Self {
        Self {
            slots: [&[]; SLOTS],
            count: 0,
        }
    }
}

impl<'a> Frames<'a> {
    /// Returns the frames in order.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[&'a [u8]] {
        &self.slots[..self.count]
    }
}

/// Which limit a message went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversize {
    /// [`Limits::frames_max`].
    Frames,
    /// [`Limits::message_bytes_max`].
    Bytes,
}

/// What stood at the front of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut<'a> {
    /// A message, whose frames were put where the caller said.
    Message,
    /// The body of a command.
    Command(&'a [u8]),
    /// The end of a message that was thrown away, with the bytes of all its frames.
    Oversize(Oversize, u64),
    /// Frames of a message that is being thrown away.
    Skipped,
    /// Nothing whole. There has to be this many bytes for anything more to be said.
    Need(usize),
}

/// Cuts what a peer sends after the handshake.
#[derive(Clone, Debug)]
pub struct Splitter {
    limits: Limits,
    /// Of the message that is being thrown away.
    skipping: Option<(Oversize, u64)>,
}

impl Splitter {
    /// Starts at the first byte after a handshake.
    ///
    /// # Panics
    /// Where the limit on frames is 0 or above 64.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        assert!((1..SLOTS).contains(&limits.frames_max));
        Self {
            limits,
            skipping: None,
        }
    }

    /// Tells whether the peer is in the middle of a message that is being thrown away.
    #[must_use]
    pub fn is_skipping(&self) -> bool {
        self.skipping.is_some()
    }

    /// Tells whether what is `left` of a peer's bytes is part of a message, rather than of a command or of nothing that
    /// has a meaning.
    #[must_use]
    pub fn is_within_message(&self, left: &[u8]) -> bool {
        self.is_skipping()
            || left
                .first()
                .is_some_and(|flags| flags & !(MORE | LONG) == 0)
    }

    /// Cuts off what nearly all of a feed is, messages of `N` short frames, as long as `bytes` start with
    /// them and `messages` has room. Returns how many there were, and how many bytes they took.
    ///
    /// What follows is for [`cut`](Self::cut): something else, or nothing whole.
    #[inline]
    pub fn cut_run<'a, const N: usize>(
        &self,
        bytes: &'a [u8],
        messages: &mut [[&'a [u8]; N]],
    ) -> (usize, usize) {
        if self.skipping.is_some() || N > self.limits.frames_max {
            return (0, 0);
        }
        let mut rest = bytes;
        let mut count = 0;
        for message in messages {
            let Some(after) = self.cut_short(rest, message) else {
                break;
            };
            rest = after;
            count += 1;
        }
        (count, bytes.len() - rest.len())
    }

    /// Cuts off a message of `N` short frames. Returns what is behind it.
    #[inline(always)]
    fn cut_short<'a, const N: usize>(
        &self,
        bytes: &'a [u8],
        message: &mut [&'a [u8]; N],
    ) -> Option<&'a [u8]> {
        let mut rest = bytes;
        let mut message_bytes = 0;
        for (index, frame) in message.iter_mut().enumerate() {
            let [flags, length, after @ ..] = rest else {
                return None;
            };
            let expected = if index + 1 < N { MORE } else { 0 };
            if *flags != expected || usize::from(*length) > self.limits.frame_bytes_max {
                return None;
            }
            (*frame, rest) = after.split_at_checked(usize::from(*length))?;
            message_bytes += frame.len();
        }
        (message_bytes <= self.limits.message_bytes_max).then_some(rest)
    }

    /// Cuts off what `bytes` start with. Returns it and how many bytes it took, none for
    /// [`Cut::Need`].
    ///
    /// # Errors
    /// The [`Violation`], after which nothing that the peer sends has a meaning.
    pub fn cut<'a>(
        &mut self,
        bytes: &'a [u8],
        frames: &mut Frames<'a>,
    ) -> Result<(Cut<'a>, usize), Violation> {
        if self.skipping.is_some() {
            return self.skip(bytes);
        }
        let mut at = 0;
        let mut message_bytes = 0;
        frames.count = 0;
        loop {
            let head = match self.whole_frame(&bytes[at..], at > 0)? {
                Ok(head) => head,
                Err(need) => return Ok((Cut::Need(at + need), 0)),
            };
            let body_at = at + head.head_bytes;
            let end = body_at + head.body_bytes;
            let body = &bytes[body_at..end];
            if head.command {
                return Ok((Cut::Command(body), end));
            }
            message_bytes += body.len();
            let oversize = if frames.count == self.limits.frames_max {
                Some(Oversize::Frames)
            } else if message_bytes > self.limits.message_bytes_max {
                Some(Oversize::Bytes)
            } else {
                None
            };
            if let Some(oversize) = oversize {
                return Ok((
                    self.throw_away(oversize, message_bytes as u64, head.more),
                    end,
                ));
            }
            frames.slots[frames.count] = body;
            frames.count += 1;
            if !head.more {
                return Ok((Cut::Message, end));
            }
            at = end;
        }
    }

    /// Reads the head of a frame that is all there, or says how many bytes there have to be.
    fn whole_frame(
        &self,
        bytes: &[u8],
        within_message: bool,
    ) -> Result<Result<Head, usize>, Violation> {
        if within_message && bytes.first().is_some_and(|flags| flags & COMMAND != 0) {
            return Err(Violation::CommandInMessage);
        }
        let head = decode_head(bytes, self.limits.frame_bytes_max, COMMAND_BYTES_MAX)?;
        let Some(head) = head else {
            return Ok(Err(bytes.len() + 1));
        };
        let whole = head.head_bytes + head.body_bytes;
        Ok(if bytes.len() < whole {
            Err(whole)
        } else {
            Ok(head)
        })
    }

    fn throw_away(&mut self, oversize: Oversize, bytes: u64, more: bool) -> Cut<'static> {
        if more {
            self.skipping = Some((oversize, bytes));
            Cut::Skipped
        } else {
            self.skipping = None;
            Cut::Oversize(oversize, bytes)
        }
    }

    fn skip(&mut self, bytes: &[u8]) -> Result<(Cut<'static>, usize), Violation> {
        let head = match self.whole_frame(bytes, true)? {
            Ok(head) => head,
            Err(need) => return Ok((Cut::Need(need), 0)),
        };
        let (oversize, so_far) = self.skipping.unwrap_or((Oversize::Bytes, 0));
        let cut = self.throw_away(oversize, so_far + head.body_bytes as u64, head.more);
        Ok((cut, head.head_bytes + head.body_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zmtp::frame::encode_message;

    const LIMITS: Limits = Limits {
        frame_bytes_max: 300,
        message_bytes_max: 400,
        frames_max: 3,
    };

    #[test]
    fn messages_are_cut_whole() {
        let sent: [&[&[u8]]; 4] = [&[b"one"], &[b"a", b"", b"ccc"], &[&[7; 300]], &[b""]];
        let mut bytes = Vec::new();
        for frames in sent {
            encode_message(&mut bytes, frames);
        }
        let mut splitter = Splitter::new(LIMITS);
        let mut rest = &bytes[..];
        for expected in sent {
            let mut frames = Frames::default();
            for cut in 0..rest.len() {
                let (found, consumed) = splitter.cut(&rest[..cut], &mut frames).unwrap();
                match found {
                    Cut::Need(need) => assert!(need > cut && consumed == 0),
                    found => {
                        assert_eq!(found, Cut::Message);
                        break;
                    }
                }
            }
            let (found, consumed) = splitter.cut(rest, &mut frames).unwrap();
            assert_eq!((found, frames.as_slice()), (Cut::Message, expected));
            rest = &rest[consumed..];
        }
        let nothing = splitter.cut(rest, &mut Frames::default());
        assert_eq!(nothing, Ok((Cut::Need(1), 0)));
    }

    #[test]
    fn what_is_too_large_in_all_is_thrown_away_and_reported() {
        for (sent, oversize, bytes) in [
            (&[&[1u8; 1][..]; 4][..], Oversize::Frames, 4),
            (&[&[1; 1][..]; 9], Oversize::Frames, 9),
            (&[&[1; 300], &[2; 300], &[3; 7]], Oversize::Bytes, 607),
            (&[&[1; 300], &[2; 300]], Oversize::Bytes, 600),
        ] {
            let mut stream = Vec::new();
            encode_message(&mut stream, sent);
            encode_message(&mut stream, &[b"next"]);
            let mut splitter = Splitter::new(LIMITS);
            let mut frames = Frames::default();
            let mut rest = &stream[..];
            loop {
                let (cut, consumed) = splitter.cut(rest, &mut frames).unwrap();
                rest = &rest[consumed..];
                if cut != Cut::Skipped {
                    assert_eq!(cut, Cut::Oversize(oversize, bytes));
                    break;
                }
            }
            assert!(!splitter.is_skipping());
            let (cut, _) = splitter.cut(rest, &mut frames).unwrap();
            assert_eq!(
                (cut, frames.as_slice()),
                (Cut::Message, &[&b"next"[..]][..])
            );
        }
    }

    #[test]
    fn a_short_frame_above_a_small_limit_is_a_violation() {
        let limits = Limits {
            frame_bytes_max: 10,
            ..LIMITS
        };
        let mut stream = Vec::new();
        encode_message(&mut stream, &[&[1; 11]]);
        let cut = Splitter::new(limits).cut(&stream, &mut Frames::default());
        assert_eq!(cut, Err(Violation::FrameTooLarge));
    }

    #[test]
    fn commands_stand_between_messages_only() {
        let mut splitter = Splitter::new(LIMITS);
        let mut frames = Frames::default();
        let (cut, consumed) = splitter.cut(b"\x04\x05\x04PONG\0", &mut frames).unwrap();
        assert_eq!((cut, consumed), (Cut::Command(b"\x04PONG"), 7));
        // Its first byte shows it, and its length is of no interest any more.
        for within in [&b"\x01\x01a\x04"[..], b"\x01\x01a\x06\x80\0\0\0\0\0\0\0"] {
            let cut = splitter.cut(within, &mut frames);
            assert_eq!(cut, Err(Violation::CommandInMessage));
        }
    }
}
