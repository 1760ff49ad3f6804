//! Layouts of publishers that exist, by name.
//!
//! | name | frames | numbers |
//! |---|---|---|
//! | `bitcoind` | topic / body / sequence | `u32` little-endian, by topic, from 0 at each start |
//! | `kvmsg` | key / sequence / UUID / properties / body | `u64` big-endian, of the server, from 1 |
//! | `cryptofeed` | `EXCHANGE-channel-SYMBOL {json}` | - |
//! | `eddn` | zlib of JSON, no topic | - |
//! | `dwx` | `SYMBOL:\|:bid;ask` | - |
//!
//! Of `kvmsg`, the message of the Clone pattern in the ZeroMQ Guide, heartbeats are messages of the topic `HUGZ`
//! without a number: what stands there is 0, or, of other servers, the number of the last update, which tells what
//! is missing.

use std::sync::Arc;

use crate::{
    envelope::{
        Endian, Envelope, FieldName, INFLATED_BYTES_MAX, Inflation, Layout, NumberAt, SequenceAt,
        TextTime, TimestampAt, TopicAt, Unit, Width,
    },
    sequence::Scope,
};

/// The topic of the Clone pattern's heartbeats.
const HUGZ: &[u8] = b"HUGZ";

/// A name, and the envelope that it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// The name in configurations and on the command line.
    pub name: &'static str,
    /// Whose format it is, on which side of the connection the publisher is, and how messages look.
    pub description: &'static str,
    make: fn() -> Layout,
}

impl Preset {
    /// All presets that are layouts.
    pub const ALL: [Self; 5] = [
        Self {
            name: "bitcoind",
            description: "bitcoind and its forks, which bind: topic / body / u32 sequence by topic",
            make: bitcoind,
        },
        Self {
            name: "kvmsg",
            description: "the Guide's Clone servers, which bind: key / u64 sequence / uuid / \
                          properties / body",
            make: kvmsg,
        },
        Self {
            name: "cryptofeed",
            description: "cryptofeed's ZeroMQ backend, which connects: `topic {json}` with \
                          \"timestamp\" in seconds",
            make: cryptofeed,
        },
        Self {
            name: "eddn",
            description: "the EDDN relay, which binds: zlib of JSON without a topic, \
                          \"gatewayTimestamp\" as a date",
            make: eddn,
        },
        Self {
            name: "dwx",
            description: "the DWX connector for MetaTrader, which binds: `SYMBOL:|:bid;ask`",
            make: dwx,
        },
    ];

    /// Returns the envelope of this name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Envelope> {
        let preset = Self::ALL.iter().find(|preset| preset.name == name);
        preset.map(Self::envelope)
    }

    /// Returns its envelope.
    #[must_use]
    pub fn envelope(&self) -> Envelope {
        let mut layout = (self.make)();
        layout.name = self.name.to_owned();
        Envelope::Layout(Arc::new(layout))
    }
}

/// A layout with a topic and a payload and nothing else.
fn plain(topic: TopicAt, payload: usize) -> Layout {
    Layout {
        name: String::new(),
        topic,
        payload,
        text: false,
        sequence: None,
        epoch: None,
        timestamp: None,
        heartbeat: None,
        inflate: None,
    }
}

fn bitcoind() -> Layout {
    let number = NumberAt {
        frame: 2,
        offset: 0,
        width: Width::Four,
        endian: Endian::Little,
    };
    Layout {
        sequence: Some(SequenceAt {
            number,
            scope: Scope::Topic,
            start: Some(0),
            unnumbered: None,
        }),
        ..plain(TopicAt::Frame(0), 1)
    }
}

fn kvmsg() -> Layout {
    let number = NumberAt {
        frame: 1,
        offset: 0,
        width: Width::Eight,
        endian: Endian::Big,
    };
    Layout {
        sequence: Some(SequenceAt {
            number,
            scope: Scope::Line,
            start: Some(1),
            unnumbered: Some(0),
        }),
        heartbeat: Some(HUGZ.into()),
        ..plain(TopicAt::Frame(0), 4)
    }
}

