//! Publishers to test with: a synthetic exchange and the replay of a capture, over libzmq; and a
//! [`Blaster`] without it, for subscribers that libzmq can't saturate.
//!
//! A [`Source`] says what to publish and when; [`Publisher`] is the socket; [`publish()`] moves
//! messages from one to the other in time, without ever dropping one: where a subscriber is slow,
//! the publisher waits, and falls behind its schedule. Timestamps are those of the schedule, so
//! that this shows in the feed latency.

mod blast;
pub mod capture;
pub mod exchange;
mod format;
mod publisher;
mod recording;
mod schedule;

pub use blast::{Blaster, Wire};
pub(crate) use format::{check_frames, payload_parts};
pub use publisher::{Publisher, PublisherOptions};
pub use recording::Recording;
pub use schedule::{RATE_MAX, Schedule};

use std::{thread, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    clock::{Stopwatch, wall_ns},
    error::Result,
    latency::Quantiles,
    stop::Stop,
};

/// The longest sleep, so that a request to stop is noticed.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// One message to publish, apart from its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The topic's index, counted from 0 in order of appearance.
    pub topic: usize,
    /// When to publish it, in nanoseconds after the first; `None` for as soon as possible.
    pub due_ns: Option<u64>,
}

/// Something that says what to publish and when.
pub trait Source {
    /// Writes the next message's payload into the empty `payload`, or returns `None` at the end.
    ///
    /// # Errors
    /// Where the source can't be read on.
    fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<Item>>;

    /// Returns a topic by its index.
    fn topic(&self, index: usize) -> &[u8];
}

/// What was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Messages.
    pub published: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// From the first message to the last, in seconds.
    pub elapsed_s: f64,
    /// The most that a message was behind its schedule, in nanoseconds.
    pub late_ns_max: u64,
    /// How late messages were by the publisher's own fault, in nanoseconds: without what subscribers made
    /// it wait, and without its warm-up. Only a [`Blaster`] at a rate records it.
    #[serde(default)]
    pub lateness_ns: Quantiles,
    /// How long subscribers made a [`Blaster`] wait, in seconds.
    #[serde(default)]
    pub blocked_s: f64,
    /// Messages that a [`Blaster`] has not sent in full to the subscriber that is furthest behind, when its
    /// time is over or it is stopped: those among the published, and at a rate those that were due by the
    /// end besides.
    #[serde(default)]
    pub unsent: u64,
}

/// When to stop publishing, if not at the source's end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Until {
    /// After this many messages.
    pub messages: Option<u64>,
    /// After this time.
    pub elapsed: Option<Duration>,
}

/// Publishes what `source` says, until it ends, `until` is reached or `stop` is requested.
///
/// # Errors
/// What the source or the socket fails with.
pub fn publish(
    source: &mut dyn Source,
    publisher: &mut Publisher,
    until: Until,
    stop: &Stop,
) -> Result<Published> {
    let start_wall_ns = wall_ns();
    let watch = Stopwatch::start();
    let end_ns = until.elapsed.map(|elapsed| elapsed.as_nanos() as u64);
    let mut done = Published::default();
    let mut now_ns = 0;
    let mut payload = Vec::new();
    while !stop.requested() && until.messages.is_none_or(|limit| done.published < limit) {
        payload.clear();
        let Some(item) = source.next(&mut payload)? else {
            break;
        };
        now_ns = watch.elapsed_ns();
        if let Some(due_ns) = item.due_ns {
            while now_ns < due_ns && !stop.requested() {
                thread::sleep(Duration::from_nanos(due_ns - now_ns).min(SLEEP_MAX));
                now_ns = watch.elapsed_ns();
            }
            done.late_ns_max = done.late_ns_max.max(now_ns.saturating_sub(due_ns));
        }
        let stamp_ns = item.due_ns.unwrap_or(now_ns);
        if end_ns.is_some_and(|end_ns| stamp_ns.max(now_ns) >= end_ns) {
            break;
        }
        let topic = source.topic(item.topic);
        if !publisher.send(item.topic, topic, &payload, start_wall_ns + stamp_ns, stop)? {
            break;
        }
        done.published += 1;
        done.payload_bytes += payload.len() as u64;
    }
    done.elapsed_s = now_ns as f64 / 1e9;
    Ok(done)
}
