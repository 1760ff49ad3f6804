//! What a server keeps on disk, in a `redb` file: values by key, the uuids of recent updates by sequence, and how
//! new that is.
//!
//! A commit is one transaction, which is on disk, whole, when it returns; so a turn's updates cost one `fsync`, and
//! after a kill the file holds some commit's state. Expiry is kept by the wall clock.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableTable, TableDefinition};

use crate::{
    error::{Error, Result},
    patterns::{
        binary_star::Freshness,
        clone::{
            Now,
            server::{Changes, Restored},
            state::{RECENT_MAX, Update},
        },
        kvmsg::{KeyValue, Uuid},
        store_kind::StoreKind,
    },
};

const VALUES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("values");
const RECENT: TableDefinition<'_, u64, Uuid> = TableDefinition::new("recent");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

const EPOCH: &str = "epoch";
const SEQUENCE: &str = "sequence";
const FORMAT: &str = "format";
const FORMAT_KNOWN: u64 = 1;

/// Sequence, uuid, expiry by the wall clock in nanoseconds (0 for none), and the length of the properties stand before
/// properties and body.
const HEAD_BYTES: usize = 8 + 16 + 8 + 4;

/// A file that is open. Nobody else can open it.
#[derive(Debug)]
pub(super) struct Store {
    database: Database,
    path: PathBuf,
    /// How many recent updates the file holds.
    recent: usize,
}

impl Store {
    /// Opens a file, or makes it, and returns what it holds.
    ///
    /// # Errors
    /// [`Error::Config`]: it can't be opened, or is none of ours.
    pub(super) fn open(path: &Path, now: Now) -> Result<(Self, Restored)> {
        Self::try_open(path, now).map_err(|problem| {
            Error::config(
                "--store",
                path.display(),
                problem,
                "give a file that a clone server made, or a new one in a folder that may be written to, which no other server uses",
            )
        })
    }

    fn try_open(path: &Path, now: Now) -> std::result::Result<(Self, Restored), String> {
        let database = Database::create(path).map_err(text)?;
        StoreKind::Clone.check(&database)?;
        let writing = database.begin_write().map_err(text)?;
        let mut restored = Restored::default();
        {
            let mut numbers = writing.open_table(NUMBERS).map_err(text)?;
            let number = |name| -> std::result::Result<Option<u64>, String> {
                Ok(numbers
                    .get(name)
                    .map_err(text)?
                    .map(|number| number.value()))
            };
            if let Some(format) = number(FORMAT)?
                && format != FORMAT_KNOWN
            {
                return Err(format!(
                    "its format is {format}, and {FORMAT_KNOWN} is known"
                ));
            }
            restored.state = Freshness {
                epoch: number(EPOCH)?.unwrap_or(0),
                sequence: number(SEQUENCE)?.unwrap_or(0),
            };
            numbers.insert(FORMAT, FORMAT_KNOWN).map_err(text)?;
            let values = writing.open_table(VALUES).map_err(text)?;
            for entry in values.iter().map_err(text)? {
                let (key, value) = entry.map_err(text)?;
                let update = decode(key.value(), value.value(), now);
                let damaged = || {
                    format!(
                        "the value of {:?} is damaged",
                        String::from_utf8_lossy(key.value())
                    )
                };
                restored.updates.push(update.ok_or_else(damaged)?);
            }
            let recent = writing.open_table(RECENT).map_err(text)?;
            for entry in recent.iter().map_err(text)? {
                let (sequence, uuid) = entry.map_err(text)?;
                restored.recent.push((sequence.value(), uuid.value()));
            }
        }
        writing.commit().map_err(text)?;
        let store = Self {
            database,
            path: path.to_owned(),
            recent: restored.recent.len(),
        };
        Ok((store, restored))
    }

    /// Puts changes on disk.
    ///
    /// # Errors
    /// [`Error::Store`]. The file holds what it held before.
    pub(super) fn commit(&mut self, changes: &Changes, now: Now) -> Result<()> {
        self.try_commit(changes, now)
            .map_err(|problem| Error::Store {
                path: self.path.clone(),
                problem,
            })
    }

    fn try_commit(&mut self, changes: &Changes, now: Now) -> std::result::Result<(), String> {
        let writing = self.database.begin_write().map_err(text)?;
        if changes.replaces {
            writing.delete_table(VALUES).map_err(text)?;
            writing.delete_table(RECENT).map_err(text)?;
            self.recent = 0;
        }
        {
            let mut values = writing.open_table(VALUES).map_err(text)?;
            let mut recent = writing.open_table(RECENT).map_err(text)?;
            let mut encoded = Vec::new();
            for update in &changes.updates {
                if update.deletes() {
                    values.remove(&*update.key).map_err(text)?;
                } else {
                    encode(update, now, &mut encoded);
                    values.insert(&*update.key, &*encoded).map_err(text)?;
                }
            }
            let told = changes.updates.iter();
            let told = told.filter_map(|update| Some((update.value.sequence, update.value.uuid?)));
            for (sequence, uuid) in changes.recent.iter().copied().chain(told) {
                let before = recent.insert(sequence, uuid).map_err(text)?;
                self.recent += usize::from(before.is_none());
            }
            while self.recent > RECENT_MAX && recent.pop_first().map_err(text)?.is_some() {
                self.recent -= 1;
            }
            let mut numbers = writing.open_table(NUMBERS).map_err(text)?;
            let Freshness { epoch, sequence } = changes.state;
            numbers.insert(EPOCH, epoch).map_err(text)?;
            numbers.insert(SEQUENCE, sequence).map_err(text)?;
        }
        writing.commit().map_err(text)
    }
}

