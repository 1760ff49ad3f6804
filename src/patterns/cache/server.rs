//! The cache between publishers and subscribers.
//!
//! A message is kept and goes on in the same turn, but for the subscribers that it is held back from. What
//! answers bring goes out between turns, a piece for each of a few subscribers, when less than a piece waits
//! for them: so that forwarding goes on, and a large answer waits in the store, not in memory.

use std::{collections::BTreeSet, convert::Infallible, path::PathBuf, time::Duration};

use serde::Serialize;

use crate::{
    clock::Clock,
    envelope::Envelope,
    error::{Error, Result},
    message::FRAMES_MAX,
    patterns::{
        cache::{
            answers::{Answers, Progress},
            file::CacheFile,
            store::{Evict, Limits, Store},
        },
        copies::{Copier, Copies, CopyRule, Ended, WhenFull},
        ends::{self, Books, Ends, EndsPlan, Flow},
        kvmsg::{Form, ICANHAZ, KTHXBAI, KeyValue},
        reactor::{Application, End, Link, Links, NoRoom, Reactor, Shift, SocketId, SocketPlan},
    },
    stop::Stop,
    zmtp::{SocketType, Subscription},
};

/// Bytes that wait for a subscriber up to which answers are added, where as much may wait.
const PIECE_BYTES: usize = 256 * 1024;
/// Topics from which on it is told that nearly every message has one of its own.
const TOPICS_SUSPECT: u64 = 10_000;
/// Pages of copies that are taken before sockets are looked at again.
const PAGES_A_TURN: usize = 16;
/// The most subscribers whose answers go on in one turn.
const ANSWERED_A_TURN: usize = 16;
/// How long subscribers may take at the end for what waits for them.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// What a cache is to do.
#[derive(Clone, Debug)]
pub struct CachePlan {
    /// Where messages come from and go to.
    pub ends: EndsPlan,
    /// What to subscribe to.
    pub subscribe: Vec<Vec<u8>>,
    /// What finds the topic in a message; else it is the first frame.
    pub envelope: Option<Envelope>,
    /// What may be kept.
    pub limits: Limits,
    /// What makes room.
    pub evict: Evict,
    /// What makes a restarted cache warm.
    pub file: Option<PathBuf>,
    /// Endpoints for those who ask for a snapshot. A message whose first frame is that of a snapshot's end is in
    /// none.
    pub snapshots: Vec<String>,
    /// Stop after this many messages.
    pub messages_max: u64,
}

/// What a cache did.
#[derive(Clone, Debug, Serialize)]
pub struct CacheSummary {
    /// What passed.
    #[serde(flatten)]
    pub flow: Flow,
    /// Messages beside those that were not subscribed to, of publishers that send them all the same. They went
    /// nowhere.
    pub unwanted: u64,
    /// Topics that are kept.
    pub topics: usize,
    /// What they take, in bytes, with what is kept beside each.
    pub bytes: usize,
    /// Messages of topics that were not there.
    pub added: u64,
    /// Messages that took the place of others of their topics.
    pub updated: u64,
    /// Messages that were not kept for lack of room; they went on all the same.
    pub refused: u64,
    /// Messages in which no topic was found at the start of the first frame; likewise.
    pub unreadable: u64,
    /// Whether these account for all that was received.
    pub balanced: bool,
    /// Topics that went to make room.
    pub evicted: u64,
    /// Messages that did not go to a subscriber as they came, since an answer was to bring them.
    pub held_back: u64,
    /// Subscriptions that were answered, or are being.
    pub answered: u64,
    /// Messages put on their way as answers, and in snapshots.
    pub answers: u64,
    /// Snapshots put on their way to their end.
    pub snapshots: u64,
    /// Requests that were not understood, or that came before the one before was answered.
    pub unknown_requests: u64,
    /// Messages that the file held at the start.
    pub restored: u64,
    /// Messages of the file that there was no room for.
    pub not_restored: u64,
    /// The most topics that waited to be written to the file.
    pub unwritten_max: usize,
    /// Batches that could not be written at first.
    pub write_failures: u64,
}

