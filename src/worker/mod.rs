//! Workers: pinned threads that run the user's handler on the batches handed to them.

mod handler;
pub mod handlers;
mod lately;
mod patience;
mod snail;
mod thread;

pub use handler::Handler;
pub(crate) use lately::Lately;
pub(crate) use patience::{Patience, Work};
pub(crate) use snail::{Finding, Moment, Snail, Watchdog};
pub(crate) use thread::{Worker, WorkerEnd};
