//! Where copies can be had as messages, by SUB or PAIR.
//!
//! A message goes as it is, a subscription as one frame, its prefix behind a byte 1, and its end behind a byte 0.

use crate::{
    error::Result,
    patterns::{
        copies::{Copied, Kind, WAITING_BYTES_MAX},
        ends::bind,
        reactor::{Link, Links, Reactor, SocketId, SocketPlan},
    },
    zmtp::SocketType,
};

/// A socket for watchers.
#[derive(Debug)]
pub(super) struct WatchPoint {
    socket: SocketId,
    /// Watchers that are PAIRs.
    pairs: Vec<Link>,
    bound: Vec<String>,
}

impl WatchPoint {
    /// Binds.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), which names the flag and the endpoint.
    pub(super) fn open(reactor: &mut Reactor, flag: &str, endpoints: &[String]) -> Result<Self> {
        let socket = reactor.socket(SocketPlan {
            or: Some(SocketType::Pair),
            waiting_bytes_max: WAITING_BYTES_MAX,
            ..SocketPlan::new(SocketType::Pub)
        });
        let endpoints = endpoints.iter();
        let bound = endpoints.map(|endpoint| bind(reactor, socket, flag, endpoint));
        Ok(Self {
            socket,
            pairs: Vec::new(),
            bound: bound.collect::<Result<_>>()?,
        })
    }

    /// Returns what was bound, with the ports that wildcards were given.
    pub(super) fn bound(&self) -> &[String] {
        &self.bound
    }

    /// Notes a peer of the reactor, if it is a watcher.
    pub(super) fn meet(&mut self, links: &Links, link: Link) {
        if link.socket == self.socket && links.met_as(link) == Some(SocketType::Pair) {
            self.pairs.push(link);
        }
    }

    /// Notes that a peer of the reactor is gone.
    pub(super) fn part(&mut self, link: Link) {
        self.pairs.retain(|&pair| pair != link);
    }

    /// Tells whether there is anyone to copy for.
    pub(super) fn is_watched(&self, links: &Links) -> bool {
        !self.pairs.is_empty() || links.subscriptions(self.socket).next().is_some()
    }

    /// Sends a copy to those who want it.
    pub(super) fn send(&self, links: &mut Links, kind: Kind, frames: &[&[u8]]) {
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
        links.publish(self.socket, frames);
        for &pair in &self.pairs {
            // The socket has counted it as dropped.
            let _ = links.send(pair, frames);
        }
    }

    /// Returns what became of copies, one for each watcher.
    pub(super) fn copied(&self, links: &Links) -> Copied {
        let counters = links.counters(self.socket);
        Copied {
            written: counters.sent,
            lost: counters.dropped,
            skipped: 0,
        }
    }
}
