//! Layouts: envelopes that are described rather than programmed, in `feeds.toml` or as a
//! [preset](crate::envelope::preset).
//!
//! A layout says in which frame and where in it each field stands. To open a message by it is to
//! follow that description field by field: some branches more than a format that is programmed, which
//! is why the formats that need the speed are variants of [`Envelope`](crate::envelope::Envelope).
//! Frames are counted from 0.

use std::ops::Deref;

use memchr::memchr_iter;

use crate::{
    envelope::{Fields, Inflation, NumberAt, Place, SequenceAt, TimestampAt, whole},
    ledger::Rejection,
    message::Stamp,
    sequence::Numbering,
};

/// Where the topic stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicAt {
    /// Nowhere: all messages are of one topic, which is empty.
    None,
    /// It is this frame.
    Frame(usize),
    /// It is this frame up to the first of these bytes together, which are not part of anything.
    Until(usize, Vec<u8>),
    /// It is the first so many bytes of this frame.
    Bytes(usize, usize),
}

impl TopicAt {
    /// Returns the frame that it is in.
    #[must_use]
    pub fn frame(&self) -> Option<usize> {
        match *self {
            Self::None => None,
            Self::Frame(frame) | Self::Until(frame, _) | Self::Bytes(frame, _) => Some(frame),
        }
    }

    /// Finds it, and where in its frame a payload starts that follows it there.
    #[inline]
    fn find<F: Deref<Target = [u8]>>(&self, frames: &[F]) -> Result<(Place, usize), Rejection> {
        let get = |frame: usize| frames.get(frame).ok_or(Rejection::MissingFrame);
        let (frame, end, behind) = match *self {
            Self::None => (0, 0, 0),
            // A payload of the same frame is all of it, as with raw.
            Self::Frame(frame) => (frame, get(frame)?.len(), 0),
            Self::Until(frame, ref delimiter) => {
                let end = find(get(frame)?, delimiter).ok_or(Rejection::NoDelimiter)?;
                (frame, end, end + delimiter.len())
            }
            Self::Bytes(frame, bytes) if get(frame)?.len() < bytes => {
                return Err(Rejection::TruncatedField);
            }
            Self::Bytes(frame, bytes) => (frame, bytes, bytes),
        };
        let start = 0;
        Ok((Place { frame, start, end }, behind))
    }
}

/// Finds the first place of a delimiter, which is a byte or a few.
#[inline]
pub(super) fn find(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    let (&first, rest) = delimiter.split_first()?;
    memchr_iter(first, bytes).find(|at| bytes[at + 1..].starts_with(rest))
}

/// Where all fields of a message stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its name, for people.
    pub name: String,
    /// Where the topic stands.
    pub topic: TopicAt,
    /// The frame of the payload: what is behind the topic, where that is cut off the same frame, and
    /// otherwise all of it.
    pub payload: usize,
    /// Whether topic and payload have to be UTF-8.
    pub text: bool,
    /// Where the sequence number stands, if there is one.
    pub sequence: Option<SequenceAt>,
    /// The topic of heartbeats, which have no number of their own: they repeat that of the last message. Where
    /// numbers count all topics they so tell what is missing at the end.
    pub heartbeat: Option<Box<[u8]>>,
    /// Where the publisher's epoch stands, if there is one.
    pub epoch: Option<NumberAt>,
    /// Where the publisher's time stands, if it does.
    pub timestamp: Option<TimestampAt>,
    /// Which frame is compressed, if one is. All else is about the frame that it inflates to.
    pub inflate: Option<Inflation>,
}

impl Layout {
    /// Finds the fields of a message in its frames, of which there is at least one, inflated already.
    ///
    /// # Errors
    /// The [`Rejection`], where the message is not of this layout.
    // In line it would keep the formats that are programmed from being opened in line.
    #[inline(never)]
    pub fn open<F: Deref<Target = [u8]>>(&self, frames: &[F]) -> Result<Fields, Rejection> {
        let (topic, behind) = self.topic.find(frames)?;
        let frame = frames.get(self.payload).ok_or(Rejection::MissingFrame)?;
        let mut payload = whole(self.payload, frame);
        if topic.frame == self.payload {
            payload.start = behind;
        }
        for place in [topic, payload] {
            let bytes = &frames[place.frame][place.start..place.end];
            if self.text && str::from_utf8(bytes).is_err() {
                return Err(Rejection::NotUtf8);
            }
        }
        Ok(Fields {
            topic,
            payload,
            stamp: self.stamp(frames, topic, payload)?,
        })
    }

    #[inline]
    fn stamp<F: Deref<Target = [u8]>>(
        &self,
        frames: &[F],
        topic: Place,
        payload: Place,
    ) -> Result<Stamp, Rejection> {
        if self.sequence.is_none() && self.epoch.is_none() && self.timestamp.is_none() {
            return Ok(Stamp::NONE);
        }
        let mut stamp = self.numbers(frames)?;
        if self.heartbeat.as_deref() == Some(topic.of(frames)) {
            stamp.sequence = Stamp::NONE.sequence;
        }
        if let Some(at) = &self.timestamp {
            stamp.timestamp_ns = at.read(frames, payload)?;
        }
        Ok(stamp)
    }

