//! The shared state: an ordered map from key to value, at a sequence.
//!
//! The map is persistent (`imbl`): a [`View`] of it costs a reference, whatever its size, and stays what it was
//! while updates go on, so a snapshot may leave piece by piece. A subtree is a range of keys: what it costs
//! depends on its own size only. Expiry is in nanoseconds of the clock that the caller goes by.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use imbl::OrdMap;

use crate::patterns::kvmsg::{KeyValue, Uuid};

/// Updates whose uuids are remembered: at 5,000 a second, those of 52 seconds. Clients send an update
/// again for less long than that.
pub const RECENT_MAX: usize = 262_144;

/// A key, shared by whatever holds it.
pub type Key = Arc<[u8]>;

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The sequence of the update that set it.
    pub sequence: u64,
    /// The uuid of that update, if it had one.
    pub uuid: Option<Uuid>,
    /// Its properties, as they came.
    pub properties: Box<[u8]>,
    /// The value itself. Never empty within a state.
    pub body: Box<[u8]>,
    /// When it expires, if it does.
    pub expires_ns: Option<u64>,
}

/// A key with what it is set to, or, where the body is empty, that it is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The key.
    pub key: Key,
    /// What it is set to.
    pub value: Arc<Value>,
}

impl Update {
    /// Copies a message. `expires_ns` is when the value expires, if it does.
    #[must_use]
    pub fn new(message: &KeyValue<'_>, expires_ns: Option<u64>) -> Self {
        Self {
            key: message.key.into(),
            value: Arc::new(Value {
                sequence: message.sequence,
                uuid: message.uuid,
                properties: message.properties.into(),
                body: message.body.into(),
                expires_ns,
            }),
        }
    }

    /// Returns the message to send.
    #[must_use]
    pub fn message(&self) -> KeyValue<'_> {
        KeyValue {
            key: &self.key,
            sequence: self.value.sequence,
            uuid: self.value.uuid,
            properties: &self.value.properties,
            body: &self.value.body,
        }
    }

    /// Returns the bytes that it takes, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        bytes(&self.key, &self.value)
    }

    /// Tells whether it deletes its key.
    #[must_use]
    pub fn deletes(&self) -> bool {
        self.value.body.is_empty()
    }
}

pub(super) fn bytes(key: &[u8], value: &Value) -> usize {
    key.len() + value.properties.len() + value.body.len()
}

/// What a state may hold. Updates beyond it are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The number of keys.
    pub keys_max: usize,
    /// Bytes of keys, properties and values together.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keys_max: 10_000_000,
            bytes_max: 1 << 30,
        }
    }
}

/// The state: values by key, and the sequence of the last update.
#[derive(Clone, Debug, Default)]
pub struct State {
    values: OrdMap<Key, Arc<Value>>,
    expiries: BTreeSet<(u64, Key)>,
    recent: Recent,
    bytes: usize,
    sequence: u64,
}

impl State {
    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Tells whether no key is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the sequence of the last update.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns what a key is set to.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Arc<Value>> {
        self.values.get(key)
    }

