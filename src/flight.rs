//! The flight record: the last things that went wrong, each with when, where, and how that is known.
//!
//! A bounded log in memory, written on cold paths only and read when somebody wants to know why: at the
//! end of a run, on a signal, or before a late subscriber gives up. What repeats within
//! [`MERGE_NS`] is counted in one entry, so that a thousand drops do not push out the gap
//! before them. Times are nanoseconds of the pipeline's clock.

use std::{
    collections::VecDeque,
    fmt, mem,
    slice::EscapeAscii,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::clock::SECOND_NS;

/// Entries kept; older ones give way, and are counted.
pub const ENTRIES_MAX: usize = 256;
/// For how long an anomaly like the last of its kind is counted with it, in nanoseconds.
pub const MERGE_NS: u64 = 100_000_000;
/// Bytes of a topic that an entry shows.
const TOPIC_BYTES_MAX: usize = 64;
/// How far back an entry to count an anomaly with is looked for.
const MERGE_ENTRIES_MAX: usize = 16;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// Messages are missing.
    Gap,
    /// A message came again, though by no other line. Not the copies of merged lines.
    Duplicate,
    /// A message came that was missing, after later ones.
    Reorder,
    /// Messages were discarded by a policy.
    Drop,
    /// Messages were superseded by newer ones.
    Conflation,
    /// Messages were later than `policy.late_after_ms`. With [`Policy::Snail`](crate::policy::Policy::Snail): all, for
    /// longer than `policy.grace_ms`. With others: all of a batch, since they were received; or for longer than
    /// `policy.grace_ms` all of a line, since they were stamped, which is noted once until one is in time.
    Late,
    /// A topic or a feed was silent for too long.
    Stale,
    /// A publisher began anew.
    Restart,
    /// A connection was lost, or made again.
    Reconnect,
    /// A lane waited for a worker, for 100 ms or longer.
    Blocked,
    /// A worker's handler took more than 100 ms for a batch.
    Stall,
    /// A snapshot could not be had.
    Snapshot,
    /// A thread that was tied to its core no longer is.
    #[serde(rename = "off-core")]
    OffCore,
    /// A topic came for the first time: nothing wrong, so it is not kept, and only the command's log shows it.
    #[serde(rename = "first-seen")]
    FirstSeen,
}

/// The part of a message's way that is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    /// The publisher itself.
    Publisher,
    /// Before us, and no telling whether the publisher or the network; or where lanes take from it.
    Network,
    /// Between lane and worker.
    Handoff,
    /// The worker's thread: its handler, or the core that it did not get.
    Worker,
}

/// Something that went wrong, or the same thing several times in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// When it was noticed first, in nanoseconds of the pipeline's clock.
    pub at_ns: u64,
    /// When it was noticed last.
    pub until_ns: u64,
    /// What it was.
    pub kind: AnomalyKind,
    /// Where.
    pub hop: Hop,
    /// The feed's name; empty where it was none in particular.
    pub feed: String,
    /// The first bytes of the topic, escaped; empty where it was none in particular, or several.
    pub topic: String,
    /// How many messages, or times where it is not about messages.
    pub count: u64,
    /// How often it was noticed.
    pub times: u64,
    /// How the hop is known: of the first time, with its topic in front where there were others.
    pub evidence: String,
}

/// What is told of an anomaly.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// When, in nanoseconds of the pipeline's clock.
    pub at_ns: u64,
    /// What it was.
    pub kind: AnomalyKind,
    /// Where.
    pub hop: Hop,
    /// The feed's place in the configuration, where it was one in particular.
    pub feed: Option<u16>,
    /// The topic, where it was one in particular.
    pub topic: Option<&'a [u8]>,
    /// How many messages, or times where it is not about messages.
    pub count: u64,
}

/// The record of a pipeline. Copies write to the same.
#[derive(Clone, Debug)]
pub struct FlightRecord(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    feeds: Box<[String]>,
    log: Mutex<Log>,
    /// What is not kept, until somebody tells it: all in one.
    news: Mutex<Option<Anomaly>>,
}

#[derive(Debug, Default)]
struct Log {
    entries: VecDeque<Anomaly>,
    forgotten: u64,
    /// Numbers of entries that were concluded, until they are asked for: of those that are kept.
    concluded: Vec<u64>,
}

