//! The two ends of what stands between publishers and subscribers, and the books that it keeps of both.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    clock::SECOND_NS,
    error::{Error, Result},
    net::{Endpoint, Host},
    patterns::reactor::{End, Link, Links, Reactor, SocketId, SocketPlan},
    stop::Stop,
    zmtp::{SocketType, Violation},
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
    /// [`Error::Config`] where an endpoint is none or can't be bound, or publishers are to be heard at one that is
    /// bound here.
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
            refuse_own("--connect", endpoint, served.iter().chain(&bound))?;
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

/// Refuses an endpoint to connect to that this process is bound to itself: it would hear what it says.
///
/// # Errors
/// [`Error::Config`], which names the flag and the endpoint.
pub fn refuse_own<'a>(
    flag: &str,
    endpoint: &str,
    bound: impl IntoIterator<Item = &'a String>,
) -> Result<()> {
    let Some(own) = bound.into_iter().find(|own| is_at(own, endpoint)) else {
        return Ok(());
    };
    let problem = format!("this process itself is bound there ({own})");
    let remedy = "name the other's endpoint, or bind another one";
    Err(Error::config(flag, endpoint, problem, remedy))
}

/// Tells whether who connects to an endpoint comes to one that is bound, as far as the two texts tell.
fn is_at(bound: &str, endpoint: &str) -> bool {
    let (Ok(bound), Ok(endpoint)) = (bound.parse(), endpoint.parse()) else {
        return false;
    };
    match (bound, endpoint) {
        (
            Endpoint::Tcp {
                host: bound,
                port: bound_port,
            },
            Endpoint::Tcp { host, port },
        ) => {
            let is_here = |host: &Host| match host {
                Host::Address(address) => address.is_loopback(),
                Host::Name(name) => name == "localhost",
                _ => false,
            };
            let is_all = match &bound {
                Host::Any => true,
                Host::Address(address) => address.is_unspecified(),
                _ => false,
            };
            let is_named = matches!(host, Host::Name(_)) && is_here(&bound);
            bound_port == port && (bound == host || is_here(&host) && (is_all || is_named))
        }
        (bound, endpoint) => bound == endpoint,
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

/// What passed between the ends.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Flow {
    /// Seconds from the first message to the last.
    pub elapsed_s: f64,
    /// Messages received from publishers.
    pub received: u64,
    /// Messages of several frames larger than 16 MiB, which were thrown away, beside those.
    pub oversize: u64,
    /// Messages put on their way to subscribers, one for each, as they came.
    pub forwarded: u64,
    /// Messages that were not sent, one for each subscriber: too much waited for it, or it hung up on them.
    pub lost: u64,
    /// The same by subscriber.
    pub lost_by_subscriber: Vec<Lost>,
    /// Subscribers that are connected.
    pub subscribers: usize,
    /// Connections that were ended because of what the peer did, or did not do: a frame of more than 16 MiB ends a
    /// publisher's.
    pub connections_ended: u64,
    /// The same by reason.
    pub connections_ended_by_reason: BTreeMap<&'static str, u64>,
}

impl Flow {
    /// Returns messages received a second.
    #[must_use]
    pub fn per_s(&self) -> f64 {
        if self.elapsed_s > 0.0 {
            self.received as f64 / self.elapsed_s
        } else {
            0.0
        }
    }
}

/// What is noted of messages and peers.
#[derive(Debug)]
pub struct Books {
    upstream: SocketId,
    downstream: SocketId,
    stop: Stop,
    messages_max: u64,
    received: u64,
    forwarded: u64,
    first_ns: Option<u64>,
    last_ns: u64,
    publishers: BTreeMap<Link, String>,
    subscribers: BTreeMap<Link, Lost>,
    /// Of subscribers that have gone, and all of them together beyond the first ones.
    gone: Vec<Lost>,
    others: u64,
    ended: BTreeMap<&'static str, u64>,
    /// What people should know and have not been told.
    news: Vec<String>,
}

impl Books {
    /// Starts with nothing. `stop` is requested with the last of `messages_max` messages.
    #[must_use]
    pub fn new(ends: &Ends, stop: Stop, messages_max: u64) -> Self {
        Self {
            upstream: ends.upstream,
            downstream: ends.downstream,
            stop,
            messages_max,
            received: 0,
            forwarded: 0,
            first_ns: None,
            last_ns: 0,
            publishers: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            gone: Vec::new(),
            others: 0,
            ended: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// Returns how many messages were received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Counts a message received. Returns whether it is one of those to take.
    pub fn receive(&mut self, now_ns: u64) -> bool {
        if self.received == self.messages_max {
            return false;
        }
        self.received += 1;
        self.last_ns = now_ns;
        self.first_ns.get_or_insert(now_ns);
        if self.received == self.messages_max {
            self.stop.request();
        }
        true
    }

    /// Counts messages put on their way.
    pub fn forward(&mut self, messages: usize) {
        self.forwarded += messages as u64;
    }

    /// Notes a peer.
    pub fn meet(&mut self, links: &Links, link: Link) {
        let name = links.peer_name(link);
        let name = name.unwrap_or_else(|| "unknown".to_owned());
        if link.socket == self.upstream {
            self.publishers.insert(link, name);
        } else if link.socket == self.downstream {
            let lost = Lost {
                subscriber: name,
                messages: 0,
            };
            self.subscribers.insert(link, lost);
        }
    }

    /// Counts messages that a subscriber was not sent.
    pub fn lose(&mut self, link: Link, messages: u64) {
        if let Some(lost) = self.subscribers.get_mut(&link) {
            lost.messages += messages;
        }
    }

    /// Notes that a peer is gone.
    pub fn part(&mut self, link: Link, end: &End) {
        let publisher = self.publishers.remove(&link);
        if let Some(reason) = reason(end) {
            let ended = self.ended.entry(reason).or_insert(0);
            *ended += 1;
            // Once for each reason: a publisher connects again, and may do the same again.
            if let (1, Some(publisher)) = (*ended, publisher) {
                let limit = match end {
                    End::Violation(Violation::FrameTooLarge) => ", 16 MiB",
                    _ => "",
                };
                self.news.push(format!(
                    "warning: the connection with {publisher} was ended: {end}{limit}; what it had under way is lost"
                ));
            }
        }
        let Some(lost) = self
            .subscribers
            .remove(&link)
            .filter(|one| one.messages > 0)
        else {
            return;
        };
        self.news.push(format!(
            "{} has gone; {} messages did not go to it",
            lost.subscriber, lost.messages
        ));
        if self.gone.len() < GONE_MAX {
            self.gone.push(lost);
        } else {
            self.others += lost.messages;
        }
    }

    /// Notes that there was no connection.
    pub fn refused(&mut self, socket: SocketId, endpoint: Option<&str>, end: &End) {
        match endpoint {
            Some(endpoint) if socket == self.upstream => self.news.push(format!(
                "no connection to {endpoint} yet ({end}); trying on"
            )),
            Some(_) => {}
            None => {
                if let Some(reason) = reason(end) {
                    *self.ended.entry(reason).or_insert(0) += 1;
                }
            }
        }
    }

    /// Has people told something.
    pub fn tell(&mut self, news: String) {
        self.news.push(news);
    }

    /// Returns what people should know and have not been told.
    pub fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// Sums up what passed. What still waits for subscribers is given up.
    pub fn close(&mut self, links: &mut Links) -> Flow {
        links.give_up(|link, messages| self.lose(link, messages));
        let elapsed_ns = self.last_ns - self.first_ns.unwrap_or(self.last_ns);
        Flow {
            elapsed_s: elapsed_ns as f64 / SECOND_NS as f64,
            received: self.received,
            oversize: links.counters(self.upstream).oversize,
            forwarded: self.forwarded,
            lost: links.counters(self.downstream).dropped,
            lost_by_subscriber: self.lost(),
            subscribers: self.subscribers.len(),
            connections_ended: self.ended.values().sum(),
            connections_ended_by_reason: self.ended.clone(),
        }
    }

    /// What each subscriber lost that lost anything.
    fn lost(&self) -> Vec<Lost> {
        let others = Lost {
            subscriber: "others".to_owned(),
            messages: self.others,
        };
        let all = self.gone.iter().chain(self.subscribers.values());
        let all = all.chain([&others]);
        all.filter(|lost| lost.messages > 0).cloned().collect()
    }
}

/// Returns the name of what a peer did wrong.
fn reason(end: &End) -> Option<&'static str> {
    match end {
        End::Violation(violation) => Some(violation.name()),
        End::HandshakeTimeout => Some("handshake_timeout"),
        End::Silent => Some("silent"),
        End::TooManyPrefixes => Some("too_many_prefixes"),
        End::NotMade(_) | End::Lost | End::HungUp => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_connects_to_itself_is_found() {
        for (bound, endpoint, expected) in [
            ("tcp://127.0.0.1:5", "tcp://127.0.0.1:5", true),
            ("tcp://0.0.0.0:5", "tcp://127.0.0.1:5", true),
            ("tcp://*:5", "tcp://localhost:5", true),
            ("tcp://127.0.0.1:5", "tcp://localhost:5", true),
            ("ipc:///a", "ipc:///a", true),
            ("tcp://127.0.0.1:5", "tcp://127.0.0.1:6", false),
            ("tcp://127.0.0.1:5", "tcp://127.0.0.2:5", false),
            ("tcp://*:5", "tcp://example.org:5", false),
            ("tcp://*:5", "tcp://192.0.2.1:5", false),
            ("ipc:///a", "ipc:///b", false),
        ] {
            assert_eq!(is_at(bound, endpoint), expected, "{bound} {endpoint}");
        }
    }
}
