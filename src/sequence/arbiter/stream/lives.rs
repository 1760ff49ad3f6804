//! Which life of its publisher a copy is of, by epochs or by numbers alone, and how a series goes over to the next.

use std::mem;

use super::{NO_LINE, Stream, bit};
use crate::sequence::arbiter::{
    Core, LINES_MAX,
    aside::{Left, Life, aside, remember},
    numbers::distance,
};

impl<M> Stream<M> {
    /// The life that the stream is in.
    pub(super) fn now(&self) -> Life {
        Life {
            turn: self.aside.as_ref().map_or(0, |aside| aside.turn),
            epoch: self.epoch,
        }
    }

    /// Tells which life an epoch is that a line shows.
    ///
    /// A higher one is later. A lower one is, too, where the line has shown a higher one before, since no line
    /// falls back; and so is any, or one that was left, where no other line that is connected is in the stream's
    /// life or a later one. Else the line has just not come as far.
    pub(in super::super) fn life_of(
        &self,
        core: &Core,
        line: u8,
        epoch: u64,
        sequence: u64,
    ) -> Life {
        let now = self.now();
        if epoch == now.epoch {
            return now;
        }
        let same = |life: &&Life| life.epoch == epoch;
        let aside = self.aside.as_deref();
        if let Some(later) = aside.and_then(|aside| aside.later.iter().find(same)) {
            return *later;
        }
        let left = aside.and_then(|aside| aside.left(epoch));
        let newest = aside.and_then(|aside| aside.later.iter().max());
        let turn = newest.map_or(now.turn, |newest| newest.turn);
        if epoch > now.epoch && left.is_none() {
            return Life { turn, epoch };
        }
        let is_news = left
            .is_none_or(|left| distance(left.resume, core.numbers.place(left.end, sequence)) >= 0);
        let is_alone = self.is_alone(core, line);
        let at = usize::from(line);
        let falls = self.has_come(at) || aside.is_some_and(|aside| epoch < aside.past[at]);
        let goes_back = is_alone || (falls && left.is_none());
        if is_news && goes_back {
            let turn = turn + 1;
            return Life { turn, epoch };
        }
        // Before the stream's, as higher ones are of an earlier turn.
        let turn = now.turn.saturating_sub(1);
        Life { turn, epoch }
    }

    /// Tells whether a line is in the stream's life or a later one.
    fn has_come(&self, line: usize) -> bool {
        let now = self.now();
        let aside = self.aside.as_ref();
        self.current & (1 << line) != 0 || aside.is_some_and(|aside| aside.shown[line] > now)
    }

    /// Tells whether no other line that is connected is in the stream's life or a later one.
    fn is_alone(&self, core: &Core, line: u8) -> bool {
        let mut others = (0..core.lines.len()).filter(|&other| other != usize::from(line));
        !others.any(|other| core.connected[other] && self.has_come(other))
    }

    /// Tells whether a line is in the stream's life, as far as numbers tell.
    pub(super) fn is_now(&self, line: u8) -> bool {
        let is_new = self.heard & bit(line) == 0;
        let is_newest = self.aside.as_ref().is_none_or(|it| it.later.is_empty());
        self.current & bit(line) != 0 || (is_new && is_newest)
    }

    /// Tells whether a copy came by an older connection of its line than the one that brought the line's last restart, as
    /// numbers alone told.
    pub(in super::super) fn is_of_older_connection(&self, core: &Core, line: u8) -> bool {
        let at = usize::from(line);
        let aside = self.aside.as_ref();
        aside.is_some_and(|aside| core.connections[at] < aside.begun_by[at])
    }

    /// Tells which life of the publisher a number is of, where nothing but the numbers tells.
    ///
    /// A line is in the stream's epoch, ahead of it, or left behind in an earlier one.
    pub(in super::super) fn life(&mut self, core: &Core, line: u8, sequence: u64) -> u64 {
        self.life_in_step(core, line, sequence)
            .unwrap_or_else(|| self.life_out_of_step(core, line, sequence))
    }