    /// Returns the keys of a subtree with their values, in order. All keys lie below the empty subtree.
    pub fn subtree<'a>(
        &'a self,
        subtree: &'a [u8],
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        below(&self.values, Bound::Included(subtree), subtree)
    }

    /// Returns the sequence of the update with this uuid, if it is among the last [`RECENT_MAX`].
    #[must_use]
    pub fn recent(&self, uuid: &Uuid) -> Option<u64> {
        self.recent.by_uuid.get(uuid).copied()
    }

    /// Tells whether the update would take the state beyond its limits.
    #[must_use]
    pub fn would_exceed(&self, message: &KeyValue<'_>, limits: Limits) -> bool {
        if message.body.is_empty() {
            return false;
        }
        let before = self.get(message.key);
        let freed = before.map_or(0, |value| bytes(message.key, value));
        let taken = message.key.len() + message.properties.len() + message.body.len();
        let keys = self.len() + usize::from(before.is_none());
        keys > limits.keys_max || self.bytes - freed + taken > limits.bytes_max
    }

    /// Makes an update, whose sequence becomes the state's.
    pub fn apply(&mut self, update: &Update) {
        self.insert(update);
        self.sequence = update.value.sequence;
        if let Some(uuid) = update.value.uuid {
            self.remember(self.sequence, uuid);
        }
    }

    /// Puts a value in that a snapshot or a store holds; the sequence stays.
    pub fn insert(&mut self, update: &Update) {
        let before = if update.deletes() {
            self.values.remove(&update.key)
        } else {
            self.bytes += update.bytes();
            if let Some(expires_ns) = update.value.expires_ns {
                self.expiries.insert((expires_ns, update.key.clone()));
            }
            self.values.insert(update.key.clone(), update.value.clone())
        };
        let Some(before) = before else { return };
        self.bytes -= bytes(&update.key, &before);
        if let Some(expires_ns) = before.expires_ns
            && (update.deletes() || update.value.expires_ns != Some(expires_ns))
        {
            self.expiries.remove(&(expires_ns, update.key.clone()));
        }
    }

    /// Notes that an update with this uuid had this sequence.
    pub fn remember(&mut self, sequence: u64, uuid: Uuid) {
        self.recent.note(sequence, uuid);
    }

    /// Sets the sequence that a snapshot or a store goes up to.
    pub fn set_sequence(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// Returns the key that has expired longest ago.
    #[must_use]
    pub fn expired(&self, now_ns: u64) -> Option<&Key> {
        let (expires_ns, key) = self.expiries.first()?;
        (*expires_ns <= now_ns).then_some(key)
    }

    /// Returns when the next value expires.
    #[must_use]
    pub fn next_expiry_ns(&self) -> Option<u64> {
        Some(self.expiries.first()?.0)
    }

    /// Returns the subtree as it is now, whatever becomes of the state.
    #[must_use]
    pub fn view(&self, subtree: &[u8]) -> View {
        View {
            values: self.values.clone(),
            recent: self.recent.by_sequence.clone(),
            sequence: self.sequence,
            subtree: subtree.into(),
        }
    }
}

fn below<'a>(
    values: &'a OrdMap<Key, Arc<Value>>,
    from: Bound<&[u8]>,
    subtree: &'a [u8],
) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> + use<'a> {
    let range = (from, Bound::Unbounded);
    let from = values.range::<_, [u8]>(range);
    from.take_while(move |(key, _)| key.starts_with(subtree))
}

/// A subtree at a sequence.
#[derive(Clone, Debug)]
pub struct View {
    values: OrdMap<Key, Arc<Value>>,
    recent: OrdMap<u64, Uuid>,
    sequence: u64,
    subtree: Box<[u8]>,
}

impl View {
    /// Returns the sequence that it is a view of.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the subtree.
    #[must_use]
    pub fn subtree(&self) -> &[u8] {
        &self.subtree
    }

    /// Returns the keys behind `after`, all where there is none, with their values.
    pub fn values_after<'a>(
        &'a self,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> + use<'a> {
        let from = after.map_or(Bound::Included(&*self.subtree), Bound::Excluded);
        below(&self.values, from, &self.subtree)
    }

    /// Returns the recent updates behind a sequence, with their uuids.
    pub fn recent_after(&self, after: u64) -> impl Iterator<Item = (u64, Uuid)> {
        let range = (Bound::Excluded(after), Bound::Unbounded);
        self.recent
            .range::<_, u64>(range)
            .map(|(at, uuid)| (*at, *uuid))
    }
}

/// The uuids of the last updates, so that one that comes again is not made again.
#[derive(Clone, Debug, Default)]
struct Recent {
    by_sequence: OrdMap<u64, Uuid>,
    by_uuid: HashMap<Uuid, u64>,
}

