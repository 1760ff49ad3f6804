//! Checking a configuration whole, against this machine, before any thread starts.

use std::{collections::HashSet, net::UdpSocket};

use crate::{
    config::{Config, Engine, Feed, HandlerPanic, Lane, Line, ShardingMode, SocketKind, endpoint},
    error::{Error, Result},
    host::topology,
    libzmq::IO_THREADS_MAX,
    message::HEADER_BYTES,
    shard::{Override, ShardTable},
    wait::Wait,
};

/// The most lanes: with libzmq each has an I/O thread.
const LANES_MAX: usize = IO_THREADS_MAX;
/// The most feeds: a message carries its feed in 16 bits.
const FEEDS_MAX: usize = 1 << 16;
/// The most lines of a feed: a message carries its line in 8 bits.
const LINES_MAX: usize = 1 << 8;
/// The most messages in a batch.
const BATCH_MESSAGES_MAX: usize = 1 << 16;
/// The largest limit on messages and batches: offsets within a batch have 32 bits.
const BYTES_MAX: usize = 1 << 30;
/// The most batches between a lane and a worker.
const BATCHES_MAX: usize = 1 << 16;
/// The most bytes that all batches together may hold before one grows.
const BATCHES_BYTES_MAX: usize = 16 << 30;

impl Config {
    /// Checks the whole configuration against this machine.
    ///
    /// # Errors
    /// [`Error::Config`] for the first key found wrong.
    pub fn validate(&self) -> Result<()> {
        self.check_counts()?;
        self.check_cores()?;
        for (index, lane) in self.lanes.iter().enumerate() {
            check_lane(&format!("lane[{index}]"), lane)?;
        }
        let mut names = HashSet::new();
        for (index, lane) in self.lanes.iter().enumerate() {
            check_name(&mut names, format!("lane[{index}].name"), &lane.name)?;
        }
        names.clear();
        let mut bound = HashSet::new();
        for (index, feed) in self.feeds.iter().enumerate() {
            let key = format!("feed[{index}]");
            check_name(&mut names, format!("{key}.name"), &feed.name)?;
            if feed.lines.is_empty() {
                return Err(Error::config(
                    format!("{key}.line"),
                    "[]",
                    format!("nothing says where feed {} comes from", feed.name),
                    "add a [[feed.line]] with `lane` and `connect` or `bind`",
                ));
            }
            within(&format!("{key}.line"), feed.lines.len(), 1, LINES_MAX)?;
            check_subscriptions(&key, feed)?;
            for (index, line) in feed.lines.iter().enumerate() {
                self.check_line(&format!("{key}.line[{index}]"), line, &mut bound)?;
            }
        }
        if self.sharding.mode == ShardingMode::Balanced
            && self.workers.handler_panic == HandlerPanic::Isolate
        {
            return Err(Error::config(
                "workers.handler_panic",
                "isolate",
                "with `mode = \"balanced\"` a failed worker, always ready, would be given most messages to drop",
                "use `handler_panic = \"stop\"`, or `mode = \"keyed\"`",
            ));
        }
        self.shard_table().map(drop)
    }

    fn check_counts(&self) -> Result<()> {
        for (key, count) in [("lane", self.lanes.len()), ("feed", self.feeds.len())] {
            if count == 0 {
                let problem = format!("there is no [[{key}]]");
                return Err(Error::config(
                    key,
                    "none",
                    problem,
                    "add one, as the README shows",
                ));
            }
        }
        within("lane", self.lanes.len(), 1, LANES_MAX)?;
        within("feed", self.feeds.len(), 1, FEEDS_MAX)?;
        let handoff = &self.handoff;
        within(
            "handoff.batch_messages",
            handoff.batch_messages,
            1,
            BATCH_MESSAGES_MAX,
        )?;
        within("handoff.batch_bytes", handoff.batch_bytes, 1, BYTES_MAX)?;
        within("handoff.batches", handoff.batches, 2, BATCHES_MAX)?;
        let handoffs = self.lanes.len().saturating_mul(self.workers.count);
        let bytes = handoffs
            .saturating_mul(handoff.batches)
            .saturating_mul(handoff.batch_bytes + handoff.batch_messages * HEADER_BYTES);
        if bytes > BATCHES_BYTES_MAX {
            return Err(Error::config(
                "handoff.batches",
                handoff.batches,
                format!("all batches between all lanes and workers would hold {bytes} bytes"),
                format!("lower it, or batch_bytes, to stay within {BATCHES_BYTES_MAX} bytes"),
            ));
        }
        let receive = &self.receive;
        let message_bytes_max = receive.message_bytes_max as usize;
        within("receive.message_bytes_max", message_bytes_max, 1, BYTES_MAX)?;
        let whole_int = i32::MAX as usize;
        for (key, value, least) in [
            ("high_water_mark", receive.high_water_mark, 1),
            ("heartbeat_ms", receive.heartbeat_ms, 0),
            ("heartbeat_timeout_ms", receive.heartbeat_timeout_ms, 1),
            ("handshake_timeout_ms", receive.handshake_timeout_ms, 1),
            ("reconnect_ms", receive.reconnect_ms, 1),
            ("reconnect_max_ms", receive.reconnect_max_ms, 1),
            ("buffer_bytes", receive.buffer_bytes, 0),
            ("busy_poll_us", receive.busy_poll_us, 0),
        ] {
            within(
                &format!("receive.{key}"),
                value as usize,
                least,
                whole_int / 2,
            )?;
        }
        let (first, max) = (receive.reconnect_ms, receive.reconnect_max_ms);
        within(
            "receive.reconnect_max_ms",
            max as usize,
            first as usize,
            whole_int / 2,
        )
    }

