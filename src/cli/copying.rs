//! Copies of what a run delivers: for watchers, and for a cache that it serves.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use crate::{
    cli::{
        Failure,
        between::say_watched,
        cache::{self, EvictName},
        say,
        shape::Shape,
        tap::{ShowAs, watch_file},
    },
    config::{Config, ShardingMode, check_bind},
    error::Error,
    patterns::{
        cache::{CacheBeside, CachePlan, CacheSummary, Limits},
        copies::Copier,
        ends::{EndsPlan, refuse_own},
        tap::{Watched, Watcher},
    },
    report::count,
    stop::Stop,
};

/// How long watchers may take at the end for what waits for them.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Who gets copies of what is delivered.
#[derive(Debug, clap::Args)]
pub(super) struct Copying {
    /// Give copies of what is delivered to SUBs and PAIRs that connect here (repeatable). Nothing waits for them:
    /// one that is too slow loses copies, which are counted
    #[arg(long, value_name = "ENDPOINT")]
    tap: Vec<String>,

    /// Show what is delivered on standard error, with the time when its batch was handled
    #[arg(long, value_enum, value_name = "AS", conflicts_with = "tui")]
    tap_show: Option<ShowAs>,

    /// With --tap-show: only topics that start with this
    #[arg(long, value_name = "PREFIX", requires = "tap_show", default_value = "")]
    tap_topic: String,

    /// With --tap-show: at most this many lines a second
    #[arg(long, value_name = "N", requires = "tap_show")]
    tap_lines_max: Option<u64>,

    /// Write what is delivered to this file, as a capture: lines of `<ns> <json>`, with the time when the message's
    /// batch was handled. A file that is there becomes FILE.1
    #[arg(long, value_name = "FILE")]
    tap_file: Option<PathBuf>,

    /// Keep the newest message of each topic that is delivered, and serve subscribers here as `pinfeed cache` does
    /// (repeatable). Workers wait where it can't follow, as for a slow handler
    #[arg(long, value_name = "ENDPOINT")]
    cache: Vec<String>,

    /// With --cache: the most topics to keep
    #[arg(
        long,
        value_name = "N",
        requires = "cache",
        default_value_t = 1_000_000
    )]
    cache_topics_max: usize,

    /// With --cache: the most that messages may take, each with 64 bytes beside it
    #[arg(long, value_name = "BYTES", requires = "cache", default_value_t = 1 << 30)]
    cache_bytes_max: usize,

    /// With --cache: what makes room for new topics
    #[arg(long, value_enum, requires = "cache", default_value_t = EvictName::Oldest)]
    cache_evict: EvictName,

    /// With --cache: the most that may wait for one subscriber; messages beyond are lost to it, and counted
    #[arg(long, value_name = "BYTES", requires = "cache", default_value_t = 16 << 20)]
    cache_queue_max: usize,
}

impl Copying {
    /// Tells whether copies are written to standard error.
    pub(super) fn shows(&self) -> bool {
        self.tap_show.is_some()
    }

    /// Starts the threads that take copies, and says where they can be had. `None` where nobody wants any. `shape` is
    /// what the configuration was made of.
    pub(super) fn start(
        &self,
        (shape, config): (&Shape, &Config),
        stop: &Stop,
    ) -> Result<Option<Taking>, Failure> {
        let mut taking = Taking::default();
        if let Err(refused) = self.start_each(&mut taking, shape, config, stop) {
            // Their threads are to let go of what they have bound.
            taking.finish();
            return Err(refused);
        }
        let is_wanted = taking.cache.is_some() || !taking.watchers.is_empty();
        Ok(is_wanted.then_some(taking))
    }

    /// Adds those who take copies, one after the other.
    fn start_each(
        &self,
        taking: &mut Taking,
        shape: &Shape,
        config: &Config,
        stop: &Stop,
    ) -> Result<(), Failure> {
        for (flag, endpoints) in [("--tap", &self.tap), ("--cache", &self.cache)] {
            for endpoint in endpoints {
                check_bind(flag, endpoint)?;
            }
        }
        if !self.tap.is_empty() {
            let (watcher, bound) = Watcher::relay("--tap", &self.tap)?;
            taking.watchers.push(watcher);
            refuse_own_lines(config, &bound).map_err(|error| shape.name_flags(error))?;
            for endpoint in bound {
                say(format_args!("watched on {endpoint}"));
            }
        }
        if let Some(show) = self.tap_show {
            let plan = show.watch(&self.tap_topic, self.tap_lines_max);
            taking.watchers.push(Watcher::write(plan)?);
        }
        if let Some(path) = &self.tap_file {
            let plan = watch_file("--tap-file", path)?;
            taking.watchers.push(Watcher::write(plan)?);
        }
        if !self.cache.is_empty() {
            let cache = taking.cache.insert(self.start_cache(config, stop)?);
            refuse_own_lines(config, cache.served()).map_err(|error| shape.name_flags(error))?;
            for endpoint in cache.served() {
                say(format_args!("serving on {endpoint}"));
            }
        }
        Ok(())
    }

