//! Goal: a publisher that is killed and started again is received from again, without help.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use pinfeed::{
    config::{Config, Engine},
    envelope::Envelope,
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::Handler,
};
use rustix::process::Signal;
use support::{ENGINES, Pinfeed, finish, free_endpoint, wait_until};

const LIVES: u64 = 3;
/// Messages that show that a publisher is really being received from.
const ENOUGH: u64 = 5_000;

/// Counts the lives that it has seen enough messages of.
struct Lives {
    epoch: u64,
    seen: u64,
    lives: Arc<AtomicU64>,
}

impl Handler for Lives {
    fn on_message(&mut self, message: &Message<'_>) {
        let epoch = message.epoch().expect("an epoch");
        if epoch != self.epoch {
            assert!(epoch > self.epoch, "an earlier life came back");
            (self.epoch, self.seen) = (epoch, 0);
        }
        self.seen += 1;
        if self.seen == ENOUGH {
            self.lives.fetch_add(1, SeqCst);
        }
    }
}

#[test]
fn ingestion_resumes_after_each_restart() {
    for engine in ENGINES {
        resumes(engine);
    }
}

fn resumes(engine: Engine) {
    let endpoint = free_endpoint();
    let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
    config.engine = Some(engine);
    config.workers.count = 1;
    let lives = Arc::new(AtomicU64::new(0));
    let stop = Stop::default();
    let pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| Lives {
        epoch: 0,
        seen: 0,
        lives: lives.clone(),
    })
    .unwrap();
    for life in 1..=LIVES {
        let publisher = Pinfeed::start(&["publish", "--bind", &endpoint, "--rate", "50000"]);
        wait_until("the publisher is received from", || {
            lives.load(SeqCst) == life
        });
        publisher.signal(Signal::KILL);
    }
    stop.request();
    let outcome = finish(pipeline);
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert!(outcome.totals.balanced());
    assert!(outcome.totals.delivered >= LIVES * ENOUGH);
    assert_eq!(outcome.totals.connects, LIVES);
}
