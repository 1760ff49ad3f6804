//! What a cache remembers when it is started again: the newest message of each topic, in a file.
//!
//! A thread of its own writes what has changed, at most every [`WRITE_EVERY`] and a part at a time, so that
//! forwarding waits for no disk: it copies the newest messages of topics that changed into a batch when the
//! last one is written. What waits is a mark a topic, so it is bounded by the topics there are, and a topic
//! that changes often is written once a batch. The file is redb's, with one commit a batch: a process that is
//! killed loses what came since the last batch was taken, which is some [`WRITE_EVERY`] and the time of a
//! write, where the disk keeps up; [`Unwritten`] tells what waits.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use redb::{Database, ReadableTable, TableDefinition};

use crate::{
    error::{Error, Result},
    patterns::{cache::store::Store, store_kind::StoreKind},
};

/// How long changes are gathered.
pub const WRITE_EVERY: Duration = Duration::from_millis(100);
/// How often to look whether the writer is done, where more waits than went into its batch.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Bytes of messages that are copied for one batch: a millisecond's work.
const BATCH_BYTES: usize = 1 << 20;
/// What redb keeps in memory of the file, in bytes.
const PAGES_BYTES: usize = 16 << 20;

/// Messages as they go over the wire, by topic.
const MESSAGES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("messages");

/// What the file does not hold yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// Topics that wait now.
    pub now: usize,
    /// The most that have waited.
    pub max: usize,
}

/// Changes on their way to the file.
#[derive(Debug, Default)]
struct Batch {
    removed: Vec<Box<[u8]>>,
    bytes: Vec<u8>,
    /// Where topics and messages lie in the bytes.
    messages: Vec<(Range<usize>, Range<usize>)>,
}

/// What the writer answers: the batch, and why it could not be written.
type Answer = (Batch, Option<Problem>);

/// One of redb's many errors.
type Problem = Box<dyn std::error::Error + Send + Sync>;

/// The file of a cache, and the thread that writes it.
#[derive(Debug)]
pub struct CacheFile {
    path: PathBuf,
    batches: SyncSender<Batch>,
    answers: Receiver<Answer>,
    writer: JoinHandle<()>,
    /// Where it is not with the writer.
    batch: Option<Batch>,
    /// Whether the batch has to be written once more.
    has_failed: bool,
    due_ns: u64,
    unwritten: Unwritten,
    failures: u64,
}

impl CacheFile {
    /// Opens a file, or makes it; puts what it holds into the store, and has the store note changes. Returns
    /// it and how many messages it held that there was no room for.
    ///
    /// # Errors
    /// [`Error::Config`] where it can't be opened, or is something else; [`Error::Thread`].
    pub fn open(path: &Path, store: &mut Store) -> Result<(Self, u64)> {
        let refused = |error: Problem| {
            Error::config(
                "--store",
                path.display(),
                format!("it can't be opened ({error})"),
                "give a file that a cache made, or a new one in a folder that may be written to, and one to \
                 each cache",
            )
        };
        let database = open(path).map_err(refused)?;
        let checked = StoreKind::Cache.check(&database);
        checked.map_err(|problem| refused(problem.into()))?;
        let unrestored = restore(&database, store).map_err(refused)?;
        store.note_changes();
        let (batches, to_write) = sync_channel::<Batch>(1);
        let (answer, answers) = sync_channel::<Answer>(1);
        let name = "cache-file".to_owned();
        let of_writer = path.to_owned();
        let write = move || {
            let mut database = Some(database);
            for batch in to_write {
                // After an error redb wants the file opened anew.
                let opened = database.take().map_or_else(|| open(&of_writer), Ok);
                let written = opened.and_then(|opened| write(&opened, &batch).map(|()| opened));
                let problem = written.map(|opened| database = Some(opened)).err();
                if answer.send((batch, problem)).is_err() {
                    return;
                }
            }
        };
        let writer = Builder::new().name(name.clone()).spawn(write);
        let file = Self {
            path: path.into(),
            batches,
            answers,
            writer: writer.map_err(|source| Error::Thread {
                thread: name,
                source,
            })?,
            batch: Some(Batch::default()),
            has_failed: false,
            due_ns: 0,
            unwritten: Unwritten::default(),
            failures: 0,
        };
        Ok((file, unrestored))
    }

