//! The structure of `feeds.toml`, with its defaults.

use std::{fs, path::Path, str::FromStr};

use serde::Deserialize;

use crate::{
    config::{
        endpoint::binds_card,
        feed::{Feed, Line, SocketKind},
        lane::Lane,
        mistake::{explain, locate},
        name::{from_name, from_optional_name},
        numbers::{QualityLimits, Sequence},
        policies::PolicyLimits,
    },
    envelope::Envelope,
    error::{Error, Result},
    handoff::{BatchLimits, HandoffKind, HandoffLimits},
    policy::Rules,
    wait::Wait,
};

/// A whole configuration. In `feeds.toml` the tables are `[[lane]]`, `[[feed]]` with
/// `[[feed.line]]` and `[[feed.policy]]`, `[threads]`, `[workers]`, `[sharding]`, `[handoff]`, `[policy]` and
/// `[receive]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What a pin that does not take effect leads to. Without it: [`PinPolicy::Strict`] where this
    /// machine has a core for each thread, [`PinPolicy::BestEffort`] where it has not.
    pub pin: Option<PinPolicy>,
    /// Who chooses the cores of threads that none is named for. Without it they are handed out in order:
    /// [`Config::cores`].
    pub cores: Option<CoreChoice>,
    /// What receives. Without it: what [`Config::engine`] chooses.
    #[serde(default, deserialize_with = "from_optional_name")]
    pub engine: Option<Engine>,
    /// How all threads wait for work.
    #[serde(default, deserialize_with = "from_name")]
    pub wait: Wait,
    /// What all busy threads are given.
    #[serde(default)]
    pub threads: Threads,
    /// The receive threads.
    #[serde(rename = "lane", default)]
    pub lanes: Vec<Lane>,
    /// The feeds.
    #[serde(rename = "feed", default)]
    pub feeds: Vec<Feed>,
    /// The pool of workers.
    #[serde(default)]
    pub workers: Workers,
    /// How topics are split over the workers.
    #[serde(default)]
    pub sharding: Sharding,
    /// The channels from lanes to workers.
    #[serde(default)]
    pub handoff: Handoff,
    /// When policies act, and what they keep account of.
    #[serde(default)]
    pub policy: PolicyLimits,
    /// The receiving sockets.
    #[serde(default)]
    pub receive: Receive,
}

/// Who chooses cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CoreChoice {
    /// The planner, by the machine's shape and its network cards: [`place`](crate::host::plan::place).
    Auto,
}

/// What receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// pinfeed's own ZMTP, over TCP and Unix sockets.
    Native,
    /// libzmq.
    Libzmq,
}

impl Engine {
    /// Returns the engine's name in configurations and summaries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Libzmq => "libzmq",
        }
    }
}

/// The text was not the name of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an engine; give native or libzmq")]
pub struct UnknownEngine;

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownEngine> {
        [Self::Native, Self::Libzmq]
            .into_iter()
            .find(|engine| engine.name() == name)
            .ok_or(UnknownEngine)
    }
}

/// What a pin that does not take effect leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinPolicy {
    /// An error.
    Strict,
    /// A warning, also where there is no such core for this process; the thread runs where the kernel puts it.
    BestEffort,
}

/// What all busy threads are given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Threads {
    /// The priority of `SCHED_FIFO`, 1 to 99, for lanes, with libzmq for their I/O threads too, and workers;
    /// 0: they are scheduled as any other. Where they wait by polling, each has to have a core of its own.
    pub fifo: u32,
    /// Whether all memory of this process is locked, what it comes to have included: `mlockall`.
    pub lock_memory: bool,
    /// Whether what memory this process has when it starts is to be in huge pages: `madvise`.
    pub huge_pages: bool,
}

/// The pool of workers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workers {
    /// How many there are.
    pub count: usize,
    /// The core of each, in order. Those without run where [`Config::cores`] says.
    pub cores: Vec<usize>,
    /// What a panic in a handler leads to.
    pub handler_panic: HandlerPanic,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            count: 2,
            cores: Vec::new(),
            handler_panic: HandlerPanic::Stop,
        }
    }
}

/// What a panic in a handler leads to. In both cases its worker discards and counts as dropped what
/// still comes to it, so that no lane waits for it and the ledger balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandlerPanic {
    /// The pipeline stops, as on request, and reports the panic as its failure.
    Stop,
    /// The other workers go on; the panic is reported when the pipeline stops.
    Isolate,
}

