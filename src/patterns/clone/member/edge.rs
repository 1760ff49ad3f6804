//! Between a client's machine and its sockets.

use crate::{
    clock::wall_ns,
    error::{Error, Result},
    patterns::{
        clone::{
            Now,
            client::{Machine, Output, TooLarge},
            member::Event,
            state::Update,
        },
        kvmsg::{Form, ICANHAZ, KeyValue, Uuid},
        reactor::{Application, End, Link, Links, SocketId},
    },
    zmtp::SocketType,
};

/// The sockets towards one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sockets {
    pub(super) snapshot: SocketId,
    pub(super) published: SocketId,
    pub(super) collector: SocketId,
}

impl Sockets {
    /// Those towards P, P+1 and P+2.
    pub(super) fn all(self) -> [SocketId; 3] {
        [self.snapshot, self.published, self.collector]
    }
}

/// A server as it is reached at the moment.
#[derive(Debug)]
struct Reached {
    sockets: Sockets,
    /// Of each socket, where it connects to, and why it has no connection.
    endpoints: [String; 3],
    ends: [Option<String>; 3],
    /// The connection for snapshots, and whether anything was asked over it.
    snapshot: Option<(Link, bool)>,
    /// Whether to ask once there is a fresh one, for which the last one was hung up on.
    asks: bool,
    published: Option<Link>,
}

#[derive(Debug)]
pub(super) struct Edge {
    machine: Machine,
    servers: Vec<Reached>,
    form: Form,
    subtree: Vec<u8>,
    events: std::collections::VecDeque<Event>,
    failure: Option<TooLarge>,
}

impl Edge {
    pub(super) fn new(
        machine: Machine,
        servers: Vec<(Sockets, [String; 3])>,
        form: Form,
        subtree: Vec<u8>,
    ) -> Self {
        let reached = |(sockets, endpoints)| Reached {
            sockets,
            endpoints,
            ends: Default::default(),
            snapshot: None,
            asks: false,
            published: None,
        };
        Self {
            machine,
            servers: servers.into_iter().map(reached).collect(),
            form,
            subtree,
            events: Default::default(),
            failure: None,
        }
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(super) fn subtree(&self) -> &[u8] {
        &self.subtree
    }

    pub(super) fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn check(&mut self) -> Result<()> {
        match self.failure.take() {
            None => Ok(()),
            Some(large) => Err(Error::Clone {
                problem: large.to_string(),
            }),
        }
    }

    pub(super) fn can_send(&self, links: &Links) -> bool {
        let collector = self.servers[self.machine.server()].sockets.collector;
        links.peers(collector).any(|link| match links.met_as(link) {
            Some(SocketType::Pub) => links.reaches(link, b""),
            _ => true,
        })
    }

    pub(super) fn make(
        &mut self,
        links: &mut Links,
        message: KeyValue<'_>,
        uuid: Uuid,
        now: Now,
    ) -> Result<()> {
        let made = self.machine.make(message, uuid, now);
        made.map_err(|many| Error::Clone {
            problem: many.to_string(),
        })?;
        self.act(links);
        Ok(())
    }

    fn act(&mut self, links: &mut Links) {
        while let Some(output) = self.machine.output() {
            let event = match output {
                Output::Ask(server) => {
                    self.ask(links, server);
                    continue;
                }
                Output::Send(update) => {
                    self.send(links, &update);
                    continue;
                }
                Output::Synchronised { server, sequence } => {
                    Event::Synchronised { server, sequence }
                }
                Output::Changed(update) => Event::Changed(update),
                Output::Stale => Event::Stale,
                Output::Own { uuid, fate } => Event::Own { uuid, fate },
            };
            self.events.push_back(event);
        }
    }

    fn ask(&mut self, links: &mut Links, server: usize) {
        let reached = &mut self.servers[server];
        match &mut reached.snapshot {
            Some((link, is_used @ false)) => {
                *is_used = true;
                // Without room it is asked again later.
                let _ = links.send(*link, &[ICANHAZ, &self.subtree]);
                reached.asks = false;
                return;
            }
            // What was asked before may still be under way.
            Some((link, true)) => links.hang_up(*link),
            None => {}
        }
        reached.asks = true;
    }

    fn send(&self, links: &mut Links, update: &Update) {
        for reached in &self.servers {
            let collector = reached.sockets.collector;
            update.message().encode(self.form, |frames| {
                let first = links.peers(collector).next();
                match first.and_then(|link| Some((link, links.met_as(link)?))) {
                    Some((_, SocketType::Pub)) => {
                        links.publish(collector, frames);
                    }
                    // Without room it is sent again later.
                    Some((link, _)) => drop(links.send(link, frames)),
                    None => {}
                }
            });
        }
    }

    /// Returns what stands in the way, an endpoint and a reason for each server.
    pub(super) fn obstacles(&self, links: &Links) -> Vec<String> {
        let followed = self.machine.is_ready().then(|| self.machine.server());
        let servers = self.servers.iter().enumerate();
        let obstacles = servers.filter(|(server, _)| followed.is_none_or(|one| one == *server));
        obstacles
            .filter(|_| followed.is_none() || !self.can_send(links))
            .map(|(_, reached)| {
                let mut sockets = reached.sockets.all().into_iter();
                let lacking = sockets.position(|socket| links.peers(socket).next().is_none());
                let (place, reason) = match (lacking, followed) {
                    (Some(place), _) => {
                        let end = reached.ends[place].as_deref();
                        (place, end.unwrap_or("not connected yet"))
                    }
                    (None, None) => (
                        0,
                        "connected, but it gives no snapshot, as a backup whose primary is alive does not",
                    ),
                    (None, Some(_)) => (2, "connected, but it takes no updates by this pattern"),
                };
                format!("{}: {reason}", reached.endpoints[place])
            })
            .collect()
    }

    /// Returns the server that a socket is for, and its place among that server's.
    fn place_of(&self, socket: SocketId) -> Option<(usize, usize)> {
        let mut servers = self.servers.iter().enumerate();
        servers.find_map(|(server, one)| {
            let place = one.sockets.all().into_iter().position(|of| of == socket)?;
            Some((server, place))
        })
    }
}

fn now(links: &Links) -> Now {
    Now {
        ns: links.now_ns(),
        wall_ns: wall_ns(),
    }
}

impl Application for Edge {
    fn on_message(&mut self, links: &mut Links, link: Link, frames: &[&[u8]]) {
        let Some((server, _)) = self.place_of(link.socket) else {
            return;
        };
        let now = now(links);
        let reached = &self.servers[server];
        let heard = if reached.published == Some(link) {
            self.machine.on_published(server, frames, now)
        } else if reached.snapshot.is_some_and(|(current, _)| current == link) {
            self.machine.on_snapshot(server, frames, now)
        } else {
            Ok(())
        };
        if let Err(large) = heard {
            self.failure = Some(large);
        }
    }