impl Log {
    fn get_mut(&mut self, number: u64) -> Option<&mut Anomaly> {
        let place = number.checked_sub(self.forgotten)?;
        self.entries.get_mut(place as usize)
    }
}

impl FlightRecord {
    /// Starts an empty record. `feeds` are the names of the feeds, in the order of the configuration.
    #[must_use]
    pub fn new(feeds: impl IntoIterator<Item = String>) -> Self {
        Self(Arc::new(Shared {
            feeds: feeds.into_iter().collect(),
            log: Mutex::default(),
            news: Mutex::default(),
        }))
    }

    /// Adds an anomaly. `evidence` is asked for only where it begins an entry of its own: like ones
    /// within [`MERGE_NS`] are counted with the first, whatever their topics.
    pub fn note(&self, sighting: Sighting<'_>, evidence: impl FnOnce() -> String) {
        self.note_lasting(sighting, evidence);
    }

    /// As [`note`](Self::note), of something that lasts. Returns the number of the entry that it begins, to be
    /// [concluded](Self::conclude) with; `None` where it is counted with another.
    pub(crate) fn note_lasting(
        &self,
        sighting: Sighting<'_>,
        evidence: impl FnOnce() -> String,
    ) -> Option<u64> {
        let feed = self.feed(&sighting);
        let mut log = self.log();
        let like = log
            .entries
            .iter_mut()
            .rev()
            .take(MERGE_ENTRIES_MAX)
            .find(|entry| {
                (entry.kind, entry.hop, entry.feed.as_str()) == (sighting.kind, sighting.hop, feed)
                    && sighting.at_ns.saturating_sub(entry.at_ns) < MERGE_NS
            });
        if let Some(entry) = like {
            entry.add(&sighting);
            return None;
        }
        if log.entries.len() == ENTRIES_MAX {
            log.entries.pop_front();
            log.forgotten += 1;
            let forgotten = log.forgotten;
            log.concluded.retain(|&number| number >= forgotten);
        }
        log.entries
            .push_back(Anomaly::new(&sighting, feed, evidence()));
        Some(log.forgotten + log.entries.len() as u64 - 1)
    }

    /// Puts what is known when something is over in place of the entry's evidence, if it is still kept.
    pub(crate) fn conclude(&self, number: u64, now_ns: u64, evidence: impl FnOnce() -> String) {
        let mut log = self.log();
        if let Some(entry) = log.get_mut(number) {
            (entry.until_ns, entry.evidence) = (now_ns, evidence());
            log.concluded.push(number);
        }
    }

    /// Returns the entries, as far as they are kept, that were concluded since this was last asked for: of those with
    /// numbers below `to`.
    pub(crate) fn take_concluded(&self, to: u64) -> Vec<Anomaly> {
        let mut log = self.log();
        let numbers = mem::take(&mut log.concluded);
        let told = numbers.into_iter().filter(|&number| number < to);
        told.filter_map(|number| log.get_mut(number).cloned())
            .collect()
    }

    /// Adds to what is told as it happens, and not kept. `evidence` is asked for where there is none so far.
    pub(crate) fn note_news(&self, sighting: Sighting<'_>, evidence: impl FnOnce() -> String) {
        let feed = self.feed(&sighting);
        match &mut *self.news() {
            Some(entry) => {
                entry.add(&sighting);
                if entry.feed != feed {
                    entry.feed.clear();
                }
            }
            none => *none = Some(Anomaly::new(&sighting, feed, evidence())),
        }
    }

    /// Takes what is to be told and not kept, unless more may be counted with it at `now_ns`.
    pub(crate) fn take_news(&self, now_ns: u64) -> Option<Anomaly> {
        self.news()
            .take_if(|entry| entry.at_ns.saturating_add(MERGE_NS) <= now_ns)
    }

    fn feed(&self, sighting: &Sighting<'_>) -> &str {
        let feeds = &self.0.feeds;
        let feed = sighting.feed.and_then(|feed| feeds.get(usize::from(feed)));
        feed.map_or("", String::as_str)
    }

