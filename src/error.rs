//! The one error type: what was asked, what stood in the way, and what to do about it.

use std::{io::ErrorKind, path::PathBuf};

use crate::errno::Errno;

/// A `Result` whose error is pinfeed's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between a configuration and its summary.
///
/// The text of each variant names the place (a configuration key, an endpoint, a path), the value
/// found there and the remedy, so that a program may print it as it is.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration value cannot be carried out on this machine, or makes no sense.
    #[error("{key}{}: {problem}; {remedy}", given(.value))]
    Config {
        /// The configuration key or command-line flag, for instance `lane[0].nic`.
        key: String,
        /// The value found there, as the user wrote it; empty where there is none.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What to write or do instead.
        remedy: String,
    },
    /// A configuration file is not valid TOML, or has an unknown or mistyped key.
    #[error("{path}:{line}:{column}: {problem}")]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The character within it, counted from 1.
        column: usize,
        /// The key, what stands there, and what is wanted.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A capture file has a line that is not `<nanoseconds> <json>`.
    #[error("{path}:{line}: {problem}")]
    Capture {
        /// The capture.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An interval log has a line that cannot be read.
    #[error("{path}:{line}: {problem}; {remedy}")]
    IntervalLog {
        /// The log.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A file of results is missing, damaged, or of a version that is not known.
    #[error("{path}: {problem}; {remedy}")]
    Results {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and where in it.
        problem: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// libzmq refused an operation.
    #[error("{doing}: {source}")]
    Zmq {
        /// The operation and the endpoint or option it was for.
        doing: String,
        /// libzmq's reason.
        source: Errno,
    },
    /// The kernel refused an operation on sockets.
    #[error("{doing}: {source}")]
    Socket {
        /// The operation.
        doing: &'static str,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// The libzmq in this binary lacks what the pins and NIC bindings rest on.
    #[error(
        "this binary holds libzmq {version} without named I/O threads, so they can't be found to be \
         pinned; build with the zmq-sys that pinfeed's repository carries (zmq-sys/README.md)"
    )]
    IncompleteLibzmq {
        /// The version that libzmq reports.
        version: String,
    },
    /// A thread could not be kept on its core.
    #[error(
        "thread {thread} was to run on core {core} but {found}; give it a core that this process \
         may use (`taskset -p $$` shows them), or pass --pin best-effort"
    )]
    Pin {
        /// The thread's name.
        thread: String,
        /// The core asked for.
        core: usize,
        /// What the kernel answered or showed instead.
        found: String,
    },
    /// A thread could not be started.
    #[error("thread {thread} could not be started: {source}")]
    Thread {
        /// The thread's name.
        thread: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A handler panicked; its worker's remaining messages were counted as dropped.
    #[error("the handler of {worker} panicked: {message}")]
    HandlerPanicked {
        /// The worker's name.
        worker: String,
        /// The panic's own message.
        message: String,
    },
    /// Messages were later than `policy.late_after_ms` for longer than `policy.grace_ms`.
    #[error(
        "worker-{worker} is too late: for {late_for_ms} ms every message was more than {limit_ms} ms late, \
         the last by {late_ms} ms, {queue_ms} ms of that since it was received; {}, or set \
         policy.on_late = \"alarm\"",
        late_remedy(*.late_ms, *.queue_ms)
    )]
    Late {
        /// The worker, counted from 0.
        worker: usize,
        /// For how long all were late, in milliseconds.
        late_for_ms: u64,
        /// The limit on lateness, in milliseconds.
        limit_ms: u64,
        /// How late the last one was, in milliseconds.
        late_ms: u64,
        /// How much of that was since it was received, in milliseconds.
        queue_ms: u64,
    },
    /// A store of a Clone server could not be written.
    #[error(
        "{path}: {problem}; nothing of it was published; see that there is room, then start again"
    )]
    Store {
        /// The file.
        path: PathBuf,
        /// The store's account of it.
        problem: String,
    },
    /// A Clone server or client can't go on with its peers.
    #[error("{problem}")]
    Clone {
        /// Why, and what to do about it.
        problem: String,
    },
    /// A process that a benchmark started did not do its part.
    #[error("{helper}: {problem}")]
    Helper {
        /// What the process was for, with its command line where it is known.
        helper: String,
        /// What it said, or what it did not do.
        problem: String,
    },
    /// A benchmark was stopped before it was done.
    #[error("stopped before it was done; nothing was written")]
    Stopped,
    /// A lane has ended, or has not yet heard of too many orders before this one.
    #[error("a lane has ended, or is too busy for another order; try again later")]
    LaneBusy,
    /// A worker ended while lanes still had messages for it.
    #[error("worker-{worker} is gone")]
    WorkerGone {
        /// The worker, counted from 0.
        worker: usize,
    },
    /// A thread of pinfeed itself panicked: a defect of pinfeed.
    #[error("thread {thread} panicked; this is a defect of pinfeed, please report it")]
    ThreadPanicked {
        /// The thread's name.
        thread: String,
    },
}

/// Returns a value as it stands behind its key, where there is one.
fn given(value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    format!(" = {value}")
}

/// What may help where messages are late.
fn late_remedy(late_ms: u64, queue_ms: u64) -> &'static str {
    if queue_ms > late_ms / 2 {
        "give it fewer topics (more workers), a faster handler or a core of its own"
    } else {
        "they are late when they come: look at the publisher, the network and the clocks of both hosts"
    }
}

impl Error {
    /// Makes an [`Error::Socket`] of the kernel's reason.
    pub(crate) fn socket(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Socket { doing, source }
    }

    /// Builds an [`Error::Config`].
    pub(crate) fn config(
        key: impl Into<String>,
        value: impl ToString,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Config {
            key: key.into(),
            value: value.to_string(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// Names the key of an [`Error::Config`] otherwise.
    pub(crate) fn with_key(self, name: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Config {
                key,
                value,
                problem,
                remedy,
            } => Self::Config {
                key: name(key),
                value,
                problem,
                remedy,
            },
            other => other,
        }
    }

    /// Names an [`Error::Config`]'s key by the flag that stands for it.
    pub(crate) fn by_flag(self, key: &str, flag: &str) -> Self {
        self.with_key(|found| if found == key { flag.to_owned() } else { found })
    }

    /// Builds an [`Error::Zmq`], for `map_err`. Costs nothing where there is no error.
    pub(crate) fn zmq<E: Into<Errno>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |reason| Self::Zmq {
            doing: doing.into(),
            source: reason.into(),
        }
    }

    /// Builds an [`Error::File`], for `map_err`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File {
            path: path.into(),
            source,
        }
    }

    /// Tells whether the input or the configuration is at fault (exit code 2), rather than the run
    /// (exit code 1).
    #[must_use]
    pub fn is_bad_input(&self) -> bool {
        match self {
            // That a disk is full is no mistake of whoever named the file.
            Self::File { source, .. } => !matches!(
                source.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ),
            Self::Config { .. }
            | Self::ConfigFile { .. }
            | Self::Capture { .. }
            | Self::IntervalLog { .. }
            | Self::Results { .. }
            | Self::Pin { .. } => true,
            _ => false,
        }
    }
}
