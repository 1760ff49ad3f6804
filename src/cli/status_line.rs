//! The line that says how far something has come: rewritten on a terminal, and one more at a time elsewhere.

use std::{io::Write, time::Duration};

/// How often the line of a terminal is rewritten.
const REWRITE_EVERY: Duration = Duration::from_secs(1);
/// How often a line is said elsewhere.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Returns how often it is to be shown, on a terminal or elsewhere.
pub(super) fn every(on_terminal: bool) -> Duration {
    if on_terminal {
        REWRITE_EVERY
    } else {
        SAY_EVERY
    }
}

/// Shows the line anew, on a terminal in place of the one before.
pub(super) fn show_line(line: &str, on_terminal: bool) {
    let mut out = std::io::stderr();
    // Back to the start of the line, and clear it. A longer one would leave a piece behind.
    let _ = if on_terminal {
        let columns = rustix::termios::tcgetwinsize(&out).map_or(80, |size| size.ws_col.into());
        let cut: String = line.chars().take(columns).collect();
        write!(out, "\r\x1b[2K{cut}").and_then(|()| out.flush())
    } else {
        writeln!(out, "{line}")
    };
}