    /// Returns when [`tend`](Self::tend) is due, in nanoseconds.
    #[must_use]
    pub fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Returns what waits to be written, as of when it was last tended.
    #[must_use]
    pub fn unwritten(&self) -> Unwritten {
        self.unwritten
    }

    /// Returns how often a batch could not be written.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Hands over what has changed, if the writer is done with what it had. Never waits.
    ///
    /// # Errors
    /// [`Error::File`] where the last batch could not be written. It is tried again when this is due.
    pub fn tend(&mut self, store: &mut Store, now_ns: u64) -> Result<()> {
        self.due_ns = now_ns + WRITE_EVERY.as_nanos() as u64;
        let answer = match self.answers.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => return Err(self.panicked()),
        };
        let outcome = answer.map_or(Ok(()), |answer| self.take(answer));
        self.unwritten.now = store.changes();
        self.unwritten.max = self.unwritten.max.max(self.unwritten.now);
        if outcome.is_ok() {
            self.hand_over(store)?;
            if store.changes() > 0 {
                self.due_ns = now_ns + LOOK_EVERY.as_nanos() as u64;
            }
        }
        outcome
    }

    /// Writes all that has changed, a batch that fails once more, and closes the file. Returns how often a
    /// batch could not be written, and what kept the last one from it: [`Error::File`] as a rule.
    pub fn finish(mut self, store: &mut Store) -> (u64, Result<()>) {
        let written = self.write_all(store);
        let panicked = self.panicked();
        drop(self.batches);
        let joined = self.writer.join().map_err(|_| panicked);
        (self.failures, written.and(joined))
    }

    fn write_all(&mut self, store: &mut Store) -> Result<()> {
        let mut is_second = false;
        loop {
            if self.batch.is_none() {
                let answer = self.answers.recv().map_err(|_| self.panicked())?;
                let outcome = self.take(answer);
                if is_second {
                    outcome?;
                }
                is_second = self.has_failed;
            }
            if store.changes() == 0 && !self.has_failed {
                return Ok(());
            }
            self.hand_over(store)?;
        }
    }

    fn panicked(&self) -> Error {
        Error::ThreadPanicked {
            thread: "cache-file".to_owned(),
        }
    }

    fn take(&mut self, (batch, problem): Answer) -> Result<()> {
        self.batch = Some(batch);
        self.has_failed = problem.is_some();
        let Some(problem) = problem else {
            return Ok(());
        };
        self.failures += 1;
        Err(Error::File {
            path: self.path.clone(),
            source: std::io::Error::other(problem),
        })
    }

    fn hand_over(&mut self, store: &mut Store) -> Result<()> {
        let Some(mut batch) = self.batch.take() else {
            return Ok(());
        };
        if !self.has_failed {
            batch.removed.clear();
            batch.messages.clear();
            batch.bytes.clear();
            let Batch {
                removed,
                bytes,
                messages,
            } = &mut batch;
            store.take_changes(
                BATCH_BYTES,
                |topic| removed.push(topic),
                |value| {
                    let start = bytes.len();
                    bytes.extend_from_slice(value.topic());
                    let middle = bytes.len();
                    bytes.extend_from_slice(value.encoded());
                    messages.push((start..middle, middle..bytes.len()));
                },
            );
            if batch.removed.is_empty() && batch.messages.is_empty() {
                self.batch = Some(batch);
                return Ok(());
            }
        }
        self.batches.send(batch).map_err(|_| self.panicked())
    }
}

fn open(path: &Path) -> std::result::Result<Database, Problem> {
    let mut builder = Database::builder();
    builder.set_cache_size(PAGES_BYTES);
    Ok(builder.create(path)?)
}

/// Puts what a file holds into a store, until that is full. Returns how many messages are left out.
fn restore(database: &Database, store: &mut Store) -> std::result::Result<u64, Problem> {
    // So that there is a table.
    let transaction = database.begin_write()?;
    transaction.open_table(MESSAGES)?;
    transaction.commit()?;
    let table = database.begin_read()?.open_table(MESSAGES)?;
    let mut left_out = 0;
    for entry in table.iter()? {
        let (topic, encoded) = entry?;
        left_out += u64::from(!store.restore(topic.value(), encoded.value()));
    }
    Ok(left_out)
}

