//! How far a benchmark has come: one line that is rewritten on a terminal, a line a step elsewhere.

use std::{io::IsTerminal, time::Duration};

use crate::{
    bench::Progress,
    cli::{live::show_line, say},
};

/// Says how far a benchmark has come, on standard error.
pub(super) struct Lines {
    on_terminal: bool,
    /// What takes time after the step under way, where that is known.
    pub after: Duration,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            on_terminal: std::io::stderr().is_terminal(),
            after: Duration::ZERO,
        }
    }
}

impl Progress for Lines {
    fn begin(&mut self, step: &str, left: Duration, generator: u32, subject: u32) {
        say(format_args!(
            "{step}{}: generator is process {generator}, subject is process {subject}",
            self.in_words(left)
        ));
    }

    fn left(&mut self, step: &str, left: Duration) {
        if self.on_terminal {
            show_line(&format!("{step}{}", self.in_words(left)), true);
        }
    }
}

impl Lines {
    fn in_words(&self, left: Duration) -> String {
        let left = left + self.after;
        if left.is_zero() {
            return String::new();
        }
        format!(" ({:.0} s left)", left.as_secs_f64())
    }
}
