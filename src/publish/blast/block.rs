//! Messages encoded once, as they go over the wire, to be sent over and over.
//!
//! What changes from one round to the next are the numbers of the pinfeed envelope, which stand at a fixed distance
//! from the end of a message's first frame: a topic's sequence numbers grow, from one round to the next, by the
//! number of its messages in the block. So stamping a message is an addition and a store, with nothing to look up:
//! some 2.5 ns while the block is in the second-level cache, which is what bounds its size where the number of
//! topics allows. Offsets are in bytes from the start of the block.

use std::ops::Range;

use crate::{
    envelope::pinfeed,
    error::Result,
    message::Stamp,
    publish::{
        Source,
        blast::CHUNK_BYTES,
        format::{Format, payload_parts},
    },
    zmtp::frame::{MORE, decode_head, encode_head, encode_message},
};

/// How large a block gets: some 16,000 messages of 64 bytes, about as much as a second-level cache holds; larger where
/// its parts would be less than is written at once.
const BLOCK_BYTES: usize = 1_100_000;
/// How large it gets at most, where topics are many.
const BLOCK_BYTES_MAX: usize = 256 << 20;

/// Messages encoded as they go over the wire.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Vec<u8>,
    /// The end of each message.
    ends: Vec<u32>,
    /// The end of each message's first frame, before which its numbers stand.
    stamp_ends: Vec<u32>,
    /// By how much the sequence number of each message grows from one round to the next.
    steps: Vec<u32>,
    /// The payload bytes of all messages before each, and of all.
    payload_bytes_before: Vec<u64>,
    format: Format,
    /// Frames of a message in the pinfeed envelope, which stands in the first.
    frames: usize,
    /// Runs of messages that have topics of their own.
    parts: Vec<Range<usize>>,
}

impl Block {
    /// Encodes what a source says, in so many frames, until there are as many messages as `topics` and enough bytes.
    /// Every `parts`th topic is in the same part.
    ///
    /// # Errors
    /// What the source fails with.
    pub(super) fn encode(
        source: &mut dyn Source,
        (format, frames): (Format, usize),
        epoch: u64,
        topics: usize,
        parts: usize,
    ) -> Result<Self> {
        let mut block = Self::empty(format, frames);
        let mut message_topics = Vec::new();
        // By topic.
        let mut counts: Vec<u32> = Vec::new();
        let mut payload = Vec::new();
        let bytes = BLOCK_BYTES.max(parts * CHUNK_BYTES);
        while (block.ends.len() < topics || block.bytes.len() < bytes)
            && block.bytes.len() < BLOCK_BYTES_MAX
        {
            payload.clear();
            let Some(item) = source.next(&mut payload)? else {
                break;
            };
            if counts.len() <= item.topic {
                counts.resize(item.topic + 1, 0);
            }
            let stamp = Stamp {
                epoch,
                sequence: counts[item.topic].into(),
                timestamp_ns: 0,
            };
            counts[item.topic] += 1;
            message_topics.push(item.topic);
            block.push(source.topic(item.topic), &payload, stamp);
        }
        block.steps = message_topics.iter().map(|&topic| counts[topic]).collect();
        block.part(&message_topics, parts);
        // For the first round to step from.
        block.rewind();
        Ok(block)
    }

