//! The loop of a worker's thread.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    clock::{Clock, WallClock},
    config::HandlerPanic,
    error::{Error, Result},
    handoff::{Batch, Inlet, Received},
    latency::{FeedClocks, HandledAt, Recorder, Stages},
    ledger::Ledger,
    stop::Stop,
    worker::{Handler, Patience, Snail},
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
    pub wall: WallClock,
    pub stop: Stop,
    pub handler_panic: HandlerPanic,
    pub patience: Patience,
}

/// What is left of a worker when every lane has ended.
pub(crate) struct WorkerEnd<H> {
    pub handler: H,
    /// What was recorded since the collector last asked.
    pub stages: Box<Stages>,
    /// Why it discarded what came after, if it did, and since when, in nanoseconds of the pipeline's clock.
    pub failure: Option<(u64, Error)>,
}

impl<H: Handler> Worker<H> {
    /// Runs the handler on all batches until every lane has ended.
    ///
    /// # Errors
    /// [`Error::Zmq`] where the handoff breaks.
    pub(crate) fn run(mut self) -> Result<WorkerEnd<H>> {
        self.patience.lately.begin(self.clock.now_ns());
        let mut failure = None;
        loop {
            match self.inlet.receive()? {
                Received::Batch(batch) if failure.is_none() => {
                    failure = self.take(batch).map(|error| self.dated(error));
                }
                Received::Batch(batch) => {
                    let counters = &self.ledger.workers[self.index];
                    counters.last_done_ns.set(self.clock.now_ns());
                    self.count_dropped(&batch, 0);
                    self.give_back(batch);
                }
                Received::Idle => {
                    self.patience.lately.note(self.clock.now_ns());
                    if failure.is_none() {
                        failure = self.call(H::on_idle).map(|error| self.dated(error));
                    }
                }
                Received::Ended => break,
            }
            self.recorder.offer();
        }
        // A handler that has panicked is not called any more.
        if !matches!(failure, Some((_, Error::HandlerPanicked { .. }))) {
            let panic = self.call(H::on_stop);
            failure = failure.or(panic.map(|error| self.dated(error)));
        }
        Ok(WorkerEnd {
            handler: self.handler,
            stages: self.recorder.finish(),
            failure,
        })
    }

    /// With when it happened.
    fn dated(&self, error: Error) -> (u64, Error) {
        (self.clock.now_ns(), error)
    }

    /// Takes a batch to the handler, conflated with others where that is due. Returns why it is the last
    /// one, if it is.
    fn take(&mut self, batch: Box<Batch>) -> Option<Error> {
        if !self.patience.is_over(&batch, &self.clock) {
            let failure = self.handle(&batch);
            self.give_back(batch);
            return failure;
        }
        let mut batches = self.patience.take_more(batch, &mut self.inlet);
        let counters = &self.ledger.workers[self.index];
        self.patience
            .conflate(&mut batches, &mut self.inlet, counters, &self.clock);
        let mut failure = None;
        for batch in batches.drain(..) {
            match failure {
                None => failure = self.handle(&batch),
                Some(_) => self.count_dropped(&batch, 0),
            }
            self.give_back(batch);
        }
        self.patience.keep(batches);
        failure
    }

    /// Gives back a batch that it is done with.
    fn give_back(&mut self, batch: Box<Batch>) {
        self.ledger.workers[self.index].batches.add(1);
        self.inlet.give_back(batch);
    }

    /// Runs the handler on a batch and accounts for it. Returns why it is the last one, if it is.
    fn handle(&mut self, batch: &Batch) -> Option<Error> {
        let start_wall = self.wall.now();
        let start_ns = self.clock.now_ns();
        let mut handled = 0;
        let snail = self.patience.take_up(batch, start_ns);
        let panic = self.call(|handler| {
            let snail = snail.as_deref();
            if batch.is_plain() {
                for message in batch.messages() {
                    handler.on_message(&message);
                    handled += 1;
                    if snail.is_some_and(Snail::is_given_up) {
                        break;
                    }
                }
            } else {
                handle_all(handler, batch, start_ns, snail, &mut handled);
            }
            handler.on_batch_end(batch);
        });
        self.patience.put_down(batch);
        let end_ns = self.clock.now_ns();
        let at = HandledAt {
            start_ns,
            end_ns,
            start_wall,
        };
        self.recorder
            .stages()
            .record(&batch.headers()[..handled], at, &self.feed_clocks);
        let counters = &self.ledger.workers[self.index];
        // Not after what only tells of silence or of connections.
        if !batch.is_empty() {
            counters.last_done_ns.set(end_ns);
        }
        counters.delivered.add(handled as u64);
        let untold = batch.notes().untold();
        if untold > 0 {
            counters.untold.add(untold);
        }
        self.count_dropped(batch, handled);
        panic.or_else(|| {
            let failure = self.patience.judge(batch, at, &self.feed_clocks);
            self.patience.lately.note(end_ns);
            if failure.is_some() {
                self.stop.request();
            }
            failure
        })
    }

    /// Calls into the handler. Returns its panic, if it did.
    #[inline]
    fn call(&mut self, call: impl FnOnce(&mut H)) -> Option<Error> {
        let panic = catch_unwind(AssertUnwindSafe(|| call(&mut self.handler))).err()?;
        if self.handler_panic == HandlerPanic::Stop {
            self.stop.request();
        }
        Some(Error::HandlerPanicked {
            worker: format!("worker-{}", self.index),
            message: panic_message(&*panic),
        })
    }

    /// Counts the messages of a batch from `first` on as discarded.
    fn count_dropped(&self, batch: &Batch, first: usize) {
        let dropped = batch.len() - first;
        if dropped > 0 {
            self.ledger.workers[self.index].dropped.add(dropped as u64);
            self.patience.topics.add_dropped(batch, first);
        }
    }
}

/// Runs the handler on messages with what happened between them, and with what they stand for, until all are handled or
/// the worker is given up.
#[cold]
fn handle_all<H: Handler>(
    handler: &mut H,
    batch: &Batch,
    now_ns: u64,
    snail: Option<&Snail>,
    handled: &mut usize,
) {
    let mut notices = batch.notes().iter().peekable();
    let mut receipts = batch.receipts().iter().peekable();
    for message in batch.messages() {
        while let Some((_, notice)) = notices.next_if(|(before, _)| before <= handled) {
            handler.on_notice(&notice);
        }
        if let Some((_, receipt)) = receipts.next_if(|(place, _)| place == handled) {
            handler.on_receipt(&receipt.at(now_ns), &message);
        }
        handler.on_message(&message);
        *handled += 1;
        if snail.is_some_and(Snail::is_given_up) {
            break;
        }
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
