//! One connection to a publisher: handshake, messages, heartbeats.
//!
//! Bytes are read into the lane's buffer, which all its connections share and which so stays in the
//! caches, and cut where they lie. What is left over, part of a message as a rule, is kept in the
//! connection until the next read, in front of which it is put. A message that is large is gathered in
//! the connection instead, in a buffer that grows as it arrives, so that what a peer merely announces
//! takes no memory, and what it sends bit by bit is not moved each time.

use std::{
    io::{Read, Write},
    os::fd::{AsFd, BorrowedFd},
};

use rustix::io::Errno;
use socket2::Socket;

use crate::{
    clock::SECOND_NS,
    config::Receive,
    error::Result,
    lane::native::sink::{Passed, Sink, pass_on},
    net::{Interest, is_not_ready},
    zmtp::{
        Command, Handshake, Limits, SocketType, Splitter, Subscription, Version, Violation,
        encode_ping, encode_pong, encode_subscription,
    },
};

/// Bytes not yet sent at which no more heartbeats are answered: the peer is not reading.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// Bytes not yet sent at which the connection is given up.
const UNREAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The size from which a message that has come in part is gathered in its connection, rather than put
/// back in front of the next read.
const GATHERED_BYTES_MIN: usize = 16 * 1024;
/// Room for what follows a large message, so that it comes with the same read: its next frames, or the messages
/// behind it.
const BEHIND_BYTES: usize = 64 * 1024;
/// Memory that a connection keeps for the next large message: for one of the default `message_bytes_max`, the heads of
/// its frames, and what is read behind it.
const KEPT_BYTES_MAX: usize = 1024 * 1024 + 2 * BEHIND_BYTES;
const MILLISECOND_NS: u64 = 1_000_000;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It could not be made.
    NotMade(Errno),
    /// The peer closed it, or the network did.
    Lost,
    /// The peer did what the protocol forbids.
    Violation(Violation),
    /// Its handshake took too long.
    HandshakeTimeout,
    /// The peer was silent for too long.
    HeartbeatTimeout,
    /// Likewise, with part of a message or of a command sent.
    MessageTimeout,
}

impl End {
    /// Says why a connection ended that was never up, for people. `refusal` is what the peer said of it.
    fn reason(self, is_connected: bool, refusal: Option<&str>) -> String {
        match (self, refusal) {
            (Self::Violation(Violation::Refused), Some(why)) => {
                format!("{}: {why}", Violation::Refused)
            }
            (Self::NotMade(refused), _) => refused.to_string(),
            (Self::Violation(violation), _) => violation.to_string(),
            (Self::HandshakeTimeout, _) if is_connected => "the handshake took too long".to_owned(),
            (Self::HandshakeTimeout, _) => "no answer".to_owned(),
            (Self::Lost | Self::HeartbeatTimeout | Self::MessageTimeout, _) => {
                "the peer hung up before the handshake was done".to_owned()
            }
        }
    }
}

/// How a read went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The connection goes on.
    Open,
    /// It does not.
    Ended(End),
}

enum State {
    Connecting,
    Shaking(Handshake),
    Up(Splitter, Version),
}

/// Who made a connection.
#[derive(Clone, Copy)]
pub(super) enum Made {
    /// The dialer with this place.
    Dialed(usize),
    /// A publisher, to the listener with this place.
    Accepted(usize),
}

/// A connection, from the moment it is begun.
pub(super) struct Connection {
    socket: Socket,
    /// The line it is for.
    pub line: usize,
    /// Its number among the line's, once it is up.
    number: u32,
    pub made: Made,
    socket_type: SocketType,
    state: State,
    limits: Limits,
    /// The first `held_bytes` are received and not used yet.
    held: Vec<u8>,
    held_bytes: usize,
    /// How many bytes there have to be for anything to be cut off.
    need_bytes: usize,
    /// To be sent, from `sent_bytes` on.
    out: Vec<u8>,
    sent_bytes: usize,
    interest: Interest,
    /// When it was begun, in nanoseconds of the pipeline's clock, as all times here.
    begun_ns: u64,
    heard_ns: u64,
    /// When the last heartbeat was sent that nothing has followed yet.
    asked_ns: Option<u64>,
    /// How long the peer said that it may be silent for, 0 for any time.
    peer_silence_ns: u64,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Connection {
    /// A connection for a line: one that is being made by a dialer, or one that a publisher has made.
    pub(super) fn new(
        socket: Socket,
        made: Made,
        line: usize,
        socket_type: SocketType,
        limits: Limits,
        now_ns: u64,
    ) -> Self {
        let mut connection = Self {
            socket,
            made,
            line,
            number: 0,
            socket_type,
            state: State::Connecting,
            limits,
            held: Vec::new(),
            held_bytes: 0,
            need_bytes: 0,
            out: Vec::new(),
            sent_bytes: 0,
            interest: Interest::Write,
            begun_ns: now_ns,
            heard_ns: now_ns,
            asked_ns: None,
            peer_silence_ns: 0,
        };
        if matches!(made, Made::Accepted(_)) {
            connection.shake();
        }
        connection
    }

    fn shake(&mut self) {
        let handshake = Handshake::start(self.socket_type, Version::V3_1, &mut self.out);
        self.state = State::Shaking(handshake);
    }

    /// What to wait for on its socket.
    pub(super) fn interest(&self) -> Interest {
        match (&self.state, self.out.is_empty()) {
            (State::Connecting, _) => Interest::Write,
            (_, true) => Interest::Read,
            (_, false) => Interest::ReadWrite,
        }
    }

    /// Returns what to wait for from now on, if that has changed since it was last asked.
    pub(super) fn changed_interest(&mut self) -> Option<Interest> {
        let interest = self.interest();
        let changed = interest != self.interest;
        self.interest = interest;
        changed.then_some(interest)
    }

    /// Tells whether the handshake is done.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(..))
    }

