//! What a run comes to: one summary, as JSON for scripts and as a table for people.

mod format;
mod lines;
mod summary;
mod threads;

pub use format::{count, counted, rate, time, times};
pub use lines::LineSummary;
pub use summary::{FeedSummary, LatencySummary, Summary};
