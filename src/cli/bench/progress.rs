//! How far a benchmark has come: the view, a line that is rewritten on a terminal, or a line a step and one every ten
//! seconds elsewhere.

use std::{io::IsTerminal, path::PathBuf, time::Duration};

use crate::{
    bench::{LatencyRun, Progress, Tells, ThroughputRun, Verdict},
    cli::{
        say,
        status_line::{self, show_line},
        tui::{BenchView, Left},
    },
    clock::{Deadline, Stopwatch},
};

/// How long a run flat out is taken to be until one has shown it.
pub(super) const RUN_GUESS: Duration = Duration::from_secs(2);

/// Says how far a benchmark has come, on standard error.
pub(super) struct Lines {
    on_terminal: bool,
    pub view: Option<BenchView>,
    /// Where the files of steps are.
    folder: PathBuf,
    /// How long the step under way takes, where it does not know itself.
    pub expected: Duration,
    /// What takes time after it, where that is known.
    pub after: Duration,
    /// Whether steps may follow that nobody knows of yet.
    pub is_least: bool,
    since: Stopwatch,
    show_at: Deadline,
}

impl Lines {
    pub(super) fn new(folder: PathBuf) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        Self {
            on_terminal,
            view: None,
            folder,
            expected: Duration::ZERO,
            after: Duration::ZERO,
            is_least: false,
            since: Stopwatch::start(),
            show_at: Deadline::after(status_line::every(on_terminal)),
        }
    }

    /// Clears the line that says how much time is left.
    pub(super) fn clear(&self) {
        if self.on_terminal && self.view.is_none() {
            show_line("", true);
        }
    }

    /// Shows a run at a rate, with what it says in a word.
    fn show_at_rate(&self, name: String, verdict: (&str, bool), run: &LatencyRun) {
        if let Some(view) = &self.view {
            let verdict = (verdict.0.to_owned(), verdict.1);
            view.board().done.note_at_rate(name, verdict, run);
        }
    }

    /// Shows a run at a rate.
    pub(super) fn show_run(&self, name: &str, run: &LatencyRun) {
        let is_ok = run.verdict == Verdict::Ok;
        let word = if is_ok { "OK" } else { "INVALID" };
        self.show_at_rate(name.to_owned(), (word, is_ok), run);
    }

    /// Shows a run that was held against an objective.
    pub(super) fn show_step(&self, name: String, tells: Tells, run: &LatencyRun) {
        let word = match tells {
            Tells::Holds => "holds",
            Tells::Breaks => "breaks",
            Tells::GeneratorLimit | Tells::Nothing => "INVALID",
        };
        self.show_at_rate(name, (word, tells == Tells::Holds), run);
    }

    /// Shows a run flat out.
    pub(super) fn show_flat_out(&self, name: &str, run: &ThroughputRun) {
        if let Some(view) = &self.view {
            view.board().done.note_flat_out(name, run.clone());
        }
    }

    /// Returns how much time is left, if the step under way takes `left` from now on, or does not know.
    fn left_after(&self, left: Duration) -> Duration {
        let elapsed = Duration::from_nanos(self.since.elapsed_ns());
        let step = match left.is_zero() {
            true => self.expected.saturating_sub(elapsed),
            false => left,
        };
        step + self.after
    }

    fn in_words(&self, left: Duration) -> String {
        let least = if self.is_least { "at least " } else { "" };
        format!(" ({least}{:.0} s left)", left.as_secs_f64())
    }
}

impl Progress for Lines {
    fn begin(&mut self, step: &str, left: Duration, generators: &[u32], subject: u32) {
        self.since = Stopwatch::start();
        self.show_at = Deadline::after(status_line::every(self.on_terminal));
        if let Some(view) = &self.view {
            view.begin(step, self.folder.join(step));
        }
        let ids: Vec<String> = generators.iter().map(u32::to_string).collect();
        let generator = match &ids[..] {
            [one] => format!("generator is process {one}"),
            several => format!("publishers are processes {}", several.join(" ")),
        };
        say(format_args!(
            "{step}{}: {generator}, subject is process {subject}",
            self.in_words(self.left_after(left))
        ));
    }

    fn left(&mut self, step: &str, left: Duration) {
        let time = self.left_after(left);
        if let Some(view) = &self.view {
            let is_least = self.is_least;
            view.board().left = Some(Left { time, is_least });
        } else if self.show_at.passed() {
            self.show_at = Deadline::after(status_line::every(self.on_terminal));
            let line = format!("{step}{}", self.in_words(time));
            if self.on_terminal {
                show_line(&line, true);
            } else {
                say(format_args!("{line}"));
            }
        }
    }
}

/// How long rounds of the same steps take: each step as long as in the round before, or as a first guess.
pub(super) struct Rounds {
    guess: Duration,
    took: Vec<Option<Duration>>,
    since: Stopwatch,
}

impl Rounds {
    pub(super) fn new(steps: usize, guess: Duration) -> Self {
        Self {
            guess,
            took: vec![None; steps],
            since: Stopwatch::start(),
        }
    }

    /// Begins a step, after which `rounds` whole rounds are to come.
    pub(super) fn begin(&mut self, step: usize, rounds: usize, lines: &mut Lines) {
        let takes = |took: &Option<Duration>| took.unwrap_or(self.guess);
        let round: Duration = self.took.iter().map(takes).sum();
        let rest: Duration = self.took[step + 1..].iter().map(takes).sum();
        (lines.expected, lines.after) = (takes(&self.took[step]), rest + round * rounds as u32);
        self.since = Stopwatch::start();
    }

    /// Ends a step.
    pub(super) fn end(&mut self, step: usize) {
        self.took[step] = Some(Duration::from_nanos(self.since.elapsed_ns()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_guessed_then_known() {
        let second = Duration::from_secs(1);
        let mut lines = Lines::new(PathBuf::new());
        let mut rounds = Rounds::new(3, 2 * second);
        rounds.begin(0, 4, &mut lines);
        assert_eq!((lines.expected, lines.after), (2 * second, 28 * second));
        rounds.took = vec![Some(second), Some(3 * second), None];
        rounds.begin(1, 1, &mut lines);
        assert_eq!((lines.expected, lines.after), (3 * second, 8 * second));
        assert!(lines.left_after(Duration::ZERO) > 10 * second);
        assert_eq!(lines.left_after(5 * second), 13 * second);
        lines.is_least = true;
        assert_eq!(lines.in_words(13 * second), " (at least 13 s left)");
    }
}
