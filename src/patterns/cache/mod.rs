//! The last value cache: the newest message of each topic, for subscribers that come late.
//!
//! [`Store`] keeps messages, [`Answers`] decides who gets which of them before what else. Neither knows a
//! socket.

mod answers;
mod beside;
mod file;
mod order;
mod server;
mod store;

pub use answers::{Answers, Progress};
pub use beside::CacheBeside;
pub use file::{CacheFile, Unwritten, WRITE_EVERY};
pub use server::{Cache, CachePlan, CacheSummary};
pub use store::{Counters, Evict, Limits, MESSAGE_OVERHEAD_BYTES, Store, Value};
