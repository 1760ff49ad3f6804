//! Looking at what workers are at, on a thread of its own: their handlers may never return, and whoever owns the pipeline
//! may wait for something else.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam::channel::{self, RecvTimeoutError, Sender};

use crate::{
    clock::{Clock, WallClock},
    error::{Error, Result},
    latency::FeedClocks,
    ledger::Ledger,
    stop::Stop,
    worker::{Finding, Watchdog},
};

const NAME: &str = "watchdog";
/// How often workers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is looked at, and by which clocks.
pub(super) struct Overseen {
    /// By worker.
    pub watchdogs: Vec<Watchdog>,
    pub ledger: Arc<Ledger>,
    pub stop: Stop,
    pub clock: Clock,
    pub wall: WallClock,
    pub feed_clocks: FeedClocks,
}

/// The thread that looks.
#[derive(Debug)]
pub(super) struct Overseer {
    thread: JoinHandle<Option<(u64, Error)>>,
    /// It ends with this.
    until: Sender<()>,
}

impl Overseer {
    /// Starts to look.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub(super) fn start(mut overseen: Overseen) -> Result<Self> {
        let (until, ended) = channel::bounded(0);
        let look = move || {
            let mut late = None;
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                overseen.look(&mut late);
            }
            late
        };
        let thread = thread::Builder::new().name(NAME.to_owned()).spawn(look);
        let thread = thread.map_err(|source| Error::Thread {
            thread: NAME.to_owned(),
            source,
        })?;
        Ok(Self { thread, until })
    }

    /// Ends. Returns which worker was too slow for too long, if one was, and since when, in nanoseconds of the
    /// pipeline's clock.
    pub(super) fn end(self) -> Option<(u64, Error)> {
        drop(self.until);
        self.thread.join().ok().flatten()
    }
}

impl Overseen {
    /// Ends the pipeline where a worker is at something that is too late for too long, and gives the worker up that does
    /// not return from it.
    fn look(&mut self, late: &mut Option<(u64, Error)>) {
        for (worker, watchdog) in self.watchdogs.iter_mut().enumerate() {
            match watchdog.look((&self.clock, &self.wall), &self.feed_clocks) {
                Finding::Nothing => {}
                Finding::TooSlow(error) => {
                    self.stop.request();
                    late.get_or_insert((self.clock.now_ns(), error));
                }
                Finding::Stuck => self.ledger.workers[worker].abandoned.set(1),
            }
        }
    }
}