/// A cache with its sockets.
#[derive(Debug)]
pub struct Cache {
    reactor: Reactor,
    desk: Desk,
    ends: Ends,
    snapshots: Vec<String>,
}

/// What the reactor tells.
#[derive(Debug)]
struct Desk {
    upstream: SocketId,
    downstream: SocketId,
    /// Where snapshots are asked for.
    asked: SocketId,
    /// Messages that come from other threads, where they do.
    copies: Option<Copies>,
    have_copies_ended: bool,
    envelope: Option<Envelope>,
    store: Store,
    answers: Answers<Link>,
    /// Bytes that wait up to which answers are added, so that none is lost for lack of room.
    piece_bytes: usize,
    /// The last subscriber whose answers went on; others come first.
    answered_last: Option<Link>,
    /// Whether answers, or copies, can go on at once.
    is_hurried: bool,
    file: Option<CacheFile>,
    books: Books,
    /// What it is subscribed to.
    prefixes: BTreeSet<Vec<u8>>,
    /// Whether it was told that there are about as many topics as messages.
    is_told_of_topics: bool,
    unwanted: u64,
    unreadable: u64,
    /// Requests that were not answered.
    unknown: u64,
    held_back: u64,
    answered: u64,
    answers_sent: u64,
    snapshots: u64,
    restored: u64,
    not_restored: u64,
}

impl Cache {
    /// Binds and connects. What the file holds is there before the first subscriber.
    ///
    /// # Errors
    /// What [`Ends::open`] and [`CacheFile::open`] fail with.
    pub fn open(plan: &CachePlan, stop: Stop) -> Result<Self> {
        let mut store = Store::new(plan.limits, plan.evict);
        let mut not_restored = 0;
        let mut file = None;
        if let Some(path) = &plan.file {
            let (opened, left_out) = CacheFile::open(path, &mut store)?;
            not_restored = left_out;
            file = Some(opened);
        }
        let mut reactor = Reactor::new(Clock::start())?;
        let ends = Ends::open(&mut reactor, &plan.ends)?;
        let asked = reactor.socket(SocketPlan::new(SocketType::Router));
        let snapshots = plan.snapshots.iter();
        let snapshots = snapshots
            .map(|endpoint| ends::bind(&mut reactor, asked, "--snapshots", endpoint))
            .collect::<Result<_>>()?;
        let mut prefixes: BTreeSet<Vec<u8>> = plan.subscribe.iter().cloned().collect();
        if prefixes.is_empty() {
            prefixes.insert(Vec::new());
        }
        for prefix in &prefixes {
            reactor.links().subscribe(ends.upstream, prefix);
        }
        let desk = Desk {
            upstream: ends.upstream,
            downstream: ends.downstream,
            asked,
            copies: None,
            have_copies_ended: false,
            envelope: plan.envelope.clone(),
            restored: store.topics() as u64,
            store,
            answers: Answers::default(),
            piece_bytes: PIECE_BYTES.min(plan.ends.waiting_bytes_max),
            answered_last: None,
            is_hurried: false,
            file,
            books: Books::new(&ends, stop, plan.messages_max),
            prefixes,
            is_told_of_topics: false,
            unwanted: 0,
            unreadable: 0,
            unknown: 0,
            held_back: 0,
            answered: 0,
            answers_sent: 0,
            snapshots: 0,
            not_restored,
        };
        Ok(Self {
            reactor,
            desk,
            ends,
            snapshots,
        })
    }

    /// Returns its ends.
    #[must_use]
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Returns what was bound for those who ask for a snapshot, with the ports that wildcards were given.
    #[must_use]
    pub fn snapshots(&self) -> &[String] {
        &self.snapshots
    }