impl Recent {
    fn note(&mut self, sequence: u64, uuid: Uuid) {
        self.by_uuid.insert(uuid, sequence);
        if let Some(before) = self.by_sequence.insert(sequence, uuid)
            && before != uuid
        {
            self.by_uuid.remove(&before);
        }
        while self.by_sequence.len() > RECENT_MAX {
            let Some((oldest, uuid)) = self.by_sequence.get_min().copied() else {
                return;
            };
            self.by_sequence.remove(&oldest);
            if self.by_uuid.get(&uuid) == Some(&oldest) {
                self.by_uuid.remove(&uuid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn update(key: &[u8], sequence: u64, body: &[u8], expires_ns: Option<u64>) -> Update {
        let message = KeyValue {
            key,
            sequence,
            uuid: Some([sequence as u8; 16]),
            properties: b"",
            body,
        };
        Update::new(&message, expires_ns)
    }

    fn keys(state: &State, subtree: &[u8]) -> Vec<Vec<u8>> {
        state
            .subtree(subtree)
            .map(|(key, _)| key.to_vec())
            .collect()
    }

    #[test]
    fn a_view_stays_what_it_was() {
        let mut state = State::default();
        state.apply(&update(b"/a/1", 1, b"x", None));
        state.apply(&update(b"/b/1", 2, b"x", None));
        let view = state.view(b"/a/");
        state.apply(&update(b"/a/2", 3, b"x", None));
        state.apply(&update(b"/a/1", 4, b"", None));
        let seen: Vec<&[u8]> = view.values_after(None).map(|(key, _)| &**key).collect();
        assert_eq!((seen, view.sequence()), (vec![&b"/a/1"[..]], 2));
        assert_eq!(keys(&state, b"/a/"), [b"/a/2"]);
    }

    #[test]
    fn a_value_that_is_set_again_expires_when_the_last_one_does() {
        let mut state = State::default();
        state.apply(&update(b"k", 1, b"x", Some(10)));
        assert_eq!(state.expired(9), None);
        assert_eq!(state.expired(10).map(|key| &**key), Some(&b"k"[..]));
        state.apply(&update(b"k", 2, b"x", Some(20)));
        assert_eq!(
            (state.expired(10), state.next_expiry_ns()),
            (None, Some(20))
        );
        state.apply(&update(b"k", 3, b"x", None));
        assert_eq!(state.next_expiry_ns(), None);
    }

    #[test]
    fn what_would_exceed_a_limit_is_told_beforehand() {
        let mut state = State::default();
        let limits = Limits {
            keys_max: 1,
            bytes_max: 10,
        };
        let message = |key, body| KeyValue {
            key,
            sequence: 0,
            uuid: None,
            properties: b"",
            body,
        };
        assert!(!state.would_exceed(&message(b"key", b"1234567"), limits));
        assert!(state.would_exceed(&message(b"key", b"12345678"), limits));
        state.apply(&update(b"key", 1, b"1234567", None));
        assert!(
            !state.would_exceed(&message(b"key", b"7654321"), limits),
            "in its place"
        );
        assert!(
            state.would_exceed(&message(b"other", b"1"), limits),
            "one key more"
        );
        assert!(
            !state.would_exceed(&message(b"other", b""), limits),
            "a deletion"
        );
    }

    #[test]
    fn the_oldest_uuids_are_forgotten() {
        let mut recent = Recent::default();
        let uuid = |at: u64| u128::from(at).to_be_bytes();
        for at in 1..=RECENT_MAX as u64 + 10 {
            recent.note(at, uuid(at));
        }
        assert_eq!(recent.by_uuid.len(), RECENT_MAX);
        assert_eq!(recent.by_uuid.get(&uuid(10)), None);
        assert_eq!(recent.by_uuid.get(&uuid(11)), Some(&11));
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map(
            updates in proptest::collection::vec(
                (proptest::collection::vec(0..3_u8, 0..4), any::<bool>(), proptest::option::of(0..9_u64)),
                0..60,
            ),
            subtree in proptest::collection::vec(0..3_u8, 0..3),
        ) {
            let (mut state, mut model) = (State::default(), BTreeMap::new());
            for (sequence, (key, set, expires_ns)) in (1..).zip(updates) {
                let body: &[u8] = if set { b"body" } else { b"" };
                state.apply(&update(&key, sequence, body, expires_ns.filter(|_| set)));
                if set {
                    model.insert(key, expires_ns);
                } else {
                    model.remove(&key);
                }
            }
            let expected: Vec<Vec<u8>> =
                model.keys().filter(|key| key.starts_with(&subtree)).cloned().collect();
            prop_assert_eq!(keys(&state, &subtree), expected);
            prop_assert_eq!(state.next_expiry_ns(), model.values().flatten().min().copied());
            let bytes: usize = model.keys().map(|key| key.len() + 4).sum();
            prop_assert_eq!(state.bytes, bytes);
            // Piece by piece, a view has what the state has.
            let (view, mut after, mut pieces) = (state.view(&subtree), None, Vec::new());
            while let Some((key, _)) = view.values_after(after.as_deref()).next() {
                pieces.push(key.to_vec());
                after = Some(key.to_vec());
            }
            prop_assert_eq!(pieces, keys(&state, &subtree));
        }
    }
}
