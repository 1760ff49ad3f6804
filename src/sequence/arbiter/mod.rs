//! One stream out of the lines of a feed: the first copy of each message wins, and what one line lost
//! comes from another.
//!
//! Each series of numbers (one a topic, or one for all, by [`Scope`]) has a next number. The copy that
//! carries it is passed on at once, whichever line brings it; a copy of what was passed on or is held is
//! a duplicate; a message beyond the next number is held, because another line may yet fill the hole
//! before it. A hole is open for [`Limits::wait_ns`] from the arrival of the first message beyond it; then
//! what is missing is reported lost, and what was held goes on up to the next hole, which has a wait of
//! its own. What is reported lost is never passed on afterwards: order would break.
//!
//! **Lines that are gone** are not waited for: once a line has had no connection for a second, or that wait if it is
//! longer, an epoch ends without it; until then it may be back in time. Where only one line is left, a hole is open for a
//! millisecond, in case that line disorders messages; where two are left of three or four, they wait for each other.
//!
//! **Epochs.** A message of a later epoch is held until every line that is not gone has shown a later one in this
//! series, or for the same wait: until then the old epoch's tail may come by a line that lags. Then the old epoch
//! is left, and nothing of it is passed on any more. Of its tail only the numbers below one that came can
//! be known to be missing; they are reported, and whatever followed the last that came is not. The new epoch
//! begins at [`Numbering::start`] where that is known, otherwise at the lowest number held. Where a line
//! is silent, each restart of a publisher so costs one wait.
//!
//! Publishers may restart one by one, and clocks that epochs are made of go back. So a lower epoch is a later one
//! as well where its line has shown a higher one before, which tells it from the tail of a line that lags. A
//! publisher that restarts alone takes the feed with it, after the wait; the copies of the others are too late as
//! long as a line with a connection shows what it publishes now. Once none does, the epoch of those that are left
//! is gone back to, where it stands: what was too late stays so, without being reported lost, and nothing is passed on
//! twice, unless more than eight epochs came and went of which no line brought anything meanwhile.
//! A damaged epoch costs two restarts and no message, but where the series has a start all numbers before
//! the damaged message's are reported lost.
//!
//! **Without epochs** each line's restarts are told from its numbers alone: the start of the series below what the line
//! has shown, a fall by more than a thousand, or any fall over a [newer connection](Arbiter::set_connection) of the
//! line but to the last number, which caches repeat, and missing ones. What an older connection than the one of a
//! restart still brings is too late. Lives are counted by series, and the count takes the epoch's place. So a line that
//! restarts alone takes the feed with it, and the others are ignored until they restart or reconnect too, or until no
//! line with a connection shows what it publishes now: then the feed goes on with what the others bring, as a life of
//! its own, and what was too late stays so, without being reported lost; a life that begins above what the line has
//! shown, or a line that was not heard in this series before, tells of no restart; lines must not be two lives apart;
//! and each must keep its order.
//!
//! **Heartbeats** that repeat the number of the last message show what is missing before anything follows. One that says
//! more than has come is held behind that, like a message with the next number: what no line brings in time is reported
//! lost, and then the heartbeat goes on. Nothing is concluded from one before the first message of a series, nor from one
//! of an epoch, or a life of the publisher, that has not begun or is over.
//!
//! **The first number.** With [`Limits::from_start`] a series that is seen for the first time begins at
//! its start, and what is missing from there is a hole; otherwise it begins at the first number seen, and
//! what another line brings from before is too late.
//!
//! **Trade-offs.** Topics are told apart by their 64-bit hash only, which saves keeping and comparing
//! their names: two topics of the same hash would be merged, one chance in a billion with 100,000
//! topics. A series takes 96 bytes, some 250 more once it had a hole, and as much again for what it
//! remembers of epochs. Nothing is allocated for a copy unless there is a hole. Numbers of 64 bits are
//! compared modulo 2^63.
//!
//! A number further ahead than [`GAP_COUNT_MAX`](crate::sequence::stream::GAP_COUNT_MAX) is damaged, and
//! its message too late.
//!
//! All times are nanoseconds of one monotonic clock, given by the caller.

mod aside;
mod lines;
mod numbers;
mod stream;

use std::{collections::BTreeSet, mem};

use hashbrown::HashTable;

pub use self::lines::LineCounts;
use self::{
    aside::{Life, Place},
    numbers::Numbers,
    stream::{Stream, first_number},
};
use super::{Gap, Numbering, Position, Scope};
use crate::prefetch::prefetch_found;