    fn start_cache(&self, config: &Config, stop: &Stop) -> Result<CacheBeside, Error> {
        if config.sharding.mode != ShardingMode::Keyed {
            let problem =
                "with sharding by turns a topic's messages come in no order, so none is the newest";
            let remedy = "leave it out, or set sharding.mode = \"keyed\"";
            let endpoints = self.cache.join(", ");
            return Err(Error::config("--cache", endpoints, problem, remedy));
        }
        let plan = CachePlan {
            ends: EndsPlan {
                connect: Vec::new(),
                bind: Vec::new(),
                serve: self.cache.clone(),
                waiting_bytes_max: self.cache_queue_max,
            },
            subscribe: Vec::new(),
            envelope: None,
            limits: Limits {
                topics_max: self.cache_topics_max,
                bytes_max: self.cache_bytes_max,
            },
            evict: self.cache_evict.into(),
            file: None,
            snapshots: Vec::new(),
            messages_max: u64::MAX,
        };
        CacheBeside::start(&plan, stop).map_err(|error| error.by_flag("--serve", "--cache"))
    }
}

/// Refuses feeds that would receive what this process serves.
fn refuse_own_lines(config: &Config, bound: &[String]) -> Result<(), Error> {
    for (place, feed) in config.feeds.iter().enumerate() {
        for (index, line) in feed.lines.iter().enumerate() {
            for (at, endpoint) in line.connect.iter().enumerate() {
                let key = format!("feed[{place}].line[{index}].connect[{at}]");
                refuse_own(&key, endpoint, bound)?;
            }
        }
    }
    Ok(())
}

/// Those who take copies.
#[derive(Default)]
pub(super) struct Taking {
    watchers: Vec<Watcher>,
    cache: Option<CacheBeside>,
}

impl Taking {
    /// Returns what copies for all of them.
    pub(super) fn copiers(&self) -> Vec<Copier> {
        let watchers = self.watchers.iter().map(Watcher::copier);
        let cache = self.cache.iter().map(CacheBeside::copier);
        watchers.chain(cache).collect()
    }

    /// Says what people should know.
    pub(super) fn say_news(&mut self) {
        for error in self.watchers.iter_mut().filter_map(Watcher::take_news) {
            say(format_args!("warning: a watcher has ended: {error}"));
        }
        for news in self.cache.iter().flat_map(CacheBeside::take_news) {
            say(format_args!("{news}"));
        }
    }

    /// Does as [`finish`](Self::finish), where some will never cease to copy: watchers get what time they have, and
    /// the cache, which would wait for the last copy, is left.
    pub(super) fn leave(mut self) -> Taken {
        if self.cache.take().is_some() {
            say(format_args!(
                "warning: the cache was left without a summary"
            ));
        }
        self.finish()
    }

    /// Waits for those who take copies, when nobody copies any more.
    pub(super) fn finish(self) -> Taken {
        let mut taken = Taken::default();
        for watcher in self.watchers {
            let (watched, outcome) = watcher.finish(DRAIN_LIMIT);
            taken.watchers.push(watched);
            if let Err(error) = outcome {
                let failure = Failure::running("watching", &error);
                taken.failure.get_or_insert(failure);
            }
        }
        if let Some(cache) = self.cache {
            let (not_taken, end) = cache.finish();
            match end {
                Ok((summary, written)) => {
                    taken.cache = Some(summary);
                    let failure = written.err().map(Failure::from);
                    taken.failure = taken.failure.take().or(failure);
                }
                Err(error) => {
                    say(format_args!(
                        "{:>15} delivered that the cache did not get",
                        count(not_taken)
                    ));
                    taken.failure.get_or_insert(error.into());
                }
            }
        }
        taken
    }
}

/// What became of copies.
#[derive(Default, Serialize)]
pub(super) struct Taken {
    /// What watchers got.
    watchers: Vec<Watched>,
    /// What the cache did.
    cache: Option<CacheSummary>,
    /// Why copies could not be taken.
    #[serde(skip)]
    pub(super) failure: Option<Failure>,
}

impl Taken {
    /// Tells whether all that came to the cache is accounted for.
    pub(super) fn is_balanced(&self) -> bool {
        self.cache.as_ref().is_none_or(|cache| cache.balanced)
    }

    /// Says what became of them.
    pub(super) fn say(&self) {
        say_watched(&self.watchers);
        if let Some(cache) = &self.cache {
            say(format_args!("cache:"));
            cache::say_summary(cache);
        }
    }
}
