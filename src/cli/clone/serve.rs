//! `pinfeed clone serve`: keep the state.

use std::path::PathBuf;

use serde_json::json;

use crate::{
    cli::{Ending, Failure, between::work_aside, clone::form, print_json, say, signals::Signals},
    error::Error,
    patterns::{
        binary_star::{Role, Side},
        clone::{Bound, News, PairPlan, Server, ServerPlan, Summary, state::Limits},
        ends::refuse_own,
    },
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Serve {
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
    // The conflict is told by itself: where it holds, the requirement is waived.
    #[arg(long, requires = "primary", conflicts_with = "backup")]
    preempt: bool,

    /// Write what was counted to standard output at the end, as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn serve(args: &Serve) -> Result<Ending, Failure> {
    let signals = Signals::listen()?;
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
    if let Some(peer) = &args.peer {
        refuse_own("--peer", peer, [&plan.endpoint])?;
    }
    let server = Server::start(&plan).map_err(|error| by_flag(args, error))?;
    let summary = work_aside("serving", |desk| {
        // It ends here: who is waited for to take what is said keeps no port.
        let mut server = server;
        let Bound {
            snapshots,
            updates_out,
            updates_in,
            peer,
        } = server.bound().clone();
        desk.tell(format!("serving on {snapshots}"));
        desk.tell(format!("updates out on {updates_out}"));
        desk.tell(format!("updates in on {updates_in}"));
        if let Some(peer) = peer {
            desk.tell(format!("telling the other server on {peer}"));
        }
        server.run(signals.stop(), |news| desk.tell(in_words(&news)))
    })?;
    say(format_args!("{}", summary_in_words(&summary)));
    if args.json {
        print_json(&in_json(&summary))?;
    }
    Ok(signals.caught().map_or(Ending::Ok, Ending::Signal))
}

/// Names the flag that was given, where it was the other one for the same.
fn by_flag(args: &Serve, error: Error) -> Error {
    match (args.bind_port, error) {
        (
            Some(port),
            Error::Config {
                key,
                problem,
                remedy,
                ..
            },
        ) if key == "--endpoint" => Error::Config {
            key: "--bind-port".to_owned(),
            value: port.to_string(),
            problem,
            remedy,
        },
        (_, other) => other,
    }
}

fn in_words(news: &News) -> String {
    let words = match news {
        News::Role(Role::Primary | Role::Backup) => "starting over: asking the peer",
        News::Role(Role::Active) => "active",
        News::Role(Role::Passive) => "passive",
        News::Step {
            role: Role::Active,
            in_step: true,
        } => "the other server is in step: both have what is published",
        News::Step {
            role: Role::Active,
            in_step: false,
        } => "the other server is no longer in step: only this one has what is published",
        News::Step { in_step: true, .. } => "in step with the active server",
        News::Step { in_step: false, .. } => {
            "no longer in step with the active server: asking for its state"
        }
        News::Heard => "the other server is heard of",
        News::Unheard { for_s, obstacle } => {
            return format!(
                "nothing is heard of the other server for {for_s} s: {obstacle}; see that it runs as the other one of the \
                 pair, and that --peer is its --endpoint"
            );
        }
    };
    words.to_owned()
}

fn summary_in_words(summary: &Summary) -> String {
    let Summary {
        counters,
        keys,
        sequence,
        ..
    } = summary;
    let step = match summary.in_step {
        None => String::new(),
        Some(in_step) => format!(
            "; {:?}, the other server {}, left behind {} times",
            summary.role,
            if in_step { "in step" } else { "not in step" },
            counters.left_behind
        ),
    };
    let refused = counters.malformed + counters.refused_full + counters.without_uuid;
    format!(
        "{keys} keys at sequence {sequence}: {} updates accepted, {} came again, {} expired, {refused} refused; {} \
         snapshots, {} requests not understood; {} slow subscribers hung up on{step}",
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
        "in_step": summary.in_step,
        "left_behind": counters.left_behind,
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
