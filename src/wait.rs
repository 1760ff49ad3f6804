//! How a thread waits for work: what it burns while there is none, and how fast it wakes.

use std::{fmt, hint, str::FromStr, thread, time::Duration};

use crate::clock::Deadline;

/// How long a thread waits before it looks up: for a request to stop, and to call
/// [`Handler::on_idle`](crate::worker::Handler::on_idle).
pub const IDLE_AFTER: Duration = Duration::from_millis(100);
/// How long [`Wait::Adaptive`] polls before it parks.
const ADAPTIVE_POLL: Duration = Duration::from_micros(50);
/// Polls between two looks at the clock.
const POLLS_PER_LOOK: u32 = 32;

/// How a thread waits for work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Polls without pause: wakes soonest, and burns a whole core. For threads with a core of
    /// their own.
    Spin,
    /// Sleeps in the kernel: burns nothing, and wakes some microseconds late.
    #[default]
    Park,
    /// Polls for 50 µs, giving way to the core's other threads between two polls, then sleeps: wakes as
    /// soon as a poller even where threads share cores, and burns a core only while messages come.
    Adaptive,
}

impl Wait {
    /// All ways to wait.
    pub const ALL: [Self; 3] = [Self::Spin, Self::Park, Self::Adaptive];

    /// Waits until `attempt` brings something, at most about [`IDLE_AFTER`].
    ///
    /// `attempt` is told whether it may sleep until there is something; if so, it has to give up
    /// after [`IDLE_AFTER`] itself.
    #[inline]
    pub(crate) fn until<T>(self, mut attempt: impl FnMut(bool) -> Option<T>) -> Option<T> {
        let poll_for = match self {
            Self::Spin => IDLE_AFTER,
            Self::Adaptive => ADAPTIVE_POLL,
            Self::Park => return attempt(true),
        };
        let deadline = Deadline::after(poll_for);
        while !deadline.passed() {
            for _ in 0..POLLS_PER_LOOK {
                if let Some(found) = attempt(false) {
                    return Some(found);
                }
                match self {
                    // Without this a lane that polls keeps its worker from the core that both have: half
                    // of the messages at 100,000 a second waited for 167 µs, with it for 6.
                    Self::Adaptive => thread::yield_now(),
                    Self::Spin | Self::Park => hint::spin_loop(),
                }
            }
        }
        if self == Self::Spin {
            None
        } else {
            attempt(true)
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Spin => "spin",
            Self::Park => "park",
            Self::Adaptive => "adaptive",
        })
    }
}

/// The text was not the name of a way to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a way to wait; give spin, park or adaptive")]
pub struct UnknownWait;

impl FromStr for Wait {
    type Err = UnknownWait;

    fn from_str(name: &str) -> Result<Self, UnknownWait> {
        Self::ALL
            .into_iter()
            .find(|wait| wait.to_string() == name)
            .ok_or(UnknownWait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spin_never_sleeps_and_gives_up() {
        let found: Option<()> = Wait::Spin.until(|may_sleep| {
            assert!(!may_sleep);
            None
        });
        assert_eq!(found, None);
    }

    #[test]
    fn adaptive_sleeps_after_polling() {
        let mut polls = 0;
        let found = Wait::Adaptive.until(|may_sleep| {
            polls += 1;
            may_sleep.then_some("slept")
        });
        assert_eq!(found, Some("slept"));
        assert!(polls > POLLS_PER_LOOK);
    }

    #[test]
    fn what_is_there_is_returned_at_once() {
        for wait in Wait::ALL {
            let mut attempts = 0;
            let found = wait.until(|may_sleep| {
                assert_eq!(may_sleep, wait == Wait::Park);
                attempts += 1;
                Some(7)
            });
            assert_eq!((found, attempts), (Some(7), 1));
        }
    }
}
