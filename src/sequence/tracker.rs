//! What a lane asks of each message of a feed: deliver it or not, and what its number tells.
//!
//! A feed whose numbers are judged elsewhere, as those of two lines are, runs a tracker without a
//! numbering, and [notes](Tracker::note_gap) the gaps and restarts found there.
//!
//! The fast path is a message that is expected, of a topic that is well: one look-up, a comparison, and
//! the entry written back. Everything else is cold. A feed that numbers its topics and has no rules for
//! silent ones looks only at what they await (`awaited.rs`); one that numbers its lines and has none
//! looks nothing up.
//!
//! Times are nanoseconds of the lane's attentive time: without those it was blocked, when it could not
//! have heard a message. Should time fall back, it stands still until it has caught up. A lane ticks
//! when it has read what there was to read, else silence is found where messages wait to be read.

mod effect;
mod former;

use crate::sequence::{
    Gap, Numbering, Position, Quality, Scope,
    awaited::{Awaited, Followed},
    event::{Event, EventKind},
    quality::{FeedQuality, StaleRule, StaleRules},
    stream::{Step, Stream},
    topics::{Topic, Topics},
    wheel::Wheel,
};
use effect::Effect;
use former::Former;

/// The most topics that one tick looks at, about 50 µs of work. More are left to the next tick, which is
/// due at once.
pub const TOPICS_PER_TICK_MAX: usize = 1_024;
/// Silence and recovery are noticed late by at most this part of the shortest limit.
const GRAINS: u64 = 64;

/// How a feed is tracked.
#[derive(Clone, Debug, Default)]
pub struct TrackerOptions {
    /// How messages are numbered; `None` if they are not, or if others judge the numbers.
    pub numbering: Option<Numbering>,
    /// Whether each series is expected from its first number, where that is known.
    pub from_start: bool,
    /// The most topics tracked.
    pub topics_max: usize,
    /// After how much silence, in nanoseconds, the feed is stale.
    pub stale_after_ns: Option<u64>,
    /// After how much silence which topics are.
    pub stale_rules: Vec<StaleRule>,
    /// How long after a gap, in nanoseconds, there must be no other until all is ok.
    pub recover_ns: u64,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to its handler.
    Deliver,
    /// It is a copy of one that went there: it is counted, and goes nowhere.
    Duplicate,
}

/// What a tracker has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages missing: those of all gaps, less those that came late.
    pub lost: u64,
    /// Gaps.
    pub gaps: u64,
    /// Messages that came late.
    pub reordered: u64,
    /// Copies.
    pub duplicates: u64,
    /// Restarts of series.
    pub restarts: u64,
    /// Series seen.
    pub first_seen: u64,
    /// Messages of topics beyond the limit: delivered, but without any of this.
    pub untracked: u64,
}

/// The state of one feed, or of one line where lines are not copies of each other.
#[derive(Debug)]
pub struct Tracker {
    numbering: Option<Numbering>,
    /// Whether each topic has a series.
    by_topic: bool,
    /// Whether all messages share one.
    by_line: bool,
    /// The highest number of a series.
    mask: u64,
    from_start: bool,
    recover_ns: u64,
    /// The latest time seen.
    now_ns: u64,
    /// How many connections were made.
    connections: u32,
    /// The number of the one that what comes next came by, and one more: 1 is for what comes before any.
    connection: u32,
    /// Whether unknown topics are put into the table.
    registers: bool,
    /// Whether topics are looked up.
    looks_up: bool,
    line: Stream,
    feed: FeedQuality,
    topics: Topics<Stream>,
    former: Former,
    /// Whether what topics in step await is kept apart: where numbers are all there is to look at.
    in_step: bool,
    /// What they await. Their series in `topics` have got no further than when they were put here.
    awaited: Awaited,
    rules: StaleRules,
    wheel: Wheel,
    counts: Counts,
}

