//! `pinfeed clone`: a state that many programs share: serve it, watch it, read it, change it.

mod serve;

use std::{io::Write, time::Duration};

use clap::Subcommand;
use serde_json::json;

use crate::{
    cli::{Ending, Failure, say, signals::Signals},
    clock::Deadline,
    patterns::{
        clone::{
            Client, ClientPlan, Collector, Event, check_update,
            client::{Fate, Wishes},
            state::Update,
        },
        kvmsg::Form,
    },
};

/// How long a turn waits for something at most.
const TURN: Duration = Duration::from_millis(50);
/// How long a client that watches may be without a server before that is said.
const PATIENCE: Duration = Duration::from_secs(1);

/// Share a state of keys and values between programs, as the Guide's Clone pattern does.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Keep the state: answer snapshots on port P, publish on P+1, collect updates on P+2
    Serve(serve::Serve),
    /// Print the keys of a subtree, then each change
    Watch(Watch),
    /// Print the value of a key, or with --subtree all keys below with theirs
    Get(Get),
    /// Set a key, and wait until the server has published it
    Set(Set),
    /// Delete a key, and wait until the server has published that
    Delete(Delete),
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
    /// The key
    key: String,

    /// Print all keys that start with KEY, one a line, each with its value
    #[arg(long)]
    subtree: bool,

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

    /// Have the server delete it after this time; 3 frames have no room for that
    #[arg(long, conflicts_with = "three_frames", value_name = "TIME", value_parser = humantime::parse_duration)]
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
        Command::Serve(args) => serve::serve(args),
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
    let signals = Signals::listen()?;
    let mut client = client(&args.reach, &args.subtree)?;
    let mut is_told = false;
    let mut patience = Deadline::after(PATIENCE);
    while !signals.stop().requested() {
        client.turn(TURN)?;
        if client.is_ready() {
            is_told = false;
            patience = Deadline::after(PATIENCE);
        } else if !is_told && patience.passed() {
            is_told = true;
            say(format_args!(
                "waiting for a server: {}",
                client.obstacles().join("; ")
            ));
        }
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
    let signals = Signals::listen()?;
    let mut client = client(&args.reach, &args.key)?;
    let end = Deadline::after(args.timeout);
    while !client.is_ready() {
        if end.passed() || signals.stop().requested() {
            return late(&signals, &unanswered(&mut client, args.timeout));
        }
        client.turn(TURN)?;
    }
    let mut printed = Vec::new();
    if args.subtree {
        for (key, value) in client.values() {
            let (key, body) = (
                String::from_utf8_lossy(key),
                String::from_utf8_lossy(&value.body),
            );
            let line = format!("{} {}\n", key.escape_debug(), body.escape_debug());
            printed.extend_from_slice(line.as_bytes());
        }
    } else if let Some(value) = client.values().get(args.key.as_bytes()) {
        printed.extend_from_slice(&value.body);
        printed.push(b'\n');
    }
    if printed.is_empty() {
        match client.values().len() {
            0 => say(format_args!("nothing is set at {:?} or below", args.key)),
            below => say(format_args!(
                "{:?} is not set; {below} keys below it are, which --subtree prints",
                args.key
            )),
        }
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
    let signals = Signals::listen()?;
    check_update(key.as_bytes(), value.as_bytes(), ttl)?;
    let mut client = client(reach, key)?;
    let end = Deadline::after(timeout);
    let mut sent = None;
    loop {
        if end.passed() || signals.stop().requested() {
            let why = match sent {
                None => format!("nothing was sent: {}", unanswered(&mut client, timeout)),
                Some(_) => unpublished(&mut client, reach),
            };
            return late(&signals, &why);
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
                    return late(&signals, &unpublished(&mut client, reach));
                }
                _ => {}
            }
        }
    }
}

/// Says why no server answered.
fn unanswered(client: &mut Client, timeout: Duration) -> String {
    let timeout = humantime::format_duration(timeout);
    let obstacles = client.obstacles().join("; ");
    format!("no server answered within {timeout}: {obstacles}")
}

/// Says who has not published an update.
fn unpublished(client: &mut Client, reach: &Reach) -> String {
    let mut why = client.obstacles();
    if why.is_empty() {
        why.push(format!("{}: connected", reach.connect.join(", ")));
    }
    format!(
        "it was sent, and not heard to be published; it may be later: {}",
        why.join("; ")
    )
}

fn late(signals: &Signals, why: &str) -> Result<Ending, Failure> {
    if let Some(signal) = signals.caught() {
        return Ok(Ending::Signal(signal));
    }
    say(format_args!("{why}"));
    Ok(Ending::Failed)
}
