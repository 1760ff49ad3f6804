//! Putting the parts of a pipeline together, before any of them runs.

use std::sync::Arc;

use crate::{
    clock::Clock,
    config::{Config, Cores, ShardingMode},
    error::Result,
    handoff::inproc::{self, Outlet},
    host::pin::{self, Placement},
    lane::{LibzmqLane, Opening, Quota, Router, Routing, Source},
    latency::{self, Collector, FeedClocks},
    ledger::Ledger,
    libzmq::Context,
    message::Origin,
    pipeline::{Running, crew::Crew, outcome::CpuMarks},
    stop::Stop,
    worker::{Handler, Worker, WorkerEnd},
};

/// What the parts share, and the threads that wait to set off.
pub(super) struct Assembly<'a> {
    config: &'a Config,
    cores: Cores,
    context: Context,
    pub crew: Crew,
    pub clock: Clock,
    pub ledger: Arc<Ledger>,
    pub feed_clocks: FeedClocks,
    pub stop: Stop,
    pub cpu: CpuMarks,
}

/// Workers, what collects their histograms, and the outlets to them, by lane.
type Workers<H> = (Vec<Running<WorkerEnd<H>>>, Vec<Collector>, Vec<Vec<Outlet>>);

impl<'a> Assembly<'a> {
    pub(super) fn new(config: &'a Config, stop: Stop) -> Result<Self> {
        let cores = config.cores();
        let (lanes, workers) = (config.lanes.len(), config.workers.count);
        let lines = config.feeds.iter().flat_map(|feed| &feed.lines);
        let sources: usize = lines.map(|line| line.connect.len() + 1).sum();
        // A SUB and two for its monitor a source, a PULL a worker, a PUSH for each lane and worker.
        let sockets = 3 * sources + workers + lanes * workers;
        Ok(Self {
            config,
            context: Context::new(lanes, sockets)?,
            crew: Crew::new(cores.strict),
            cores,
            clock: Clock::start(),
            ledger: Arc::new(Ledger::new(lanes, workers)),
            feed_clocks: FeedClocks::new(config.feeds.iter().map(|feed| feed.lines.len())),
            stop,
            cpu: CpuMarks::default(),
        })
    }

    /// Makes the workers with their handoffs and starts their threads.
    pub(super) fn start_workers<H: Handler>(
        &self,
        handler: &mut impl FnMut(usize) -> H,
    ) -> Result<Workers<H>> {
        let config = self.config;
        let lanes = config.lanes.len();
        let mut outlets: Vec<Vec<Outlet>> = (0..lanes).map(|_| Vec::new()).collect();
        let (mut workers, mut collectors) = (Vec::new(), Vec::new());
        for index in 0..config.workers.count {
            let limits = config.handoff.limits();
            let (by_lane, inlet) =
                inproc::connect(&self.context, index, lanes, limits, config.wait)?;
            for (outlets, outlet) in outlets.iter_mut().zip(by_lane) {
                outlets.push(outlet);
            }
            let (recorder, collector) = latency::recorder();
            collectors.push(collector);
            let worker = Worker {
                index,
                handler: handler(index),
                inlet,
                recorder,
                feed_clocks: self.feed_clocks.clone(),
                ledger: self.ledger.clone(),
                clock: self.clock.clone(),
                stop: self.stop.clone(),
                handler_panic: config.workers.handler_panic,
            };
            let (name, core) = (format!("worker-{index}"), self.cores.workers[index]);
            let stop = self.stop.clone();
            workers.push(self.crew.enlist(&name, core, stop, move || worker.run())?);
        }
        Ok((workers, collectors, outlets))
    }

    /// Ties libzmq's I/O threads, which its first socket has started, to their cores.
    pub(super) fn pin_io_threads(&self) -> Result<Vec<Placement>> {
        let threads = self.context.io_thread_ids()?.into_iter();
        threads
            .zip(&self.config.lanes)
            .zip(&self.cores.lanes)
            .map(|((thread, lane), &(io_core, _))| {
                pin::pin_thread(
                    &format!("io-{}", lane.name),
                    thread,
                    io_core,
                    self.cores.strict,
                )
            })
            .collect()
    }

    /// Opens the sockets of all lines, by lane.
    pub(super) fn open_sources(&self) -> Result<Vec<Vec<Source>>> {
        let config = self.config;
        let mut sources: Vec<Vec<Source>> = config.lanes.iter().map(|_| Vec::new()).collect();
        for (feed_index, feed) in config.feeds.iter().enumerate() {
            for (line_index, line) in feed.lines.iter().enumerate() {
                let lanes = config.lanes.iter().enumerate();
                for (lane_index, lane) in lanes.filter(|(_, lane)| lane.name == line.lane) {
                    let opening = Opening {
                        context: &self.context,
                        lane_index,
                        lane,
                        feed,
                        receive: &config.receive,
                        origin: Origin {
                            feed: feed_index as u16,
                            line: line_index as u8,
                        },
                        key: format!("feed[{feed_index}].line[{line_index}]"),
                    };
                    sources[lane_index].extend(opening.open(line)?);
                }
            }
        }
        Ok(sources)
    }

    /// Makes the lanes and starts their threads. `sources` and `outlets` are by lane.
    pub(super) fn start_lanes(
        &self,
        sources: Vec<Vec<Source>>,
        outlets: Vec<Vec<Outlet>>,
        quota: &Quota,
    ) -> Result<Vec<Running<()>>> {
        let config = self.config;
        let parts = sources.into_iter().zip(outlets).zip(&self.cores.lanes);
        let mut lanes = Vec::new();
        for (index, ((sources, outlets), &(_, core))) in parts.enumerate() {
            let routing = match config.sharding.mode {
                ShardingMode::Keyed => Routing::Keyed(config.shard_table()?),
                ShardingMode::Balanced => Routing::Balanced { turn: 0 },
            };
            let router = Router::new(
                index,
                routing,
                outlets,
                config.receive.message_bytes_max as usize,
                self.clock.clone(),
                self.ledger.clone(),
                self.cpu.at_first_ns.clone(),
            );
            let (quota, stop) = (quota.clone(), self.stop.clone());
            let lane = LibzmqLane::new(sources, self.clock.clone(), config.wait, quota, stop);
            let name = format!("lane-{}", config.lanes[index].name);
            let stop = self.stop.clone();
            lanes.push(
                self.crew
                    .enlist(&name, core, stop, move || lane.run(router))?,
            );
        }
        Ok(lanes)
    }
}
