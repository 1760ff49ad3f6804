//! Starting threads together: each ties itself to its core, and none sets off before all have.

use std::thread::{self, JoinHandle};

use crossbeam::channel::{self, Receiver, Sender};

use rustix::thread::gettid;

use crate::{
    error::{Error, Result},
    host::{pin, realtime},
    pipeline::roster::{Enlisted, LastLook},
    stop::Stop,
};

/// The threads of a pipeline until all of them are tied to their cores and may set off.
pub(super) struct Crew {
    strict: bool,
    /// The priority of `SCHED_FIFO`, 0 for none.
    fifo: u32,
    reports: (Sender<Result<Enlisted>>, Receiver<Result<Enlisted>>),
    gate: (Sender<()>, Receiver<()>),
}

impl Crew {
    pub(super) fn new(strict: bool, fifo: u32) -> Self {
        Self {
            strict,
            fifo,
            reports: channel::unbounded(),
            gate: channel::unbounded(),
        }
    }

    /// Starts a thread that ties itself to its core, takes its priority, waits for the others, and runs `body`. When it
    /// ends, for whatever reason, the pipeline is to stop.
    pub(super) fn enlist<T: Send + 'static>(
        &self,
        name: &str,
        core: Option<usize>,
        stop: Stop,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Option<T>>> {
        let (report, gate) = (self.reports.0.clone(), self.gate.1.clone());
        let (thread_name, strict, fifo) = (name.to_owned(), self.strict, self.fifo);
        let run = move || {
            let _stop_at_end = StopAtEnd(stop);
            let last_look = LastLook::default();
            let enlisted = pin::pin_current(&thread_name, core, strict).and_then(|placement| {
                realtime::set_fifo(&thread_name, None, fifo)?;
                Ok(Enlisted::new(placement, gettid(), &last_look))
            });
            drop(thread_name);
            let tied = enlisted.is_ok();
            let _ = report.send(enlisted);
            (tied && gate.recv().is_ok()).then(body)
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|source| Error::Thread {
                thread: name.to_owned(),
                source,
            })
    }

    /// Waits until all threads are tied to their cores and lets them go; without that, dropping the
    /// crew sends them home.
    pub(super) fn set_off(self, threads: usize) -> Result<Vec<Enlisted>> {
        let enlisted = self.reports.1.iter().take(threads).collect::<Result<_>>()?;
        for _ in 0..threads {
            // The threads hold the other end, so it can't be closed.
            let _ = self.gate.0.send(());
        }
        Ok(enlisted)
    }
}

struct StopAtEnd(Stop);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// Waits for a thread's end.
///
/// # Errors
/// The thread's own, or [`Error::ThreadPanicked`].
pub(super) fn join<T>(thread: JoinHandle<Option<Result<T>>>) -> Result<T> {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    match thread.join() {
        Ok(Some(outcome)) => outcome,
        Ok(None) | Err(_) => Err(Error::ThreadPanicked { thread: name }),
    }
}
