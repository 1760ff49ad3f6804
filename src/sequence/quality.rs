//! How far a topic, or a whole feed, can be trusted, and when that changes.
//!
//! Two things are kept apart: the [`Condition`], which numbers and restarts decide, and silence, which
//! time does. A gap makes a topic gapped; its next message in sequence recovering; `recover_ns` without
//! another gap ok. Silence beyond a limit hides the condition behind [`Quality::Stale`] until the next
//! message. A restart makes a topic recovering, one that tells of missing messages gapped.
//!
//! A feed is, in this order: disconnected while none of its connections is up; stale while all of it is
//! silent beyond its own limit; gapped, or recovering, while a topic or the feed's own series is, stale
//! topics with them; else ok. A new connection makes it recovering until `recover_ns` after the first
//! message: only then can its topics have shown what they missed. A stale topic does not make its feed
//! stale.
//!
//! What a feed's events say holds for its topics too: a disconnect, and silence of the whole feed, are
//! one event and not one a topic. A topic's silence counts from the connection on, at the earliest.
//!
//! All times are nanoseconds of the lane's attentive time, which only grows.

use crate::sequence::Quality;

/// The rule of a topic that none fits.
const NO_RULE: u16 = u16::MAX;

/// What numbers say of a topic, or of a feed's own series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Condition {
    /// Nothing is missing lately.
    #[default]
    Ok,
    /// In sequence again, for a short time yet.
    Recovering,
    /// A message is missing, and none in sequence has come since.
    Gapped,
}

/// After how much silence topics with a prefix are stale. Of several that fit, the longest prefix
/// decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleRule {
    /// The bytes that a topic starts with.
    pub prefix: Vec<u8>,
    /// The silence in nanoseconds.
    pub after_ns: u64,
}

/// The rules for topics' silence, longest prefix first.
#[derive(Clone, Debug, Default)]
pub struct StaleRules(Vec<StaleRule>);

impl StaleRules {
    /// The most rules.
    pub const MAX: usize = NO_RULE as usize;

    /// Orders the rules.
    ///
    /// # Panics
    /// Where there are more than [`MAX`](Self::MAX).
    #[must_use]
    pub fn new(mut rules: Vec<StaleRule>) -> Self {
        assert!(rules.len() <= Self::MAX, "too many stale rules");
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.prefix.len()));
        Self(rules)
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the shortest limit.
    #[must_use]
    pub fn shortest_ns(&self) -> Option<u64> {
        self.0.iter().map(|rule| rule.after_ns).min()
    }

    /// Returns the state of a topic that is first heard of at `now_ns`.
    #[must_use]
    pub fn start(&self, topic: &[u8], now_ns: u64) -> TopicQuality {
        let rule = self
            .0
            .iter()
            .position(|rule| topic.starts_with(&rule.prefix));
        TopicQuality {
            last_seen_ns: now_ns,
            rule: rule.map_or(NO_RULE, |index| index as u16),
            ..TopicQuality::default()
        }
    }

    fn limit_ns(&self, rule: u16) -> Option<u64> {
        self.0.get(usize::from(rule)).map(|rule| rule.after_ns)
    }
}

/// A topic's quality; lives in the topic's entry.
#[derive(Clone, Copy, Debug)]
pub struct TopicQuality {
    /// When a message came last, where silence matters.
    pub last_seen_ns: u64,
    /// When a recovering topic is ok again.
    pub(super) recovered_ns: u64,
    /// Where the topic's name stands, and where it waits to be looked at.
    pub(super) place: u32,
    rule: u16,
    pub(super) condition: Condition,
    pub(super) stale: bool,
}

impl Default for TopicQuality {
    fn default() -> Self {
        Self {
            last_seen_ns: 0,
            recovered_ns: 0,
            place: 0,
            rule: NO_RULE,
            condition: Condition::Ok,
            stale: false,
        }
    }
}

impl TopicQuality {
    /// Returns what the topic's events say: its feed may be worse.
    #[must_use]
    pub fn quality(&self) -> Quality {
        match self.condition {
            _ if self.stale => Quality::Stale,
            Condition::Gapped => Quality::Gapped,
            Condition::Recovering => Quality::Recovering,
            Condition::Ok => Quality::Ok,
        }
    }

    /// Tells whether a message in sequence changes nothing but when the topic was last seen.
    #[inline(always)]
    #[must_use]
    pub fn is_steady(&self) -> bool {
        !self.stale & (self.condition as u8 <= Condition::Recovering as u8)
    }

    /// Returns when to look at the topic next, unless a message comes.
    pub(super) fn due_ns(&self, rules: &StaleRules, connected_ns: u64) -> Option<u64> {
        let recovers = (self.condition == Condition::Recovering).then_some(self.recovered_ns);
        let stale = rules
            .limit_ns(self.rule)
            .filter(|_| !self.stale)
            .map(|after_ns| self.last_seen_ns.max(connected_ns).saturating_add(after_ns));
        recovers.into_iter().chain(stale).min()
    }

    /// Takes note of how time passes: of silence and recovery up to `now_ns`.
    pub(super) fn pass(&mut self, rules: &StaleRules, connected_ns: u64, now_ns: u64) {
        if self.condition == Condition::Recovering && self.recovered_ns <= now_ns {
            self.condition = Condition::Ok;
        }
        if let Some(after_ns) = rules.limit_ns(self.rule) {
            let since_ns = self.last_seen_ns.max(connected_ns);
            self.stale |= since_ns.saturating_add(after_ns) <= now_ns;
        }
    }
}

