//! The peers of a reactor as an application sees them: whom to send what, and who is subscribed.
//!
//! What is sent waits in the peer's outbox until the turn ends, so that a burst leaves in few writes. A
//! peer whose outbox is full gets no more until it has taken some: the caller is told, and a publishing
//! socket counts the message as dropped for that peer.

use socket2::Socket;

use crate::{
    net::{Interest, Poller},
    patterns::reactor::{
        audience::{Audience, Shift, TooMany},
        outbox::Outbox,
    },
    zmtp::{
        Limits, SocketType, Subscription, Version, encode_ping, encode_subscription,
        frame::encode_message,
    },
};

/// Bytes that wait for a peer at which they are written before the turn is over.
const FLUSH_BYTES: usize = 128 * 1024;
/// What may wait beyond the limit on messages: answers to heartbeats and subscriptions.
const ASIDE_BYTES_MAX: usize = 64 << 20;

/// A socket of a reactor, by its place among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub(super) usize);

/// A connection with a peer. It names this one connection for ever: once it has ended, nothing that is
/// sent to it goes anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link {
    /// The socket that it belongs to.
    pub socket: SocketId,
    pub(super) place: u32,
    pub(super) life: u64,
}

/// What a socket is, and what it allows its peers.
#[derive(Clone, Copy, Debug)]
pub struct SocketPlan {
    /// What it is to its peers.
    pub socket_type: SocketType,
    /// What it can be as well, for peers that the first does not go with. Such a socket can be bound only.
    pub or: Option<SocketType>,
    /// What a peer may send.
    pub limits: Limits,
    /// The most that may wait to be sent to one peer, in bytes.
    pub waiting_bytes_max: usize,
}

impl SocketPlan {
    /// A socket of this type: frames and messages of up to 16 MiB, of up to 64 frames, and 16 MiB that
    /// may wait for a peer.
    #[must_use]
    pub fn new(socket_type: SocketType) -> Self {
        const MESSAGE_BYTES_MAX: usize = 16 << 20;
        Self {
            socket_type,
            or: None,
            limits: Limits {
                frame_bytes_max: MESSAGE_BYTES_MAX,
                message_bytes_max: MESSAGE_BYTES_MAX,
                frames_max: 64,
            },
            waiting_bytes_max: MESSAGE_BYTES_MAX,
        }
    }
}

/// What a peer has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much waits to be sent to this peer, or it is gone")]
pub struct NoRoom;

/// What has been counted of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketCounters {
    /// Handshakes that were done.
    pub opened: u64,
    /// Connections that ended, of those.
    pub closed: u64,
    /// Peers that were hung up on because of what they did, or did not do.
    pub rejected: u64,
    /// Messages received.
    pub received: u64,
    /// Messages larger than the limits, which were thrown away.
    pub oversize: u64,
    /// Messages put into outboxes, one for each peer, without those given up since.
    pub sent: u64,
    /// Messages that a peer had no room for, or that waited for one when its connection ended, one for each peer.
    /// What the kernel held then is not known.
    pub dropped: u64,
}

/// What a socket has beyond its peers.
#[derive(Debug)]
pub(super) struct SocketState {
    pub(super) plan: SocketPlan,
    /// What it is subscribed to, and how often.
    wanted: std::collections::BTreeMap<Box<[u8]>, u32>,
    /// Who is subscribed to it.
    audience: Audience,
    /// Its peers, whose handshakes are done.
    peers: Vec<u32>,
    counters: SocketCounters,
}

/// The side of a connection that sends.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) link: Link,
    pub(super) stream: Socket,
    outbox: Outbox,
    /// What both sides speak, and what this side is, once the handshake is done.
    pub(super) met: Option<(Version, SocketType)>,
    /// Whether the socket's writing has failed, or the application wants no more of it.
    pub(super) is_over: bool,
    /// Whether it is over because writing failed: the peer is gone.
    pub(super) is_broken: bool,
    pub(super) interest: Interest,
    /// Whether it is among those to be written at the end of the turn.
    is_dirty: bool,
    /// Whether an application waits to be told that there is room.
    pub(super) wants_room: bool,
    waiting_bytes_max: usize,
}

/// A connection that has ended.
#[derive(Debug)]
pub(super) struct Removed {
    pub(super) outbound: Outbound,
    /// The prefixes that nobody is subscribed to any more.
    pub(super) orphaned: Vec<Box<[u8]>>,
    /// Messages that waited for the peer.
    pub(super) given_up: u64,
}