impl Tracker {
    /// Makes a tracker for a feed that has no connection yet.
    ///
    /// # Panics
    /// Where there are 65,535 stale rules or more.
    #[must_use]
    pub fn new(options: TrackerOptions) -> Self {
        let scope = options.numbering.map(|numbering| numbering.scope);
        let rules = StaleRules::new(options.stale_rules);
        let recover_ns = Some(options.recover_ns).filter(|&recover_ns| recover_ns > 0);
        let shortest_ns = rules.shortest_ns().into_iter().chain(recover_ns).min();
        let registers = scope == Some(Scope::Topic) || !rules.is_empty();
        Self {
            numbering: options.numbering,
            by_topic: scope == Some(Scope::Topic),
            by_line: scope == Some(Scope::Line),
            mask: options.numbering.map_or(0, |numbering| numbering.mask()),
            from_start: options.from_start,
            recover_ns: options.recover_ns,
            now_ns: 0,
            connections: 0,
            connection: 1,
            registers,
            looks_up: registers,
            line: Stream::default(),
            feed: FeedQuality::new(options.stale_after_ns, options.recover_ns),
            topics: Topics::new(options.topics_max),
            former: Former::default(),
            in_step: scope == Some(Scope::Topic) && rules.is_empty(),
            awaited: Awaited::new(),
            rules,
            wheel: Wheel::new(shortest_ns.unwrap_or(0) / GRAINS),
            counts: Counts::default(),
        }
    }

    /// Takes a message, and says what is to become of it. `hash` is the topic's
    /// [hash](crate::shard::topic_hash).
    #[inline]
    pub fn track(
        &mut self,
        topic: &[u8],
        hash: u64,
        position: Option<Position>,
        now_ns: u64,
        events: &mut impl FnMut(Event<'_>),
    ) -> Verdict {
        self.hear(now_ns);
        if self.follow(hash, position) {
            Verdict::Deliver
        } else {
            self.judge(topic, hash, position, events)
        }
    }

    /// Takes note of the time of the messages that come next.
    #[inline]
    pub fn hear(&mut self, now_ns: u64) {
        self.now_ns = now_ns.max(self.now_ns);
        self.feed.heard_ns = self.now_ns;
    }

    /// Returns what to ask about messages with numbers, as [`follow`](Self::follow) is, where nothing else has to be
    /// looked at.
    #[inline(always)]
    pub(crate) fn followed(&mut self) -> Option<Followed<'_>> {
        let in_step = self.in_step && !self.feed.listens;
        in_step.then(|| self.awaited.followed(self.connection))
    }

    /// Tells whether [`follow`](Self::follow) would take any message, as where there are neither numbers nor topics to
    /// look at.
    #[inline]
    pub(crate) fn follows_all(&self) -> bool {
        !(self.looks_up || self.by_line || self.feed.listens)
    }

    /// Has fetched what [`follow`](Self::follow) will look at for a topic, where there is nothing that is
    /// [followed](Self::followed).
    #[inline(always)]
    pub(crate) fn fetch(&self, hash: u64) {
        if self.looks_up {
            self.topics.fetch(hash);
        }
    }

    /// Takes a message if it is the expected one, of a topic that is well. Otherwise nothing has changed, and it is
    /// to be [judged](Self::judge).
    #[inline(always)]
    pub fn follow(&mut self, hash: u64, position: Option<Position>) -> bool {
        let (now_ns, connection) = (self.now_ns, self.connection);
        let follows = |series: &Stream| {
            position.is_some_and(|position| series.expects(position)) && series.is_of(connection)
        };
        if self.feed.listens || (self.by_line && !follows(&self.line)) {
            return false;
        }
        if let Some(mut followed) = self.followed() {
            return position.is_some_and(|position| followed.follow(hash, position));
        }
        let steady = !self.looks_up
            || match self.topics.get_mut(hash) {
                Some(Topic { state, quality, .. })
                    if quality.is_steady() && (!self.by_topic || follows(state)) =>
                {
                    quality.last_seen_ns = now_ns;
                    state.follow(self.mask, connection);
                    true
                }
                Some(_) => false,
                None => !self.registers,
            };
        if steady && self.by_line {
            self.line.follow(self.mask, connection);
        }
        steady
    }

