//! Between a server's machine and its sockets, store and clocks.

use std::{collections::HashMap, time::Duration};

use crate::{
    clock::{Clock, wall_ns},
    error::Error,
    patterns::{
        binary_star::wire::Tidings,
        clone::{
            Now, RECENT,
            serve::{News, Summary, hearing::Hearing},
            server::{Machine, Output},
            state::{Key, Update, View},
            store::Store,
        },
        kvmsg::{Form, HUGZ, ICANHAZ, KTHXBAI, KeyValue, with_ttl},
        reactor::{Application, End, Link, Links, Shift, SocketId},
    },
    zmtp::Subscription,
};

/// Bytes of a snapshot that wait to be sent at once.
const PIECE_BYTES: usize = 256 * 1024;

/// The most that may wait for one subscriber.
pub(super) const SUBSCRIBER_WAITING_BYTES_MAX: usize = 16 << 20;
/// More than what frames, sequence and uuid add to a message.
const FRAMING_BYTES_MAX: usize = 128;

/// The sockets of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sockets {
    pub(super) snapshot: SocketId,
    pub(super) publisher: SocketId,
    pub(super) collector: SocketId,
    pub(super) state: SocketId,
    pub(super) peer_state: SocketId,
    pub(super) peer_snapshot: SocketId,
}

/// A snapshot on its way.
#[derive(Debug)]
struct Sending {
    view: View,
    /// The last key sent.
    after: Option<Key>,
    /// The last recent update sent, while these are wanted.
    recent_after: Option<u64>,
    values_sent: bool,
}

#[derive(Debug)]
pub(super) struct Edge {
    machine: Machine<Link>,
    store: Option<Store>,
    sockets: Sockets,
    /// What is heard of the other server of a pair.
    hearing: Option<Hearing>,
    form: Form,
    clock: Clock,
    /// Whether the machine was told the time in this turn.
    has_begun: bool,
    sending: HashMap<Link, Sending>,
    /// The connection to ask the peer over, and whether it was used; and whether to ask once there is a fresh one.
    peer: Option<(Link, bool)>,
    asks_peer: bool,
    news: Vec<News>,
    failure: Option<Error>,
    slow_subscribers: u64,
    malformed_peer: u64,
}

impl Edge {
    pub(super) fn new(
        machine: Machine<Link>,
        store: Option<Store>,
        sockets: Sockets,
        hearing: Option<Hearing>,
        form: Form,
        clock: Clock,
    ) -> Self {
        Self {
            machine,
            store,
            sockets,
            hearing,
            form,
            clock,
            has_begun: false,
            sending: HashMap::new(),
            peer: None,
            asks_peer: false,
            news: Vec::new(),
            failure: None,
            slow_subscribers: 0,
            malformed_peer: 0,
        }
    }