    fn on_open(&mut self, links: &mut Links, link: Link) {
        let Some((server, place)) = self.place_of(link.socket) else {
            return;
        };
        let now = now(links);
        let reached = &mut self.servers[server];
        reached.ends[place] = None;
        if link.socket == reached.sockets.published {
            reached.published = Some(link);
            self.machine.on_subscription(server, true, now);
        } else if link.socket == reached.sockets.snapshot {
            reached.snapshot = Some((link, false));
            if reached.asks {
                self.ask(links, server);
            }
            self.machine.on_reach(server, true, now);
        }
    }

    fn on_refused(&mut self, socket: SocketId, _endpoint: Option<&str>, end: &End) {
        if let Some((server, place)) = self.place_of(socket) {
            let mut why = end.to_string();
            // Somebody is there, and gives no snapshots.
            if place == 0 && matches!(end, End::Violation(_) | End::Lost) {
                why += "; give the server's --endpoint, whose port is P, not that of P+1 or P+2";
            }
            self.servers[server].ends[place] = Some(why);
        }
    }

    fn on_close(&mut self, links: &mut Links, link: Link, end: &End, _orphaned: &[Box<[u8]>]) {
        let Some((server, place)) = self.place_of(link.socket) else {
            return;
        };
        let now = now(links);
        let reached = &mut self.servers[server];
        reached.ends[place] = Some(end.to_string());
        if reached.published == Some(link) {
            reached.published = None;
            self.machine.on_subscription(server, false, now);
        } else if reached.snapshot.is_some_and(|(current, _)| current == link) {
            reached.snapshot = None;
            // If it was hung up on for a fresh one, nothing has changed.
            if !reached.asks {
                self.machine.on_reach(server, false, now);
            }
        }
    }

    fn on_turn_end(&mut self, links: &mut Links) {
        if self.machine.due_ns() <= links.now_ns() {
            self.machine.on_time(now(links));
        }
        self.act(links);
    }

    fn due_ns(&self) -> Option<u64> {
        Some(self.machine.due_ns())
    }
}
