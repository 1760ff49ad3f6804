//! A cache beside other threads of the process, which copy messages for it, on a thread of its own.
//!
//! Where it can't follow, those who copy wait: it is 64 pages or 16 MiB of messages behind what they have gone on
//! from at most, and no value stays old. Subscribers keep nobody waiting, so that is for as long as it takes to store
//! and to forward; what comes of it is up to those who fill the queues of those who wait.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use crate::{
    error::{Error, Result},
    patterns::{
        cache::{Cache, CachePlan, CacheSummary},
        copies::{Copier, CopyCounters},
    },
    stop::Stop,
};

/// The thread's name.
const CACHE: &str = "cache";
/// The longest wait for messages.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What people have not been told yet, at most.
const NEWS_MAX: usize = 1_000;

/// What a cache ended with: its summary, and whether its file was written.
type CacheEnd = (CacheSummary, Result<()>);

/// A cache on a thread of its own.
#[derive(Debug)]
pub struct CacheBeside {
    copier: Copier,
    counters: CopyCounters,
    served: Vec<String>,
    news: Receiver<String>,
    thread: JoinHandle<Result<CacheEnd>>,
}

impl CacheBeside {
    /// Opens a cache and starts its thread. Should that fail later, or panic, `stop` is requested.
    ///
    /// # Errors
    /// What [`Cache::open`] fails with; [`Error::Thread`].
    pub fn start(plan: &CachePlan, stop: &Stop) -> Result<Self> {
        let mut cache = Cache::open(plan, stop.clone())?;
        let copier = cache.copier();
        let served = cache.ends().served.clone();
        let (tell, news) = sync_channel(NEWS_MAX);
        let stop = stop.clone();
        let run = move || {
            let mut stop_at_end = StopAtEnd(Some(stop));
            let end = run(cache, &tell)?;
            stop_at_end.0 = None;
            Ok(end)
        };
        let thread = Builder::new().name(CACHE.to_owned()).spawn(run);
        Ok(Self {
            counters: copier.counters(),
            copier,
            served,
            news,
            thread: thread.map_err(|source| Error::Thread {
                thread: CACHE.to_owned(),
                source,
            })?,
        })
    }

    /// Returns what copies for it, from whatever thread.
    #[must_use]
    pub fn copier(&self) -> Copier {
        self.copier.clone()
    }

    /// Returns what was bound for subscribers, with the ports that wildcards were given.
    #[must_use]
    pub fn served(&self) -> &[String] {
        &self.served
    }

    /// Returns what people should know and have not been told.
    pub fn take_news(&self) -> impl Iterator<Item = String> {
        self.news.try_iter()
    }

    /// Waits until all that copied are gone and subscribers have what they take, and sums up; with the number of
    /// messages that were copied and not taken, for which it has to have failed.
    ///
    /// # Errors
    /// What the thread ended with.
    pub fn finish(self) -> (u64, Result<CacheEnd>) {
        drop(self.copier);
        let end = self.thread.join().unwrap_or_else(|_| {
            Err(Error::ThreadPanicked {
                thread: CACHE.to_owned(),
            })
        });
        (self.counters.copied().lost, end)
    }
}

/// Requests the stop, where there is still one to request.
struct StopAtEnd(Option<Stop>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        if let Some(stop) = &self.0 {
            stop.request();
        }
    }
}

fn run(mut cache: Cache, tell: &SyncSender<String>) -> Result<CacheEnd> {
    while !cache.have_copies_ended() {
        for news in cache.turn(LOOK_EVERY)? {
            // Where nobody reads them, there are enough.
            let _ = tell.try_send(news);
        }
    }
    cache.finish()
}