    /// As [`life`](Self::life), where the number goes on from what the line has shown of the stream's epoch.
    #[inline]
    pub(in super::super) fn life_in_step(
        &self,
        core: &Core,
        line: u8,
        sequence: u64,
    ) -> Option<u64> {
        let at = usize::from(line);
        let in_step = self.current & bit(line) != 0
            && self.connections[at] == core.connections[at] as u16
            && core.numbers.goes_on(self.highest[at], sequence);
        in_step.then_some(self.epoch)
    }

    #[cold]
    fn life_out_of_step(&mut self, core: &Core, line: u8, sequence: u64) -> u64 {
        let at = usize::from(line);
        let connection = core.connections[at] as u16;
        let remade = (connection.wrapping_sub(self.connections[at]) as i16) > 0;
        let shown = self.aside.as_ref();
        let shown = shown.map_or([0; LINES_MAX], |it| it.shown.map(|life| life.epoch));
        let newest = shown.into_iter().fold(self.epoch, u64::max);
        if self.heard & bit(line) == 0 {
            self.connections[at] = connection;
            return newest;
        }
        let is_current = self.current & bit(line) != 0;
        let number = core.numbers.place(self.highest[at], sequence);
        let is_ahead = distance(self.highest[at], number) > 0;
        // Late, by another of the line's connections.
        let is_missing = is_current
            && !is_ahead
            && distance(self.next, number) >= 0
            && !self.is_held(self.now(), number);
        let falls_back =
            (core.numbers).falls_back(self.highest[at], sequence, remade && !is_missing);
        if falls_back {
            // No older one gets here.
            aside(&mut self.aside, self.whole_from).begun_by[at] = core.connections[at];
        }
        // What falls back behind the last number again, or behind a missing one, is still a restart.
        if remade && (falls_back || is_ahead) {
            self.connections[at] = connection;
        }
        let own = if is_current { self.epoch } else { shown[at] };
        if own < self.epoch || (own == self.epoch && !is_current) {
            if remade || falls_back {
                return newest;
            }
            if is_ahead {
                self.highest[at] = number;
            }
            if self.is_alone(core, line) {
                aside(&mut self.aside, self.whole_from).gone_on = Some(newest + 1);
                return newest + 1;
            }
            self.epoch.saturating_sub(1)
        } else if falls_back {
            own + 1
        } else if remade {
            newest
        } else {
            own
        }
    }

    /// Leaves the life for the next that is held, of which `number` is the lowest.
    pub(super) fn enter(&mut self, core: &Core, life: Life, number: u64) {
        let aside = aside(&mut self.aside, self.whole_from);
        let returned = aside.left(life.epoch);
        aside.left.retain(|left| left.epoch != life.epoch);
        let left = Left {
            epoch: self.epoch,
            first: aside.first,
            end: self.next,
            resume: self.next,
        };
        remember(&mut aside.left, left);
        aside.later.retain(|later| *later > life);
        (self.epoch, aside.turn) = (life.epoch, life.turn);
        if let Some(Left {
            first, end, resume, ..
        }) = returned
        {
            (self.next, aside.first) = (resume, first);
            if resume > end {
                remember(&mut aside.lost, (life.epoch, end, resume - 1));
            }
        } else {
            let start = (core.numbers.start()).filter(|_| Some(life.epoch) != aside.gone_on);
            self.next = start.unwrap_or(number).min(number);
            aside.first = self.next;
        }
        self.whole_from = self.next;
        self.marked_line = NO_LINE;
        let was_current = mem::take(&mut self.current);
        for line in 0..core.lines.len() {
            if was_current & (1 << line) != 0 {
                aside.past[line] = left.epoch;
            }
            if aside.shown[line] == life {
                self.current |= 1 << line;
            }
        }
    }

    /// Returns from when on nothing more is waited for of this life: once every line has shown a later one, but for
    /// those that are gone.
    pub(super) fn ended_ns(&self, core: &Core) -> u64 {
        let Some(aside) = &self.aside else {
            return u64::MAX;
        };
        let now = self.now();
        let awaited = (0..core.lines.len()).filter(|&line| aside.shown[line] <= now);
        let until_ns = awaited.map(|line| core.awaited_until_ns[line]);
        until_ns.max().unwrap_or(0)
    }
}
