//! Goal: where a stream is cut on its way makes no difference to what is read from it, and whatever
//! bytes come, the codec neither panics nor asks for more than its limits allow.

#[path = "support/zmtp_stream.rs"]
mod zmtp_stream;

use pinfeed::zmtp::{
    Limits, Oversize, SocketType, Version, encode_ping, encode_pong, encode_ready,
    frame::{COMMAND, encode_head, encode_message},
    greeting,
};
use proptest::{collection::vec, prelude::*};
use zmtp_stream::{Event, Reader, WITH_HANDSHAKE, assert_same, check, events_of};

/// Over which some of the messages go.
const LIMITS: Limits = Limits {
    frame_bytes_max: 70_000,
    message_bytes_max: 100_000,
    frames_max: 4,
};

fn start() -> Reader {
    Reader::new(SocketType::Sub, Version::V3_1, LIMITS)
}

/// What a publisher sends, and what is to be read from it.
#[derive(Clone, Debug, Default)]
struct Sent {
    stream: Vec<u8>,
    events: Vec<Event>,
}

impl Sent {
    fn handshake(minor: u8, padding: [u8; 8], identity: &[u8]) -> Self {
        let mut stream = greeting::encode(Version { minor }).to_vec();
        stream[1..9].copy_from_slice(&padding);
        if identity.is_empty() {
            encode_ready(&mut stream, SocketType::Pub);
        } else {
            let mut body = b"\x05READY\x08Identity".to_vec();
            body.extend_from_slice(&(identity.len() as u32).to_be_bytes());
            body.extend_from_slice(identity);
            body.extend_from_slice(b"\x0bSocket-Type\0\0\0\x04XPUB");
            encode_head(&mut stream, COMMAND, body.len());
            stream.extend_from_slice(&body);
        }
        let version = Version {
            minor: minor.min(1),
        };
        Self {
            stream,
            events: vec![Event::Peer(version)],
        }
    }

    fn add(&mut self, part: &Part) {
        match part {
            Part::Message(frames) => {
                let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
                encode_message(&mut self.stream, &slices);
                self.events.push(event(frames));
            }
            Part::Command(body) => {
                encode_head(&mut self.stream, COMMAND, body.len());
                self.stream.extend_from_slice(body);
                self.events.push(Event::Command(body.clone()));
            }
        }
    }
}

/// What is read from a message: itself, or which limit it went over first.
fn event(frames: &[Vec<u8>]) -> Event {
    let bytes = |frames: &[Vec<u8>]| frames.iter().map(Vec::len).sum::<usize>();
    let over = (1..=frames.len()).find_map(|count| {
        if count > LIMITS.frames_max {
            Some(Oversize::Frames)
        } else if bytes(&frames[..count]) > LIMITS.message_bytes_max {
            Some(Oversize::Bytes)
        } else {
            None
        }
    });
    match over {
        Some(limit) => Event::Oversize(limit, bytes(frames) as u64),
        None => Event::Message(frames.to_vec()),
    }
}

#[derive(Clone, Debug)]
enum Part {
    Message(Vec<Vec<u8>>),
    /// The body.
    Command(Vec<u8>),
}

fn body_of(encode: impl FnOnce(&mut Vec<u8>)) -> Part {
    let mut command = Vec::new();
    encode(&mut command);
    Part::Command(command.split_off(2))
}

fn command() -> impl Strategy<Value = Part> {
    prop_oneof![
        (any::<u16>(), vec(any::<u8>(), 0..=16))
            .prop_map(|(ttl, context)| body_of(|out| encode_ping(out, ttl, &context))),
        vec(any::<u8>(), 0..17).prop_map(|context| body_of(|out| encode_pong(out, &context))),
        vec(any::<u8>(), 0..17)
            .prop_map(|context| { Part::Command([b"\x04PING\0\x1e", &context[..]].concat()) }),
        vec(any::<u8>(), 0..300).prop_map(|rest| Part::Command([b"\x03NEW", &rest[..]].concat())),
    ]
}

/// A publisher's connection whose frames, 1 to 5 a message, are as long as `frame_bytes` says.
fn sent<S: Strategy<Value = usize> + Clone>(frame_bytes: S) -> impl Strategy<Value = Sent> {
    let frame = (frame_bytes, any::<u8>()).prop_map(|(bytes, fill)| {
        // Not one value throughout: a frame that starts in the wrong place is another frame.
        (0..bytes).map(|at| fill.wrapping_add(at as u8)).collect()
    });
    let part = prop_oneof![
        3 => vec(frame, 1..6).prop_map(Part::Message),
        1 => command(),
    ];
    let handshake = (0..4u8, any::<[u8; 8]>(), vec(any::<u8>(), 0..300));
    (handshake, vec(part, 0..8)).prop_map(|((minor, padding, identity), parts)| {
        let mut sent = Sent::handshake(minor, padding, &identity);
        for part in &parts {
            sent.add(part);
        }
        sent
    })
}

fn small() -> impl Strategy<Value = Sent> {
    sent(prop_oneof![5 => 0..20usize, 1 => 60..300usize])
}

fn large() -> impl Strategy<Value = Sent> {
    sent(prop_oneof![0..300usize, 0..LIMITS.frame_bytes_max + 1])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn two_pieces_are_as_good_as_one(sent in small()) {
        let mut whole = start();
        whole.feed(&sent.stream);
        prop_assert_eq!(whole.events(), &sent.events[..]);
        prop_assert!(whole.held().is_empty());
        for at in 0..=sent.stream.len() {
            let (first, second) = sent.stream.split_at(at);
            for mut reader in [start(), start().in_runs()] {
                reader.feed(first);
                reader.feed(second);
                assert_same(&whole, &reader);
            }
        }
    }

    #[test]
    fn many_pieces_are_as_good_as_one(
        sent in large(),
        pieces in vec(prop_oneof![1..20usize, 1..20_000usize], 1..50),
    ) {
        prop_assert_eq!(events_of(&start(), &sent.stream, &pieces), sent.events);
    }

    #[test]
    fn single_bytes_are_as_good_as_one_piece(sent in small()) {
        prop_assert_eq!(events_of(&start(), &sent.stream, &[1]), sent.events);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn any_bytes_at_all(input in vec(any::<u8>(), 0..600)) {
        check(&input);
    }

    /// Streams that are nearly right get further than noise does.
    #[test]
    fn any_damage(
        sent in small(),
        choice in any::<u8>(),
        lengths in any::<[u8; 2]>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in any::<prop::sample::Index>(),
    ) {
        let mut input = vec![choice | WITH_HANDSHAKE, lengths[0], lengths[1]];
        input.extend_from_slice(&sent.stream);
        for (at, byte) in damage {
            let at = at.index(input.len());
            input[at] = byte;
        }
        input.truncate(end.index(input.len()) + 1);
        check(&input);
    }
}
