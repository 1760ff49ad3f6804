//! Opening a message, by envelope, beside the layout that `envelope/pinfeed.rs` turned down: the
//! numbers behind the topic's delimiter rather than at the end.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use pinfeed::{
    envelope::{Envelope, Preset, pinfeed::seal},
    message::Stamp,
};
use std::hint::black_box;
use support::EMPTY;

const STAMP: Stamp = Stamp {
    epoch: 1,
    sequence: 2,
    timestamp_ns: 3,
};

/// Searches for the delimiter, then reads the numbers behind it.
fn open_header_behind_topic(frame: &[u8]) -> Option<(usize, Stamp)> {
    let topic_bytes = memchr::memchr(0, frame)?;
    let header: &[u8; 24] = frame.get(topic_bytes + 1..)?.first_chunk()?;
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let stamp = Stamp {
        epoch: number(0),
        sequence: number(8),
        timestamp_ns: number(16),
    };
    Some((topic_bytes, stamp))
}

/// Opens a message and looks at what was found, as a lane does: to have it put together in memory would
/// cost more than to find it.
#[inline(always)]
fn look_at(envelope: &Envelope, frames: &[&[u8]]) -> Option<(usize, usize, u64)> {
    let fields = envelope.open(frames).ok()?;
    let [topic, payload] =
        [fields.topic, fields.payload].map(|at| frames[at.frame][at.start..at.end].len());
    let stamp = fields.stamp;
    Some((
        topic,
        payload,
        stamp.epoch ^ stamp.sequence ^ stamp.timestamp_ns,
    ))
}

fn open(criterion: &mut Criterion) {
    let topic = b"binance.btcusdt@bookTicker";
    let mut sealed = Vec::new();
    seal(&mut sealed, topic, &[b'x'; 64], STAMP);
    let two: [&[u8]; 2] = [topic, &sealed];
    let one: [&[u8]; 1] = [&sealed];

    let mut group = criterion.benchmark_group("envelope");
    let number = 7_u32.to_le_bytes();
    let three: [&[u8]; 3] = [topic, &sealed, &number];
    let spaced = [
        topic,
        &b" {\"price\": 1.07, \"timestamp\": 1596452605.661784}"[..],
    ]
    .concat();
    let text: [&[u8]; 1] = [&spaced];
    let preset = |name| Preset::named(name).expect("it is one");
    for (envelope, frames) in [
        (Envelope::Raw, &two[..]),
        (Envelope::Delimited(0), &one[..]),
        (Envelope::Pinfeed, &one[..]),
        (preset("bitcoind"), &three[..]),
        (preset("cryptofeed"), &text[..]),
    ] {
        let name = envelope.to_string();
        // A lane finds the format at run time.
        let envelope = black_box(envelope);
        let fields = envelope.open(frames).expect("the message fits");
        assert_eq!(fields.topic.end, topic.len());
        let (mut rounds, mut opened) = (0, 0);
        group.bench_function(&name, |bencher| {
            bencher.iter(|| {
                opened += u64::from(black_box(look_at(&envelope, black_box(frames))).is_some());
                rounds += 1;
            });
        });
        assert_eq!(opened, rounds, "{name}");
    }
    let (mut rounds, mut looked_at) = (0, 0);
    group.bench_function(EMPTY, |bencher| {
        bencher.iter(|| {
            let lengths = black_box(&one[..]).first().map(|frame| (frame.len(), 0, 0));
            looked_at += u64::from(black_box(lengths).is_some());
            rounds += 1;
        });
    });
    assert_eq!(looked_at, rounds);
    let mut header_behind_topic = [&topic[..], &[0]].concat();
    for number in [STAMP.epoch, STAMP.sequence, STAMP.timestamp_ns] {
        header_behind_topic.extend_from_slice(&number.to_le_bytes());
    }
    header_behind_topic.extend_from_slice(&[b'x'; 64]);
    let opened = open_header_behind_topic(&header_behind_topic);
    assert_eq!(opened, Some((topic.len(), STAMP)));
    let (mut rounds, mut opened) = (0, 0);
    group.bench_function("turned down: numbers behind the topic", |bencher| {
        bencher.iter(|| {
            let found = open_header_behind_topic(black_box(&header_behind_topic));
            opened += u64::from(black_box(found).is_some());
            rounds += 1;
        });
    });
    assert_eq!(opened, rounds);
    group.finish();
}

criterion_group!(benches, open);
criterion_main!(benches);
