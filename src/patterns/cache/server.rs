//! The cache between publishers and subscribers.
//!
//! A message is kept and goes on in the same turn, but for the subscribers that it is held back from. What
//! answers bring goes out between turns, a piece for each of a few subscribers, when less than a piece waits
//! for them: so that forwarding goes on, and a large answer waits in the store, not in memory.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use serde::Serialize;

use crate::{
    clock::{Clock, SECOND_NS},
    envelope::Envelope,
    error::{Error, Result},
    message::FRAMES_MAX,
    patterns::{
        cache::{
            answers::{Answers, Progress},
            file::CacheFile,
            store::{Evict, Limits, Store},
        },
        ends::{self, Ends, EndsPlan, Losses, Lost},
        kvmsg::{Form, ICANHAZ, KTHXBAI, KeyValue},
        reactor::{Application, End, Link, Links, NoRoom, Reactor, Shift, SocketId, SocketPlan},
    },
    stop::Stop,
    zmtp::{SocketType, Subscription},
};

/// Bytes that wait for a subscriber up to which answers are added, where as much may wait.
const PIECE_BYTES: usize = 256 * 1024;
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
    /// Seconds from the first message to the last.
    pub elapsed_s: f64,
    /// Messages received.
    pub received: u64,
    /// Messages larger than 16 MiB, which were thrown away, beside those.
    pub oversize: u64,
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
    /// Messages in which the envelope found no topic; likewise.
    pub unreadable: u64,
    /// Whether these account for all that was received.
    pub balanced: bool,
    /// Topics that went to make room.
    pub evicted: u64,
    /// Messages put on their way to subscribers, one for each, as they came.
    pub forwarded: u64,
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
    /// Messages that were not sent since too much waited for the subscriber.
    pub lost: u64,
    /// The same by subscriber.
    pub lost_by_subscriber: Vec<Lost>,
    /// Subscribers that are connected.
    pub subscribers: usize,
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
    bound: Vec<String>,
    served: Vec<String>,
    snapshots: Vec<String>,
}

/// What the reactor tells.
#[derive(Debug)]
struct Desk {
    upstream: SocketId,
    downstream: SocketId,
    /// Where snapshots are asked for.
    asked: SocketId,
    envelope: Option<Envelope>,
    store: Store,
    answers: Answers<Link>,
    /// Bytes that wait up to which answers are added, so that none is lost for lack of room.
    piece_bytes: usize,
    /// The last subscriber whose answers went on; others come first.
    answered_last: Option<Link>,
    /// Whether answers can go on at once.
    is_hurried: bool,
    file: Option<CacheFile>,
    losses: Losses,
    stop: Stop,
    messages_max: u64,
    /// What it is subscribed to.
    prefixes: BTreeSet<Vec<u8>>,
    received: u64,
    unwanted: u64,
    unreadable: u64,
    /// Requests that were not answered.
    unknown: u64,
    forwarded: u64,
    held_back: u64,
    answered: u64,
    answers_sent: u64,
    snapshots: u64,
    restored: u64,
    not_restored: u64,
    first_ns: Option<u64>,
    last_ns: u64,
    /// What people should know and have not been told.
    news: Vec<String>,
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
            envelope: plan.envelope.clone(),
            restored: store.topics() as u64,
            store,
            answers: Answers::default(),
            piece_bytes: PIECE_BYTES.min(plan.ends.waiting_bytes_max),
            answered_last: None,
            is_hurried: false,
            file,
            losses: Losses::default(),
            stop,
            messages_max: plan.messages_max,
            prefixes,
            received: 0,
            unwanted: 0,
            unreadable: 0,
            unknown: 0,
            forwarded: 0,
            held_back: 0,
            answered: 0,
            answers_sent: 0,
            snapshots: 0,
            not_restored,
            first_ns: None,
            last_ns: 0,
            news: Vec::new(),
        };
        Ok(Self {
            reactor,
            desk,
            bound: ends.bound,
            served: ends.served,
            snapshots,
        })
    }

    /// Returns what was bound for publishers, with the ports that wildcards were given.
    #[must_use]
    pub fn bound(&self) -> &[String] {
        &self.bound
    }

    /// Returns what was bound for subscribers, likewise.
    #[must_use]
    pub fn served(&self) -> &[String] {
        &self.served
    }

    /// Returns what was bound for those who ask for a snapshot, likewise.
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
        Ok(std::mem::take(&mut self.desk.news))
    }

    /// Lets subscribers take what waits for them, writes the file, and sums up.
    ///
    /// # Errors
    /// [`Error::Socket`]; and what kept the file from being written, behind the summary.
    pub fn finish(mut self) -> Result<(CacheSummary, Result<()>)> {
        self.reactor.drain(DRAIN_LIMIT)?;
        let mut summary = self.desk.summary();
        let links = self.reactor.links();
        summary.lost = links.counters(self.desk.downstream).dropped;
        summary.oversize = links.counters(self.desk.upstream).oversize;
        let mut written = Ok(());
        if let Some(file) = self.desk.file.take() {
            (summary.write_failures, written) = file.finish(&mut self.desk.store);
        }
        Ok((summary, written))
    }
}

