//! The busiest topics while messages are counted: a worker notes them down when the view has asked, after a
//! batch or when idle, and waits for nobody.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::{
    handoff::Batch,
    message::{Message, Notice},
    receipt::Receipt,
    worker::{
        Handler,
        handlers::{Count, TopicCount},
    },
};

/// The topics that a worker notes down.
const TOP: usize = 40;
/// The most topics that a worker looks through for that, which takes it some 100 µs.
const TOPICS_MAX: usize = 10_000;

/// What one worker has noted down.
#[derive(Default)]
struct Noted {
    /// The busiest topics, in no order.
    top: Vec<(Box<[u8]>, u64)>,
    /// How many it has counted.
    topics: usize,
}

#[derive(Default)]
struct Slot {
    wanted: AtomicBool,
    noted: Mutex<Noted>,
}

/// What all workers have noted down. Copies show the same.
#[derive(Clone)]
pub(in crate::cli) struct Board(Arc<[Slot]>);

/// The busiest topics of all workers.
pub(super) enum Busiest {
    /// With the messages of each so far, and the number of all topics.
    Top(Vec<(Box<[u8]>, u64)>, usize),
    /// A worker has too many to look through.
    TooMany,
}

/// [`Count`], with a view of it.
pub(in crate::cli) struct Watched {
    pub count: Count,
    board: Board,
    worker: usize,
}

impl Board {
    pub(in crate::cli) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Slot::default()).collect())
    }

    /// Makes the handler of a worker.
    pub(in crate::cli) fn handler(&self, worker: usize) -> Watched {
        Watched {
            count: Count::default(),
            board: self.clone(),
            worker,
        }
    }

    /// Returns what was noted down last, and asks for it anew.
    pub(super) fn look(&self) -> Busiest {
        let mut by_topic: BTreeMap<Box<[u8]>, u64> = BTreeMap::new();
        // Those that no worker shows; of two it may be the same.
        let (mut unshown, mut too_many) = (0, false);
        for slot in self.0.iter() {
            slot.wanted.store(true, Relaxed);
            let noted = slot.noted.lock().unwrap_or_else(PoisonError::into_inner);
            unshown += noted.topics - noted.top.len();
            too_many |= noted.topics > TOPICS_MAX;
            for (topic, messages) in &noted.top {
                *by_topic.entry(topic.clone()).or_default() += messages;
            }
        }
        if too_many {
            Busiest::TooMany
        } else {
            let topics = by_topic.len() + unshown;
            Busiest::Top(by_topic.into_iter().collect(), topics)
        }
    }
}

impl Watched {
    #[inline]
    fn note(&self) {
        if self.board.0[self.worker].wanted.load(Relaxed) {
            self.note_down();
        }
    }

    #[cold]
    fn note_down(&self) {
        let slot = &self.board.0[self.worker];
        let Ok(mut noted) = slot.noted.try_lock() else {
            return;
        };
        slot.wanted.store(false, Relaxed);
        noted.topics = self.count.topics().len();
        noted.top = if noted.topics > TOPICS_MAX {
            Vec::new()
        } else {
            busiest(self.count.topics())
        };
    }
}

fn busiest<'a>(topics: impl Iterator<Item = &'a TopicCount>) -> Vec<(Box<[u8]>, u64)> {
    let mut top = BinaryHeap::new();
    for row in topics {
        let beats = |least: &Reverse<(u64, &[u8])>| row.messages > least.0.0;
        if top.len() < TOP || top.peek().is_some_and(beats) {
            if top.len() == TOP {
                top.pop();
            }
            top.push(Reverse((row.messages, &*row.topic)));
        }
    }
    let rows = top.into_iter();
    rows.map(|Reverse((messages, topic))| (topic.into(), messages))
        .collect()
}

impl Handler for Watched {
    #[inline]
    fn on_message(&mut self, message: &Message<'_>) {
        self.count.on_message(message);
    }

    fn on_receipt(&mut self, receipt: &Receipt, message: &Message<'_>) {
        self.count.on_receipt(receipt, message);
    }

    fn on_batch_end(&mut self, batch: &Batch) {
        self.count.on_batch_end(batch);
        self.note();
    }

    fn on_notice(&mut self, notice: &Notice<'_>) {
        self.count.on_notice(notice);
    }

    fn on_idle(&mut self) {
        self.count.on_idle();
        self.note();
    }

    fn on_stop(&mut self) {
        self.count.on_stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_two_workers_is_one() {
        let board = Board::new(2);
        let topics = [5, 6];
        for (slot, topics) in board.0.iter().zip(topics) {
            let top = vec![(b"A"[..].into(), 10)];
            *slot.noted.lock().unwrap() = Noted { top, topics };
        }
        let Busiest::Top(top, topics) = board.look() else {
            panic!("they are few");
        };
        assert_eq!(top, [(b"A"[..].into(), 20)]);
        assert_eq!(
            topics,
            1 + 4 + 5,
            "those that are not shown may be the same"
        );
    }

    #[test]
    fn the_busiest_topics_are_noted() {
        let topics: Vec<TopicCount> = (0..100)
            .map(|number| TopicCount {
                topic: Box::new([number]),
                messages: u64::from(number) * 7 % 100,
                payload_bytes: 0,
                digest: None,
            })
            .collect();
        let mut top: Vec<u64> = busiest(topics.iter()).iter().map(|row| row.1).collect();
        top.sort_unstable();
        let expected: Vec<u64> = (60..100).collect();
        assert_eq!(top, expected);
    }
}
