//! A market-data subscriber for price feeds published over ZeroMQ: pinned receive threads, one or
//! more per network card, split topics over a pool of pinned workers, account for every message, and
//! record how long each one waited. Linux only.
//!
//! Users write the [handler](worker::Handler) that sees each message, and start a
//! [pipeline](pipeline::Pipeline) from a [configuration](config::Config). The command `pinfeed` does
//! the same with handlers of its own. `ARCHITECTURE.md` in the repository has the picture.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "pinfeed targets Linux: it reads /proc and /sys and ties threads with sched_setaffinity"
);

pub mod bench;
#[doc(hidden)]
pub mod cli;
pub mod clock;
pub mod config;
pub mod envelope;
pub mod errno;
pub mod error;
pub mod findings;
pub mod flight;
pub mod handoff;
pub mod host;
pub mod lane;
pub mod latency;
pub mod ledger;
pub mod libzmq;
pub mod message;
pub mod net;
pub mod patterns;
pub mod pipeline;
pub mod policy;
mod prefetch;
pub mod publish;
pub mod random;
pub mod receipt;
pub mod report;
pub mod sequence;
pub mod shard;
pub mod stop;
pub mod wait;
pub mod worker;
pub mod zmtp;

pub use error::{Error, Result};

/// Compiles the README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
