//! Samples of rejected messages: the first few of each reason, so that whoever reads the counters can
//! see what came.
//!
//! A lane takes at most [`SAMPLES_MAX`] of each reason, and a sample holds at most
//! [`SAMPLE_BYTES_MAX`] bytes, so a feed that is rejected whole costs a comparison a message. Samples are
//! kept behind a lock that no message which is delivered comes near.

use std::{fmt, ops::Deref, sync::Mutex};

use serde::{Serialize, Serializer};

use crate::{ledger::Rejection, message::Origin};

/// The most samples of a reason.
pub const SAMPLES_MAX: usize = 4;
/// The most bytes of a message that a sample holds.
pub const SAMPLE_BYTES_MAX: usize = 256;

/// A frame of a rejected message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SampleFrame {
    /// Its length in bytes.
    pub bytes: usize,
    /// What it starts with; in JSON as text, with all that is not printable ASCII escaped.
    #[serde(serialize_with = "escaped")]
    pub start: Vec<u8>,
}

/// A rejected message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which feed and line it came by.
    pub origin: Origin,
    /// Why it was rejected.
    pub reason: Rejection,
    /// The length of all of its frames in bytes.
    pub bytes: u64,
    /// Its frames, with the first [`SAMPLE_BYTES_MAX`] bytes of the message. None where it was
    /// thrown away as it came.
    pub frames: Vec<SampleFrame>,
}

impl Sample {
    /// Stands for a message of `bytes` bytes that was thrown away as it came.
    #[must_use]
    pub fn unseen(origin: Origin, reason: Rejection, bytes: u64) -> Self {
        Self {
            origin,
            reason,
            bytes,
            frames: Vec::new(),
        }
    }

    /// Takes the start of a message.
    pub fn of<F: Deref<Target = [u8]>>(origin: Origin, reason: Rejection, frames: &[F]) -> Self {
        let mut room = SAMPLE_BYTES_MAX;
        let frame = |frame: &F| {
            let start = &frame[..frame.len().min(room)];
            room -= start.len();
            SampleFrame {
                bytes: frame.len(),
                start: start.to_vec(),
            }
        };
        Self {
            origin,
            reason,
            bytes: frames.iter().map(|frame| frame.len() as u64).sum(),
            frames: frames.iter().map(frame).collect(),
        }
    }
}

/// A rejected message, and the name of the feed it came by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectedSample {
    /// The feed's name.
    pub feed: String,
    /// The line's place in its feed.
    pub line: u8,
    /// Why it was rejected, by [name](Rejection::name).
    pub reason: &'static str,
    /// The length of all of its frames in bytes.
    pub bytes: u64,
    /// Its frames. None where it was thrown away as it came.
    pub frames: Vec<SampleFrame>,
}

impl RejectedSample {
    pub(crate) fn new(sample: Sample, feeds: &[String]) -> Self {
        let feed = feeds.get(usize::from(sample.origin.feed));
        Self {
            feed: feed.cloned().unwrap_or_default(),
            line: sample.origin.line,
            reason: sample.reason.name(),
            bytes: sample.bytes,
            frames: sample.frames,
        }
    }
}

impl fmt::Display for RejectedSample {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} of {}, {} bytes",
            self.reason, self.feed, self.bytes
        )?;
        for frame in &self.frames {
            /// Bytes of a frame shown to people.
            const SHOWN_BYTES_MAX: usize = 32;
            let start = &frame.start[..frame.start.len().min(SHOWN_BYTES_MAX)];
            let more = if start.len() < frame.bytes { "..." } else { "" };
            write!(out, "  {}:\"{}{more}\"", frame.bytes, start.escape_ascii())?;
        }
        Ok(())
    }
}

fn escaped<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&bytes.escape_ascii())
}

/// The samples of all lanes.
#[derive(Debug, Default)]
pub struct Samples(Mutex<Vec<Sample>>);

impl Samples {
    /// Keeps a sample, unless there are enough of its reason.
    #[cold]
    pub fn keep(&self, sample: Sample) {
        // A panic while it was held leaves a list that is whole.
        let mut samples = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let alike = samples.iter().filter(|one| one.reason == sample.reason);
        if alike.count() < SAMPLES_MAX {
            samples.push(sample);
        }
    }

    /// Returns the samples, in the order they came.
    #[must_use]
    pub fn list(&self) -> Vec<Sample> {
        let samples = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        samples.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin { feed: 1, line: 0 };

    #[test]
    fn a_sample_is_bounded() {
        let frames = [vec![b'x'; 200], vec![b'y'; 100_000], vec![b'z'; 9]];
        let sample = Sample::of(ORIGIN, Rejection::NotUtf8, &frames);
        assert_eq!(sample.bytes, 100_209);
        let kept: Vec<(usize, usize)> = sample
            .frames
            .iter()
            .map(|frame| (frame.bytes, frame.start.len()))
            .collect();
        assert_eq!(kept, [(200, 200), (100_000, 56), (9, 0)]);
    }

    #[test]
    fn the_first_few_of_each_reason_are_kept() {
        let samples = Samples::default();
        for number in 0..10_u8 {
            for reason in [Rejection::Corrupt, Rejection::NotUtf8] {
                samples.keep(Sample::of(ORIGIN, reason, &[vec![number]]));
            }
        }
        let kept = samples.list();
        assert_eq!(kept.len(), 2 * SAMPLES_MAX);
        assert_eq!(kept[7].frames[0].start, [3]);
        let feeds = ["first".to_owned(), "second".to_owned()];
        let named = RejectedSample::new(kept[0].clone(), &feeds);
        assert_eq!(named.to_string(), r#"corrupt of second, 1 bytes  1:"\x00""#);
    }
}
