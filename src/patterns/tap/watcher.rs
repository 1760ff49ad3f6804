//! A watcher of copies: a thread that writes lines of them, or passes them on as messages.

use std::{
    io::{self, BufWriter, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread::Builder,
    time::Duration,
};

use serde::Serialize;

use crate::{
    error::{Error, Result},
    patterns::{
        copies::{Copied, Copier, Copies, CopyRule, Ended, PAGE_BYTES, Page, Passed, WhenFull},
        reactor::Reactor,
        tap::relay::Relay,
    },
};

/// The thread's name.
const WATCHER: &str = "watcher";

/// A function that appends a line for a copy.
pub type Line = Box<dyn Fn(&Passed<'_>, &mut Vec<u8>) + Send>;

/// A watcher that gets lines.
pub struct WatchPlan {
    /// What errors and the summary call it.
    pub name: String,
    /// Which copies it wants.
    pub rule: CopyRule,
    /// What makes a line of a copy.
    pub line: Line,
    /// Where lines go.
    pub out: Box<dyn Write + Send>,
}

/// What became of a watcher's copies.
#[derive(Clone, Debug, Serialize)]
pub struct Watched {
    /// The watcher.
    pub watcher: String,
    /// What became of its copies.
    #[serde(flatten)]
    pub copied: Copied,
}

/// A thread that does something with copies.
#[derive(Debug)]
pub struct Watcher {
    name: String,
    copier: Copier,
    ended: Receiver<io::Result<()>>,
    /// What it ended with, once that was seen.
    outcome: Option<Result<()>>,
}

impl Watcher {
    /// Starts a thread that makes a line of each copy and writes it.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub fn write(plan: WatchPlan) -> Result<Self> {
        let (copier, copies) = Copier::new(plan.rule, WhenFull::Lose, None);
        let WatchPlan { line, out, .. } = plan;
        Self::start(plan.name, copier, move || write(&copies, line, out))
    }

    /// Binds, and starts a thread that passes copies on as messages, to SUBs and PAIRs that connect. `flag` is
    /// what errors name an endpoint by. Returns it with the endpoints, with the ports that wildcards were given.
    ///
    /// # Errors
    /// [`Error::Config`] for an endpoint; [`Error::Thread`]; [`Error::Socket`].
    pub fn relay(flag: &str, endpoints: &[String]) -> Result<(Self, Vec<String>)> {
        let mut reactor = Reactor::new(crate::clock::Clock::start())?;
        let rule = CopyRule::default();
        let (copier, copies) = Copier::new(rule, WhenFull::Lose, Some(reactor.waker()));
        let relay = Relay::open(&mut reactor, flag, endpoints, copies)?;
        let bound = relay.bound().to_vec();
        let watcher = Self::start(bound.join(", "), copier, move || relay.run(reactor))?;
        Ok((watcher, bound))
    }

    fn start(
        name: String,
        copier: Copier,
        work: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<Self> {
        let (end, ended) = sync_channel(1);
        let run = move || {
            // Nobody asks any more where it took too long.
            let _ = end.send(work());
        };
        let spawned = Builder::new().name(WATCHER.to_owned()).spawn(run);
        spawned.map_err(|source| Error::Thread {
            thread: WATCHER.to_owned(),
            source,
        })?;
        Ok(Self {
            name,
            copier,
            ended,
            outcome: None,
        })
    }

    /// Returns what copies for it, from whatever thread.
    #[must_use]
    pub fn copier(&self) -> Copier {
        self.copier.clone()
    }

    /// Returns what it has failed with, once: [`Error::File`].
    pub fn take_news(&mut self) -> Option<&Error> {
        if self.outcome.is_some() {
            return None;
        }
        let outcome = wait(&self.ended, &self.name, Duration::ZERO)?;
        self.outcome.insert(outcome).as_ref().err()
    }

    /// Waits, for `limit` at most, until all copiers are gone and what they copied is written. Tells what became of
    /// it, and what writing failed with: [`Error::File`].
    pub fn finish(self, limit: Duration) -> (Watched, Result<()>) {
        let counters = self.copier.counters();
        drop(self.copier);
        let outcome = self
            .outcome
            .or_else(|| wait(&self.ended, &self.name, limit));
        let watched = Watched {
            watcher: self.name,
            copied: counters.copied(),
        };
        (watched, outcome.unwrap_or(Ok(())))
    }
}

/// Waits, for `limit` at most, until a watcher ends, and returns what with.
fn wait(ended: &Receiver<io::Result<()>>, name: &str, limit: Duration) -> Option<Result<()>> {
    let outcome = match ended.recv_timeout(limit) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => return None,
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("its thread panicked")),
    };
    Some(outcome.map_err(Error::file(name)))
}

