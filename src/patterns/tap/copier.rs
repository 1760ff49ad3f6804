//! Copies of what passes, on their way to a thread that writes them.
//!
//! Copies gather in a page during a turn of the reactor and go to the thread together, so that a burst costs one
//! hand-over. What waits has a limit in bytes; what does not fit is lost and counted, before it is copied.

use std::{
    io::{self, BufWriter, Write},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::Builder,
    time::Duration,
};

use serde::Serialize;

use crate::{
    clock::SECOND_NS,
    error::{Error, Result},
    message::FRAMES_MAX,
    zmtp::{Cut, Frames, Limits, Splitter, frame::encode_message},
};

/// The most bytes of copies that wait for one watcher.
pub const WAITING_BYTES_MAX: usize = 16 << 20;
/// The most pages that wait for it.
const PAGES_MAX: usize = 1_024;
/// The most pages that are kept for the next turns, of up to twice [`PAGE_BYTES`].
const SPARE_PAGES_MAX: usize = 16;
/// Bytes of a page at which it is handed over before the turn ends.
const PAGE_BYTES: usize = 64 * 1024;
/// What a copy is taken to cost beside its bytes.
const COPY_OVERHEAD_BYTES: usize = 64;

/// What passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message from a publisher.
    Message,
    /// A subscription; the one frame is its prefix.
    Subscription,
    /// The end of a subscription; likewise.
    Cancellation,
    /// What a subscriber said to publishers beside its subscriptions.
    Upstream,
}

/// Something that passed, as a watcher gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed<'a> {
    /// When it passed, in nanoseconds since 1970.
    pub at_ns: u64,
    /// What passed.
    pub kind: Kind,
    /// Its frames.
    pub frames: &'a [&'a [u8]],
}

/// Which copies a watcher wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyRule {
    /// Those of topics that start with this, and subscriptions that match some of these.
    pub topic: Vec<u8>,
    /// At most so many a second, of those.
    pub per_s_max: Option<u64>,
}

/// What became of the copies that a watcher wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Copies that were written.
    pub written: u64,
    /// Copies that were lost, since too much waited or they could not be written.
    pub lost: u64,
    /// Copies beyond what was wanted a second.
    pub skipped: u64,
}

#[derive(Debug, Default)]
struct Page {
    bytes: Vec<u8>,
    copies: Vec<(u64, Kind, Range<usize>)>,
}

impl Page {
    fn cost_bytes(&self) -> usize {
        self.bytes.len() + self.copies.len() * COPY_OVERHEAD_BYTES
    }
}

/// What both threads know.
#[derive(Debug, Default)]
struct Shared {
    waiting_bytes: AtomicUsize,
    written: AtomicU64,
}

/// The side that copies.
#[derive(Debug)]
pub struct Copier {
    rule: CopyRule,
    page: Page,
    pages: SyncSender<Page>,
    spare: Receiver<Page>,
    ended: Receiver<io::Result<()>>,
    shared: Arc<Shared>,
    wanted: u64,
    skipped: u64,
    /// Until when the current second lasts, and how many copies it has had.
    second: (u64, u64),
}

impl Copier {
    /// Starts a thread of this name that has `line` make bytes of each copy, and writes them.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub fn start(
        name: &str,
        rule: CopyRule,
        line: impl Fn(&Passed<'_>, &mut Vec<u8>) + Send + 'static,
        out: Box<dyn Write + Send>,
    ) -> Result<Self> {
        let (pages, to_write) = sync_channel::<Page>(PAGES_MAX);
        let (give_back, spare) = sync_channel::<Page>(SPARE_PAGES_MAX);
        let (end, ended) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let of_writer = shared.clone();
        let write = move || {
            let outcome = write(&to_write, &give_back, &of_writer, line, out);
            // Nobody asks any more where it took too long.
            let _ = end.send(outcome);
        };
        let spawned = Builder::new().name(name.to_owned()).spawn(write);
        spawned.map_err(|source| Error::Thread {
            thread: name.to_owned(),
            source,
        })?;
        Ok(Self {
            rule,
            page: Page::default(),
            pages,
            spare,
            ended,
            shared,
            wanted: 0,
            skipped: 0,
            second: (0, 0),
        })
    }

