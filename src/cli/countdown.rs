//! How much time is left of something that takes a known time: a line that is rewritten on a terminal, or one every ten
//! seconds elsewhere.

use std::{
    io::IsTerminal,
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    cli::{
        say,
        status_line::{self, show_line},
    },
    clock::{Deadline, Stopwatch},
    stop::Stop,
};

/// How often a thread that counts down looks whether it is to end.
const TICK: Duration = Duration::from_millis(100);

/// Time that passes.
pub(super) struct Countdown {
    what: &'static str,
    /// How long it takes; `None` where nobody can tell.
    length: Option<Duration>,
    on_terminal: bool,
    since: Stopwatch,
    show_at: Deadline,
}

impl Countdown {
    /// Begins.
    pub(super) fn new(what: &'static str, length: Option<Duration>) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        Self {
            what,
            length,
            on_terminal,
            since: Stopwatch::start(),
            show_at: Deadline::after(status_line::every(on_terminal)),
        }
    }

    /// Shows how much is left, if it is time to. To be called again and again.
    pub(super) fn look(&mut self) {
        if !self.show_at.passed() {
            return;
        }
        self.show_at = Deadline::after(status_line::every(self.on_terminal));
        let line = self.words(Duration::from_nanos(self.since.elapsed_ns()));
        if self.on_terminal {
            show_line(&line, true);
        } else {
            say(format_args!("{line}"));
        }
    }

    fn words(&self, elapsed: Duration) -> String {
        let what = self.what;
        match self.length {
            Some(length) => {
                let left_s = length.saturating_sub(elapsed).as_secs_f64();
                format!("{what}: {left_s:.0} s left")
            }
            None => format!("{what}: {:.0} s so far", elapsed.as_secs_f64()),
        }
    }

    /// Counts down on a thread of its own, until what is returned is dropped.
    pub(super) fn in_background(mut self) -> Background {
        let end = Stop::default();
        let ended = end.clone();
        let count = move || {
            while !ended.requested() {
                thread::sleep(TICK);
                self.look();
            }
        };
        let name = "countdown".to_owned();
        Background {
            end,
            // Without it there is no line, and all else goes on.
            thread: thread::Builder::new().name(name).spawn(count).ok(),
        }
    }
}

impl Drop for Countdown {
    fn drop(&mut self) {
        if self.on_terminal {
            show_line("", true);
        }
    }
}

/// A thread that counts down. It ends when this is dropped.
pub(super) struct Background {
    end: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end.request();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_and_what_has_passed() {
        let seconds = Duration::from_secs;
        let mut countdown = Countdown::new("publishing", Some(seconds(30)));
        assert_eq!(countdown.words(seconds(12)), "publishing: 18 s left");
        assert_eq!(countdown.words(seconds(31)), "publishing: 0 s left");
        countdown.length = None;
        assert_eq!(countdown.words(seconds(12)), "publishing: 12 s so far");
    }
}
