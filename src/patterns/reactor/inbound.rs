//! The side of a connection that receives: its handshake, and what has come and is not used yet.

use std::io::Read;

use socket2::Socket;

use crate::{
    clock::{Deadline, SECOND_NS},
    net::is_not_ready,
    patterns::reactor::{Application, End, Links, dial::Dial},
    zmtp::{
        Command, Cut, Frames, Handshake, SocketType, Splitter, Subscription, Violation, encode_pong,
    },
};

/// Memory that a connection keeps for the next large message.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// The least that is read of a large message at once.
const PIECE_BYTES_MIN: usize = 64 * 1024;

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// It is being made.
    Connecting,
    /// The handshake is going on.
    Meeting(Handshake),
    /// Messages can come.
    Up(Splitter),
}

/// The receiving side.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) phase: Phase,
    /// The dial that made it, if it was not accepted.
    pub(super) dial: Option<usize>,
    /// By when the handshake has to be done.
    pub(super) handshake_by: Deadline,
    /// What has come and is not used yet.
    held: Vec<u8>,
    /// How many bytes there have to be for anything to be cut off.
    need_bytes: usize,
    /// When something came last, by the reactor's clock, in nanoseconds.
    pub(super) heard_ns: u64,
    /// When the last heartbeat was sent that nothing has followed yet.
    pub(super) asked_ns: Option<u64>,
    /// How long the peer said that it may be silent for, in nanoseconds, 0 for any time.
    pub(super) silence_ns_max: u64,
}

/// Where what was read lies.
pub(super) enum Found {
    /// In front of the shared buffer, so many bytes.
    Shared(usize),
    /// In the connection's own.
    Own(Vec<u8>),
    /// Part of a large message, which is kept.
    Part,
    /// Nothing came.
    Nothing,
}

impl Inbound {
    pub(super) fn new(phase: Phase, dial: Option<usize>, handshake_by: Deadline) -> Self {
        Self {
            phase,
            dial,
            handshake_by,
            held: Vec::new(),
            need_bytes: 0,
            heard_ns: 0,
            asked_ns: None,
            silence_ns_max: 0,
        }
    }

    /// Reads once: into the buffer that all connections share, behind what is held, or for a message that
    /// does not fit there into memory of its own, which grows as it arrives.
    pub(super) fn read(&mut self, mut socket: &Socket, shared: &mut [u8]) -> Result<Found, End> {
        let is_large = self.held.len().max(self.need_bytes) > shared.len() / 2;
        let held_bytes = self.held.len();
        let outcome = if is_large {
            let room = self.need_bytes.saturating_sub(held_bytes);
            let room = room.clamp(PIECE_BYTES_MIN, held_bytes.max(PIECE_BYTES_MIN));
            self.held.resize(held_bytes + room, 0);
            let outcome = socket.read(&mut self.held[held_bytes..]);
            let read = *outcome.as_ref().unwrap_or(&0);
            self.held.truncate(held_bytes + read);
            outcome
        } else {
            shared[..held_bytes].copy_from_slice(&self.held);
            socket.read(&mut shared[held_bytes..])
        };
        match outcome {
            Ok(0) => Err(End::Lost),
            Ok(_) if is_large && self.held.len() < self.need_bytes => Ok(Found::Part),
            Ok(_) if is_large => Ok(Found::Own(std::mem::take(&mut self.held))),
            Ok(read) => {
                self.held.clear();
                Ok(Found::Shared(held_bytes + read))
            }
            Err(nothing) if is_not_ready(&nothing) => Ok(Found::Nothing),
            Err(_) => Err(End::Lost),
        }
    }

    /// Keeps what was not used for the next read.
    pub(super) fn keep(&mut self, left: &[u8]) {
        self.held.clear();
        self.held.shrink_to(KEPT_BYTES_MAX);
        self.held.extend_from_slice(left);
    }

    /// Passes on what is whole of `bytes`. Returns how many of them are used.
    pub(super) fn understand(
        &mut self,
        bytes: &[u8],
        place: u32,
        links: &mut Links,
        dials: &mut [Dial],
        application: &mut impl Application,
    ) -> Result<usize, End> {
        let mut used = 0;
        if let Phase::Meeting(handshake) = &mut self.phase {
            let Some(outbound) = &mut links.outbound[place as usize] else {
                return Ok(0);
            };
            let progress = handshake
                .advance(bytes, outbound.aside())
                .map_err(End::Violation)?;
            used = progress.consumed;
            let link = outbound.link;
            links.soil(place);
            let Some(peer) = progress.peer else {
                return Ok(used);
            };
            self.phase = Phase::Up(Splitter::new(links.sockets[link.socket.0].plan.limits));
            links.meet(place, peer.version, peer.met_as);
            if let Some(index) = self.dial {
                dials[index].reached();
            }
            application.on_open(links, link);
        }
        let mut frames = Frames::default();
        loop {
            let Some(outbound) = &mut links.outbound[place as usize] else {
                return Ok(used);
            };
            let (link, Some((_, met_as)), Phase::Up(splitter)) =
                (outbound.link, outbound.met, &mut self.phase)
            else {
                return Ok(used);
            };
            if outbound.is_over {
                return Err(End::HungUp);
            }
            let publishes = matches!(met_as, SocketType::Pub | SocketType::XPub);
            let (cut, length) = splitter
                .cut(&bytes[used..], &mut frames)
                .map_err(End::Violation)?;
            let mut change = None;
            match cut {
                Cut::Need(need_bytes) => {
                    self.need_bytes = need_bytes;
                    return Ok(used);
                }
                Cut::Skipped => {}
                Cut::Oversize(..) => links.count(link.socket).oversize += 1,
                Cut::Message => {
                    let frames = frames.as_slice();
                    if publishes && frames.len() == 1 {
                        change = Subscription::decode_message(frames[0]);
                    }
                    // What an XSUB says beside its subscriptions is for an XPUB.
                    if change.is_none() && met_as != SocketType::Pub {
                        links.count(link.socket).received += 1;
                        application.on_message(links, link, frames);
                    }
                }
                Cut::Command(body) => match Command::decode(body).map_err(End::Violation)? {
                    Command::Subscription(subscription) if publishes => change = Some(subscription),
                    Command::Ping {
                        ttl_deciseconds,
                        context,
                    } => {
                        self.silence_ns_max = u64::from(ttl_deciseconds) * SECOND_NS / 10;
                        encode_pong(outbound.aside(), context);
                        links.soil(place);
                    }
                    Command::Error { .. } => return Err(End::Violation(Violation::Refused)),
                    _ => {}
                },
            }
            if let Some(change) = change {
                let shift = links
                    .change_audience(link, change)
                    .map_err(|_| End::TooManyPrefixes)?;
                application.on_subscription(links, link, change, shift);
            }
            used += length;
        }
    }
}
