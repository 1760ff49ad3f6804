//! What waits to be sent to one peer: whole messages as bytes, up to a limit.

use std::io::{self, Write};

use socket2::Socket;

use crate::{net::is_not_ready, zmtp::frame::decode_head};

/// Memory that an empty outbox keeps.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// Bytes that wait for a peer to take them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// Bytes at the front that the socket has taken.
    sent_bytes: usize,
    /// Bytes at the front that are no frames but the handshake; `None` as long as there is nothing else.
    before_frames: Option<usize>,
}

impl Outbox {
    /// Returns how many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent_bytes
    }

    /// Returns where to append whole messages and commands.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Notes that the handshake is over: what is appended from now on are messages and commands.
    pub(super) fn begin_frames(&mut self) {
        self.before_frames = Some(self.bytes.len());
    }

    /// Writes what the socket takes.
    pub(super) fn write(&mut self, mut socket: &Socket) -> io::Result<()> {
        while self.sent_bytes < self.bytes.len() {
            match socket.write(&self.bytes[self.sent_bytes..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => self.sent_bytes += sent,
                Err(full) if is_not_ready(&full) => {
                    // What was sent is given up once it is more than what waits, so each byte is moved
                    // once at most.
                    if self.sent_bytes > self.len() {
                        self.forget_sent();
                    }
                    return Ok(());
                }
                Err(broken) => return Err(broken),
            }
        }
        self.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        Ok(())
    }

    /// Gives up all that waits.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.sent_bytes = 0;
        self.before_frames = self.before_frames.map(|_| 0);
    }

    /// Returns how many messages wait of which something was not sent.
    pub(super) fn messages(&self) -> u64 {
        let (_, messages) = self.whole();
        messages
    }

    /// Moves what waits to the front, from the start of the message that is being sent.
    fn forget_sent(&mut self) {
        let sent_bytes = match self.before_frames {
            None => self.sent_bytes,
            Some(_) => self.whole().0,
        };
        if sent_bytes > 0 {
            self.bytes.drain(..sent_bytes);
            self.sent_bytes -= sent_bytes;
            self.before_frames = self.before_frames.map(|_| 0);
        }
    }

    /// Returns where the first message or command starts of which something was not sent, and how many messages
    /// there are from there on.
    fn whole(&self) -> (usize, u64) {
        let (mut start, mut messages) = (0, 0);
        let mut at = self.before_frames.unwrap_or(self.bytes.len());
        // Frames that were put here are within any limit.
        while let Ok(Some(head)) = decode_head(&self.bytes[at..], usize::MAX, usize::MAX) {
            at += head.head_bytes + head.body_bytes;
            if head.more {
                continue;
            }
            if at <= self.sent_bytes {
                start = at;
            } else {
                messages += u64::from(!head.command);
            }
        }
        (start, messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zmtp::{encode_ping, frame::encode_message};

    #[test]
    fn messages_that_wait_are_those_of_which_something_was_not_sent() {
        let mut outbox = Outbox::default();
        outbox.room().extend_from_slice(&[0xff; 70]);
        assert_eq!(outbox.messages(), 0);
        outbox.begin_frames();
        let mut ends = Vec::new();
        for frames in [&[&b"A"[..], &[7; 300]][..], &[b"B"], &[b"", b"", b"C"]] {
            encode_message(outbox.room(), frames);
            ends.push(outbox.len());
            encode_ping(outbox.room(), 0, b"");
        }
        for sent_bytes in 0..outbox.bytes.len() {
            outbox.sent_bytes = sent_bytes;
            let waiting = ends.iter().filter(|&&end| end > sent_bytes).count() as u64;
            assert_eq!(outbox.messages(), waiting, "{sent_bytes} sent");
            let mut moved = Outbox {
                bytes: outbox.bytes.clone(),
                ..outbox
            };
            moved.forget_sent();
            assert_eq!(moved.messages(), waiting, "{sent_bytes} sent, moved");
            assert_eq!(moved.len(), outbox.len());
            assert!(moved.bytes.ends_with(&outbox.bytes[sent_bytes..]));
        }
    }
}
