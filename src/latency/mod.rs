//! How long messages waited, stage by stage, in nanoseconds; and how long the platform kept threads waiting.
//!
//! | stage   | from                          | to                    |
//! |---------|-------------------------------|-----------------------|
//! | queue   | received by the lane          | handler starts on it  |
//! | handler | handler starts on it          | handler is done with it |
//! | feed    | stamped by the publisher      | handler starts on it  |
//!
//! Clocks are read twice a batch, not twice a message: before the first message and after the last.
//! Message `i` of `n` is taken to have started `i/n` of the way between, so the wait behind the
//! messages before it in the batch *is* in its queue time; its handler time is the batch's mean.
//! What that hides is the spread of handler times within a batch.

mod hiccups;
pub mod log;
mod percentiles;
mod quantiles;
mod recorder;
mod stages;

pub use hiccups::Hiccups;
pub use percentiles::write_percentiles;
pub use quantiles::{Quantiles, SAMPLES_BEYOND_MIN, is_supported};
pub use recorder::{Collector, Recorder, recorder};
pub use stages::{FeedClocks, HandledAt, Stages};
