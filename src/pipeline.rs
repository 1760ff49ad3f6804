//! The whole black box: a configuration in, running threads out.
//!
//! This is the only place that knows how the parts are wired:
//!
//! ```text
//!            I/O thread 0 ──> lane 0 ──┬── PUSH ──> PULL worker 0: handler, recorder
//!  (libzmq,                            └── PUSH ─┐┌> PULL worker 1: handler, recorder
//!   pinned)  I/O thread 1 ──> lane 1 ──┬── PUSH ─┼┘
//!                                      └── PUSH ─┘
//! ```

use std::{
    mem,
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
};

use crossbeam::channel::{self, Receiver, Sender};

use crate::{
    clock::{Clock, SECOND_NS, process_cpu_ns},
    config::{Config, ShardingMode},
    error::{Error, Result},
    handoff::inproc,
    host::pin::{self, Placement},
    lane::{LibzmqLane, Opening, Quota, Router, Routing, Source},
    latency::{self, Collector, FeedClocks, Stages},
    ledger::{Ledger, Totals},
    libzmq::Context,
    message::Origin,
    stop::Stop,
    worker::{Handler, Worker, WorkerEnd},
};

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
    lanes: Vec<JoinHandle<Option<Result<()>>>>,
    workers: Vec<JoinHandle<Option<Result<WorkerEnd<H>>>>>,
    placements: Vec<Placement>,
    endpoints: Vec<String>,
    collectors: Vec<Collector>,
    /// Gathered before the last call of `collect_stages`, and by it.
    stages: Stages,
    interval: Stages,
    feed_clocks: FeedClocks,
    ledger: Arc<Ledger>,
    clock: Clock,
    stop: Stop,
    cpu: CpuMarks,
}

/// The process's CPU time at the ends of the time that messages flowed.
#[derive(Debug, Default)]
struct CpuMarks {
    at_first_ns: Arc<OnceLock<u64>>,
    /// The delivered count at the last look, and the CPU time then.
    last: (u64, u64),
}

impl CpuMarks {
    fn look(&mut self, totals: &Totals) {
        let accounted = totals.delivered + totals.dropped + totals.rejected();
        if accounted != self.last.0 {
            self.last = (accounted, process_cpu_ns());
        }
    }

    fn used_ns(&self) -> u64 {
        let first = self.at_first_ns.get().copied().unwrap_or(self.last.1);
        self.last.1.saturating_sub(first)
    }
}

/// What a pipeline did, once it has stopped.
#[derive(Debug)]
pub struct Outcome<H> {
    /// The ledger, at rest.
    pub totals: Totals,
    /// From the first message received to the last delivered, dropped or rejected, in nanoseconds.
    pub elapsed_ns: u64,
    /// CPU time of this process, user and system, over that time, in nanoseconds.
    pub cpu_ns: u64,
    /// How long messages waited, over all workers.
    pub stages: Stages,
    /// How to read their feed times.
    pub feed_clocks: FeedClocks,
    /// Where the threads ran.
    pub placements: Vec<Placement>,
    /// The handlers, in the order of their workers.
    pub handlers: Vec<H>,
    /// What went wrong on the way, if anything did: the first error or handler's panic.
    pub failure: Option<Error>,
}

