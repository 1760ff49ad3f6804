//! Interval logs: how long messages waited, interval by interval, in a file that HdrHistogram's tools read.
//!
//! The format is HdrHistogram's interval log 1.3 with compressed V2 histograms: a header, then a line an
//! interval and tag:
//!
//! ```text
//! #[Histogram log format version 1.3]
//! #[pinfeed 0.1.0: values in nanoseconds, Interval_Max in milliseconds]
//! #[StartTime: 1760000000.123 (seconds since epoch)]
//! #[MaxValueDivisor: 1000000.000]
//! "StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"
//! Tag=queue,1760000000.123,1.000,0.071,HISTFAAAA...
//! ```
//!
//! | quantity | unit |
//! |---|---|
//! | `StartTime` | seconds since 1970 of the file's first interval |
//! | `StartTimestamp` | seconds since 1970, to the millisecond |
//! | `Interval_Length` | seconds, to the millisecond |
//! | `Interval_Max` | milliseconds, as the tools expect of values in nanoseconds |
//! | values in the histograms | nanoseconds |
//!
//! Timestamps are absolute, so that files of one log can be joined with `cat`.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::{Follower, Interval, read};
pub(crate) use writer::keep_old;
pub use writer::{IntervalLog, ROTATED_MAX};

/// Tag of the time from received to handler start.
pub const QUEUE: &str = "queue";
/// Tag of the time from handler start to handler done.
pub const HANDLER: &str = "handler";
/// Tag of the time from the publisher's timestamp to handler start.
pub const FEED: &str = "feed";
/// Tag of the time from when a message was due to when its generator sent it.
pub const LATENESS: &str = "lateness";