    /// Reads what is numbered.
    #[inline]
    fn numbers<F: Deref<Target = [u8]>>(&self, frames: &[F]) -> Result<Stamp, Rejection> {
        let mut stamp = Stamp::NONE;
        if let Some(at) = &self.sequence {
            let sequence = at.number.read(frames)?;
            if Some(sequence) != at.unnumbered {
                stamp.sequence = sequence;
            }
        }
        if let Some(at) = &self.epoch {
            stamp.epoch = at.read(frames)?;
        }
        Ok(stamp)
    }

    /// Returns what a heartbeat repeats, which [`open`](Self::open) leaves out, where the message is one.
    pub(super) fn heartbeat_in<F: Deref<Target = [u8]>>(&self, frames: &[F]) -> Option<Stamp> {
        let heartbeat = self.heartbeat.as_deref()?;
        let (topic, _) = self.topic.find(frames).ok()?;
        let numbers = (topic.of(frames) == heartbeat).then(|| self.numbers(frames))?;
        numbers.ok()
    }

    /// Returns how messages are numbered, if they are.
    #[must_use]
    pub fn numbering(&self) -> Option<Numbering> {
        self.sequence.map(|sequence| Numbering {
            scope: sequence.scope,
            width_bits: 8 * sequence.number.width.bytes() as u32,
            start: sequence.start,
            has_epoch: self.epoch.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;

    fn layout(topic: TopicAt, payload: usize) -> Layout {
        Layout {
            name: "test".to_owned(),
            topic,
            payload,
            text: false,
            sequence: None,
            heartbeat: None,
            epoch: None,
            timestamp: None,
            inflate: None,
        }
    }

    fn opened<'a>(layout: &Layout, frames: &[&'a [u8]]) -> Result<[&'a [u8]; 2], Rejection> {
        let fields = layout.open(frames)?;
        Ok([fields.topic, fields.payload].map(|at| &frames[at.frame][at.start..at.end]))
    }

    #[test]
    fn topics_of_each_kind_are_found() {
        let frames: [&[u8]; 2] = [b"a:b:|:rest", b"second"];
        let until = |delimiter: &[u8]| TopicAt::Until(0, delimiter.to_vec());
        for (topic, payload, expected) in [
            (TopicAt::None, 0, Ok([&b""[..], frames[0]])),
            (TopicAt::None, 1, Ok([b"", b"second"])),
            (TopicAt::Frame(0), 0, Ok([frames[0], frames[0]])),
            (TopicAt::Frame(1), 0, Ok([b"second", frames[0]])),
            (TopicAt::Frame(2), 0, Err(Rejection::MissingFrame)),
            (TopicAt::Frame(0), 2, Err(Rejection::MissingFrame)),
            (until(b":"), 0, Ok([b"a", b"b:|:rest"])),
            (until(b":|:"), 0, Ok([b"a:b", b"rest"])),
            (until(b":|:"), 1, Ok([b"a:b", b"second"])),
            (until(b"#"), 0, Err(Rejection::NoDelimiter)),
            (TopicAt::Bytes(0, 3), 0, Ok([b"a:b", b":|:rest"])),
            (TopicAt::Bytes(1, 7), 0, Err(Rejection::TruncatedField)),
        ] {
            let layout = layout(topic, payload);
            assert_eq!(opened(&layout, &frames), expected, "{layout:?}");
        }
    }

    #[test]
    fn a_delimiter_at_the_very_end_is_one() {
        let layout = layout(TopicAt::Until(0, b":|:".to_vec()), 0);
        assert_eq!(opened(&layout, &[b"x:|:"]), Ok([&b"x"[..], b""]));
        assert_eq!(opened(&layout, &[b"x:|"]), Err(Rejection::NoDelimiter));
    }

    #[test]
    fn heartbeats_have_the_number_of_another_message() {
        let Envelope::Layout(kvmsg) = "kvmsg".parse().unwrap() else {
            panic!("it is a layout");
        };
        let numbers = |topic: &'static [u8], number: u64| {
            let number = number.to_be_bytes();
            let frames = [topic, &number, b"", b"", b""];
            let own = kvmsg.open(&frames).unwrap().stamp;
            let said = kvmsg.heartbeat_in(&frames);
            (own.sequence(), said.map(|stamp| stamp.sequence()))
        };
        assert_eq!(numbers(b"HUGZ", 7), (None, Some(Some(7))));
        assert_eq!(numbers(b"HUGZ", 0), (None, Some(None)));
        assert_eq!(numbers(b"key", 7), (Some(7), None));
    }

    #[test]
    fn text_has_to_be_utf8_where_the_layout_says_so() {
        let mut layout = layout(TopicAt::Until(0, b" ".to_vec()), 0);
        let bad: [&[u8]; 2] = [b"\xff x", b"x \xc3"];
        assert!(bad.iter().all(|frame| opened(&layout, &[frame]).is_ok()));
        layout.text = true;
        for frame in bad {
            assert_eq!(opened(&layout, &[frame]), Err(Rejection::NotUtf8));
        }
        assert!(opened(&layout, &["é ü".as_bytes()]).is_ok());
    }
}