    /// Takes a message that [`follow`](Self::follow) did not, right after it, and says what is to become
    /// of it.
    #[cold]
    #[inline(never)]
    pub fn judge(
        &mut self,
        topic: &[u8],
        hash: u64,
        position: Option<Position>,
        events: &mut impl FnMut(Event<'_>),
    ) -> Verdict {
        let of_line = match self.numbering {
            Some(numbering) if self.by_line => position.map(|at| {
                let (from_start, connection) = (self.from_start, self.connection);
                let series = &mut self.line;
                (self.former).advance(0, series, &numbering, from_start, at, connection)
            }),
            _ => None,
        };
        let mut verdict = self.take(None, of_line.zip(position), events);
        let effect = match of_line {
            Some(step) => Effect::of(step),
            None if self.by_line => Effect::None,
            None => Effect::InSequence,
        };
        self.feed.hear(self.now_ns, effect == Effect::InSequence);
        self.affect_feed(effect);
        if self.looks_up && self.find(topic, hash, true, events) {
            self.fall_out_of_step(hash);
            let of_topic = self.judge_topic(topic, hash, position, events);
            self.fall_into_step(hash);
            if self.by_topic {
                verdict = of_topic;
            }
        }
        self.tell_feed(events);
        verdict
    }

    /// Brings a topic's series up to date with what it awaits.
    fn fall_out_of_step(&mut self, hash: u64) {
        if let Some(Topic { state, .. }) = self.topics.get_mut(hash) {
            let (position, connection) = state.awaited();
            if let Some(followed) = self.awaited.take(hash, position, connection) {
                state.follow_many(self.mask, followed);
            }
        }
    }

    /// From here on a topic that is well is looked at only for what it awaits.
    fn fall_into_step(&mut self, hash: u64) {
        if let Some(Topic { state, quality, .. }) = self.topics.get(hash)
            && self.in_step
            && quality.is_steady()
        {
            let (position, connection) = state.awaited();
            if connection == self.connection {
                self.awaited.put(hash, position, connection);
            }
        }
    }

    /// Tells whether a topic is in the table, and adds it if it should be.
    fn find(
        &mut self,
        topic: &[u8],
        hash: u64,
        is_message: bool,
        events: &mut impl FnMut(Event<'_>),
    ) -> bool {
        if self.topics.get(hash).is_some() {
            return true;
        }
        if is_message && !self.registers {
            return false;
        }
        let quality = self.rules.start(topic, self.now_ns);
        let Some(added) = self.topics.add(topic, hash, Stream::default(), quality) else {
            self.counts.untracked += u64::from(is_message);
            return false;
        };
        if let Some(due_ns) = added.quality.due_ns(&self.rules, self.feed.connected_ns) {
            self.wheel.wait(added.quality.place, due_ns);
        }
        if self.registers && !self.by_topic && !self.by_line {
            self.counts.first_seen += 1;
            events(Event::new(Some((topic, hash)), EventKind::FirstSeen));
        }
        true
    }

    fn judge_topic(
        &mut self,
        topic: &[u8],
        hash: u64,
        position: Option<Position>,
        events: &mut impl FnMut(Event<'_>),
    ) -> Verdict {
        let (connection, from_start) = (self.connection, self.from_start);
        let numbering = self.numbering.filter(|_| self.by_topic);
        let Some(entry) = self.topics.get_mut(hash) else {
            return Verdict::Deliver;
        };
        let step = numbering.zip(position).map(|(numbering, at)| {
            let series = &mut entry.state;
            (self.former).advance(hash, series, &numbering, from_start, at, connection)
        });
        let verdict = self.take(Some((topic, hash)), step.zip(position), events);
        let effect = match step {
            Some(step) => Effect::of(step),
            None if self.by_topic => Effect::None,
            None => Effect::InSequence,
        };
        self.affect_topic(topic, hash, effect, true, events);
        verdict
    }

    /// Counts and tells of a step, if there is one.
    fn take(
        &mut self,
        topic: Option<(&[u8], u64)>,
        taken: Option<(Step, Position)>,
        events: &mut impl FnMut(Event<'_>),
    ) -> Verdict {
        let Some((step, at)) = taken else {
            return Verdict::Deliver;
        };
        let counts = &mut self.counts;
        let mut tell = |kind| events(Event::new(topic, kind));
        let mut verdict = Verdict::Deliver;
        let gap = match step {
            Step::InSequence => None,
            Step::Gap(gap) => Some(gap),
            Step::FirstSeen { gap } => {
                counts.first_seen += 1;
                tell(EventKind::FirstSeen);
                gap
            }
            Step::Restarted { from, gap } => {
                counts.restarts += 1;
                tell(EventKind::Restarted { from, to: at });
                gap
            }
            Step::Reordered => {
                counts.reordered += 1;
                counts.lost -= 1;
                tell(EventKind::Reordered(at));
                None
            }
            Step::Duplicate => {
                counts.duplicates += 1;
                verdict = Verdict::Duplicate;
                tell(EventKind::Duplicate(at));
                None
            }
        };
        if let Some(gap) = gap {
            counts.gaps += 1;
            counts.lost += gap.count;
            tell(EventKind::Gap(gap));
        }
        verdict
    }

    /// Takes note of a gap found elsewhere: in a topic's series, or in the feed's. Comes after the
    /// message that showed it was [tracked](Self::track).
    pub fn note_gap(
        &mut self,
        topic: Option<(&[u8], u64)>,
        gap: Gap,
        now_ns: u64,
        events: &mut impl FnMut(Event<'_>),
    ) {
        self.note(topic, EventKind::Gap(gap), Effect::Lost, now_ns, events);
        self.counts.gaps += 1;
        self.counts.lost += gap.count;
    }

    /// Takes note of a restart found elsewhere, of a topic's series or the feed's, as
    /// [`note_gap`](Self::note_gap) does of a gap.
    pub fn note_restart(
        &mut self,
        topic: Option<(&[u8], u64)>,
        from: Position,
        to: Position,
        now_ns: u64,
        events: &mut impl FnMut(Event<'_>),
    ) {
        let kind = EventKind::Restarted { from, to };
        self.note(topic, kind, Effect::Restarted, now_ns, events);
        self.counts.restarts += 1;
    }

    fn note(
        &mut self,
        topic: Option<(&[u8], u64)>,
        kind: EventKind,
        effect: Effect,
        now_ns: u64,
        events: &mut impl FnMut(Event<'_>),
    ) {
        self.now_ns = self.now_ns.max(now_ns);
        events(Event::new(topic, kind));
        match topic {
            Some((name, hash)) => {
                if self.find(name, hash, false, events) {
                    self.affect_topic(name, hash, effect, false, events);
                }
            }
            None => self.affect_feed(effect),
        }
        self.tell_feed(events);
    }

    /// Goes on behind a position that a snapshot has brought: of a topic, where topics have numbers of their
    /// own, or of the line. Returns whether that is news: not where a topic has got as far already, and then
    /// nothing changes.
    pub fn rebase(
        &mut self,
        topic: Option<(&[u8], u64)>,
        position: Position,
        events: &mut impl FnMut(Event<'_>),
    ) -> bool {
        let (mask, connection) = (self.mask, self.connection);
        let Some((topic, hash)) = topic else {
            self.line.rebase(mask, position, connection);
            return true;
        };
        if !self.find(topic, hash, true, events) {
            return true;
        }
        self.fall_out_of_step(hash);
        let is_news = match self.topics.get_mut(hash) {
            Some(Topic { state, .. }) if !state.is_past(mask, position) => {
                state.rebase(mask, position, connection);
                true
            }
            _ => false,
        };
        if is_news {
            self.affect_topic(topic, hash, Effect::InSequence, true, events);
        }
        self.fall_into_step(hash);
        is_news
    }

    /// Takes note of how far the publisher has got, as a heartbeat says: what of the line's series has not come is
    /// missing. Returns whether that is so: never by one of the life before.
    pub fn note_reached(&mut self, reached: Position, events: &mut impl FnMut(Event<'_>)) -> bool {
        if !self.by_line || !self.line.is_of(self.connection) {
            return false;
        }
        let Some(gap) = self.line.miss_to(self.mask, reached) else {
            return false;
        };
        self.take(None, Some((Step::Gap(gap), reached)), events);
        self.affect_feed(Effect::Lost);
        self.tell_feed(events);
        true
    }

    /// Takes note that a snapshot has brought the feed up to date: what was missing is missing no more.
    pub fn caught_up(&mut self, now_ns: u64, events: &mut impl FnMut(Event<'_>)) {
        self.hear(now_ns);
        self.feed.hear(self.now_ns, true);
        self.tell_feed(events);
    }

    /// Takes note of a connection of the feed made (`up`) or lost. What comes next came by one that was made, unless
    /// [`set_connection`](Self::set_connection) says otherwise.
    pub fn connected(&mut self, up: bool, now_ns: u64, events: &mut impl FnMut(Event<'_>)) {
        self.now_ns = self.now_ns.max(now_ns);
        if up {
            self.connections = self.connections.saturating_add(1);
            self.set_connection(self.connections);
            self.feed.connect(self.now_ns);
        } else {
            self.feed.disconnect();
        }
        self.tell_feed(events);
    }

    /// Takes note of which connection what comes next came by: its number, from 1, and higher than those of the
    /// connections before it. The first one [made](Self::connected) is 1; who numbers them otherwise says so before
    /// each message.
    pub fn set_connection(&mut self, connection: u32) {
        self.connection = connection.saturating_add(1);
    }

    /// The number of the connection that what comes next came by, as [`set_connection`](Self::set_connection) took it.
    pub(crate) fn connection(&self) -> u32 {
        self.connection - 1
    }

    /// Takes note of how time passes. To be called at [`due_ns`](Self::due_ns) or soon after.
    pub fn tick(&mut self, now_ns: u64, events: &mut impl FnMut(Event<'_>)) {
        self.now_ns = self.now_ns.max(now_ns);
        self.feed.pass(self.now_ns);
        if self.feed.is_connected() {
            self.wheel.advance(self.now_ns);
            let boundary_ns = self.wheel.boundary_ns(self.now_ns);
            for _ in 0..TOPICS_PER_TICK_MAX {
                let Some(place) = self.wheel.pop_due() else {
                    break;
                };
                self.look(place, boundary_ns, events);
            }
        }
        self.tell_feed(events);
    }

    /// Returns when the next [`tick`](Self::tick) is due; a time past if at once.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        let topics = self.wheel.due_ns().filter(|_| self.feed.is_connected());
        topics.into_iter().chain(self.feed.due_ns()).min()
    }

    /// Returns what was counted so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns how many topics are tracked.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// Returns the feed's quality.
    #[must_use]
    pub fn quality(&self) -> Quality {
        self.feed.quality()
    }

    /// Returns the quality of a topic that is tracked: its own or what it shares of its feed's, whichever
    /// is worse.
    #[must_use]
    pub fn topic_quality(&self, hash: u64) -> Option<Quality> {
        let own = self.topics.get(hash)?.quality.quality();
        Some(own.min(self.feed.shared()))
    }
}

#[cfg(test)]
mod tests;
