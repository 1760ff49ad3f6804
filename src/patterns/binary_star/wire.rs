//! What two servers of a pair send each other, over PUB and SUB.
//!
//! The first frame is the Guide's: the role's number as text. Ours adds a second: epoch, sequence, the sender's
//! round and the receiver's as the sender knows it (eight bytes each, big-endian) and one of flags; and, where an
//! update is passed on, the five frames of a key-value message. A peer that sends the first alone is taken for one
//! of the Guide's, with nothing known of its state.

use crate::patterns::{
    binary_star::{Freshness, Role},
    kvmsg::{Form, KeyValue, Malformed},
};

/// The sender has all that the active server told it of.
const FLAG_CURRENT: u8 = 1;
/// The sender wants the other server to step back.
const FLAG_PREEMPTS: u8 = 2;

/// Bytes of the second frame.
const STATE_BYTES: usize = 33;

/// What one server tells the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tidings<'a> {
    /// Its role.
    pub role: Role,
    /// How new its state is; nothing is known of a Guide's server.
    pub state: Option<Freshness>,
    /// Its round, and that of the one that it tells, as far as it knows.
    pub rounds: (u64, u64),
    /// Whether it has all that the active one told it of, on disk.
    pub current: bool,
    /// Whether it wants the other to step back.
    pub preempts: bool,
    /// An update that the active one accepted.
    pub update: Option<KeyValue<'a>>,
}

/// Why frames are not what a peer sends.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTidings {
    /// The number of frames.
    #[error("it has {frames} frames; 1, 2 or 7 are known")]
    Frames {
        /// How many it has.
        frames: usize,
    },
    /// The role.
    #[error("its role is {role:?}; 1 to 4 are known")]
    Role {
        /// What stands there.
        role: String,
    },
    /// The second frame.
    #[error("its state has {bytes} bytes; it takes {STATE_BYTES}")]
    State {
        /// How many it has.
        bytes: usize,
    },
    /// The update.
    #[error("its update: {0}")]
    Update(#[from] Malformed),
}

impl<'a> Tidings<'a> {
    /// Takes frames apart.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(frames: &[&'a [u8]]) -> Result<Self, NoTidings> {
        let (role, state, update) = match *frames {
            [role] => (role, None, None),
            [role, state] => (role, Some(state), None),
            [role, state, ref update @ ..] if update.len() == 5 => {
                (role, Some(state), Some(KeyValue::decode(update)?))
            }
            _ => {
                let frames = frames.len();
                return Err(NoTidings::Frames { frames });
            }
        };
        // C's strings may come with their end.
        let role = match role.strip_suffix(b"\0").unwrap_or(role) {
            b"1" => Role::Primary,
            b"2" => Role::Backup,
            b"3" => Role::Active,
            b"4" => Role::Passive,
            other => {
                let role = String::from_utf8_lossy(&other[..other.len().min(40)]).into_owned();
                return Err(NoTidings::Role { role });
            }
        };
        let mut tidings = Self {
            role,
            state: None,
            rounds: (0, 0),
            current: false,
            preempts: false,
            update,
        };
        if let Some(state) = state {
            let Ok(state) = <[u8; STATE_BYTES]>::try_from(state) else {
                let bytes = state.len();
                return Err(NoTidings::State { bytes });
            };
            let number = |from: usize| {
                let bytes = state[from..].iter().take(8);
                bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
            };
            tidings.state = Some(Freshness {
                epoch: number(0),
                sequence: number(8),
            });
            tidings.rounds = (number(16), number(24));
            tidings.current = state[STATE_BYTES - 1] & FLAG_CURRENT != 0;
            tidings.preempts = state[STATE_BYTES - 1] & FLAG_PREEMPTS != 0;
        }
        Ok(tidings)
    }

    /// Hands the frames to `send`.
    pub fn encode<T>(&self, send: impl FnOnce(&[&[u8]]) -> T) -> T {
        let role = [b'0' + self.role as u8];
        let Some(known) = self.state else {
            return send(&[&role]);
        };
        let mut state = [0; STATE_BYTES];
        state[..8].copy_from_slice(&known.epoch.to_be_bytes());
        state[8..16].copy_from_slice(&known.sequence.to_be_bytes());
        state[16..24].copy_from_slice(&self.rounds.0.to_be_bytes());
        state[24..32].copy_from_slice(&self.rounds.1.to_be_bytes());
        state[STATE_BYTES - 1] = if self.current { FLAG_CURRENT } else { 0 }
            | if self.preempts { FLAG_PREEMPTS } else { 0 };
        match &self.update {
            None => send(&[&role, &state]),
            Some(update) => update.encode(Form::Five, |frames| {
                let mut all: [&[u8]; 7] = [&role, &state, &[], &[], &[], &[], &[]];
                all[2..].copy_from_slice(frames);
                send(&all)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let update = KeyValue {
            key: b"key",
            sequence: 3,
            uuid: Some([1; 16]),
            properties: b"ttl=1\n",
            body: b"body",
        };
        let state = Some(Freshness {
            epoch: 7,
            sequence: 1 << 40,
        });
        for role in [Role::Primary, Role::Backup, Role::Active, Role::Passive] {
            for update in [None, Some(update)] {
                for (current, preempts) in [(false, true), (true, false)] {
                    let rounds = (3, 1 << 50);
                    let tidings = Tidings {
                        role,
                        state,
                        rounds,
                        current,
                        preempts,
                        update,
                    };
                    let same = tidings.encode(|frames| Tidings::decode(frames) == Ok(tidings));
                    assert!(same, "{tidings:?}");
                }
            }
        }
    }

    #[test]
    fn the_guides_text_is_understood() {
        for (text, role) in [
            (&b"1"[..], Role::Primary),
            (b"4", Role::Passive),
            (b"3\0", Role::Active),
        ] {
            let decoded = Tidings::decode(&[text]).expect("the Guide's");
            assert_eq!((decoded.role, decoded.state), (role, None));
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        let frames: [(&[&[u8]], NoTidings); 4] = [
            (&[], NoTidings::Frames { frames: 0 }),
            (&[b"3", b"", b""], NoTidings::Frames { frames: 3 }),
            (
                &[b"5"],
                NoTidings::Role {
                    role: "5".to_owned(),
                },
            ),
            (&[b"3", b"short"], NoTidings::State { bytes: 5 }),
        ];
        for (frames, fault) in frames {
            assert_eq!(Tidings::decode(frames), Err(fault));
        }
    }
}