/// A feed's quality.
#[derive(Debug)]
pub struct FeedQuality {
    stale_after_ns: Option<u64>,
    recover_ns: u64,
    connections: u32,
    /// When the first of the connections now up came up.
    pub(super) connected_ns: u64,
    /// Whether no message has come since the last connection.
    awaits_first: bool,
    /// When a message came last.
    pub(super) heard_ns: u64,
    stale: bool,
    /// Of the feed's own series.
    condition: Condition,
    recovered_ns: u64,
    /// How many topics are gapped, stale ones included.
    gapped: usize,
    /// How many topics are recovering, stale ones included.
    recovering: usize,
    /// What the last event said.
    told: Quality,
    /// Whether the next message is to be told of by [`hear`](Self::hear).
    pub(super) listens: bool,
}

impl FeedQuality {
    /// Starts disconnected.
    #[must_use]
    pub fn new(stale_after_ns: Option<u64>, recover_ns: u64) -> Self {
        Self {
            stale_after_ns,
            recover_ns,
            connections: 0,
            connected_ns: 0,
            awaits_first: false,
            heard_ns: 0,
            stale: false,
            condition: Condition::Ok,
            recovered_ns: 0,
            gapped: 0,
            recovering: 0,
            told: Quality::Disconnected,
            listens: false,
        }
    }

    /// Tells whether a connection is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connections > 0
    }

    /// Returns the feed's quality.
    #[must_use]
    pub fn quality(&self) -> Quality {
        match self.condition {
            _ if self.connections == 0 => Quality::Disconnected,
            _ if self.stale => Quality::Stale,
            Condition::Gapped => Quality::Gapped,
            _ if self.gapped > 0 => Quality::Gapped,
            Condition::Recovering => Quality::Recovering,
            _ if self.recovering > 0 => Quality::Recovering,
            Condition::Ok => Quality::Ok,
        }
    }

    /// Returns what topics share of the feed's quality: not what it has from other topics.
    #[must_use]
    pub fn shared(&self) -> Quality {
        match self.condition {
            _ if self.connections == 0 => Quality::Disconnected,
            _ if self.stale => Quality::Stale,
            Condition::Gapped => Quality::Gapped,
            Condition::Recovering => Quality::Recovering,
            Condition::Ok => Quality::Ok,
        }
    }

    /// Returns the last quality told and the present one, if they differ, and takes it for told.
    pub fn change(&mut self) -> Option<(Quality, Quality)> {
        let to = self.quality();
        let from = std::mem::replace(&mut self.told, to);
        (from != to).then_some((from, to))
    }

    /// Tells whether a topic is gapped or recovering.
    #[must_use]
    pub fn has_unwell_topics(&self) -> bool {
        self.gapped + self.recovering > 0
    }

    /// Takes note of a topic's change of condition.
    pub(super) fn recount(&mut self, from: Condition, to: Condition) {
        self.gapped += usize::from(to == Condition::Gapped);
        self.gapped -= usize::from(from == Condition::Gapped);
        self.recovering += usize::from(to == Condition::Recovering);
        self.recovering -= usize::from(from == Condition::Recovering);
    }

    /// Takes note of a connection made.
    pub(super) fn connect(&mut self, now_ns: u64) {
        self.connections += 1;
        if self.connections == 1 {
            self.connected_ns = now_ns;
            self.stale = false;
        }
        if self.condition == Condition::Ok {
            self.condition = Condition::Recovering;
        }
        self.recovered_ns = u64::MAX;
        self.awaits_first = true;
        self.listens = true;
    }

    /// Takes note of a connection lost.
    pub(super) fn disconnect(&mut self) {
        self.connections = self.connections.saturating_sub(1);
    }

    /// Takes note of a message; `in_sequence` tells whether it shows that nothing is missing any more.
    pub(super) fn hear(&mut self, now_ns: u64, in_sequence: bool) {
        self.stale = false;
        if in_sequence && self.condition == Condition::Gapped {
            self.recover(now_ns);
        }
        if self.awaits_first {
            self.awaits_first = false;
            self.recovered_ns = now_ns.saturating_add(self.recover_ns);
        }
        self.listens = self.condition == Condition::Gapped;
    }

    /// Takes note of messages missing in the feed's own series.
    pub(super) fn lose(&mut self) {
        self.condition = Condition::Gapped;
        self.listens = true;
    }

    /// Has the feed's own series recover from `now_ns` on.
    pub(super) fn recover(&mut self, now_ns: u64) {
        self.condition = Condition::Recovering;
        self.recovered_ns = now_ns.saturating_add(self.recover_ns);
    }

    /// Takes note of how time passes: of silence and recovery up to `now_ns`.
    pub(super) fn pass(&mut self, now_ns: u64) {
        if self.condition == Condition::Recovering && self.recovered_ns <= now_ns {
            self.condition = Condition::Ok;
        }
        if self.stale_ns().is_some_and(|at| at <= now_ns) {
            self.stale = true;
            self.listens = true;
        }
    }

    /// Returns when to look at the feed next, unless a message comes.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        let recovering = self.condition == Condition::Recovering && !self.awaits_first;
        let recovers = recovering.then_some(self.recovered_ns);
        let stale = self.stale_ns().filter(|_| !self.stale);
        recovers.into_iter().chain(stale).min()
    }

    /// Returns when silence from now on makes the feed stale.
    fn stale_ns(&self) -> Option<u64> {
        let after_ns = self.stale_after_ns.filter(|_| self.connections > 0)?;
        let since_ns = self.heard_ns.max(self.connected_ns);
        Some(since_ns.saturating_add(after_ns))
    }
}