    pub(super) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            counters: self.machine.counters(),
            keys: self.machine.state().len(),
            sequence: self.machine.state().sequence(),
            slow_subscribers: self.slow_subscribers,
            malformed_peer: self.malformed_peer,
            role: self.machine.role(),
            in_step: self
                .machine
                .is_one_of_a_pair()
                .then(|| self.machine.is_in_step()),
        }
    }

    /// Notes that there is a connection to the other server of a pair, or why not, if the socket is for one.
    fn note_peer(&mut self, socket: SocketId, end: Option<&End>) {
        let sockets = [self.sockets.peer_snapshot, self.sockets.peer_state];
        if let Some(hearing) = &mut self.hearing
            && let Some(place) = sockets.iter().position(|of| *of == socket)
        {
            hearing.connected(place, end.map(End::to_string));
        }
    }

    fn now(&self) -> Now {
        Now {
            ns: self.clock.now_ns(),
            wall_ns: wall_ns(),
        }
    }

    /// Tells the machine the time, once a turn, before anything else.
    fn begin(&mut self, links: &Links) -> Now {
        let now = Now {
            ns: links.now_ns(),
            wall_ns: wall_ns(),
        };
        if !std::mem::replace(&mut self.has_begun, true) {
            self.machine.on_time(now);
        }
        now
    }

    fn fail(&mut self, problem: String) {
        self.failure.get_or_insert(Error::Clone { problem });
    }

    fn act(&mut self, links: &mut Links, output: Output<Link>) {
        match output {
            Output::Publish(update) => self.publish(links, &update.message()),
            Output::Hugz(sequence) => self.publish(links, &bare(HUGZ, sequence)),
            Output::Snapshot {
                client,
                view,
                with_recent,
            } => {
                let sending = Sending {
                    view,
                    after: None,
                    recent_after: with_recent.then_some(0),
                    values_sent: false,
                };
                // One that asks twice gets the newer one.
                if self.sending.insert(client, sending).is_some() {
                    self.machine.snapshot_ended();
                }
                self.send_piece(links, client);
            }
            Output::Tell {
                role,
                state,
                rounds,
                current,
                preempts,
                update,
            } => {
                let tidings = Tidings {
                    role,
                    state: Some(state),
                    rounds,
                    current,
                    preempts,
                    update: update.as_ref().map(Update::message),
                };
                tidings.encode(|frames| links.publish(self.sockets.state, frames));
            }
            Output::AskPeer => {
                match self.peer {
                    Some((link, false)) => return self.ask_peer(links, link),
                    // What was asked before may still be under way.
                    Some((link, true)) => links.hang_up(link),
                    None => {}
                }
                self.asks_peer = true;
            }
            Output::Role(role) => self.news.push(News::Role(role)),
            Output::Step { role, in_step } => self.news.push(News::Step { role, in_step }),
            // Without room it hears of it with the next heartbeat, if it keeps up.
            Output::Greet { client, sequence } => {
                let heartbeat = bare(HUGZ, sequence);
                let _ = heartbeat.encode(self.form, |frames| links.send(client, frames));
            }
        }
    }

    fn ask_peer(&mut self, links: &mut Links, link: Link) {
        // Without room it is asked again later.
        let _ = links.send(link, &[ICANHAZ, b"", RECENT]);
        self.peer = Some((link, true));
        self.asks_peer = false;
    }

    fn publish(&mut self, links: &mut Links, message: &KeyValue<'_>) {
        let publisher = self.sockets.publisher;
        let dropped = links.counters(publisher).dropped;
        message.encode(self.form, |frames| links.publish(publisher, frames));
        if links.counters(publisher).dropped == dropped {
            return;
        }
        let room_bytes =
            FRAMING_BYTES_MAX + message.key.len() + message.properties.len() + message.body.len();
        let peers: Vec<Link> = links.peers(publisher).collect();
        for link in peers {
            let is_full = links.waiting_bytes(link) + room_bytes > SUBSCRIBER_WAITING_BYTES_MAX;
            if is_full && links.reaches(link, message.key) {
                self.slow_subscribers += 1;
                links.hang_up(link);
            }
        }
    }

    /// Sends as much of a snapshot as should wait at once.
    fn send_piece(&mut self, links: &mut Links, client: Link) {
        let now_ns = links.now_ns();
        let form = self.form;
        let Some(sending) = self.sending.get_mut(&client) else {
            return;
        };
        let is_full = |links: &Links| links.waiting_bytes(client) >= PIECE_BYTES;
        let mut failed = false;
        let mut send = |links: &mut Links, message: &KeyValue<'_>, form| {
            failed |= message
                .encode(form, |frames| links.send(client, frames))
                .is_err();
            !failed && !is_full(links)
        };
        let mut has_room = true;
        if !sending.values_sent {
            sending.values_sent = true;
            let after = sending.after.take();
            for (key, value) in sending.view.values_after(after.as_deref()) {
                let update = Update {
                    key: key.clone(),
                    value: value.clone(),
                };
                let mut message = update.message();
                // What is left of its time, for those who count from now.
                let left_ns = value
                    .expires_ns
                    .map(|at_ns| at_ns.saturating_sub(now_ns).max(1));
                let properties = left_ns
                    .map(|left_ns| with_ttl(&value.properties, Duration::from_nanos(left_ns)));
                if let Some(properties) = &properties {
                    message.properties = properties;
                }
                has_room = send(links, &message, form);
                if !has_room {
                    sending.values_sent = false;
                    sending.after = Some(key.clone());
                    break;
                }
            }
        }
        if has_room && let Some(after) = sending.recent_after {
            let mut last = after;
            for (sequence, uuid) in sending.view.recent_after(after) {
                last = sequence;
                let message = KeyValue {
                    uuid: Some(uuid),
                    ..bare(b"", sequence)
                };
                has_room = send(links, &message, form);
                if !has_room {
                    break;
                }
            }
            sending.recent_after = Some(last);
        }
        if has_room {
            let last = KeyValue {
                body: sending.view.subtree(),
                ..bare(KTHXBAI, sending.view.sequence())
            };
            send(links, &last, form);
        } else if !failed {
            links.tell_when_sent(client);
            return;
        }
        if failed {
            links.hang_up(client);
        }
        self.sending.remove(&client);
        self.machine.snapshot_ended();
    }
}

