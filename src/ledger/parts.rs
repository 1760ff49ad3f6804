//! The ledger of each lane and each worker, where the totals of all of them don't tell enough.

use crate::ledger::Ledger;

/// What one lane has counted so far. Counts are of messages unless named otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneTotals {
    /// Received, whatever became of them.
    pub received: u64,
    /// Bytes of their frames.
    pub received_bytes: u64,
    /// Nanoseconds that the lane waited for full handoffs.
    pub blocked_ns: u64,
    /// Connections made: handshakes that succeeded.
    pub connects: u64,
    /// Connections lost after that.
    pub disconnects: u64,
}

/// What one worker has counted so far. Counts are of messages unless named otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerTotals {
    /// Seen by the handler.
    pub delivered: u64,
    /// Batches under way to the worker, that it is at work on included.
    pub batches_under_way: u64,
    /// Messages in these, not accounted for yet.
    pub messages_under_way: u64,
}

impl Ledger {
    /// Reads the counters of each lane.
    #[must_use]
    pub fn by_lane(&self) -> Vec<LaneTotals> {
        let lane = |one: &super::LaneLedger| LaneTotals {
            received: one.received.get(),
            received_bytes: one.received_bytes.get(),
            blocked_ns: one.waits.blocked_ns.get(),
            // In this order: never more are seen to be lost than to be made.
            disconnects: one.disconnects.get(),
            connects: one.connects.get(),
        };
        self.lanes.iter().map(|one| lane(one)).collect()
    }

    /// Reads the counters of each worker.
    ///
    /// What it is done with is read before what was handed over, so more may seem to be under way than was
    /// at any moment, and never less.
    #[must_use]
    pub fn by_worker(&self) -> Vec<WorkerTotals> {
        let workers = self.workers.iter().enumerate();
        workers
            .map(|(worker, counters)| {
                let (delivered, done) = (counters.delivered.get(), counters.batches.get());
                let accounted = delivered + counters.dropped.get() + counters.conflated.get();
                let by_ways = |counter: fn(&super::WayLedger) -> &super::Counter| -> u64 {
                    let ways = self.lanes.iter().map(|lane| &lane.ways[worker]);
                    ways.map(|way| counter(way).get()).sum()
                };
                let taken_back = by_ways(|way| &way.taken_back);
                let messages_taken_back = by_ways(|way| &way.messages_taken_back);
                let handed_over = by_ways(|way| &way.batches);
                let messages = by_ways(|way| &way.messages);
                WorkerTotals {
                    delivered,
                    batches_under_way: handed_over.saturating_sub(taken_back + done),
                    messages_under_way: messages.saturating_sub(messages_taken_back + accounted),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_to_a_worker_comes_from_all_lanes() {
        let ledger = Ledger::new(2, 2);
        for (lane, batches) in ledger.lanes.iter().zip([5, 7]) {
            lane.ways[1].batches.add(batches);
            lane.ways[1].messages.add(10 * batches);
        }
        ledger.lanes[0].ways[1].taken_back.add(2);
        ledger.lanes[0].ways[1].messages_taken_back.add(20);
        ledger.workers[1].batches.add(4);
        ledger.workers[1].delivered.add(30);
        ledger.workers[1].dropped.add(3);
        ledger.workers[1].conflated.add(7);
        let workers = ledger.by_worker();
        let under_way: Vec<u64> = workers.iter().map(|one| one.batches_under_way).collect();
        assert_eq!(under_way, [0, 6]);
        let messages: Vec<u64> = workers.iter().map(|one| one.messages_under_way).collect();
        assert_eq!(messages, [0, 60]);
        assert_eq!(ledger.totals().batches, 12);
    }
}
