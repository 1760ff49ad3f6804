//! Checking a configuration whole, against this machine, before any thread starts.

use std::{
    collections::HashSet,
    net::{IpAddr, TcpListener, UdpSocket},
    path::Path,
};

use crate::{
    config::{Config, Lane, Line, ShardingMode},
    error::{Error, Result},
    host::topology,
    libzmq::IO_THREADS_MAX,
    shard::{Override, ShardTable},
};

/// The most lanes: each has an I/O thread.
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
/// The longest path of a Unix socket, without the terminating zero.
const IPC_PATH_BYTES_MAX: usize = 107;

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
            unique(&mut names, format!("lane[{index}].name"), &lane.name)?;
        }
        names.clear();
        let mut bound = HashSet::new();
        for (index, feed) in self.feeds.iter().enumerate() {
            let key = format!("feed[{index}]");
            unique(&mut names, format!("{key}.name"), &feed.name)?;
            if feed.lines.is_empty() {
                return Err(Error::config(
                    format!("{key}.line"),
                    "[]",
                    format!("nothing says where feed {} comes from", feed.name),
                    "add a [[feed.line]] with `lane` and `connect` or `bind`",
                ));
            }
            within(&format!("{key}.line"), feed.lines.len(), 1, LINES_MAX)?;
            for (index, line) in feed.lines.iter().enumerate() {
                self.check_line(&format!("{key}.line[{index}]"), line, &mut bound)?;
            }
        }
        self.shard_table().map(drop)
    }

    fn check_counts(&self) -> Result<()> {
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
        let receive = &self.receive;
        let message_bytes_max = receive.message_bytes_max as usize;
        within("receive.message_bytes_max", message_bytes_max, 1, BYTES_MAX)?;
        let whole_int = i32::MAX as usize;
        for (key, value, least) in [
            ("high_water_mark", receive.high_water_mark, 1),
            ("heartbeat_ms", receive.heartbeat_ms, 0),
            ("heartbeat_timeout_ms", receive.heartbeat_timeout_ms, 1),
            ("reconnect_ms", receive.reconnect_ms, 1),
            ("reconnect_max_ms", receive.reconnect_max_ms, 1),
            ("buffer_bytes", receive.buffer_bytes, 0),
        ] {
            within(
                &format!("receive.{key}"),
                value as usize,
                least,
                whole_int / 2,
            )?;
        }
        Ok(())
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
        for (index, endpoint) in line.connect.iter().enumerate() {
            check_connect(&format!("{key}.connect[{index}]"), endpoint, lane)?;
        }
        for (index, endpoint) in line.bind.iter().enumerate() {
            let key = format!("{key}.bind[{index}]");
            unique(bound, key.clone(), endpoint)?;
            check_bind(&key, endpoint)?;
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
    if value.is_empty() {
        return Err(Error::config(key, "\"\"", "it is empty", "give it a name"));
    }
    if seen.insert(value.to_owned()) || value.ends_with(":*") {
        return Ok(());
    }
    Err(Error::config(
        key,
        value,
        "another has the same",
        "give each its own",
    ))
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

/// An endpoint that libzmq understands.
enum Endpoint<'a> {
    Tcp { host: &'a str, port: &'a str },
    Ipc { path: &'a str },
}

fn parse<'a>(key: &str, endpoint: &'a str) -> Result<Endpoint<'a>> {
    let malformed = |problem: &str| {
        Err(Error::config(
            key,
            endpoint,
            problem,
            "write tcp://HOST:PORT, tcp://[IPV6]:PORT or ipc://PATH",
        ))
    };
    if let Some(path) = endpoint.strip_prefix("ipc://") {
        return match path.len() {
            0 => malformed("it has no path"),
            1..=IPC_PATH_BYTES_MAX => Ok(Endpoint::Ipc { path }),
            _ => malformed("its path is longer than the 107 bytes that Unix sockets allow"),
        };
    }
    let Some(address) = endpoint.strip_prefix("tcp://") else {
        return malformed("it is not of a transport that feeds come by");
    };
    let Some((host, port)) = address.rsplit_once(':') else {
        return malformed("it has no port");
    };
    if host.is_empty() || host.contains(['/', ' ', ';']) {
        return malformed("its host is not a name or an address");
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return malformed("an IPv6 address has to stand in brackets");
    }
    if port != "*" && port.parse::<u16>().is_err() {
        return malformed("its port is not a number up to 65535");
    }
    Ok(Endpoint::Tcp { host, port })
}

fn check_connect(key: &str, endpoint: &str, lane: &Lane) -> Result<()> {
    match parse(key, endpoint)? {
        Endpoint::Tcp { host, port } if host == "*" || port == "*" || port == "0" => {
            Err(Error::config(
                key,
                endpoint,
                "one can't connect to a wildcard",
                "give the publisher's host and port, or use `bind`",
            ))
        }
        Endpoint::Ipc { .. } if lane.nic.is_some() || lane.source.is_some() => Err(Error::config(
            key,
            endpoint,
            format!("ipc does not pass the network card of lane {}", lane.name),
            "use a lane without `nic` and `source`",
        )),
        _ => Ok(()),
    }
}

fn check_bind(key: &str, endpoint: &str) -> Result<()> {
    match parse(key, endpoint)? {
        Endpoint::Tcp { host, port } => {
            let address = match host.trim_matches(['[', ']']) {
                "*" => Some(IpAddr::from([0, 0, 0, 0])),
                // Libzmq takes the name of a network card, too.
                literal => literal.parse().ok(),
            };
            let (Some(address), Ok(port)) = (address, port.parse::<u16>()) else {
                return Ok(());
            };
            TcpListener::bind((address, port)).map(drop).map_err(|refused| {
                Error::config(
                    key,
                    endpoint,
                    format!("it can't be bound ({refused})"),
                    "give an address of this machine and a port that is free, or `*` as the port for any",
                )
            })
        }
        Endpoint::Ipc { path } => {
            let folder = Path::new(path).parent().unwrap_or(Path::new("/"));
            if folder.as_os_str().is_empty() || folder.is_dir() {
                return Ok(());
            }
            Err(Error::config(
                key,
                endpoint,
                format!("there is no folder {}", folder.display()),
                "make the folder first",
            ))
        }
    }
}