    /// Returns what is kept, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Anomaly> {
        self.log().entries.iter().cloned().collect()
    }

    /// Returns the entries from the one with number `from` on, as far as they are kept, and the number
    /// of the next to come. What repeats after that is counted in an entry already returned.
    #[must_use]
    pub fn entries_from(&self, from: u64) -> (Vec<Anomaly>, u64) {
        let log = self.log();
        let skipped = from.saturating_sub(log.forgotten) as usize;
        let entries = log.entries.iter().skip(skipped).cloned().collect();
        (entries, log.forgotten + log.entries.len() as u64)
    }

    /// Returns how many entries gave way to newer ones.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.log().forgotten
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // A thread that panicked within has at worst left an entry out.
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn news(&self) -> MutexGuard<'_, Option<Anomaly>> {
        self.0.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Anomaly {
    fn new(sighting: &Sighting<'_>, feed: &str, evidence: String) -> Self {
        Self {
            at_ns: sighting.at_ns,
            until_ns: sighting.at_ns,
            kind: sighting.kind,
            hop: sighting.hop,
            feed: feed.to_owned(),
            topic: sighting.topic_shown().to_string(),
            count: sighting.count,
            times: 1,
            evidence,
        }
    }

    /// Counts another one with it. A flood of them allocates nothing.
    fn add(&mut self, sighting: &Sighting<'_>) {
        self.count += sighting.count;
        self.times += 1;
        self.until_ns = self.until_ns.max(sighting.at_ns);
        if !self.topic.is_empty() && !self.topic.bytes().eq(sighting.topic_shown()) {
            // The evidence is of the first.
            self.evidence.insert_str(0, &format!("{}: ", self.topic));
            self.topic.clear();
        }
    }
}

impl<'a> Sighting<'a> {
    fn topic_shown(&self) -> EscapeAscii<'a> {
        let topic = self.topic.unwrap_or_default();
        topic[..topic.len().min(TOPIC_BYTES_MAX)].escape_ascii()
    }
}

impl AnomalyKind {
    /// Returns the kind's name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Drop => "drop",
            Self::Conflation => "conflation",
            Self::Late => "late",
            Self::Stale => "stale",
            Self::Restart => "restart",
            Self::Reconnect => "reconnect",
            Self::Blocked => "blocked",
            Self::Stall => "stall",
            Self::Snapshot => "snapshot",
            Self::OffCore => "off-core",
            Self::FirstSeen => "first-seen",
        }
    }
}

impl Hop {
    /// Returns the hop's name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Network => "network",
            Self::Handoff => "handoff",
            Self::Worker => "worker",
        }
    }
}

/// Six columns without spaces in them, then how it is known: time, kind, hop, count, feed and topic, the last
/// two `-` where it was none in particular.
impl fmt::Display for Anomaly {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ns: u64| ns as f64 / SECOND_NS as f64;
        write!(
            out,
            "{:>10.3}s  {:<10} {:<9} {:>9}  {}  {}  {}",
            seconds(self.at_ns),
            self.kind.name(),
            self.hop.name(),
            self.count,
            column(&self.feed),
            column(&self.topic),
            self.evidence,
        )?;
        if self.times > 1 {
            let within = seconds(self.until_ns - self.at_ns);
            write!(out, " (first of {} times in {within:.3} s)", self.times)?;
        }
        Ok(())
    }
}

