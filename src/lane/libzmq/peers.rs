//! Which connection a message came by, where its publisher's restarts are told by that.
//!
//! The monitor tells of a new connection at a time of its own: the lane may have read much of what came by it, or nothing
//! yet of what came before. But each message bears the properties of its peer, which libzmq keeps once for all messages
//! of a connection, for as long as there are any. So where they lie tells connections apart, as long as one message of
//! each is kept.

use crate::libzmq::Frame;

/// The most connections that are told apart beside as many as there are. The one that has brought nothing for longest is
/// new when it does again.
const PEERS_GONE_MAX: usize = 16;

/// The connections of a socket that have brought a message.
#[derive(Default)]
pub(super) struct Peers {
    known: Vec<Peer>,
    /// The place of the one that the last message came by, if that can be told.
    last: Option<usize>,
    /// How often another connection than the last has brought a message.
    turns: u64,
    /// The most that are told apart.
    known_max: usize,
}

struct Peer {
    number: u32,
    properties_at: usize,
    /// The last of its turns.
    turn: u64,
    /// Keeps the properties where they are.
    _kept: Frame,
}

impl Peers {
    /// Takes note of how many connections there are.
    pub(super) fn set_connections(&mut self, up: u64) {
        self.known_max = (up as usize).saturating_add(PEERS_GONE_MAX);
    }

    /// Returns the number of the connection that a message came by, where that can be told. With its first message a
    /// connection gets the number behind `newest`.
    #[inline]
    pub(super) fn number_of(&mut self, frames: &mut [Frame], newest: &mut u32) -> Option<u32> {
        let properties_at = frames[0].properties_at();
        if let Some(peer) = self.last.map(|last| &self.known[last])
            && Some(peer.properties_at) == properties_at
        {
            return Some(peer.number);
        }
        self.last = properties_at.map(|at| self.place_of(at, frames, newest));
        self.last_number()
    }

    /// Returns the number of the connection that the last message came by, where that can be told.
    pub(super) fn last_number(&self) -> Option<u32> {
        self.last.map(|last| self.known[last].number)
    }

    /// The place of another connection than the last one.
    fn place_of(&mut self, properties_at: usize, frames: &mut [Frame], newest: &mut u32) -> usize {
        self.turns += 1;
        let turn = self.turns;
        // Libzmq has them take turns.
        let next = self.last.map_or(0, |last| last + 1);
        let mut places = (next..self.known.len()).chain(0..next);
        if let Some(place) = places.find(|&place| self.known[place].properties_at == properties_at)
        {
            self.known[place].turn = turn;
            return place;
        }
        *newest = newest.saturating_add(1);
        let shortest = frames.iter_mut().min_by_key(|frame| frame.len());
        let peer = Peer {
            number: *newest,
            properties_at,
            turn,
            _kept: shortest.expect("a message has a frame").share(),
        };
        if self.known.len() < self.known_max.max(PEERS_GONE_MAX) {
            self.known.push(peer);
            return self.known.len() - 1;
        }
        let places = 0..self.known.len();
        let longest_silent = places.min_by_key(|&place| self.known[place].turn);
        let place = longest_silent.expect("there are some");
        self.known[place] = peer;
        place
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use zmq::SocketType;

    use super::*;
    use crate::libzmq::{Context, Socket};

    /// A socket that is pushed to, and where.
    fn pulled(context: &Context, endpoint: &str) -> (Socket, String) {
        let socket = context.socket(SocketType::PULL).unwrap();
        let bound = socket.bind(endpoint).unwrap();
        (socket, bound)
    }

    fn pushing(context: &Context, endpoint: &str) -> Socket {
        let socket = context.socket(SocketType::PUSH).unwrap();
        socket.set_linger(-1).unwrap();
        socket.connect(endpoint).unwrap();
        socket
    }

    /// Receives a message of each of so many connections, and returns their numbers by what the messages say.
    fn numbers(
        pull: &Socket,
        peers: &mut Peers,
        newest: &mut u32,
        count: usize,
    ) -> Vec<Option<u32>> {
        let mut frame = [Frame::new()];
        let mut numbers = vec![None; count];
        for _ in 0..count {
            pull.receive(&mut frame[0], true).unwrap();
            let number = peers.number_of(&mut frame, newest);
            assert_eq!(peers.last_number(), number);
            numbers[usize::from(frame[0][0])] = number;
        }
        numbers
    }

    fn push_all(pushers: &[Socket]) {
        for (index, pusher) in (0_u8..).zip(pushers) {
            pusher.send([index].as_slice(), 0).unwrap();
        }
    }

    #[test]
    fn connections_keep_their_numbers_whoever_has_its_turn() {
        const PUSHERS: usize = PEERS_GONE_MAX + 4;
        let context = Context::new(1, 40).unwrap();
        let (pull, endpoint) = pulled(&context, "tcp://127.0.0.1:*");
        let pushers: Vec<Socket> = iter::repeat_with(|| pushing(&context, &endpoint))
            .take(PUSHERS)
            .collect();
        let (mut peers, mut newest) = (Peers::default(), 0);
        peers.set_connections(PUSHERS as u64);
        push_all(&pushers);
        let first = numbers(&pull, &mut peers, &mut newest, PUSHERS);
        let mut sorted: Vec<u32> = first.iter().copied().flatten().collect();
        sorted.sort_unstable();
        assert_eq!(sorted, (1..=PUSHERS as u32).collect::<Vec<_>>());
        for _ in 0..20 {
            push_all(&pushers);
            assert_eq!(numbers(&pull, &mut peers, &mut newest, PUSHERS), first);
        }
        assert_eq!(newest, PUSHERS as u32);
    }

    #[test]
    fn the_connection_that_was_silent_for_longest_is_forgotten_first() {
        let context = Context::new(1, 200).unwrap();
        let (pull, endpoint) = pulled(&context, "tcp://127.0.0.1:*");
        let (mut peers, mut newest) = (Peers::default(), 0);
        let steady = [pushing(&context, &endpoint)];
        let silent = [pushing(&context, &endpoint)];
        let mut number_of = |pushers: &[Socket]| {
            push_all(pushers);
            numbers(&pull, &mut peers, &mut newest, 1)[0]
        };
        assert_eq!([number_of(&steady), number_of(&silent)], [Some(1), Some(2)]);
        for number in 3..=PEERS_GONE_MAX as u32 + 1 {
            let short = [pushing(&context, &endpoint)];
            assert_eq!(number_of(&short), Some(number));
            assert_eq!(number_of(&steady), Some(1), "{number}");
        }
        assert_eq!(number_of(&silent), Some(PEERS_GONE_MAX as u32 + 2));
        assert_eq!(peers.known.len(), PEERS_GONE_MAX);
    }

    #[test]
    fn peers_that_say_nothing_of_themselves_are_not_told_apart() {
        let context = Context::new(1, 20).unwrap();
        let (pull, endpoint) = pulled(&context, "tcp://127.0.0.1:*");
        pull.bind("inproc://peers").unwrap();
        let (mut peers, mut newest) = (Peers::default(), 0);
        let told = [pushing(&context, &endpoint)];
        let silent = [pushing(&context, "inproc://peers")];
        for (pushers, number) in [(&told, Some(1)), (&silent, None), (&told, Some(1))] {
            push_all(pushers);
            assert_eq!(numbers(&pull, &mut peers, &mut newest, 1), [number]);
        }
    }
}
