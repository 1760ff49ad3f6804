//! Which policy a topic has: by feed, the longest prefix that matches.

use std::cmp::Reverse;

use crate::policy::Policy;

/// The policies in use, and what they are used for.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// By class.
    classes: Vec<Policy>,
    /// By feed; empty where there is one class, so that it costs nothing to find.
    feeds: Vec<FeedRules>,
}

#[derive(Clone, Debug)]
struct FeedRules {
    /// Prefixes with their classes, the longest first.
    prefixes: Vec<(Vec<u8>, usize)>,
    /// The class of all other topics.
    rest: usize,
}

impl Rules {
    /// Takes the rules of each feed: prefixes and their policies. What none matches has
    /// [`Policy::Block`].
    pub(crate) fn new(feeds: impl IntoIterator<Item = Vec<(Vec<u8>, Policy)>>) -> Self {
        let mut classes = Vec::new();
        let mut class = |policy| {
            let known = classes.iter().position(|known| *known == policy);
            known.unwrap_or_else(|| {
                classes.push(policy);
                classes.len() - 1
            })
        };
        let mut feeds: Vec<FeedRules> = feeds
            .into_iter()
            .map(|mut rules| {
                rules.sort_by_key(|(prefix, _)| Reverse(prefix.len()));
                let rest = rules.pop_if(|(prefix, _)| prefix.is_empty());
                let rules = rules.into_iter();
                FeedRules {
                    rest: class(rest.map_or(Policy::Block, |(_, policy)| policy)),
                    prefixes: rules
                        .map(|(prefix, policy)| (prefix, class(policy)))
                        .collect(),
                }
            })
            .collect();
        if classes.len() == 1 {
            feeds.clear();
        }
        Self { classes, feeds }
    }

    /// Returns the policy of each class in use.
    pub(crate) fn classes(&self) -> &[Policy] {
        &self.classes
    }

    /// Returns the class of a topic.
    #[inline(always)]
    pub(crate) fn class_of(&self, feed: u16, topic: &[u8]) -> usize {
        if self.feeds.is_empty() {
            return 0;
        }
        self.feeds[usize::from(feed)].class_of(topic)
    }
}

impl FeedRules {
    fn class_of(&self, topic: &[u8]) -> usize {
        let mut prefixes = self.prefixes.iter();
        let rule = prefixes.find(|(prefix, _)| topic.starts_with(prefix));
        rule.map_or(self.rest, |(_, class)| *class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides_and_the_rest_blocks() {
        let rules = Rules::new([
            vec![
                (b"BTC".to_vec(), Policy::DropNewest),
                (b"BTC-USD".to_vec(), Policy::Conflate),
            ],
            vec![(Vec::new(), Policy::Snail)],
        ]);
        let policy = |feed, topic: &[u8]| rules.classes()[rules.class_of(feed, topic)];
        assert_eq!(policy(0, b"BTC-USDT"), Policy::Conflate);
        assert_eq!(policy(0, b"BTC-EUR"), Policy::DropNewest);
        assert_eq!(policy(0, b"ETH"), Policy::Block);
        assert_eq!(policy(1, b"BTC-USD"), Policy::Snail);
    }

    #[test]
    fn one_policy_for_all_is_one_class() {
        let all = |policy| vec![(Vec::new(), policy)];
        let rules = Rules::new([all(Policy::DropOldest), all(Policy::DropOldest)]);
        assert_eq!(rules.classes(), [Policy::DropOldest]);
        assert_eq!(rules.class_of(1, b"any"), 0);
        assert_eq!(Rules::new([vec![], vec![]]).classes(), [Policy::Block]);
    }
}