    /// Tells whether the peer's network has answered.
    pub(super) fn is_connected(&self) -> bool {
        !matches!(self.state, State::Connecting)
    }

    /// Says for people why it ended, if it was never up.
    pub(super) fn reason(&self, end: End) -> String {
        let refusal = match &self.state {
            State::Shaking(handshake) => handshake.refusal(),
            State::Connecting | State::Up(..) => None,
        };
        end.reason(self.is_connected(), refusal)
    }

    /// Tells whether part of a message has come.
    pub(super) fn is_within_message(&self) -> bool {
        match &self.state {
            State::Up(splitter, _) => splitter.is_within_message(&self.held[..self.held_bytes]),
            _ => false,
        }
    }

    /// Sends what there is room for, after the kernel has said that there is, or that the connection
    /// is made.
    pub(super) fn write(&mut self) -> Turn {
        if let State::Connecting = self.state {
            match self.socket.take_error() {
                Ok(None) => {}
                Ok(Some(refused)) | Err(refused) => {
                    let end = Errno::from_io_error(&refused).map_or(End::Lost, End::NotMade);
                    return Turn::Ended(end);
                }
            }
            self.shake();
        }
        while self.sent_bytes < self.out.len() {
            match (&self.socket).write(&self.out[self.sent_bytes..]) {
                Ok(sent) => self.sent_bytes += sent,
                Err(refused) if is_not_ready(&refused) => return Turn::Open,
                Err(_) => return Turn::Ended(End::Lost),
            }
        }
        self.out.clear();
        self.sent_bytes = 0;
        Turn::Open
    }

    /// Notes that the peer is to be asked for a subscription to start or to end, once the handshake is
    /// done; until then there is nothing to change: all are sent then. To be [written](Self::write).
    pub(super) fn subscribe(&mut self, subscription: Subscription<'_>) {
        if let State::Up(_, version) = self.state {
            encode_subscription(&mut self.out, version, subscription);
        }
    }

    /// Tells whether the peer has left more unread than any use of it explains.
    pub(super) fn is_choking(&self) -> bool {
        self.out.len() - self.sent_bytes > UNREAD_BYTES_MAX
    }

    /// Reads once, and passes on what is whole. The lane's `buffer` is lent for the time of the call.
    ///
    /// # Errors
    /// What [`Router::route`](crate::lane::Router::route) gives.
    #[inline]
    pub(super) fn read(&mut self, buffer: &mut [u8], sink: &mut Sink<'_>) -> Result<Turn> {
        if self.is_up() {
            sink.router.set_connection(self.line, self.number);
        }
        if self.need_bytes > GATHERED_BYTES_MIN {
            return self.read_large(sink);
        }
        let held = self.held_bytes;
        // Nothing has been passed on for so long because the quota is used up: this waits for the stop.
        if held >= buffer.len() {
            return Ok(Turn::Open);
        }
        buffer[..held].copy_from_slice(&self.held[..held]);
        let read = match receive(&self.socket, &mut buffer[held..]) {
            Ok(read) => read,
            Err(turn) => return Ok(turn),
        };
        let bytes = &buffer[..held + read];
        let (used, turn) = self.use_bytes(bytes, sink)?;
        let left = &bytes[used..];
        self.held.clear();
        self.held.extend_from_slice(left);
        self.held_bytes = left.len();
        Ok(turn)
    }

    /// Reads more of a message that is too large to be moved at each read.
    #[cold]
    fn read_large(&mut self, sink: &mut Sink<'_>) -> Result<Turn> {
        // Doubled as it fills: a peer that announces a message and sends none costs next to nothing. More than is needed
        // now, since of the next frame only the head is: it would come byte by byte.
        let room = (self.held_bytes + self.held_bytes.max(GATHERED_BYTES_MIN))
            .min(self.need_bytes + BEHIND_BYTES);
        let mut held = std::mem::take(&mut self.held);
        if held.len() < room {
            held.resize(room, 0);
        }
        let turn = match receive(&self.socket, &mut held[self.held_bytes..room]) {
            Ok(read) => {
                self.held_bytes += read;
                if self.held_bytes < self.need_bytes {
                    self.heard(sink.now_ns());
                    Turn::Open
                } else {
                    let (used, turn) = self.use_bytes(&held[..self.held_bytes], sink)?;
                    held.copy_within(used..self.held_bytes, 0);
                    self.held_bytes -= used;
                    turn
                }
            }
            Err(turn) => turn,
        };
        if self.held_bytes < GATHERED_BYTES_MIN && held.len() > KEPT_BYTES_MAX {
            held.truncate(GATHERED_BYTES_MIN);
            held.shrink_to_fit();
        }
        self.held = held;
        Ok(turn)
    }

