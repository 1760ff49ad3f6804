//! What must hold of any frames that a Clone server or client is sent. The fuzz target and the replay of its corpus share
//! it.
//!
//! Frames stand in the input one behind the other, each behind its length, two bytes, big-endian; the last one may be
//! cut short.

#![allow(dead_code, missing_docs, reason = "each user needs a part")]

use pinfeed::patterns::{
    binary_star::{Freshness, Role, Side, Star, wire::Tidings},
    clone::{
        Now,
        client::{self, Wishes},
        server::{self, Output, Restored},
        state::Limits,
    },
    kvmsg::{
        Form, HUGZ, KEY_BYTES_MAX, KTHXBAI, KeyValue, Malformed, PROPERTIES_BYTES_MAX, TTL_MAX,
        ttl, with_ttl,
    },
};

/// The most frames that are taken from an input.
const FRAMES_MAX: usize = 9;
/// The round of the server that follows; what its peer says has to name it.
const ROUND: u64 = 5;
/// What nanoseconds lose as seconds with a fraction, of times up to a year.
const ROUNDED_NS_MAX: u128 = 8;

/// Asserts that whatever these bytes stand for is taken for what it is, or refused by its name.
pub fn check(input: &[u8]) {
    let frames = frames_of(input);
    if let Ok(tidings) = Tidings::decode(&frames) {
        let again = tidings.encode(|frames| Tidings::decode(frames) == Ok(tidings));
        assert!(again, "{tidings:?}");
    }
    check_machines(&frames);
    match KeyValue::decode(&frames) {
        Ok(message) => check_message(&frames, &message),
        Err(fault) => check_fault(&frames, &fault),
    }
}

/// Writes frames as [`check`] reads them.
pub fn written(frames: &[&[u8]]) -> Vec<u8> {
    let one = |frame: &&[u8]| {
        let length = u16::try_from(frame.len()).expect("a short frame");
        [&length.to_be_bytes()[..], frame].concat()
    };
    frames.iter().flat_map(one).collect()
}

fn frames_of(mut input: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk()
        && frames.len() < FRAMES_MAX
    {
        let (frame, rest) = rest.split_at(rest.len().min(u16::from_be_bytes(*length).into()));
        frames.push(frame);
        input = rest;
    }
    frames
}

fn check_message(frames: &[&[u8]], message: &KeyValue<'_>) {
    let form = match (frames.len(), frames[1].len()) {
        (5, 8) => Form::Five,
        (3, 8) => Form::Three,
        (3, 4) => Form::ThreeShort,
        other => panic!("taken although it has {other:?}"),
    };
    message.encode(form, |again| {
        for (place, (again, frame)) in again.iter().zip(frames).enumerate() {
            // No uuid may be written in two ways.
            let is_none = place == 2 && form == Form::Five && message.uuid.is_none();
            assert!(again == frame || is_none, "frame {place} of {message:?}");
        }
        assert_eq!(KeyValue::decode(again).as_ref(), Ok(message));
    });
    let is_reserved = [&b""[..], HUGZ, KTHXBAI].contains(&message.key);
    match message.check_update() {
        Ok(time) => {
            assert!(!is_reserved, "{message:?}");
            check_time(message.properties, time);
        }
        Err(Malformed::KeyReserved) => assert!(is_reserved, "{message:?}"),
        Err(Malformed::Ttl { .. }) => assert!(ttl(message.properties).is_err()),
        Err(other) => panic!("{other}"),
    }
}

/// Asserts that a time to live is one, and that properties keep all else when it is replaced.
fn check_time(properties: &[u8], time: Option<std::time::Duration>) {
    let Some(time) = time else { return };
    assert!(!time.is_zero() && time <= TTL_MAX, "{time:?}");
    let with = with_ttl(properties, time);
    let again = ttl(&with).expect("a time").expect("not for good");
    let lost_ns = again.as_nanos().abs_diff(time.as_nanos());
    assert!(lost_ns <= ROUNDED_NS_MAX, "{time:?} became {again:?}");
    let others = |properties: &[u8]| -> Vec<Vec<u8>> {
        let lines = properties.split(|byte| *byte == b'\n');
        let others = lines.filter(|line| !line.is_empty() && !line.starts_with(b"ttl="));
        others.map(<[u8]>::to_vec).collect()
    };
    assert_eq!(others(&with), others(properties));
}

fn check_fault(frames: &[&[u8]], fault: &Malformed) {
    let length = |place: usize| frames[place].len();
    match *fault {
        Malformed::Frames { frames: count } => {
            assert!(count == frames.len() && count != 3 && count != 5);
        }
        Malformed::KeyTooLong { bytes } => assert!(bytes == length(0) && bytes > KEY_BYTES_MAX),
        Malformed::PropertiesTooLong { bytes } => {
            assert!(frames.len() == 5 && bytes == length(3) && bytes > PROPERTIES_BYTES_MAX);
        }
        Malformed::Sequence { bytes } => assert!(bytes == length(1) && bytes != 8),
        Malformed::Uuid { bytes } => {
            assert!(frames.len() == 5 && bytes == length(2) && bytes != 0 && bytes != 16);
        }
        ref other => panic!("{other} is no fault of frames"),
    }
}

/// Gives the frames to a server that follows another one, as what that tells it and as a part of its snapshot.
fn check_pair(frames: &[&[u8]], update: Option<KeyValue<'_>>) {
    let now = Now::default();
    let star = Star::new(Side::Backup, false, ROUND, now.ns);
    let mut server = server::Machine::new(&Restored::default(), Limits::default(), Some(star), now);
    server.on_time(now);
    let active = Tidings {
        role: Role::Active,
        state: Some(Freshness::default()),
        rounds: (1, ROUND),
        current: false,
        preempts: false,
        update: None,
    };
    server.on_peer(&active, now).expect("it follows");
    assert_eq!(server.role(), Role::Passive);
    for _ in 0..2 {
        if let Ok(tidings) = Tidings::decode(frames) {
            // It says why, where it can't go on.
            let _ = server.on_peer(&tidings, now);
        }
        let _ = server.on_peer_snapshot(frames, now);
        let _ = update.map(|update| server.on_update(update, now));
        server.on_request(1, frames, now);
        server.changes();
        server.committed(now);
        while server.output().is_some() {}
    }
    assert!(server.pending() <= 1);
}

/// Gives the frames to a server, as an update, as a request and as a part of a snapshot, and to a client.
fn check_machines(frames: &[&[u8]]) {
    let now = Now::default();
    let mut server = server::Machine::new(&Restored::default(), Limits::default(), None, now);
    server.on_time(now);
    let update = KeyValue::decode(frames).ok();
    let accepted = update.is_some_and(|update| server.on_update(update, now).is_ok());
    server.on_request(1, frames, now);
    server
        .on_peer_snapshot(frames, now)
        .expect("it has no peer");
    server.changes();
    server.committed(now);
    let mut published = None;
    while let Some(output) = server.output() {
        if let Output::Publish(update) = output {
            assert!(published.replace(update).is_none(), "published once");
        }
    }
    assert_eq!(published.is_some(), accepted);
    if let (Some(published), Some(update)) = (published, update) {
        let expected = KeyValue {
            sequence: 1,
            ..update
        };
        assert_eq!(published.message(), expected);
    }
    check_pair(frames, update);
    let mut client = client::Machine::new(1, Wishes::default(), now);
    client.on_subscription(0, true, now);
    client.on_reach(0, true, now);
    for _ in 0..2 {
        client.on_published(0, frames, now).expect("there is room");
        client.on_snapshot(0, frames, now).expect("there is room");
    }
    while client.output().is_some() {}
}
