//! A process that a benchmark starts: confined to its cores, heard on both pipes, ended when dropped.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use crossbeam::channel::{self, Receiver, RecvTimeoutError};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use crate::{
    clock::Deadline,
    error::{Error, Result},
    host::pin::confine_current,
    stop::Stop,
};

/// How often a request to stop is looked for.
const TICK: Duration = Duration::from_millis(100);
/// How long a process may take to end with its result once it was asked to.
const ENDING_LIMIT: Duration = Duration::from_secs(20);
/// How long to wait for what a process that failed has said.
const WORDS_LIMIT: Duration = Duration::from_secs(1);

/// A process with one line of JSON to say at its end. Killed, should it still run, when dropped.
pub(super) struct Process {
    /// What it is to the benchmark.
    name: &'static str,
    child: Child,
    /// The lines of standard error.
    words: Receiver<String>,
    /// The first line of standard output; disconnected once that has ended.
    output: Receiver<String>,
    result: Option<String>,
    /// Whether it was asked to end by a signal.
    is_asked_to_end: bool,
}

impl Process {
    /// Starts `program` on these cores.
    pub(super) fn start(
        name: &'static str,
        program: &Path,
        arguments: &[String],
        cores: &[usize],
    ) -> Result<Self> {
        let failed = |error: std::io::Error| Error::Helper {
            helper: name.to_owned(),
            problem: format!("{} can't be started: {error}", program.display()),
        };
        let start = || {
            confine_current(cores)?;
            Command::new(program)
                .args(arguments)
                // A Ctrl-C is for the benchmark, which ends its processes itself.
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        };
        // On a thread of its own, whose cores the process inherits.
        let mut child = thread::scope(|scope| scope.spawn(start).join())
            .map_err(|_| Error::ThreadPanicked {
                thread: name.to_owned(),
            })?
            .map_err(failed)?;
        let (say_word, words) = channel::unbounded();
        let (say_output, output) = channel::bounded(1);
        if let (Some(stderr), Some(stdout)) = (child.stderr.take(), child.stdout.take()) {
            thread::spawn(move || {
                let lines = BufReader::new(stderr).lines().map_while(|line| line.ok());
                // To the end, or a full pipe would stop the process.
                lines.for_each(|line| drop(say_word.send(line)));
            });
            thread::spawn(move || {
                let mut lines = BufReader::new(stdout).lines().map_while(|line| line.ok());
                if let Some(line) = lines.next() {
                    let _ = say_output.send(line);
                }
                lines.for_each(drop);
            });
        }
        Ok(Self {
            name,
            child,
            words,
            output,
            result: None,
            is_asked_to_end: false,
        })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of standard error that begins with `start`, and returns the rest of it.
    pub(super) fn wait_for_line(&mut self, start: &str, limit: Duration) -> Result<String> {
        let deadline = Deadline::after(limit);
        let mut said = Vec::new();
        while let Ok(line) = self.words.recv_timeout(deadline.left()) {
            if let Some(rest) = line.strip_prefix(start) {
                return Ok(rest.to_owned());
            }
            said.push(line);
        }
        Err(self.failed(&said))
    }

    /// Waits until `limit` has passed or the process has said its result, which it returns whether it has.
    ///
    /// # Errors
    /// [`Error::Helper`] where it ended without, [`Error::Stopped`] where `stop` was requested.
    pub(super) fn wait(&mut self, limit: Duration, stop: &Stop) -> Result<bool> {
        let deadline = Deadline::after(limit);
        while self.result.is_none() {
            if stop.requested() {
                return Err(Error::Stopped);
            }
            let left = deadline.left();
            match self.output.recv_timeout(left.min(TICK)) {
                Ok(line) => self.result = Some(line),
                Err(RecvTimeoutError::Disconnected) => return Err(self.failed(&[])),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(true)
    }

    /// Finds out whether it still runs, or has said its result.
    ///
    /// # Errors
    /// [`Error::Helper`] where it ended without.
    pub(super) fn check(&mut self) -> Result<()> {
        let has_ended = matches!(self.child.try_wait(), Ok(Some(_)));
        if self.result.is_none() && has_ended {
            // What it said last may still be on its way.
            let last = self.output.recv_timeout(WORDS_LIMIT);
            self.result = Some(last.map_err(|_| self.failed(&[]))?);
        }
        Ok(())
    }

    /// Asks the process to end, unless it has said its result, and waits for that.
    pub(super) fn conclude<T: DeserializeOwned>(&mut self, stop: &Stop) -> Result<T> {
        if self.result.is_none() {
            // Where it has ended by itself, it is still a child.
            self.is_asked_to_end = true;
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            self.wait(ENDING_LIMIT, stop)?;
        }
        let result = self.result.take();
        let parsed = result.and_then(|line| serde_json::from_str(&line).ok());
        parsed.ok_or_else(|| self.failed(&["it said no result".to_owned()]))
    }

    /// Waits until it has ended, and returns what was wrong with how it did. To be called once it has said its
    /// result.
    ///
    /// # Errors
    /// [`Error::Stopped`] where `stop` was requested.
    pub(super) fn end(&mut self, stop: &Stop) -> Result<Option<String>> {
        let deadline = Deadline::after(ENDING_LIMIT);
        while self.output.recv_timeout(deadline.left().min(TICK))
            != Err(RecvTimeoutError::Disconnected)
        {
            if stop.requested() {
                return Err(Error::Stopped);
            }
            if deadline.passed() {
                let limit = ENDING_LIMIT.as_secs();
                return Ok(Some(format!("{} did not end within {limit} s", self.name)));
            }
        }
        let status = self.child.wait().map_err(|error| Error::Helper {
            helper: self.name.to_owned(),
            problem: format!("its end can't be waited for: {error}"),
        })?;
        Ok((!self.is_clean(status)).then(|| format!("{} ended with {status}", self.name)))
    }

    fn is_clean(&self, status: ExitStatus) -> bool {
        let asked = Signal::TERM.as_raw();
        let by_request = status.code() == Some(128 + asked) || status.signal() == Some(asked);
        status.success() || self.is_asked_to_end && by_request
    }

    /// Returns what it said, as the reason of its failure.
    fn failed(&self, said: &[String]) -> Error {
        let deadline = Deadline::after(WORDS_LIMIT);
        let mut said = said.to_vec();
        while let Ok(line) = self.words.recv_timeout(deadline.left()) {
            said.push(line);
        }
        Error::Helper {
            helper: self.name.to_owned(),
            problem: if said.is_empty() {
                "it ended without a word".to_owned()
            } else {
                said.join("\n")
            },
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It fails where the process has ended, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::topology::usable_cores;

    /// Concludes a shell's script that says a number, and returns what was wrong with its end.
    fn end_of(script: &str, says_it_unasked: bool) -> Option<String> {
        let arguments = ["-c", script].map(str::to_owned);
        let shell = Path::new("/bin/sh");
        let mut process = Process::start("the shell", shell, &arguments, &usable_cores()).unwrap();
        process.wait_for_line("ready", ENDING_LIMIT).unwrap();
        let stop = Stop::default();
        if says_it_unasked {
            assert!(process.wait(ENDING_LIMIT, &stop).unwrap());
        }
        assert_eq!(process.conclude::<u32>(&stop).unwrap(), 7);
        process.end(&stop).unwrap()
    }

    #[test]
    fn an_end_that_is_not_clean_is_told_although_there_is_a_result() {
        assert_eq!(end_of("echo 7; echo ready >&2", true), None);
        assert_eq!(
            end_of("echo 7; echo ready >&2; exit 3", true).unwrap(),
            "the shell ended with exit status: 3"
        );
        let killed = end_of("echo 7; echo ready >&2; kill -9 $$", true).unwrap();
        assert!(killed.contains("signal: 9"), "{killed}");
        assert_eq!(
            end_of(
                "trap 'echo 7; exit 143' TERM; echo ready >&2; while :; do sleep 0.01; done",
                false
            ),
            None,
            "as it was asked to"
        );
    }
}
