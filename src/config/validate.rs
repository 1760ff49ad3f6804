//! Checking a configuration whole, in itself and against this machine, before any thread starts.

mod feed;
mod here;

use std::collections::HashSet;

use crate::{
    config::{
        Config, CoreChoice, Engine, Feed, HandlerPanic, Lane, Line, PinPolicy, ShardingMode,
        SocketKind, endpoint,
        limits::{
            BATCH_MESSAGES_MAX, BATCHES_BYTES_MAX, BATCHES_MAX, BYTES_MAX, FEEDS_MAX, LANES_MAX,
            LINES_MAX, POLICY_TOPICS_MAX, within,
        },
        snapshot,
    },
    error::{Error, Result},
    handoff::{HandoffKind, held},
    host::realtime::FIFO_MAX,
    message::HEADER_BYTES,
    policy::Policy,
    shard::{Override, SHARDS, ShardTable},
    wait::Wait,
};

const SHARED_CORE: &str = "threads that share a core keep each other from running for good";
const LOOSE_PIN: &str = "a pin that does not take effect puts two threads on one core for good";

impl Config {
    /// Checks the whole configuration, in itself and against this machine.
    ///
    /// # Errors
    /// [`Error::Config`] for the first key found wrong.
    pub fn validate(&self) -> Result<()> {
        self.check()?;
        self.check_here()
    }

