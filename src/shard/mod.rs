//! Which worker owns a topic: topic → shard is a pure function, shard → worker a small table.
//!
//! A topic's hash is XXH3-64 with seed 0 over its bytes
//! ([specification](https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md)), and its shard
//! is the top eight bits of that hash. Both are the same on every machine and in every release:
//! they decide who owns what, so another program may compute them. The low bits stay free for hash
//! tables keyed by the same hash.
//!
//! XXH3 was chosen because it is specified, has implementations in every language, and takes 1–2 ns
//! for topics of up to 26 bytes (`cargo bench --bench shard`).

mod balance;

pub use balance::{ShardMove, even_out};

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

/// The number of shards.
pub const SHARDS: usize = 256;

/// Returns the hash of a topic: XXH3-64, seed 0.
// In a lane's innermost loop.
#[inline(always)]
#[must_use]
pub fn topic_hash(topic: &[u8]) -> u64 {
    xxh3_64(topic)
}

/// Returns the shard of a topic with this hash: its top eight bits.
#[inline]
#[must_use]
pub fn shard_of(hash: u64) -> usize {
    (hash >> 56) as usize
}

/// A rule that gives all topics with a prefix to one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The bytes that a topic starts with.
    pub prefix: Vec<u8>,
    /// The worker that gets it.
    pub worker: usize,
}

/// The table from shards to workers, and the overrides that come before it.
#[derive(Clone, Debug)]
pub struct ShardTable {
    workers: [u16; SHARDS],
    /// Longest prefix first, so that the first match is the most specific one.
    overrides: Vec<Override>,
}

impl ShardTable {
    /// Deals the shards out evenly to `workers`, shard `s` to worker `s % workers`.
    ///
    /// # Errors
    /// [`Error::Config`] where there are no workers, more than shards, or an override names a
    /// worker that does not exist, or the prefix of another.
    pub fn new(workers: usize, mut overrides: Vec<Override>) -> Result<Self> {
        if workers == 0 || workers > SHARDS {
            return Err(Error::config(
                "workers.count",
                workers,
                format!("there are {SHARDS} shards to share out"),
                format!("give a number from 1 to {SHARDS}"),
            ));
        }
        for (index, rule) in overrides.iter().enumerate() {
            if rule.worker >= workers {
                return Err(Error::config(
                    format!("sharding.override[{index}].worker"),
                    rule.worker,
                    format!("there are {workers} workers"),
                    match workers {
                        1 => "give 0".to_owned(),
                        _ => format!("give a number from 0 to {}", workers - 1),
                    },
                ));
            }
            let mut before = overrides[..index].iter();
            if let Some(other) = before.position(|other| other.prefix == rule.prefix) {
                return Err(Error::config(
                    format!("sharding.override[{index}].prefix"),
                    format!("\"{}\"", rule.prefix.escape_ascii()),
                    format!(
                        "sharding.override[{other}] has the same, and a topic goes to one worker"
                    ),
                    "leave one of the two out",
                ));
            }
        }
        overrides.sort_by_key(|rule| std::cmp::Reverse(rule.prefix.len()));
        let mut table = [0; SHARDS];
        for (shard, worker) in table.iter_mut().enumerate() {
            *worker = (shard % workers) as u16;
        }
        Ok(Self {
            workers: table,
            overrides,
        })
    }

    /// Returns the worker that owns a topic, given the topic and its [`topic_hash`].
    #[inline]
    #[must_use]
    pub fn worker_of(&self, topic: &[u8], hash: u64) -> usize {
        match self.override_for(topic) {
            Some(worker) => worker,
            None => usize::from(self.workers[shard_of(hash)]),
        }
    }

    /// Returns the worker that an override gives a topic to, whoever has its shard.
    #[inline]
    #[must_use]
    pub fn override_for(&self, topic: &[u8]) -> Option<usize> {
        let mut overrides = self.overrides.iter();
        let rule = overrides.find(|rule| topic.starts_with(&rule.prefix))?;
        Some(rule.worker)
    }

    /// Returns the overrides, the longest prefix first.
    #[inline]
    #[must_use]
    pub fn overrides(&self) -> &[Override] {
        &self.overrides
    }

    /// Returns the worker that owns a shard.
    ///
    /// # Panics
    /// Where there is no such shard.
    #[inline]
    #[must_use]
    pub fn owner_of(&self, shard: usize) -> usize {
        usize::from(self.workers[shard])
    }

    /// Gives a shard to a worker.
    ///
    /// # Panics
    /// Where there is no such shard.
    pub fn give(&mut self, shard: usize, worker: usize) {
        self.workers[shard] = worker as u16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pins hash and shard to values computed with another implementation (Python's `xxhash`), so
    /// that an upgrade of the hash crate cannot move a topic to another owner.
    #[test]
    fn hash_is_the_specified_one() {
        for (topic, hash) in [
            (&b""[..], 0x2d06_8005_38d3_94c2),
            (b"BTC-USD", 0xdaab_9b98_c1b5_e947),
            (b"binance.btcusdt@bookTicker", 0x8e41_dc94_4a5e_3e69),
        ] {
            assert_eq!(topic_hash(topic), hash, "{}", topic.escape_ascii());
        }
    }

    #[test]
    fn shards_are_shared_out_evenly() {
        let table = ShardTable::new(3, Vec::new()).unwrap();
        let mut owned = [0; 3];
        for shard in 0..SHARDS {
            owned[table.worker_of(b"any", (shard as u64) << 56)] += 1;
        }
        assert_eq!(owned, [86, 85, 85]);
    }

    #[test]
    fn longest_override_wins() {
        let rule = |prefix: &str, worker| Override {
            prefix: prefix.into(),
            worker,
        };
        let table = ShardTable::new(4, vec![rule("BTC", 1), rule("BTC-USD", 2)]).unwrap();
        assert_eq!(table.worker_of(b"BTC-EUR", 0), 1);
        assert_eq!(table.worker_of(b"BTC-USDT", 0), 2);
        assert_eq!(table.worker_of(b"ETH-USD", 3 << 56), 3);
    }

    #[test]
    fn an_override_for_no_worker_is_refused() {
        let rule = Override {
            prefix: b"BTC".to_vec(),
            worker: 2,
        };
        let refused = ShardTable::new(2, vec![rule]).unwrap_err();
        assert!(refused.to_string().contains("from 0 to 1"), "{refused}");
    }
}