/// The most lines a feed may have.
pub const LINES_MAX: usize = 4;
/// One message of so many that a line wins is marked, to tell the other lines' lag.
pub const LAG_SAMPLE_EVERY: u64 = 16;
/// How long the line may be silent that topics without a series come by, at least, and how long lines may be without a
/// connection before they are waited for no longer: lines lag by less.
const UNHEARD_NS: u64 = 1_000_000_000;
/// How long a hole is open where no other line can fill it.
const ALONE_WAIT_NS: u64 = 1_000_000;
/// Topics that there is room for from the start.
const TOPICS_RESERVED: usize = 1_024;

/// What an arbiter may spend.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a hole is waited for, in nanoseconds.
    pub wait_ns: u64,
    /// Messages held behind holes, heartbeats with them, in all series together; beyond it the oldest hole is given up.
    pub held_messages_max: usize,
    /// Bytes of messages held, likewise.
    pub held_bytes_max: usize,
    /// Topics with a series of their own. Those beyond are not arbitrated: all copies by one line are passed
    /// on, and no others, until it has no connection, or has brought none for a second, or the wait if that is
    /// longer, when another does. What that one had brought meanwhile was taken for copies.
    pub topics_max: usize,
    /// Whether a series seen for the first time begins at its start, not at the number seen.
    pub from_start: bool,
}

impl Limits {
    /// How long a line is waited for of which nothing can be heard, in nanoseconds.
    pub(crate) fn patience_ns(&self) -> u64 {
        self.wait_ns.max(UNHEARD_NS)
    }
}

/// What to do with a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on now.
    Pass,
    /// Forget it: the message was passed on or is held.
    Duplicate,
    /// Forget it: its place is past, though the message was never passed on.
    TooLate,
    /// Give it to [`Arbiter::hold`].
    Hold,
}

/// What an arbiter lets go.
#[derive(Debug, PartialEq, Eq)]
pub enum Released<'a, M> {
    /// Messages that no line brought in time.
    Lost {
        /// Which.
        gap: Gap,
        /// The message of the same series, or the heartbeat, that is released after them.
        before: &'a M,
    },
    /// The publisher has started anew. What is missing of its new life is lost apart from that.
    Restarted {
        /// The last position of the former life.
        from: Position,
        /// The first position that came of the new one.
        to: Position,
        /// The message there.
        before: &'a M,
    },
    /// A message, or a heartbeat, that was held, to be passed on.
    Message(M),
}

/// Merges the lines of a feed. `M` is what is kept of a message while it is held.
///
/// After each [`offer`](Self::offer) and [`hold`](Self::hold), and when the time has come, what is
/// [due](Self::due_ns) is to be [released](Self::release):
///
/// ```
/// use pinfeed::sequence::{
///     Gap, Numbering, Position, Scope,
///     arbiter::{Arbiter, Limits, Released, Verdict},
/// };
///
/// let numbering = Numbering {
///     scope: Scope::Line,
///     width_bits: 64,
///     start: Some(0),
///     has_epoch: true,
/// };
/// let limits = Limits {
///     wait_ns: 1_000,
///     held_messages_max: 1_000,
///     held_bytes_max: 1 << 20,
///     topics_max: 0,
///     from_start: true,
/// };
/// let mut arbiter = Arbiter::new(numbering, 2, limits);
/// let mut out = Vec::new();
/// for (line, sequence, now_ns) in [(0, 0, 10), (1, 0, 11), (0, 2, 30), (1, 1, 31)] {
///     let position = Position { epoch: 1, sequence };
///     match arbiter.offer(line, 0, position, now_ns) {
///         Verdict::Pass => out.push(sequence),
///         Verdict::Hold => arbiter.hold(8, sequence),
///         Verdict::Duplicate | Verdict::TooLate => {}
///     }
///     if arbiter.due_ns() <= now_ns {
///         arbiter.release(now_ns, &mut |released| match released {
///             Released::Message(sequence) => out.push(sequence),
///             _ => unreachable!("nothing is missing"),
///         });
///     }
/// }
/// assert_eq!(out, [0, 1, 2]);
/// ```
pub struct Arbiter<M> {
    scope: Scope,
    has_epoch: bool,
    /// The only series where all messages share one.
    feed: Option<Stream<M>>,
    topics: HashTable<Stream<M>>,
    /// Whether a series began since it was last asked.
    has_begun: bool,
    core: Core,
}

