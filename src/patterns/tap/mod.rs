//! The tap: a proxy between publishers and subscribers whose traffic can be watched, the Guide's Espresso.
//!
//! [`Tap`] forwards: messages to subscribers, their subscriptions, merged, to publishers. What passes is copied to
//! watchers, each with a bounded queue: [`Copier`] to a thread that writes [lines], or a socket of the same
//! reactor. A watcher that is too slow loses copies, which are counted; forwarding waits for none.

mod copier;
pub mod lines;
mod server;

pub use copier::{Copied, Copier, CopyRule, Kind, Passed, WAITING_BYTES_MAX};
pub use server::{Tap, TapPlan, TapSummary, WatchPlan, Watched};