fn bare(key: &[u8], sequence: u64) -> KeyValue<'_> {
    KeyValue {
        key,
        sequence,
        uuid: None,
        properties: b"",
        body: b"",
    }
}

impl Application for Edge {
    fn on_message(&mut self, links: &mut Links, link: Link, frames: &[&[u8]]) {
        let now = self.begin(links);
        let sockets = self.sockets;
        if link.socket == sockets.collector {
            match KeyValue::decode(frames) {
                // It is counted why.
                Ok(message) => drop(self.machine.on_update(message, now)),
                Err(_) => self.machine.on_malformed(),
            }
        } else if link.socket == sockets.snapshot {
            self.machine.on_request(link, frames, now);
        } else if link.socket == sockets.peer_state {
            match Tidings::decode(frames) {
                Ok(tidings) => {
                    let hearing = self.hearing.as_mut();
                    self.news
                        .extend(hearing.and_then(|hearing| hearing.heard(now.ns)));
                    if let Err(fatal) = self.machine.on_peer(&tidings, now) {
                        self.fail(fatal.to_string());
                    }
                }
                Err(_) => self.malformed_peer += 1,
            }
        } else if link.socket == sockets.peer_snapshot
            && self.peer.is_some_and(|(current, _)| current == link)
            && self.machine.on_peer_snapshot(frames, now).is_err()
        {
            self.malformed_peer += 1;
        }
    }

    fn on_open(&mut self, links: &mut Links, link: Link) {
        self.note_peer(link.socket, None);
        if link.socket == self.sockets.peer_snapshot {
            self.peer = Some((link, false));
            if self.asks_peer {
                self.ask_peer(links, link);
            }
        }
    }

    fn on_subscription(
        &mut self,
        links: &mut Links,
        link: Link,
        subscription: Subscription<'_>,
        _shift: Shift,
    ) {
        self.begin(links);
        if link.socket == self.sockets.publisher
            && let Subscription::Start(prefix) = subscription
            && HUGZ.starts_with(prefix)
        {
            self.machine.on_subscriber(link);
        }
    }

    fn on_room(&mut self, links: &mut Links, link: Link) {
        self.send_piece(links, link);
    }

    fn on_refused(&mut self, socket: SocketId, _endpoint: Option<&str>, end: &End) {
        self.note_peer(socket, Some(end));
    }

    fn on_close(&mut self, _links: &mut Links, link: Link, end: &End, _orphaned: &[Box<[u8]>]) {
        self.note_peer(link.socket, Some(end));
        if self.peer.is_some_and(|(current, _)| current == link) {
            self.peer = None;
        } else if link.socket == self.sockets.snapshot {
            self.machine.on_gone(link);
            if self.sending.remove(&link).is_some() {
                self.machine.snapshot_ended();
            }
        }
    }

    fn on_turn_end(&mut self, links: &mut Links) {
        let now = self.begin(links);
        self.has_begun = false;
        let hearing = self.hearing.as_mut();
        self.news
            .extend(hearing.and_then(|hearing| hearing.overdue(now.ns)));
        if let Some(changes) = self.machine.changes()
            && let Some(store) = &mut self.store
            && let Err(failure) = store.commit(&changes, now)
        {
            self.failure.get_or_insert(failure);
        }
        if self.failure.is_some() {
            return;
        }
        // Read again: the process may have been stopped meanwhile.
        let now = self.now();
        self.machine.committed(now);
        while let Some(output) = self.machine.output() {
            self.act(links, output);
        }
    }

    fn due_ns(&self) -> Option<u64> {
        Some(self.machine.due_ns())
    }
}
