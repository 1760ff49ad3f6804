//! Copies of messages, on their way to a thread that does something with them.
//!
//! Each thread that copies has a [`Copier`] of its own. Copies gather in its page, for a turn of a reactor or a
//! worker's batch, and go to the thread that has the [`Copies`] together, so that a burst costs one hand-over.
//! What waits has a limit; what does not fit is [lost](WhenFull::Lose) and counted, before it is copied, or
//! [waited for](WhenFull::Wait).

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError};
use serde::Serialize;

use crate::{
    clock::SECOND_NS,
    message::FRAMES_MAX,
    patterns::reactor::Waker,
    zmtp::{Cut, Frames, Limits, Splitter, frame::encode_message},
};

/// The most bytes of copies that wait, but for a page or a message that alone has more: it waits by itself.
pub const WAITING_BYTES_MAX: usize = 16 << 20;
/// The most pages that wait where those beyond are lost.
const PAGES_MAX: usize = 1_024;
/// The most pages that wait where there is waiting for room.
const PAGES_MAX_WAITED_FOR: usize = 64;
/// The most pages that are kept for the next turns, of up to twice [`PAGE_BYTES`], where copies may be lost. Where
/// there is waiting all are kept: who waits is not to allocate as well.
const SPARE_PAGES_MAX: usize = 16;
/// The longest that who waits for room goes without a look for it.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Bytes of a page at which it is handed over before the turn ends.
pub(super) const PAGE_BYTES: usize = 64 * 1024;
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

/// Something that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed<'a> {
    /// When it passed, in nanoseconds since 1970.
    pub at_ns: u64,
    /// What passed.
    pub kind: Kind,
    /// Bytes of the first frame that are its topic; `None` where that does not stand at its start.
    pub topic_bytes: Option<usize>,
    /// Its frames.
    pub frames: &'a [&'a [u8]],
}

/// Which copies are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyRule {
    /// Those of topics that start with this, and subscriptions that match some of these.
    pub topic: Vec<u8>,
    /// At most so many within each second of the wall clock, of those.
    pub per_s_max: Option<u64>,
}

impl CopyRule {
    /// Tells whether the frame that a topic begins starts as those that are wanted do. No bytes are not compared:
    /// that takes 100 ns where the C library compares by masked loads, since they have no address.
    #[inline]
    fn covers(&self, first: &[u8]) -> bool {
        self.topic.is_empty() || first.starts_with(&self.topic)
    }
}

/// What happens where too much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// A copy is lost: whoever copies never waits.
    Lose,
    /// Whoever copies waits: no copy is lost as long as the other thread lives.
    Wait,
}

/// What became of the copies that were wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Copies that were written.
    pub written: u64,
    /// Copies that were lost, since too much waited or they could not be written.
    pub lost: u64,
    /// Copies beyond what was wanted a second.
    pub skipped: u64,
}

/// What both sides know.
#[derive(Debug, Default)]
struct Shared {
    /// Whether nobody is there for whom to copy.
    is_unwatched: AtomicBool,
    waiting_bytes: AtomicUsize,
    wanted: AtomicU64,
    skipped: AtomicU64,
    done: Mutex<Done>,
    /// The last second with copies that are limited, in the upper half, and how many it has had.
    second: AtomicU64,
}

/// What the thread has done so far.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    /// Copies that it is done with.
    copies: u64,
    written: u64,
    /// Copies that it could not get rid of.
    lost: u64,
}

impl Shared {
    fn done(&self) -> MutexGuard<'_, Done> {
        // Nothing panics within.
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether there is room for more bytes beside what waits and `beside_bytes`.
    fn has_room(&self, beside_bytes: usize, bytes: usize) -> bool {
        let waiting_bytes = self.waiting_bytes.load(Relaxed) + beside_bytes;
        waiting_bytes == 0 || waiting_bytes + bytes <= WAITING_BYTES_MAX
    }

