//! Putting the parts of a pipeline together, before any of them runs.

use std::sync::Arc;

use crate::{
    clock::Clock,
    config::{Config, Cores, Engine, ShardingMode},
    error::{Error, Result},
    flight::FlightRecord,
    handoff::{HandoffKind, Inlet, Outlet, inproc, ring},
    host::{
        pin::{self, Placement},
        probe::Probe,
    },
    lane::{
        self, Assigned, Dispatch, Lane, LibzmqLane, NativeLane, OrderSender, Pressure, Quota,
        Router, Routing, Setup, Tally, orders,
    },
    latency::{self, Collector, FeedClocks},
    ledger::Ledger,
    libzmq::Context,
    message::Origin,
    pipeline::{Running, crew::Crew, outcome::CpuMarks},
    policy::{Policy, Rules, TopicTally},
    stop::Stop,
    worker::{self, Handler, Patience, Worker, WorkerEnd},
};

/// What the parts share, and the threads that wait to set off.
pub(super) struct Assembly<'a> {
    config: &'a Config,
    cores: Cores,
    /// Where libzmq has a part.
    context: Option<Context>,
    pub crew: Crew,
    pub clock: Clock,
    pub ledger: Arc<Ledger>,
    pub feed_clocks: FeedClocks,
    pub stop: Stop,
    pub cpu: CpuMarks,
    pub flight: FlightRecord,
    /// What became of messages by topic: of lanes, then of workers.
    pub topics: Vec<TopicTally>,
    rules: Rules,
    /// The workers' threads.
    probes: Vec<Probe>,
}

/// Workers, what collects their histograms, and the outlets to them: by lane, class and worker.
type Workers<H> = (Vec<Running<WorkerEnd<H>>>, Vec<Collector>, Vec<Vec<Outlet>>);

impl<'a> Assembly<'a> {
    pub(super) fn new(config: &'a Config, stop: Stop) -> Result<Self> {
        let cores = config.cores();
        let (lanes, workers) = (config.lanes.len(), config.workers.count);
        Ok(Self {
            config,
            context: context(config)?,
            crew: Crew::new(cores.strict),
            cores,
            clock: Clock::start(),
            ledger: Arc::new(Ledger::new(lanes, workers)),
            feed_clocks: FeedClocks::new(config.feeds.iter().map(|feed| feed.lines.len())),
            stop,
            cpu: CpuMarks::default(),
            flight: FlightRecord::new(config.feeds.iter().map(|feed| feed.name.clone())),
            topics: (0..lanes + workers)
                .map(|_| TopicTally::new(config.policy.topics_max))
                .collect(),
            rules: config.rules(),
            // Not copies of one, which would all be of the same thread.
            probes: (0..workers).map(|_| Probe::default()).collect(),
        })
    }

    /// Makes the workers with their handoffs and starts their threads.
    pub(super) fn start_workers<H: Handler>(
        &self,
        handler: &mut impl FnMut(usize) -> H,
    ) -> Result<Workers<H>> {
        let config = self.config;
        let lanes = config.lanes.len();
        let (count, classes) = (config.workers.count, self.rules.classes());
        // A worker's sources: by class, and in it by lane.
        let policies: Vec<Policy> = classes
            .iter()
            .flat_map(|&policy| vec![policy; lanes])
            .collect();
        let mut by_source: Vec<Vec<Outlet>> = policies.iter().map(|_| Vec::new()).collect();
        let (mut workers, mut collectors) = (Vec::new(), Vec::new());
        for index in 0..count {
            let (outlets, inlet) = self.connect(index, &policies)?;
            for (outlets, outlet) in by_source.iter_mut().zip(outlets) {
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
                patience: Patience {
                    worker: index,
                    policies: policies.clone(),
                    batches: config.handoff.batches,
                    limits: config.policy.clone(),
                    flight: self.flight.clone(),
                    topics: self.topics[lanes + index].clone(),
                    work: worker::Work::new(&config.policy),
                },
                probe: self.probes[index].clone(),
            };
            let (name, core) = (format!("worker-{index}"), self.cores.workers[index]);
            let stop = self.stop.clone();
            workers.push(self.crew.enlist(&name, core, stop, move || worker.run())?);
        }
        let mut by_lane: Vec<Vec<Outlet>> = (0..lanes).map(|_| Vec::new()).collect();
        for (source, outlets) in by_source.into_iter().enumerate() {
            by_lane[source % lanes].extend(outlets);
        }
        Ok((workers, collectors, by_lane))
    }

    /// Makes the handoffs to a worker, from sources of these policies.
    fn connect(&self, worker: usize, policies: &[Policy]) -> Result<(Vec<Outlet>, Inlet)> {
        let (sources, limits) = (policies.len(), self.config.handoff.limits());
        let wait = self.config.wait;
        Ok(match &self.context {
            Some(context) if self.config.handoff.kind == HandoffKind::Inproc => {
                let (outlets, inlet) = inproc::connect(context, worker, sources, limits, wait)?;
                let outlets = outlets.into_iter().map(Outlet::Inproc).collect();
                (outlets, Inlet::Inproc(inlet))
            }
            _ => {
                let take_back: Vec<bool> = policies.iter().map(|one| one.takes_back()).collect();
                let (outlets, inlet) = ring::connect(worker, &take_back, limits, wait);
                let outlets = outlets.into_iter().map(Outlet::Ring).collect();
                (outlets, Inlet::Ring(inlet))
            }
        })
    }

