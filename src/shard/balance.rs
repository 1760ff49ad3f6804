//! Which shards to move so that workers get alike much.

use crate::shard::{SHARDS, ShardTable};

/// Moves proposed at once: so that a mistaken one is soon seen to be.
const MOVES_MAX: usize = 32;
/// Two workers that are no farther apart than this part of the mean are left alone.
const EVEN_ENOUGH: f64 = 0.1;

/// A shard that is to go to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardMove {
    /// The shard, counted from 0.
    pub shard: usize,
    /// The worker that has it, counted from 0.
    pub from: usize,
    /// The worker that is to have it, counted from 0.
    pub to: usize,
}

/// Proposes moves, from the messages that each shard had lately: those with one way to go one after the other,
/// an improvement as a whole. `placed` is what each worker had beside, of topics that can't move.
///
/// Each step takes a shard from the worker with the most messages to the one with the fewest, the one that
/// brings both closest together. What one shard alone has too much of cannot be shared: it ends up with a
/// worker to itself.
#[must_use]
pub fn even_out(by_shard: &[u64; SHARDS], placed: &[u64], table: &ShardTable) -> Vec<ShardMove> {
    let workers = placed.len();
    let mut owners: Vec<usize> = (0..SHARDS).map(|shard| table.owner_of(shard)).collect();
    let mut loads = placed.to_vec();
    for (shard, &owner) in owners.iter().enumerate() {
        loads[owner] += by_shard[shard];
    }
    let mean = loads.iter().sum::<u64>() as f64 / workers as f64;
    for _ in 0..MOVES_MAX {
        // The busiest worker first; where it can give nothing away, the next.
        let mut busiest: Vec<usize> = (0..workers).collect();
        busiest.sort_by_key(|&worker| std::cmp::Reverse(loads[worker]));
        let Some(&idlest) = busiest.last() else {
            break;
        };
        let find = |&from: &usize| {
            let apart = loads[from] - loads[idlest];
            if apart as f64 <= EVEN_ENOUGH * mean {
                return None;
            }
            (0..SHARDS)
                .filter(|&shard| owners[shard] == from)
                // Otherwise the other one would have as many afterwards.
                .filter(|&shard| by_shard[shard] > 0 && by_shard[shard] < apart)
                .min_by_key(|&shard| (apart / 2).abs_diff(by_shard[shard]))
        };
        let Some((from, shard)) = busiest
            .iter()
            .find_map(|from| find(from).map(|shard| (*from, shard)))
        else {
            break;
        };
        loads[from] -= by_shard[shard];
        loads[idlest] += by_shard[shard];
        owners[shard] = idlest;
    }
    let moved = owners.into_iter().enumerate();
    let moves = moved.map(|(shard, to)| ShardMove {
        shard,
        from: table.owner_of(shard),
        to,
    });
    let mut moves: Vec<_> = moves.filter(|step| step.from != step.to).collect();
    moves.sort_by_key(|step| (step.from, step.to));
    moves
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What each worker has after the moves, and their number.
    fn after(by_shard: &[u64; SHARDS], placed: &[u64], table: &ShardTable) -> (Vec<u64>, usize) {
        let mut table = table.clone();
        let moves = even_out(by_shard, placed, &table);
        for step in &moves {
            assert_eq!(table.owner_of(step.shard), step.from);
            assert_ne!(step.from, step.to);
            table.give(step.shard, step.to);
        }
        let mut loads = placed.to_vec();
        for shard in 0..SHARDS {
            loads[table.owner_of(shard)] += by_shard[shard];
        }
        (loads, moves.len())
    }

    #[test]
    fn one_shard_with_most_of_it_gets_a_worker_to_itself() {
        let table = ShardTable::new(4, Vec::new()).unwrap();
        // 56 % in shard 8, which worker 0 has with 49 others; the rest in 98 shards of workers 0 and 2.
        let mut by_shard = [0; SHARDS];
        for shard in (0..198).step_by(2) {
            by_shard[shard] = 44;
        }
        by_shard[8] = 5_600;
        let (mut loads, _) = after(&by_shard, &[0; 4], &table);
        loads.sort_unstable();
        assert_eq!(loads[3], 5_600);
        assert!(loads[..3].iter().all(|&load| load > 1_000), "{loads:?}");
    }

    #[test]
    fn nothing_moves_where_nothing_would_be_gained() {
        let table = ShardTable::new(4, Vec::new()).unwrap();
        assert!(even_out(&[7; SHARDS], &[0; 4], &table).is_empty());
        assert!(even_out(&[0; SHARDS], &[0; 4], &table).is_empty());
        let mut by_shard = [0; SHARDS];
        by_shard[5] = 1_000;
        assert!(even_out(&by_shard, &[0; 4], &table).is_empty());
        let alone = ShardTable::new(1, Vec::new()).unwrap();
        assert!(even_out(&by_shard, &[0], &alone).is_empty());
    }

    #[test]
    fn what_cannot_move_weighs() {
        let table = ShardTable::new(2, Vec::new()).unwrap();
        // Worker 0 has as many by its shards as worker 1, and three times as many by overrides.
        let (loads, moves) = after(&[10; SHARDS], &[7_680, 0], &table);
        assert_eq!(loads, [8_640, 1_600]);
        assert_eq!(moves, MOVES_MAX);
        assert!(even_out(&[10; SHARDS], &[5, 0], &table).is_empty());
    }

    proptest! {
        /// No worker ever has more than the busiest one had.
        #[test]
        fn it_never_gets_worse(
            by_shard in proptest::collection::vec(0_u64..10_000, SHARDS),
            placed in proptest::collection::vec(0_u64..1_000_000, 1..9),
        ) {
            let by_shard: [u64; SHARDS] = by_shard.try_into().unwrap();
            let table = ShardTable::new(placed.len(), Vec::new()).unwrap();
            let mut before = placed.clone();
            for shard in 0..SHARDS {
                before[table.owner_of(shard)] += by_shard[shard];
            }
            let (loads, moves) = after(&by_shard, &placed, &table);
            prop_assert!(moves <= MOVES_MAX);
            prop_assert!(loads.iter().max() <= before.iter().max());
            prop_assert!(loads.iter().min() >= before.iter().min());
        }
    }
}
