//! The request to stop, shared by everything that runs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// A request to stop: once made, lanes stop receiving, and workers finish what was received.
///
/// Copies share the request.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Makes the request. Safe to call from a signal handler.
    pub fn request(&self) {
        self.0.store(true, Relaxed);
    }

    /// Tells whether the request was made.
    #[inline]
    #[must_use]
    pub fn requested(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl From<Arc<AtomicBool>> for Stop {
    /// Makes a request out of a flag that something else, a signal handler perhaps, sets.
    fn from(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }
}
