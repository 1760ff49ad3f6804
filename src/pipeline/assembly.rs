//! Putting the parts of a pipeline together, before any of them runs.

use std::sync::{Arc, Mutex};

use crate::{
    clock::{Clock, WallClock},
    config::{Config, Cores, Engine, Feed, HandlerPanic, ShardingMode},
    error::{Error, Result},
    flight::FlightRecord,
    handoff::{HandoffKind, Inlet, Outlet, inproc, ring},
    host::{pin, probe::Probe, realtime},
    lane::{
        self, Assigned, Dispatch, Join, Lane, LibzmqLane, LineRoute, Merge, NativeLane,
        OrderSender, Pressure, Quota, Reach, Router, Routing, Setup, Share, Tally, Watch, orders,
    },
    latency::{self, Collector, FeedClocks},
    ledger::Ledger,
    libzmq::Context,
    message::Origin,
    patterns::snapshot::Snapshots,
    pipeline::{
        Running,
        crew::Crew,
        outcome::CpuMarks,
        overseer::{Overseen, Overseer},
        roster::Enlisted,
        shards::Shards,
    },
    policy::{Policy, Rules, TopicTally},
    sequence::{Numbering, StaleRule, Tracker, TrackerOptions, arbiter},
    stop::Stop,
    worker::{self, Handler, Lately, Patience, Snail, Watchdog, Worker, WorkerEnd},
};

/// What the parts share, and the threads that wait to set off.
pub(super) struct Assembly<'a> {
    config: &'a Config,
    cores: Cores,
    /// Where libzmq has a part.
    pub context: Option<Context>,
    pub crew: Crew,
    pub clock: Clock,
    pub wall: WallClock,
    pub ledger: Arc<Ledger>,
    pub feed_clocks: FeedClocks,
    pub stop: Stop,
    pub cpu: CpuMarks,
    pub flight: FlightRecord,
    /// What became of messages by topic: of sources, then of workers.
    pub topics: Vec<TopicTally>,
    rules: Rules,
    /// The workers' threads.
    probes: Vec<Probe>,
    /// By worker.
    snails: Vec<Arc<Snail>>,
}

/// Lanes, and by feed what merges its lines.
type Lanes = (Vec<Running<()>>, Vec<Option<Merged>>, Vec<Reach>);

/// What merges the lines of a feed, shared by their lanes.
pub(super) type Merged = Arc<Mutex<Merge>>;

/// Workers, what collects their histograms, and the outlets to them: by source, class and worker. Sources
/// are the lanes, then the feeds whose lines are merged.
type Workers<H> = (Vec<Running<WorkerEnd<H>>>, Vec<Collector>, Vec<Vec<Outlet>>);

