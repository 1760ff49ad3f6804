//! One series of numbers: what was passed on, and what is held behind a hole.
//!
//! What each copy needs lies in the stream itself; what only losses, restarts and disorder need, [`Aside`].

mod lives;

use super::{
    Core, LAG_SAMPLE_EVERY, LINES_MAX, Parked, Released, Verdict,
    aside::{Aside, Held, Life, Place, What, aside, remember},
    numbers::{Numbers, distance},
};
use crate::sequence::{Gap, Position, stream::GAP_COUNT_MAX};

/// The line whose copy is marked, where none is.
const NO_LINE: u8 = u8::MAX;

/// One series, on two cache lines wherever it begins.
#[repr(align(32))]
pub(super) struct Stream<M> {
    pub hash: u64,
    pub epoch: u64,
    /// The lowest number not yet passed on or reported lost.
    next: u64,
    /// From here on to `next` every number was passed on; what is below needs a closer look.
    whole_from: u64,
    /// A message whose other copy is awaited, to tell the lag: when it came, by which line, and the low
    /// bits of its number.
    marked_ns: u64,
    marked: u32,
    marked_line: u8,
    /// Lines, as bits, whose `highest` is a number of this epoch.
    current: u8,
    /// Lines, as bits, that were heard at all.
    heard: u8,
    /// Whether messages are held.
    waiting: bool,
    /// The highest number each line has shown, of the last epoch it has shown.
    highest: [u64; LINES_MAX],
    /// The newest of its connections that each line went on by, or began anew, modulo 65,536; see [`Stream::life`].
    connections: [u16; LINES_MAX],
    aside: Option<Box<Aside<M>>>,
}

const _: () = assert!(size_of::<Stream<()>>() == 96);

impl<M> Stream<M> {
    pub(super) fn new(hash: u64, epoch: u64, next: u64) -> Self {
        Self {
            hash,
            epoch,
            next,
            whole_from: next,
            marked_ns: 0,
            marked: 0,
            marked_line: NO_LINE,
            current: 0,
            heard: 0,
            waiting: false,
            highest: [next; LINES_MAX],
            connections: [0; LINES_MAX],
            aside: None,
        }
    }

    /// Judges a copy that is in step with its line. `None` where more has to be looked at.
    #[inline]
    pub(super) fn judge_in_step(
        &mut self,
        core: &mut Core,
        line: u8,
        epoch: u64,
        sequence: u64,
        now_ns: u64,
    ) -> Option<Verdict> {
        if epoch != self.epoch || self.waiting || self.current & bit(line) == 0 {
            return None;
        }
        let number = core.numbers.place(self.next, sequence);
        let highest = &mut self.highest[usize::from(line)];
        if number.wrapping_sub(*highest) != 1 {
            return None;
        }
        if number == self.next {
            *highest = number;
            self.pass(core, line, number, now_ns);
            Some(Verdict::Pass)
        } else if distance(number, self.next) > 0 && distance(self.whole_from, number) >= 0 {
            *highest = number;
            self.note_duplicate(core, line, number, now_ns);
            Some(Verdict::Duplicate)
        } else {
            None
        }
    }

    /// Judges any copy. For [`Verdict::Hold`] the place for the message is left in `core.parked`.
    #[cold]
    pub(super) fn judge(
        &mut self,
        core: &mut Core,
        line: u8,
        life: Life,
        sequence: u64,
        now_ns: u64,
    ) -> Verdict {
        let now = self.now();
        if life < now {
            return self.judge_left(core, line, life.epoch, sequence);
        }
        if life > now {
            return self.judge_later(core, line, life, sequence, now_ns);
        }
        let number = core.numbers.place(self.next, sequence);
        if distance(self.next, number) > GAP_COUNT_MAX as i64 {
            // No publisher lost that much: followed, it would make all that comes after too late.
            core.lines[usize::from(line)].too_late += 1;
            return Verdict::TooLate;
        }
        self.note_highest(core, line, number);
        let behind = distance(number, self.next) > 0;
        if behind && distance(self.whole_from, number) < 0 && !self.was_passed(number) {
            core.lines[usize::from(line)].too_late += 1;
            return Verdict::TooLate;
        }
        if behind || self.is_held(life, number) {
            self.note_duplicate(core, line, number, now_ns);
            return Verdict::Duplicate;
        }
        self.note_repaired(core, number);
        if number != self.next {
            return self.park(core, line, life, number, now_ns);
        }
        self.pass(core, line, number, now_ns);
        if self.waiting {
            self.schedule(core);
        }
        Verdict::Pass
    }