/// The peers of a reactor.
#[derive(Debug)]
pub struct Links {
    pub(super) sockets: Vec<SocketState>,
    pub(super) outbound: Vec<Option<Outbound>>,
    /// Places of those to be written.
    pub(super) dirty: Vec<u32>,
    encoded: Vec<u8>,
    reached: Vec<u32>,
    lives: u64,
    pub(super) now_ns: u64,
}

impl Links {
    pub(super) fn new() -> Self {
        Self {
            sockets: Vec::new(),
            outbound: Vec::new(),
            dirty: Vec::new(),
            encoded: Vec::new(),
            reached: Vec::new(),
            lives: 0,
            now_ns: 0,
        }
    }

    pub(super) fn add_socket(&mut self, plan: SocketPlan) -> SocketId {
        self.sockets.push(SocketState {
            plan,
            wanted: Default::default(),
            audience: Audience::default(),
            peers: Vec::new(),
            counters: SocketCounters::default(),
        });
        SocketId(self.sockets.len() - 1)
    }

    /// Returns the time of the turn, by the reactor's clock, in nanoseconds.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Returns what has been counted of a socket.
    #[must_use]
    pub fn counters(&self, socket: SocketId) -> SocketCounters {
        self.sockets[socket.0].counters
    }

    pub(super) fn count(&mut self, socket: SocketId) -> &mut SocketCounters {
        &mut self.sockets[socket.0].counters
    }

    /// Returns the peers of a socket, whose handshakes are done.
    pub fn peers(&self, socket: SocketId) -> impl Iterator<Item = Link> {
        let places = self.sockets[socket.0].peers.iter();
        places.filter_map(|&place| Some(self.outbound[place as usize].as_ref()?.link))
    }

    /// Tells whether a connection goes on.
    #[must_use]
    pub fn is_open(&self, link: Link) -> bool {
        self.open(link).is_some()
    }

    /// Returns what this side is to the peer, as long as the connection goes on: of a socket of either of
    /// two types the one that went with it.
    #[must_use]
    pub fn met_as(&self, link: Link) -> Option<SocketType> {
        self.open(link)?.met.map(|(_, met_as)| met_as)
    }

    fn open(&self, link: Link) -> Option<&Outbound> {
        let outbound = self.outbound.get(link.place as usize)?.as_ref()?;
        (outbound.link == link && !outbound.is_over).then_some(outbound)
    }

    fn open_mut(&mut self, link: Link) -> Option<&mut Outbound> {
        let outbound = self.outbound.get_mut(link.place as usize)?.as_mut()?;
        (outbound.link == link && !outbound.is_over).then_some(outbound)
    }

    /// Returns how many bytes wait to be sent to a peer.
    #[must_use]
    pub fn waiting_bytes(&self, link: Link) -> usize {
        self.open(link).map_or(0, |outbound| outbound.outbox.len())
    }

    /// Sends a message to one peer.
    ///
    /// # Errors
    /// [`NoRoom`], and nothing was sent.
    pub fn send(&mut self, link: Link, frames: &[&[u8]]) -> Result<(), NoRoom> {
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        encode_message(&mut encoded, frames);
        let sent = match self.open(link) {
            Some(_) => self.append(link.place, &encoded),
            None => Err(NoRoom),
        };
        self.encoded = encoded;
        sent
    }

    /// Sends a message to all subscribers of a publishing socket that its first frame reaches, and returns
    /// how many they were. Those that have no room are counted as [`SocketCounters::dropped`].
    pub fn publish(&mut self, socket: SocketId, frames: &[&[u8]]) -> usize {
        self.publish_where(socket, frames, |_| true, |_| ())
    }

    /// Does what [`publish`](Self::publish) does, but leaves out those for whom `may` does not hold, and
    /// names those that have no room.
    pub fn publish_where(
        &mut self,
        socket: SocketId,
        frames: &[&[u8]],
        mut may: impl FnMut(Link) -> bool,
        mut no_room: impl FnMut(Link),
    ) -> usize {
        let Some(topic) = frames.first() else {
            return 0;
        };
        let mut reached = std::mem::take(&mut self.reached);
        self.sockets[socket.0]
            .audience
            .reached_by(topic, &mut reached);
        let mut sent = 0;
        if !reached.is_empty() {
            let mut encoded = std::mem::take(&mut self.encoded);
            encoded.clear();
            encode_message(&mut encoded, frames);
            for &place in &reached {
                let Some(link) = self.outbound[place as usize].as_ref().map(|one| one.link) else {
                    continue;
                };
                if !may(link) {
                    continue;
                }
                match self.append(place, &encoded) {
                    Ok(()) => sent += 1,
                    Err(NoRoom) => no_room(link),
                }
            }
            self.encoded = encoded;
        }
        self.reached = reached;
        sent
    }