impl<H: Handler> Pipeline<H> {
    /// Checks the configuration, opens all sockets, starts and ties all threads, then lets them go.
    ///
    /// The pipeline runs until `stop` is requested or `quota` is used up; in the end, and where it
    /// can't start, `stop` stands requested. `handler` makes the handler of each worker, counted
    /// from 0.
    ///
    /// # Errors
    /// [`Error::Config`] before anything is started, [`Error::Zmq`], [`Error::Pin`] or
    /// [`Error::Thread`] after; what was started by then ends again.
    pub fn start(
        config: &Config,
        quota: Quota,
        stop: Stop,
        mut handler: impl FnMut(usize) -> H,
    ) -> Result<Self> {
        config.validate()?;
        let cores = config.cores();
        let clock = Clock::start();
        let ledger = Arc::new(Ledger::new(config.lanes.len(), config.workers.count));
        let feed_clocks = FeedClocks::new(config.feeds.iter().map(|feed| feed.lines.len()));
        let cpu = CpuMarks::default();

        let (lane_count, worker_count) = (config.lanes.len(), config.workers.count);
        let lines = config.feeds.iter().flat_map(|feed| &feed.lines);
        let sources: usize = lines.map(|line| line.connect.len() + 1).sum();
        // A SUB and two for its monitor a source, a PULL a worker, a PUSH for each lane and worker.
        let sockets = 3 * sources + worker_count + lane_count * worker_count;
        let context = Context::new(lane_count, sockets)?;
        let crew = Crew::new(cores.strict);
        let mut outlets: Vec<Vec<_>> = config.lanes.iter().map(|_| Vec::new()).collect();
        let mut collectors = Vec::new();
        let mut workers = Vec::new();
        for index in 0..config.workers.count {
            let (worker_outlets, inlet) = inproc::connect(
                &context,
                index,
                config.lanes.len(),
                config.handoff.limits(),
                config.wait,
            )?;
            for (outlets, outlet) in outlets.iter_mut().zip(worker_outlets) {
                outlets.push(outlet);
            }
            let (recorder, collector) = latency::recorder();
            collectors.push(collector);
            let worker = Worker {
                index,
                handler: handler(index),
                inlet,
                recorder,
                feed_clocks: feed_clocks.clone(),
                ledger: ledger.clone(),
                clock: clock.clone(),
                stop: stop.clone(),
                on_panic: config.workers.handler_panic,
            };
            let name = format!("worker-{index}");
            workers.push(
                crew.enlist(&name, cores.workers[index], stop.clone(), move || {
                    worker.run()
                })?,
            );
        }
        let mut placements = Vec::new();
        for (index, (thread, lane)) in context
            .io_thread_ids()?
            .into_iter()
            .zip(&config.lanes)
            .enumerate()
        {
            let name = format!("io-{}", lane.name);
            let core = cores.lanes[index].0;
            placements.push(pin::pin_thread(&name, thread, core, cores.strict)?);
        }

        // Last, so that messages don't wait for threads to start.
        let sources = open_sources(config, &context)?;
        let endpoints = sources
            .iter()
            .flatten()
            .flat_map(|source| source.bound().iter().cloned())
            .collect();
        let mut lanes = Vec::new();
        for (index, (sources, outlets)) in sources.into_iter().zip(outlets).enumerate() {
            let routing = match config.sharding.mode {
                ShardingMode::Keyed => Routing::Keyed(config.shard_table()?),
                ShardingMode::Balanced => Routing::Balanced { turn: 0 },
            };
            let router = Router::new(
                index,
                routing,
                outlets,
                config.receive.message_bytes_max as usize,
                clock.clone(),
                ledger.clone(),
                cpu.at_first_ns.clone(),
            );
            let lane = LibzmqLane::new(
                sources,
                clock.clone(),
                config.wait,
                quota.clone(),
                stop.clone(),
            );
            let name = format!("lane-{}", config.lanes[index].name);
            lanes.push(
                crew.enlist(&name, cores.lanes[index].1, stop.clone(), move || {
                    lane.run(router)
                })?,
            );
        }
        placements.extend(crew.set_off(lanes.len() + workers.len())?);
        Ok(Self {
            lanes,
            workers,
            placements,
            endpoints,
            collectors,
            stages: Stages::default(),
            interval: Stages::default(),
            feed_clocks,
            ledger,
            clock,
            stop,
            cpu,
        })
    }

    /// Returns the endpoints that publishers may connect to, with the ports that wildcards were given.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Returns where the threads run: I/O threads, then workers and lanes.
    #[must_use]
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// Returns the ledger so far. To be called some times a second for the summary's CPU time to
    /// leave out the time after the last message.
    pub fn look(&mut self) -> Totals {
        let totals = self.ledger.totals();
        self.cpu.look(&totals);
        totals
    }

    /// Asks the workers for what they have recorded. Each answers after its next batch, or within
    /// [`IDLE_AFTER`](crate::wait::IDLE_AFTER).
    pub fn request_stages(&self) {
        for collector in &self.collectors {
            collector.request();
        }
    }

    /// Gathers the workers' answers, and returns what they recorded since their last ones.
    pub fn collect_stages(&mut self) -> &Stages {
        self.stages.merge(&self.interval);
        self.interval.reset();
        for collector in &self.collectors {
            collector.collect(&mut self.interval);
        }
        &self.interval
    }

    /// Returns the time on the clock that the ledger's times are by, in nanoseconds.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Tells whether all threads have ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.lanes.iter().all(JoinHandle::is_finished)
            && self.workers.iter().all(JoinHandle::is_finished)
    }

    /// Waits until the pipeline has stopped and every message received has been accounted for.
    pub fn finish(mut self) -> Outcome<H> {
        let mut failures = Vec::new();
        let mut handlers = Vec::new();
        // Workers first: where one failed, its lanes only say that it is gone.
        for (index, worker) in mem::take(&mut self.workers).into_iter().enumerate() {
            match join(worker) {
                Ok(end) => {
                    self.collectors[index].collect(&mut self.stages);
                    self.stages.merge(&end.stages);
                    handlers.push(end.handler);
                    failures.extend(end.panic.map(|message| Error::HandlerPanicked {
                        worker: format!("worker-{index}"),
                        message,
                    }));
                }
                Err(error) => failures.push(error),
            }
        }
        let lanes = mem::take(&mut self.lanes).into_iter();
        failures.extend(lanes.filter_map(|lane| join(lane).err()));
        self.stages.merge(&self.interval);
        let totals = self.look();
        Outcome {
            totals,
            elapsed_ns: totals
                .last_accounted_ns
                .saturating_sub(totals.first_received_ns),
            cpu_ns: self.cpu.used_ns(),
            stages: mem::take(&mut self.stages),
            feed_clocks: self.feed_clocks.clone(),
            placements: mem::take(&mut self.placements),
            handlers,
            failure: failures.into_iter().next(),
        }
    }
}