    /// Takes one of the copies that a second may have, if there is one left.
    fn is_within(&self, at_ns: u64, per_s_max: u64) -> bool {
        let (now, most) = (at_ns / SECOND_NS, per_s_max.min(u64::from(u32::MAX)));
        let take = |state: u64| {
            let (second, so_far) = (state >> 32, state & u64::from(u32::MAX));
            // Those who copy read the clock at different times.
            let (second, so_far) = if second == now || second == now + 1 {
                (second, so_far)
            } else {
                (now, 0)
            };
            (so_far < most).then(|| (second << 32) | (so_far + 1))
        };
        self.second.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

/// What is counted of copies, to be read at any time.
#[derive(Clone, Debug)]
pub struct CopyCounters(Arc<Shared>);

impl CopyCounters {
    /// Returns what became of copies so far. Those under way count as lost.
    #[must_use]
    pub fn copied(&self) -> Copied {
        let shared = &self.0;
        // First: what is done was wanted before.
        let done = *shared.done();
        let under_way = shared.wanted.load(Relaxed).saturating_sub(done.copies);
        Copied {
            written: done.written,
            lost: done.lost + under_way,
            skipped: shared.skipped.load(Relaxed),
        }
    }
}

/// Copies that go to the other thread together.
#[derive(Debug, Default)]
pub struct Page {
    bytes: Vec<u8>,
    copies: Vec<(u64, Kind, Option<u32>, Range<usize>)>,
}

impl Page {
    fn cost_bytes(&self) -> usize {
        self.bytes.len() + self.copies.len() * COPY_OVERHEAD_BYTES
    }

    /// Returns how many copies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.copies.len()
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// Calls for each copy, in order.
    ///
    /// # Errors
    /// The first one of `take`, which is the last call then.
    pub fn each<E>(&self, mut take: impl FnMut(&Passed<'_>) -> Result<(), E>) -> Result<(), E> {
        let limits = Limits {
            frame_bytes_max: usize::MAX,
            message_bytes_max: usize::MAX,
            frames_max: FRAMES_MAX,
        };
        let mut splitter = Splitter::new(limits);
        let mut frames = Frames::default();
        for (at_ns, kind, topic_bytes, place) in &self.copies {
            // One message, which was encoded here.
            let cut = splitter.cut(&self.bytes[place.clone()], &mut frames);
            if matches!(cut, Ok((Cut::Message, _))) {
                take(&Passed {
                    at_ns: *at_ns,
                    kind: *kind,
                    topic_bytes: topic_bytes.map(|bytes| bytes as usize),
                    frames: frames.as_slice(),
                })?;
            }
        }
        Ok(())
    }
}

/// The side that copies. Clones copy for the same thread, under the same limits.
#[derive(Debug)]
pub struct Copier {
    rule: CopyRule,
    when_full: WhenFull,
    page: Page,
    /// None only while it is dropped.
    pages: Option<Sender<Page>>,
    spare: Receiver<Page>,
    shared: Arc<Shared>,
    waker: Option<Waker>,
    /// Not told yet.
    wanted: u64,
    skipped: u64,
}

impl Clone for Copier {
    fn clone(&self) -> Self {
        Self {
            rule: self.rule.clone(),
            when_full: self.when_full,
            page: Page::default(),
            pages: self.pages.clone(),
            spare: self.spare.clone(),
            shared: self.shared.clone(),
            waker: self.waker.clone(),
            wanted: 0,
            skipped: 0,
        }
    }
}

impl Copier {
    /// Makes both sides. `waker` is rung where there is something to take.
    #[must_use]
    pub fn new(rule: CopyRule, when_full: WhenFull, waker: Option<Waker>) -> (Self, Copies) {
        let (pages_max, spare_max) = match when_full {
            WhenFull::Lose => (PAGES_MAX, SPARE_PAGES_MAX),
            WhenFull::Wait => (PAGES_MAX_WAITED_FOR, PAGES_MAX_WAITED_FOR),
        };
        let (pages, to_take) = channel::bounded(pages_max);
        let (give_back, spare) = channel::bounded(spare_max);
        let shared = Arc::new(Shared::default());
        let copier = Self {
            rule,
            when_full,
            page: Page::default(),
            pages: Some(pages),
            spare,
            shared: shared.clone(),
            waker,
            wanted: 0,
            skipped: 0,
        };
        let copies = Copies {
            pages: to_take,
            give_back,
            shared,
        };
        (copier, copies)
    }

    /// Returns what is counted of all copies.
    #[must_use]
    pub fn counters(&self) -> CopyCounters {
        CopyCounters(self.shared.clone())
    }

    /// Tells whether messages with this first frame are wanted, a few of them at least.
    #[inline]
    #[must_use]
    pub fn wants(&self, first: &[u8]) -> bool {
        self.is_watched() && self.rule.covers(first)
    }

    /// Tells whether anybody is there for whom to copy.
    #[inline]
    fn is_watched(&self) -> bool {
        !self.shared.is_unwatched.load(Relaxed)
    }

    /// Copies what passed, if it is wanted and there is room.
    pub fn copy(&mut self, copy: &Passed<'_>) {
        if !self.is_wanted(copy) {
            return;
        }
        self.wanted += 1;
        let bytes: usize = copy.frames.iter().map(|frame| frame.len()).sum();
        if !self.has_room(bytes) || copy.frames.len() > FRAMES_MAX {
            return;
        }
        let start = self.page.bytes.len();
        encode_message(&mut self.page.bytes, copy.frames);
        let place = start..self.page.bytes.len();
        let topic_bytes = copy.topic_bytes.map(|bytes| bytes as u32);
        let copies = &mut self.page.copies;
        copies.push((copy.at_ns, copy.kind, topic_bytes, place));
        if self.page.bytes.len() >= PAGE_BYTES {
            self.flush();
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        if self.when_full == WhenFull::Wait {
            return true;
        }
        let cost_bytes = self.page.cost_bytes();
        // A page that is full is so because no more pages may wait.
        self.shared
            .has_room(cost_bytes, bytes + COPY_OVERHEAD_BYTES)
            && self.page.bytes.len() < PAGE_BYTES
    }

    /// Waits until there is room for the page, or nobody who would make some.
    fn wait_for_room(&self) {
        let cost_bytes = self.page.cost_bytes();
        while !self.shared.has_room(0, cost_bytes) {
            // Room comes with a page that is given back, though another copier may take either.
            let given_back = self.spare.recv_timeout(LOOK_EVERY);
            if matches!(given_back, Err(RecvTimeoutError::Disconnected)) {
                return;
            }
        }
    }

    /// Hands over what was copied.
    pub fn flush(&mut self) {
        if self.wanted + self.skipped > 0 {
            let (wanted, skipped) = (&mut self.wanted, &mut self.skipped);
            self.shared
                .wanted
                .fetch_add(std::mem::take(wanted), Relaxed);
            self.shared
                .skipped
                .fetch_add(std::mem::take(skipped), Relaxed);
        }
        let Some(pages) = self.pages.as_ref().filter(|_| !self.page.is_empty()) else {
            return;
        };
        if self.when_full == WhenFull::Wait {
            self.wait_for_room();
        }
        let page = std::mem::take(&mut self.page);
        let cost_bytes = page.cost_bytes();
        self.shared.waiting_bytes.fetch_add(cost_bytes, Relaxed);
        let sent = match self.when_full {
            WhenFull::Lose => pages.try_send(page),
            // Nobody takes it where the other thread has ended: then it is lost, and counted as that.
            WhenFull::Wait => {
                let sent = pages.send(page);
                sent.map_err(|unsent| TrySendError::Disconnected(unsent.0))
            }
        };
        match sent {
            Ok(()) => {
                self.page = self.spare.try_recv().unwrap_or_default();
                if let Some(waker) = &self.waker {
                    waker.wake();
                }
            }
            Err(TrySendError::Full(page)) => {
                // It is kept, and filled, until there is room for another page: a watcher that stands still would
                // cost a page a turn.
                self.shared.waiting_bytes.fetch_sub(cost_bytes, Relaxed);
                self.page = page;
            }
            Err(TrySendError::Disconnected(mut page)) => {
                self.shared.waiting_bytes.fetch_sub(cost_bytes, Relaxed);
                page.bytes.clear();
                page.copies.clear();
                self.page = page;
            }
        }
    }

    /// Returns what waits for the other thread, in bytes with what is kept beside each copy.
    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.shared.waiting_bytes.load(Relaxed)
    }

    /// Returns the memory of the page at hand, in bytes.
    #[cfg(test)]
    pub(super) fn page_bytes(&self) -> usize {
        self.page.bytes.capacity()
    }

    fn is_wanted(&mut self, copy: &Passed<'_>) -> bool {
        let first = copy.frames.first().copied().unwrap_or_default();
        let topic = &*self.rule.topic;
        let matches = self.rule.covers(first)
            || matches!(copy.kind, Kind::Subscription | Kind::Cancellation)
                && topic.starts_with(first);
        if !matches || !self.is_watched() {
            return false;
        }
        let Some(per_s_max) = self.rule.per_s_max else {
            return true;
        };
        let is_within = self.shared.is_within(copy.at_ns, per_s_max);
        self.skipped += u64::from(!is_within);
        is_within
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        // Where there is waiting for room, this waits too.
        self.flush();
        // First: who is woken is to see that no more come.
        self.pages = None;
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }
}

/// No copier is left, and nothing of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// The side that takes copies.
#[derive(Debug)]
pub struct Copies {
    pages: Receiver<Page>,
    give_back: Sender<Page>,
    shared: Arc<Shared>,
}

impl Copies {
    /// Takes the next page, if there is one.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn try_take(&self) -> Result<Option<Page>, Ended> {
        match self.pages.try_recv() {
            Ok(page) => Ok(Some(page)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Ended),
        }
    }

    /// Waits for the next page.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn take(&self) -> Result<Page, Ended> {
        self.pages.recv().map_err(|_| Ended)
    }

    /// Gives a page back, whose copies are written or about to be.
    pub fn give_back(&self, mut page: Page) {
        let cost_bytes = page.cost_bytes();
        self.shared.waiting_bytes.fetch_sub(cost_bytes, Relaxed);
        page.bytes.clear();
        page.copies.clear();
        page.bytes.shrink_to(2 * PAGE_BYTES);
        // Where there are enough, it goes.
        let _ = self.give_back.try_send(page);
    }

    /// Counts copies that were written.
    pub fn count_written(&self, copies: u64) {
        let mut done = self.shared.done();
        done.copies += copies;
        done.written += copies;
    }

    /// Counts copies that are done with, where each may go to several, and says how many have gone to somebody so
    /// far, and how many could not.
    pub fn count_sent(&self, copies: u64, written: u64, lost: u64) {
        let mut done = self.shared.done();
        done.copies += copies;
        (done.written, done.lost) = (written, lost);
    }

    /// Says whether anybody is there for whom to copy. At first there is.
    pub fn set_watched(&self, is_watched: bool) {
        self.shared.is_unwatched.store(!is_watched, Relaxed);
    }
}

#[cfg(test)]
mod tests;