/// What all series share.
struct Core {
    numbers: Numbers,
    limits: Limits,
    lines: Vec<LineCounts>,
    /// By line: how many connections were made.
    made: [u32; LINES_MAX],
    /// By line: which of them what comes next came by, from 1.
    connections: [u32; LINES_MAX],
    connected: [bool; LINES_MAX],
    /// By line: until when it is waited for.
    awaited_until_ns: [u64; LINES_MAX],
    /// From when on only one line is waited for.
    alone_from_ns: u64,
    /// When which series may go on: one entry for each that holds messages.
    deadlines: BTreeSet<(u64, u64)>,
    due_ns: u64,
    /// The place that was found for the message to be held.
    parked: Option<Parked>,
    held_messages: usize,
    held_bytes: usize,
    lost: u64,
    given_up: u64,
    untracked: u64,
    /// The line whose copies of topics without a series are passed on, and when it brought the last one; none before
    /// the first.
    chosen: Option<(u8, u64)>,
}

/// A place among what is held of a series.
struct Parked {
    hash: u64,
    place: Place,
    now_ns: u64,
}

impl Core {
    fn reschedule(&mut self, hash: u64, from_ns: Option<u64>, to_ns: Option<u64>) {
        if let Some(from_ns) = from_ns {
            self.deadlines.remove(&(from_ns, hash));
        }
        if let Some(to_ns) = to_ns {
            self.deadlines.insert((to_ns, hash));
        }
    }

    /// Returns until when what is missing before a message is waited for. `since_ns` is when that came.
    fn deadline_ns(&self, since_ns: u64) -> u64 {
        let waited_ns = since_ns.saturating_add(self.limits.wait_ns);
        let alone_ns = since_ns.saturating_add(ALONE_WAIT_NS);
        waited_ns.min(alone_ns.max(self.alone_from_ns))
    }

    /// Takes note of until when a line is waited for. What is held when it is no more was waited for in full.
    fn await_until(&mut self, line: usize, until_ns: u64) {
        self.awaited_until_ns[line] = until_ns;
        let mut until_ns = self.awaited_until_ns;
        let of_lines = &mut until_ns[..self.lines.len()];
        of_lines.sort_unstable_by(|one, other| other.cmp(one));
        self.alone_from_ns = of_lines.get(1).copied().unwrap_or(u64::MAX);
    }

    fn is_over(&self) -> bool {
        self.held_messages > self.limits.held_messages_max
            || self.held_bytes > self.limits.held_bytes_max
    }

    fn note_due(&mut self) {
        self.due_ns = match self.deadlines.first() {
            Some(_) if self.is_over() => 0,
            Some(&(deadline_ns, _)) => deadline_ns,
            None => u64::MAX,
        };
    }

    /// Judges a copy of a topic for which there is no room.
    #[cold]
    fn judge_untracked(&mut self, line: u8, now_ns: u64) -> Verdict {
        self.untracked += 1;
        let is_other_heard = self.chosen.is_some_and(|(chosen, heard_ns)| {
            chosen != line
                && self.connected[usize::from(chosen)]
                && now_ns.saturating_sub(heard_ns) <= self.limits.patience_ns()
        });
        let counts = &mut self.lines[usize::from(line)];
        if !is_other_heard {
            self.chosen = Some((line, now_ns));
            counts.wins += 1;
            Verdict::Pass
        } else {
            counts.duplicates += 1;
            Verdict::Duplicate
        }
    }
}

impl<M> Arbiter<M> {
    /// Starts with nothing seen, and all lines taken to be connected.
    ///
    /// # Panics
    /// Where there are no lines or more than [`LINES_MAX`].
    #[must_use]
    pub fn new(numbering: Numbering, lines: usize, limits: Limits) -> Self {
        assert!(
            (1..=LINES_MAX).contains(&lines),
            "a feed has 1 to {LINES_MAX} lines"
        );
        let room = match numbering.scope {
            Scope::Topic => limits.topics_max.min(TOPICS_RESERVED),
            Scope::Line => 0,
        };
        Self {
            scope: numbering.scope,
            has_epoch: numbering.has_epoch,
            feed: None,
            topics: HashTable::with_capacity(room),
            has_begun: false,
            core: Core {
                numbers: Numbers::new(numbering),
                limits,
                lines: (0..lines).map(|_| LineCounts::new()).collect(),
                made: [0; LINES_MAX],
                connections: [0; LINES_MAX],
                connected: [true; LINES_MAX],
                awaited_until_ns: [u64::MAX; LINES_MAX],
                alone_from_ns: u64::MAX,
                deadlines: BTreeSet::new(),
                due_ns: u64::MAX,
                parked: None,
                held_messages: 0,
                held_bytes: 0,
                lost: 0,
                given_up: 0,
                untracked: 0,
                chosen: None,
            },
        }
    }

