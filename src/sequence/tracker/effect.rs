//! What messages, gaps and silence do to the quality of topics, and of their feed.

use crate::sequence::{
    Quality, Tracker,
    event::{Event, EventKind},
    quality::Condition,
    stream::Step,
    topics::Topic,
};

/// What a message does to the quality of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    InSequence,
    Lost,
    Restarted,
    None,
}

impl Effect {
    pub(super) fn of(step: Step) -> Self {
        match step {
            Step::InSequence | Step::FirstSeen { gap: None } => Self::InSequence,
            Step::Gap(_)
            | Step::FirstSeen { gap: Some(_) }
            | Step::Restarted { gap: Some(_), .. } => Self::Lost,
            Step::Restarted { gap: None, .. } => Self::Restarted,
            Step::Duplicate | Step::Reordered => Self::None,
        }
    }
}

fn tell_change(
    topic: Option<(&[u8], u64)>,
    from: Quality,
    to: Quality,
    events: &mut impl FnMut(Event<'_>),
) {
    if from != to {
        events(Event::new(topic, EventKind::Quality { from, to }));
    }
}

impl Tracker {
    pub(super) fn affect_feed(&mut self, effect: Effect) {
        match effect {
            Effect::Lost => self.feed.lose(),
            Effect::Restarted => self.feed.recover(self.now_ns),
            Effect::InSequence | Effect::None => {}
        }
    }

    /// Changes a topic's quality; `heard` tells whether a message of it came.
    pub(super) fn affect_topic(
        &mut self,
        topic: &[u8],
        hash: u64,
        effect: Effect,
        heard: bool,
        events: &mut impl FnMut(Event<'_>),
    ) {
        let Some(Topic { quality, .. }) = self.topics.get_mut(hash) else {
            return;
        };
        let before = *quality;
        if heard {
            quality.last_seen_ns = self.now_ns;
            quality.stale = false;
        }
        quality.condition = match effect {
            Effect::Lost => Condition::Gapped,
            Effect::Restarted => Condition::Recovering,
            Effect::InSequence if before.condition == Condition::Gapped => Condition::Recovering,
            Effect::InSequence | Effect::None => before.condition,
        };
        let recovers = quality.condition == Condition::Recovering
            && (effect == Effect::Restarted || before.condition == Condition::Gapped);
        if recovers {
            quality.recovered_ns = self.now_ns.saturating_add(self.recover_ns);
        }
        if (recovers || before.stale != quality.stale)
            && let Some(due_ns) = quality.due_ns(&self.rules, self.feed.connected_ns)
        {
            self.wheel.wait(quality.place, due_ns);
        }
        self.feed.recount(before.condition, quality.condition);
        let told = Some((topic, hash));
        tell_change(told, before.quality(), quality.quality(), events);
    }

    /// Looks at a topic whose time has come.
    pub(super) fn look(
        &mut self,
        place: u32,
        boundary_ns: u64,
        events: &mut impl FnMut(Event<'_>),
    ) {
        let connected_ns = self.feed.connected_ns;
        let Some((Topic { hash, quality, .. }, name)) = self.topics.at(place) else {
            return;
        };
        let before = *quality;
        quality.pass(&self.rules, connected_ns, boundary_ns);
        if let Some(due_ns) = quality.due_ns(&self.rules, connected_ns) {
            self.wheel.wait(place, due_ns);
        }
        self.feed.recount(before.condition, quality.condition);
        tell_change(
            Some((name, *hash)),
            before.quality(),
            quality.quality(),
            events,
        );
    }

    /// Ends what changed anything: tells of the feed's quality, if it is another.
    pub(super) fn tell_feed(&mut self, events: &mut impl FnMut(Event<'_>)) {
        self.looks_up = self.registers || self.feed.has_unwell_topics();
        if let Some((from, to)) = self.feed.change() {
            tell_change(None, from, to, events);
        }
    }
}