    fn judge_left(&mut self, core: &mut Core, line: u8, epoch: u64, sequence: u64) -> Verdict {
        self.current &= !bit(line);
        let counts = &mut core.lines[usize::from(line)];
        let Some(aside) = &mut self.aside else {
            counts.too_late += 1;
            return Verdict::TooLate;
        };
        aside.past[usize::from(line)] = epoch;
        if let Some(at) = aside.left.iter().position(|left| left.epoch == epoch) {
            // What a line is still in is the last to be forgotten.
            let mut left = aside.left.remove(at).expect("it was found");
            let number = core.numbers.place(left.end, sequence);
            let is_past = distance(number, left.end) > 0;
            if !is_past && (0..GAP_COUNT_MAX as i64).contains(&distance(left.resume, number)) {
                left.resume = number + 1;
            }
            aside.left.push_back(left);
            if is_past && !aside.was_lost(epoch, number) {
                counts.duplicates += 1;
                return Verdict::Duplicate;
            }
        }
        counts.too_late += 1;
        Verdict::TooLate
    }

    fn judge_later(
        &mut self,
        core: &mut Core,
        line: u8,
        life: Life,
        sequence: u64,
        now_ns: u64,
    ) -> Verdict {
        let aside = aside(&mut self.aside, self.whole_from);
        if !aside.later.contains(&life) {
            remember(&mut aside.later, life);
        }
        let resume = aside.left(life.epoch).map(|left| left.resume);
        let known = aside.held.range(Place::of_message(life, 0)..).next();
        let known = known.filter(|(place, _)| place.life == life);
        let start = (core.numbers.start()).filter(|_| Some(life.epoch) != aside.gone_on);
        let near = resume
            .or(start)
            .or(known.map(|(place, _)| place.number))
            .unwrap_or_else(|| core.numbers.first(sequence));
        let number = core.numbers.place(near, sequence);
        if distance(near, number) > GAP_COUNT_MAX as i64 {
            core.lines[usize::from(line)].too_late += 1;
            return Verdict::TooLate;
        }
        let shown = &mut aside.shown[usize::from(line)];
        let highest = &mut self.highest[usize::from(line)];
        if *shown < life || (*shown == life && distance(*highest, number) > 0) {
            *shown = life;
            *highest = number;
        }
        self.heard |= bit(line);
        self.current &= !bit(line);
        let is_past = resume.is_some_and(|resume| distance(number, resume) > 0);
        let verdict = if is_past {
            self.judge_left(core, line, life.epoch, sequence)
        } else if self.is_held(life, number) {
            core.lines[usize::from(line)].duplicates += 1;
            Verdict::Duplicate
        } else {
            self.park(core, line, life, number, now_ns)
        };
        if self.waiting {
            self.schedule(core);
        }
        verdict
    }

