//! Copies of other threads, passed on as messages: a thread with a [watch point](WatchPoint).

use std::{io, time::Duration};

use crate::{
    error::Result,
    patterns::{
        copies::Copies,
        reactor::{Application, End, Link, Links, Reactor, Shift},
        tap::watch_point::WatchPoint,
    },
    zmtp::Subscription,
};

/// Pages that are passed on before sockets are looked at again.
const PAGES_A_TURN: usize = 16;
/// The longest wait for copies.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long watchers may take at the end for what waits for them.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// What passes copies on.
#[derive(Debug)]
pub(super) struct Relay {
    point: WatchPoint,
    copies: Copies,
    /// Whether more pages may wait.
    is_hurried: bool,
    has_ended: bool,
}

impl Relay {
    /// Binds. Until somebody subscribes nothing is copied.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), which names the flag and the endpoint.
    pub(super) fn open(
        reactor: &mut Reactor,
        flag: &str,
        endpoints: &[String],
        copies: Copies,
    ) -> Result<Self> {
        let point = WatchPoint::open(reactor, flag, endpoints)?;
        copies.set_watched(false);
        Ok(Self {
            point,
            copies,
            is_hurried: false,
            has_ended: false,
        })
    }

    pub(super) fn bound(&self) -> &[String] {
        self.point.bound()
    }

    /// Passes copies on until there are no more.
    pub(super) fn run(mut self, mut reactor: Reactor) -> io::Result<()> {
        let mut outcome = Ok(());
        while !self.has_ended && outcome.is_ok() {
            outcome = reactor.turn(&mut self, LOOK_EVERY);
        }
        let outcome = outcome.and_then(|()| reactor.drain(DRAIN_LIMIT));
        let links = reactor.links();
        links.give_up(|_, _| ());
        self.count(links, 0);
        outcome.map_err(io::Error::other)
    }

    /// Counts copies that are done with, and says what became of all so far.
    fn count(&self, links: &Links, copies: u64) {
        let copied = self.point.copied(links);
        self.copies.count_sent(copies, copied.written, copied.lost);
    }

    fn look_who_watches(&self, links: &Links) {
        self.copies.set_watched(self.point.is_watched(links));
    }
}

impl Application for Relay {
    fn on_message(&mut self, _links: &mut Links, _link: Link, _frames: &[&[u8]]) {}

    fn on_open(&mut self, links: &mut Links, link: Link) {
        self.point.meet(links, link);
        self.look_who_watches(links);
    }

    fn on_subscription(
        &mut self,
        links: &mut Links,
        _link: Link,
        _subscription: Subscription<'_>,
        _shift: Shift,
    ) {
        self.look_who_watches(links);
    }

    fn on_close(&mut self, links: &mut Links, link: Link, _end: &End, _orphaned: &[Box<[u8]>]) {
        self.point.part(link);
        self.look_who_watches(links);
    }

    fn on_turn_end(&mut self, links: &mut Links) {
        let mut copies = 0;
        self.is_hurried = true;
        for _ in 0..PAGES_A_TURN {
            let page = match self.copies.try_take() {
                Ok(Some(page)) => page,
                none => {
                    self.has_ended = none.is_err();
                    self.is_hurried = false;
                    break;
                }
            };
            let Ok(()) = page.each(|copy| {
                self.point.send(links, copy.kind, copy.frames);
                Ok::<_, std::convert::Infallible>(())
            });
            copies += page.len() as u64;
            self.copies.give_back(page);
        }
        self.count(links, copies);
    }

    fn due_ns(&self) -> Option<u64> {
        self.is_hurried.then_some(0)
    }
}
