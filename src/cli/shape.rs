//! The flags that shape a pipeline, and what they make of a configuration.

use std::{net::IpAddr, path::PathBuf};

use clap::ValueEnum;

use crate::{
    cli::config_file,
    config::{
        Config, Engine, Lane, Line, PinPolicy, ShardingMode, Snapshot, SocketKind, TopicPolicy,
    },
    envelope::Envelope,
    error::{Error, Result},
    handoff::HandoffKind,
    host::cpulist::{self, BadCoreList},
    policy::{Policy, UnknownPolicy},
    wait::Wait,
};

/// Where messages come from and which threads handle them.
#[derive(Debug, clap::Args)]
pub(super) struct Shape {
    /// The configuration; without it, --connect or --bind
    #[arg(value_name = "FEEDS.toml")]
    file: Option<PathBuf>,

    /// Connect to a publisher, for instance tcp://127.0.0.1:5556 (repeatable)
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "file")]
    connect: Vec<String>,

    /// Bind for publishers that connect to us, for instance tcp://*:5556 (repeatable)
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "file")]
    bind: Vec<String>,

    /// Spread the endpoints of --connect, in their order, over this many lanes, each a receive thread of its own
    #[arg(long, value_name = "N", default_value_t = 1, requires = "connect", conflicts_with_all = ["file", "bind", "snapshot"])]
    lanes: usize,

    /// Only topics that start with this (repeatable) [default: all]
    #[arg(long, value_name = "PREFIX", conflicts_with = "file")]
    subscribe: Vec<String>,

    /// Only this topic, by its whole name (repeatable)
    #[arg(long = "topic", value_name = "NAME", conflicts_with = "file")]
    topics: Vec<String>,

    /// How messages are laid out, for instance raw or bitcoind; `pinfeed envelope --list` lists all
    /// [default: raw]
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    envelope: Option<Envelope>,

    /// Take snapshots from a server that answers ICANHAZ?, like tcp://127.0.0.1:5556 of a Clone server that
    /// publishes at 5557: on start, after messages were missing and after each reconnect
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "file")]
    snapshot: Option<String>,

    /// What publishers are connected with [default: sub]
    #[arg(long, value_enum, conflicts_with = "file")]
    socket: Option<Socket>,

    /// Receive over this network card only, by name
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    nic: Option<String>,

    /// Connect from this address
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["file", "nic"])]
    source: Option<IpAddr>,

    /// What receives: native or libzmq [default: native, or libzmq where an endpoint asks for it]
    #[arg(long, value_name = "NAME")]
    engine: Option<Engine>,

    /// What carries messages to workers: ring or inproc [default: ring]
    #[arg(long, value_name = "NAME")]
    handoff: Option<HandoffKind>,

    /// The number of messages at which a batch is handed over to a worker [default: 1024]
    #[arg(long, value_name = "N")]
    batch_messages: Option<usize>,

    /// What happens when a worker is slow: block, drop-newest, drop-oldest, conflate or snail, for all topics
    /// or as NAME:PREFIX for some; conflate only as conflate:PREFIX or conflate:* (repeatable; in place of
    /// the file's) [default: block]
    #[arg(long, value_name = "NAME[:PREFIX]", value_parser = parse_policy)]
    policy: Vec<TopicPolicy>,

    /// The number of workers [default: 2]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// How topics are split over workers [default: keyed]
    #[arg(long, value_enum)]
    sharding: Option<Sharding>,

    /// Move shards away from workers that are behind, once a second
    #[arg(long)]
    rebalance: bool,

    /// How threads wait for work: spin, park or adaptive; with `threads.fifo` the file's threads need a core each,
    /// and one left over, for spin and adaptive [default: park]
    #[arg(long, value_name = "NAME")]
    wait: Option<Wait>,

    /// Cores, for each lane, with libzmq for its I/O thread first, then for each worker: 2,3,4-7 [default:
    /// one for each thread where there are enough, else one for each lane; other processes get the same]
    #[arg(long, value_name = "LIST", value_parser = parse_cores)]
    cores: Option<CoreList>,

    /// What it is if a thread can't be pinned [default: strict where there is a core for each thread]
    #[arg(long, value_enum)]
    pin: Option<Pin>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Socket {
    /// SUB, from publishers with PUB
    Sub,
    /// PULL, from publishers with PUSH
    Pull,
}