    /// Judges a heartbeat, which says that all up to a number was published. That tells what a message behind it would
    /// tell, but nothing of another life than the present one: it is repeated when that has begun. `epoch` is where the
    /// publisher gives one.
    #[cold]
    pub(super) fn judge_heartbeat(
        &mut self,
        core: &mut Core,
        line: u8,
        epoch: Option<u64>,
        sequence: u64,
        now_ns: u64,
    ) -> Verdict {
        let life = self.now();
        let number = core.numbers.place(self.next, sequence).wrapping_add(1);
        let shows_more = (1..=GAP_COUNT_MAX as i64).contains(&distance(self.next, number));
        let is_of_life = match epoch {
            Some(epoch) => epoch == self.epoch,
            None => self.is_now(line),
        };
        if !(shows_more && is_of_life) {
            return Verdict::Pass;
        }
        let aside = aside(&mut self.aside, self.whole_from);
        aside.heartbeats += 1;
        let what = What::Heartbeat(aside.heartbeats);
        core.parked = Some(Parked {
            hash: self.hash,
            place: Place { life, number, what },
            now_ns,
        });
        Verdict::Hold
    }

    /// Keeps a message at its place; tells of the hole before it.
    pub(super) fn keep(&mut self, core: &mut Core, parked: Parked, bytes: usize, message: M) {
        let aside = aside(&mut self.aside, self.whole_from);
        let after = aside.held.range(parked.place..).next();
        let since_ns = after.map_or(parked.now_ns, |(_, held)| held.since_ns);
        let held = Held {
            message,
            bytes,
            since_ns,
        };
        aside.held.insert(parked.place, held);
        core.held_messages += 1;
        core.held_bytes += bytes;
        self.waiting = true;
        self.schedule(core);
    }

