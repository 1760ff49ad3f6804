//! Key-value messages, as the Guide's Clone pattern (RFC 12, CHP) puts them on the wire.
//!
//! Models 5 and 6 send five frames: key, sequence (eight bytes, big-endian), uuid (sixteen bytes), properties
//! (`name=value\n`, as often as wanted), body. Models 1 to 4 send three: key, sequence, body. Decoding borrows
//! and copies nothing. The Guide's Python of models 1 to 4 writes sequences of four bytes, which are
//! understood, and sent where asked for.

use std::time::Duration;

/// Bytes of the longest key that is accepted. Keys stay in memory, and come back in each snapshot.
pub const KEY_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the longest properties that are accepted.
pub const PROPERTIES_BYTES_MAX: usize = 64 * 1024;

/// The longest time to live that is accepted: a year.
pub const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The request for a snapshot; the subtree follows in a frame of its own.
pub const ICANHAZ: &[u8] = b"ICANHAZ?";

/// The key of a snapshot's last message, whose sequence is the snapshot's, and whose body is the subtree.
pub const KTHXBAI: &[u8] = b"KTHXBAI";

/// The key of a heartbeat, whose sequence is that of the last update published.
pub const HUGZ: &[u8] = b"HUGZ";

/// What tells updates apart, whoever made them. All zeros stand for none.
pub type Uuid = [u8; 16];

const NO_UUID: Uuid = [0; 16];

/// How many frames a message has on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Key, sequence, body: models 1 to 4. Uuids and properties are left out.
    Three,
    /// The same with a sequence of four bytes, as the Guide's Python sends it.
    ThreeShort,
    /// Key, sequence, uuid, properties, body: models 5 and 6.
    #[default]
    Five,
}

/// Why frames are not a key-value message, or not one that is accepted.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither three frames nor five.
    #[error("it has {frames} frames; a key-value message has 5, or 3 in models 1 to 4")]
    Frames {
        /// How many it has.
        frames: usize,
    },
    /// The sequence has an odd size.
    #[error("its sequence has {bytes} bytes; it takes 8, big-endian")]
    Sequence {
        /// How many it has.
        bytes: usize,
    },
    /// The uuid has an odd size.
    #[error("its uuid has {bytes} bytes; it takes 16, or none")]
    Uuid {
        /// How many it has.
        bytes: usize,
    },
    /// The key is too long.
    #[error("its key has {bytes} bytes; at most {KEY_BYTES_MAX} are accepted")]
    KeyTooLong {
        /// How many it has.
        bytes: usize,
    },
    /// The properties are too long.
    #[error("its properties have {bytes} bytes; at most {PROPERTIES_BYTES_MAX} are accepted")]
    PropertiesTooLong {
        /// How many they have.
        bytes: usize,
    },
    /// An update without a key, or with one that the protocol uses itself.
    #[error("its key is empty, HUGZ or KTHXBAI, which no update may have; use another key")]
    KeyReserved,
    /// The time to live makes no sense.
    #[error("its property ttl is {value:?}; it takes seconds, as 10 or 0.5, up to a year")]
    Ttl {
        /// What stands there.
        value: String,
    },
}

/// A key-value message that borrows its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyValue<'a> {
    /// The key, which subscriptions match on.
    pub key: &'a [u8],
    /// The server's count of updates; clients leave it 0.
    pub sequence: u64,
    /// What tells this update apart, if it has a uuid.
    pub uuid: Option<Uuid>,
    /// The properties as they came, with all that is not understood.
    pub properties: &'a [u8],
    /// The value. An empty one deletes the key.
    pub body: &'a [u8],
}

