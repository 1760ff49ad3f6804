//! The tap between publishers and subscribers.

use std::time::Duration;

use serde::Serialize;

use crate::{
    clock::{Clock, wall_ns},
    error::Result,
    patterns::{
        copies::{Copier, Kind, Passed},
        ends::{Books, Ends, EndsPlan, Flow, refuse_own},
        reactor::{Application, End, Link, Links, Reactor, Shift, SocketId},
        tap::{
            watch_point::WatchPoint,
            watcher::{WatchPlan, Watched, Watcher},
        },
    },
    stop::Stop,
    zmtp::Subscription,
};

/// How long subscribers may take at the end for what waits for them, and watchers after them.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

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

/// What a tap did.
#[derive(Clone, Debug, Serialize)]
pub struct TapSummary {
    /// What passed.
    #[serde(flatten)]
    pub flow: Flow,
    /// Subscriptions and cancellations of subscribers, with those that ended with their connections and that
    /// publishers were told.
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
    ends: Ends,
    watchers: Vec<Watcher>,
}

/// What the reactor tells.
#[derive(Debug)]
struct Desk {
    upstream: SocketId,
    downstream: SocketId,
    watch: Option<WatchPoint>,
    copiers: Vec<Copier>,
    /// The wall clock in this turn, once it was read.
    turn_wall_ns: Option<u64>,
    books: Books,
    subscription_changes: u64,
    forwarded_changes: u64,
    upstream_messages: u64,
}

impl Tap {
    /// Binds and connects, and starts the watchers' threads.
    ///
    /// # Errors
    /// What [`Ends::open`] and [`Watcher::write`] fail with; [`Error::Config`](crate::Error::Config) for the
    /// endpoint of a watcher.
    pub fn open(plan: TapPlan, stop: Stop) -> Result<Self> {
        let mut reactor = Reactor::new(Clock::start())?;
        let ends = Ends::open(&mut reactor, &plan.ends)?;
        let watch = if plan.watch_bind.is_empty() {
            None
        } else {
            let flag = "--watch-bind";
            Some(WatchPoint::open(&mut reactor, flag, &plan.watch_bind)?)
        };
        if let Some(point) = &watch {
            for endpoint in &plan.ends.connect {
                refuse_own("--connect", endpoint, point.bound())?;
            }
        }
        let watchers = plan.watch.into_iter().map(Watcher::write);
        let watchers: Vec<Watcher> = watchers.collect::<Result<_>>()?;
        let desk = Desk {
            upstream: ends.upstream,
            downstream: ends.downstream,
            watch,
            copiers: watchers.iter().map(Watcher::copier).collect(),
            turn_wall_ns: None,
            books: Books::new(&ends, stop, plan.messages_max),
            subscription_changes: 0,
            forwarded_changes: 0,
            upstream_messages: 0,
        };
        Ok(Self {
            reactor,
            desk,
            ends,
            watchers,
        })
    }

    /// Returns its ends.
    #[must_use]
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Returns what was bound for watchers, with the ports that wildcards were given.
    #[must_use]
    pub fn watched(&self) -> &[String] {
        self.desk.watch.as_ref().map_or(&[], WatchPoint::bound)
    }

    /// Forwards for `time`, or until the request to stop, and returns what people should know.
    ///
    /// # Errors
    /// [`Error::Socket`](crate::Error::Socket), from waiting.
    pub fn turn(&mut self, time: Duration) -> Result<Vec<String>> {
        self.reactor.turn(&mut self.desk, time)?;
        let mut news = self.desk.books.take_news();
        let failed = self.watchers.iter_mut().filter_map(Watcher::take_news);
        news.extend(failed.map(|error| format!("warning: a watcher has ended: {error}")));
        Ok(news)
    }

    /// Lets subscribers and watchers take what waits for them, and sums up.
    ///
    /// # Errors
    /// [`Error::Socket`](crate::Error::Socket); and what kept a watcher's lines from being written, behind the
    /// summary.
    pub fn finish(mut self) -> Result<(TapSummary, Result<()>)> {
        self.reactor.drain(DRAIN_LIMIT)?;
        let mut desk = self.desk;
        let mut summary = TapSummary {
            flow: desk.books.close(self.reactor.links()),
            subscription_changes: desk.subscription_changes,
            forwarded_changes: desk.forwarded_changes,
            upstream: desk.upstream_messages,
            watchers: Vec::new(),
        };
        if let Some(watch) = &desk.watch {
            summary.watchers.push(Watched {
                watcher: watch.bound().join(", "),
                copied: watch.copied(self.reactor.links()),
            });
        }
        drop(desk.copiers);
        let mut written = Ok(());
        for watcher in self.watchers {
            let (watched, outcome) = watcher.finish(DRAIN_LIMIT);
            written = written.and(outcome);
            summary.watchers.push(watched);
        }
        Ok((summary, written))
    }
}

impl Desk {
    fn copy(&mut self, links: &mut Links, kind: Kind, frames: &[&[u8]]) {
        if !self.copiers.is_empty() {
            let copy = Passed {
                at_ns: *self.turn_wall_ns.get_or_insert_with(wall_ns),
                kind,
                topic_bytes: Some(frames[0].len()),
                frames,
            };
            for copier in &mut self.copiers {
                copier.copy(&copy);
            }
        }
        if let Some(watch) = &self.watch {
            watch.send(links, kind, frames);
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
        if link.socket != self.upstream || !self.books.receive(links.now_ns()) {
            return;
        }
        let books = &mut self.books;
        let lose = |link| books.lose(link, 1);
        let sent = links.publish_where(self.downstream, frames, |_| true, lose);
        books.forward(sent);
        self.copy(links, Kind::Message, frames);
    }

    fn on_open(&mut self, links: &mut Links, link: Link) {
        self.books.meet(links, link);
        if let Some(watch) = &mut self.watch {
            watch.meet(links, link);
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

    fn on_given_up(&mut self, link: Link, messages: u64) {
        self.books.lose(link, messages);
    }

    fn on_close(&mut self, links: &mut Links, link: Link, end: &End, orphaned: &[Box<[u8]>]) {
        self.books.part(link, end);
        if let Some(watch) = &mut self.watch {
            watch.part(link);
        }
        if link.socket != self.downstream {
            return;
        }
        for prefix in orphaned {
            self.subscription_changes += 1;
            self.forwarded_changes += 1;
            links.cancel(self.upstream, prefix);
            self.copy(links, Kind::Cancellation, &[prefix]);
        }
    }

    fn on_refused(&mut self, socket: SocketId, endpoint: Option<&str>, end: &End) {
        self.books.refused(socket, endpoint, end);
    }

    fn on_turn_end(&mut self, _links: &mut Links) {
        self.turn_wall_ns = None;
        for copier in &mut self.copiers {
            copier.flush();
        }
    }
}