    /// Judges a copy received by `line` at `now_ns`. `hash` is its topic's
    /// [hash](crate::shard::topic_hash); it does not matter with [`Scope::Line`], nor does the epoch
    /// where the publisher gives none.
    ///
    /// # Panics
    /// Where there is no such line.
    #[inline]
    pub fn offer(&mut self, line: u8, hash: u64, position: Position, now_ns: u64) -> Verdict {
        match self.offer_in_step(line, hash, position, now_ns) {
            Some(verdict) => verdict,
            None => self.offer_out_of_step(line, hash, position, now_ns),
        }
    }

    /// Has fetched what [`offer`](Self::offer) will look at for a topic.
    #[inline(always)]
    pub(crate) fn fetch(&self, hash: u64) {
        if self.scope == Scope::Topic {
            prefetch_found(&self.topics, hash);
        }
    }

    /// As [`offer`](Self::offer), for a copy that is in step with its line, of a series that nothing is held of:
    /// [`Verdict::Pass`] or [`Verdict::Duplicate`]. `None` for any other, of which no note is taken.
    #[inline]
    pub(crate) fn offer_in_step(
        &mut self,
        line: u8,
        hash: u64,
        position: Position,
        now_ns: u64,
    ) -> Option<Verdict> {
        let core = &mut self.core;
        let stream = find(self.scope, &mut self.feed, &mut self.topics, hash)?;
        let sequence = position.sequence;
        let epoch = if self.has_epoch {
            position.epoch
        } else {
            stream.life_in_step(core, line, sequence)?
        };
        let verdict = stream.judge_in_step(core, line, epoch, sequence, now_ns);
        core.lines[usize::from(line)].copies += u64::from(verdict.is_some());
        verdict
    }

    #[cold]
    fn offer_out_of_step(
        &mut self,
        line: u8,
        hash: u64,
        position: Position,
        now_ns: u64,
    ) -> Verdict {
        let core = &mut self.core;
        core.lines[usize::from(line)].copies += 1;
        let Some(stream) = find(self.scope, &mut self.feed, &mut self.topics, hash) else {
            return self.open(line, hash, position, now_ns);
        };
        let sequence = position.sequence;
        let life = if self.has_epoch {
            stream.life_of(core, line, position.epoch, sequence)
        } else if stream.is_of_older_connection(core, line) {
            core.lines[usize::from(line)].too_late += 1;
            return Verdict::TooLate;
        } else {
            let epoch = stream.life(core, line, sequence);
            Life { turn: 0, epoch }
        };
        stream.judge(core, line, life, sequence, now_ns)
    }

    /// Begins a series.
    #[cold]
    fn open(&mut self, line: u8, hash: u64, position: Position, now_ns: u64) -> Verdict {
        let core = &mut self.core;
        let sequence = position.sequence;
        let epoch = if self.has_epoch { position.epoch } else { 0 };
        let next = first_number(&core.numbers, sequence, core.limits.from_start);
        let stream = match self.scope {
            Scope::Line => self.feed.insert(Stream::new(0, epoch, next)),
            Scope::Topic if self.topics.len() >= core.limits.topics_max => {
                return core.judge_untracked(line, now_ns);
            }
            Scope::Topic => {
                let stream = Stream::new(hash, epoch, next);
                let rehash = |stream: &Stream<M>| stream.hash;
                self.topics.insert_unique(hash, stream, rehash).into_mut()
            }
        };
        self.has_begun = true;
        stream.life(core, line, sequence);
        stream.judge(core, line, Life { turn: 0, epoch }, sequence, now_ns)
    }

    /// Judges a heartbeat received by `line` at `now_ns`, which says that all up to `reached` was published:
    /// [`Verdict::Hold`] where some of that has not come, else [`Verdict::Pass`]. It is no copy of another line's.
    ///
    /// # Panics
    /// Where there is no such line.
    pub fn heed(&mut self, line: u8, reached: Position, now_ns: u64) -> Verdict {
        let epoch = self.has_epoch.then_some(reached.epoch);
        match &mut self.feed {
            Some(stream) if !self.has_epoch && stream.is_of_older_connection(&self.core, line) => {
                Verdict::Pass
            }
            Some(stream) => {
                stream.judge_heartbeat(&mut self.core, line, epoch, reached.sequence, now_ns)
            }
            None => Verdict::Pass,
        }
    }

