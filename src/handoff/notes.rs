//! What happened between messages, on its way to the worker it concerns.

use std::{mem, ops::Range};

use crate::{
    message::{Notice, Origin},
    sequence::EventKind,
};

/// The most notices that wait for one worker in one place. More are counted instead of kept.
const NOTICES_MAX: usize = 4_096;
/// The most bytes of topics among them. The last one may overshoot it.
const TOPIC_BYTES_MAX: usize = 1 << 20;
/// Room that is kept for the next ones.
const NOTICES_KEPT: usize = 256;
const TOPIC_BYTES_KEPT: usize = 16 * 1024;

/// Notices in order, each with the number of messages before it.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    notes: Vec<Note>,
    /// The topics of notes, end to end.
    topics: Vec<u8>,
    /// Those there was no room for.
    untold: u64,
}

#[derive(Debug)]
struct Note {
    before: usize,
    origin: Origin,
    topic: Option<Range<usize>>,
    noticed_ns: u64,
    kind: EventKind,
}

impl Notes {
    /// Adds a notice behind a number of messages.
    #[cold]
    pub(crate) fn push(&mut self, before: usize, notice: &Notice<'_>) {
        if self.is_full() {
            self.untold += 1;
            return;
        }
        let topic = notice.topic.map(|topic| {
            let start = self.topics.len();
            self.topics.extend_from_slice(topic);
            start..self.topics.len()
        });
        self.notes.push(Note {
            before,
            origin: notice.origin,
            topic,
            noticed_ns: notice.noticed_ns,
            kind: notice.kind,
        });
    }

    /// Adds all of another's behind a number of messages.
    #[cold]
    pub(crate) fn push_all(&mut self, before: usize, other: &Self) {
        for (_, notice) in other.iter() {
            self.push(before, &notice);
        }
        self.untold += other.untold;
    }

    /// Adds all of another's that happened earlier, before the first message.
    #[cold]
    pub(crate) fn put_ahead(&mut self, mut earlier: Self) {
        earlier.move_ahead();
        let later = mem::replace(self, earlier);
        for (before, notice) in later.iter() {
            self.push(before, &notice);
        }
        self.untold += later.untold;
    }

    /// Returns the notices in order, each with the number of messages before it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, Notice<'_>)> {
        self.notes.iter().map(|note| {
            let topic = note.topic.clone();
            let notice = Notice {
                origin: note.origin,
                topic: topic.map(|topic| &self.topics[topic]),
                noticed_ns: note.noticed_ns,
                kind: note.kind,
            };
            (note.before, notice)
        })
    }

    /// Puts all of them before the first message.
    pub(crate) fn move_ahead(&mut self) {
        for note in &mut self.notes {
            note.before = 0;
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// Tells whether no more fit.
    pub(crate) fn is_full(&self) -> bool {
        self.notes.len() >= NOTICES_MAX || self.topics.len() >= TOPIC_BYTES_MAX
    }

    /// Returns the number of those there was no room for.
    pub(crate) fn untold(&self) -> u64 {
        self.untold
    }

    /// Forgets all, and gives back what many took.
    pub(crate) fn clear(&mut self) {
        self.notes.clear();
        self.topics.clear();
        self.notes.shrink_to(NOTICES_KEPT);
        self.topics.shrink_to(TOPIC_BYTES_KEPT);
        self.untold = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(topic: &[u8]) -> Notice<'_> {
        Notice {
            origin: Origin { feed: 0, line: 0 },
            topic: Some(topic),
            noticed_ns: 1,
            kind: EventKind::FirstSeen,
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut notes = Notes::default();
        for _ in 0..NOTICES_MAX + 2 {
            notes.push(0, &notice(b"BTC"));
        }
        assert_eq!((notes.iter().count(), notes.untold()), (NOTICES_MAX, 2));
        let mut all = Notes::default();
        all.push(3, &notice(b"ETH"));
        all.push_all(5, &notes);
        assert_eq!((all.iter().count(), all.untold()), (NOTICES_MAX, 3));
        let (before, last) = all.iter().last().unwrap();
        assert_eq!((before, last.topic), (5, Some(&b"BTC"[..])));
        all.clear();
        assert!(all.is_empty() && all.untold() == 0);
    }

    #[test]
    fn what_happened_earlier_stands_before_the_rest() {
        let (mut notes, mut earlier) = (Notes::default(), Notes::default());
        notes.push(2, &notice(b"later"));
        earlier.push(7, &notice(b"first"));
        earlier.push(9, &notice(b"second"));
        notes.put_ahead(earlier);
        let all: Vec<_> = notes
            .iter()
            .map(|(before, it)| (before, it.topic))
            .collect();
        let topics = [&b"first"[..], b"second", b"later"].map(Some);
        assert_eq!(all, [(0, topics[0]), (0, topics[1]), (2, topics[2])]);
    }

    #[test]
    fn long_topics_fill_it_as_well() {
        let topic = vec![b'x'; TOPIC_BYTES_MAX];
        let mut notes = Notes::default();
        notes.push(0, &notice(&topic));
        assert!(notes.is_full());
        notes.push(0, &notice(b"y"));
        assert_eq!(notes.untold(), 1);
    }
}