fn text(error: impl Into<redb::Error>) -> String {
    error.into().to_string()
}

fn encode(update: &Update, now: Now, encoded: &mut Vec<u8>) {
    let value = &update.value;
    let expires_wall_ns = value.expires_ns.map_or(0, |at_ns| now.to_wall_ns(at_ns));
    encoded.clear();
    encoded.extend_from_slice(&value.sequence.to_be_bytes());
    encoded.extend_from_slice(&value.uuid.unwrap_or_default());
    encoded.extend_from_slice(&expires_wall_ns.to_be_bytes());
    encoded.extend_from_slice(&(value.properties.len() as u32).to_be_bytes());
    encoded.extend_from_slice(&value.properties);
    encoded.extend_from_slice(&value.body);
}

fn decode(key: &[u8], encoded: &[u8], now: Now) -> Option<Update> {
    let (head, rest) = encoded.split_first_chunk::<HEAD_BYTES>()?;
    let number = |from: usize| {
        let bytes = head[from..from + 8].iter();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let properties_bytes = u32::from_be_bytes(head[32..].try_into().ok()?) as usize;
    let (properties, body) = rest.split_at_checked(properties_bytes)?;
    let uuid: Uuid = head[8..24].try_into().ok()?;
    let message = KeyValue {
        key,
        sequence: number(0),
        uuid: (uuid != Uuid::default()).then_some(uuid),
        properties,
        body,
    };
    let expires_wall_ns = number(24);
    let expires_ns = (expires_wall_ns > 0).then(|| now.from_wall_ns(expires_wall_ns));
    Some(Update::new(&message, expires_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now {
        ns: 1_000,
        wall_ns: 5_000_000,
    };

    fn update(key: &[u8], sequence: u64, body: &[u8], expires_ns: Option<u64>) -> Update {
        let uuid = Some([sequence as u8; 16]);
        let message = KeyValue {
            key,
            sequence,
            uuid,
            properties: b"a=b\n",
            body,
        };
        Update::new(&message, expires_ns)
    }

    fn changes(updates: Vec<Update>, sequence: u64) -> Changes {
        let state = Freshness { epoch: 3, sequence };
        Changes {
            updates,
            state,
            ..Changes::default()
        }
    }

    #[test]
    fn what_was_committed_is_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let (mut store, restored) = Store::open(&path, NOW).unwrap();
        assert_eq!(restored, Restored::default());
        let first = vec![
            update(b"a", 1, b"1", None),
            update(b"b", 2, b"2", Some(3_000)),
        ];
        store.commit(&changes(first, 2), NOW).unwrap();
        store
            .commit(&changes(vec![update(b"a", 3, b"", None)], 3), NOW)
            .unwrap();
        let twice = Store::open(&path, NOW).unwrap_err().to_string();
        assert!(twice.starts_with("--store = "), "{twice}");
        drop(store);
        // The other clock has gone on by 500 meanwhile, and this one has started anew.
        let later = Now {
            ns: 0,
            wall_ns: NOW.wall_ns + 500,
        };
        let (mut store, restored) = Store::open(&path, later).unwrap();
        assert_eq!(restored.updates, [update(b"b", 2, b"2", Some(1_500))]);
        assert_eq!(restored.recent, [(1, [1; 16]), (2, [2; 16]), (3, [3; 16])]);
        assert_eq!(
            restored.state,
            Freshness {
                epoch: 3,
                sequence: 3
            }
        );
        let replacing = Changes {
            replaces: true,
            ..changes(vec![update(b"c", 9, b"9", None)], 9)
        };
        store.commit(&replacing, NOW).unwrap();
        drop(store);
        let (_, restored) = Store::open(&path, NOW).unwrap();
        assert_eq!(restored.updates, [update(b"c", 9, b"9", None)]);
        assert_eq!(restored.recent, [(9, [9; 16])]);
    }

    #[test]
    fn a_file_of_something_else_is_refused_and_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"not a store").unwrap();
        let refused = Store::open(file.path(), NOW).unwrap_err().to_string();
        assert!(
            refused.contains("give a file that a clone server made"),
            "{refused}"
        );
        assert_eq!(std::fs::read(file.path()).unwrap(), b"not a store");
    }
}