    /// Returns the address of a peer, as long as the connection goes on: `HOST:PORT`, or `ipc` and a number
    /// for one that came by a Unix socket.
    #[must_use]
    pub fn peer_name(&self, link: Link) -> Option<String> {
        let address = self.open(link)?.stream.peer_addr().ok()?;
        Some(match address.as_socket() {
            Some(address) => address.to_string(),
            None => format!("ipc {}", link.life),
        })
    }

    /// Appends a message to what waits for a peer.
    fn append(&mut self, place: u32, encoded: &[u8]) -> Result<(), NoRoom> {
        let Some(outbound) = &mut self.outbound[place as usize] else {
            return Err(NoRoom);
        };
        let counters = &mut self.sockets[outbound.link.socket.0].counters;
        let waiting_bytes = outbound.outbox.len();
        // A message that is larger than the limit by itself goes alone.
        let fits =
            waiting_bytes == 0 || waiting_bytes + encoded.len() <= outbound.waiting_bytes_max;
        if outbound.is_over || outbound.met.is_none() || !fits {
            counters.dropped += 1;
            return Err(NoRoom);
        }
        counters.sent += 1;
        outbound.outbox.room().extend_from_slice(encoded);
        if waiting_bytes + encoded.len() >= FLUSH_BYTES && outbound.interest == Interest::Read {
            outbound.write();
        }
        self.soil(place);
        Ok(())
    }

    /// Has a peer's outbox looked at when the turn ends.
    pub(super) fn soil(&mut self, place: u32) {
        if let Some(outbound) = &mut self.outbound[place as usize]
            && !outbound.is_dirty
        {
            outbound.is_dirty = true;
            self.dirty.push(place);
        }
    }

    /// Has the application told, by [`on_room`](super::Application::on_room), when all that waits for a
    /// peer has been sent.
    pub fn tell_when_sent(&mut self, link: Link) {
        if let Some(outbound) = self.open_mut(link) {
            outbound.wants_room = true;
            // Else the poller tells when the socket takes more, and it would be tried in vain before.
            if outbound.interest != Interest::ReadWrite {
                self.soil(link.place);
            }
        }
    }

    /// Hangs up on a peer. What waits for it is given up.
    pub fn hang_up(&mut self, link: Link) {
        if let Some(outbound) = self.open_mut(link) {
            outbound.is_over = true;
            self.soil(link.place);
        }
    }

    /// Subscribes a socket to a prefix: with all of its peers, also those that come later. Each call needs
    /// a [`cancel`](Self::cancel).
    pub fn subscribe(&mut self, socket: SocketId, prefix: &[u8]) {
        let wanted = &mut self.sockets[socket.0].wanted;
        let count = wanted.entry(prefix.into()).or_insert(0);
        *count += 1;
        if *count == 1 {
            self.tell_peers(socket, Subscription::Start(prefix));
        }
    }

