//! Pipelines whose shards move.

use pinfeed::{
    config::{Config, Engine},
    envelope::Envelope,
    handoff::HandoffKind,
    pipeline::{Outcome, Pipeline},
    random::seeded,
    shard::SHARDS,
    stop::Stop,
    worker::Handler,
};
use rand::{RngExt, rngs::StdRng};

use super::{finish, wait_until};

pub const WORKERS: usize = 4;

/// Four workers, behind handoffs that are soon full.
pub fn config(endpoint: &str, engine: Engine, kind: HandoffKind) -> Config {
    let mut config = Config::connect(endpoint, Envelope::Pinfeed);
    config.engine = Some(engine);
    config.workers.count = WORKERS;
    config.handoff.kind = kind;
    config.handoff.batches = 8;
    config.handoff.batch_messages = 64;
    config.policy.conflate_after_ms = 1;
    config
}

/// Moves a shard at random to another worker, and waits until it has moved and more has come.
pub fn move_one<H: Handler>(pipeline: &mut Pipeline<H>, random: &mut StdRng) {
    let before = pipeline.look().received;
    let shard = random.random_range(0..SHARDS);
    let owner = pipeline.shards().unwrap()[shard];
    let worker = (owner + random.random_range(1..WORKERS)) % WORKERS;
    pipeline.move_shard(shard, worker).unwrap();
    assert_eq!(pipeline.shards().unwrap()[shard], worker);
    wait_until("the shard has moved, under load", || {
        assert!(!pipeline.is_finished(), "a handler found disorder");
        !pipeline.is_moving() && pipeline.look().received > before
    });
}

/// Moves so many shards at random, one after the other, then stops.
pub fn move_at_random<H: Handler>(
    mut pipeline: Pipeline<H>,
    stop: &Stop,
    moves: u64,
    seed: u64,
) -> Outcome<H> {
    let mut random = seeded(seed);
    wait_until("messages come", || pipeline.look().received > 0);
    for _ in 0..moves {
        move_one(&mut pipeline, &mut random);
    }
    stop.request();
    finish(pipeline)
}
