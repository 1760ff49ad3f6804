//! Who is still to get which of the kept messages: the answers to subscriptions, without sockets.
//!
//! A subscription is answered with what is kept under its prefix, in the order of topics and in pieces, as its
//! subscriber takes them. So that nobody gets an older message after a newer one, a message of a topic that an
//! answer has yet to come to is held back from that subscriber: the answer will bring it, or one that is newer
//! still, since it reads what is kept when it comes there. What it has passed goes to the subscriber as to any
//! other. Nothing is kept for a subscriber but how far its answers have come, however much lies under a prefix.
//!
//! Where prefixes of one subscriber overlap, a topic belongs to the one that was subscribed to first, so that
//! it gets each value once. A subscription that is cancelled before its answer is done goes on for topics that
//! others of the same subscriber match: what was held back for it has to come.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use crate::patterns::cache::store::{Store, Value};

/// The most messages that are looked at for an answer at once.
const LOOKS_MAX: usize = 1_024;

/// How far a call of [`Answers::answer`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The subscriber has all answers.
    Done,
    /// There is more to say: `answer` is to be called again.
    More,
    /// The subscriber takes no more for now.
    Full,
}

/// The subscriptions of all subscribers that are named by `K`, and what they wait for.
#[derive(Debug)]
pub struct Answers<K> {
    subscribers: HashMap<K, Subscriber>,
    /// Those with answers that are not done.
    behind: BTreeMap<K, ()>,
    /// The number of the next subscription.
    next: u64,
}

#[derive(Debug, Default)]
struct Subscriber {
    subscriptions: HashMap<Box<[u8]>, Subscription>,
    /// How many of them there are by length.
    lengths: BTreeMap<usize, usize>,
    /// Those whose answers are not done, by number.
    pending: BTreeMap<u64, Box<[u8]>>,
}

#[derive(Debug)]
struct Subscription {
    number: u64,
    /// Whether it was not cancelled.
    is_in_force: bool,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Done,
    Pending {
        /// The last topic that it passed.
        after: Option<Box<[u8]>>,
    },
}

impl Answer {
    /// Tells whether it has yet to come to a topic.
    fn is_before(&self, topic: &[u8]) -> bool {
        match self {
            Self::Done => false,
            Self::Pending { after } => after.as_deref().is_none_or(|after| topic > after),
        }
    }
}

impl Subscriber {
    /// Returns the subscriptions that match a first frame.
    fn matching(&self, first_frame: &[u8]) -> impl Iterator<Item = &Subscription> {
        let starts = self
            .lengths
            .keys()
            .map_while(move |&length| first_frame.get(..length));
        starts.filter_map(|start| self.subscriptions.get(start))
    }

    /// Returns the number of the first subscription in force that matches.
    fn owner(&self, first_frame: &[u8]) -> Option<u64> {
        let in_force = self.matching(first_frame).filter(|one| one.is_in_force);
        in_force.map(|one| one.number).min()
    }

    fn holds_back(&self, value: Value<'_>) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let frame = value.first_frame();
        let Some(owner) = self.owner(frame) else {
            return false;
        };
        self.matching(frame)
            .any(|one| one.number <= owner && one.answer.is_before(value.topic()))
    }

    fn forget(&mut self, prefix: &[u8]) {
        if let Some(gone) = self.subscriptions.remove(prefix) {
            self.pending.remove(&gone.number);
            if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.len());
                }
            }
        }
    }
}

