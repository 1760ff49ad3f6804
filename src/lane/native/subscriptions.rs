//! What a feed is subscribed to, and whether a message is.
//!
//! Publishers filter, so nearly every message that comes is wanted. A few are not: those under way when
//! a subscription ended, and those of publishers that do not filter. To tell them costs one search by
//! halves: among prefixes of which none begins with another, the only one that a topic can begin
//! with is the last that does not sort behind it.

use std::collections::BTreeMap;

/// The prefixes of a feed.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscriptions {
    /// Each with how often it was asked for.
    counts: BTreeMap<Vec<u8>, u32>,
    /// Those that no other one covers, sorted.
    shortest: Vec<Vec<u8>>,
    everything: bool,
}

impl Subscriptions {
    /// Starts with these prefixes; without any, with everything.
    pub(super) fn new(prefixes: &[String]) -> Self {
        let mut subscriptions = Self::default();
        if prefixes.is_empty() {
            subscriptions.counts.insert(Vec::new(), 1);
        }
        for prefix in prefixes {
            *subscriptions
                .counts
                .entry(prefix.as_bytes().to_vec())
                .or_default() += 1;
        }
        subscriptions.settle();
        subscriptions
    }

    /// Adds a prefix. Returns whether publishers have to be told.
    pub(super) fn start(&mut self, prefix: &[u8]) -> bool {
        let count = self.counts.entry(prefix.to_vec()).or_default();
        *count += 1;
        *count == 1
    }

    /// Takes a prefix away once. Returns whether publishers have to be told.
    pub(super) fn end(&mut self, prefix: &[u8]) -> bool {
        let Some(count) = self.counts.get_mut(prefix) else {
            return false;
        };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.counts.remove(prefix);
        }
        last
    }

    /// Makes changes take effect on what is [covered](Self::cover).
    pub(super) fn settle(&mut self) {
        self.shortest.clear();
        // What a prefix covers sorts right behind it.
        for prefix in self.counts.keys() {
            if !self
                .shortest
                .last()
                .is_some_and(|last| prefix.starts_with(last))
            {
                self.shortest.push(prefix.clone());
            }
        }
        self.everything = self.shortest.first().is_some_and(Vec::is_empty);
    }

    /// Returns all prefixes.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        self.counts.keys().map(Vec::as_slice)
    }

    /// Tells whether every message is subscribed to.
    #[inline]
    pub(super) fn cover_everything(&self) -> bool {
        self.everything
    }

    /// Tells whether a message whose first frame is this is subscribed to.
    #[inline]
    pub(super) fn cover(&self, frame: &[u8]) -> bool {
        self.everything || self.search(frame)
    }

    fn search(&self, frame: &[u8]) -> bool {
        let behind = self
            .shortest
            .partition_point(|prefix| prefix.as_slice() <= frame);
        behind > 0 && frame.starts_with(&self.shortest[behind - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counted_and_told_once() {
        let mut subscriptions = Subscriptions::new(&["BTC".to_owned()]);
        assert!(!subscriptions.start(b"BTC"));
        assert!(subscriptions.start(b"ETH"));
        subscriptions.settle();
        assert!(subscriptions.cover(b"ETH-USD"));
        assert!(!subscriptions.end(b"BTC"));
        subscriptions.settle();
        assert!(subscriptions.cover(b"BTC-USD"));
        assert!(subscriptions.end(b"BTC"));
        subscriptions.settle();
        assert!(!subscriptions.cover(b"BTC-USD"));
        assert!(!subscriptions.end(b"BTC"));
        assert!(Subscriptions::new(&[]).cover(b""));
    }

    proptest! {
        #[test]
        fn as_if_each_prefix_were_tried(
            prefixes in prop::collection::vec("[ab]{0,4}", 1..12),
            ended in prop::collection::vec(any::<bool>(), 12),
            frame in "[abc]{0,6}",
        ) {
            let mut subscriptions = Subscriptions::new(&prefixes);
            let mut left = Vec::new();
            for (prefix, end) in prefixes.iter().zip(ended) {
                if end {
                    subscriptions.end(prefix.as_bytes());
                } else {
                    left.push(prefix);
                }
            }
            subscriptions.settle();
            let wanted = left.iter().any(|prefix| frame.starts_with(prefix.as_str()));
            prop_assert_eq!(subscriptions.cover(frame.as_bytes()), wanted);
        }
    }
}
