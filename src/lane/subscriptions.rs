//! What a feed is subscribed to, and whether a message is.
//!
//! Publishers filter, so nearly every message that comes is wanted. A few are not: those under way when
//! a subscription ended, and those of publishers that do not filter. To tell them costs one search by
//! halves: among prefixes of which none begins with another, the only one that a topic can begin
//! with is the last that does not sort behind it.
//!
//! A topic that is wanted exactly is a prefix that ends with the envelope's delimiter. Where a topic is the
//! whole first frame there is none: publishers are told the topic as a prefix, and what they send of
//! longer topics is not wanted.

use std::collections::BTreeMap;

use crate::{
    config::{Feed, SocketKind},
    envelope::Exact,
};

/// What a feed wants of what starts with some bytes.
#[derive(Clone, Debug, Default)]
struct Wanted {
    /// How often all of it was asked for.
    count: u32,
    /// Whether the frame that is just these bytes is wanted in any case.
    exact: bool,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        self.count == 0 && !self.exact
    }
}

/// The prefixes of a feed.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscriptions {
    /// What publishers are told.
    wanted: BTreeMap<Vec<u8>, Wanted>,
    /// Prefixes that no other one covers, sorted.
    shortest: Vec<Vec<u8>>,
    /// Frames that are wanted whole, sorted.
    exact: Vec<Vec<u8>>,
    everything: bool,
    /// Whether there is nothing to tell: publishers that push send all they have.
    pushed: bool,
}

impl Subscriptions {
    /// Starts with what a feed wants: where it names neither prefixes nor topics, everything.
    pub(super) fn of(feed: &Feed) -> Self {
        let mut subscriptions = Self {
            pushed: feed.socket == SocketKind::Pull,
            ..Self::default()
        };
        if feed.subscribe.is_empty() && feed.topics.is_empty() {
            subscriptions.start(b"");
        }
        for prefix in &feed.subscribe {
            subscriptions.start(prefix.as_bytes());
        }
        for topic in &feed.topics {
            match feed.envelope.exact(topic.as_bytes()) {
                Some(Exact::Prefix(prefix)) => drop(subscriptions.start(&prefix)),
                Some(Exact::Frame(frame)) => {
                    subscriptions.wanted.entry(frame).or_default().exact = true;
                }
                None => unreachable!("the configuration was checked"),
            }
        }
        subscriptions.settle();
        subscriptions
    }

    /// Adds a prefix. Returns whether publishers have to be told.
    pub(super) fn start(&mut self, prefix: &[u8]) -> bool {
        let wanted = self.wanted.entry(prefix.to_vec()).or_default();
        let news = wanted.is_nothing();
        wanted.count += 1;
        news
    }

    /// Takes a prefix away once. Returns whether publishers have to be told.
    pub(super) fn end(&mut self, prefix: &[u8]) -> bool {
        let wanted = self.wanted.get_mut(prefix);
        let Some(wanted) = wanted.filter(|wanted| wanted.count > 0) else {
            return false;
        };
        wanted.count -= 1;
        let last = wanted.is_nothing();
        if last {
            self.wanted.remove(prefix);
        }
        last
    }

    /// Makes changes take effect on what is [covered](Self::cover).
    pub(super) fn settle(&mut self) {
        self.shortest.clear();
        self.exact.clear();
        // What a prefix covers sorts right behind it.
        for (prefix, wanted) in &self.wanted {
            let last = self.shortest.last();
            if last.is_some_and(|last| prefix.starts_with(last)) {
                continue;
            }
            if wanted.count > 0 {
                self.shortest.push(prefix.clone());
            } else {
                self.exact.push(prefix.clone());
            }
        }
        self.everything = self.pushed || self.shortest.first().is_some_and(Vec::is_empty);
    }

    /// Returns all prefixes that publishers are told.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        let told = self.wanted.keys().filter(|_| !self.pushed);
        told.map(Vec::as_slice)
    }

    /// Tells whether publishers that do all they are told still send what is not wanted.
    pub(super) fn are_inexact(&self) -> bool {
        !self.exact.is_empty()
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
        behind > 0 && frame.starts_with(&self.shortest[behind - 1]) || self.is_exact(frame)
    }

    fn is_exact(&self, frame: &[u8]) -> bool {
        let search = |one: &Vec<u8>| one.as_slice().cmp(frame);
        !self.exact.is_empty() && self.exact.binary_search_by(search).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, envelope::Envelope};
    use proptest::prelude::*;

    fn to_prefixes(prefixes: &[String]) -> Subscriptions {
        let mut config = Config::one_lane(Envelope::Raw);
        config.feeds[0].subscribe = prefixes.to_vec();
        Subscriptions::of(&config.feeds[0])
    }

    fn to_topics(envelope: Envelope, topics: &[&str]) -> Subscriptions {
        let mut config = Config::one_lane(envelope);
        config.feeds[0].topics = topics.iter().map(|&topic| topic.to_owned()).collect();
        Subscriptions::of(&config.feeds[0])
    }

    fn told(subscriptions: &Subscriptions) -> Vec<&[u8]> {
        subscriptions.prefixes().collect()
    }

    #[test]
    fn exact_topics_don_t_cover_longer_ones() {
        let delimited = to_topics(Envelope::Delimited(b' '), &["BTC-USD"]);
        assert_eq!(told(&delimited), [b"BTC-USD "]);
        assert!(!delimited.are_inexact());
        assert!(delimited.cover(b"BTC-USD 1"));
        assert!(!delimited.cover(b"BTC-USDT 1"));

        let mut whole = to_topics(Envelope::Raw, &["BTC-USD", "BTC-USDT", "ETH"]);
        assert_eq!(told(&whole), [&b"BTC-USD"[..], b"BTC-USDT", b"ETH"]);
        assert!(whole.are_inexact());
        for (frame, wanted) in [
            (&b"BTC-USD"[..], true),
            (b"BTC-USDT", true),
            (b"BTC-USDTX", false),
            (b"BTC-US", false),
            (b"ETH", true),
            (b"ETH-USD", false),
        ] {
            assert_eq!(whole.cover(frame), wanted, "{frame:?}");
        }
        // A prefix that is asked for meanwhile covers more, and leaves what was there before.
        assert!(!whole.start(b"ETH"));
        whole.settle();
        assert!(whole.cover(b"ETH-USD"));
        assert!(!whole.end(b"ETH"));
        whole.settle();
        assert!(whole.cover(b"ETH") && !whole.cover(b"ETH-USD"));
        assert!(!whole.end(b"ETH"));
    }

    #[test]
    fn what_is_pushed_is_wanted_and_nobody_told() {
        let mut config = Config::one_lane(Envelope::Raw);
        config.feeds[0].socket = SocketKind::Pull;
        let mut subscriptions = Subscriptions::of(&config.feeds[0]);
        subscriptions.settle();
        assert!(subscriptions.cover_everything());
        assert_eq!(told(&subscriptions).len(), 0);
    }

    #[test]
    fn counted_and_told_once() {
        let mut subscriptions = to_prefixes(&["BTC".to_owned()]);
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
        assert!(to_prefixes(&[]).cover(b""));
    }

    proptest! {
        #[test]
        fn as_if_each_prefix_were_tried(
            prefixes in prop::collection::vec("[ab]{0,4}", 1..12),
            ended in prop::collection::vec(any::<bool>(), 12),
            frame in "[abc]{0,6}",
        ) {
            let mut subscriptions = to_prefixes(&prefixes);
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