    /// Checks the whole configuration in itself, for whatever machine it is.
    ///
    /// # Errors
    /// [`Error::Config`] for the first key found wrong.
    pub fn check(&self) -> Result<()> {
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
            feed::check_numbers(&key, feed)?;
            if let Some(snapshot) = &feed.snapshot {
                feed::check_snapshot(&key, snapshot, feed)?;
            }
            feed.check_subscriptions(&key)?;
            for (index, line) in feed.lines.iter().enumerate() {
                self.check_line(&format!("{key}.line[{index}]"), line, &mut bound)?;
            }
            self.check_ways(&key, feed)?;
            self.check_policies(&key, feed)?;
        }
        self.check_lanes_are_used()?;
        if self.feeds.iter().any(|feed| feed.snapshot.is_some()) {
            snapshot::check_policies(self.rules().classes().len())?;
        }
        let named = self
            .lanes
            .iter()
            .find_map(|lane| lane.core.or(lane.io_core));
        if let (Some(_), Some(core)) = (self.cores, named.or(self.workers.cores.first().copied())) {
            return Err(Error::config(
                "cores",
                "auto",
                format!("core {core} is named as well"),
                "leave one of the two out",
            ));
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
        if self.sharding.rebalance && self.workers.handler_panic == HandlerPanic::Isolate {
            return Err(Error::config(
                "sharding.rebalance",
                true,
                "with `handler_panic = \"isolate\"` shards could go to a worker that has failed, for all to be \
                 dropped",
                "use `handler_panic = \"stop\"`",
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
                    "",
                    problem,
                    "add one, as the README shows",
                ));
            }
        }
        within("lane", self.lanes.len(), 1, LANES_MAX)?;
        within("feed", self.feeds.len(), 1, FEEDS_MAX)?;
        within("workers.count", self.workers.count, 1, SHARDS)?;
        let handoff = &self.handoff;
        within(
            "handoff.batch_messages",
            handoff.batch_messages,
            1,
            BATCH_MESSAGES_MAX,
        )?;
        within("handoff.batch_bytes", handoff.batch_bytes, 1, BYTES_MAX)?;
        within("handoff.batches", handoff.batches, 2, BATCHES_MAX)?;
        let merged = self.feeds.iter().filter(|feed| feed.arbitration.is_some());
        let sources = self.lanes.len() + merged.count();
        // Topics of different policies don't share batches.
        let classes = sources.saturating_mul(self.rules().classes().len());
        let to_workers = self.workers.count.saturating_mul(handoff.batches);
        let batches = to_workers.saturating_add(held::batches(handoff.batches));
        let bytes = classes
            .saturating_mul(batches)
            .saturating_mul(handoff.batch_bytes + handoff.batch_messages * HEADER_BYTES);
        if bytes > BATCHES_BYTES_MAX {
            return Err(Error::config(
                "handoff.batches",
                handoff.batches,
                format!(
                    "all batches between all lanes and workers, those of moving shards included, would hold \
                     {bytes} bytes"
                ),
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
        let policy = &self.policy;
        for (key, value) in [
            ("conflate_after_ms", policy.conflate_after_ms),
            ("late_after_ms", policy.late_after_ms),
            ("grace_ms", policy.grace_ms),
        ] {
            within(&format!("policy.{key}"), value as usize, 0, whole_int)?;
        }
        within("policy.topics_max", policy.topics_max, 0, POLICY_TOPICS_MAX)?;
        let (first, max) = (receive.reconnect_ms, receive.reconnect_max_ms);
        within(
            "receive.reconnect_max_ms",
            max as usize,
            first as usize,
            whole_int / 2,
        )
    }

    /// Checks that no publisher's messages come twice by the same way. Who pulls gets a share of them, not a
    /// copy.
    fn check_ways(&self, feed_key: &str, feed: &Feed) -> Result<()> {
        if feed.socket == SocketKind::Pull {
            return Ok(());
        }
        let mut ways = HashSet::new();
        for (index, line) in feed.lines.iter().enumerate() {
            let lane = self.lanes.iter().find(|lane| lane.name == line.lane);
            let way = lane.map(|lane| (&lane.nic, lane.source));
            for (place, endpoint) in line.connect.iter().enumerate() {
                if !ways.insert((way, endpoint)) {
                    return Err(Error::config(
                        format!("{feed_key}.line[{index}].connect[{place}]"),
                        endpoint,
                        "another line of the feed has it: copies that come by one way are lost together",
                        "give each line an endpoint of its own, or lanes that differ in `nic` or `source`",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Checks that each lane receives something: one that does not has a thread, and a core perhaps, for nothing, and
    /// most likely a line that was meant for it names another.
    fn check_lanes_are_used(&self) -> Result<()> {
        let lines = self.feeds.iter().flat_map(|feed| &feed.lines);
        let used: HashSet<&str> = lines.map(|line| &*line.lane).collect();
        let unused = (self.lanes.iter().enumerate()).find(|(_, lane)| !used.contains(&*lane.name));
        unused.map_or(Ok(()), |(index, lane)| {
            Err(Error::config(
                format!("lane[{index}].name"),
                &lane.name,
                "no line of a feed has this lane, so it would receive nothing",
                "name it in a [[feed.line]], or remove the lane",
            ))
        })
    }

    fn check_policies(&self, feed_key: &str, feed: &Feed) -> Result<()> {
        let mut prefixes = HashSet::new();
        for (index, rule) in feed.policies.iter().enumerate() {
            let (key, policy) = (format!("{feed_key}.policy[{index}]"), rule.policy);
            let problem = match policy {
                Policy::Conflate if rule.topic.as_deref().is_none_or(str::is_empty) => Some((
                    "it has to be asked for by topic, since in a feed of orders or of changes every message counts",
                    "give `topic`, a prefix, or \"*\" if the newest message of each topic is all that matters",
                )),
                Policy::Conflate if self.sharding.mode == ShardingMode::Balanced => Some((
                    "with `mode = \"balanced\"` no worker knows which message of a topic is its newest",
                    "use `mode = \"keyed\"`, or another policy",
                )),
                Policy::Conflate | Policy::DropOldest
                    if self.handoff.kind == HandoffKind::Inproc =>
                {
                    Some((
                        "over inproc a lane can't take back what it has handed over",
                        "use `kind = \"ring\"` in [handoff], or the policy drop-newest",
                    ))
                }
                _ => None,
            };
            if let Some((problem, remedy)) = problem {
                return Err(Error::config(key, policy, problem, remedy));
            }
            if rule.prefix() != b"" {
                check_prefix(
                    &format!("{key}.topic"),
                    rule.topic.as_deref().unwrap_or_default(),
                    "leave the * out, or give \"*\" alone for all topics",
                )?;
            }
            if !prefixes.insert(rule.prefix()) {
                return Err(Error::config(
                    format!("{key}.topic"),
                    rule.topic.as_deref().unwrap_or("*"),
                    "another policy is for the same topics",
                    "give each topic one policy",
                ));
            }
        }
        Ok(())
    }

    /// Returns the core of each thread that is to have one, by the key that says so.
    fn named_cores(&self) -> impl Iterator<Item = (String, usize)> {
        let lanes = self.lanes.iter().enumerate().flat_map(|(index, lane)| {
            // A lane's two threads may share a core, see `Config::cores`.
            let io_core = lane.io_core.filter(|_| lane.io_core != lane.core);
            let cores = [("io_core", io_core), ("core", lane.core)];
            cores
                .into_iter()
                .filter_map(move |(name, core)| Some((format!("lane[{index}].{name}"), core?)))
        });
        let workers = self.workers.cores.iter().enumerate();
        lanes.chain(workers.map(|(index, &core)| (format!("workers.cores[{index}]"), core)))
    }

    fn check_cores(&self) -> Result<()> {
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
        }
        let mut taken: Vec<(String, usize)> = Vec::new();
        for (key, core) in self.named_cores() {
            if let Some((other, _)) = taken.iter().find(|(_, other)| *other == core) {
                return Err(Error::config(
                    key,
                    core,
                    format!("{other} has this core already"),
                    "give each thread a core of its own, or leave some without",
                ));
            }
            taken.push((key, core));
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
        self.check_fifo()
    }

    /// Checks what threads that poll in real time need of any machine: a core each, and a pin that holds.
    fn check_fifo(&self) -> Result<()> {
        let fifo = self.threads.fifo as usize;
        within("threads.fifo", fifo, 0, FIFO_MAX as usize)?;
        if !self.polls_in_real_time() {
            return Ok(());
        }
        if self.pin == Some(PinPolicy::BestEffort) {
            return Err(self.refused_fifo(LOOSE_PIN));
        }
        let named = self.named_cores().count();
        let is_chosen = self.cores == Some(CoreChoice::Auto);
        if (1..self.threads()).contains(&named) && !is_chosen {
            return Err(self.refused_fifo(SHARED_CORE));
        }
        Ok(())
    }

    fn polls_in_real_time(&self) -> bool {
        self.threads.fifo > 0 && self.wait != Wait::Park
    }

    /// Threads that poll in real time leave a core to everything else: what stands behind them on a core never runs,
    /// which ends with a machine that does not answer.
    fn refused_fifo(&self, problem: &str) -> Error {
        Error::config(
            "threads.fifo",
            self.threads.fifo,
            format!("with wait = \"{}\" {problem}", self.wait),
            "give each thread a core of its own with pin = \"strict\", and leave one over; or use wait = \"park\"",
        )
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
            endpoint::check_bind_of(&key, endpoint, lane)?;
            if self.engine() == Engine::Native && endpoint::binds_card(endpoint) {
                return Err(Error::config(
                    key,
                    endpoint,
                    "its host is not an address, and only libzmq binds network cards by their names",
                    "give an address of this machine, or *; or engine libzmq",
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
        if self.sharding.mode == ShardingMode::Balanced && self.sharding.rebalance {
            return Err(Error::config(
                "sharding.rebalance",
                true,
                "with `mode = \"balanced\"` there are no shards to move",
                "leave it out, or use `mode = \"keyed\"`",
            ));
        }
        for (index, rule) in self.sharding.overrides.iter().enumerate() {
            check_prefix(
                &format!("sharding.override[{index}].prefix"),
                &rule.prefix,
                "leave the * out",
            )?;
        }
        let overrides = self.sharding.overrides.iter().map(|rule| Override {
            prefix: rule.prefix.as_bytes().to_vec(),
            worker: rule.worker,
        });
        ShardTable::new(self.workers.count, overrides.collect())
    }
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

/// Checks what topics are to begin with.
fn check_prefix(key: &str, prefix: &str, remedy: &str) -> Result<()> {
    if prefix.ends_with('*') {
        let problem = "it is a prefix already, so the * would be taken as it stands";
        return Err(Error::config(key, prefix, problem, remedy));
    }
    Ok(())
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

fn check_lane(key: &str, lane: &Lane) -> Result<()> {
    if let (Some(nic), Some(source)) = (&lane.nic, lane.source) {
        return Err(Error::config(
            format!("{key}.source"),
            source,
            format!("the lane is tied to {nic} by name already"),
            "give `nic` or `source`, not both",
        ));
    }
    Ok(())
}
