//! The tap: a proxy between publishers and subscribers whose traffic can be watched, the Guide's Espresso.
//!
//! [`Tap`] forwards: messages to subscribers, their subscriptions, merged, to publishers. What passes is copied to
//! watchers, each with a [bounded queue](crate::patterns::copies): a [`Watcher`] is a thread that writes
//! [lines]; or a socket of the same reactor. One that is too slow loses copies, which are counted; forwarding waits
//! for none. Other threads can be watched alike: they copy for a watcher, which may be one that
//! [relays](Watcher::relay) messages.

pub mod lines;
mod relay;
mod server;
mod watch_point;
mod watcher;

pub use server::{Tap, TapPlan, TapSummary};
pub use watcher::{Line, WatchPlan, Watched, Watcher};