impl Socket {
    /// Returns its name in configurations.
    pub(super) fn kind(self) -> SocketKind {
        match self {
            Self::Sub => SocketKind::Sub,
            Self::Pull => SocketKind::Pull,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sharding {
    /// All messages of a topic go to one worker, in order
    Keyed,
    /// In turn, without order
    Balanced,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Pin {
    /// An error, for each thread that a core was named for
    Strict,
    /// A warning, also where there is no such core: the thread runs on any
    BestEffort,
}

#[derive(Clone, Debug)]
pub(super) struct CoreList(pub(super) Vec<usize>);

impl Shape {
    /// Makes the configuration that the flags ask for.
    pub(super) fn config(&self) -> Result<Config> {
        let mut config = match &self.file {
            Some(path) => Config::load(path)?,
            None if self.connect.is_empty() && self.bind.is_empty() => {
                return Err(Error::config(
                    "FEEDS.toml",
                    "",
                    "nothing says where messages come from",
                    "give a configuration file, --connect ENDPOINT or --bind ENDPOINT",
                ));
            }
            None => self.single_feed()?,
        };
        if self.engine.is_some() {
            config.engine = self.engine;
        }
        if let Some(handoff) = self.handoff {
            config.handoff.kind = handoff;
        }
        if let Some(batch_messages) = self.batch_messages {
            config.handoff.batch_messages = batch_messages;
        }
        if !self.policy.is_empty() {
            for feed in &mut config.feeds {
                feed.policies.clone_from(&self.policy);
            }
        }
        if let Some(workers) = self.workers {
            config.workers.count = workers;
        }
        if let Some(sharding) = self.sharding {
            config.sharding.mode = match sharding {
                Sharding::Keyed => ShardingMode::Keyed,
                Sharding::Balanced => ShardingMode::Balanced,
            };
        }
        if self.rebalance {
            config.sharding.rebalance = true;
        }
        if let Some(wait) = self.wait {
            config.wait = wait;
        }
        if let Some(CoreList(cores)) = &self.cores {
            config.hand_out(cores);
        }
        if let Some(pin) = self.pin {
            config.pin = Some(match pin {
                Pin::Strict => PinPolicy::Strict,
                Pin::BestEffort => PinPolicy::BestEffort,
            });
        }
        Ok(config)
    }

    /// Names the flag in an error that names the key it stands for.
    pub(super) fn name_flags(&self, error: Error) -> Error {
        error.with_key(|key| match (self.flag_of(&key), &self.file) {
            (Some(flag), _) => flag.to_owned(),
            (None, Some(path)) => config_file::in_file(path, &key),
            (None, None) => key,
        })
    }

    /// Returns the flag that was given and stands for a key.
    fn flag_of(&self, key: &str) -> Option<&'static str> {
        let flags = [
            ("feed[0].line[0].bind", "--bind", !self.bind.is_empty()),
            (
                "feed[0].subscribe",
                "--subscribe",
                !self.subscribe.is_empty(),
            ),
            ("feed[0].topics", "--topic", !self.topics.is_empty()),
            ("feed[0].snapshot", "--snapshot", self.snapshot.is_some()),
            ("lane[0].nic", "--nic", self.nic.is_some()),
            ("lane[0].source", "--source", self.source.is_some()),
            ("workers.cores", "--cores", self.cores.is_some()),
            ("workers.count", "--workers", self.workers.is_some()),
            (
                "handoff.batch_messages",
                "--batch-messages",
                self.batch_messages.is_some(),
            ),
        ];
        let is_policy = key.starts_with("feed[") && key.contains("].policy[");
        // The lines that --lanes makes are of --connect, too.
        let is_line = key.starts_with("feed[0].line[") && key.contains("].connect");
        let is_core = key.starts_with("lane[") && key.ends_with("core");
        flags
            .iter()
            .find(|(start, _, given)| *given && key.starts_with(start))
            .map(|(_, flag, _)| *flag)
            .or((is_line && !self.connect.is_empty()).then_some("--connect"))
            .or((is_core && self.cores.is_some()).then_some("--cores"))
            .or((is_policy && !self.policy.is_empty()).then_some("--policy"))
    }

    fn single_feed(&self) -> Result<Config> {
        let mut config = Config::one_lane(self.envelope.clone().unwrap_or(Envelope::Raw));
        let lane = &mut config.lanes[0];
        (lane.nic, lane.source) = (self.nic.clone(), self.source);
        let feed = &mut config.feeds[0];
        (feed.subscribe, feed.topics) = (self.subscribe.clone(), self.topics.clone());
        feed.socket = self.socket.map(Socket::kind).unwrap_or_default();
        (feed.lines[0].connect, feed.lines[0].bind) = (self.connect.clone(), self.bind.clone());
        feed.snapshot = self.snapshot.as_deref().map(Snapshot::from);
        if self.lanes != 1 {
            self.spread(&mut config)?;
        }
        Ok(config)
    }

    /// Spreads the endpoints to connect to over lanes like the first, neighbours together.
    fn spread(&self, config: &mut Config) -> Result<()> {
        let (lanes, endpoints) = (self.lanes, self.connect.len());
        if lanes == 0 {
            return Err(Error::config(
                "--lanes",
                0,
                "nothing would receive",
                "give 1 or more",
            ));
        }
        if lanes > endpoints {
            return Err(Error::config(
                "--lanes",
                lanes,
                format!("{endpoints} endpoint(s) can't be spread over so many lanes"),
                "give no more than that, or more --connect",
            ));
        }
        let first = config.lanes[0].clone();
        let lane = |index: usize| Lane {
            name: index.to_string(),
            ..first.clone()
        };
        config.lanes = (0..lanes).map(lane).collect();
        config.feeds[0].lines = config
            .lanes
            .iter()
            .map(|lane| Line::on(&lane.name))
            .collect();
        for (place, endpoint) in self.connect.iter().enumerate() {
            let line = &mut config.feeds[0].lines[place * lanes / endpoints];
            line.connect.push(endpoint.clone());
        }
        Ok(())
    }
}

fn parse_policy(text: &str) -> std::result::Result<TopicPolicy, BadPolicy> {
    let (name, topic) = match text.split_once(':') {
        Some((name, topic)) => (name, Some(topic.to_owned())),
        None => (text, None),
    };
    let policy = name.parse().map_err(BadPolicy::Unknown)?;
    if policy == Policy::Conflate && topic.as_deref().is_none_or(str::is_empty) {
        return Err(BadPolicy::ConflateWhat);
    }
    Ok(TopicPolicy { topic, policy })
}

#[derive(Debug, thiserror::Error)]
enum BadPolicy {
    #[error("{0}")]
    Unknown(UnknownPolicy),
    #[error(
        "in a feed of orders or of changes every message counts, so say which topics may be conflated: \
         conflate:PREFIX or conflate:*"
    )]
    ConflateWhat,
}

pub(super) fn parse_cores(list: &str) -> std::result::Result<CoreList, BadCoreList> {
    cpulist::parse(list).map(CoreList)
}
