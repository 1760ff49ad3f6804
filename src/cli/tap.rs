//! `pinfeed tap`: a proxy between publishers and subscribers whose traffic can be watched.

use std::{
    io::stderr,
    path::{Path, PathBuf},
};

use clap::ValueEnum;

use crate::{
    cli::{
        Ending, Failure,
        between::{Between, plural, say_flow, say_losses, say_watched},
        outputs, print_json, say,
    },
    config::check_bind,
    patterns::{
        copies::CopyRule,
        tap::{
            Tap, TapPlan, TapSummary, WatchPlan,
            lines::{self, Bytes},
        },
    },
    report::count,
};

/// Stand between publishers and subscribers, and let what passes be watched: messages, subscriptions and their
/// ends. Forwarding waits for no watcher: one that is too slow loses copies, which are counted.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    between: Between,

    /// Show what passes on standard error
    #[arg(long, value_enum, value_name = "AS")]
    show: Option<ShowAs>,

    /// With --show: only topics that start with this, and subscriptions that match such
    #[arg(long, value_name = "PREFIX", requires = "show", default_value = "")]
    topic: String,

    /// With --show: at most this many lines a second
    #[arg(long, value_name = "N", requires = "show")]
    lines_max: Option<u64>,

    /// Give copies to SUBs and PAIRs that connect here (repeatable): messages as they are, a subscription as
    /// its prefix behind a byte 1, its end behind a byte 0
    #[arg(long, value_name = "ENDPOINT")]
    watch_bind: Vec<String>,

    /// Write what passes to this file, as a capture: lines of `<ns> <json>`. A file that is there becomes
    /// FILE.1
    #[arg(long, value_name = "FILE")]
    watch_file: Option<PathBuf>,

    /// Write the summary to standard output as one JSON object
    #[arg(long)]
    json: bool,
}

/// How copies are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ShowAs {
    /// Text, with what is not printable escaped
    Text,
    /// Hexadecimal digits
    Hex,
}

impl ShowAs {
    /// A watcher that shows copies of topics that start with this, so many a second at most.
    pub(super) fn watch(self, topic: &str, lines_max: Option<u64>) -> WatchPlan {
        let bytes = match self {
            Self::Text => Bytes::Text,
            Self::Hex => Bytes::Hex,
        };
        WatchPlan {
            name: "standard error".to_owned(),
            rule: CopyRule {
                topic: topic.as_bytes().to_vec(),
                per_s_max: lines_max,
            },
            line: Box::new(move |copy, out| lines::for_people(bytes, copy, out)),
            out: Box::new(stderr()),
        }
    }
}

/// A watcher that writes a capture.
pub(super) fn watch_file(flag: &str, path: &Path) -> Result<WatchPlan, Failure> {
    Ok(WatchPlan {
        name: path.display().to_string(),
        rule: CopyRule::default(),
        line: Box::new(lines::for_capture),
        out: Box::new(outputs::file(flag, path)?),
    })
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let signals = args.between.signals()?;
    let ends = args.between.ends()?;
    for endpoint in &args.watch_bind {
        check_bind("--watch-bind", endpoint)?;
    }
    let mut watch = Vec::new();
    if let Some(show) = args.show {
        watch.push(show.watch(&args.topic, args.lines_max));
    }
    if let Some(path) = &args.watch_file {
        watch.push(watch_file("--watch-file", path)?);
    }
    let plan = TapPlan {
        ends,
        watch,
        watch_bind: args.watch_bind.clone(),
        messages_max: args.between.messages_max(),
    };
    let tap = Tap::open(plan, signals.stop().clone())?;
    let watched = tap.watched().iter();
    let watched = watched.map(|at| format!("watched on {at}")).collect();
    let said = (watched, tap.ends().clone());
    let (summary, written) = args
        .between
        .run(&signals, said, tap, Tap::turn, Tap::finish)?;
    say_summary(&summary);
    if args.json {
        print_json(&summary)?;
    }
    written.map_err(|error| Failure::running("watching", &error))?;
    Ok(signals.caught().map_or(Ending::Ok, Ending::Signal))
}

fn say_summary(summary: &TapSummary) {
    say_flow(&summary.flow);
    let changes = plural(summary.subscription_changes, "change");
    say(format_args!(
        "{changes} of subscriptions, {} told to publishers",
        count(summary.forwarded_changes)
    ));
    if summary.subscription_changes == 0 {
        say(format_args!(
            "no subscriber asked for anything, and nothing else passes a tap: connect one to --serve"
        ));
    }
    say_losses(&summary.flow);
    say_watched(&summary.watchers);
}
