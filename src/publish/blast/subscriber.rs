//! One connected subscriber: its handshake, what it asks for, and what it has not taken yet.
//!
//! Messages come to it in runs of the shared block. A subscriber to everything is written that part of
//! the block as it stands, with no copy; one with prefixes gets its messages copied side by side. What
//! has to be said meanwhile, such as the answer to a heartbeat, waits until a run has been taken: it
//! must not come in the middle of a message.

use std::{
    io::{self, Read, Write},
    ops::Range,
    time::Duration,
};

use socket2::Socket;

use crate::{
    clock::Deadline,
    net::{Interest, Poller, Ready, is_not_ready},
    publish::blast::{block::Block, subscriptions::Subscriptions},
    zmtp::{
        Command, Cut, Frames, Handshake, Limits, SocketType, Splitter, Subscription, Version,
        Violation, encode_pong,
    },
};

/// How long a connection and its handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// What the kernel may hold of what was sent. Left to itself it grows the buffer until what is copied
/// into it has left the cache before it is copied out: a plain receive loop got 38 million messages a
/// second that way, 50 with this, 48 with a quarter of it (medians of 4 rounds in turn); over 64
/// connections, 23 and 34 with this (of 3).
const SEND_BUFFER_BYTES: usize = 1024 * 1024;
/// The longest prefix that can be subscribed to.
const PREFIX_BYTES_MAX: usize = 64 * 1024 - 1;
/// The most that may wait to be said apart from messages, in bytes. A subscriber that does not read, but
/// goes on sending heartbeats, gets there.
const ASIDE_BYTES_MAX: usize = 64 * 1024;

/// Why a subscriber is no more.
#[derive(Debug)]
pub(super) enum Parting {
    /// It has gone.
    Gone,
    /// It did what a subscriber may not do.
    Misbehaved,
}

impl From<io::Error> for Parting {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<Violation> for Parting {
    fn from(_: Violation) -> Self {
        Self::Misbehaved
    }
}

enum Phase {
    /// The connection is being made.
    Connecting(Deadline),
    /// The handshake is going on.
    Meeting(Handshake, Deadline),
    /// Messages can be sent.
    Open(Splitter),
}

/// The messages that were handed over last, as far as they were not taken.
#[derive(Default)]
struct Run {
    /// Where they stand: in the block, or in `copies`.
    place: Range<usize>,
    copied: bool,
    /// Whether the first byte was taken.
    begun: bool,
}

/// A connected subscriber.
pub(super) struct Subscriber {
    socket: Socket,
    token: u64,
    interest: Interest,
    phase: Phase,
    subscriptions: Subscriptions,
    /// What has come and is not understood yet.
    inbox: Vec<u8>,
    run: Run,
    copies: Vec<u8>,
    /// The end of each message among the copies.
    copy_ends: Vec<usize>,
    /// What is to be said apart from messages.
    aside: Vec<u8>,
    /// Which of the publisher's endpoints it came by.
    endpoint: usize,
}

impl Subscriber {
    /// Notes which of the publisher's endpoints it came by, counted from 0.
    pub(super) fn of(self, endpoint: usize) -> Self {
        Self { endpoint, ..self }
    }

    pub(super) fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// Takes in a connection that is made, or being made, and waits for it under a number.
    pub(super) fn new(
        socket: Socket,
        connecting: bool,
        token: u64,
        poller: &Poller,
    ) -> io::Result<Self> {
        let deadline = Deadline::after(HANDSHAKE_LIMIT);
        let mut aside = Vec::new();
        let (phase, interest) = if connecting {
            (Phase::Connecting(deadline), Interest::Write)
        } else {
            (meet(deadline, &mut aside), Interest::ReadWrite)
        };
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        poller.add(&socket, token, interest)?;
        Ok(Self {
            socket,
            token,
            interest,
            phase,
            subscriptions: Subscriptions::default(),
            inbox: Vec::new(),
            run: Run::default(),
            copies: Vec::new(),
            copy_ends: Vec::new(),
            aside,
            endpoint: 0,
        })
    }

