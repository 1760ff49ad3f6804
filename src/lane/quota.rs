//! How many messages a pipeline may still receive, over all its lanes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// A number of messages that lanes share out among themselves, one at a time.
///
/// Copies share the number.
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

    /// Takes one message's worth, and tells whether there was any left.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        self.0.as_ref().is_none_or(|left| {
            left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                .is_ok()
        })
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
        let quota = Quota::of(3);
        let other = quota.clone();
        assert!(quota.take() && other.take() && !quota.is_used_up());
        assert!(quota.take() && other.is_used_up());
        assert!(!quota.take() && !other.take());
    }

    #[test]
    fn no_limit_is_never_used_up() {
        let quota = Quota::unlimited();
        assert!(quota.take() && !quota.is_used_up());
    }
}
