//! What only losses, restarts and disorder need of a series: made when the first of them comes, and kept.

use std::collections::{BTreeMap, VecDeque};

use super::{LINES_MAX, numbers::distance};

/// Runs of lost messages that a series remembers, to tell late copies from duplicates. Of older ones a
/// copy is counted as a duplicate. As many epochs are remembered that it has left, or that are later.
const RUNS_MAX: usize = 8;

/// A life of the publisher, in the order in which a series goes through them: by epoch, but for those it goes
/// back to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life {
    /// How often the series has gone back to an epoch that is lower, or that it had left.
    pub turn: u32,
    pub epoch: u64,
}

/// Where something stands among what is held of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub life: Life,
    pub number: u64,
    pub what: What,
}

/// What stands at a number. There may be many heartbeats, and one message behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A heartbeat, which says that all below its number was published. They are counted as they come.
    Heartbeat(u64),
    /// The message of this number.
    Message,
}

impl Place {
    /// Tells whether nothing is missing before it, where all below `next` of the life `now` has been passed on or given
    /// up. What a heartbeat tells of may have been passed by.
    pub fn is_ready(self, now: Life, next: u64) -> bool {
        let is_there = match self.what {
            What::Message => self.number == next,
            What::Heartbeat(_) => distance(self.number, next) >= 0,
        };
        self.life == now && is_there
    }

    /// The place of a life's message.
    pub fn of_message(life: Life, number: u64) -> Self {
        let what = What::Message;
        Self { life, number, what }
    }
}

/// What only losses, restarts and disorder need.
pub(super) struct Aside<M> {
    pub held: BTreeMap<Place, Held<M>>,
    /// How many heartbeats were held so far.
    pub heartbeats: u64,
    /// The turn that the stream's epoch is of.
    pub turn: u32,
    /// The latest life each line has shown, where it is later than the stream's.
    pub shown: [Life; LINES_MAX],
    /// The epoch that each line has shown last, where it is not the stream's, nor later; 0 where it has shown none.
    pub past: [u64; LINES_MAX],
    /// The connection that the last restart of each line came by, where numbers alone told of it; 0 where there was none.
    pub begun_by: [u32; LINES_MAX],
    /// The last life, where numbers alone tell of lives, that is no new one of a publisher: it goes on with what a line
    /// brings that was left behind, since no other brings anything any more.
    pub gone_on: Option<u64>,
    /// Lives later than the stream's, as far as they are remembered.
    pub later: VecDeque<Life>,
    /// When the first in `held` may go on, as the arbiter's table of deadlines has it.
    pub deadline_ns: Option<u64>,
    /// The first number taken of the epoch.
    pub first: u64,
    /// The last runs reported lost, oldest first: epoch, first and last number.
    pub lost: VecDeque<(u64, u64, u64)>,
    /// The epochs before this one, as far as they are remembered, oldest first.
    pub left: VecDeque<Left>,
}

/// An epoch that a series has left.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub epoch: u64,
    /// The first number taken of it.
    pub first: u64,
    /// The number it had come to.
    pub end: u64,
    /// Where it would go on: behind what was judged to be too late since.
    pub resume: u64,
}

/// A message, or a heartbeat, that waits for the messages before it.
pub(super) struct Held<M> {
    pub message: M,
    pub bytes: usize,
    /// When the first of what is held from here on came: what is missing before was missing since then.
    pub since_ns: u64,
}

impl<M> Aside<M> {
    pub fn left(&self, epoch: u64) -> Option<Left> {
        self.left.iter().copied().find(|left| left.epoch == epoch)
    }

    pub fn was_lost(&self, epoch: u64, number: u64) -> bool {
        let within = |&(of, first, last): &(u64, u64, u64)| {
            of == epoch && distance(first, number) >= 0 && distance(number, last) >= 0
        };
        self.lost.iter().any(within)
    }
}

/// What is aside of a series, made where there is nothing yet; `first` is the first number taken of its epoch.
pub(super) fn aside<M>(slot: &mut Option<Box<Aside<M>>>, first: u64) -> &mut Aside<M> {
    slot.get_or_insert_with(|| {
        Box::new(Aside {
            held: BTreeMap::new(),
            heartbeats: 0,
            turn: 0,
            shown: [Life::default(); LINES_MAX],
            past: [0; LINES_MAX],
            begun_by: [0; LINES_MAX],
            gone_on: None,
            later: VecDeque::new(),
            deadline_ns: None,
            first,
            lost: VecDeque::new(),
            left: VecDeque::new(),
        })
    })
}

/// Adds to what is remembered, and forgets the oldest.
pub(super) fn remember<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() == RUNS_MAX {
        all.pop_front();
    }
    all.push_back(one);
}
