//! Prints messages as lines, a sample of them.

use std::io::Write;

use crate::{message::Message, worker::Handler};

/// The most bytes of a payload that a line shows.
const PAYLOAD_BYTES_SHOWN: usize = 96;

/// A handler that writes one line for every so many messages.
///
/// A line is: sequence number or `-`, topic, payload, with bytes that are not printable ASCII
/// escaped, and a long payload cut.
#[derive(Debug)]
pub struct Print<W> {
    every: u64,
    seen: u64,
    out: W,
}

impl<W: Write + Send + 'static> Print<W> {
    /// Writes a line to `out` for the first message, and then for every `every`th.
    ///
    /// # Panics
    /// Where `every` is 0.
    #[must_use]
    pub fn new(every: u64, out: W) -> Self {
        assert!(every > 0, "every 0th message is none");
        Self {
            every,
            seen: 0,
            out,
        }
    }
}

impl<W: Write + Send + 'static> Handler for Print<W> {
    fn on_message(&mut self, message: &Message<'_>) {
        let wanted = self.seen.is_multiple_of(self.every);
        self.seen += 1;
        if !wanted {
            return;
        }
        let payload = message.payload();
        let shown = &payload[..payload.len().min(PAYLOAD_BYTES_SHOWN)];
        let sequence = message
            .sequence()
            .map_or_else(|| "-".to_owned(), |sequence| sequence.to_string());
        let line = format!(
            "{sequence} {} {}{}\n",
            message.topic().escape_ascii(),
            shown.escape_ascii(),
            if shown.len() < payload.len() {
                "..."
            } else {
                ""
            },
        );
        // One write a line keeps the lines of several workers apart. A reader that went away is no
        // reason to stop ingesting.
        let _ = self.out.write_all(line.as_bytes());
    }
}