impl<H> Drop for Pipeline<H> {
    /// Requests the pipeline to stop, if it has not been finished.
    fn drop(&mut self) {
        self.stop.request();
    }
}

impl<H> Outcome<H> {
    /// Returns messages received a second, over the time that they flowed.
    #[must_use]
    pub fn messages_per_s(&self) -> f64 {
        self.per_s(self.totals.received)
    }

    /// Returns bytes received a second, over the time that they flowed.
    #[must_use]
    pub fn bytes_per_s(&self) -> f64 {
        self.per_s(self.totals.received_bytes)
    }

    fn per_s(&self, amount: u64) -> f64 {
        ratio(amount as f64 * SECOND_NS as f64, self.elapsed_ns)
    }

    /// Returns the CPU time for each message received, in nanoseconds.
    #[must_use]
    pub fn cpu_ns_per_message(&self) -> f64 {
        ratio(self.cpu_ns as f64, self.totals.received)
    }
}

/// Divides, with nothing for nothing.
pub(crate) fn ratio(numerator: f64, denominator: u64) -> f64 {
    if denominator == 0 {
        0.0
    } else {
        numerator / denominator as f64
    }
}

/// Opens the sockets of all lines, by lane.
fn open_sources(config: &Config, context: &Context) -> Result<Vec<Vec<Source>>> {
    let mut sources: Vec<Vec<Source>> = config.lanes.iter().map(|_| Vec::new()).collect();
    for (feed_index, feed) in config.feeds.iter().enumerate() {
        for (line_index, line) in feed.lines.iter().enumerate() {
            let origin = Origin {
                feed: feed_index as u16,
                line: line_index as u8,
            };
            for (lane_index, lane) in config.lanes.iter().enumerate() {
                if lane.name != line.lane {
                    continue;
                }
                let opening = Opening {
                    context,
                    lane_index,
                    lane,
                    feed,
                    receive: &config.receive,
                    origin,
                    key: format!("feed[{feed_index}].line[{line_index}]"),
                };
                sources[lane_index].extend(opening.open(line)?);
            }
        }
    }
    Ok(sources)
}

/// The threads of a pipeline until all of them are tied to their cores and may set off.
struct Crew {
    strict: bool,
    reports: (Sender<Result<Placement>>, Receiver<Result<Placement>>),
    gate: (Sender<()>, Receiver<()>),
}

impl Crew {
    fn new(strict: bool) -> Self {
        Self {
            strict,
            reports: channel::unbounded(),
            gate: channel::unbounded(),
        }
    }

    /// Starts a thread that ties itself to its core, waits for the others, and runs `body`. When it
    /// ends, for whatever reason, the pipeline is to stop.
    fn enlist<T: Send + 'static>(
        &self,
        name: &str,
        core: Option<usize>,
        stop: Stop,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Option<T>>> {
        let (report, gate) = (self.reports.0.clone(), self.gate.1.clone());
        let (thread_name, strict) = (name.to_owned(), self.strict);
        let run = move || {
            let _stop_at_end = StopAtEnd(stop);
            let placement = pin::pin_current(&thread_name, core, strict);
            drop(thread_name);
            let tied = placement.is_ok();
            let _ = report.send(placement);
            (tied && gate.recv().is_ok()).then(body)
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|source| Error::Thread {
                thread: name.to_owned(),
                source,
            })
    }

    /// Waits until all threads are tied to their cores and lets them go; without that, dropping the
    /// crew sends them home.
    fn set_off(self, threads: usize) -> Result<Vec<Placement>> {
        let placements = self.reports.1.iter().take(threads).collect::<Result<_>>()?;
        for _ in 0..threads {
            // The threads hold the other end, so it can't be closed.
            let _ = self.gate.0.send(());
        }
        Ok(placements)
    }
}

struct StopAtEnd(Stop);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.request();
    }
}

fn join<T>(thread: JoinHandle<Option<Result<T>>>) -> Result<T> {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    match thread.join() {
        Ok(Some(outcome)) => outcome,
        Ok(None) | Err(_) => Err(Error::ThreadPanicked { thread: name }),
    }
}
