//! Who is subscribed to what: prefixes of all peers of a publishing socket, and whom a topic reaches.
//!
//! A peer is subscribed to a prefix or it is not, however often it says so: libzmq's subscribers pass on each of
//! their subscriptions, but of the cancellations only the last, and its publishers go by that. A topic is looked up
//! once for each length that prefixes have, of which there are few however many prefixes there are. Those who want
//! everything stand apart: theirs is the prefix that most have, and to compare one without bytes costs 100 ns where
//! the C library compares by masked loads, since it has no address that could be loaded from.

use std::collections::{BTreeMap, HashMap, HashSet};

/// The most that the prefixes of one peer may take, in bytes, each with [`PREFIX_OVERHEAD_BYTES`].
const PREFIX_BYTES_MAX: usize = 64 << 20;
/// What a prefix is taken to cost apart from its bytes.
const PREFIX_OVERHEAD_BYTES: usize = 64;

/// A peer asked for more prefixes than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer asked for too many prefixes")]
pub struct TooMany;

/// What a change of subscriptions changed for all peers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// The prefix is the first of its kind.
    First,
    /// It was the last of its kind.
    Last,
    /// Others are subscribed to it as well, or nobody was.
    None,
}

/// Subscriptions of many peers, each known by a number.
#[derive(Debug, Default)]
pub struct Audience {
    /// Who is subscribed to the empty prefix.
    everything: Vec<u32>,
    /// Who is subscribed to any other.
    prefixes: HashMap<Box<[u8]>, Vec<u32>>,
    /// How many of these there are of each length.
    lengths: BTreeMap<usize, usize>,
    peers: HashMap<u32, Own>,
}

/// The prefixes of one peer, and what they take, in bytes.
#[derive(Debug, Default)]
struct Own {
    prefixes: HashSet<Box<[u8]>>,
    taken_bytes: usize,
}

impl Audience {
    /// Notes that a peer subscribes to a prefix. To subscribe to it again changes nothing.
    ///
    /// # Errors
    /// [`TooMany`], and nothing was noted.
    pub fn subscribe(&mut self, peer: u32, prefix: &[u8]) -> Result<Shift, TooMany> {
        let own = self.peers.entry(peer).or_default();
        if own.prefixes.contains(prefix) {
            return Ok(Shift::None);
        }
        let needed_bytes = prefix.len() + PREFIX_OVERHEAD_BYTES;
        if own.taken_bytes + needed_bytes > PREFIX_BYTES_MAX {
            return Err(TooMany);
        }
        own.taken_bytes += needed_bytes;
        own.prefixes.insert(prefix.into());
        if let Some(subscribers) = self.subscribers(prefix) {
            subscribers.push(peer);
            let is_first = subscribers.len() == 1;
            return Ok(if is_first { Shift::First } else { Shift::None });
        }
        self.prefixes.insert(prefix.into(), vec![peer]);
        *self.lengths.entry(prefix.len()).or_default() += 1;
        Ok(Shift::First)
    }

    /// Notes that a peer no longer subscribes to a prefix. To cancel what one is not subscribed to
    /// changes nothing.
    pub fn cancel(&mut self, peer: u32, prefix: &[u8]) -> Shift {
        let Some(own) = self.peers.get_mut(&peer) else {
            return Shift::None;
        };
        if !own.prefixes.remove(prefix) {
            return Shift::None;
        }
        own.taken_bytes -= prefix.len() + PREFIX_OVERHEAD_BYTES;
        self.forget(peer, prefix)
    }

    /// Notes that a peer is gone, and returns the prefixes that nobody is subscribed to any more.
    pub fn leave(&mut self, peer: u32) -> Vec<Box<[u8]>> {
        let Some(own) = self.peers.remove(&peer) else {
            return Vec::new();
        };
        let mut orphaned = Vec::new();
        for prefix in own.prefixes {
            if self.forget(peer, &prefix) == Shift::Last {
                orphaned.push(prefix);
            }
        }
        orphaned
    }

    fn forget(&mut self, peer: u32, prefix: &[u8]) -> Shift {
        let Some(subscribers) = self.subscribers(prefix) else {
            return Shift::None;
        };
        subscribers.retain(|&one| one != peer);
        if !subscribers.is_empty() {
            return Shift::None;
        }
        self.prefixes.remove(prefix);
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
        Shift::Last
    }

    /// Those subscribed to a prefix, where any were but for the empty one.
    fn subscribers(&mut self, prefix: &[u8]) -> Option<&mut Vec<u32>> {
        if prefix.is_empty() {
            Some(&mut self.everything)
        } else {
            self.prefixes.get_mut(prefix)
        }
    }