    /// Copies what passed, if it is wanted and there is room.
    pub fn copy(&mut self, copy: &Passed<'_>) {
        if !self.is_wanted(copy) {
            return;
        }
        self.wanted += 1;
        let bytes: usize = copy.frames.iter().map(|frame| frame.len()).sum();
        let waiting_bytes = self.shared.waiting_bytes.load(Relaxed) + self.page.cost_bytes();
        let has_room =
            waiting_bytes == 0 || waiting_bytes + bytes + COPY_OVERHEAD_BYTES <= WAITING_BYTES_MAX;
        // A page that is full is so because no more pages may wait.
        let has_room = has_room && self.page.bytes.len() < PAGE_BYTES;
        if !has_room || copy.frames.len() > FRAMES_MAX {
            return;
        }
        let start = self.page.bytes.len();
        encode_message(&mut self.page.bytes, copy.frames);
        let place = start..self.page.bytes.len();
        self.page.copies.push((copy.at_ns, copy.kind, place));
        if self.page.bytes.len() >= PAGE_BYTES {
            self.flush();
        }
    }

    /// Hands over what was copied.
    pub fn flush(&mut self) {
        if self.page.copies.is_empty() {
            return;
        }
        let page = std::mem::take(&mut self.page);
        let cost_bytes = page.cost_bytes();
        self.shared.waiting_bytes.fetch_add(cost_bytes, Relaxed);
        match self.pages.try_send(page) {
            Ok(()) => self.page = self.spare.try_recv().unwrap_or_default(),
            Err(TrySendError::Full(page) | TrySendError::Disconnected(page)) => {
                // It is kept, and filled, until there is room for another page: a watcher that stands still would
                // cost a page a turn.
                self.shared.waiting_bytes.fetch_sub(cost_bytes, Relaxed);
                self.page = page;
            }
        }
    }

    /// Waits, for `limit` at most, until all is written, and tells what became of it, and what writing failed
    /// with.
    pub fn finish(mut self, limit: Duration) -> (Copied, io::Result<()>) {
        self.flush();
        drop(self.pages);
        let outcome = match self.ended.recv_timeout(limit) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("its thread panicked")),
        };
        let written = self.shared.written.load(Relaxed);
        let copied = Copied {
            written,
            lost: self.wanted - written.min(self.wanted),
            skipped: self.skipped,
        };
        (copied, outcome)
    }

    fn is_wanted(&mut self, copy: &Passed<'_>) -> bool {
        let first = copy.frames.first().copied().unwrap_or_default();
        let topic = &*self.rule.topic;
        let matches = first.starts_with(topic)
            || matches!(copy.kind, Kind::Subscription | Kind::Cancellation)
                && topic.starts_with(first);
        let (true, Some(per_s_max)) = (matches, self.rule.per_s_max) else {
            return matches;
        };
        let (until_ns, so_far) = &mut self.second;
        if copy.at_ns >= *until_ns {
            (*until_ns, *so_far) = (copy.at_ns + SECOND_NS, 0);
        }
        let is_within = *so_far < per_s_max;
        *so_far += u64::from(is_within);
        self.skipped += u64::from(!is_within);
        is_within
    }
}