/// Text that is one word, for a column.
fn column(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.replace(' ', "\\x20")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Sighting<'_> = Sighting {
        at_ns: 5,
        kind: AnomalyKind::Gap,
        hop: Hop::Network,
        feed: Some(0),
        topic: Some(b"BTC"),
        count: 2,
    };

    fn record() -> FlightRecord {
        FlightRecord::new(["prices".to_owned()])
    }

    #[test]
    fn what_repeats_is_counted_in_one_entry() {
        let record = record();
        record.note(GAP, || "first".to_owned());
        let drop = Sighting {
            kind: AnomalyKind::Drop,
            ..GAP
        };
        record.note(drop, || "another kind".to_owned());
        let later = Sighting { at_ns: 9, ..GAP };
        record.note(later, || unreachable!("it is like the first"));
        let entries = record.entries();
        assert_eq!(entries.len(), 2);
        let first = &entries[0];
        assert_eq!((first.count, first.times, first.until_ns), (4, 2, 9));
        assert_eq!(entries[0].topic, "BTC");
        record.note(
            Sighting {
                topic: Some(b"ETH"),
                ..later
            },
            String::new,
        );
        assert_eq!(record.entries()[0].topic, "", "of several topics");
        let long_after = Sighting {
            at_ns: 5 + MERGE_NS,
            ..GAP
        };
        record.note(long_after, || "anew".to_owned());
        assert_eq!(record.entries()[2].evidence, "anew");
    }

    #[test]
    fn what_lasts_is_told_again_when_it_is_over() {
        let record = record();
        let number = record.note_lasting(GAP, || "lasts".to_owned()).unwrap();
        let like = record.note_lasting(GAP, || unreachable!("it is counted with the first"));
        assert_eq!((number, like), (0, None));
        record.conclude(number, 9, || "lasted".to_owned());
        assert_eq!(record.take_concluded(0), [], "not said so far");
        record.conclude(number, 9, || "lasted".to_owned());
        let told = record.take_concluded(1);
        assert_eq!((&*told[0].evidence, told[0].until_ns), ("lasted", 9));
        assert_eq!(record.take_concluded(1), []);
        record.conclude(number, 9, String::new);
        for times in 1..=ENTRIES_MAX as u64 {
            let at_ns = times * 2 * MERGE_NS;
            record.note(Sighting { at_ns, ..GAP }, String::new);
        }
        assert_eq!(record.take_concluded(u64::MAX), [], "it is forgotten");
        record.conclude(number, 9, || unreachable!("it is forgotten"));
    }

    #[test]
    fn news_are_told_once_and_not_kept() {
        let record = FlightRecord::new(["US".to_owned(), "EU".to_owned()]);
        let first = Sighting {
            kind: AnomalyKind::FirstSeen,
            count: 1,
            ..GAP
        };
        record.note_news(first, || "BTC came".to_owned());
        record.note_news(first, || unreachable!("it is counted with the first"));
        assert_eq!(record.take_news(5 + MERGE_NS - 1), None);
        let told = record.take_news(5 + MERGE_NS).unwrap();
        assert_eq!(
            (told.count, told.feed.as_str(), told.topic.as_str()),
            (2, "US", "BTC")
        );
        assert_eq!(record.take_news(u64::MAX), None);
        record.note_news(first, || "BTC came".to_owned());
        let other = Sighting {
            feed: Some(1),
            topic: Some(b"ETH"),
            ..first
        };
        record.note_news(other, String::new);
        let told = record.take_news(u64::MAX).unwrap();
        assert_eq!(
            (told.count, told.feed.as_str(), told.topic.as_str()),
            (2, "", "")
        );
        assert_eq!(record.entries(), []);
    }

    #[test]
    fn is_bounded_and_says_what_it_forgot() {
        let record = record();
        for number in 0..ENTRIES_MAX as u64 + 3 {
            let at_ns = number * MERGE_NS;
            record.note(Sighting { at_ns, ..GAP }, || number.to_string());
        }
        assert_eq!(record.entries().len(), ENTRIES_MAX);
        assert_eq!(record.entries()[0].evidence, "3");
        assert_eq!(record.forgotten(), 3);
    }

    #[test]
    fn a_line_has_six_columns_whatever_is_known() {
        let record = FlightRecord::new(["US prices".to_owned()]);
        record.note(GAP, || "1 and 2 were missing".to_owned());
        for at_ns in [1_500_000_000, 1_512_000_000] {
            let blocked = Sighting {
                at_ns,
                kind: AnomalyKind::Blocked,
                hop: Hop::Worker,
                feed: None,
                topic: None,
                count: 1,
            };
            record.note(blocked, || "a lane waited: 120.0 ms".to_owned());
        }
        let lines: Vec<String> = record.entries().iter().map(Anomaly::to_string).collect();
        assert_eq!(
            lines,
            [
                "     0.000s  gap        network           2  US\\x20prices  BTC  1 and 2 were missing",
                "     1.500s  blocked    worker            2  -  -  a lane waited: 120.0 ms (first of 2 times \
                 in 0.012 s)",
            ]
        );
    }
}