    fn check_cores(&self) -> Result<()> {
        let usable = topology::usable_cores();
        let mut taken: Vec<(usize, String)> = Vec::new();
        let mut check = |key: String, core: usize| {
            if !usable.contains(&core) {
                let usable: Vec<String> = usable.iter().map(usize::to_string).collect();
                return Err(Error::config(
                    key,
                    core,
                    "there is no such core for this process",
                    format!("give one of {}", usable.join(", ")),
                ));
            }
            if let Some((_, other)) = taken.iter().find(|(other, _)| *other == core) {
                return Err(Error::config(
                    key,
                    core,
                    format!("{other} has this core already"),
                    "give each thread a core of its own, or leave some without",
                ));
            }
            taken.push((core, key));
            Ok(())
        };
        for (index, lane) in self.lanes.iter().enumerate() {
            if let (Some(core), Engine::Native) = (lane.io_core, self.engine()) {
                return Err(Error::config(
                    format!("lane[{index}].io_core"),
                    core,
                    "the native engine has no I/O threads",
                    "remove it, or give engine libzmq",
                ));
            }
            let shared = lane.core.filter(|_| lane.core == lane.io_core);
            if let (Some(core), true) = (shared, self.wait != Wait::Park) {
                return Err(Error::config(
                    format!("lane[{index}].core"),
                    core,
                    format!(
                        "it is the I/O thread's too, which waits while this one waits by {}",
                        self.wait
                    ),
                    "give each a core of its own, or use wait = \"park\"",
                ));
            }
            // A lane's two threads may share a core, see `Config::cores`.
            let io_core = lane.io_core.filter(|_| lane.io_core != lane.core);
            for (name, core) in [("io_core", io_core), ("core", lane.core)] {
                if let Some(core) = core {
                    check(format!("lane[{index}].{name}"), core)?;
                }
            }
        }
        for (index, &core) in self.workers.cores.iter().enumerate() {
            check(format!("workers.cores[{index}]"), core)?;
        }
        let (cores, count) = (self.workers.cores.len(), self.workers.count);
        if cores > count {
            return Err(Error::config(
                "workers.cores",
                format!("{:?}", self.workers.cores),
                format!("there are {count} workers"),
                "give at most one core a worker",
            ));
        }
        Ok(())
    }

    fn check_line(&self, key: &str, line: &Line, bound: &mut HashSet<String>) -> Result<()> {
        let Some(lane) = self.lanes.iter().find(|lane| lane.name == line.lane) else {
            let names: Vec<&str> = self.lanes.iter().map(|lane| lane.name.as_str()).collect();
            return Err(Error::config(
                format!("{key}.lane"),
                &line.lane,
                "there is no such lane",
                format!("give one of {}", names.join(", ")),
            ));
        };
        if line.connect.is_empty() && line.bind.is_empty() {
            return Err(Error::config(
                key,
                "{}",
                "there is no endpoint",
                "give `connect` or `bind` at least one, like tcp://127.0.0.1:5556",
            ));
        }
        let mut connected = HashSet::new();
        for (index, endpoint) in line.connect.iter().enumerate() {
            unique(&mut connected, format!("{key}.connect[{index}]"), endpoint)?;
            endpoint::check_connect(&format!("{key}.connect[{index}]"), endpoint, lane)?;
        }
        for (index, endpoint) in line.bind.iter().enumerate() {
            let key = format!("{key}.bind[{index}]");
            if ![":*", ":0", "/*"].iter().any(|end| endpoint.ends_with(end)) {
                unique(bound, key.clone(), endpoint)?;
            }
            endpoint::check_bind_on(&key, endpoint, lane)?;
            if self.engine() == Engine::Native && endpoint::binds_card(endpoint) {
                return Err(Error::config(
                    key,
                    endpoint,
                    "only libzmq binds a network card by name",
                    "give the card's address, or engine libzmq",
                ));
            }
        }
        Ok(())
    }