    fn empty(format: Format, frames: usize) -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            stamp_ends: Vec::new(),
            steps: Vec::new(),
            payload_bytes_before: vec![0],
            format,
            frames,
            parts: Vec::new(),
        }
    }

    /// Puts the messages of each part together, in their order.
    fn part(&mut self, topics: &[usize], parts: usize) {
        let mut order: Vec<usize> = (0..self.messages()).collect();
        order.sort_by_key(|&message| topics[message] % parts);
        let mut parted = Self::empty(self.format, self.frames);
        for part in 0..parts {
            let place = |part| order.partition_point(|&message| topics[message] % parts < part);
            parted.parts.push(place(part)..place(part + 1));
        }
        let mut payload_bytes = 0;
        for &message in &order {
            let place = self.place(message..message + 1);
            let first_frame_bytes = self.stamp_ends[message] as usize - place.start;
            // No longer than before.
            let stamp_end = (parted.bytes.len() + first_frame_bytes) as u32;
            parted.stamp_ends.push(stamp_end);
            parted.bytes.extend_from_slice(&self.bytes[place]);
            parted.ends.push(parted.bytes.len() as u32);
            parted.steps.push(self.steps[message]);
            payload_bytes += self.payload_bytes(message..message + 1);
            parted.payload_bytes_before.push(payload_bytes);
        }
        *self = parted;
    }

    fn push(&mut self, topic: &[u8], payload: &[u8], stamp: Stamp) {
        let mut further = &[][..];
        match self.format {
            Format::Raw => encode_message(&mut self.bytes, &[topic, payload]),
            Format::Delimited(delimiter) => {
                encode_head(&mut self.bytes, 0, topic.len() + 1 + payload.len());
                self.bytes.extend_from_slice(topic);
                self.bytes.push(delimiter);
                self.bytes.extend_from_slice(payload);
            }
            Format::Pinfeed => {
                let first_bytes = payload_parts(payload.len(), self.frames).next();
                let (first, rest) = payload.split_at(first_bytes.unwrap_or(payload.len()));
                further = rest;
                let more = if self.frames > 1 { MORE } else { 0 };
                let frame_bytes = topic.len() + first.len() + pinfeed::OVERHEAD_BYTES;
                encode_head(&mut self.bytes, more, frame_bytes);
                pinfeed::seal(&mut self.bytes, topic, first, stamp);
            }
        }
        let end =
            |bytes: &Vec<u8>| u32::try_from(bytes.len()).expect("limits keep blocks below 4 GiB");
        self.stamp_ends.push(end(&self.bytes));
        if self.frames > 1 {
            let parts = payload_parts(payload.len(), self.frames).skip(1);
            let frames: Vec<&[u8]> = parts
                .map(|bytes| {
                    let (part, rest) = further.split_at(bytes);
                    further = rest;
                    part
                })
                .collect();
            encode_message(&mut self.bytes, &frames);
        }
        self.ends.push(end(&self.bytes));
        let payload_bytes_before = self.payload_bytes_before[self.ends.len() - 1];
        self.payload_bytes_before
            .push(payload_bytes_before + payload.len() as u64);
    }

    /// Returns the number of messages.
    pub(super) fn messages(&self) -> usize {
        self.ends.len()
    }

    /// Returns where the messages of a part are, counted from 0.
    pub(super) fn messages_of(&self, part: usize) -> Range<usize> {
        self.parts[part].clone()
    }

    /// Returns all bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns where messages stand that follow each other.
    pub(super) fn place(&self, messages: Range<usize>) -> Range<usize> {
        self.start(messages.start)..self.start(messages.end)
    }

    /// Returns where a message starts: where the one before it ends.
    fn start(&self, message: usize) -> usize {
        message
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize)
    }

    /// Returns the payload bytes of messages that follow each other.
    pub(super) fn payload_bytes(&self, messages: Range<usize>) -> u64 {
        self.payload_bytes_before[messages.end] - self.payload_bytes_before[messages.start]
    }

    /// Returns as many of these messages as `bytes` hold, at least one, or all of them where half as much again does: a
    /// few that are left over would cost a write of their own. At most `messages_max`.
    pub(super) fn chunk(
        &self,
        messages: Range<usize>,
        mut bytes: usize,
        messages_max: u64,
    ) -> Range<usize> {
        let first = messages.start;
        if self.place(messages.clone()).len() <= bytes + bytes / 2 {
            bytes += bytes / 2;
        }
        let end_max = self.start(first) + bytes;
        let fitting = self.ends[messages.clone()].partition_point(|&end| end as usize <= end_max);
        let whole = fitting.max(1).min(messages.len()) as u64;
        first..first + whole.min(messages_max) as usize
    }

    /// Gives messages that follow each other the sequence numbers of the next round, and each the
    /// timestamp that `timestamp_ns` says, counting from the first of them. To be called for each
    /// message once a round.
    #[inline]
    pub(super) fn stamp(&mut self, messages: Range<usize>, timestamp_ns: impl Fn(u64) -> u64) {
        if self.format != Format::Pinfeed {
            return;
        }
        let steps = &self.steps[messages.clone()];
        let ends = &self.stamp_ends[messages];
        for (index, (&end, &step)) in (0..).zip(ends.iter().zip(steps)) {
            let frame = &mut self.bytes[..end as usize];
            pinfeed::restamp(frame, step.into(), timestamp_ns(index));
        }
    }

    /// Takes the sequence numbers of all messages back by a round.
    fn rewind(&mut self) {
        if self.format != Format::Pinfeed {
            return;
        }
        for (&end, &step) in self.stamp_ends.iter().zip(&self.steps) {
            let frame = &mut self.bytes[..end as usize];
            pinfeed::restamp(frame, u64::from(step).wrapping_neg(), 0);
        }
    }

    /// Returns what subscriptions to a message are matched against: its first frame, but for what
    /// stamping changes.
    pub(super) fn key(&self, message: usize) -> &[u8] {
        let bytes = &self.bytes[self.place(message..message + 1)];
        let head = decode_head(bytes, usize::MAX, 0)
            .ok()
            .flatten()
            .expect("the block holds whole messages");
        let frame = &bytes[head.head_bytes..head.head_bytes + head.body_bytes];
        match self.format {
            Format::Pinfeed => &frame[..frame.len() - pinfeed::TRAILER_BYTES],
            Format::Raw | Format::Delimited(_) => frame,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        publish::exchange::{Exchange, Parameters},
        zmtp::{Cut, Frames, Limits, Splitter},
    };
    use std::collections::HashMap;

    /// A block of ticks of few topics, a frame each, or two with [`Format::Raw`].
    pub(in crate::publish::blast) fn block(format: Format, topics: usize) -> Block {
        block_in(format, 1, topics)
    }

    fn block_in(format: Format, frames: usize, topics: usize) -> Block {
        let mut exchange = Exchange::new(Parameters {
            topics,
            ..Parameters::default()
        })
        .unwrap();
        Block::encode(&mut exchange, (format, frames), 7, topics, 1).unwrap()
    }

    fn messages(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
        let mut splitter = Splitter::new(Limits {
            frame_bytes_max: 1_000,
            message_bytes_max: 1_000,
            frames_max: 4,
        });
        let mut rest = bytes;
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let mut frames = Frames::default();
            let (cut, consumed) = splitter.cut(rest, &mut frames).unwrap();
            assert_eq!(cut, Cut::Message);
            messages.push(frames.as_slice().to_vec());
            rest = &rest[consumed..];
        }
        messages
    }

    #[test]
    fn sequences_have_no_gap_over_several_rounds() {
        for frames in [1, 2, 4] {
            assert_no_gaps(block_in(Format::Pinfeed, frames, 100), frames);
        }
    }

    fn assert_no_gaps(mut block: Block, frames_of_each: usize) {
        let mut next: HashMap<Vec<u8>, u64> = HashMap::new();
        let mut sent = 0;
        for round in 0..3 {
            let mut first = 0;
            while first < block.messages() {
                let chunk = block.chunk(first..block.messages(), 10_000, u64::MAX);
                let (bytes, left) = (
                    block.place(chunk.clone()).len(),
                    block.place(chunk.end..block.messages()).len(),
                );
                assert!(bytes <= if left == 0 { 15_000 } else { 10_000 });
                assert!(left == 0 || left > 5_000, "{left}");
                block.stamp(chunk.clone(), |index| 7_000_000 + sent + index);
                for frames in messages(&block.bytes()[block.place(chunk.clone())]) {
                    assert_eq!(frames.len(), frames_of_each);
                    let fields = pinfeed::open(frames[0]).unwrap();
                    let topic = &frames[0][fields.topic.start..fields.topic.end];
                    let stamp = fields.stamp;
                    let next = next.entry(topic.to_vec()).or_default();
                    assert_eq!(stamp.sequence, *next, "round {round}");
                    assert_eq!(stamp.timestamp_ns, 7_000_000 + sent);
                    *next += 1;
                    sent += 1;
                }
                first = chunk.end;
            }
        }
        assert_eq!(sent, 3 * block.messages() as u64);
        assert_eq!(next.values().sum::<u64>(), sent);
        assert_eq!(next.len(), 100);
    }

    #[test]
    fn every_envelope_goes_over_the_wire_as_it_does_from_libzmq() {
        let raw = block(Format::Raw, 10);
        let delimited = block(Format::Delimited(b'|'), 10);
        let pinfeed = block(Format::Pinfeed, 10);
        for block in [&raw, &delimited, &pinfeed] {
            assert_eq!(messages(block.bytes()).len(), block.messages());
            let payload_bytes = block.payload_bytes(0..block.messages());
            assert_eq!(payload_bytes, 28 * block.messages() as u64);
        }
        let two_frames = messages(raw.bytes());
        let one_frame = messages(delimited.bytes());
        let stamped = messages(pinfeed.bytes());
        for message in 0..pinfeed.messages() {
            let [topic, payload] = two_frames[message][..] else {
                panic!("a topic and a payload");
            };
            assert_eq!(one_frame[message], [[topic, b"|", payload].concat()]);
            let fields = pinfeed::open(stamped[message][0]).unwrap();
            let at = |start, end| &stamped[message][0][start..end];
            assert_eq!(at(fields.topic.start, fields.topic.end), topic);
            assert_eq!(at(fields.payload.start, fields.payload.end), payload);
            assert_eq!(raw.key(message), topic);
            assert_eq!(delimited.key(message), one_frame[message][0]);
            assert_eq!(pinfeed.key(message), [topic, b"\0", payload].concat());
        }
    }

    #[test]
    fn frames_hold_the_same_payload_as_one() {
        let one = block_in(Format::Pinfeed, 1, 10);
        let three = block_in(Format::Pinfeed, 3, 10);
        let whole = messages(one.bytes());
        for (message, frames) in messages(three.bytes()).iter().enumerate() {
            let fields = pinfeed::open(frames[0]).unwrap();
            let first = &frames[0][fields.payload.start..fields.payload.end];
            let fields = pinfeed::open(whole[message][0]).unwrap();
            let payload = &whole[message][0][fields.payload.start..fields.payload.end];
            assert_eq!([first, frames[1], frames[2]].concat(), payload);
            assert_eq!([frames[1].len(), frames[2].len()], [9, 9], "of 28");
            assert_eq!(three.payload_bytes(message..message + 1), 28);
        }
    }

    #[test]
    fn a_block_is_small_but_where_topics_are_many() {
        let few = block(Format::Pinfeed, 10);
        assert!((16_000..17_000).contains(&few.messages()));
        assert!(few.bytes().len() < 1_200_000);
        assert_eq!(block(Format::Pinfeed, 30_000).messages(), 30_000);
    }

    #[test]
    fn chunks_are_bounded_by_bytes_messages_and_the_end() {
        let block = block(Format::Delimited(b' '), 10);
        let message_bytes = block.place(0..1).len();
        let last = block.messages() - 1;
        assert_eq!(block.chunk(5..100, 4 * message_bytes, 100), 5..9);
        assert_eq!(block.chunk(5..100, 4 * message_bytes, 3), 5..8);
        assert_eq!(block.chunk(5..7, 4 * message_bytes, 100), 5..7);
        assert_eq!(block.chunk(5..100, 1, 100), 5..6, "at least one");
        assert_eq!(block.chunk(last..last + 1, 1 << 20, 100), last..last + 1);
    }

    #[test]
    fn parts_have_topics_of_their_own_and_all_messages() {
        let mut exchange = Exchange::new(Parameters::default()).unwrap();
        let block = Block::encode(&mut exchange, (Format::Raw, 1), 7, 1_000, 3).unwrap();
        let parts: Vec<Range<usize>> = (0..3).map(|part| block.messages_of(part)).collect();
        assert_eq!(parts[0].start, 0);
        assert_eq!(parts[0].end, parts[1].start);
        assert_eq!(parts[1].end, parts[2].start);
        assert_eq!(parts[2].end, block.messages());
        for (part, messages) in parts.into_iter().enumerate() {
            assert!(!messages.is_empty());
            for message in messages {
                let topic = block.key(message).strip_prefix(b"sim.").unwrap();
                let topic: usize = str::from_utf8(topic).unwrap().parse().unwrap();
                assert_eq!(topic % 3, part);
            }
        }
        let payload_bytes = block.payload_bytes(0..block.messages());
        assert_eq!(payload_bytes, 28 * block.messages() as u64);
    }
}
