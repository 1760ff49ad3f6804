//! Which connection a message came by, where its publisher's restarts are told by that.
//!
//! The monitor tells of a new connection at a time of its own: the lane may have read much of what came by it, or nothing
//! yet of what came before. But each message bears the properties of its peer, which libzmq keeps once for all messages of
//! a connection, for as long as there are any. So where they lie tells connections apart, as long as one message of each
//! is kept.

use std::{cell::Cell, collections::VecDeque, mem};

use zmq::Message;

/// The most connections that are told apart. Those that brought their first message before these are new again.
const PEERS_MAX: usize = 256;
/// What every peer says of itself, but for those of ZMTP 2 and before, and those over inproc.
const PROPERTY: &str = "Socket-Type";

/// The connections of a socket that have brought a message, the newest last.
#[derive(Default)]
pub(super) struct Peers {
    known: VecDeque<Peer>,
    /// The place of the one that the last message came by.
    last: usize,
}

struct Peer {
    number: u32,
    properties_at: usize,
    /// Keeps the properties where they are.
    _kept: Message,
}

impl Peers {
    /// Returns the number of the connection that a message came by, where that can be told. A connection gets the next one
    /// of `numbers` with its first message.
    pub(super) fn number_of(&mut self, message: &mut Message, numbers: &Cell<u32>) -> Option<u32> {
        let properties_at = message.gets(PROPERTY)?.as_ptr().addr();
        if let Some(peer) = self.known.get(self.last)
            && peer.properties_at == properties_at
        {
            return Some(peer.number);
        }
        self.number_of_other(properties_at, message, numbers)
    }

    /// Returns the number of the connection that the last message came by.
    pub(super) fn last_number(&self) -> Option<u32> {
        self.known.get(self.last).map(|peer| peer.number)
    }

    #[cold]
    fn number_of_other(
        &mut self,
        properties_at: usize,
        message: &mut Message,
        numbers: &Cell<u32>,
    ) -> Option<u32> {
        let is_it = |peer: &Peer| peer.properties_at == properties_at;
        if let Some(place) = self.known.iter().position(is_it) {
            self.last = place;
            return Some(self.known[place].number);
        }
        if self.known.len() == PEERS_MAX {
            self.known.pop_front();
        }
        numbers.set(numbers.get().saturating_add(1));
        let copy = Message::from(&message[..]);
        self.last = self.known.len();
        self.known.push_back(Peer {
            number: numbers.get(),
            properties_at,
            _kept: mem::replace(message, copy),
        });
        Some(numbers.get())
    }
}