/// Writes pages until there are no more.
fn write(
    pages: &Receiver<Page>,
    give_back: &SyncSender<Page>,
    shared: &Shared,
    line: impl Fn(&Passed<'_>, &mut Vec<u8>),
    out: Box<dyn Write + Send>,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(PAGE_BYTES, out);
    let mut text = Vec::new();
    // What is in the writer's own buffer is not written yet.
    let mut buffered = 0;
    loop {
        let page = match pages.try_recv() {
            Ok(page) => page,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                out.flush()?;
                shared
                    .written
                    .fetch_add(std::mem::take(&mut buffered), Relaxed);
                match pages.recv() {
                    Ok(page) => page,
                    Err(_) => break,
                }
            }
        };
        for (at_ns, kind, place) in &page.copies {
            // One message, which was encoded here.
            let limits = Limits {
                frame_bytes_max: usize::MAX,
                message_bytes_max: usize::MAX,
                frames_max: FRAMES_MAX,
            };
            let mut frames = Frames::default();
            let cut = Splitter::new(limits).cut(&page.bytes[place.clone()], &mut frames);
            if !matches!(cut, Ok((Cut::Message, _))) {
                continue;
            }
            text.clear();
            let copy = Passed {
                at_ns: *at_ns,
                kind: *kind,
                frames: frames.as_slice(),
            };
            line(&copy, &mut text);
            out.write_all(&text)?;
            buffered += 1;
        }
        shared.waiting_bytes.fetch_sub(page.cost_bytes(), Relaxed);
        let mut page = page;
        page.bytes.clear();
        page.copies.clear();
        page.bytes.shrink_to(2 * PAGE_BYTES);
        // Where there are enough, it goes.
        let _ = give_back.try_send(page);
    }
    out.flush()?;
    shared.written.fetch_add(buffered, Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};

    /// A file that takes bytes when it is open.
    #[derive(Clone, Default)]
    struct Gate(Arc<(Mutex<GateState>, Condvar)>);

    #[derive(Default)]
    struct GateState {
        is_open: bool,
        written: Vec<u8>,
    }

    impl Gate {
        fn open(&self) {
            self.0.0.lock().unwrap().is_open = true;
            self.0.1.notify_all();
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let state = self.0.0.lock().unwrap();
            let mut state = self.0.1.wait_while(state, |state| !state.is_open).unwrap();
            state.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn topics(copy: &Passed<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(copy.frames[0]);
        out.push(b'\n');
    }

    fn copier(rule: CopyRule, gate: &Gate) -> Copier {
        Copier::start("watcher", rule, topics, Box::new(gate.clone())).unwrap()
    }

    fn message<'a>(at_ns: u64, frames: &'a [&'a [u8]]) -> Passed<'a> {
        Passed {
            at_ns,
            kind: Kind::Message,
            frames,
        }
    }

    #[test]
    fn a_stalled_watcher_loses_what_does_not_fit_and_all_is_counted() {
        const COPIES: u64 = 20_000;
        let gate = Gate::default();
        let mut copier = copier(CopyRule::default(), &gate);
        for _ in 0..COPIES {
            copier.copy(&message(1, &[b"topic", &[7; 2_000]]));
            assert!(copier.page.bytes.capacity() < 4 * PAGE_BYTES);
        }
        let waiting_bytes = copier.shared.waiting_bytes.load(Relaxed);
        assert!((WAITING_BYTES_MAX / 2..=WAITING_BYTES_MAX).contains(&waiting_bytes));
        gate.open();
        let (copied, outcome) = copier.finish(Duration::from_secs(60));
        outcome.unwrap();
        assert_eq!(copied.written + copied.lost, COPIES);
        assert!(
            copied.lost > COPIES / 4 && copied.written > 1_000,
            "{copied:?}"
        );
        let written = &gate.0.0.lock().unwrap().written;
        assert_eq!(written.len() as u64, copied.written * 6);
    }

    #[test]
    fn one_that_never_takes_anything_keeps_nobody_from_ending() {
        let mut copier = copier(CopyRule::default(), &Gate::default());
        copier.copy(&message(1, &[b"topic"]));
        let (copied, outcome) = copier.finish(Duration::from_millis(10));
        outcome.unwrap();
        assert_eq!((copied.written, copied.lost), (0, 1));
    }

    #[test]
    fn only_what_is_wanted_is_copied() {
        let gate = Gate::default();
        gate.open();
        let rule = CopyRule {
            topic: b"BTC".to_vec(),
            per_s_max: Some(3),
        };
        let mut copier = copier(rule, &gate);
        let subscription = |prefix| Passed {
            at_ns: 5 * SECOND_NS,
            kind: Kind::Subscription,
            frames: prefix,
        };
        copier.copy(&subscription(&[b"BT"]));
        copier.copy(&subscription(&[b"BTC-USD"]));
        copier.copy(&subscription(&[b"ETH"]));
        copier.copy(&message(5 * SECOND_NS, &[b"BT"]));
        for at in 0..4 {
            copier.copy(&message(5 * SECOND_NS + at, &[b"BTC", b"x"]));
        }
        copier.copy(&message(6 * SECOND_NS, &[b"BTC later"]));
        let (copied, outcome) = copier.finish(Duration::from_secs(60));
        outcome.unwrap();
        let written = gate.0.0.lock().unwrap().written.clone();
        assert_eq!(written, b"BT\nBTC-USD\nBTC\nBTC later\n");
        let expected = Copied {
            written: 4,
            lost: 0,
            skipped: 3,
        };
        assert_eq!(copied, expected);
    }

    #[test]
    fn a_file_that_is_full_is_told_at_the_end() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let rule = CopyRule::default();
        let mut copier = Copier::start("watcher", rule, topics, Box::new(Full)).unwrap();
        for _ in 0..100 {
            copier.copy(&message(1, &[b"topic"]));
            copier.flush();
        }
        let (copied, outcome) = copier.finish(Duration::from_secs(60));
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!((copied.written, copied.lost), (0, 100));
    }
}