/// Writes copies until there are no more.
fn write(copies: &Copies, line: Line, out: Box<dyn Write + Send>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(PAGE_BYTES, out);
    let mut text = Vec::new();
    // What is in the writer's own buffer is not written yet.
    let mut buffered = 0;
    let mut write = |page: Page, out: &mut BufWriter<_>| {
        page.each(|copy| {
            text.clear();
            line(copy, &mut text);
            out.write_all(&text)
        })?;
        let written = page.len() as u64;
        copies.give_back(page);
        io::Result::Ok(written)
    };
    loop {
        let page = match copies.try_take() {
            Ok(Some(page)) => page,
            Ok(None) => {
                out.flush()?;
                copies.count_written(std::mem::take(&mut buffered));
                match copies.take() {
                    Ok(page) => page,
                    Err(Ended) => break,
                }
            }
            Err(Ended) => break,
        };
        buffered += write(page, &mut out)?;
    }
    out.flush()?;
    copies.count_written(buffered);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::SECOND_NS,
        patterns::copies::{Kind, WAITING_BYTES_MAX},
    };
    use std::sync::{Arc, Condvar, Mutex};

    /// A file that takes bytes once it is open.
    #[derive(Clone, Default)]
    struct Gate(Arc<(Mutex<GateState>, Condvar)>);

    #[derive(Default)]
    struct GateState {
        is_open: bool,
        has_writer: bool,
        written: Vec<u8>,
    }

    impl Gate {
        /// Waits until somebody writes.
        fn wait_for_a_write(&self) {
            let state = self.0.0.lock().unwrap();
            let wait = |state: &mut GateState| !state.has_writer;
            drop(self.0.1.wait_while(state, wait).unwrap());
        }

        fn open(&self) {
            self.0.0.lock().unwrap().is_open = true;
            self.0.1.notify_all();
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.0.lock().unwrap();
            state.has_writer = true;
            self.0.1.notify_all();
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

    fn watcher(rule: CopyRule, out: impl Write + Send + 'static) -> (Watcher, Copier) {
        let plan = WatchPlan {
            name: "gate".to_owned(),
            rule,
            line: Box::new(topics),
            out: Box::new(out),
        };
        let watcher = Watcher::write(plan).unwrap();
        let copier = watcher.copier();
        (watcher, copier)
    }

    fn finish((watcher, copier): (Watcher, Copier), limit: Duration) -> (Copied, Result<()>) {
        drop(copier);
        let (watched, outcome) = watcher.finish(limit);
        (watched.copied, outcome)
    }

    fn message<'a>(at_ns: u64, frames: &'a [&'a [u8]]) -> Passed<'a> {
        Passed {
            at_ns,
            kind: Kind::Message,
            topic_bytes: None,
            frames,
        }
    }

    #[test]
    fn a_stalled_watcher_loses_what_does_not_fit_and_all_is_counted() {
        const COPIES: u64 = 20_000;
        let gate = Gate::default();
        let (watcher, mut copier) = watcher(CopyRule::default(), gate.clone());
        // It stands still from here on: before, it would take as many copies as its buffer has room for the lines of.
        copier.copy(&message(1, &[b"topic"]));
        copier.flush();
        gate.wait_for_a_write();
        // Of two threads, say.
        let mut copiers = [copier.clone(), copier];
        for copy in 0..COPIES {
            let copier = &mut copiers[(copy / 100 % 2) as usize];
            copier.copy(&message(1, &[b"topic", &[7; 2_000]]));
            assert!(copier.page_bytes() < 4 * PAGE_BYTES);
        }
        let waiting_bytes = copiers[0].waiting_bytes();
        assert!((WAITING_BYTES_MAX / 2..=WAITING_BYTES_MAX).contains(&waiting_bytes));
        gate.open();
        let [first, second] = copiers;
        drop(first);
        let (copied, outcome) = finish((watcher, second), Duration::from_secs(60));
        outcome.unwrap();
        assert_eq!(copied.written + copied.lost, 1 + COPIES);
        // A copier's own page counts for itself alone.
        let fit = WAITING_BYTES_MAX / 2_200..(WAITING_BYTES_MAX + 2 * PAGE_BYTES) / 2_000;
        assert!(fit.contains(&(copied.written as usize)), "{copied:?}");
        let written = &gate.0.0.lock().unwrap().written;
        assert_eq!(written.len() as u64, copied.written * 6);
    }

    #[test]
    fn one_that_never_takes_anything_keeps_nobody_from_ending() {
        let mut watched = watcher(CopyRule::default(), Gate::default());
        watched.1.copy(&message(1, &[b"topic"]));
        let (copied, outcome) = finish(watched, Duration::from_millis(10));
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
        let (watcher, mut copier) = watcher(rule, gate.clone());
        let subscription = |prefix| Passed {
            at_ns: 5 * SECOND_NS,
            kind: Kind::Subscription,
            topic_bytes: None,
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
        let (copied, outcome) = finish((watcher, copier), Duration::from_secs(60));
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
        let mut watched = watcher(CopyRule::default(), Full);
        for _ in 0..100 {
            watched.1.copy(&message(1, &[b"topic"]));
            watched.1.flush();
        }
        let (copied, outcome) = finish(watched, Duration::from_secs(60));
        let Err(Error::File { path, source }) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(path.as_os_str(), "gate");
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        assert_eq!((copied.written, copied.lost), (0, 100));
    }
}