impl<K> Default for Answers<K> {
    fn default() -> Self {
        Self {
            subscribers: HashMap::new(),
            behind: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<K: Copy + Eq + Hash + Ord> Answers<K> {
    /// Notes a subscription. Returns whether it is new to the subscriber and will be answered; one that it has is
    /// not.
    pub fn subscribe(&mut self, subscriber: K, prefix: &[u8]) -> bool {
        let number = self.next;
        let state = self.subscribers.entry(subscriber).or_default();
        let pending = Answer::Pending { after: None };
        match state.subscriptions.get_mut(prefix) {
            Some(known) => {
                if std::mem::replace(&mut known.is_in_force, true) {
                    return false;
                }
                // Of what was cancelled under way: with its old number, since others left topics to it.
                known.answer = pending;
            }
            None => {
                self.next += 1;
                let subscription = Subscription {
                    number,
                    is_in_force: true,
                    answer: pending,
                };
                state.subscriptions.insert(prefix.into(), subscription);
                *state.lengths.entry(prefix.len()).or_default() += 1;
                state.pending.insert(number, prefix.into());
            }
        }
        self.behind.insert(subscriber, ());
        true
    }

    /// Notes that a subscription is cancelled.
    pub fn cancel(&mut self, subscriber: K, prefix: &[u8]) {
        let Some(state) = self.subscribers.get_mut(&subscriber) else {
            return;
        };
        let Some(known) = state.subscriptions.get_mut(prefix) else {
            return;
        };
        known.is_in_force = false;
        if matches!(known.answer, Answer::Done) {
            state.forget(prefix);
        }
        if !state.subscriptions.values().any(|one| one.is_in_force) {
            self.leave(subscriber);
        }
    }

    /// Notes that a subscriber is gone.
    pub fn leave(&mut self, subscriber: K) {
        self.subscribers.remove(&subscriber);
        self.behind.remove(&subscriber);
    }

    /// Returns what a subscriber is subscribed to, in no order.
    pub fn subscriptions(&self, subscriber: K) -> impl Iterator<Item = &[u8]> {
        let state = self.subscribers.get(&subscriber).into_iter();
        state.flat_map(|state| state.subscriptions.keys().map(|prefix| &**prefix))
    }

    /// Returns the subscribers whose answers are not done.
    pub fn behind(&self) -> impl Iterator<Item = K> {
        self.behind.keys().copied()
    }

    /// Tells whether all answers are done.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.behind.is_empty()
    }

    /// Tells whether a message that was just kept must not go to a subscriber, since an answer will bring
    /// it.
    #[must_use]
    pub fn holds_back(&self, subscriber: K, value: Value<'_>) -> bool {
        self.behind.contains_key(&subscriber)
            && self
                .subscribers
                .get(&subscriber)
                .is_some_and(|state| state.holds_back(value))
    }

    /// Goes on with a subscriber's answers, as far as `send` takes messages. One for which it returns
    /// `false` is offered again by the next call.
    pub fn answer(
        &mut self,
        subscriber: K,
        store: &Store,
        mut send: impl FnMut(Value<'_>) -> bool,
    ) -> Progress {
        let Some(state) = self.subscribers.get_mut(&subscriber) else {
            return Progress::Done;
        };
        let mut looks = 0;
        while let Some((&number, prefix)) = state.pending.first_key_value() {
            let prefix = prefix.clone();
            let Some(Answer::Pending { after }) =
                state.subscriptions.get(&prefix).map(|one| &one.answer)
            else {
                state.pending.remove(&number);
                continue;
            };
            let mut passed = None;
            let mut stopped = None;
            for value in store.matching(&prefix, after.as_deref()) {
                if looks == LOOKS_MAX {
                    stopped = Some(Progress::More);
                    break;
                }
                looks += 1;
                let owner = state.owner(value.first_frame());
                if owner.is_some_and(|owner| number <= owner) && !send(value) {
                    stopped = Some(Progress::Full);
                    break;
                }
                passed = Some(value.topic());
            }
            let passed = passed.map(Box::from);
            if let Some(progress) = stopped {
                if let (Some(passed), Some(one)) = (passed, state.subscriptions.get_mut(&prefix)) {
                    one.answer = Answer::Pending {
                        after: Some(passed),
                    };
                }
                return progress;
            }
            state.pending.remove(&number);
            match state.subscriptions.get_mut(&prefix) {
                Some(one) if one.is_in_force => one.answer = Answer::Done,
                _ => state.forget(&prefix),
            }
        }
        self.behind.remove(&subscriber);
        Progress::Done
    }
}

#[cfg(test)]
mod tests;
