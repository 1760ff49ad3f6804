//! How long to wait before connecting again: twice as long after each failure, and never all at once.

use std::time::Duration;

use crate::{clock::Deadline, random};

/// The waits of one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next_ms: u32,
    first_ms: u32,
    max_ms: u32,
    /// When a connection has lasted long enough for the next wait to be short again.
    proven_at: Option<Deadline>,
}

impl Backoff {
    /// Doubles from `first_ms` to `max_ms`.
    pub fn new(first_ms: u32, max_ms: u32) -> Self {
        Self {
            next_ms: first_ms,
            first_ms,
            max_ms: max_ms.max(first_ms),
            proven_at: None,
        }
    }

    /// Notes that a connection was made.
    pub fn connected(&mut self) {
        let proven_after = Duration::from_millis(self.max_ms.into());
        self.proven_at = Some(Deadline::after(proven_after));
    }

    /// Notes that an attempt failed or a connection was lost, and returns when to try again.
    ///
    /// Chance stretches or shrinks the wait by up to a half, so that the subscribers of a publisher
    /// that restarts don't come back all at once.
    pub fn failed(&mut self) -> Deadline {
        if self.proven_at.take().is_some_and(|at| at.passed()) {
            self.next_ms = self.first_ms;
        }
        let wait_ms = random::spread(self.next_ms);
        self.next_ms = self.next_ms.saturating_mul(2).min(self.max_ms);
        Deadline::after(Duration::from_millis(wait_ms.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_anew_after_a_lasting_connection() {
        let mut backoff = Backoff::new(100, 400);
        for expected_ms in [100, 200, 400, 400] {
            let left_ms = backoff.failed().left().as_millis() as u32;
            assert!(
                (expected_ms / 2 - 5..=expected_ms * 3 / 2).contains(&left_ms),
                "{left_ms} ms, about {expected_ms}"
            );
        }
        backoff.connected();
        assert_eq!(backoff.next_ms, 400);
        let _ = backoff.failed();
        assert_eq!(
            backoff.next_ms, 400,
            "a connection that did not last proves nothing"
        );
        backoff.proven_at = Some(Deadline::after(Duration::ZERO));
        let _ = backoff.failed();
        assert_eq!(backoff.next_ms, 200);
    }
}
