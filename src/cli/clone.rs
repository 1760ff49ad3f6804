//! `pinfeed clone`: a state that many programs share: serve it, watch it, read it, change it.

use std::{io::Write, path::PathBuf, time::Duration};

use clap::Subcommand;
use serde_json::json;

use crate::{
    cli::{Ending, Failure, between::work_aside, print_json, say, signals::Signals},
    clock::Deadline,
    patterns::{
        binary_star::{Role, Side},
        clone::{
            Client, ClientPlan, Collector, Event, News, PairPlan, Server, ServerPlan, Summary,
            check_update,
            client::{Fate, Wishes},
            state::{Limits, Update},
        },
        kvmsg::Form,
    },
};

/// How long a turn waits for something at most.
const TURN: Duration = Duration::from_millis(50);

/// Share a state of keys and values between programs, as the Guide's Clone pattern does.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Keep the state: answer snapshots on port P, publish on P+1, collect updates on P+2
    Serve(Serve),
    /// Print the keys of a subtree, then each change
    Watch(Watch),
    /// Print the value of a key, or the keys of a subtree with theirs
    Get(Get),
    /// Set a key, and wait until the server has published it
    Set(Set),
    /// Delete a key, and wait until the server has published that
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// Where to bind; the two ports behind it are used as well, of a pair three
    #[arg(long, value_name = "tcp://HOST:P", default_value = "tcp://*:5556")]
    endpoint: String,

    /// Bind this port on all addresses
    #[arg(long, value_name = "P", conflicts_with = "endpoint")]
    bind_port: Option<u16>,

    /// Keep the state in this file: what is published is on disk before. Without it, it is in memory only
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,

    /// Send 3 frames (key, sequence, body) as models 1 to 4 of the Guide, not 5
    #[arg(long)]
    three_frames: bool,

    /// With 3 frames, send sequences of 4 bytes, as the Guide's Python does, not 8
    #[arg(long, requires = "three_frames")]
    short_sequences: bool,

    /// The most keys; updates beyond are refused and counted
    #[arg(long, value_name = "N", default_value_t = Limits::default().keys_max)]
    keys_max: usize,

    /// The most bytes of keys, properties and values together
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().bytes_max)]
    bytes_max: usize,

    /// Be the primary of a pair
    #[arg(long, requires = "peer", conflicts_with = "backup")]
    primary: bool,

    /// Be the backup of a pair
    #[arg(long, requires = "peer")]
    backup: bool,

    /// The other server of the pair, by its --endpoint; it is asked on P, and followed on P+3
    #[arg(long, value_name = "tcp://HOST:P")]
    peer: Option<String>,

    /// A primary that comes back becomes active again once it has the backup's state
    #[arg(long, requires = "primary")]
    preempt: bool,

    /// Write what was counted to standard output at the end, as one JSON object
    #[arg(long)]
    json: bool,
}

/// How clients reach servers.
#[derive(Debug, clap::Args)]
struct Reach {
    /// A server, by its --endpoint; for a pair both, the primary first
    #[arg(
        long,
        value_name = "tcp://HOST:P",
        default_value = "tcp://127.0.0.1:5556"
    )]
    connect: Vec<String>,

    /// Send updates by PUSH (models 3 to 5) or PUB (model 6); by default PUSH to one server, PUB to two
    #[arg(long, value_name = "push|pub")]
    collector: Option<CollectorName>,

    /// Speak 3 frames, as models 2 to 4 of the Guide, not 5
    #[arg(long)]
    three_frames: bool,

    /// With 3 frames, send sequences of 4 bytes, as the Guide's Python does, not 8
    #[arg(long, requires = "three_frames")]
    short_sequences: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum CollectorName {
    Push,
    Pub,
}

#[derive(Debug, clap::Args)]
pub(super) struct Watch {
    /// The keys to watch all start with this; everything without it
    #[arg(default_value = "")]
    subtree: String,