impl<'a> KeyValue<'a> {
    /// Takes frames apart.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(frames: &[&'a [u8]]) -> Result<Self, Malformed> {
        let (key, sequence, uuid, properties, body) = match *frames {
            [key, sequence, uuid, properties, body] => (key, sequence, uuid, properties, body),
            [key, sequence, body] => (key, sequence, &[][..], &[][..], body),
            _ => {
                let frames = frames.len();
                return Err(Malformed::Frames { frames });
            }
        };
        if key.len() > KEY_BYTES_MAX {
            return Err(Malformed::KeyTooLong { bytes: key.len() });
        }
        if properties.len() > PROPERTIES_BYTES_MAX {
            let bytes = properties.len();
            return Err(Malformed::PropertiesTooLong { bytes });
        }
        let sequence = match (<[u8; 8]>::try_from(sequence), <[u8; 4]>::try_from(sequence)) {
            (Ok(eight), _) => u64::from_be_bytes(eight),
            (_, Ok(four)) if frames.len() == 3 => u32::from_be_bytes(four).into(),
            _ => {
                let bytes = sequence.len();
                return Err(Malformed::Sequence { bytes });
            }
        };
        let uuid = match Uuid::try_from(uuid) {
            Ok(uuid) => (uuid != NO_UUID).then_some(uuid),
            Err(_) if uuid.is_empty() => None,
            Err(_) => return Err(Malformed::Uuid { bytes: uuid.len() }),
        };
        Ok(Self {
            key,
            sequence,
            uuid,
            properties,
            body,
        })
    }

    /// Hands the frames to `send`.
    pub fn encode<T>(&self, form: Form, send: impl FnOnce(&[&[u8]]) -> T) -> T {
        let sequence = self.sequence.to_be_bytes();
        let uuid = self.uuid.unwrap_or(NO_UUID);
        match form {
            Form::Three => send(&[self.key, &sequence, self.body]),
            Form::ThreeShort => send(&[self.key, &sequence[4..], self.body]),
            Form::Five => send(&[self.key, &sequence, &uuid, self.properties, self.body]),
        }
    }

    /// Tells whether the update may be made: its key is free to use, and its time to live makes sense, which
    /// is returned.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_update(&self) -> Result<Option<Duration>, Malformed> {
        if self.key.is_empty() || self.key == HUGZ || self.key == KTHXBAI {
            return Err(Malformed::KeyReserved);
        }
        ttl(self.properties)
    }
}

/// Returns the value of a property, the first one where there are several.
#[must_use]
pub fn property<'a>(properties: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    lines(properties).find_map(|line| line.strip_prefix(name)?.strip_prefix(b"="))
}

fn lines(properties: &[u8]) -> impl Iterator<Item = &[u8]> {
    properties.split(|byte| *byte == b'\n')
}

/// Returns the time to live that the property `ttl` sets, in seconds with or without a fraction; none where
/// there is none, or 0, which the Guide takes for none.
///
/// # Errors
/// That it is no such number.
pub fn ttl(properties: &[u8]) -> Result<Option<Duration>, Malformed> {
    let Some(text) = property(properties, b"ttl") else {
        return Ok(None);
    };
    let seconds = std::str::from_utf8(text).ok();
    let seconds = seconds.and_then(|text| text.trim().parse::<f64>().ok());
    let ttl = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match ttl {
        Some(Duration::ZERO) => Ok(None),
        Some(ttl) if ttl <= TTL_MAX => Ok(Some(ttl)),
        _ => Err(Malformed::Ttl {
            value: String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned(),
        }),
    }
}

