//! `pinfeed cache`: the newest message of each topic for subscribers that come late.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::{
    cli::{
        Ending, Failure,
        between::{Between, say_flow, say_losses},
        print_json, say, stars,
    },
    envelope::Envelope,
    patterns::cache::{Cache, CachePlan, CacheSummary, Evict, Limits},
    report::{count, counted},
};

/// Stand between publishers and subscribers, and answer each new subscription with the newest message of each
/// topic that it matches, before anything newer. Messages go on as they come.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    between: Between,

    /// Take only topics that start with this from publishers (repeatable) [default: all]
    #[arg(long, value_name = "PREFIX")]
    subscribe: Vec<String>,

    /// What finds the topic in a message, at the start of its first frame; without, the topic is that frame
    #[arg(long, value_name = "NAME")]
    envelope: Option<Envelope>,

    /// The most topics to keep
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    topics_max: usize,

    /// The most that messages may take, each with 64 bytes beside it
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    bytes_max: usize,

    /// What makes room for new topics
    #[arg(long, value_enum, default_value_t = EvictName::Oldest)]
    evict: EvictName,

    /// Keep messages in this file as well, and start with those it holds. A cache that is killed loses about
    /// the last tenth of a second of it
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,

    /// Answer requests for snapshots (ICANHAZ? and a prefix) here, for instance tcp://*:5559 (repeatable); that is
    /// what `pinfeed run --snapshot` asks
    #[arg(long, value_name = "ENDPOINT")]
    snapshots: Vec<String>,

    /// Write the summary to standard output as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum EvictName {
    /// The topic that was updated the longest time ago goes
    Oldest,
    /// New topics are not kept
    Refuse,
}

impl From<EvictName> for Evict {
    fn from(name: EvictName) -> Self {
        match name {
            EvictName::Oldest => Self::Oldest,
            EvictName::Refuse => Self::Refuse,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let signals = args.between.signals()?;
    stars::warn(&args.subscribe, []);
    let plan = CachePlan {
        ends: args.between.ends()?,
        subscribe: args
            .subscribe
            .iter()
            .map(|prefix| prefix.clone().into_bytes())
            .collect(),
        envelope: args.envelope.clone(),
        limits: Limits {
            topics_max: args.topics_max,
            bytes_max: args.bytes_max,
        },
        evict: args.evict.into(),
        file: args.store.clone(),
        snapshots: args.snapshots.clone(),
        messages_max: args.between.messages_max(),
    };
    let cache = Cache::open(&plan, signals.stop().clone())?;
    let restored = args.store.as_ref().map(|path| {
        let topics = counted(cache.restored(), ("topic", "topics"));
        format!("{topics} from {}", path.display())
    });
    let snapshots = cache.snapshots().iter();
    let snapshots = snapshots.map(|at| format!("snapshots at {at}"));
    let said = restored.into_iter().chain(snapshots).collect();
    let said = (said, cache.ends().clone());
    let (summary, written) = args
        .between
        .run(&signals, said, cache, Cache::turn, Cache::finish)?;
    say_summary(&summary);
    if args.json {
        print_json(&summary)?;
    }
    written.map_err(|error| Failure::running("keeping messages", &error))?;
    Ok(match signals.caught() {
        _ if !summary.balanced => Ending::Unaccounted,
        Some(signal) => Ending::Signal(signal),
        None => Ending::Ok,
    })
}

pub(super) fn say_summary(summary: &CacheSummary) {
    say_flow(&summary.flow);
    say(format_args!(
        "{:>15} topics kept, {} bytes",
        count(summary.topics as u64),
        count(summary.bytes as u64)
    ));
    for (number, what) in [
        (summary.unwanted, "messages that were not asked for"),
        (summary.evicted, "topics evicted to make room"),
        (summary.refused, "messages not kept, for lack of room"),
        (
            summary.unreadable,
            "messages without a topic, passed on but not kept",
        ),
        (
            summary.not_restored,
            "messages of the file for which there was no room",
        ),
        (summary.unknown_requests, "requests not answered"),
        (
            summary.write_failures,
            "times the file could not be written at first",
        ),
    ] {
        if number > 0 {
            say(format_args!("{:>15} {what}", count(number)));
        }
    }
    say(format_args!(
        "{:>15} held back since an answer brought them",
        count(summary.held_back)
    ));
    let snapshots = match summary.snapshots {
        0 => String::new(),
        number => format!(" and in {}", counted(number, ("snapshot", "snapshots"))),
    };
    say(format_args!(
        "{:>15} sent as answers to {}{snapshots}",
        count(summary.answers),
        counted(summary.answered, ("subscription", "subscriptions"))
    ));
    say_losses(&summary.flow);
}
