//! Goal: a handler that panics neither hangs the lanes nor unbalances the ledger: what its worker
//! no longer delivers is counted as dropped, and the panic is the run's failure.

mod support;

use pinfeed::{
    Error,
    config::{Config, HandlerPanic},
    envelope::Envelope,
    lane::Quota,
    message::Message,
    pipeline::{Outcome, Pipeline},
    stop::Stop,
    worker::Handler,
};
use support::{finish, publisher};

const MESSAGES: u64 = 50_000;
const SEEN_BEFORE_PANIC: u64 = 1_000;

struct Fragile {
    worker: usize,
    seen: u64,
}

impl Handler for Fragile {
    fn on_message(&mut self, _message: &Message<'_>) {
        assert!(
            self.worker != 0 || self.seen < SEEN_BEFORE_PANIC,
            "message {} is too much",
            self.seen
        );
        self.seen += 1;
    }
}

fn run(handler_panic: HandlerPanic) -> Outcome<Fragile> {
    let messages = MESSAGES.to_string();
    let (_publisher, endpoint) =
        publisher(&["--rate", "max", "--skew", "0", "--messages", &messages]);
    let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
    config.workers.handler_panic = handler_panic;
    let pipeline = Pipeline::start(&config, Quota::of(MESSAGES), Stop::default(), |worker| {
        Fragile { worker, seen: 0 }
    })
    .unwrap();
    finish(pipeline)
}

fn assert_accounted(outcome: &Outcome<Fragile>) {
    match &outcome.failure {
        Some(Error::HandlerPanicked { worker, message }) => {
            assert_eq!(worker, "worker-0");
            assert_eq!(message, "message 1000 is too much");
        }
        other => panic!("the panic is the failure, not {other:?}"),
    }
    let totals = &outcome.totals;
    assert!(totals.balanced(), "{totals:?}");
    assert!(totals.dropped > 0, "{totals:?}");
    assert_eq!(outcome.handlers[0].seen, SEEN_BEFORE_PANIC);
    let seen: u64 = outcome.handlers.iter().map(|handler| handler.seen).sum();
    assert_eq!(totals.delivered, seen);
    assert_eq!(outcome.stages.queue.len(), seen);
}

#[test]
fn stops_the_pipeline() {
    let outcome = run(HandlerPanic::Stop);
    assert_accounted(&outcome);
}

#[test]
fn leaves_the_others_running_when_isolated() {
    let outcome = run(HandlerPanic::Isolate);
    assert_accounted(&outcome);
    assert_eq!(outcome.totals.received, MESSAGES);
    let others = outcome.handlers[1].seen;
    assert_eq!(
        outcome.totals.dropped,
        MESSAGES - SEEN_BEFORE_PANIC - others
    );
}

/// Worker 1 at its first message, worker 0 when all is over.
struct OneByOne {
    worker: usize,
}

impl Handler for OneByOne {
    fn on_message(&mut self, _message: &Message<'_>) {
        assert!(self.worker == 0, "at once");
    }

    fn on_stop(&mut self) {
        assert!(self.worker != 0, "at the end");
    }
}

#[test]
fn who_failed_first_is_named() {
    let (_publisher, endpoint) = publisher(&["--rate", "10000", "--skew", "0"]);
    let config = Config::connect(&endpoint, Envelope::Pinfeed);
    let start = Pipeline::start(&config, Quota::unlimited(), Stop::default(), |worker| {
        OneByOne { worker }
    });
    match finish(start.unwrap()).failure {
        Some(Error::HandlerPanicked { worker, message }) => {
            assert_eq!((worker.as_str(), message.as_str()), ("worker-1", "at once"));
        }
        other => panic!("the panic is the failure, not {other:?}"),
    }
}