fn cryptofeed() -> Layout {
    let time = TextTime::Number(Unit::Seconds);
    Layout {
        text: true,
        timestamp: Some(TimestampAt::Json(FieldName::new("timestamp"), time)),
        ..plain(TopicAt::Until(0, b" ".to_vec()), 0)
    }
}

fn eddn() -> Layout {
    let name = FieldName::new("gatewayTimestamp");
    Layout {
        text: true,
        timestamp: Some(TimestampAt::Json(name, TextTime::Iso8601)),
        inflate: Some(Inflation {
            frame: 0,
            bytes_max: INFLATED_BYTES_MAX,
        }),
        ..plain(TopicAt::None, 0)
    }
}

fn dwx() -> Layout {
    Layout {
        text: true,
        ..plain(TopicAt::Until(0, b":|:".to_vec()), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::Rejection, message::Stamp, sequence::Numbering};
    use proptest::prelude::*;

    /// Topic, payload and stamp.
    type Opened = (Vec<u8>, Vec<u8>, Stamp);

    fn open(name: &str, frames: &[&[u8]]) -> Result<Opened, Rejection> {
        let envelope = Preset::named(name).expect("it is a preset");
        let fields = envelope.open(frames)?;
        let [topic, payload] = [fields.topic, fields.payload]
            .map(|place| frames[place.frame][place.start..place.end].to_vec());
        Ok((topic, payload, fields.stamp))
    }

    #[test]
    fn messages_as_their_publishers_write_them() {
        let stamp = |sequence, timestamp_ns| Stamp {
            sequence,
            timestamp_ns,
            ..Stamp::NONE
        };
        let none = Stamp::NONE;
        let kvmsg = |sequence: u8| {
            open(
                "kvmsg",
                &[b"k", &[0, 0, 0, 0, 0, 0, 1, sequence], b"", b"", b"v"],
            )
        };
        for (opened, topic, payload, expected) in [
            (
                open("bitcoind", &[b"hashtx", b"body", b"\x01\x02\0\0"]),
                &b"hashtx"[..],
                &b"body"[..],
                stamp(0x201, none.timestamp_ns),
            ),
            (kvmsg(2), b"k", b"v", stamp(0x102, none.timestamp_ns)),
            (
                open("kvmsg", &[b"HUGZ", &[0; 8], b"", b"", b""]),
                b"HUGZ",
                b"",
                none,
            ),
            (
                open("kvmsg", &[b"HUGZ", &[1; 8], b"", b"", b""]),
                b"HUGZ",
                b"",
                none,
            ),
            (
                open(
                    "cryptofeed",
                    &[b"BINANCE-trades-BTC-USDT {\"timestamp\": 1.5}"],
                ),
                b"BINANCE-trades-BTC-USDT",
                b"{\"timestamp\": 1.5}",
                stamp(none.sequence, 1_500_000_000),
            ),
            (
                open("dwx", &[b"EURUSD:|:1.1;1.2"]),
                b"EURUSD",
                b"1.1;1.2",
                none,
            ),
        ] {
            let (found_topic, found_payload, found) = opened.expect("it fits");
            assert_eq!((&found_topic[..], &found_payload[..]), (topic, payload));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn numbering_is_told() {
        let numbering = |name| Preset::named(name).and_then(|envelope| envelope.numbering());
        let bitcoind = Numbering {
            scope: Scope::Topic,
            width_bits: 32,
            start: Some(0),
            has_epoch: false,
        };
        let kvmsg = Numbering {
            scope: Scope::Line,
            width_bits: 64,
            start: Some(1),
            has_epoch: false,
        };
        assert_eq!(numbering("bitcoind"), Some(bitcoind));
        assert_eq!(numbering("kvmsg"), Some(kvmsg));
        assert_eq!(numbering("cryptofeed"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_opened_or_rejected(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..7),
        ) {
            let fast = [Envelope::Raw, Envelope::Delimited(b' '), Envelope::Pinfeed];
            for envelope in Preset::ALL.iter().map(Preset::envelope).chain(fast) {
                if let Ok(fields) = envelope.open(&frames) {
                    for place in [fields.topic, fields.payload] {
                        prop_assert!(place.start <= place.end);
                        prop_assert!(place.end <= frames[place.frame].len());
                    }
                }
            }
        }
    }
}
