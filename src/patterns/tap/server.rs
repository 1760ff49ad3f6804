//! The tap between publishers and subscribers.

use std::{io::Write, time::Duration};

use serde::Serialize;

use crate::{
    clock::{Clock, SECOND_NS, wall_ns},
    error::{Error, Result},
    patterns::{
        ends::{Ends, EndsPlan, Losses, Lost, bind},
        reactor::{Application, End, Link, Links, Reactor, Shift, SocketId, SocketPlan},
        tap::copier::{Copied, Copier, CopyRule, Kind, Passed, WAITING_BYTES_MAX},
    },
    stop::Stop,
    zmtp::{SocketType, Subscription},
};

/// How long subscribers may take at the end for what waits for them, and watchers after them.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// A function that appends a line for a copy.
pub type Line = Box<dyn Fn(&Passed<'_>, &mut Vec<u8>) + Send>;

/// A watcher that gets lines.
pub struct WatchPlan {
    /// What errors and the summary call it.
    pub name: String,
    /// Which copies it wants.
    pub rule: CopyRule,
    /// What makes a line of a copy.
    pub line: Line,
    /// Where lines go.
    pub out: Box<dyn Write + Send>,
}

/// What a tap is to do.
pub struct TapPlan {
    /// Where messages come from and go to.
    pub ends: EndsPlan,
    /// Watchers that get lines.
    pub watch: Vec<WatchPlan>,
    /// Endpoints where copies can be had as messages, by SUB or PAIR: messages as they are, a subscription as
    /// one frame, its prefix behind a byte 1, and its end behind a byte 0.
    pub watch_bind: Vec<String>,
    /// Stop after this many messages.
    pub messages_max: u64,
}

/// What became of a watcher's copies.
#[derive(Clone, Debug, Serialize)]
pub struct Watched {
    /// The watcher.
    pub watcher: String,
    #[serde(flatten)]
    /// What became of its copies.
    pub copied: Copied,
}

/// What a tap did.
#[derive(Clone, Debug, Serialize)]
pub struct TapSummary {
    /// Seconds from the first message to the last.
    pub elapsed_s: f64,
    /// Messages received from publishers.
    pub received: u64,
    /// Messages larger than 16 MiB, which were thrown away, beside those.
    pub oversize: u64,
    /// Messages put on their way to subscribers, one for each.
    pub forwarded: u64,
    /// Messages that were not sent since too much waited for the subscriber.
    pub lost: u64,
    /// The same by subscriber.
    pub lost_by_subscriber: Vec<Lost>,
    /// Subscribers that are connected.
    pub subscribers: usize,
    /// Subscriptions and cancellations of subscribers.
    pub subscription_changes: u64,
    /// Those of them that publishers were told, since they changed something for all subscribers together.
    pub forwarded_changes: u64,
    /// Messages from subscribers to publishers.
    pub upstream: u64,
    /// What became of copies.
    pub watchers: Vec<Watched>,
}

/// A tap with its sockets.
#[derive(Debug)]
pub struct Tap {
    reactor: Reactor,
    desk: Desk,
    bound: Vec<String>,
    served: Vec<String>,
    watched: Vec<String>,
    names: Vec<String>,
}

/// What the reactor tells.
#[derive(Debug)]
struct Desk {
    upstream: SocketId,
    downstream: SocketId,
    watch: Option<SocketId>,
    /// Watchers that are PAIRs.
    pairs: Vec<Link>,
    copiers: Vec<Copier>,
    /// The wall clock in this turn, once it was read.
    turn_wall_ns: Option<u64>,
    losses: Losses,
    stop: Stop,
    messages_max: u64,
    received: u64,
    forwarded: u64,
    subscription_changes: u64,
    forwarded_changes: u64,
    upstream_messages: u64,
    first_ns: Option<u64>,
    last_ns: u64,
    /// What people should know and have not been told.
    news: Vec<String>,
}

impl Tap {
    /// Binds and connects, and starts the watchers' threads.
    ///
    /// # Errors
    /// What [`Ends::open`] and [`Copier::start`] fail with; [`Error::Config`] for the endpoint of a watcher.
    pub fn open(plan: TapPlan, stop: Stop) -> Result<Self> {
        let mut reactor = Reactor::new(Clock::start())?;
        let ends = Ends::open(&mut reactor, &plan.ends)?;
        let watch = (!plan.watch_bind.is_empty()).then(|| {
            reactor.socket(SocketPlan {
                or: Some(SocketType::Pair),
                waiting_bytes_max: WAITING_BYTES_MAX,
                ..SocketPlan::new(SocketType::Pub)
            })
        });
        let mut watched = Vec::new();
        for endpoint in &plan.watch_bind {
            if let Some(socket) = watch {
                watched.push(bind(&mut reactor, socket, "--watch-bind", endpoint)?);
            }
        }
        let mut copiers = Vec::new();
        let mut names = Vec::new();
        for one in plan.watch {
            copiers.push(Copier::start("watcher", one.rule, one.line, one.out)?);
            names.push(one.name);
        }
        let desk = Desk {
            upstream: ends.upstream,
            downstream: ends.downstream,
            watch,
            pairs: Vec::new(),
            copiers,
            turn_wall_ns: None,
            losses: Losses::default(),
            stop,
            messages_max: plan.messages_max,
            received: 0,
            forwarded: 0,
            subscription_changes: 0,
            forwarded_changes: 0,
            upstream_messages: 0,
            first_ns: None,
            last_ns: 0,
            news: Vec::new(),
        };
        Ok(Self {
            reactor,
            desk,
            bound: ends.bound,
            served: ends.served,
            watched,
            names,
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

    /// Returns what was bound for watchers, likewise.
    #[must_use]
    pub fn watched(&self) -> &[String] {
        &self.watched
    }

    /// Forwards for `time`, or until the request to stop, and returns what people should know.
    ///
    /// # Errors
    /// [`Error::Socket`], from waiting.
    pub fn turn(&mut self, time: Duration) -> Result<Vec<String>> {
        self.reactor.turn(&mut self.desk, time)?;
        Ok(std::mem::take(&mut self.desk.news))
    }

    /// Lets subscribers and watchers take what waits for them, and sums up.
    ///
    /// # Errors
    /// [`Error::Socket`]; and what kept a watcher's lines from being written, behind the summary.
    pub fn finish(mut self) -> Result<(TapSummary, Result<()>)> {
        self.reactor.drain(DRAIN_LIMIT)?;
        let desk = self.desk;
        let elapsed_ns = desk.last_ns - desk.first_ns.unwrap_or(desk.last_ns);
        let mut summary = TapSummary {
            elapsed_s: elapsed_ns as f64 / SECOND_NS as f64,
            received: desk.received,
            oversize: self.reactor.links().counters(desk.upstream).oversize,
            forwarded: desk.forwarded,
            lost: self.reactor.links().counters(desk.downstream).dropped,
            lost_by_subscriber: desk.losses.all(),
            subscribers: desk.losses.subscribers(),
            subscription_changes: desk.subscription_changes,
            forwarded_changes: desk.forwarded_changes,
            upstream: desk.upstream_messages,
            watchers: Vec::new(),
        };
        if let Some(watch) = desk.watch {
            let counters = self.reactor.links().counters(watch);
            summary.watchers.push(Watched {
                watcher: self.watched.join(", "),
                copied: Copied {
                    written: counters.sent,
                    lost: counters.dropped,
                    skipped: 0,
                },
            });
        }
        let mut written = Ok(());
        for (copier, watcher) in desk.copiers.into_iter().zip(self.names) {
            let (copied, outcome) = copier.finish(DRAIN_LIMIT);
            if let (Err(source), true) = (outcome, written.is_ok()) {
                written = Err(Error::File {
                    path: watcher.clone().into(),
                    source,
                });
            }
            summary.watchers.push(Watched { watcher, copied });
        }
        Ok((summary, written))
    }
}

impl Desk {
    fn copy(&mut self, links: &mut Links, kind: Kind, frames: &[&[u8]]) {
        if !self.copiers.is_empty() {
            let at_ns = *self.turn_wall_ns.get_or_insert_with(wall_ns);
            let copy = Passed {
                at_ns,
                kind,
                frames,
            };
            for copier in &mut self.copiers {
                copier.copy(&copy);
            }
        }
        let Some(watch) = self.watch else {
            return;
        };
        let marked;
        let marked_frames;
        let frames = match kind {
            Kind::Message | Kind::Upstream => frames,
            Kind::Subscription | Kind::Cancellation => {
                let mark = [u8::from(kind == Kind::Subscription)];
                marked = [&mark[..], frames[0]].concat();
                marked_frames = [&marked[..]];
                &marked_frames[..]
            }
        };
        links.publish(watch, frames);
        for &pair in &self.pairs {
            // The socket has counted it as dropped.
            let _ = links.send(pair, frames);
        }
    }
}

impl Application for Desk {
    fn on_message(&mut self, links: &mut Links, link: Link, frames: &[&[u8]]) {
        if link.socket == self.downstream {
            self.upstream_messages += 1;
            let publishers: Vec<Link> = links.peers(self.upstream).collect();
            for publisher in publishers {
                // As with zmq_proxy, a publisher that takes nothing misses it.
                let _ = links.send(publisher, frames);
            }
            self.copy(links, Kind::Upstream, frames);
            return;
        }
        if link.socket != self.upstream || self.received == self.messages_max {
            return;
        }
        self.received += 1;
        self.last_ns = links.now_ns();
        self.first_ns.get_or_insert(self.last_ns);
        let losses = &mut self.losses;
        let lose = |link| losses.count(link);
        let sent = links.publish_where(self.downstream, frames, |_| true, lose);
        self.forwarded += sent as u64;
        self.copy(links, Kind::Message, frames);
        if self.received == self.messages_max {
            self.stop.request();
        }
    }

    fn on_open(&mut self, links: &mut Links, link: Link) {
        if link.socket == self.downstream {
            self.losses.meet(links, link);
        } else if links.met_as(link) == Some(SocketType::Pair) {
            self.pairs.push(link);
        }
    }

    fn on_subscription(
        &mut self,
        links: &mut Links,
        link: Link,
        subscription: Subscription<'_>,
        shift: Shift,
    ) {
        if link.socket != self.downstream {
            return;
        }
        self.subscription_changes += 1;
        let (kind, prefix) = match subscription {
            Subscription::Start(prefix) => (Kind::Subscription, prefix),
            Subscription::End(prefix) => (Kind::Cancellation, prefix),
        };
        match shift {
            Shift::First => links.subscribe(self.upstream, prefix),
            Shift::Last => links.cancel(self.upstream, prefix),
            Shift::None => {}
        }
        self.forwarded_changes += u64::from(shift != Shift::None);
        self.copy(links, kind, &[prefix]);
    }

    fn on_close(&mut self, links: &mut Links, link: Link, _end: &End, orphaned: &[Box<[u8]>]) {
        self.pairs.retain(|&pair| pair != link);
        if link.socket != self.downstream {
            return;
        }
        for prefix in orphaned {
            self.forwarded_changes += 1;
            links.cancel(self.upstream, prefix);
            self.copy(links, Kind::Cancellation, &[prefix]);
        }
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

    fn on_turn_end(&mut self, _links: &mut Links) {
        self.turn_wall_ns = None;
        for copier in &mut self.copiers {
            copier.flush();
        }
    }
}