    /// Tells whether it is subscribed to anything.
    pub(super) fn is_subscribed(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Tells whether its handshake has taken too long.
    pub(super) fn is_overdue(&self) -> bool {
        match &self.phase {
            Phase::Connecting(deadline) | Phase::Meeting(_, deadline) => deadline.passed(),
            Phase::Open(_) => false,
        }
    }

    /// Tells whether it has not taken all messages handed over to it.
    pub(super) fn is_behind(&self) -> bool {
        !self.run.place.is_empty()
    }

    /// Returns how many of these messages, which were handed over to it last, it has not been sent in full.
    pub(super) fn unsent(&self, block: &Block, messages: Range<usize>) -> u64 {
        if !self.is_behind() {
            return 0;
        }
        let sent_bytes = self.run.place.start;
        let unsent = if self.run.copied {
            let ends = self.copy_ends.iter();
            ends.filter(|&&end| end > sent_bytes).count()
        } else {
            let ends = messages.map(|message| block.place(message..message + 1).end);
            ends.filter(|&end| end > sent_bytes).count()
        };
        unsent as u64
    }

    /// Hands over messages, which stay where they are in the block until it is no longer behind, and
    /// writes what it takes at once.
    pub(super) fn hand_over(
        &mut self,
        block: &Block,
        messages: Range<usize>,
        poller: &Poller,
    ) -> Result<(), Parting> {
        if !matches!(self.phase, Phase::Open(_)) || self.subscriptions.is_empty() {
            return Ok(());
        }
        debug_assert!(!self.is_behind());
        let copied = !self.subscriptions.is_everything();
        let place = if copied {
            let wanted = &self.subscriptions.wanted(block)[messages.clone()];
            self.copies.clear();
            self.copy_ends.clear();
            for (message, _) in messages.zip(wanted).filter(|(_, wanted)| **wanted) {
                let place = block.place(message..message + 1);
                self.copies.extend_from_slice(&block.bytes()[place]);
                self.copy_ends.push(self.copies.len());
            }
            0..self.copies.len()
        } else {
            block.place(messages)
        };
        self.run = Run {
            place,
            copied,
            begun: false,
        };
        self.write(block, poller)
    }

    /// Does what the poller found, and returns how many subscriptions it brought.
    pub(super) fn attend(
        &mut self,
        ready: Ready,
        block: &Block,
        scratch: &mut [u8],
        poller: &Poller,
    ) -> Result<u64, Parting> {
        if let Phase::Connecting(deadline) = self.phase {
            if let Some(refused) = self.socket.take_error()? {
                return Err(refused.into());
            }
            self.phase = meet(deadline, &mut self.aside);
        }
        let mut started = 0;
        if ready.readable {
            match (&self.socket).read(scratch) {
                Ok(0) => return Err(Parting::Gone),
                Ok(count) => {
                    self.inbox.extend_from_slice(&scratch[..count]);
                    started = self.understand()?;
                }
                Err(nothing) if is_not_ready(&nothing) => {}
                Err(broken) => return Err(broken.into()),
            }
        }
        self.write(block, poller)?;
        Ok(started)
    }

    /// Takes what it can from the inbox, and returns how many subscriptions there were.
    fn understand(&mut self) -> Result<u64, Parting> {
        let mut used = 0;
        let mut started = 0;
        loop {
            let bytes = &self.inbox[used..];
            match &mut self.phase {
                Phase::Connecting(_) => break,
                Phase::Meeting(handshake, _) => {
                    let progress = handshake.advance(bytes, &mut self.aside)?;
                    used += progress.consumed;
                    if progress.peer.is_none() {
                        break;
                    }
                    self.phase = Phase::Open(Splitter::new(Limits {
                        frame_bytes_max: 1 + PREFIX_BYTES_MAX,
                        message_bytes_max: 1 + PREFIX_BYTES_MAX,
                        frames_max: 1,
                    }));
                }
                Phase::Open(splitter) => {
                    let mut frames = Frames::default();
                    let (cut, consumed) = splitter.cut(bytes, &mut frames)?;
                    used += consumed;
                    let change = match cut {
                        Cut::Need(_) => break,
                        Cut::Command(body) => match Command::decode(body)? {
                            Command::Subscription(change) => Some(change),
                            Command::Ping { context, .. } => {
                                encode_pong(&mut self.aside, context);
                                None
                            }
                            Command::Error { .. } => return Err(Parting::Misbehaved),
                            _ => None,
                        },
                        Cut::Message => Subscription::decode_message(frames.as_slice()[0]),
                        // What an XSUB says to its publisher is nothing to this one.
                        Cut::Skipped | Cut::Oversize(..) => None,
                    };
                    if let Some(change) = change {
                        started += u64::from(matches!(change, Subscription::Start(_)));
                        let changed = self.subscriptions.change(change);
                        changed.map_err(|_| Parting::Misbehaved)?;
                    }
                }
            }
        }
        self.inbox.drain(..used);
        if self.aside.len() > ASIDE_BYTES_MAX {
            return Err(Parting::Misbehaved);
        }
        Ok(started)
    }

    /// Writes what the socket takes, and asks the poller to say when it takes more.
    fn write(&mut self, block: &Block, poller: &Poller) -> Result<(), Parting> {
        if matches!(self.phase, Phase::Connecting(_)) {
            return Ok(());
        }
        self.write_all(block)?;
        let interest = if self.is_behind() || !self.aside.is_empty() {
            Interest::ReadWrite
        } else {
            Interest::Read
        };
        if interest != self.interest {
            self.interest = interest;
            poller.change(&self.socket, self.token, interest)?;
        }
        Ok(())
    }

    fn write_all(&mut self, block: &Block) -> Result<(), Parting> {
        if !self.run.begun && !self.write_aside()? {
            return Ok(());
        }
        while !self.run.place.is_empty() {
            let from = if self.run.copied {
                &self.copies
            } else {
                block.bytes()
            };
            match write(&self.socket, &from[self.run.place.clone()])? {
                0 => return Ok(()),
                count => self.run.place.start += count,
            }
            self.run.begun = true;
        }
        self.run.begun = false;
        self.write_aside()?;
        Ok(())
    }

    /// Returns whether all was written.
    fn write_aside(&mut self) -> Result<bool, Parting> {
        while !self.aside.is_empty() {
            match write(&self.socket, &self.aside)? {
                0 => return Ok(false),
                count => drop(self.aside.drain(..count)),
            }
        }
        Ok(true)
    }
}

fn meet(deadline: Deadline, aside: &mut Vec<u8>) -> Phase {
    let handshake = Handshake::start(SocketType::Pub, Version::V3_1, aside);
    Phase::Meeting(handshake, deadline)
}

/// Returns how many bytes the socket took, 0 where it is full.
fn write(mut socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    match socket.write(bytes) {
        Err(full) if is_not_ready(&full) => Ok(0),
        written => written,
    }
}
