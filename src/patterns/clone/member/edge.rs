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

/// A server as it is reached at the moment.
#[derive(Debug)]
struct Reached {
    sockets: Sockets,
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
        servers: Vec<Sockets>,
        form: Form,
        subtree: Vec<u8>,
    ) -> Self {
        let reached = |sockets| Reached {
            sockets,
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

    fn server_of(&self, socket: SocketId) -> Option<usize> {
        self.servers.iter().position(|one| {
            let sockets = one.sockets;
            [sockets.snapshot, sockets.published].contains(&socket)
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
        let Some(server) = self.server_of(link.socket) else {
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
        let Some(server) = self.server_of(link.socket) else {
            return;
        };
        let now = now(links);
        let reached = &mut self.servers[server];
        if link.socket == reached.sockets.published {
            reached.published = Some(link);
            self.machine.on_subscription(server, true, now);
        } else {
            reached.snapshot = Some((link, false));
            if reached.asks {
                self.ask(links, server);
            }
            self.machine.on_reach(server, true, now);
        }
    }

    fn on_close(&mut self, links: &mut Links, link: Link, _end: &End, _orphaned: &[Box<[u8]>]) {
        let Some(server) = self.server_of(link.socket) else {
            return;
        };
        let now = now(links);
        let reached = &mut self.servers[server];
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
