//! What one subscriber is subscribed to.
//!
//! Prefixes are counted, as ZeroMQ counts them: two subscriptions need two cancellations. Which messages
//! of the block they match is found out once for each change, not once a round: a look-up for each message
//! and for each length that prefixes have, of which there are few however many prefixes there are.

use std::collections::HashMap;

use crate::{publish::blast::block::Block, zmtp::Subscription};

/// The most that a subscriber's prefixes may take in all, in bytes.
const PREFIX_BYTES_MAX: usize = 64 << 20;
/// What a prefix is taken to cost apart from its bytes.
const PREFIX_OVERHEAD_BYTES: usize = 64;

/// The subscriptions of one subscriber.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// How often each prefix is subscribed to.
    prefixes: HashMap<Box<[u8]>, u64>,
    prefix_bytes: usize,
    /// Whether each message of the block is wanted; unknown after a change.
    wanted: Option<Vec<bool>>,
}

/// A subscriber asked for too many prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Subscriptions {
    /// Carries out a change.
    pub(super) fn change(&mut self, change: Subscription<'_>) -> Result<(), TooMany> {
        match change {
            Subscription::Start(prefix) => {
                if let Some(count) = self.prefixes.get_mut(prefix) {
                    *count += 1;
                    return Ok(());
                }
                self.prefix_bytes += prefix.len() + PREFIX_OVERHEAD_BYTES;
                if self.prefix_bytes > PREFIX_BYTES_MAX {
                    return Err(TooMany);
                }
                self.prefixes.insert(prefix.into(), 1);
            }
            Subscription::End(prefix) => {
                // Cancelling what one is not subscribed to changes nothing.
                let Some(count) = self.prefixes.get_mut(prefix) else {
                    return Ok(());
                };
                *count -= 1;
                if *count > 0 {
                    return Ok(());
                }
                self.prefixes.remove(prefix);
                self.prefix_bytes -= prefix.len() + PREFIX_OVERHEAD_BYTES;
            }
        }
        self.wanted = None;
        Ok(())
    }

    /// Tells whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Tells whether all messages are wanted.
    pub(super) fn is_everything(&self) -> bool {
        self.prefixes.contains_key(&b""[..])
    }

    /// Returns, for each message of the block, whether it is wanted.
    pub(super) fn wanted(&mut self, block: &Block) -> &[bool] {
        self.wanted.get_or_insert_with(|| {
            let mut lengths: Vec<usize> = self.prefixes.keys().map(|prefix| prefix.len()).collect();
            lengths.sort_unstable();
            lengths.dedup();
            let wanted = |message| {
                let key = block.key(message);
                let starts = lengths.iter().map_while(|&length| key.get(..length));
                starts
                    .into_iter()
                    .any(|start| self.prefixes.contains_key(start))
            };
            (0..block.messages()).map(wanted).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::{blast::block::tests::block, format::Format};
    use Subscription::{End, Start};

    #[test]
    fn prefixes_match_and_are_counted() {
        let block = block(Format::Pinfeed, 100);
        let mut subscriptions = Subscriptions::default();
        let matching = |subscriptions: &mut Subscriptions, prefixes: &[&[u8]]| {
            let wanted = subscriptions.wanted(&block);
            for (message, &wanted) in wanted.iter().enumerate() {
                let key = block.key(message);
                let expected = prefixes.iter().any(|prefix| key.starts_with(prefix));
                assert_eq!(wanted, expected, "{}", key.escape_ascii());
            }
        };
        matching(&mut subscriptions, &[]);
        for change in [
            Start(b"sim.0001"),
            Start(b"sim.00001\0"),
            Start(b"sim.00002"),
            Start(b"sim.00002"),
            Start(b"nothing"),
            End(b"never"),
            End(b"sim.00002"),
        ] {
            assert_eq!(subscriptions.change(change), Ok(()));
        }
        matching(
            &mut subscriptions,
            &[b"sim.0001", b"sim.00001\0", b"sim.00002"],
        );
        subscriptions.change(End(b"sim.00002")).unwrap();
        matching(&mut subscriptions, &[b"sim.0001", b"sim.00001\0"]);
        assert!(!subscriptions.is_everything());
        subscriptions.change(Start(b"")).unwrap();
        assert!(subscriptions.is_everything());
    }

    #[test]
    fn what_prefixes_take_is_bounded_and_given_back() {
        let mut subscriptions = Subscriptions::default();
        let prefix = vec![7; PREFIX_BYTES_MAX / 2];
        for _ in 0..3 {
            subscriptions.change(Start(&prefix)).unwrap();
            subscriptions.change(End(&prefix)).unwrap();
        }
        assert!(subscriptions.is_empty());
        subscriptions.change(Start(&prefix)).unwrap();
        assert_eq!(subscriptions.change(Start(&prefix[1..])), Err(TooMany));
    }
}
