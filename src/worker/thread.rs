//! The loop of a worker's thread.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    clock::{Clock, wall_ns},
    config::HandlerPanic,
    error::Result,
    handoff::{Batch, Inlet, Received},
    latency::{FeedClocks, HandledAt, Recorder, Stages},
    ledger::Ledger,
    stop::Stop,
    worker::Handler,
};

/// A worker, ready to run on a thread of its own.
pub(crate) struct Worker<H> {
    pub index: usize,
    pub handler: H,
    pub inlet: Inlet,
    pub recorder: Recorder,
    pub feed_clocks: FeedClocks,
    pub ledger: Arc<Ledger>,
    pub clock: Clock,
    pub stop: Stop,
    pub handler_panic: HandlerPanic,
}

/// What is left of a worker when every lane has ended.
pub(crate) struct WorkerEnd<H> {
    pub handler: H,
    /// What was recorded since the collector last asked.
    pub stages: Box<Stages>,
    /// The message of the handler's panic, if there was one.
    pub panic: Option<String>,
}

impl<H: Handler> Worker<H> {
    /// Runs the handler on all batches until every lane has ended.
    ///
    /// # Errors
    /// [`Error::Zmq`](crate::Error::Zmq) where the handoff breaks.
    pub(crate) fn run(mut self) -> Result<WorkerEnd<H>> {
        let mut panic = None;
        loop {
            match self.inlet.receive()? {
                Received::Batch(batch) => {
                    if panic.is_none() {
                        panic = self.handle(&batch);
                    } else {
                        let counters = &self.ledger.workers[self.index];
                        counters.last_done_ns.set(self.clock.now_ns());
                        self.count_dropped(batch.len());
                    }
                    self.inlet.give_back(batch);
                }
                Received::Idle => {
                    if panic.is_none() {
                        panic = self.call(H::on_idle);
                    }
                }
                Received::Ended => break,
            }
            self.recorder.offer();
        }
        if panic.is_none() {
            panic = self.call(H::on_stop);
        }
        Ok(WorkerEnd {
            handler: self.handler,
            stages: self.recorder.finish(),
            panic,
        })
    }

    /// Runs the handler on a batch and accounts for it. Returns the handler's panic, if it did.
    fn handle(&mut self, batch: &Batch) -> Option<String> {
        let start_wall_ns = wall_ns();
        let start_ns = self.clock.now_ns();
        let mut handled = 0;
        let panic = self.call(|handler| {
            if batch.has_notices() {
                handle_noted(handler, batch, &mut handled);
            } else {
                for message in batch.messages() {
                    handler.on_message(&message);
                    handled += 1;
                }
            }
            handler.on_batch_end(batch);
        });
        let end_ns = self.clock.now_ns();
        let at = HandledAt {
            start_ns,
            end_ns,
            start_wall_ns,
        };
        self.recorder
            .stages()
            .record(&batch.headers()[..handled], at, &self.feed_clocks);
        let counters = &self.ledger.workers[self.index];
        counters.last_done_ns.set(end_ns);
        counters.delivered.add(handled as u64);
        self.count_dropped(batch.len() - handled);
        panic
    }

    /// Calls into the handler. Returns the message of its panic, if it did.
    #[inline]
    fn call(&mut self, call: impl FnOnce(&mut H)) -> Option<String> {
        let panic = catch_unwind(AssertUnwindSafe(|| call(&mut self.handler))).err()?;
        if self.handler_panic == HandlerPanic::Stop {
            self.stop.request();
        }
        Some(panic_message(&*panic))
    }

    fn count_dropped(&self, messages: usize) {
        self.ledger.workers[self.index].dropped.add(messages as u64);
    }
}

/// Runs the handler on messages with notices between them.
#[cold]
fn handle_noted<H: Handler>(handler: &mut H, batch: &Batch, handled: &mut usize) {
    let mut notices = batch.notices().peekable();
    for message in batch.messages() {
        while let Some((_, notice)) = notices.next_if(|(before, _)| before <= handled) {
            handler.on_notice(&notice);
        }
        handler.on_message(&message);
        *handled += 1;
    }
    for (_, notice) in notices {
        handler.on_notice(&notice);
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