/// Returns properties that say `ttl` in place of what they said of it, the others as they are.
#[must_use]
pub fn with_ttl(properties: &[u8], ttl: Duration) -> Vec<u8> {
    let mut with = Vec::with_capacity(properties.len() + 32);
    for line in lines(properties).filter(|line| !line.is_empty() && !line.starts_with(b"ttl=")) {
        with.extend_from_slice(line);
        with.push(b'\n');
    }
    with.extend_from_slice(format!("ttl={}\n", ttl.as_secs_f64()).as_bytes());
    with
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: Uuid = [7; 16];

    fn frames_of(message: KeyValue<'_>, form: Form) -> Vec<Vec<u8>> {
        message.encode(form, |frames| {
            frames.iter().map(|one| one.to_vec()).collect()
        })
    }

    fn decode(frames: &[Vec<u8>]) -> Result<(Vec<u8>, u64), Malformed> {
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        KeyValue::decode(&frames).map(|message| (message.key.to_vec(), message.sequence))
    }

    #[test]
    fn the_layout_is_the_guides() {
        let message = KeyValue {
            key: b"/client/1",
            sequence: 0x0102,
            uuid: Some(UUID),
            properties: b"ttl=10\n",
            body: b"body",
        };
        let five: [&[u8]; 5] = [
            b"/client/1",
            &[0, 0, 0, 0, 0, 0, 1, 2],
            &UUID,
            b"ttl=10\n",
            b"body",
        ];
        assert_eq!(frames_of(message, Form::Five), five);
        let three: [&[u8]; 3] = [b"/client/1", &[0, 0, 0, 0, 0, 0, 1, 2], b"body"];
        assert_eq!(frames_of(message, Form::Three), three);
        // The Guide's Python packs four bytes in models 1 to 4.
        let short: [&[u8]; 3] = [b"/client/1", &[0, 0, 1, 2], b"body"];
        assert_eq!(frames_of(message, Form::ThreeShort), short);
        let four: [&[u8]; 3] = [b"k", &[0, 0, 1, 2], b"body"];
        assert_eq!(KeyValue::decode(&four).map(|one| one.sequence), Ok(0x0102));
    }

    #[test]
    fn each_fault_has_its_name() {
        let eight = vec![0; 8];
        let (key, none) = (b"key".to_vec(), Vec::new());
        for (frames, fault) in [
            (vec![key.clone()], Malformed::Frames { frames: 1 }),
            (vec![key.clone(); 4], Malformed::Frames { frames: 4 }),
            (
                vec![
                    key.clone(),
                    vec![0; 4],
                    none.clone(),
                    none.clone(),
                    none.clone(),
                ],
                Malformed::Sequence { bytes: 4 },
            ),
            (
                vec![
                    key.clone(),
                    eight.clone(),
                    vec![0; 15],
                    none.clone(),
                    none.clone(),
                ],
                Malformed::Uuid { bytes: 15 },
            ),
            (
                vec![vec![b'k'; 64 * 1024], eight.clone(), none.clone()],
                Malformed::KeyTooLong { bytes: 64 * 1024 },
            ),
            (
                vec![
                    key,
                    eight,
                    none.clone(),
                    vec![b'p'; PROPERTIES_BYTES_MAX + 1],
                    none,
                ],
                Malformed::PropertiesTooLong {
                    bytes: PROPERTIES_BYTES_MAX + 1,
                },
            ),
        ] {
            assert_eq!(decode(&frames), Err(fault));
        }
    }

    #[test]
    fn updates_may_not_have_the_protocols_own_keys() {
        for key in [&b""[..], HUGZ, KTHXBAI] {
            let frames = [key, &[0; 8][..], b"body"];
            let message = KeyValue::decode(&frames).expect("well-formed");
            assert_eq!(message.check_update(), Err(Malformed::KeyReserved));
        }
    }

    #[test]
    fn a_ttl_is_a_number_of_seconds() {
        for (properties, expected) in [
            (&b""[..], None),
            (b"color=red\n", None),
            (b"ttl=0\n", None),
            (b"ttl=10\n", Some(Duration::from_secs(10))),
            (b"color=red\nttl=0.5\nx=y", Some(Duration::from_millis(500))),
            (b"nottl=3\nttl=2\n", Some(Duration::from_secs(2))),
        ] {
            assert_eq!(ttl(properties), Ok(expected));
        }
        for nonsense in ["-1", "NaN", "inf", "soon", "", "1e300", "99999999999"] {
            let properties = format!("ttl={nonsense}\n");
            let value = nonsense.to_owned();
            assert_eq!(ttl(properties.as_bytes()), Err(Malformed::Ttl { value }));
        }
        let with = with_ttl(b"a=1\nttl=10\nb=2\n", Duration::from_millis(1_500));
        assert_eq!(with, b"a=1\nb=2\nttl=1.5\n");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            sequence: u64,
            uuid in proptest::option::of(any::<Uuid>()),
            properties in proptest::collection::vec(any::<u8>(), 0..40),
            body in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let uuid = uuid.filter(|uuid| *uuid != NO_UUID);
            let message = KeyValue { key: &key, sequence, uuid, properties: &properties, body: &body };
            let decoded = message.encode(Form::Five, |frames| {
                KeyValue::decode(frames).map(|one| one == message)
            });
            prop_assert_eq!(decoded, Ok(true));
        }

        #[test]
        fn any_frames_are_taken_or_refused(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..7)
        ) {
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            if let Ok(message) = KeyValue::decode(&frames) {
                prop_assert!(frames.len() == 3 || frames.len() == 5);
                prop_assert_eq!(message.key, frames[0]);
                let _ = message.check_update();
            }
        }
    }
}