    /// Keeps the message whose copy, or the heartbeat that, was just judged [`Verdict::Hold`]. `bytes` is what it takes.
    ///
    /// # Panics
    /// Where the last one judged was judged otherwise, or was given before.
    pub fn hold(&mut self, bytes: usize, message: M) {
        let parked = self.core.parked.take();
        let parked = parked.expect("the last one judged was to be held");
        let hash = parked.hash;
        if let Some(stream) = find(self.scope, &mut self.feed, &mut self.topics, hash) {
            stream.keep(&mut self.core, parked, bytes, message);
        }
    }

    /// Returns when there is something to release, in nanoseconds of the caller's clock: 0 where
    /// there is now, `u64::MAX` where nothing is held.
    #[inline]
    #[must_use]
    pub fn due_ns(&self) -> u64 {
        self.core.due_ns
    }

    /// Releases, in order, what was held behind holes that are filled, given up, or open for too long at
    /// `now_ns`. With `u64::MAX` all that is held: to be called when nothing more will come.
    pub fn release(&mut self, now_ns: u64, sink: &mut impl FnMut(Released<'_, M>)) {
        while let Some(&(deadline_ns, hash)) = self.core.deadlines.first() {
            let force = deadline_ns > now_ns;
            if force && !self.core.is_over() {
                break;
            }
            let Some(stream) = find(self.scope, &mut self.feed, &mut self.topics, hash) else {
                break;
            };
            stream.release(&mut self.core, now_ns, force, sink);
        }
        self.core.note_due();
    }

    /// Takes note that a connection of `line` was made. What comes next by the line came by that one, unless
    /// [`set_connection`](Self::set_connection) says otherwise.
    ///
    /// # Panics
    /// Where there is no such line.
    pub fn connected(&mut self, line: u8) {
        let line = usize::from(line);
        self.core.connected[line] = true;
        self.core.made[line] = self.core.made[line].saturating_add(1);
        self.core.connections[line] = self.core.made[line];
        self.core.await_until(line, u64::MAX);
    }

    /// Takes note of which connection of `line` brings what comes next: its number, from 1, and higher than those of
    /// the line's connections before it. The first one [made](Self::connected) is 1; who numbers them otherwise says so
    /// before each copy. What an older one than that of the publisher's restart still brings is too late, where numbers
    /// alone tell of restarts.
    ///
    /// # Panics
    /// Where there is no such line.
    pub fn set_connection(&mut self, line: u8, connection: u32) {
        self.core.connections[usize::from(line)] = connection;
    }

    /// Takes note that the last connection of `line` was lost at `now_ns`. What it brought is not forgotten, and
    /// holes and restarts are waited for as before, for a while: it may be back in time. An epoch that only such
    /// lines have shown is left for that of another.
    ///
    /// # Panics
    /// Where there is no such line.
    pub fn disconnected(&mut self, line: u8, now_ns: u64) {
        let line = usize::from(line);
        self.core.connected[line] = false;
        let until_ns = now_ns.saturating_add(self.core.limits.patience_ns());
        self.core.await_until(line, until_ns);
    }

    /// Returns what was counted of each line.
    #[must_use]
    pub fn lines(&self) -> &[LineCounts] {
        &self.core.lines
    }

    /// Tells whether a series began with a copy [offered](Self::offer) since it was last asked.
    #[inline]
    pub fn take_begun(&mut self) -> bool {
        mem::take(&mut self.has_begun)
    }

    /// Returns the number of series seen.
    #[must_use]
    pub fn series(&self) -> u64 {
        (self.topics.len() + usize::from(self.feed.is_some())) as u64
    }

    /// Returns the number of messages and heartbeats held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.core.held_messages
    }

    /// Returns the number of messages reported lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.core.lost
    }

    /// Returns how often a hole, or the end of an epoch, was given up before its time because too much
    /// was held.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.core.given_up
    }

    /// Returns the number of copies of topics for which there was no room.
    #[must_use]
    pub fn untracked(&self) -> u64 {
        self.core.untracked
    }
}

#[inline(always)]
fn find<'a, M>(
    scope: Scope,
    feed: &'a mut Option<Stream<M>>,
    topics: &'a mut HashTable<Stream<M>>,
    hash: u64,
) -> Option<&'a mut Stream<M>> {
    match scope {
        Scope::Line => feed.as_mut(),
        Scope::Topic => topics.find_mut(hash, |stream| stream.hash == hash),
    }
}

#[cfg(test)]
mod tests;