/// How topics are split over the workers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sharding {
    /// The rule.
    #[serde(default)]
    pub mode: ShardingMode,
    /// Topics that go to a given worker. Only with [`ShardingMode::Keyed`].
    #[serde(rename = "override", default)]
    pub overrides: Vec<TopicOverride>,
    /// Whether `pinfeed run` moves shards away from workers that are behind, once a second:
    /// [`Pipeline::rebalance`](crate::pipeline::Pipeline::rebalance). Only with [`ShardingMode::Keyed`].
    #[serde(default)]
    pub rebalance: bool,
}

/// The rule by which a message finds its worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShardingMode {
    /// By the hash of its topic: all messages of a topic go to one worker, in order.
    #[default]
    Keyed,
    /// In turn, passing over workers whose handoff is full. No order is promised.
    Balanced,
}

/// Topics that go to a given worker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicOverride {
    /// What the topics start with.
    pub prefix: String,
    /// The worker, counted from 0.
    pub worker: usize,
}

/// The channels from lanes to workers, each with its own batches.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Handoff {
    /// What carries batches.
    #[serde(deserialize_with = "from_name")]
    pub kind: HandoffKind,
    /// The number of messages at which a batch is handed over. What a batch costs is waking the worker,
    /// some 10 µs on a virtual machine, so under full load larger batches pay: with 256 messages
    /// pinfeed took in 4.2 million messages a second, with 1,024 it was 4.7, with 4,096 5.2. Under
    /// less load batches are as small as the bursts, whatever the limit.
    pub batch_messages: usize,
    /// The number of bytes at which a batch is handed over.
    pub batch_bytes: usize,
    /// The number of batches between one lane and one worker. 128 hold 100,000 short messages, what comes for a worker in
    /// two seconds at 50,000 a second. Those that are not needed take no memory, unless all of it is locked.
    pub batches: usize,
}

impl Default for Handoff {
    fn default() -> Self {
        Self {
            kind: HandoffKind::default(),
            batch_messages: 1_024,
            batch_bytes: 128 * 1024,
            batches: 128,
        }
    }
}

impl Handoff {
    pub(crate) fn limits(&self) -> HandoffLimits {
        HandoffLimits {
            batch: BatchLimits {
                messages: self.batch_messages,
                bytes: self.batch_bytes,
            },
            batches: self.batches,
        }
    }
}

/// The receiving sockets. Where libzmq has the same options, its own defaults lose messages or trust
/// the peer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receive {
    /// With libzmq: messages queued for each connection before reading stops (`ZMQ_RCVHWM`; libzmq's
    /// 1,000 stop and restart the connection all the time at a million messages a second). The native
    /// engine has no such queue.
    pub high_water_mark: u32,
    /// The largest message in bytes; a peer that sends a larger frame is disconnected
    /// (`ZMQ_MAXMSGSIZE`; libzmq's own limit is none).
    pub message_bytes_max: u32,
    /// The time between heartbeats in milliseconds, 0 for none.
    pub heartbeat_ms: u32,
    /// How long what was sent, heartbeats included, may stay unacknowledged before the peer's host is
    /// taken for dead, in milliseconds (`TCP_USER_TIMEOUT`). The native engine takes a peer for dead,
    /// too, that has not answered a heartbeat for so long, or that has stopped within a message for as long as both
    /// times together, whether it knows heartbeats or not; libzmq's own timeout is off, because it would
    /// hang up on a publisher that is well while a slow worker makes the lane wait.
    pub heartbeat_timeout_ms: u32,
    /// How long a connection may take to be made, handshake included, in milliseconds.
    pub handshake_timeout_ms: u32,
    /// The first wait before connecting again, in milliseconds. Each wait doubles the one before.
    /// Every socket draws its own start from half to one and a half times this, so that the
    /// subscribers of a publisher that restarts don't come back all at once.
    pub reconnect_ms: u32,
    /// The longest wait before connecting again, in milliseconds.
    pub reconnect_max_ms: u32,
    /// The kernel's receive buffer in bytes (`SO_RCVBUF`), 0 for the system's default.
    pub buffer_bytes: u32,
    /// With the native engine: how long a receive call may poll the network card for, in microseconds
    /// (`SO_BUSY_POLL`), 0 for the system's default.
    pub busy_poll_us: u32,
    /// With the native engine, as libzmq always does: whether subscriptions and heartbeats are sent at once, rather than
    /// when what was sent before is acknowledged (`TCP_NODELAY`).
    pub no_delay: bool,
}

impl Default for Receive {
    fn default() -> Self {
        Self {
            high_water_mark: 100_000,
            message_bytes_max: 1024 * 1024,
            heartbeat_ms: 1_000,
            heartbeat_timeout_ms: 3_000,
            handshake_timeout_ms: 10_000,
            reconnect_ms: 100,
            reconnect_max_ms: 2_000,
            buffer_bytes: 0,
            busy_poll_us: 0,
            no_delay: true,
        }
    }
}

