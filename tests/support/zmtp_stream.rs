//! A reader of ZMTP streams, as a connection has one, that checks each answer of the codec; and what
//! must hold of any bytes at all. The fuzz target, the replay of its corpus and the properties of
//! `any_split.rs` share it.

#![allow(dead_code, reason = "each user needs a part")]

use pinfeed::zmtp::{
    Command, Cut, Frames, Handshake, Limits, Oversize, SocketType, Splitter, Version, Violation,
    frame::LONG_HEAD_BYTES, greeting::GREETING_BYTES,
};

/// The largest READY or ERROR that a stranger may send, as the handshake documents it.
const HANDSHAKE_COMMAND_BYTES_MAX: usize = 8 * 1024;
/// The largest command after that.
const COMMAND_BYTES_MAX: usize = 64 * 1024;
/// The longest stream that is also fed byte by byte.
const BY_BYTE_MAX: usize = 4 * 1024;

/// The most messages that a reader takes at once.
const RUN: usize = 5;

/// What a reader makes of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Peer(Version),
    Message(Vec<Vec<u8>>),
    /// The body of a command.
    Command(Vec<u8>),
    Oversize(Oversize, u64),
    /// The last event.
    Violation(Violation),
}

/// Keeps what the codec did not use, and offers it again with what comes next.
#[derive(Clone, Debug)]
pub struct Reader {
    limits: Limits,
    /// Until it is done.
    handshake: Option<Handshake>,
    splitter: Splitter,
    /// Whether short messages are cut off several at once, as a lane does.
    in_runs: bool,
    /// What came and was not used.
    held: Vec<u8>,
    /// How many bytes there have to be, as the splitter last said.
    need: usize,
    /// What goes to the peer.
    sent: Vec<u8>,
    events: Vec<Event>,
}

impl Reader {
    /// Starts at the peer's greeting.
    pub fn new(socket_type: SocketType, version: Version, limits: Limits) -> Self {
        let mut sent = Vec::new();
        let handshake = Handshake::start(socket_type, version, &mut sent);
        Self {
            handshake: Some(handshake),
            sent,
            ..Self::after_handshake(limits)
        }
    }