impl<'a> Assembly<'a> {
    pub(super) fn new(config: &'a Config, stop: Stop) -> Result<Self> {
        let cores = config.cores();
        let (lanes, workers) = (config.lanes.len(), config.workers.count);
        let flight = FlightRecord::new(config.feeds.iter().map(|feed| feed.name.clone()));
        let snail = |worker| {
            let feeds = config.feeds.len();
            Arc::new(Snail::new(worker, &config.policy, feeds, flight.clone()))
        };
        Ok(Self {
            snails: (0..workers).map(snail).collect(),
            config,
            context: context(config)?,
            crew: Crew::new(cores.strict, config.threads.fifo),
            cores,
            clock: Clock::start(),
            wall: WallClock::start(),
            ledger: Arc::new(Ledger::new(lanes, workers)),
            feed_clocks: FeedClocks::new(config.feeds.iter().map(|feed| feed.lines.len())),
            stop,
            cpu: CpuMarks::default(),
            flight,
            topics: (0..sources(config) + workers)
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
        let sources = sources(config);
        let (count, classes) = (config.workers.count, self.rules.classes());
        // The ways to a worker: by class, and in it by source.
        let policies: Vec<Policy> = classes
            .iter()
            .flat_map(|&policy| vec![policy; sources])
            .collect();
        let mut by_way: Vec<Vec<Outlet>> = policies.iter().map(|_| Vec::new()).collect();
        let lines: Vec<usize> = config.feeds.iter().map(|feed| feed.lines.len()).collect();
        let (mut workers, mut collectors) = (Vec::new(), Vec::new());
        for index in 0..count {
            let (outlets, inlet) = self.connect(index, &policies)?;
            for (outlets, outlet) in by_way.iter_mut().zip(outlets) {
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
                wall: self.wall.clone(),
                stop: self.stop.clone(),
                handler_panic: config.workers.handler_panic,
                patience: Patience {
                    worker: index,
                    policies: policies.clone(),
                    batches: config.handoff.batches,
                    limits: config.policy.clone(),
                    flight: self.flight.clone(),
                    topics: self.topics[sources + index].clone(),
                    lately: Lately::new(self.probes[index].clone()),
                    snail: self.snails[index].clone(),
                    work: worker::Work::new(&config.policy, &lines),
                },
            };
            let (name, core) = (format!("worker-{index}"), self.cores.workers[index]);
            let stop = self.stop.clone();
            workers.push(self.crew.enlist(&name, core, stop, move || worker.run())?);
        }
        let mut by_source: Vec<Vec<Outlet>> = (0..sources).map(|_| Vec::new()).collect();
        for (way, outlets) in by_way.into_iter().enumerate() {
            by_source[way % sources].extend(outlets);
        }
        Ok((workers, collectors, by_source))
    }

    /// Has workers looked at, where any topic's policy asks for that.
    pub(super) fn oversee(&self) -> Result<Option<Overseer>> {
        if !self.rules.classes().contains(&Policy::Snail) {
            return Ok(None);
        }
        let workers = self.snails.iter().zip(&self.probes);
        let watchdogs =
            workers.map(|(snail, probe)| Watchdog::new(snail.clone(), Lately::new(probe.clone())));
        Overseer::start(Overseen {
            watchdogs: watchdogs.collect(),
            ledger: self.ledger.clone(),
            stop: self.stop.clone(),
            clock: self.clock.clone(),
            wall: self.wall.clone(),
            feed_clocks: self.feed_clocks.clone(),
        })
        .map(Some)
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

    /// Ties libzmq's I/O threads, which its first socket starts, to their cores, and gives them their priority.
    pub(super) fn pin_io_threads(&self) -> Result<Vec<Enlisted>> {
        let (Engine::Libzmq, Some(context)) = (self.config.engine(), &self.context) else {
            return Ok(Vec::new());
        };
        let threads = context.io_thread_ids()?.into_iter();
        threads
            .zip(&self.config.lanes)
            .zip(&self.cores.lanes)
            .map(|((thread, lane), &(io_core, _))| {
                let name = format!("io-{}", lane.name);
                let placement = pin::pin_thread(&name, thread, io_core, self.cores.strict)?;
                realtime::set_fifo(&name, Some(thread), self.config.threads.fifo)?;
                Ok(Enlisted::foreign(placement, thread))
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

    /// Starts the threads of lanes. `outlets` are by source, in it by class, and in that by worker.
    pub(super) fn start_lanes(&self, lanes: Vec<Lane>, outlets: Vec<Vec<Outlet>>) -> Result<Lanes> {
        let config = self.config;
        let mut outlets = outlets.into_iter();
        let of_lanes: Vec<_> = outlets.by_ref().take(lanes.len()).collect();
        let merges = self.merges(outlets)?;
        let mut reaches: Vec<Reach> = lanes.iter().flat_map(Lane::reaches).collect();
        let parts = lanes.into_iter().zip(of_lanes).zip(&self.cores.lanes);
        let mut threads = Vec::new();
        for (index, ((lane, outlets), &(_, core))) in parts.enumerate() {
            let tally = Tally::new(index, self.ledger.clone(), self.cpu.at_first_ns.clone());
            let lines = assigned(config, &config.lanes[index].name);
            let lines = lines.iter().map(|assigned| {
                Ok(LineRoute::new(
                    assigned.origin,
                    assigned.feed.envelope.clone(),
                    watch(assigned, index, &merges, &mut reaches)?,
                ))
            });
            let router = Router::new(
                self.dispatch(index, outlets)?,
                tally,
                lines.collect::<Result<_>>()?,
                config.receive.message_bytes_max as usize,
                self.flight.clone(),
                self.clock.clone(),
            );
            let name = format!("lane-{}", config.lanes[index].name);
            let stop = self.stop.clone();
            threads.push(
                self.crew
                    .enlist(&name, core, stop, move || lane.run(router))?,
            );
        }
        Ok((threads, merges, reaches))
    }

    /// Makes the way from a source to the workers.
    fn dispatch(&self, source: usize, outlets: Vec<Outlet>) -> Result<Dispatch> {
        let routing = match self.config.sharding.mode {
            ShardingMode::Keyed => Routing::Keyed(self.config.shard_table()?),
            ShardingMode::Balanced => Routing::Balanced,
        };
        let pressure = Pressure {
            clock: self.clock.clone(),
            flight: self.flight.clone(),
            topics: self.topics[source].clone(),
            workers: self.probes.clone(),
            batches: self.config.handoff.batches,
            work: lane::Work::default(),
        };
        Ok(Dispatch::new(
            routing,
            self.rules.clone(),
            outlets,
            self.config.handoff.limits(),
            pressure,
        ))
    }

    /// Notes down which worker is to have which shard, to begin with.
    pub(super) fn shards(&self) -> Result<Shards> {
        let config = self.config;
        Ok(Shards::new(
            config.sharding.mode,
            config.shard_table()?,
            config.workers.count,
            sources(config),
            config.handoff.limits(),
            ways(config),
            config.workers.handler_panic == HandlerPanic::Isolate,
        ))
    }

    /// Makes what merges the lines of feeds, by feed.
    fn merges(
        &self,
        mut outlets: impl Iterator<Item = Vec<Outlet>>,
    ) -> Result<Vec<Option<Merged>>> {
        let mut merges = Vec::new();
        let mut source = self.config.lanes.len();
        for (index, feed) in self.config.feeds.iter().enumerate() {
            let Some(arbitration) = &feed.arbitration else {
                merges.push(None);
                continue;
            };
            let limits = arbiter::Limits {
                wait_ns: u64::from(arbitration.wait_ms) * 1_000_000,
                held_messages_max: arbitration.held_messages_max,
                held_bytes_max: arbitration.held_bytes_max,
                topics_max: feed.sequence.topics_max,
                from_start: feed.sequence.from_start,
            };
            let outlets = outlets.next().unwrap_or_default();
            let dispatch = self.dispatch(source, outlets)?;
            source += 1;
            let options = tracker_options(feed, None);
            let silent_after_ns = options.stale_after_ns;
            let merge = Merge::new(
                index as u16,
                feed.envelope.clone(),
                feed.lines.len(),
                limits,
                Tracker::new(options),
                silent_after_ns,
                dispatch,
            );
            merges.push(Some(Arc::new(Mutex::new(merge))));
        }
        Ok(merges)
    }
}

/// Makes the libzmq context, where libzmq has a part: with an I/O thread a lane where it receives.
fn context(config: &Config) -> Result<Option<Context>> {
    let (lanes, workers) = (config.lanes.len(), config.workers.count);
    let (mut io_threads, mut sockets) = (0, 0);
    if config.engine() == Engine::Libzmq {
        let lines = config.feeds.iter().flat_map(|feed| &feed.lines);
        let endpoints: usize = lines.map(|line| line.connect.len() + line.bind.len()).sum();
        // For each a SUB and two for its monitor.
        (io_threads, sockets) = (lanes, 3 * endpoints);
    }
    if config.handoff.kind == HandoffKind::Inproc {
        // A PULL a worker, a PUSH for each source, class of topics and worker.
        sockets += workers + sources(config) * config.rules().classes().len() * workers;
    }
    (sockets > 0)
        .then(|| Context::new(io_threads, sockets))
        .transpose()
}

/// Returns the number of batches that may be under way to each worker.
pub(super) fn batches_per_worker(config: &Config) -> usize {
    config.handoff.batches * ways(config)
}

/// Returns how many ways lead to each worker: one from each source for each policy in use.
fn ways(config: &Config) -> usize {
    sources(config) * config.rules().classes().len()
}

/// Returns how many sources of batches there are: each lane, and each feed whose lines are merged.
fn sources(config: &Config) -> usize {
    let merged = config
        .feeds
        .iter()
        .filter(|feed| feed.arbitration.is_some());
    config.lanes.len() + merged.count()
}

/// Decides who looks at the numbers of the messages of a lane's line. `merges` are by feed; what tells whether a server
/// of snapshots was reached is added to `reaches`.
fn watch(
    assigned: &Assigned<'_>,
    lane: usize,
    merges: &[Option<Merged>],
    reaches: &mut Vec<Reach>,
) -> Result<Watch> {
    let feed = assigned.feed;
    if let Some(merge) = &merges[usize::from(assigned.origin.feed)] {
        return Ok(Watch::Merged(Share::of(merge, lane)));
    }
    let numbering = feed.envelope.numbering().filter(|_| feed.sequence.track);
    if let Some(snapshot) = &feed.snapshot {
        let key = format!("feed[{}].snapshot.connect", assigned.origin.feed);
        let subtree = feed.subtree();
        let reach = Reach::of_snapshots(assigned, &snapshot.connect);
        reaches.push(reach.clone());
        return Ok(Watch::Joined(Box::new(Join::new(
            Tracker::new(tracker_options(feed, numbering)),
            // Whether its numbers are looked at or not.
            feed.envelope.numbering().map(|numbering| numbering.scope),
            Snapshots::start(&key, &feed.name, &snapshot.connect, subtree)?,
            reach,
            snapshot.held_bytes_max,
        ))));
    }
    let quality = &feed.quality;
    let listened_to = quality.stale_after_ms > 0 || !quality.topics.is_empty();
    if numbering.is_none() && !listened_to {
        return Ok(Watch::Nothing);
    }
    let tracker = Tracker::new(tracker_options(feed, numbering));
    Ok(Watch::Tracked(Box::new(tracker)))
}

fn tracker_options(feed: &Feed, numbering: Option<Numbering>) -> TrackerOptions {
    let ns = |ms: u32| u64::from(ms) * 1_000_000;
    let quality = &feed.quality;
    TrackerOptions {
        numbering,
        from_start: feed.sequence.from_start,
        topics_max: feed.sequence.topics_max,
        stale_after_ns: (quality.stale_after_ms > 0).then(|| ns(quality.stale_after_ms)),
        stale_rules: quality
            .topics
            .iter()
            .map(|rule| StaleRule {
                prefix: rule.prefix.clone().into_bytes(),
                after_ns: ns(rule.stale_after_ms),
            })
            .collect(),
        recover_ns: ns(quality.recover_ms),
    }
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