fn write(database: &Database, batch: &Batch) -> std::result::Result<(), Problem> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(MESSAGES)?;
        for topic in &batch.removed {
            table.remove(&**topic)?;
        }
        for (topic, encoded) in &batch.messages {
            table.insert(&batch.bytes[topic.clone()], &batch.bytes[encoded.clone()])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Deadline,
        patterns::cache::store::{Evict, Limits},
    };

    const LIMITS: Limits = Limits {
        topics_max: 100_000,
        bytes_max: usize::MAX,
    };

    fn all(store: &Store) -> Vec<Vec<u8>> {
        let values = store.under(b"", None);
        values.map(|value| value.encoded().to_vec()).collect()
    }

    fn cache(path: &Path, limits: Limits) -> (Store, CacheFile, u64) {
        let mut store = Store::new(limits, Evict::Oldest);
        let (file, left_out) = CacheFile::open(path, &mut store).unwrap();
        (store, file, left_out)
    }

    #[test]
    fn what_was_written_is_there_again_without_a_clean_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let (mut store, mut file, _) = cache(&path, LIMITS);
        // More than goes into one batch.
        for topic in 0..20_000_u32 {
            let topic = format!("topic-{topic:05}");
            assert!(store.put(topic.len(), &[topic.as_bytes(), &[7; 300]]));
        }
        assert!(store.put(5, &[b"topic", b"old"]));
        assert!(store.put(5, &[b"topic", b"new", b""]));
        let deadline = Deadline::after(Duration::from_secs(60));
        let mut now_ns = 0;
        while store.changes() > 0 || file.batch.is_none() {
            assert!(!deadline.passed());
            now_ns = now_ns.max(file.due_ns());
            file.tend(&mut store, now_ns).unwrap();
            std::thread::yield_now();
        }
        assert!(file.unwritten().max > 10_000);
        // What comes now is not written.
        let expected = all(&store);
        assert!(store.put(4, &[b"late"]));
        let copy = folder.path().join("copy");
        std::fs::copy(&path, &copy).unwrap();
        let (restored, ..) = cache(&copy, LIMITS);
        assert_eq!(all(&restored), expected);
        drop(restored);
        file.finish(&mut store).1.unwrap();
        let (restored, _, left_out) = cache(&path, LIMITS);
        assert_eq!((all(&restored), left_out), (all(&store), 0));
    }

    #[test]
    fn evicted_topics_leave_the_file_and_a_smaller_cache_takes_what_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let few = |topics_max| Limits {
            topics_max,
            ..LIMITS
        };
        let (mut store, file, _) = cache(&path, few(3));
        for topic in [b"a", b"b", b"c", b"d", b"b", b"e"] {
            assert!(store.put(1, &[topic]));
        }
        file.finish(&mut store).1.unwrap();
        let (mut restored, file, left_out) = cache(&path, few(3));
        let topics: Vec<_> = restored
            .under(b"", None)
            .map(|one| one.topic().to_vec())
            .collect();
        assert_eq!(
            (topics, left_out),
            (vec![b"b".to_vec(), b"d".to_vec(), b"e".to_vec()], 0)
        );
        file.finish(&mut restored).1.unwrap();
        let (restored, _, left_out) = cache(&path, few(2));
        assert_eq!((restored.topics(), left_out), (2, 1));
    }

    #[test]
    fn a_file_that_is_none_or_in_use_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other");
        std::fs::write(&path, "no cache").unwrap();
        let mut store = Store::new(LIMITS, Evict::Oldest);
        for path in [path.as_path(), folder.path(), Path::new("/nowhere/cache")] {
            let error = CacheFile::open(path, &mut store).unwrap_err();
            assert!(error.is_bad_input());
            let error = error.to_string();
            assert!(
                error.contains("--store = ") && error.contains("can't be opened"),
                "{error}"
            );
        }
        for (table, what) in [("values", "a clone server"), ("other", "another program")] {
            let path = folder.path().join(format!("{table}.redb"));
            let database = Database::create(&path).unwrap();
            let transaction = database.begin_write().unwrap();
            let other = TableDefinition::<&[u8], &[u8]>::new(table);
            transaction.open_table(other).unwrap();
            transaction.commit().unwrap();
            drop(database);
            let error = CacheFile::open(&path, &mut store).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
        let path = folder.path().join("cache");
        let (_store, _file, _) = cache(&path, LIMITS);
        let error = CacheFile::open(&path, &mut store).unwrap_err();
        assert!(error.to_string().contains("can't be opened"), "{error}");
    }
}