    fn heard(&mut self, now_ns: u64) {
        self.heard_ns = now_ns;
        self.asked_ns = None;
    }

    /// Passes on what is whole of `bytes`. Returns how many of them are done with.
    #[inline]
    fn use_bytes(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> Result<(usize, Turn)> {
        let received_ns = sink.now_ns();
        self.heard(received_ns);
        let mut used = 0;
        if let State::Shaking(handshake) = &mut self.state {
            match handshake.advance(bytes, &mut self.out) {
                Ok(progress) => {
                    used = progress.consumed;
                    if let Some(peer) = progress.peer {
                        self.state = State::Up(Splitter::new(self.limits), peer.version);
                        for prefix in sink.line.subscriptions.prefixes() {
                            let start = Subscription::Start(prefix);
                            encode_subscription(&mut self.out, peer.version, start);
                        }
                    }
                }
                Err(violation) => return Ok((0, Turn::Ended(End::Violation(violation)))),
            }
            let turn = self.write();
            if self.is_up() {
                // When what is wanted has been asked for, so that no snapshot is older than that; and before anything
                // is passed on.
                self.number = sink.router.note_connection(self.line, true);
            }
            if turn != Turn::Open {
                return Ok((used, turn));
            }
        }
        let State::Up(splitter, _) = &mut self.state else {
            return Ok((used, Turn::Open));
        };
        let mut passed = Passed {
            used,
            need_bytes: 0,
            violation: None,
        };
        let outcome =
            pass_on(
                splitter,
                bytes,
                received_ns,
                sink,
                &mut passed,
                |command| match command {
                    Command::Ping {
                        ttl_deciseconds,
                        context,
                    } => {
                        self.peer_silence_ns = u64::from(ttl_deciseconds) * SECOND_NS / 10;
                        if self.out.len() < UNSENT_BYTES_MAX {
                            encode_pong(&mut self.out, context);
                        }
                        Ok(())
                    }
                    Command::Error { .. } => Err(Violation::Refused),
                    _ => Ok(()),
                },
            );
        self.need_bytes = passed.need_bytes;
        outcome?;
        let turn = match passed.violation {
            Some(violation) => Turn::Ended(End::Violation(violation)),
            None if self.out.is_empty() => Turn::Open,
            None => self.write(),
        };
        Ok((passed.used, turn))
    }

    /// Looks at what time has done to the connection, and sends heartbeats. To be called after what
    /// the kernel holds has been read, so that the peer is not blamed for this side's delays.
    pub(super) fn look(&mut self, now_ns: u64, receive: &Receive) -> Turn {
        let milliseconds = |ms: u32| u64::from(ms) * MILLISECOND_NS;
        let State::Up(splitter, version) = &self.state else {
            let limit_ns = milliseconds(receive.handshake_timeout_ms);
            return if now_ns.saturating_sub(self.begun_ns) < limit_ns {
                Turn::Open
            } else {
                Turn::Ended(End::HandshakeTimeout)
            };
        };
        let silent_ns = now_ns.saturating_sub(self.heard_ns);
        if self.peer_silence_ns > 0 && silent_ns > self.peer_silence_ns {
            return Turn::Ended(End::HeartbeatTimeout);
        }
        let answer_ns = milliseconds(receive.heartbeat_timeout_ms);
        let ask_ns = milliseconds(receive.heartbeat_ms);
        let is_within = self.held_bytes > 0 || splitter.is_skipping();
        if silent_ns >= ask_ns + answer_ns && is_within {
            return Turn::Ended(End::MessageTimeout);
        }
        // ZMTP 3.0 has no heartbeats.
        if receive.heartbeat_ms == 0 || *version < Version::V3_1 {
            return Turn::Open;
        }
        match self.asked_ns {
            // Counted from the question, not from the last word: a lane that waits for a worker asks
            // late.
            Some(asked_ns) => {
                if now_ns.saturating_sub(asked_ns) >= answer_ns {
                    return Turn::Ended(End::HeartbeatTimeout);
                }
                Turn::Open
            }
            None if silent_ns >= ask_ns => {
                self.asked_ns = Some(now_ns);
                // No limit on our silence: while a slow worker makes the lane wait, nothing is sent.
                encode_ping(&mut self.out, 0, b"");
                self.write()
            }
            None => Turn::Open,
        }
    }
}

/// Receives into `room`.
#[inline]
fn receive(socket: &Socket, room: &mut [u8]) -> std::result::Result<usize, Turn> {
    let mut socket = socket;
    match socket.read(room) {
        Ok(0) => Err(Turn::Ended(End::Lost)),
        Ok(read) => Ok(read),
        Err(refused) if is_not_ready(&refused) => Err(Turn::Open),
        Err(_) => Err(Turn::Ended(End::Lost)),
    }
}