    #[command(flatten)]
    reach: Reach,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Get {
    /// A key; or what the keys of a subtree start with
    key: String,

    #[command(flatten)]
    reach: Reach,

    /// How long to wait for the state
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(super) struct Set {
    /// The key
    key: String,

    /// The value
    value: String,

    /// Have the server delete it after this time
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,

    #[command(flatten)]
    reach: Reach,

    /// How long to wait until it is published
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(super) struct Delete {
    /// The key
    key: String,

    #[command(flatten)]
    reach: Reach,

    /// How long to wait until it is published
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

pub(super) fn run(command: &Command) -> Result<Ending, Failure> {
    match command {
        Command::Serve(args) => serve(args),
        Command::Watch(args) => watch(args),
        Command::Get(args) => get(args),
        Command::Set(args) => {
            if args.value.is_empty() {
                return Err(Failure::refused(
                    "VALUE is empty, which deletes; use `pinfeed clone delete`",
                ));
            }
            change(&args.reach, &args.key, &args.value, args.ttl, args.timeout)
        }
        Command::Delete(args) => change(&args.reach, &args.key, "", None, args.timeout),
    }
}

fn serve(args: &Serve) -> Result<Ending, Failure> {
    let signals = Signals::listen(false)?;
    let pair = args.peer.as_ref().map(|peer| PairPlan {
        side: if args.backup {
            Side::Backup
        } else {
            Side::Primary
        },
        peer: peer.clone(),
        preempts: args.preempt,
    });
    if pair.is_some() && !args.primary && !args.backup {
        return Err(Failure::refused(
            "--peer is for a pair; say which one this is, --primary or --backup",
        ));
    }
    let port = args.bind_port.map(|port| format!("tcp://*:{port}"));
    let plan = ServerPlan {
        endpoint: port.unwrap_or_else(|| args.endpoint.clone()),
        store: args.store.clone(),
        form: form(args.three_frames, args.short_sequences),
        limits: Limits {
            keys_max: args.keys_max,
            bytes_max: args.bytes_max,
        },
        pair,
    };
    let mut server = Server::start(&plan)?;
    say(format_args!("serving on {}", server.endpoint()));
    let summary = work_aside("serving", |desk| {
        server.run(signals.stop(), |news| desk.tell(told(news).to_owned()))
    })?;
    say(format_args!("{}", in_words(&summary)));
    if args.json {
        print_json(&in_json(&summary))?;
    }
    Ok(signals.caught().map_or(Ending::Ok, Ending::Signal))
}

fn told(news: News) -> &'static str {
    match news {
        News::Role(Role::Primary | Role::Backup) => "starting over: asking the peer",
        News::Role(Role::Active) => "active",
        News::Role(Role::Passive) => "passive",
        News::InStep => "in step with the active server",
    }
}

fn in_words(summary: &Summary) -> String {
    let Summary {
        counters,
        keys,
        sequence,
        ..
    } = summary;
    let refused = counters.malformed + counters.refused_full + counters.without_uuid;
    format!(
        "{keys} keys at sequence {sequence}: {} updates accepted, {} came again, {} expired, {refused} refused; {} \
         snapshots, {} requests not understood; {} slow subscribers hung up on",
        counters.accepted,
        counters.duplicate,
        counters.expired,
        counters.snapshots,
        counters.unknown_requests,
        summary.slow_subscribers,
    )
}

fn in_json(summary: &Summary) -> serde_json::Value {
    let counters = &summary.counters;
    json!({
        "role": format!("{:?}", summary.role).to_lowercase(),
        "keys": summary.keys,
        "sequence": summary.sequence,
        "accepted": counters.accepted,
        "duplicate": counters.duplicate,
        "expired": counters.expired,
        "malformed": counters.malformed,
        "refused_full": counters.refused_full,
        "without_uuid": counters.without_uuid,
        "pending": counters.pending,
        "pending_dropped": counters.pending_dropped,
        "snapshots": counters.snapshots,
        "unknown_requests": counters.unknown_requests,
        "unanswered": counters.unanswered,
        "slow_subscribers": summary.slow_subscribers,
        "malformed_peer": summary.malformed_peer,
    })
}

fn form(three_frames: bool, short_sequences: bool) -> Form {
    match (three_frames, short_sequences) {
        (false, _) => Form::Five,
        (true, false) => Form::Three,
        (true, true) => Form::ThreeShort,
    }
}

fn client(reach: &Reach, subtree: &str) -> Result<Client, Failure> {
    let plan = ClientPlan {
        servers: reach.connect.clone(),
        collector: reach.collector.map(|name| match name {
            CollectorName::Push => Collector::Push,
            CollectorName::Pub => Collector::Pub,
        }),
        form: form(reach.three_frames, reach.short_sequences),
        wishes: Wishes {
            subtree: subtree.as_bytes().to_vec(),
            ..Wishes::default()
        },
    };
    Ok(Client::start(&plan)?)
}

fn watch(args: &Watch) -> Result<Ending, Failure> {
    let signals = Signals::listen(false)?;
    let mut client = client(&args.reach, &args.subtree)?;
    while !signals.stop().requested() {
        client.turn(TURN)?;
        let mut lines = String::new();
        while let Some(event) = client.event() {
            match event {
                Event::Synchronised { server, sequence } => say(format_args!(
                    "following {} from sequence {sequence}",
                    args.reach.connect[server]
                )),
                Event::Stale => say(format_args!("out of touch: what is known may be old")),
                Event::Changed(update) => {
                    lines.push_str(&line(&update, args.json));
                    lines.push('\n');
                }
                Event::Own { .. } => {}
            }
        }
        let mut out = std::io::stdout();
        let written = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| Failure::running("writing changes", &error))?;
    }
    Ok(signals.caught().map_or(Ending::Ok, Ending::Signal))
}

fn line(update: &Update, as_json: bool) -> String {
    let key = String::from_utf8_lossy(&update.key);
    let value = String::from_utf8_lossy(&update.value.body);
    let sequence = update.value.sequence;
    if as_json {
        let value = (!update.deletes()).then_some(value);
        return json!({ "sequence": sequence, "key": key, "value": value }).to_string();
    }
    let key = key.escape_debug();
    if update.deletes() {
        format!("{sequence} delete {key}")
    } else {
        format!("{sequence} set {key} {}", value.escape_debug())
    }
}

fn get(args: &Get) -> Result<Ending, Failure> {
    let signals = Signals::listen(false)?;
    let mut client = client(&args.reach, &args.key)?;
    let end = Deadline::after(args.timeout);
    while !client.is_ready() {
        if end.passed() || signals.stop().requested() {
            return late(&signals, "no server answered");
        }
        client.turn(TURN)?;
    }
    let mut printed = Vec::new();
    if let Some(value) = client.values().get(args.key.as_bytes()) {
        printed.extend_from_slice(&value.body);
        printed.push(b'\n');
    } else {
        for (key, value) in client.values() {
            let (key, body) = (
                String::from_utf8_lossy(key),
                String::from_utf8_lossy(&value.body),
            );
            let line = format!("{} {}\n", key.escape_debug(), body.escape_debug());
            printed.extend_from_slice(line.as_bytes());
        }
    }
    if printed.is_empty() {
        say(format_args!("nothing is set at {:?} or below", args.key));
        return Ok(Ending::Failed);
    }
    let written = std::io::stdout().write_all(&printed);
    written.map_err(|error| Failure::running("writing values", &error))?;
    Ok(Ending::Ok)
}

fn change(
    reach: &Reach,
    key: &str,
    value: &str,
    ttl: Option<Duration>,
    timeout: Duration,
) -> Result<Ending, Failure> {
    let signals = Signals::listen(false)?;
    check_update(key.as_bytes(), value.as_bytes(), ttl)?;
    let mut client = client(reach, key)?;
    let end = Deadline::after(timeout);
    let mut sent = None;
    loop {
        if end.passed() || signals.stop().requested() {
            return late(
                &signals,
                match sent {
                    None => "no server answered; nothing was sent",
                    Some(_) => "the server has not published it; it may do so later",
                },
            );
        }
        client.turn(TURN)?;
        if sent.is_none() && client.is_ready() && client.can_send() {
            sent = Some(client.set(key.as_bytes(), value.as_bytes(), ttl)?);
        }
        while let Some(event) = client.event() {
            match event {
                Event::Own {
                    uuid,
                    fate: Fate::Published(sequence),
                } if sent == Some(uuid) => {
                    say(format_args!("published as {sequence}"));
                    return Ok(Ending::Ok);
                }
                Event::Own { uuid, .. } if sent == Some(uuid) => {
                    return late(
                        &signals,
                        "the server has not published it; it may do so later",
                    );
                }
                _ => {}
            }
        }
    }
}

fn late(signals: &Signals, why: &str) -> Result<Ending, Failure> {
    if let Some(signal) = signals.caught() {
        return Ok(Ending::Signal(signal));
    }
    say(format_args!("{why}"));
    Ok(Ending::Failed)
}