    /// Puts the peers that a topic reaches into `reached`, each once.
    #[inline]
    pub fn reached_by(&self, topic: &[u8], reached: &mut Vec<u32>) {
        reached.clear();
        reached.extend_from_slice(&self.everything);
        let mut matching = usize::from(!reached.is_empty());
        for &length in self.lengths.keys() {
            let Some(start) = topic.get(..length) else {
                break;
            };
            if let Some(subscribers) = self.prefixes.get(start) {
                reached.extend_from_slice(subscribers);
                matching += 1;
            }
        }
        if matching > 1 {
            reached.sort_unstable();
            reached.dedup();
        }
    }

    /// Tells whether a topic reaches a peer.
    #[must_use]
    pub fn reaches(&self, peer: u32, topic: &[u8]) -> bool {
        let Some(own) = self.peers.get(&peer) else {
            return false;
        };
        let starts = self.lengths.keys().map_while(|&length| topic.get(..length));
        self.everything.contains(&peer)
            || starts.into_iter().any(|start| own.prefixes.contains(start))
    }

    /// Returns all prefixes that anyone is subscribed to, in no order.
    pub fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        let all = (!self.everything.is_empty()).then_some(&[][..]);
        all.into_iter()
            .chain(self.prefixes.keys().map(|prefix| &**prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Subscribe(u32, Vec<u8>),
        Cancel(u32, Vec<u8>),
        Leave(u32),
    }

    fn prefix() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(b'a'..=b'b', 0..4)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u32..4, prefix()).prop_map(|(peer, prefix)| Step::Subscribe(peer, prefix)),
            3 => (0_u32..4, prefix()).prop_map(|(peer, prefix)| Step::Cancel(peer, prefix)),
            1 => (0_u32..4).prop_map(Step::Leave),
        ]
    }

    proptest! {
        /// Against a list of all subscriptions that is searched from end to end.
        #[test]
        fn topics_reach_those_who_asked(
            steps in prop::collection::vec(step(), 0..60),
            topic in prop::collection::vec(b'a'..=b'b', 0..5),
        ) {
            let mut audience = Audience::default();
            let mut model: Vec<(u32, Vec<u8>)> = Vec::new();
            for step in steps {
                let before: Vec<_> = model.iter().map(|(_, prefix)| prefix.clone()).collect();
                match step {
                    Step::Subscribe(peer, prefix) => {
                        let first = !before.contains(&prefix);
                        let shift = audience.subscribe(peer, &prefix);
                        prop_assert_eq!(shift, Ok(if first { Shift::First } else { Shift::None }));
                        if !model.contains(&(peer, prefix.clone())) {
                            model.push((peer, prefix));
                        }
                    }
                    Step::Cancel(peer, prefix) => {
                        let entry = (peer, prefix.clone());
                        let found = model.iter().position(|one| *one == entry);
                        if let Some(found) = found {
                            model.remove(found);
                        }
                        let left = model.iter().any(|(_, one)| *one == prefix);
                        let last = found.is_some() && !left;
                        let shift = audience.cancel(peer, &prefix);
                        prop_assert_eq!(shift, if last { Shift::Last } else { Shift::None });
                    }
                    Step::Leave(peer) => {
                        let mut own: Vec<_> = model.iter().filter(|(one, _)| *one == peer)
                            .map(|(_, prefix)| prefix.clone()).collect();
                        model.retain(|(one, _)| *one != peer);
                        own.retain(|prefix| !model.iter().any(|(_, one)| one == prefix));
                        own.sort();
                        own.dedup();
                        let mut orphaned: Vec<_> =
                            audience.leave(peer).into_iter().map(Vec::from).collect();
                        orphaned.sort();
                        prop_assert_eq!(orphaned, own);
                    }
                }
                let mut expected: Vec<u32> = model.iter()
                    .filter(|(_, prefix)| topic.starts_with(prefix))
                    .map(|(peer, _)| *peer).collect();
                expected.sort_unstable();
                expected.dedup();
                let mut reached = vec![99];
                audience.reached_by(&topic, &mut reached);
                reached.sort_unstable();
                prop_assert_eq!(&reached, &expected);
                for peer in 0..4 {
                    prop_assert_eq!(audience.reaches(peer, &topic), expected.contains(&peer));
                }
                let mut all: Vec<_> = audience.prefixes().map(<[u8]>::to_vec).collect();
                all.sort();
                let mut known: Vec<_> = model.iter().map(|(_, prefix)| prefix.clone()).collect();
                known.sort();
                known.dedup();
                prop_assert_eq!(all, known);
            }
        }
    }

    #[test]
    fn what_a_peer_may_ask_for_is_bounded_and_given_back() {
        let mut audience = Audience::default();
        let prefix = vec![7; PREFIX_BYTES_MAX / 2];
        for _ in 0..3 {
            assert_eq!(audience.subscribe(1, &prefix), Ok(Shift::First));
            assert_eq!(audience.cancel(1, &prefix), Shift::Last);
        }
        assert_eq!(audience.subscribe(1, &prefix), Ok(Shift::First));
        assert_eq!(audience.subscribe(1, &prefix[1..]), Err(TooMany));
        assert_eq!(audience.subscribe(2, &prefix[1..]), Ok(Shift::First));
    }
}
