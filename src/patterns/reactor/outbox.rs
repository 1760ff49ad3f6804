//! What waits to be sent to one peer: whole messages as bytes, up to a limit.

use std::io::{self, Write};

use socket2::Socket;

use crate::net::is_not_ready;

/// Memory that an empty outbox keeps.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// Bytes that wait for a peer to take them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// Bytes at the front that the socket has taken.
    sent_bytes: usize,
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
                        self.bytes.drain(..self.sent_bytes);
                        self.sent_bytes = 0;
                    }
                    return Ok(());
                }
                Err(broken) => return Err(broken),
            }
        }
        self.bytes.clear();
        self.sent_bytes = 0;
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        Ok(())
    }
}