    /// Ends a subscription to a prefix.
    pub fn cancel(&mut self, socket: SocketId, prefix: &[u8]) {
        let wanted = &mut self.sockets[socket.0].wanted;
        let Some(count) = wanted.get_mut(prefix) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            wanted.remove(prefix);
            self.tell_peers(socket, Subscription::End(prefix));
        }
    }

    fn tell_peers(&mut self, socket: SocketId, subscription: Subscription<'_>) {
        for index in 0..self.sockets[socket.0].peers.len() {
            let place = self.sockets[socket.0].peers[index];
            if let Some(outbound) = &mut self.outbound[place as usize] {
                outbound.tell(subscription);
                self.soil(place);
            }
        }
    }

    /// Tells whether a topic reaches a subscriber.
    #[must_use]
    pub fn reaches(&self, link: Link, topic: &[u8]) -> bool {
        let audience = &self.sockets[link.socket.0].audience;
        self.is_open(link) && audience.reaches(link.place, topic)
    }

    /// Returns all prefixes that a publishing socket's peers are subscribed to, each once, in no order.
    pub fn subscriptions(&self, socket: SocketId) -> impl Iterator<Item = &[u8]> {
        self.sockets[socket.0].audience.prefixes()
    }

    pub(super) fn change_audience(
        &mut self,
        link: Link,
        subscription: Subscription<'_>,
    ) -> Result<Shift, TooMany> {
        let audience = &mut self.sockets[link.socket.0].audience;
        match subscription {
            Subscription::Start(prefix) => audience.subscribe(link.place, prefix),
            Subscription::End(prefix) => Ok(audience.cancel(link.place, prefix)),
        }
    }

    /// Gives up what waits for peers, counts it as dropped, and tells how many messages it was of each. For the end:
    /// a message that was sent in part is never completed.
    pub fn give_up(&mut self, mut lost: impl FnMut(Link, u64)) {
        for outbound in self.outbound.iter_mut().flatten() {
            let messages = outbound.give_up(&mut self.sockets[outbound.link.socket.0].counters);
            if messages > 0 {
                lost(outbound.link, messages);
            }
        }
    }

    /// Tells whether anything waits for anyone.
    pub(super) fn are_waiting(&self) -> bool {
        let mut peers = self.outbound.iter().flatten();
        peers.any(|outbound| !outbound.is_over && outbound.outbox.len() > 0)
    }

    /// Takes in a connection, at a place that is free.
    pub(super) fn add(&mut self, place: u32, socket: SocketId, stream: Socket, interest: Interest) {
        self.lives += 1;
        let link = Link {
            socket,
            place,
            life: self.lives,
        };
        self.outbound[place as usize] = Some(Outbound {
            link,
            stream,
            outbox: Outbox::default(),
            met: None,
            is_over: false,
            is_broken: false,
            interest,
            is_dirty: false,
            wants_room: false,
            waiting_bytes_max: self.sockets[socket.0].plan.waiting_bytes_max,
        });
    }

    /// Notes that a handshake is done, and asks the peer for what the socket is subscribed to.
    pub(super) fn meet(&mut self, place: u32, version: Version, met_as: SocketType) {
        let Some(outbound) = &mut self.outbound[place as usize] else {
            return;
        };
        outbound.met = Some((version, met_as));
        outbound.outbox.begin_frames();
        let socket = &mut self.sockets[outbound.link.socket.0];
        socket.peers.push(place);
        socket.counters.opened += 1;
        for prefix in socket.wanted.keys() {
            outbound.tell(Subscription::Start(prefix));
        }
        self.soil(place);
    }

    /// Removes a connection.
    pub(super) fn remove(&mut self, place: u32) -> Option<Removed> {
        let mut outbound = self.outbound[place as usize].take()?;
        let socket = &mut self.sockets[outbound.link.socket.0];
        let mut orphaned = Vec::new();
        if outbound.met.is_some() {
            socket.peers.retain(|&one| one != place);
            socket.counters.closed += 1;
            orphaned = socket.audience.leave(place);
        }
        Some(Removed {
            given_up: outbound.give_up(&mut socket.counters),
            outbound,
            orphaned,
        })
    }
}

impl Outbound {
    /// Returns where to append commands. There is always room; a peer that leaves too many
    /// unread is [over](Self::is_over).
    pub(super) fn aside(&mut self) -> &mut Vec<u8> {
        if self.outbox.len() > self.waiting_bytes_max.saturating_add(ASIDE_BYTES_MAX) {
            self.is_over = true;
        }
        self.outbox.room()
    }

    /// Gives up what waits, and returns how many messages that were. What one that publishes is asked for are
    /// subscriptions, and none of them.
    fn give_up(&mut self, counters: &mut SocketCounters) -> u64 {
        let messages = match self.met {
            None | Some((_, SocketType::Sub | SocketType::XSub)) => 0,
            Some(_) => self.outbox.messages(),
        };
        self.outbox.clear();
        counters.sent -= messages;
        counters.dropped += messages;
        messages
    }

    /// Tells whether anything waits for the peer to take it.
    pub(super) fn is_waiting(&self) -> bool {
        self.outbox.len() > 0
    }

    fn tell(&mut self, subscription: Subscription<'_>) {
        if let Some((version, SocketType::Sub | SocketType::XSub)) = self.met {
            encode_subscription(self.aside(), version, subscription);
        }
    }

    pub(super) fn ping(&mut self) {
        encode_ping(self.aside(), 0, b"");
    }

    /// Writes what the socket takes.
    pub(super) fn write(&mut self) {
        if self.outbox.write(&self.stream).is_err() {
            self.is_over = true;
            self.is_broken = true;
        }
    }

    /// Writes what the socket takes at the end of a turn, and has the poller say when it takes more.
    /// Returns whether all was sent.
    pub(super) fn settle(&mut self, poller: &Poller) -> bool {
        self.is_dirty = false;
        if self.interest == Interest::Write {
            // The connection is not made yet.
            return false;
        }
        self.write();
        let is_sent = self.outbox.len() == 0;
        let interest = if is_sent {
            Interest::Read
        } else {
            Interest::ReadWrite
        };
        if interest != self.interest {
            self.interest = interest;
            let changed = poller.change(&self.stream, self.link.place.into(), interest);
            self.is_over |= changed.is_err();
        }
        is_sent
    }
}