    /// Connects to another publisher.
    ///
    /// # Errors
    /// [`Error::Config`] where the endpoint is none.
    pub fn connect(&mut self, endpoint: &str) -> Result<()> {
        self.reactor.connect(self.desk.upstream, endpoint)
    }

    /// Returns what copies messages for it, from whatever thread, as if they came from a publisher. Where it can't
    /// follow, who copies waits: it is a bounded number of messages behind, and none is lost.
    pub fn copier(&mut self) -> Copier {
        let waker = Some(self.reactor.waker());
        let (copier, copies) = Copier::new(CopyRule::default(), WhenFull::Wait, waker);
        self.desk.copies = Some(copies);
        copier
    }

    /// Tells whether all that copied for it are gone, and all their messages have been taken.
    #[must_use]
    pub fn have_copies_ended(&self) -> bool {
        self.desk.have_copies_ended
    }

    /// Returns how many subscriptions were answered, or are being.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.desk.answered
    }

    /// Returns how many messages the file held.
    #[must_use]
    pub fn restored(&self) -> u64 {
        self.desk.restored
    }

    /// Takes messages for `time`, or until the request to stop, and returns what people should know.
    ///
    /// # Errors
    /// [`Error::Socket`], from waiting.
    pub fn turn(&mut self, time: Duration) -> Result<Vec<String>> {
        self.reactor.turn(&mut self.desk, time)?;
        Ok(self.desk.books.take_news())
    }

    /// Lets subscribers take what waits for them, writes the file, and sums up.
    ///
    /// # Errors
    /// [`Error::Socket`]; and what kept the file from being written, behind the summary.
    pub fn finish(mut self) -> Result<(CacheSummary, Result<()>)> {
        self.reactor.drain(DRAIN_LIMIT)?;
        let mut summary = self.desk.summary(self.reactor.links());
        let mut written = Ok(());
        if let Some(file) = self.desk.file.take() {
            (summary.write_failures, written) = file.finish(&mut self.desk.store);
        }
        Ok((summary, written))
    }
}

impl Desk {
    fn summary(&mut self, links: &mut Links) -> CacheSummary {
        let flow = self.books.close(links);
        let counters = self.store.counters();
        let added = counters.added - self.restored;
        let accounted = added + counters.updated + counters.refused + self.unreadable;
        let file = self.file.as_ref();
        CacheSummary {
            balanced: accounted == flow.received,
            flow,
            unwanted: self.unwanted,
            topics: self.store.topics(),
            bytes: self.store.bytes(),
            added,
            updated: counters.updated,
            refused: counters.refused,
            unreadable: self.unreadable,
            evicted: counters.evicted,
            held_back: self.held_back,
            answered: self.answered,
            answers: self.answers_sent,
            snapshots: self.snapshots,
            unknown_requests: self.unknown,
            restored: self.restored,
            not_restored: self.not_restored,
            unwritten_max: file.map_or(0, |file| file.unwritten().max),
            write_failures: file.map_or(0, CacheFile::failures),
        }
    }

    /// Returns the length of a message's topic, if that stands where subscriptions match: at the first frame's start.
    fn topic_bytes(&self, frames: &[&[u8]]) -> Option<usize> {
        let Some(envelope) = &self.envelope else {
            return Some(frames[0].len());
        };
        let topic = envelope.open(frames).ok()?.topic;
        (topic.frame == 0 && topic.start == 0).then_some(topic.end)
    }

    /// Keeps a message. Returns its topic's length where it is kept.
    fn keep(&mut self, topic_bytes: Option<usize>, frames: &[&[u8]]) -> Option<usize> {
        let Some(bytes) = topic_bytes else {
            self.unreadable += 1;
            return None;
        };
        let is_kept = self.store.put(bytes, frames);
        self.look_at_topics();
        is_kept.then_some(bytes)
    }

