//! Shards that change their worker while messages come.

use crate::{
    config::ShardingMode,
    error::{Error, Result},
    handoff::HandoffLimits,
    lane::{MoveOrder, Order, OrderSender},
    ledger::{LaneLedger, Ledger},
    pipeline::Pipeline,
    shard::{SHARDS, ShardMove, ShardTable, even_out, shard_of, topic_hash},
    worker::Handler,
};

/// Which worker is to have which shard.
#[derive(Debug)]
pub(super) struct Shards {
    /// `None` where topics have no workers of their own.
    table: Option<ShardTable>,
    workers: usize,
    /// The number of moves that one asked for is: each source of batches makes its own.
    sources: u64,
    /// The number of the last order, whether or not all lanes hear it.
    ordered: u64,
    /// Moves that all lanes hear of.
    asked: u64,
    /// What had come at the last look.
    seen: Loads,
    /// What each way to a worker holds, and how many there are.
    handoff: HandoffLimits,
    ways: u64,
    /// Waits for workers and messages given up for want of room, at the last look.
    given_up: u64,
    /// Whether a worker that fails is left behind by the others.
    isolates: bool,
}

impl Shards {
    /// `table` is what all sources start with; `ways` is how many lead to each worker.
    pub(super) fn new(
        mode: ShardingMode,
        table: ShardTable,
        workers: usize,
        sources: usize,
        handoff: HandoffLimits,
        ways: usize,
        isolates: bool,
    ) -> Self {
        Self {
            table: (mode == ShardingMode::Keyed).then_some(table),
            workers,
            sources: sources as u64,
            ordered: 0,
            asked: 0,
            seen: Loads::none(workers),
            handoff,
            ways: ways as u64,
            given_up: 0,
            isolates,
        }
    }

    /// What has come since the last call.
    fn take_loads(&mut self, ledger: &Ledger) -> Loads {
        let mut total = Loads::none(self.workers);
        for lane in &ledger.lanes {
            total.add(lane);
        }
        let before = std::mem::replace(&mut self.seen, total);
        self.seen.since(&before)
    }
}

/// Who has a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The shard that it moves with, or `None` where an override gives it to its worker, with which it stays.
    pub shard: Option<usize>,
    /// The worker, counted from 0.
    pub worker: usize,
}

/// Messages, as a sample of them tells.
#[derive(Debug)]
struct Loads {
    by_shard: [u64; SHARDS],
    /// By worker: of topics that an override gives to it.
    placed: Vec<u64>,
}

impl Loads {
    fn none(workers: usize) -> Self {
        Self {
            by_shard: [0; SHARDS],
            placed: vec![0; workers],
        }
    }

    fn add(&mut self, lane: &LaneLedger) {
        for (load, counter) in self.by_shard.iter_mut().zip(&lane.by_shard) {
            *load += counter.get();
        }
        for (load, way) in self.placed.iter_mut().zip(&lane.ways) {
            *load += way.placed.get();
        }
    }

    fn since(&self, before: &Self) -> Self {
        let placed = self.placed.iter().zip(&before.placed);
        Self {
            by_shard: std::array::from_fn(|shard| self.by_shard[shard] - before.by_shard[shard]),
            placed: placed.map(|(now, then)| now - then).collect(),
        }
    }
}

/// Says why shards are not evened out where failed workers are isolated.
fn isolates(key: &str) -> Error {
    Error::config(
        key,
        true,
        "with `handler_panic = \"isolate\"` shards could go to a worker that has failed, for all to be dropped",
        "use `handler_panic = \"stop\"`",
    )
}

