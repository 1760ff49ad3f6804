//! Goal: a message whose worker has nothing else to do is not kept back by those of others, though these come
//! without a pause.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use pinfeed::{
    clock::Deadline,
    config::{Config, TopicOverride},
    envelope::Envelope,
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, Gate, finish, patient_xpub, wait_until};

const BATCHES: usize = 32;
/// More than there are batches for.
const BEFORE: u64 = 100_000;
const BEHIND: u64 = 400_000;

#[derive(Default)]
struct Counts {
    gate: Option<Gate>,
    /// Messages of the topic that comes without a pause.
    common: Arc<AtomicU64>,
    /// As many of them as had been handled when the rare one was.
    before_rare: Arc<AtomicU64>,
}

impl Handler for Counts {
    fn on_message(&mut self, message: &Message<'_>) {
        if let Some(gate) = self.gate.take() {
            gate.pass();
        }
        if message.topic() == b"common" {
            self.common.fetch_add(1, SeqCst);
        } else {
            self.before_rare.store(self.common.load(SeqCst), SeqCst);
        }
    }
}

#[test]
fn goes_to_a_worker_without_work_whatever_comes_behind_it() {
    for engine in ENGINES {
        let context = zmq::Context::new();
        let (publisher, endpoint) = patient_xpub(&context);
        let mut config = Config::connect(&endpoint, Envelope::Raw);
        config.engine = Some(engine);
        config.handoff.batches = BATCHES;
        // All that comes while the lane waits.
        config.receive.high_water_mark = 1_000_000;
        config.sharding.overrides = ["common", "rare"]
            .into_iter()
            .enumerate()
            .map(|(worker, prefix)| TopicOverride {
                prefix: prefix.to_owned(),
                worker,
            })
            .collect();
        let (gate, common, before_rare) = (Gate::default(), Arc::default(), Arc::default());
        let quota = Quota::of(BEFORE + 1 + BEHIND);
        let mut pipeline = Pipeline::start(&config, quota, Stop::default(), |worker| Counts {
            gate: (worker == 0).then(|| gate.clone()),
            common: Arc::clone(&common),
            before_rare: Arc::clone(&before_rare),
        })
        .unwrap();
        publisher.recv_bytes(0).expect("a subscription");
        for _ in 0..BEFORE {
            publisher.send("common", 0).unwrap();
        }
        wait_until("the lane waits", || pipeline.look().blocked > 0);
        publisher.send("rare", 0).unwrap();
        for _ in 0..BEHIND {
            publisher.send("common", 0).unwrap();
        }
        // What is not there when the lane goes on is a pause.
        let arrival = Deadline::after(Duration::from_millis(500));
        while !arrival.passed() {
            assert_eq!(pipeline.look().delivered, 0);
            thread::yield_now();
        }
        gate.open();
        let outcome = finish(pipeline);
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        assert_eq!(outcome.totals.delivered, BEFORE + 1 + BEHIND);
        let behind = before_rare.load(SeqCst).saturating_sub(BEFORE);
        assert!(behind < BEHIND / 2, "{engine:?}: {behind} came before it");
    }
}