    /// Warns, once, where most messages have topics of their own: that is what the wrong envelope makes of a feed.
    fn look_at_topics(&mut self) {
        let added = self.store.counters().added - self.restored;
        if self.is_told_of_topics
            || added < TOPICS_SUSPECT
            || self.books.received() > added + added / 4
        {
            return;
        }
        self.is_told_of_topics = true;
        self.books.tell(format!(
            "warning: {added} of {} messages came with topics of their own, and each is kept: if the feed has fewer \
             topics, tell where they end with --envelope",
            self.books.received()
        ));
    }

    /// Takes a message of a publisher's.
    fn take(&mut self, links: &mut Links, topic_bytes: Option<usize>, frames: &[&[u8]]) {
        if self.books.receive(links.now_ns()) {
            let topic_bytes = self.keep(topic_bytes, frames);
            self.forward(links, topic_bytes, frames);
        }
    }

    /// Takes what other threads have copied, a part at a time.
    fn take_copies(&mut self, links: &mut Links) {
        let Some(copies) = self.copies.take() else {
            return;
        };
        for _ in 0..PAGES_A_TURN {
            match copies.try_take() {
                Ok(Some(page)) => {
                    let Ok(()) = page.each(|copy| {
                        self.take(links, copy.topic_bytes, copy.frames);
                        Ok::<_, Infallible>(())
                    });
                    copies.count_written(page.len() as u64);
                    copies.give_back(page);
                }
                Ok(None) => {
                    self.copies = Some(copies);
                    return;
                }
                Err(Ended) => {
                    self.have_copies_ended = true;
                    return;
                }
            }
        }
        self.copies = Some(copies);
        self.is_hurried = true;
    }

    fn forward(&mut self, links: &mut Links, topic_bytes: Option<usize>, frames: &[&[u8]]) {
        let Self {
            answers,
            store,
            books,
            held_back,
            ..
        } = self;
        let lose = |link| books.lose(link, 1);
        let value = topic_bytes.filter(|_| !answers.is_idle());
        let value = value.and_then(|bytes| store.get(&frames[0][..bytes]));
        let sent = match value {
            None => links.publish_where(self.downstream, frames, |_| true, lose),
            Some(value) => {
                let may = |link| {
                    let holds_back = answers.holds_back(link, value);
                    *held_back += u64::from(holds_back);
                    !holds_back
                };
                links.publish_where(self.downstream, frames, may, lose)
            }
        };
        self.books.forward(sent);
    }

    /// Goes on with a subscriber's answers, as far as there is room.
    fn answer(&mut self, links: &mut Links, link: Link) {
        let mut sent = 0;
        let progress = self.answers.answer(link, &self.store, |value| {
            if link.socket == self.asked && value.first_frame() == KTHXBAI {
                return true;
            }
            let waiting_bytes = links.waiting_bytes(link);
            if waiting_bytes > 0 && waiting_bytes + value.encoded().len() > self.piece_bytes {
                return false;
            }
            let mut room = [&[][..]; FRAMES_MAX];
            let count = value.fill(&mut room);
            let is_sent = links.send(link, &room[..count]).is_ok();
            sent += u64::from(is_sent);
            is_sent
        });
        self.answers_sent += sent;
        match progress {
            Progress::Done if link.socket == self.asked => self.complete(links, link),
            Progress::Done => {}
            Progress::Full => links.tell_when_sent(link),
            Progress::More => self.is_hurried = true,
        }
    }
}

impl Desk {
    /// Answers a request for a snapshot, with what is kept under a prefix: as a new subscription, with an end.
    fn on_request(&mut self, link: Link, frames: &[&[u8]]) {
        match *frames {
            // One at a time: the ends of two could not be told apart.
            [ICANHAZ, ref prefix @ ..]
                if prefix.len() < 2 && self.answers.behind().all(|one| one != link) =>
            {
                let prefix = prefix.first().copied().unwrap_or_default();
                self.answers.subscribe(link, prefix);
            }
            _ => self.unknown += 1,
        }
    }