    /// Builds the table from topics to workers.
    pub(crate) fn shard_table(&self) -> Result<ShardTable> {
        if self.sharding.mode == ShardingMode::Balanced && !self.sharding.overrides.is_empty() {
            return Err(Error::config(
                "sharding.override",
                format!("{} rules", self.sharding.overrides.len()),
                "with `mode = \"balanced\"` no topic has a worker of its own",
                "remove the overrides, or use `mode = \"keyed\"`",
            ));
        }
        let overrides = self.sharding.overrides.iter().map(|rule| Override {
            prefix: rule.prefix.as_bytes().to_vec(),
            worker: rule.worker,
        });
        ShardTable::new(self.workers.count, overrides.collect())
    }
}

fn within(key: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::config(
        key,
        value,
        "it is out of range",
        format!("give from {least} to {most}"),
    ))
}

fn unique(seen: &mut HashSet<String>, key: String, value: &str) -> Result<()> {
    if seen.insert(value.to_owned()) {
        return Ok(());
    }
    Err(Error::config(
        key,
        value,
        "another has the same",
        "give each its own",
    ))
}

/// Checks a name that a thread or a message for people will carry.
fn check_name(seen: &mut HashSet<String>, key: String, name: &str) -> Result<()> {
    if name.is_empty() || name.chars().any(char::is_control) {
        let remedy = "give it a name without control characters";
        return Err(Error::config(
            key,
            name.escape_debug(),
            "it is not a name",
            remedy,
        ));
    }
    unique(seen, key, name)
}

/// Checks that publishers can be asked for what the feed is to get.
fn check_subscriptions(key: &str, feed: &Feed) -> Result<()> {
    let prefixes = ("subscribe", &feed.subscribe);
    for (name, wanted) in [prefixes, ("topics", &feed.topics)] {
        let key = format!("{key}.{name}");
        match wanted.first() {
            Some(first) if feed.socket == SocketKind::Pull => {
                return Err(Error::config(
                    key,
                    first.escape_debug(),
                    "publishers that push take no subscriptions",
                    format!("remove `{name}`, or use `socket = \"sub\"`"),
                ));
            }
            Some(first) if feed.envelope.compresses_first() => {
                return Err(Error::config(
                    key,
                    first.escape_debug(),
                    "subscriptions match on the first frame, which is compressed",
                    format!("remove `{name}`"),
                ));
            }
            _ => {}
        }
    }
    for (index, topic) in feed.topics.iter().enumerate() {
        if feed.envelope.exact(topic.as_bytes()).is_none() {
            return Err(Error::config(
                format!("{key}.topics[{index}]"),
                topic.escape_debug(),
                format!(
                    "with envelope {} no message starts with this as its topic",
                    feed.envelope
                ),
                "give a topic without the delimiter, or use `subscribe`, which takes prefixes of the first frame",
            ));
        }
    }
    Ok(())
}

fn check_lane(key: &str, lane: &Lane) -> Result<()> {
    if let (Some(nic), Some(source)) = (&lane.nic, lane.source) {
        return Err(Error::config(
            format!("{key}.source"),
            source,
            format!("the lane is tied to {nic} by name already"),
            "give `nic` or `source`, not both",
        ));
    }
    if let Some(nic) = &lane.nic {
        topology::check_nic(&format!("{key}.nic"), nic)?;
    }
    if let Some(source) = lane.source {
        UdpSocket::bind((source, 0)).map_err(|refused| {
            Error::config(
                format!("{key}.source"),
                source,
                format!("no network card has this address ({refused})"),
                "give an address that `ip address` shows",
            )
        })?;
    }
    Ok(())
}
