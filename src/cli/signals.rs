//! SIGINT and SIGTERM: the first asks for a clean stop, the second ends the process at once. SIGUSR1 asks
//! for what went wrong so far.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    flag,
};

use crate::{cli::Failure, stop::Stop};

/// The signals received so far.
pub(super) struct Signals {
    stop: Stop,
    caught: Arc<AtomicUsize>,
    asked: Arc<AtomicBool>,
}

impl Signals {
    /// Starts listening.
    pub(super) fn listen() -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let caught = Arc::new(AtomicUsize::new(0));
        let second = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order, so that the first signal arms what only the second triggers.
            flag::register_conditional_shutdown(signal, 128 + signal, second.clone())
                .and_then(|_| flag::register(signal, second.clone()))
                .and_then(|_| flag::register_usize(signal, caught.clone(), signal as usize))
                .and_then(|_| flag::register(signal, stop.clone()))
                .map_err(|error| Failure::running("listening for signals", &error))?;
        }
        let asked = Arc::new(AtomicBool::new(false));
        flag::register(SIGUSR1, asked.clone())
            .map_err(|error| Failure::running("listening for signals", &error))?;
        Ok(Self {
            stop: stop.into(),
            caught,
            asked,
        })
    }

    /// Returns the request to stop that a signal makes. Others may make it, too.
    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Tells whether SIGUSR1 came since this was last asked.
    pub(super) fn asked(&self) -> bool {
        self.asked.swap(false, Relaxed)
    }

    /// Returns the number of the signal received, if one was.
    pub(super) fn caught(&self) -> Option<u8> {
        let signal = self.caught.load(Relaxed);
        (signal != 0).then_some(signal as u8)
    }
}
