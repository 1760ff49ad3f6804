//! How many messages a pipeline may still receive, over all its lanes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// A number of messages that lanes share out among themselves. Copies share it.
///
/// A lane takes of it for messages that it has at hand, as many at once as it can: a locked instruction
/// each time. Messages beyond the number are thrown away, as if they had never come.
#[derive(Clone, Debug, Default)]
pub struct Quota(Option<Arc<AtomicU64>>);

impl Quota {
    /// Allows this many messages.
    #[must_use]
    pub fn of(messages: u64) -> Self {
        Self(Some(Arc::new(AtomicU64::new(messages))))
    }

    /// Allows any number of messages.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// Takes up to `wanted` messages' worth, and returns how much there was.
    #[inline]
    pub(crate) fn take(&self, wanted: u64) -> u64 {
        let Some(left) = &self.0 else {
            return wanted;
        };
        let before = left.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(wanted)));
        before.map_or(0, |left| left.min(wanted))
    }

    /// Tells whether nothing is left.
    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.0.as_ref().is_some_and(|left| left.load(Relaxed) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_together_take_what_there_is() {
        let quota = Quota::of(10);
        let other = quota.clone();
        assert_eq!((quota.take(8), quota.is_used_up()), (8, false));
        assert_eq!((other.take(8), quota.is_used_up()), (2, true));
        assert_eq!((quota.take(1), other.take(1)), (0, 0));
    }

    #[test]
    fn no_limit_is_never_used_up() {
        let quota = Quota::unlimited();
        assert_eq!((quota.take(5), quota.is_used_up()), (5, false));
    }
}
