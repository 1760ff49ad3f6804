//! When each message of a capture is due, over and over.

use std::time::Duration;

use crate::{
    error::{Error, Result},
    publish::{Source, capture::Capture},
};

/// When messages were captured, in nanoseconds after the first, and what follows the last: the first, after the
/// mean distance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    due_ns: Vec<u64>,
    round_ns: u64,
}

impl Recording {
    /// Takes times in nanoseconds. One before another that came earlier counts as that.
    ///
    /// # Panics
    /// Where there are none.
    #[must_use]
    pub fn new(mut due_ns: Vec<u64>) -> Self {
        assert!(!due_ns.is_empty(), "a recording has messages");
        let mut latest_ns = 0;
        for due_ns in &mut due_ns {
            latest_ns = latest_ns.max(*due_ns);
            *due_ns = latest_ns;
        }
        let distances = (due_ns.len() as u64 - 1).max(1);
        Self {
            due_ns,
            // Some time at least, so that there is an end to what is due by then.
            round_ns: latest_ns + (latest_ns / distances).max(1),
        }
    }

    /// Reads the times of a capture, at its speed.
    ///
    /// # Errors
    /// What the capture fails with; [`Error::Config`] where it has no messages, or is to be replayed as fast as
    /// possible.
    pub fn read(capture: &mut Capture) -> Result<Self> {
        let mut due_ns = Vec::new();
        let mut payload = Vec::new();
        while let Some(item) = capture.next(&mut payload)? {
            payload.clear();
            due_ns.extend(item.due_ns);
        }
        if due_ns.is_empty() {
            let path = capture.path().display();
            let remedy = "give a capture with messages, at some speed";
            return Err(Error::config("--capture", path, "nothing is due", remedy));
        }
        Ok(Self::new(due_ns))
    }

    /// Returns when a message is due, in nanoseconds after the first. Messages are counted from 0.
    #[inline]
    #[must_use]
    pub fn due_ns(&self, message: u64) -> u64 {
        let messages = self.due_ns.len() as u64;
        let (round, message) = (message / messages, message % messages);
        round * self.round_ns + self.due_ns[message as usize]
    }

    /// Returns how many messages are due in less than this time.
    #[must_use]
    pub fn due_within(&self, length: Duration) -> u64 {
        let length_ns = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let rest_ns = length_ns % self.round_ns;
        let of_rest = self.due_ns.partition_point(|&due_ns| due_ns < rest_ns);
        (length_ns / self.round_ns) * self.due_ns.len() as u64 + of_rest as u64
    }

    /// Returns how many messages are due in the busiest time of this length.
    #[must_use]
    pub fn busiest(&self, length: Duration) -> u64 {
        let length_ns = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let mut first = 0;
        let mut most = 0;
        for (last, due_ns) in self.due_ns.iter().enumerate() {
            while due_ns - self.due_ns[first] >= length_ns.max(1) {
                first += 1;
            }
            most = most.max(last + 1 - first);
        }
        most as u64
    }

    /// Returns the same at so many times the speed.
    #[must_use]
    pub fn faster(&self, times: f64) -> Self {
        let scaled = |ns: &u64| (*ns as f64 / times) as u64;
        Self::new(self.due_ns.iter().map(scaled).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_follow_each_other_at_the_mean_distance() {
        let recording = Recording::new(vec![0, 3_000, 2_000, 6_000]);
        let due: Vec<u64> = (0..9).map(|message| recording.due_ns(message)).collect();
        assert_eq!(
            due,
            [
                0, 3_000, 3_000, 6_000, 8_000, 11_000, 11_000, 14_000, 16_000
            ]
        );
        for (length_ns, messages) in [(1, 1), (3_000, 1), (3_001, 3), (8_000, 4), (8_001, 5)] {
            let length = Duration::from_nanos(length_ns);
            assert_eq!(recording.due_within(length), messages, "{length_ns}");
        }
        let faster: Vec<u64> = (0..5)
            .map(|message| recording.faster(2.0).due_ns(message))
            .collect();
        assert_eq!(faster, [0, 1_500, 1_500, 3_000, 4_000]);
        let busiest = |length_ns| recording.busiest(Duration::from_nanos(length_ns));
        assert_eq!([1, 3_000, 3_001, 10_000].map(busiest), [2, 2, 3, 4]);
    }

    #[test]
    fn a_lone_message_comes_again_at_once() {
        let recording = Recording::new(vec![0]);
        assert_eq!((recording.due_ns(0), recording.due_ns(5)), (0, 5));
    }
}