    fn complete(&mut self, links: &mut Links, link: Link) {
        let subtree: Option<Box<[u8]>> = self.answers.subscriptions(link).next().map(Box::from);
        self.answers.leave(link);
        let end = KeyValue {
            key: KTHXBAI,
            // Numbers are those of topics, if there are any: none is of all.
            sequence: 0,
            uuid: None,
            properties: &[],
            body: subtree.as_deref().unwrap_or_default(),
        };
        match end.encode(Form::Five, |frames| links.send(link, frames)) {
            Ok(()) => self.snapshots += 1,
            // It would wait for ever.
            Err(NoRoom) => links.hang_up(link),
        }
    }
}

impl Application for Desk {
    fn on_message(&mut self, links: &mut Links, link: Link, frames: &[&[u8]]) {
        if link.socket == self.asked {
            self.on_request(link, frames);
            return;
        }
        // What an XSUB says beside its subscriptions is for publishers, and goes no further.
        if link.socket != self.upstream {
            return;
        }
        if !self
            .prefixes
            .iter()
            .any(|prefix| frames[0].starts_with(prefix))
        {
            self.unwanted += 1;
            return;
        }
        let topic_bytes = self.topic_bytes(frames);
        self.take(links, topic_bytes, frames);
    }

    fn on_open(&mut self, links: &mut Links, link: Link) {
        self.books.meet(links, link);
    }

    fn on_subscription(
        &mut self,
        _links: &mut Links,
        link: Link,
        subscription: Subscription<'_>,
        _shift: Shift,
    ) {
        match subscription {
            Subscription::Start(prefix) => {
                self.answered += u64::from(self.answers.subscribe(link, prefix));
            }
            Subscription::End(prefix) => self.answers.cancel(link, prefix),
        }
    }

    fn on_room(&mut self, links: &mut Links, link: Link) {
        self.answer(links, link);
    }

    fn on_given_up(&mut self, link: Link, messages: u64) {
        self.books.lose(link, messages);
    }

    fn on_close(&mut self, _links: &mut Links, link: Link, end: &End, _orphaned: &[Box<[u8]>]) {
        self.answers.leave(link);
        self.books.part(link, end);
    }

    fn on_refused(&mut self, socket: SocketId, endpoint: Option<&str>, end: &End) {
        self.books.refused(socket, endpoint, end);
    }

    fn on_turn_end(&mut self, links: &mut Links) {
        self.is_hurried = false;
        self.take_copies(links);
        if self.answers.is_idle() {
            return;
        }
        let mut in_turn: Vec<Link> = Vec::with_capacity(ANSWERED_A_TURN);
        let last = self.answered_last;
        let later = self.answers.behind().filter(|&link| Some(link) > last);
        let before = self.answers.behind().filter(|&link| Some(link) <= last);
        for link in later.chain(before) {
            if in_turn.len() == ANSWERED_A_TURN {
                break;
            }
            if links.waiting_bytes(link) <= self.piece_bytes / 2 {
                in_turn.push(link);
            } else {
                links.tell_when_sent(link);
            }
        }
        for &link in &in_turn {
            self.answer(links, link);
        }
        self.answered_last = in_turn.last().copied();
        self.is_hurried |= in_turn.len() == ANSWERED_A_TURN;
    }

    fn due_ns(&self) -> Option<u64> {
        if self.is_hurried {
            return Some(0);
        }
        self.file.as_ref().map(CacheFile::due_ns)
    }

    fn on_time(&mut self, links: &mut Links) {
        let Some(file) = &mut self.file else {
            return;
        };
        if file.due_ns() > links.now_ns() {
            return;
        }
        let failures = file.failures();
        match file.tend(&mut self.store, links.now_ns()) {
            Ok(()) => {}
            // Once, or it would be told ten times a second.
            Err(Error::File { .. }) if failures > 0 => {}
            Err(error) => self.books.tell(format!("{error}; it is tried again")),
        }
    }
}