    /// Passes on what the deadline or the order allows. With `force` the first hole is given up whatever
    /// its deadline.
    pub(super) fn release(
        &mut self,
        core: &mut Core,
        now_ns: u64,
        mut force: bool,
        sink: &mut impl FnMut(Released<'_, M>),
    ) {
        loop {
            let (ended_ns, now) = (self.ended_ns(core), self.now());
            let Some(aside) = &mut self.aside else { break };
            let Some(first) = aside.held.first_entry() else {
                break;
            };
            let place = *first.key();
            let Place { life, number, what } = place;
            if place.is_ready(now, self.next) {
                let held = first.remove();
                core.held_messages -= 1;
                core.held_bytes -= held.bytes;
                self.next += u64::from(what == What::Message);
                sink(Released::Message(held.message));
                continue;
            }
            let until_ns = core.deadline_ns(first.get().since_ns).min(ended_ns);
            if until_ns > now_ns {
                if !force {
                    break;
                }
                core.given_up += 1;
                force = false;
            }
            if life != now {
                let position = |epoch, number| Position {
                    epoch,
                    sequence: core.numbers.sequence(number),
                };
                sink(Released::Restarted {
                    from: position(self.epoch, self.next.wrapping_sub(1)),
                    to: position(life.epoch, number),
                    before: &first.get().message,
                });
                self.enter(core, life, number);
                continue;
            }
            let count = number.wrapping_sub(self.next);
            core.lost += count;
            let gap = Gap {
                epoch: life.epoch,
                from: core.numbers.sequence(self.next),
                to: core.numbers.sequence(number.wrapping_sub(1)),
                count,
            };
            sink(Released::Lost {
                gap,
                before: &first.get().message,
            });
            remember(&mut aside.lost, (life.epoch, self.next, number - 1));
            (self.next, self.whole_from) = (number, number);
        }
        self.waiting = self.aside.as_ref().is_some_and(|it| !it.held.is_empty());
        self.schedule(core);
    }

    /// Enters into the table of deadlines when the first message held may go on.
    fn schedule(&mut self, core: &mut Core) {
        let (ended_ns, now) = (self.ended_ns(core), self.now());
        let Some(aside) = &mut self.aside else { return };
        let deadline_ns = aside.held.first_key_value().map(|(place, held)| {
            if place.is_ready(now, self.next) {
                0
            } else {
                core.deadline_ns(held.since_ns).min(ended_ns)
            }
        });
        if deadline_ns != aside.deadline_ns {
            core.reschedule(self.hash, aside.deadline_ns, deadline_ns);
            aside.deadline_ns = deadline_ns;
        }
        core.note_due();
    }

    fn park(&mut self, core: &mut Core, line: u8, life: Life, number: u64, now_ns: u64) -> Verdict {
        core.lines[usize::from(line)].wins += 1;
        core.parked = Some(Parked {
            hash: self.hash,
            place: Place::of_message(life, number),
            now_ns,
        });
        Verdict::Hold
    }

    #[inline]
    fn pass(&mut self, core: &mut Core, line: u8, number: u64, now_ns: u64) {
        self.next = number + 1;
        let counts = &mut core.lines[usize::from(line)];
        counts.wins += 1;
        if counts.wins.is_multiple_of(LAG_SAMPLE_EVERY) && self.marked_line == NO_LINE {
            (self.marked, self.marked_line, self.marked_ns) = (number as u32, line, now_ns);
        }
    }

    #[inline]
    fn note_duplicate(&mut self, core: &mut Core, line: u8, number: u64, now_ns: u64) {
        let counts = &mut core.lines[usize::from(line)];
        counts.duplicates += 1;
        if self.marked_line != NO_LINE && self.marked_line != line {
            let beyond = (number as u32).wrapping_sub(self.marked) as i32;
            if beyond >= 0 {
                self.marked_line = NO_LINE;
            }
            if beyond == 0 {
                counts.note_lag(now_ns.saturating_sub(self.marked_ns));
            }
        }
    }

    /// Takes note of how far a line is, and of what others brought that it went past.
    fn note_highest(&mut self, core: &mut Core, line: u8, number: u64) {
        let at = usize::from(line);
        let now = self.now();
        if let Some(aside) = &mut self.aside
            && aside.shown[at] > now
        {
            // What it had shown of a later life was damaged.
            aside.shown[at] = Life::default();
        }
        self.heard |= bit(line);
        if self.current & bit(line) == 0 {
            self.current |= bit(line);
            self.highest[at] = number;
            return;
        }
        if distance(self.highest[at], number) <= 0 {
            return;
        }
        let first = self.aside.as_ref().map_or(self.whole_from, |it| it.first);
        let from = first.max(self.highest[at] + 1);
        self.highest[at] = number;
        let end = number.min(self.next);
        let mut brought = end.saturating_sub(from);
        if let Some(aside) = &self.aside {
            for &(_, first, last) in aside.lost.iter().filter(|run| run.0 == self.epoch) {
                brought -= (last + 1).min(end).saturating_sub(first.max(from));
            }
            let end = Place::of_message(now, number.max(from));
            let passed_over = aside.held.range(Place::of_message(now, from)..end);
            let messages = passed_over.filter(|(place, _)| place.what == What::Message);
            brought += messages.count() as u64;
        }
        core.lines[at].repaired += brought;
    }

    /// Counts a message for the lines that went past it.
    fn note_repaired(&self, core: &mut Core, number: u64) {
        for (line, counts) in core.lines.iter_mut().enumerate() {
            let is_current = self.current & (1 << line) != 0;
            if is_current && distance(number, self.highest[line]) > 0 {
                counts.repaired += 1;
            }
        }
    }

    fn is_held(&self, life: Life, number: u64) -> bool {
        let aside = self.aside.as_ref();
        aside.is_some_and(|aside| aside.held.contains_key(&Place::of_message(life, number)))
    }

    /// Tells whether a number of this epoch below `whole_from` was passed on, as far as is remembered.
    fn was_passed(&self, number: u64) -> bool {
        let aside = self.aside.as_ref();
        aside.is_some_and(|aside| {
            distance(aside.first, number) >= 0 && !aside.was_lost(self.epoch, number)
        })
    }
}

fn bit(line: u8) -> u8 {
    1 << line
}

/// Where a new series begins, and the epoch it begins in.
pub(super) fn first_number(numbers: &Numbers, sequence: u64, from_start: bool) -> u64 {
    let start = numbers.start().filter(|_| from_start);
    start.map_or_else(
        || numbers.first(sequence),
        |start| start.min(numbers.place(start, sequence)),
    )
}
