//! The whole black box: a configuration in, running threads out.
//!
//! This is the only place that knows how the parts are wired:
//!
//! ```text
//!  publishers ──> lane 0 ──┬── ring ──> worker 0: handler, recorder
//!                          └── ring ─┐┌> worker 1: handler, recorder
//!  publishers ──> lane 1 ──┬── ring ─┼┘
//!                          └── ring ─┘
//! ```

mod assembly;
mod crew;
mod outcome;
mod overseer;
mod roster;
mod shards;

pub(crate) use outcome::ratio;
pub use outcome::{LineGlance, LineOutcome, Outcome, ThreadOutcome};

use std::{
    mem,
    sync::{Arc, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

#[cfg(test)]
use crate::clock::WallClock;
use crate::{
    clock::Clock,
    config::{Config, Engine, Feed, SocketKind},
    error::{Error, Result},
    flight::FlightRecord,
    host::{huge_pages, pin::Placement, realtime},
    lane::{Change, Lane, Order, OrderSender, Quota, Reach, Unreached},
    latency::{Collector, FeedClocks, Stages},
    ledger::{LaneTotals, Ledger, RejectedSample, Totals, WorkerTotals},
    libzmq::Context,
    policy::{ByTopic, TopicTally},
    stop::Stop,
    worker::{Handler, WorkerEnd},
};
use assembly::{Assembly, Merged};
use crew::join;
use outcome::CpuMarks;
use overseer::Overseer;
use roster::Roster;
pub use shards::Owner;
use shards::Shards;

/// How often threads are looked at while their end is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A thread, and what it ends with.
type Running<T> = JoinHandle<Option<Result<T>>>;

/// A running pipeline: lanes that receive, workers that run a handler each.
///
/// ```no_run
/// use pinfeed::{config::Config, lane::Quota, pipeline::Pipeline, stop::Stop, worker::handlers::Count};
///
/// let config = Config::load("feeds.toml".as_ref())?;
/// let pipeline = Pipeline::start(&config, Quota::of(1_000_000), Stop::default(), |_worker| Count::default())?;
/// let outcome = pipeline.finish();
/// assert!(outcome.totals.balanced());
/// # Ok::<(), pinfeed::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a pipeline that is dropped stops"]
pub struct Pipeline<H> {
    lanes: Vec<Running<()>>,
    workers: Vec<Running<WorkerEnd<H>>>,
    roster: Roster,
    /// Held so that libzmq's I/O threads are there to be looked at when the others have ended.
    _context: Option<Context>,
    endpoints: Vec<String>,
    /// Of the endpoints that lanes connect to or bind, and of servers of snapshots.
    reaches: Vec<Reach>,
    engine: Engine,
    batches_per_worker: usize,
    shards: Shards,
    /// By lane.
    orders: Vec<OrderSender>,
    feeds: Vec<String>,
    /// By feed: what merges its lines.
    merges: Vec<Option<Merged>>,
    /// Feeds whose messages have no numbers that are looked at, by name.
    unnumbered: Vec<String>,
    /// By feed: whether its publishers push.
    pushed: Vec<bool>,
    /// By feed: whether it takes snapshots.
    joined: Vec<bool>,
    collectors: Vec<Collector>,
    /// Gathered before the last call of `collect_stages`.
    stages: Stages,
    /// Gathered by the last call of `collect_stages`.
    interval: Stages,
    feed_clocks: FeedClocks,
    ledger: Arc<Ledger>,
    clock: Clock,
    /// What a test sets.
    #[cfg(test)]
    wall: WallClock,
    /// Of the workers, where they may be too slow.
    overseer: Option<Overseer>,
    stop: Stop,
    cpu: CpuMarks,
    flight: FlightRecord,
    topics: Vec<TopicTally>,
}

impl<H: Handler> Pipeline<H> {
    /// Checks the configuration, opens all sockets, starts and ties all threads, then lets them go.
    ///
    /// The pipeline runs until `stop` is requested or `quota` is used up; `stop` stands requested
    /// once any of its threads has ended. `handler` makes the handler of each worker, counted
    /// from 0.
    ///
    /// # Errors
    /// [`Error::Config`] before anything is started, or for `threads` after, [`Error::Zmq`], [`Error::Pin`] or
    /// [`Error::Thread`] after; what was started by then ends again. Memory stays locked.
    pub fn start(
        config: &Config,
        quota: Quota,
        stop: Stop,
        mut handler: impl FnMut(usize) -> H,
    ) -> Result<Self> {
        config.validate()?;
        let assembly = Assembly::new(config, stop)?;
        let (workers, collectors, outlets) = assembly.start_workers(&mut handler)?;
        // Late, so that messages don't wait for threads to start.
        let (lanes, orders) = assembly.open_lanes(&quota)?;
        let mut threads = assembly.pin_io_threads()?;
        let endpoints = lanes.iter().flat_map(Lane::bound).collect();
        let shards = assembly.shards()?;
        let (lanes, merges, reaches) = assembly.start_lanes(lanes, outlets)?;
        let overseer = assembly.oversee()?;
        // When all has its memory, and before anything depends on it.
        if config.threads.huge_pages {
            huge_pages::advise()?;
        }
        if config.threads.lock_memory {
            realtime::lock_memory()?;
        }
        threads.extend(assembly.crew.set_off(lanes.len() + workers.len())?);
        Ok(Self {
            lanes,
            workers,
            roster: Roster::new(threads, assembly.clock.now_ns()),
            _context: assembly.context,
            endpoints,
            reaches,
            engine: config.engine(),
            batches_per_worker: assembly::batches_per_worker(config),
            shards,
            orders,
            feeds: config.feeds.iter().map(|feed| feed.name.clone()).collect(),
            unnumbered: config.unnumbered(),
            merges,
            joined: (config.feeds.iter())
                .map(|feed| feed.snapshot.is_some())
                .collect(),
            pushed: {
                let is_pushed = |feed: &Feed| feed.socket == SocketKind::Pull;
                config.feeds.iter().map(is_pushed).collect()
            },
            collectors,
            stages: Stages::default(),
            interval: Stages::default(),
            feed_clocks: assembly.feed_clocks,
            ledger: assembly.ledger,
            clock: assembly.clock,
            overseer,
            #[cfg(test)]
            wall: assembly.wall,
            stop: assembly.stop,
            cpu: assembly.cpu,
            flight: assembly.flight,
            topics: assembly.topics,
        })
    }

    /// Returns the endpoints that publishers may connect to, with the ports that wildcards were given.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Returns the endpoints that have had no connection so far, with the last reason: those to be connected to, and
    /// those bound; and those that snapshots were to come from and none has.
    #[must_use]
    pub fn unreached(&self) -> Vec<Unreached> {
        self.reaches.iter().filter_map(Reach::unreached).collect()
    }

    /// Returns where the threads were put: libzmq's I/O threads if there are any, then workers and lanes.
    #[must_use]
    pub fn placements(&self) -> &[Placement] {
        self.roster.placements()
    }

    /// Subscribes a feed to all topics that begin with `prefix`, on all of its lines. Subscriptions are
    /// counted: what is asked for twice has to be ended twice.
    ///
    /// # Errors
    /// [`Error::Config`], where there is no feed of this name, or its publishers push;
    /// [`Error::LaneBusy`].
    pub fn subscribe(&self, feed: &str, prefix: &[u8]) -> Result<()> {
        self.order(feed, prefix, true)
    }

    /// Ends a subscription once. Messages that its lanes read from then on no longer reach handlers.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn unsubscribe(&self, feed: &str, prefix: &[u8]) -> Result<()> {
        self.order(feed, prefix, false)
    }

    fn order(&self, feed: &str, prefix: &[u8], subscribe: bool) -> Result<()> {
        let Some(index) = self.feeds.iter().position(|name| name == feed) else {
            return Err(Error::config(
                "feed",
                feed,
                "there is no feed of this name",
                format!("give one of {}", self.feeds.join(", ")),
            ));
        };
        if self.pushed[index] {
            return Err(Error::config(
                "feed",
                feed,
                "publishers that push take no subscriptions",
                "name a feed with `socket = \"sub\"`",
            ));
        }
        if self.joined[index] {
            return Err(Error::config(
                "feed",
                feed,
                "its snapshots are of what it was subscribed to at the start",
                "name a feed without `snapshot`",
            ));
        }
        // All or nothing, so that asking again does not count twice.
        if self.orders.iter().any(OrderSender::is_full) {
            return Err(Error::LaneBusy);
        }
        for orders in &self.orders {
            let change = Change {
                feed: index as u16,
                prefix: prefix.to_vec(),
                subscribe,
            };
            if !orders.send(Order::Subscribe(change)) {
                return Err(Error::LaneBusy);
            }
        }
        Ok(())
    }

    /// Returns the ledger so far. To be called some times a second for the summary's CPU time to
    /// leave out the time after the last message, and for threads that are moved off their cores to be noted
    /// in the flight record within a second.
    pub fn look(&mut self) -> Totals {
        self.roster.look(self.clock.now_ns(), &self.flight);
        let totals = self.ledger.totals();
        self.cpu.look(&totals);
        totals
    }

    fn is_abandoned(&self, worker: usize) -> bool {
        self.ledger.workers[worker].abandoned.get() > 0
    }

    /// Returns what each lane has counted so far, in the order of the configuration.
    #[must_use]
    pub fn by_lane(&self) -> Vec<LaneTotals> {
        self.ledger.by_lane()
    }

    /// Returns the most batches that may be under way to a worker.
    #[must_use]
    pub fn batches_per_worker(&self) -> u64 {
        self.batches_per_worker as u64
    }

    /// Returns what each worker has counted so far.
    #[must_use]
    pub fn by_worker(&self) -> Vec<WorkerTotals> {
        self.ledger.by_worker()
    }

    /// Returns the first few messages rejected so far, of each reason.
    #[must_use]
    pub fn rejected_samples(&self) -> Vec<RejectedSample> {
        let samples = self.ledger.samples.list().into_iter();
        samples
            .map(|sample| RejectedSample::new(sample, &self.feeds))
            .collect()
    }

    /// Asks the workers for what they have recorded. Each answers after its next batch, or within
    /// [`IDLE_AFTER`](crate::wait::IDLE_AFTER).
    pub fn request_stages(&self) {
        for collector in &self.collectors {
            collector.request();
        }
    }

    /// Tells whether a worker has not answered yet.
    #[must_use]
    pub fn awaits_stages(&self) -> bool {
        self.collectors.iter().any(Collector::is_waiting)
    }

    /// Gathers the workers' answers, and returns what they recorded since their last ones. What they record
    /// after the last call is [`Outcome::uncollected`].
    pub fn collect_stages(&mut self) -> &Stages {
        self.stages.merge(&self.interval);
        self.interval.reset();
        for collector in &mut self.collectors {
            collector.collect(&mut self.interval);
        }
        &self.interval
    }

    /// Forgets the times recorded so far, for instance of a warm-up: each worker's until its next look up,
    /// which is as with [`request_stages`](Self::request_stages). The ledger forgets nothing.
    pub fn forget_stages(&mut self) {
        self.stages = Stages::default();
        self.interval.reset();
        for collector in &mut self.collectors {
            collector.forget();
        }
    }

    /// Returns how the lines of feeds that are copies of each other stand against one another so far. Waits
    /// where a lane waits for a worker.
    #[must_use]
    pub fn lines(&self) -> Vec<LineOutcome> {
        let merges = self.feeds.iter().zip(&self.merges);
        let merges = merges.filter_map(|(feed, merge)| Some((feed, merge.as_ref()?)));
        merges
            .flat_map(|(feed, merge)| {
                let merge = merge.lock().unwrap_or_else(PoisonError::into_inner);
                let lines = merge.lines().enumerate();
                let outcome = |(line, (counts, absence))| LineOutcome {
                    feed: feed.clone(),
                    line,
                    counts,
                    absence,
                };
                lines.map(outcome).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Returns what was counted so far of the lines of feeds that are copies of each other: never waits, and
    /// leaves out feeds that a lane is at work on, so that asking again soon may tell of them.
    #[must_use]
    pub fn glance_at_lines(&self) -> Vec<LineGlance> {
        let merges = self.merges.iter().enumerate();
        let free =
            merges.filter_map(|(feed, merge)| Some((feed, merge.as_ref()?.try_lock().ok()?)));
        free.flat_map(|(feed, merge)| {
            let lines = merge.glance().enumerate();
            lines
                .map(|(line, (counts, absence))| LineGlance {
                    feed,
                    line,
                    copies: counts.copies,
                    wins: counts.wins,
                    repaired: counts.repaired,
                    lag_max_ns: counts.lag.max(),
                    absence,
                })
                .collect::<Vec<_>>()
        })
        .collect()
    }

    /// Returns the record of what went wrong, to be read at any time.
    #[must_use]
    pub fn flight_record(&self) -> &FlightRecord {
        &self.flight
    }

    /// Returns what became so far of messages that were not delivered, topic by topic.
    #[must_use]
    pub fn by_topic(&self) -> ByTopic {
        ByTopic::merge(&self.topics)
    }

    /// Returns the time on the clock that the ledger's times are by, in nanoseconds.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Tells whether all threads have ended, but for those of workers that are [abandoned](Self::finish).
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let mut workers = self.workers.iter().enumerate();
        self.lanes.iter().all(JoinHandle::is_finished)
            && workers.all(|(index, worker)| worker.is_finished() || self.is_abandoned(index))
    }

    /// Waits until the pipeline has stopped and every message received has been accounted for.
    ///
    /// A handler that does not return is waited for without end. Only where that is from a message, or from the end of a
    /// batch with messages, with [`Policy::Snail`](crate::policy::Policy::Snail) and
    /// [`OnLate::Exit`](crate::config::OnLate::Exit), it has as long again as it took to be found out,
    /// `late_after_ms` and `grace_ms`, and half a second at least. Then its worker is
    /// [abandoned](Outcome::abandoned): what comes for it is dropped, and the pipeline ends without it.
    pub fn finish(mut self) -> Outcome<H> {
        let mut late = None;
        if let Some(overseer) = self.overseer.take() {
            while !self.is_finished() {
                // There is no waiting for one of several ends.
                thread::sleep(LOOK_EVERY);
            }
            late = overseer.end();
        }
        let mut abandoned = Vec::new();
        let mut failures = Vec::from_iter(late);
        let mut handlers = Vec::new();
        let mut uncollected = Stages::default();
        // Workers first, and of them the one that failed first: where one did, its lanes only say that it is gone.
        for (index, worker) in mem::take(&mut self.workers).into_iter().enumerate() {
            if self.is_abandoned(index) {
                abandoned.push(index);
                if !worker.is_finished() {
                    self.collectors[index].collect(&mut uncollected);
                    continue;
                }
            }
            match join(worker) {
                Ok(end) => {
                    let collector = &mut self.collectors[index];
                    collector.collect(&mut uncollected);
                    if !collector.is_forgetting() {
                        uncollected.merge(&end.stages);
                    }
                    handlers.push(end.handler);
                    failures.extend(end.failure);
                }
                Err(error) => failures.push((u64::MAX, error)),
            }
        }
        let lanes = mem::take(&mut self.lanes).into_iter();
        let of_lanes = lanes.filter_map(|lane| join(lane).err());
        failures.extend(of_lanes.map(|error| (u64::MAX, error)));
        let first = failures.into_iter().min_by_key(|(at_ns, _)| *at_ns);
        self.stages.merge(&self.interval);
        self.stages.merge(&uncollected);
        let mut totals = self.look();
        // Not before: a lane that waits for a worker holds the lock.
        for merge in self.merges.iter().flatten() {
            let merge = merge.lock().unwrap_or_else(PoisonError::into_inner);
            totals.first_seen += merge.first_seen();
            totals.untracked += merge.untracked();
            totals.given_up_early += merge.given_up();
        }
        Outcome {
            engine: self.engine,
            totals,
            // Where all messages are rejected no number was seen.
            lost: (self.unnumbered.len() < self.feeds.len()
                && (totals.received == 0 || totals.rejected() < totals.received))
                .then(|| totals.lost()),
            unnumbered: mem::take(&mut self.unnumbered),
            elapsed_ns: totals
                .last_accounted_ns
                .saturating_sub(totals.first_received_ns),
            cpu_ns: self.cpu.used_ns(),
            stages: mem::take(&mut self.stages),
            uncollected,
            feed_clocks: self.feed_clocks.clone(),
            lines: self.lines(),
            unreached: self.unreached(),
            threads: self.roster.outcomes(),
            rejected_samples: self.rejected_samples(),
            handlers,
            abandoned,
            failure: first.map(|(_, error)| error),
            feeds: mem::take(&mut self.feeds),
            by_topic: ByTopic::merge(&self.topics),
            flight: self.flight.clone(),
        }
    }
}

impl<H> Drop for Pipeline<H> {
    /// Requests the pipeline to stop, if it has not been finished.
    fn drop(&mut self) {
        self.stop.request();
    }
}

#[cfg(test)]
mod tests;