impl Config {
    /// One feed, named `feed`, on one lane, named `0`, that connects to one publisher.
    #[must_use]
    pub fn connect(endpoint: &str, envelope: Envelope) -> Self {
        let mut config = Self::one_lane(envelope);
        config.feeds[0].lines[0].connect.push(endpoint.to_owned());
        config
    }

    /// As [`connect`](Self::connect), but bound for publishers that connect.
    #[must_use]
    pub fn bind(endpoint: &str, envelope: Envelope) -> Self {
        let mut config = Self::one_lane(envelope);
        config.feeds[0].lines[0].bind.push(endpoint.to_owned());
        config
    }

    /// Returns the names of the feeds whose messages have no numbers that are looked at.
    #[must_use]
    pub fn unnumbered(&self) -> Vec<String> {
        let feeds = self.feeds.iter().filter(|feed| !feed.is_numbered());
        feeds.map(|feed| feed.name.clone()).collect()
    }

    /// One feed on one lane, without an endpoint yet.
    pub(crate) fn one_lane(envelope: Envelope) -> Self {
        let lane = Lane::named("0");
        Self {
            feeds: vec![Feed {
                name: "feed".to_owned(),
                envelope,
                socket: SocketKind::default(),
                subscribe: Vec::new(),
                sequence: Sequence::default(),
                quality: QualityLimits::default(),
                arbitration: None,
                snapshot: None,
                topics: Vec::new(),
                lines: vec![Line::on(&lane.name)],
                policies: Vec::new(),
            }],
            lanes: vec![lane],
            ..Self::default()
        }
    }

    /// Returns what receives: what is asked for, or the native engine where it can do all that the
    /// endpoints ask for, and libzmq otherwise.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine.unwrap_or_else(|| {
            let mut lines = self.feeds.iter().flat_map(|feed| &feed.lines);
            if lines.any(|line| line.bind.iter().any(|endpoint| binds_card(endpoint))) {
                Engine::Libzmq
            } else {
                Engine::Native
            }
        })
    }

    /// Returns which policy a topic has.
    pub(crate) fn rules(&self) -> Rules {
        Rules::new(self.feeds.iter().map(|feed| {
            let rules = feed.policies.iter();
            rules
                .map(|rule| (rule.prefix().to_vec(), rule.policy))
                .collect()
        }))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read, [`Error::ConfigFile`] where it is not a
    /// configuration. Whether it can be carried out is up to [`Config::check`], and whether here up to
    /// [`Config::validate`].
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::file(path))?;
        toml::from_str(&text).map_err(|error| explain(path, &text, &error))
    }

    /// Finds what an [`Error::Config`] names in the file that the configuration was [read](Self::load) from: the line
    /// of the key, or of what it would stand below, and the character within it, counted from 1. `None` where there is
    /// nothing of it in the file as it is by now, or where it is no regular file.
    #[must_use]
    pub fn locate(path: &Path, key: &str) -> Option<(usize, usize)> {
        let text = path.is_file().then(|| fs::read_to_string(path).ok())?;
        locate(&text?, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of the one that has all there is.
    const WHOLE: usize = 1;

    fn shown_in_the_readme() -> Vec<&'static str> {
        let blocks = include_str!("../../README.md").split("```toml\n").skip(1);
        blocks
            .filter_map(|block| block.split("```").next())
            .filter(|block| block.contains("[[lane]]"))
            .collect()
    }

    #[test]
    fn whole_configurations_of_the_readme_can_be_carried_out() {
        let shown = shown_in_the_readme().into_iter().enumerate();
        // That one is for a larger machine.
        for (_, text) in shown.filter(|(place, _)| *place != WHOLE) {
            let config: Config = toml::from_str(text).expect("it is one");
            assert!(config.validate().is_ok(), "{text}");
        }
        assert_eq!(shown_in_the_readme().len(), 4);
    }

    /// The README shows a whole configuration, with the default of each key that has one.
    #[test]
    fn the_readme_shows_the_defaults() {
        let shown: Config = toml::from_str(shown_in_the_readme()[WHOLE]).expect("it is one");
        let default = Config::default();
        assert_eq!(shown.wait, default.wait);
        assert_eq!(shown.threads, default.threads);
        assert_eq!(shown.workers.count, default.workers.count);
        assert_eq!(shown.workers.handler_panic, default.workers.handler_panic);
        assert_eq!(shown.sharding.mode, default.sharding.mode);
        assert_eq!(shown.handoff, default.handoff);
        assert_eq!(shown.policy, default.policy);
        assert_eq!(shown.receive, default.receive);
        assert_eq!((shown.lanes.len(), shown.feeds.len()), (2, 1));
        assert_eq!((shown.engine(), shown.threads()), (Engine::Native, 4));
    }
}
