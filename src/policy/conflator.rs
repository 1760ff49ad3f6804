//! Conflation: of a run of batches, the newest message of each topic, and receipts for the others.
//!
//! Two passes. The first goes from the newest message to the oldest: the first one seen of a topic stays,
//! and its receipt takes over what each older one stood for. The second moves those that stay together,
//! in the order they arrived in, into as few batches as they need.
//!
//! It works in place but for one batch. Batches are filled until they are full, so what stays of the
//! first `n` batches never needs more than `n`: the one more that is kept here is enough. Messages are
//! copied a second time, which is paid for only where there are too many of them anyway.

use hashbrown::HashTable;

use crate::{handoff::Batch, message::Message, receipt::Receipt};

/// Keeps the newest message of each topic.
#[derive(Debug, Default)]
pub(crate) struct Conflator {
    /// Places in `kept`, by topic.
    topics: HashTable<usize>,
    /// The messages that stay, the newest first.
    kept: Vec<Kept>,
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    inputs: Vec<Box<Batch>>,
    /// The one batch more.
    scratch: Option<Box<Batch>>,
}

#[derive(Debug)]
struct Kept {
    batch: usize,
    index: usize,
    topic_hash: u64,
    receipt: Receipt,
}

impl Conflator {
    /// Conflates `batches`, which one lane filled one after the other, the oldest first. What stays is
    /// left there, in order; the others, empty, are added to `emptied`. Each message that a newer
    /// one stands for from now on is shown to `superseded`. Returns their number.
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    pub(crate) fn conflate(
        &mut self,
        batches: &mut Vec<Box<Batch>>,
        emptied: &mut Vec<Box<Batch>>,
        superseded: impl FnMut(&Message<'_>),
    ) -> u64 {
        let count = self.choose(batches, superseded);
        // What already stands alone in its one batch need not be moved.
        if count > 0 || batches.len() > 1 {
            self.move_together(batches, emptied);
        }
        count
    }

    /// Finds the messages that stay, and what they stand for. Returns the number of the others.
    fn choose(&mut self, batches: &[Box<Batch>], mut superseded: impl FnMut(&Message<'_>)) -> u64 {
        self.topics.clear();
        self.kept.clear();
        let mut count = 0;
        for (at, batch) in batches.iter().enumerate().rev() {
            for (index, message, receipt) in newest_first(batch) {
                let (kept, topic_hash) = (&self.kept, message.topic_hash());
                let same = |&place: &usize| {
                    let other = batches[kept[place].batch].message(kept[place].index);
                    other.topic() == message.topic() && other.origin().feed == message.origin().feed
                };
                if let Some(&place) = self.topics.find(topic_hash, same) {
                    self.kept[place].receipt.take_over(receipt);
                    superseded(&message);
                    count += 1;
                } else {
                    let place = kept.len();
                    self.topics
                        .insert_unique(topic_hash, place, |&place| kept[place].topic_hash);
                    self.kept.push(Kept {
                        batch: at,
                        index,
                        topic_hash,
                        receipt,
                    });
                }
            }
        }
        count
    }

    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    fn move_together(&mut self, batches: &mut Vec<Box<Batch>>, emptied: &mut Vec<Box<Batch>>) {
        let Some(first) = batches.first() else {
            return;
        };
        let mut filling = self.scratch.take().unwrap_or_else(|| first.another());
        filling.source = first.source;
        std::mem::swap(batches, &mut self.inputs);
        for (at, mut batch) in self.inputs.drain(..).enumerate() {
            // Early rather than late: what is missing is told before what comes after it.
            filling.note_all(batch.notes());
            while let Some(kept) = self.kept.pop_if(|kept| kept.batch == at) {
                if filling.is_full() {
                    let empty = emptied.pop().expect("see the head of this file");
                    batches.push(std::mem::replace(&mut filling, empty));
                }
                filling.append(&batch.message(kept.index), kept.receipt);
            }
            filling.take_fence(&mut batch);
            batch.clear();
            emptied.push(batch);
        }
        if filling.is_empty() && filling.notes().is_empty() && !filling.is_fenced() {
            self.scratch = Some(filling);
        } else {
            batches.push(filling);
            self.scratch = emptied.pop();
        }
    }
}

/// The messages of a batch with their places and what they stand for.
fn newest_first(batch: &Batch) -> impl Iterator<Item = (usize, Message<'_>, Receipt)> {
    let mut receipts = batch.receipts().iter().rev().peekable();
    let messages = batch.messages().enumerate().rev();
    messages.map(move |(index, message)| {
        let receipt = receipts
            .next_if(|(place, _)| *place == index)
            .map_or_else(|| Receipt::of(&message), |(_, receipt)| *receipt);
        (index, message, receipt)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        envelope::{Fields, Place},
        handoff::BatchLimits,
        message::{Origin, Stamp},
        shard::topic_hash,
    };

    const LIMITS: BatchLimits = BatchLimits {
        messages: 5,
        bytes: 40,
    };

    /// What is known of a delivery: topic, its number, and what it stands for.
    type Delivery = (u8, u64, Option<Receipt>);

    /// Pushes message `number` of all, with a payload of some length.
    fn push(batch: &mut Batch, topic: u8, number: u64, payload: &[u8]) {
        let topic = [topic];
        let frames = [&topic[..], payload];
        let fields = Fields {
            topic: Place {
                frame: 0,
                start: 0,
                end: 1,
            },
            payload: Place {
                frame: 1,
                start: 0,
                end: payload.len(),
            },
            stamp: Stamp {
                epoch: 1,
                sequence: number,
                timestamp_ns: 1,
            },
        };
        // All topics with the same hash: it is their bytes that tell them apart.
        let hash = topic_hash(b"");
        batch.push(Origin { feed: 0, line: 0 }, number, hash, &fields, &frames);
    }

    fn deliveries(batches: &[Box<Batch>]) -> Vec<Delivery> {
        let mut found = Vec::new();
        for batch in batches {
            let receipts: BTreeMap<usize, Receipt> = batch.receipts().iter().copied().collect();
            for (index, message) in batch.messages().enumerate() {
                let number = message.sequence().unwrap();
                assert_eq!(message.received_ns(), number);
                assert_eq!(message.payload(), payload(number));
                assert_eq!(message.frames().count(), 2);
                found.push((message.topic()[0], number, receipts.get(&index).copied()));
            }
        }
        found
    }

    /// Payloads are of different lengths, some too long for a batch.
    fn payload(number: u64) -> Vec<u8> {
        vec![number as u8; (number * 7 % 50) as usize]
    }

    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    fn spare(made: &mut usize, emptied: &mut Vec<Box<Batch>>) -> Box<Batch> {
        emptied.pop().unwrap_or_else(|| {
            *made += 1;
            Box::new(Batch::new(LIMITS, 3, *made))
        })
    }

    proptest! {
        /// Messages come, and now and then what has gathered is conflated, as a lane does that has no
        /// room and a worker that is late: whatever was merged with whatever, the newest of each
        /// topic is there, in order, and stands for all others of it.
        #[test]
        fn keeps_the_newest_and_stands_for_the_others(
            steps in proptest::collection::vec((0u8..6, proptest::bool::weighted(0.1)), 1..200)
        ) {
            let mut conflator = Conflator::default();
            let (mut batches, mut emptied): (Vec<Box<Batch>>, Vec<_>) = (Vec::new(), Vec::new());
            let (mut made, mut superseded) = (0, 0);
            let mut model: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
            let mut shown: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
            let steps = steps.into_iter().chain([(0, true)]);
            for (number, (topic, conflate)) in steps.enumerate() {
                if batches.last().is_none_or(|batch| batch.is_full()) {
                    batches.push(spare(&mut made, &mut emptied));
                }
                let number = number as u64;
                push(batches.last_mut().unwrap(), topic, number, &payload(number));
                model.entry(topic).or_default().push(number);
                if !conflate {
                    continue;
                }
                let before = batches.len();
                superseded += conflator.conflate(&mut batches, &mut emptied, |message| {
                    let numbers = shown.entry(message.topic()[0]).or_default();
                    numbers.push(message.sequence().unwrap());
                });
                prop_assert!(batches.len() <= before);
                prop_assert!(batches.iter().all(|batch| batch.source == 3));
                prop_assert!(batches.iter().rev().skip(1).all(|batch| batch.is_full()));
                let mut newest: Vec<(u64, u8)> =
                    model.iter().map(|(topic, numbers)| (numbers[numbers.len() - 1], *topic)).collect();
                newest.sort_unstable();
                let expected: Vec<Delivery> = newest.into_iter().map(|(number, topic)| {
                    let numbers = &model[&topic];
                    let receipt = Receipt {
                        messages: numbers.len() as u64,
                        first_sequence: Some(numbers[0]),
                        last_sequence: Some(number),
                        oldest_received_ns: numbers[0],
                        oldest_age_ns: 0,
                    };
                    (topic, number, (receipt.messages > 1).then_some(receipt))
                }).collect();
                prop_assert_eq!(deliveries(&batches), expected);
            }
            // Each but the newest was superseded once.
            for (topic, numbers) in &mut model {
                numbers.pop();
                let mut shown = shown.remove(topic).unwrap_or_default();
                shown.sort_unstable();
                prop_assert_eq!(&shown, numbers);
            }
            prop_assert_eq!(superseded, model.values().map(|numbers| numbers.len() as u64).sum::<u64>());
        }
    }

    #[test]
    fn without_pressure_nothing_is_moved() {
        let mut batch = Box::new(Batch::new(LIMITS, 0, 0));
        push(&mut batch, b'a', 1, &payload(1));
        push(&mut batch, b'b', 2, &payload(2));
        let (mut batches, mut emptied) = (vec![batch], Vec::new());
        let count = Conflator::default().conflate(&mut batches, &mut emptied, |_| unreachable!());
        assert_eq!((count, emptied.len()), (0, 0));
        assert_eq!(deliveries(&batches), [(b'a', 1, None), (b'b', 2, None)]);
    }
}
