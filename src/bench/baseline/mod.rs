//! What pinfeed is compared with: ways to take the same messages in that anyone could write.
//!
//! Each takes a number of messages from a publisher, checks that all of them came, and tells what that
//! cost from the first message on. Times are nanoseconds.

mod libzmq;
mod plain;

pub use libzmq::{bare, bare_on_one_core, bare_timed, one_by_one};
pub use plain::plain;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    clock::{Stopwatch, process_cpu_ns},
    error::{Error, Result},
};

/// The workers of [`one_by_one`].
pub const WORKERS: usize = 2;

/// What taking messages in cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// From the first message to the last, in nanoseconds.
    pub elapsed_ns: u64,
    /// CPU time of the process, user and system, over that time, in nanoseconds.
    pub cpu_ns: u64,
}

/// A way to take messages in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// Receive calls only: what the kernel's copy costs.
    Plain,
    /// A libzmq SUB socket in a loop that does nothing with the message, as anyone would write it.
    Bare,
    /// The black box as the ZeroMQ Guide sketches it, one inproc PUSH a message.
    OneByOne,
}

impl Baseline {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Bare, Self::OneByOne];

    /// Returns what people call it.
    #[must_use]
    pub fn title(self) -> String {
        match self {
            Self::Plain => "plain recv, nothing parsed".to_owned(),
            Self::Bare => "bare libzmq SUB loop".to_owned(),
            Self::OneByOne => format!("one inproc PUSH a message, {WORKERS} workers"),
        }
    }

    /// Tells whether libzmq receives, which takes some ten times as long as receiving alone.
    #[must_use]
    pub fn is_libzmq(self) -> bool {
        self != Self::Plain
    }

    /// Takes in all `messages` that come from the endpoints, of so many frames and of `wire_bytes` each with their
    /// framing.
    ///
    /// # Errors
    /// [`Error::Socket`] and [`Error::Zmq`] where the publisher can't be received from.
    pub fn run(
        self,
        endpoints: &[String],
        messages: u64,
        (frames, wire_bytes): (usize, u64),
    ) -> Result<Cost> {
        match self {
            Self::Plain => plain(endpoints, messages * wire_bytes),
            Self::Bare => bare(endpoints, messages, frames),
            Self::OneByOne => one_by_one(endpoints, messages, frames),
        }
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Plain => "plain",
            Self::Bare => "bare",
            Self::OneByOne => "one-by-one",
        })
    }
}

/// The text was not the name of a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a baseline; give plain, bare or one-by-one")]
pub struct UnknownBaseline;

impl FromStr for Baseline {
    type Err = UnknownBaseline;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownBaseline> {
        Self::ALL
            .into_iter()
            .find(|baseline| baseline.to_string() == name)
            .ok_or(UnknownBaseline)
    }
}

/// Measures from now, when the first message has come, to the end of `rest`.
fn measured<T>(first: T, rest: impl FnOnce(T) -> Result<()>) -> Result<Cost> {
    let (watch, cpu_ns) = (Stopwatch::start(), process_cpu_ns());
    rest(first)?;
    Ok(Cost {
        elapsed_ns: watch.elapsed_ns(),
        cpu_ns: process_cpu_ns() - cpu_ns,
    })
}

/// Checks that all came.
fn check(what: &'static str, received: u64, wanted: u64) -> Result<()> {
    if received == wanted {
        return Ok(());
    }
    Err(Error::Helper {
        helper: "baseline".to_owned(),
        problem: format!("{received} {what} came in place of {wanted}"),
    })
}
