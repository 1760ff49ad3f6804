//! The two ends of what stands between publishers and subscribers, and what it knows of its subscribers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    error::{Error, Result},
    patterns::reactor::{Link, Links, Reactor, SocketId, SocketPlan},
    zmtp::SocketType,
};

/// Subscribers that have gone whose losses are told one by one; those of others are told together.
const GONE_MAX: usize = 100;

/// Where messages come from and go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndsPlan {
    /// Publishers' endpoints.
    pub connect: Vec<String>,
    /// Endpoints that publishers connect to.
    pub bind: Vec<String>,
    /// Endpoints for subscribers, at least one.
    pub serve: Vec<String>,
    /// The most that may wait for one subscriber, in bytes.
    pub waiting_bytes_max: usize,
}

/// A socket towards publishers and one towards subscribers.
#[derive(Clone, Debug)]
pub struct Ends {
    /// Subscribes.
    pub upstream: SocketId,
    /// Publishes.
    pub downstream: SocketId,
    /// What was bound for publishers, with the ports that wildcards were given.
    pub bound: Vec<String>,
    /// What was bound for subscribers, likewise.
    pub served: Vec<String>,
}

impl Ends {
    /// Opens both.
    ///
    /// # Errors
    /// [`Error::Config`] where an endpoint is none or can't be bound.
    pub fn open(reactor: &mut Reactor, plan: &EndsPlan) -> Result<Self> {
        let upstream = reactor.socket(SocketPlan::new(SocketType::XSub));
        let downstream = reactor.socket(SocketPlan {
            waiting_bytes_max: plan.waiting_bytes_max,
            ..SocketPlan::new(SocketType::XPub)
        });
        let mut bind = |socket, flag: &str, endpoints: &[String]| {
            let endpoints = endpoints.iter();
            let bound = endpoints.map(|endpoint| bind(reactor, socket, flag, endpoint));
            bound.collect::<Result<Vec<_>>>()
        };
        let served = bind(downstream, "--serve", &plan.serve)?;
        let bound = bind(upstream, "--bind", &plan.bind)?;
        for endpoint in &plan.connect {
            reactor.connect(upstream, endpoint)?;
        }
        Ok(Self {
            upstream,
            downstream,
            bound,
            served,
        })
    }
}

/// Binds a socket for a flag, which errors name.
pub(super) fn bind(
    reactor: &mut Reactor,
    socket: SocketId,
    flag: &str,
    endpoint: &str,
) -> Result<String> {
    reactor.bind(socket, endpoint).map_err(|error| match error {
        Error::Config {
            value,
            problem,
            remedy,
            ..
        } => Error::config(flag, value, problem, remedy),
        other => other,
    })
}

/// What a subscriber was not sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Its address; `others` for all those that have gone and are not told one by one.
    pub subscriber: String,
    /// Messages.
    pub messages: u64,
}

/// What subscribers were not sent since too much waited for them.
#[derive(Debug, Default)]
pub struct Losses {
    here: BTreeMap<Link, Lost>,
    gone: Vec<Lost>,
    others: u64,
}

impl Losses {
    /// Notes a subscriber.
    pub fn meet(&mut self, links: &Links, link: Link) {
        let subscriber = links
            .peer_name(link)
            .unwrap_or_else(|| "unknown".to_owned());
        let messages = 0;
        self.here.insert(
            link,
            Lost {
                subscriber,
                messages,
            },
        );
    }

    /// Counts a message that a subscriber was not sent.
    pub fn count(&mut self, link: Link) {
        if let Some(lost) = self.here.get_mut(&link) {
            lost.messages += 1;
        }
    }

    /// Notes that a subscriber is gone, and returns what it lost, if it did.
    pub fn part(&mut self, link: Link) -> Option<Lost> {
        let lost = self.here.remove(&link).filter(|lost| lost.messages > 0)?;
        if self.gone.len() < GONE_MAX {
            self.gone.push(lost.clone());
        } else {
            self.others += lost.messages;
        }
        Some(lost)
    }

    /// Returns what each subscriber lost that lost anything.
    #[must_use]
    pub fn all(&self) -> Vec<Lost> {
        let others = Lost {
            subscriber: "others".to_owned(),
            messages: self.others,
        };
        let all = self.gone.iter().chain(self.here.values()).chain([&others]);
        all.filter(|lost| lost.messages > 0).cloned().collect()
    }

    /// Returns how many subscribers there are.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.here.len()
    }
}