impl<H: Handler> Pipeline<H> {
    /// Moves a shard to another worker while messages come. Messages of each topic stay in order, and all of them
    /// are accounted for: those that come meanwhile are held until the worker before is done with what it has.
    ///
    /// Each lane, and each feed of copies, moves it for itself: until all have, a topic that comes by several may be
    /// with both workers.
    ///
    /// Returns at once; [`is_moving`](Self::is_moving) tells when it is done. Topics that an override gives to
    /// a worker don't move.
    ///
    /// # Errors
    /// [`Error::Config`] where there is no such shard or worker, or topics have no workers of their own;
    /// [`Error::LaneBusy`].
    pub fn move_shard(&mut self, shard: usize, worker: usize) -> Result<()> {
        let workers = self.shards.workers;
        let Some(table) = &mut self.shards.table else {
            return Err(Error::config(
                "sharding.mode",
                "balanced",
                "topics have no workers of their own",
                "give `mode = \"keyed\"`",
            ));
        };
        if shard >= SHARDS {
            let remedy = format!("give a number from 0 to {}", SHARDS - 1);
            return Err(Error::config(
                "shard",
                shard,
                format!("there are {SHARDS} shards"),
                remedy,
            ));
        }
        if worker >= workers {
            let remedy = format!("give a number from 0 to {}", workers - 1);
            return Err(Error::config(
                "worker",
                worker,
                format!("there are {workers} workers"),
                remedy,
            ));
        }
        // All or nothing, so that all lanes agree.
        if self.orders.iter().any(OrderSender::is_full) {
            return Err(Error::LaneBusy);
        }
        self.shards.ordered += 1;
        let order = MoveOrder {
            number: self.shards.ordered,
            shard,
            worker,
        };
        for orders in &self.orders {
            if !orders.send(Order::Move(order)) {
                return Err(Error::LaneBusy);
            }
        }
        self.shards.asked += 1;
        table.give(shard, worker);
        Ok(())
    }

    /// Returns the worker that each shard has, or is about to have, or `None` where topics have no workers of
    /// their own.
    #[must_use]
    pub fn shards(&self) -> Option<[usize; SHARDS]> {
        let table = self.shards.table.as_ref()?;
        Some(std::array::from_fn(|shard| table.owner_of(shard)))
    }

    /// Returns who has a topic, or is about to, or `None` where topics have no workers of their own.
    #[must_use]
    pub fn owner_of(&self, topic: &[u8]) -> Option<Owner> {
        let table = self.shards.table.as_ref()?;
        let hash = topic_hash(topic);
        let is_placed = table.override_for(topic).is_some();
        Some(Owner {
            shard: (!is_placed).then(|| shard_of(hash)),
            worker: table.worker_of(topic, hash),
        })
    }

    /// Tells whether a shard that was asked to move has not moved yet.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        let done: u64 = self.ledger.lanes.iter().map(|lane| lane.moves.get()).sum();
        done < self.shards.asked * self.shards.sources
    }

    /// Moves shards away from workers that are behind, if others get fewer messages; to be called about once
    /// a second. Counts messages since the last call. Returns the moves that it asked for: none before those of
    /// the last time are done.
    ///
    /// Workers are behind where a lane had to wait for one since the last call, or gave messages up for want of
    /// room, or where as many batches are under way to one as if there were [many](HandoffLimits::is_behind) on each
    /// way to it. Topics with an override stay where they are, and
    /// what they bring counts for their workers.
    ///
    /// # Errors
    /// As [`move_shard`](Self::move_shard), and [`Error::Config`] with `handler_panic = "isolate"`: shards could
    /// go to a worker that has failed.
    pub fn rebalance(&mut self) -> Result<Vec<ShardMove>> {
        if self.shards.isolates {
            return Err(isolates("Pipeline::rebalance"));
        }
        let loads = self.shards.take_loads(&self.ledger);
        let totals = self.ledger.totals();
        let given_up = totals.blocked + totals.dropped + totals.conflated;
        let mut is_behind = given_up > std::mem::replace(&mut self.shards.given_up, given_up);
        for worker in self.ledger.by_worker() {
            let under_way = worker.batches_under_way / self.shards.ways;
            is_behind |= self.shards.handoff.is_behind(under_way as usize);
        }
        let Some(table) = &self.shards.table else {
            return Ok(Vec::new());
        };
        if self.is_moving() || !is_behind {
            return Ok(Vec::new());
        }
        let moves = even_out(&loads.by_shard, &loads.placed, table);
        for step in &moves {
            self.move_shard(step.shard, step.to)?;
        }
        Ok(moves)
    }
}