    /// Starts at the peer's first frame.
    pub fn after_handshake(limits: Limits) -> Self {
        Self {
            limits,
            handshake: None,
            splitter: Splitter::new(limits),
            in_runs: false,
            held: Vec::new(),
            need: 1,
            sent: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Has short messages cut off several at once, as a lane does.
    pub fn in_runs(mut self) -> Self {
        self.in_runs = true;
        self
    }

    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Returns the bytes that wait for more.
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    fn has_ended(&self) -> bool {
        matches!(self.events.last(), Some(Event::Violation(_)))
    }

    /// Takes the next piece of the stream, of any length.
    pub fn feed(&mut self, piece: &[u8]) {
        if self.has_ended() {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(piece);
        let mut used = 0;
        // One for all, as a lane has it, so that nothing of one message stays for the next.
        let mut frames = Frames::default();
        while let Some(more) = self.step(&held[used..], &mut frames) {
            used += more;
        }
        held.drain(..used);
        self.held = held;
    }

    /// Takes one event. Returns how many bytes it used, or `None` where nothing can be done with what
    /// there is.
    fn step<'a>(&mut self, bytes: &'a [u8], frames: &mut Frames<'a>) -> Option<usize> {
        let outcome = match self.handshake.take() {
            Some(handshake) => self.shake_hands(handshake, bytes),
            None => self.cut(bytes, frames),
        };
        outcome.unwrap_or_else(|violation| {
            self.events.push(Event::Violation(violation));
            None
        })
    }

    fn shake_hands(
        &mut self,
        mut handshake: Handshake,
        bytes: &[u8],
    ) -> Result<Option<usize>, Violation> {
        let progress = handshake.advance(bytes, &mut self.sent)?;
        assert!(progress.consumed <= bytes.len());
        match progress.peer {
            Some(peer) => self.events.push(Event::Peer(peer.version)),
            None => {
                let left = bytes.len() - progress.consumed;
                assert!(left < GREETING_BYTES.max(LONG_HEAD_BYTES + HANDSHAKE_COMMAND_BYTES_MAX));
                self.handshake = Some(handshake);
            }
        }
        Ok((progress.consumed > 0).then_some(progress.consumed))
    }

    fn cut<'a>(
        &mut self,
        bytes: &'a [u8],
        frames: &mut Frames<'a>,
    ) -> Result<Option<usize>, Violation> {
        if self.in_runs {
            let used = self
                .cut_run::<1>(bytes)
                .or_else(|| self.cut_run::<2>(bytes));
            if used.is_some() {
                self.need = 1;
                return Ok(used);
            }
        }
        let outcome = self.splitter.cut(bytes, frames);
        if bytes.len() < self.need {
            assert!(
                matches!(outcome, Ok((Cut::Need(_), 0))),
                "there had to be {} bytes, not {}: {outcome:?}",
                self.need,
                bytes.len()
            );
        }
        let (cut, consumed) = outcome?;
        assert!(consumed <= bytes.len());
        assert_eq!(consumed == 0, matches!(cut, Cut::Need(_)));
        self.need = 1;
        match cut {
            Cut::Need(need) => {
                assert!(need > bytes.len());
                assert!(need <= need_max(self.limits), "{need} bytes asked for");
                self.need = need;
                return Ok(None);
            }
            Cut::Skipped => {}
            Cut::Message => {
                let frames = frames.as_slice();
                self.check_limits(frames);
                let frames = frames.iter().map(|frame| frame.to_vec()).collect();
                self.events.push(Event::Message(frames));
            }
            Cut::Command(body) => {
                if let Command::Ping { context, .. } = Command::decode(body)? {
                    assert!(context.len() <= 16);
                }
                self.events.push(Event::Command(body.to_vec()));
            }
            Cut::Oversize(oversize, bytes) => {
                if oversize == Oversize::Bytes {
                    assert!(bytes > self.limits.message_bytes_max as u64);
                }
                self.events.push(Event::Oversize(oversize, bytes));
            }
        }
        assert_eq!(self.splitter.is_skipping(), cut == Cut::Skipped);
        Ok(Some(consumed))
    }

    /// Takes messages of `N` short frames. Returns how many bytes they used, if there are any.
    fn cut_run<const N: usize>(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut run = [[&[][..]; N]; RUN];
        let (count, used) = self.splitter.cut_run(bytes, &mut run);
        assert!(count == 0 || bytes.len() >= self.need);
        for frames in &run[..count] {
            self.check_limits(frames);
            let frames = frames.iter().map(|frame| frame.to_vec()).collect();
            self.events.push(Event::Message(frames));
        }
        (count > 0).then_some(used)
    }

    fn check_limits(&self, frames: &[&[u8]]) {
        assert!((1..=self.limits.frames_max).contains(&frames.len()));
        let bytes = frames.iter().map(|frame| frame.len());
        assert!(
            bytes
                .clone()
                .all(|bytes| bytes <= self.limits.frame_bytes_max)
        );
        assert!(bytes.sum::<usize>() <= self.limits.message_bytes_max);
    }
}

/// The most bytes that may have to be there at once: a whole message, and then the frame that is one
/// too many or goes over the limit on all; or a command.
fn need_max(limits: Limits) -> usize {
    let frame = LONG_HEAD_BYTES + limits.frame_bytes_max;
    let message = limits.frames_max * LONG_HEAD_BYTES + limits.message_bytes_max;
    (message + frame).max(LONG_HEAD_BYTES + COMMAND_BYTES_MAX)
}

/// Feeds a stream in one piece, and then in pieces of the lengths that `pieces` repeats, each at least
/// 1, with messages cut off several at once; asserts that it makes no difference, and returns the
/// events.
pub fn events_of(start: &Reader, stream: &[u8], pieces: &[usize]) -> Vec<Event> {
    let mut whole = start.clone();
    whole.feed(stream);
    let mut split = start.clone().in_runs();
    let mut rest = stream;
    for &piece in pieces.iter().cycle() {
        let (first, then) = rest.split_at(piece.min(rest.len()));
        split.feed(first);
        rest = then;
        if rest.is_empty() {
            break;
        }
    }
    assert_same(&whole, &split);
    whole.events
}

/// Asserts that two readers of the same stream are where they should be: in the same place.
pub fn assert_same(one: &Reader, other: &Reader) {
    assert_eq!(one.events, other.events);
    assert_eq!(one.sent, other.sent);
    if !one.has_ended() {
        assert_eq!((&one.held, one.need), (&other.held, other.need));
    }
}

/// What the first byte of an input chooses from.
const LIMITS: [Limits; 4] = [
    limits(1 << 20, 1 << 20, 64),
    limits(300, 400, 3),
    limits(64 * 1024, 100, 64),
    limits(0, 0, 1),
];

const fn limits(frame_bytes_max: usize, message_bytes_max: usize, frames_max: usize) -> Limits {
    Limits {
        frame_bytes_max,
        message_bytes_max,
        frames_max,
    }
}

/// Bytes at the front of an input that are not of the stream.
pub const CONTROL_BYTES: usize = 3;
/// In the first of them: start at the greeting, not behind the handshake.
pub const WITH_HANDSHAKE: u8 = 0b0100;
/// In the first of them: read as a publisher reads its subscriber.
pub const AS_PUBLISHER: u8 = 0b1000;

/// Checks what must hold whatever bytes come: no panic, nothing asked for beyond the limits, and the
/// same events in one piece, in pieces of two lengths in turn, and byte by byte.
///
/// The first byte chooses limits and start, the next two are the lengths less one.
pub fn check(input: &[u8]) {
    let Some((&[choice, first, second], stream)) = input.split_first_chunk::<CONTROL_BYTES>()
    else {
        return;
    };
    let limits = LIMITS[usize::from(choice) % LIMITS.len()];
    let start = if choice & WITH_HANDSHAKE == 0 {
        Reader::after_handshake(limits)
    } else if choice & AS_PUBLISHER == 0 {
        Reader::new(SocketType::Sub, Version::V3_1, limits)
    } else {
        Reader::new(SocketType::XPub, Version::V3_0, limits)
    };
    let lengths = [usize::from(first) + 1, usize::from(second) + 1];
    events_of(&start, stream, &lengths);
    if stream.len() <= BY_BYTE_MAX {
        events_of(&start, stream, &[1]);
    }
}