    /// Ties libzmq's I/O threads, which its first socket starts, to their cores.
    pub(super) fn pin_io_threads(&self) -> Result<Vec<Placement>> {
        let (Engine::Libzmq, Some(context)) = (self.config.engine(), &self.context) else {
            return Ok(Vec::new());
        };
        let threads = context.io_thread_ids()?.into_iter();
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

    /// Opens the sockets of all lanes. Returns the lanes, and by lane what takes orders for it.
    pub(super) fn open_lanes(&self, quota: &Quota) -> Result<(Vec<Lane>, Vec<OrderSender>)> {
        let config = self.config;
        let (mut lanes, mut senders) = (Vec::new(), Vec::new());
        for (index, lane) in config.lanes.iter().enumerate() {
            let (sender, orders) = orders().map_err(Error::socket("opening a queue of orders"))?;
            senders.push(sender);
            let setup = Setup {
                clock: self.clock.clone(),
                wait: config.wait,
                quota: quota.clone(),
                stop: self.stop.clone(),
                orders,
            };
            let (assigned, receive) = (assigned(config, &lane.name), &config.receive);
            lanes.push(match (config.engine(), &self.context) {
                (Engine::Libzmq, Some(context)) => Lane::Libzmq(LibzmqLane::open(
                    context,
                    (index, lane),
                    &assigned,
                    receive,
                    setup,
                )?),
                _ => Lane::Native(NativeLane::open(lane, &assigned, receive, setup)?),
            });
        }
        Ok((lanes, senders))
    }

    /// Starts the threads of lanes. `outlets` are by lane, in it by class, and in that by worker.
    pub(super) fn start_lanes(
        &self,
        lanes: Vec<Lane>,
        outlets: Vec<Vec<Outlet>>,
    ) -> Result<Vec<Running<()>>> {
        let config = self.config;
        let parts = lanes.into_iter().zip(outlets).zip(&self.cores.lanes);
        let mut threads = Vec::new();
        for (index, ((lane, outlets), &(_, core))) in parts.enumerate() {
            let routing = match config.sharding.mode {
                ShardingMode::Keyed => Routing::Keyed(config.shard_table()?),
                ShardingMode::Balanced => Routing::Balanced,
            };
            let tally = Tally::new(index, self.ledger.clone(), self.cpu.at_first_ns.clone());
            let pressure = Pressure {
                clock: self.clock.clone(),
                flight: self.flight.clone(),
                topics: self.topics[index].clone(),
                workers: self.probes.clone(),
                batches: config.handoff.batches,
                work: lane::Work::default(),
            };
            let router = Router::new(
                Dispatch::new(routing, self.rules.clone(), outlets, pressure),
                tally,
                config.receive.message_bytes_max as usize,
            );
            let name = format!("lane-{}", config.lanes[index].name);
            let stop = self.stop.clone();
            threads.push(
                self.crew
                    .enlist(&name, core, stop, move || lane.run(router))?,
            );
        }
        Ok(threads)
    }
}

/// Makes the libzmq context, where libzmq has a part: with an I/O thread a lane where it receives.
fn context(config: &Config) -> Result<Option<Context>> {
    let (lanes, workers) = (config.lanes.len(), config.workers.count);
    let (mut io_threads, mut sockets) = (0, 0);
    if config.engine() == Engine::Libzmq {
        let lines = config.feeds.iter().flat_map(|feed| &feed.lines);
        let sources: usize = lines.map(|line| line.connect.len() + 1).sum();
        // A SUB and two for its monitor.
        (io_threads, sockets) = (lanes, 3 * sources);
    }
    if config.handoff.kind == HandoffKind::Inproc {
        // A PULL a worker, a PUSH for each lane, class of topics and worker.
        sockets += workers + lanes * config.rules().classes().len() * workers;
    }
    (sockets > 0)
        .then(|| Context::new(io_threads, sockets))
        .transpose()
}

/// Finds the lines that a lane receives.
fn assigned<'a>(config: &'a Config, lane: &str) -> Vec<Assigned<'a>> {
    let mut assigned = Vec::new();
    for (feed_index, feed) in config.feeds.iter().enumerate() {
        for (line_index, line) in feed.lines.iter().enumerate() {
            if line.lane == lane {
                assigned.push(Assigned {
                    feed,
                    line,
                    origin: Origin {
                        feed: feed_index as u16,
                        line: line_index as u8,
                    },
                    key: format!("feed[{feed_index}].line[{line_index}]"),
                });
            }
        }
    }
    assigned
}
