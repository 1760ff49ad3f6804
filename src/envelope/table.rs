//! Envelopes as `feeds.toml` writes them: a name, or a table that describes a [`Layout`].

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    envelope::{
        Endian, Envelope, FieldName, INFLATED_BYTES_MAX, INFLATED_LIMIT_BYTES_MAX, Inflation,
        Layout, NumberAt, SequenceAt, TextTime, TimestampAt, TopicAt, Unit, Width,
    },
    error::Error,
    message::FRAMES_MAX,
    sequence::Scope,
};

/// The longest delimiter, and the longest topic that is a number of bytes.
const TOPIC_BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    topic: Option<Topic>,
    payload: Option<Payload>,
    #[serde(default)]
    text: bool,
    sequence: Option<Sequence>,
    epoch: Option<Number>,
    timestamp: Option<Timestamp>,
    inflate: Option<Inflate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    frame: usize,
    until: Option<String>,
    bytes: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    frame: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Number {
    frame: usize,
    #[serde(default)]
    offset: i32,
    width: usize,
    #[serde(default)]
    endian: EndianName,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EndianName {
    #[default]
    Little,
    Big,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ScopeName {
    #[default]
    Topic,
    Line,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sequence {
    frame: usize,
    #[serde(default)]
    offset: i32,
    width: usize,
    #[serde(default)]
    endian: EndianName,
    #[serde(default)]
    scope: ScopeName,
    start: Option<u64>,
    unnumbered: Option<u64>,
    heartbeat: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Timestamp {
    json: Option<String>,
    frame: Option<usize>,
    offset: Option<i32>,
    width: Option<usize>,
    endian: Option<EndianName>,
    unit: UnitName,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UnitName {
    Ns,
    Us,
    Ms,
    S,
    Iso8601,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inflate {
    format: InflateFormat,
    #[serde(default)]
    frame: usize,
    bytes_max: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum InflateFormat {
    Zlib,
}

/// Puts the table's key in front of a field's.
fn wrong(key: &str, value: impl ToString, problem: &str, remedy: impl Into<String>) -> Error {
    Error::config(
        format!("envelope.{key}"),
        value.to_string(),
        problem,
        remedy,
    )
}

fn frame(key: &str, frame: usize) -> Result<usize, Error> {
    if frame < FRAMES_MAX {
        return Ok(frame);
    }
    let remedy = format!("count from 0, to at most {}", FRAMES_MAX - 1);
    Err(wrong(
        &format!("{key}.frame"),
        frame,
        "no message has so many frames",
        remedy,
    ))
}

impl Topic {
    fn layout(self) -> Result<TopicAt, Error> {
        let frame = frame("topic", self.frame)?;
        let fits = |length: usize| (1..=TOPIC_BYTES_MAX).contains(&length);
        match (self.until, self.bytes) {
            (None, None) => Ok(TopicAt::Frame(frame)),
            (Some(until), None) if fits(until.len()) => {
                Ok(TopicAt::Until(frame, until.into_bytes()))
            }
            (None, Some(bytes)) if fits(bytes) => Ok(TopicAt::Bytes(frame, bytes)),
            (Some(until), None) => Err(wrong(
                "topic.until",
                format!("\"{}\"", until.escape_debug()),
                "it is no delimiter",
                "give at least one character, for instance \" \" or \"\\u0000\"",
            )),
            (None, Some(bytes)) => Err(wrong(
                "topic.bytes",
                bytes,
                "it is out of range",
                format!("give from 1 to {TOPIC_BYTES_MAX}"),
            )),
            (Some(_), Some(bytes)) => Err(wrong(
                "topic.bytes",
                bytes,
                "`until` says already where the topic ends",
                "give `until` or `bytes`, not both",
            )),
        }
    }
}

impl Number {
    fn layout(&self, key: &str) -> Result<NumberAt, Error> {
        let width = match self.width {
            4 => Width::Four,
            8 => Width::Eight,
            other => {
                let key = format!("{key}.width");
                return Err(wrong(
                    &key,
                    other,
                    "it is no width of a number",
                    "give 4 or 8, in bytes",
                ));
            }
        };
        let beyond = -(width.bytes() as i32);
        if self.offset < 0 && self.offset > beyond {
            return Err(wrong(
                &format!("{key}.offset"),
                self.offset,
                "counted from the end, the number would not fit in",
                format!("give {beyond} or less, or count from the start"),
            ));
        }
        Ok(NumberAt {
            frame: frame(key, self.frame)?,
            offset: self.offset,
            width,
            endian: match self.endian {
                EndianName::Little => Endian::Little,
                EndianName::Big => Endian::Big,
            },
        })
    }
}

impl Sequence {
    fn layout(&self) -> Result<SequenceAt, Error> {
        let number = Number {
            frame: self.frame,
            offset: self.offset,
            width: self.width,
            endian: self.endian,
        };
        let number = number.layout("sequence")?;
        for (key, value) in [("start", self.start), ("unnumbered", self.unnumbered)] {
            let largest = match number.width {
                Width::Four => u64::from(u32::MAX),
                Width::Eight => u64::MAX,
            };
            if let Some(value) = value.filter(|&value| value > largest) {
                let remedy = format!("give at most {largest}");
                return Err(wrong(
                    &format!("sequence.{key}"),
                    value,
                    "the number is not so wide",
                    remedy,
                ));
            }
        }
        Ok(SequenceAt {
            number,
            scope: match self.scope {
                ScopeName::Topic => Scope::Topic,
                ScopeName::Line => Scope::Line,
            },
            start: self.start,
            unnumbered: self.unnumbered,
        })
    }
}

impl Timestamp {
    fn layout(self) -> Result<TimestampAt, Error> {
        let unit = match self.unit {
            UnitName::Ns => Some(Unit::Nanoseconds),
            UnitName::Us => Some(Unit::Microseconds),
            UnitName::Ms => Some(Unit::Milliseconds),
            UnitName::S => Some(Unit::Seconds),
            UnitName::Iso8601 => None,
        };
        let placed = self.frame.is_some()
            || self.offset.is_some()
            || self.width.is_some()
            || self.endian.is_some();
        if let Some(name) = self.json {
            if placed || name.is_empty() {
                return Err(wrong(
                    "timestamp.json",
                    format!("\"{}\"", name.escape_debug()),
                    "it is to be the name of a field of the payload, and nothing else says where the time is",
                    "give `json` and `unit`, or `frame`, `offset`, `width`, `endian` and `unit`",
                ));
            }
            let time = unit.map_or(TextTime::Iso8601, TextTime::Number);
            return Ok(TimestampAt::Json(FieldName::new(&name), time));
        }
        let (Some(frame), Some(width)) = (self.frame, self.width) else {
            return Err(wrong(
                "timestamp",
                "{}",
                "nothing says where the time is",
                "give `json`, or `frame` and `width`",
            ));
        };
        let number = Number {
            frame,
            offset: self.offset.unwrap_or_default(),
            width,
            endian: self.endian.unwrap_or_default(),
        };
        let Some(unit) = unit else {
            return Err(wrong(
                "timestamp.unit",
                "iso8601",
                "a number of bytes is no date",
                "give ns, us, ms or s",
            ));
        };
        Ok(TimestampAt::Number(number.layout("timestamp")?, unit))
    }
}

impl Inflate {
    fn layout(self) -> Result<Inflation, Error> {
        let InflateFormat::Zlib = self.format;
        let bytes_max = self.bytes_max.unwrap_or(INFLATED_BYTES_MAX);
        if !(1..=INFLATED_LIMIT_BYTES_MAX).contains(&bytes_max) {
            let remedy = format!("give from 1 to {INFLATED_LIMIT_BYTES_MAX}");
            return Err(wrong(
                "inflate.bytes_max",
                bytes_max,
                "it is out of range",
                remedy,
            ));
        }
        Ok(Inflation {
            frame: frame("inflate", self.frame)?,
            bytes_max,
        })
    }
}

impl Table {
    fn layout(self) -> Result<Layout, Error> {
        let topic = self.topic.map_or(Ok(TopicAt::None), Topic::layout)?;
        let heartbeat = self.sequence.as_ref().and_then(|at| at.heartbeat.as_ref());
        if let Some(heartbeat) = heartbeat
            && (heartbeat.is_empty() || topic == TopicAt::None)
        {
            return Err(wrong(
                "sequence.heartbeat",
                format!("\"{}\"", heartbeat.escape_debug()),
                "it does not tell heartbeats from other messages",
                "give the topic that they have, and say where the `topic` stands",
            ));
        }
        let payload = match (&self.payload, &topic) {
            (Some(payload), _) => frame("payload", payload.frame)?,
            (None, TopicAt::Frame(topic)) => topic + 1,
            (None, topic) => topic.frame().unwrap_or(0),
        };
        Ok(Layout {
            name: "described".to_owned(),
            topic,
            payload,
            text: self.text,
            sequence: self.sequence.as_ref().map(Sequence::layout).transpose()?,
            heartbeat: heartbeat.map(|topic| topic.as_bytes().into()),
            epoch: self.epoch.map(|epoch| epoch.layout("epoch")).transpose()?,
            timestamp: self.timestamp.map(Timestamp::layout).transpose()?,
            inflate: self.inflate.map(Inflate::layout).transpose()?,
        })
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameOrTable)
    }
}

struct NameOrTable;

impl<'de> Visitor<'de> for NameOrTable {
    type Value = Envelope;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the name of an envelope, or a table that describes one")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Envelope, E> {
        name.parse()
            .map_err(|problem| E::custom(format!("\"{name}\" is {problem}")))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Envelope, A::Error> {
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        let layout = table.layout().map_err(A::Error::custom)?;
        Ok(Envelope::Layout(Arc::new(layout)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Preset;

    #[derive(Debug, Deserialize)]
    struct Feed {
        envelope: Envelope,
    }

    fn read(text: &str) -> Result<Envelope, String> {
        let feed: Result<Feed, _> = toml::from_str(text);
        feed.map(|feed| feed.envelope)
            .map_err(|error| error.to_string())
    }

    fn read_layout(table: &str) -> Layout {
        match read(&format!("[envelope]\n{table}")) {
            Ok(Envelope::Layout(layout)) => (*layout).clone(),
            other => panic!("{table} is {other:?}"),
        }
    }

    /// Each preset can be written out.
    #[test]
    fn presets_can_be_described() {
        for (name, table) in [
            (
                "bitcoind",
                r#"
                topic = { frame = 0 }
                payload = { frame = 1 }
                sequence = { frame = 2, width = 4, start = 0 }
                "#,
            ),
            (
                "kvmsg",
                r#"
                topic = { frame = 0 }
                payload = { frame = 4 }
                sequence = { frame = 1, width = 8, endian = "big", scope = "line", start = 1, unnumbered = 0, heartbeat = "HUGZ" }
                "#,
            ),
            (
                "cryptofeed",
                r#"
                topic = { frame = 0, until = " " }
                text = true
                timestamp = { json = "timestamp", unit = "s" }
                "#,
            ),
            (
                "eddn",
                r#"
                text = true
                timestamp = { json = "gatewayTimestamp", unit = "iso8601" }
                inflate = { format = "zlib", bytes_max = 1048576 }
                "#,
            ),
            ("dwx", "topic = { frame = 0, until = \":|:\" }\ntext = true"),
        ] {
            let described = Layout {
                name: name.to_owned(),
                ..read_layout(table)
            };
            let envelope = Envelope::Layout(Arc::new(described));
            assert_eq!(Some(envelope), Preset::named(name));
            let named = read(&format!("envelope = \"{name}\""));
            assert_eq!(named.ok(), Preset::named(name));
        }
    }

    #[test]
    fn numbers_may_stand_at_the_end() {
        let layout = read_layout(
            r#"
            topic = { frame = 0, bytes = 8 }
            epoch = { frame = 0, offset = -24, width = 8 }
            sequence = { frame = 0, offset = -16, width = 8 }
            timestamp = { frame = 0, offset = -8, width = 8, unit = "us" }
            "#,
        );
        let mut frame = b"BTC-USD payload".to_vec();
        for number in [7_u64, 8, 9] {
            frame.extend_from_slice(&number.to_le_bytes());
        }
        let fields = layout.open(&[frame]).unwrap();
        let stamp = fields.stamp;
        assert_eq!(
            (stamp.epoch, stamp.sequence, stamp.timestamp_ns),
            (7, 8, 9_000)
        );
        assert_eq!((fields.topic.end, fields.payload.start), (8, 8));
    }

    #[test]
    fn what_is_wrong_is_named_with_a_remedy() {
        for (table, texts) in [
            ("topic = { frame = 64 }", ["topic.frame = 64", "at most 63"]),
            (
                "topic = { frame = 0, until = \"\" }",
                ["topic.until = \"\"", "at least one"],
            ),
            (
                "topic = { frame = 0, bytes = 0 }",
                ["topic.bytes = 0", "from 1 to"],
            ),
            (
                "topic = { frame = 0, bytes = 1, until = \" \" }",
                ["topic.bytes = 1", "not both"],
            ),
            (
                "sequence = { frame = 0, width = 3 }",
                ["sequence.width = 3", "give 4 or 8"],
            ),
            (
                "sequence = { frame = 0, offset = -4, width = 8 }",
                ["sequence.offset = -4", "give -8 or less"],
            ),
            (
                "sequence = { frame = 0, width = 4, start = 4294967296 }",
                ["sequence.start = 4294967296", "at most 4294967295"],
            ),
            (
                "topic = { frame = 0 }\nsequence = { frame = 1, width = 4, heartbeat = \"\" }",
                ["sequence.heartbeat = \"\"", "topic that they have"],
            ),
            (
                "sequence = { frame = 0, width = 4, heartbeat = \"HUGZ\" }",
                ["sequence.heartbeat = \"HUGZ\"", "say where"],
            ),
            (
                "sequence = { frame = 0, width = 4, endian = \"middle\" }",
                ["middle", "little"],
            ),
            (
                "timestamp = { unit = \"s\" }",
                ["envelope.timestamp", "give `json`"],
            ),
            (
                "timestamp = { json = \"t\", frame = 0, unit = \"s\" }",
                ["timestamp.json = \"t\"", "or `frame`"],
            ),
            (
                "timestamp = { frame = 0, width = 8, unit = \"iso8601\" }",
                ["timestamp.unit = iso8601", "ns, us, ms or s"],
            ),
            (
                "inflate = { format = \"zlib\", bytes_max = 0 }",
                ["inflate.bytes_max = 0", "from 1 to"],
            ),
            ("inflate = { format = \"zip\" }", ["zip", "zlib"]),
            ("colour = 1", ["colour", "topic"]),
        ] {
            let problem = read(&format!("[envelope]\n{table}")).expect_err(table);
            for text in texts {
                assert!(problem.contains(text), "{text:?} is not in {problem}");
            }
        }
        assert!(
            read("envelope = 1")
                .unwrap_err()
                .contains("name of an envelope")
        );
        assert!(
            read("envelope = \"morse\"")
                .unwrap_err()
                .contains("raw, pinfeed")
        );
    }
}