impl Desk {
    fn summary(&self) -> CacheSummary {
        let counters = self.store.counters();
        let added = counters.added - self.restored;
        let accounted = added + counters.updated + counters.refused + self.unreadable;
        let file = self.file.as_ref();
        let elapsed_ns = self.last_ns - self.first_ns.unwrap_or(self.last_ns);
        CacheSummary {
            elapsed_s: elapsed_ns as f64 / SECOND_NS as f64,
            received: self.received,
            oversize: 0,
            unwanted: self.unwanted,
            topics: self.store.topics(),
            bytes: self.store.bytes(),
            added,
            updated: counters.updated,
            refused: counters.refused,
            unreadable: self.unreadable,
            balanced: accounted == self.received,
            evicted: counters.evicted,
            forwarded: self.forwarded,
            held_back: self.held_back,
            answered: self.answered,
            answers: self.answers_sent,
            snapshots: self.snapshots,
            unknown_requests: self.unknown,
            lost: 0,
            lost_by_subscriber: self.losses.all(),
            subscribers: self.losses.subscribers(),
            restored: self.restored,
            not_restored: self.not_restored,
            unwritten_max: file.map_or(0, |file| file.unwritten().max),
            write_failures: file.map_or(0, CacheFile::failures),
        }
    }

    /// Keeps a message. Returns its topic's length where it is kept.
    fn keep(&mut self, frames: &[&[u8]]) -> Option<usize> {
        let topic_bytes = match &self.envelope {
            None => frames[0].len(),
            Some(envelope) => match envelope.open(frames) {
                // Subscriptions match on the first frame's start.
                Ok(fields) if fields.topic.frame == 0 && fields.topic.start == 0 => {
                    fields.topic.end
                }
                _ => {
                    self.unreadable += 1;
                    return None;
                }
            },
        };
        self.store.put(topic_bytes, frames).then_some(topic_bytes)
    }

    fn forward(&mut self, links: &mut Links, frames: &[&[u8]]) {
        let topic_bytes = self.keep(frames);
        let Self {
            answers,
            store,
            losses,
            held_back,
            ..
        } = self;
        let lose = |link| losses.count(link);
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
        self.forwarded += sent as u64;
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
        if link.socket != self.upstream || self.received == self.messages_max {
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
        self.received += 1;
        self.last_ns = links.now_ns();
        self.first_ns.get_or_insert(self.last_ns);
        self.forward(links, frames);
        if self.received == self.messages_max {
            self.stop.request();
        }
    }

    fn on_open(&mut self, links: &mut Links, link: Link) {
        if link.socket == self.downstream {
            self.losses.meet(links, link);
        }
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

    fn on_close(&mut self, _links: &mut Links, link: Link, _end: &End, _orphaned: &[Box<[u8]>]) {
        self.answers.leave(link);
        if let Some(lost) = self.losses.part(link) {
            self.news.push(format!(
                "{} has gone; it was too slow for {} messages",
                lost.subscriber, lost.messages
            ));
        }
    }

    fn on_refused(&mut self, socket: SocketId, endpoint: Option<&str>, end: &End) {
        if let (Some(endpoint), true) = (endpoint, socket == self.upstream) {
            self.news.push(format!(
                "no connection to {endpoint} yet ({end}); trying on"
            ));
        }
    }

    fn on_turn_end(&mut self, links: &mut Links) {
        self.is_hurried = false;
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
            Err(error) => self.news.push(format!("{error}; it is tried again")),
        }
    }
}
