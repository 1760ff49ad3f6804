//! `pinfeed tap`: a proxy between publishers and subscribers whose traffic can be watched.

use std::{io::stderr, path::PathBuf};

use clap::ValueEnum;

use crate::{
    cli::{
        Ending, Failure,
        between::{Between, say_losses},
        outputs, print_json, say,
    },
    config::check_bind,
    patterns::tap::{
        CopyRule, Tap, TapPlan, TapSummary, WatchPlan,
        lines::{self, Bytes},
    },
    report::{count, rate},
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ShowAs {
    /// Text, with what is not printable escaped
    Text,
    /// Hexadecimal digits
    Hex,
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let signals = args.between.signals()?;
    let ends = args.between.ends()?;
    for endpoint in &args.watch_bind {
        check_bind("--watch-bind", endpoint)?;
    }
    let mut watch = Vec::new();
    if let Some(show) = args.show {
        let bytes = match show {
            ShowAs::Text => Bytes::Text,
            ShowAs::Hex => Bytes::Hex,
        };
        watch.push(WatchPlan {
            name: "standard error".to_owned(),
            rule: CopyRule {
                topic: args.topic.clone().into_bytes(),
                per_s_max: args.lines_max,
            },
            line: Box::new(move |copy, out| lines::for_people(bytes, copy, out)),
            out: Box::new(stderr()),
        });
    }
    if let Some(path) = &args.watch_file {
        watch.push(WatchPlan {
            name: path.display().to_string(),
            rule: CopyRule::default(),
            line: Box::new(lines::for_capture),
            out: Box::new(outputs::file("--watch-file", path)?),
        });
    }
    let plan = TapPlan {
        ends,
        watch,
        watch_bind: args.watch_bind.clone(),
        messages_max: args.between.messages_max(),
    };
    let mut tap = Tap::open(plan, signals.stop().clone())?;
    for endpoint in tap.watched() {
        say(format_args!("watched on {endpoint}"));
    }
    let endpoints = (tap.bound().to_vec(), tap.served().to_vec());
    let endpoints = (&endpoints.0[..], &endpoints.1[..]);
    args.between
        .run(&signals, endpoints, |wait| tap.turn(wait))?;
    let (summary, written) = tap.finish()?;
    say_summary(&summary);
    if args.json {
        print_json(&summary)?;
    }
    written.map_err(|error| Failure::running("watching", &error))?;
    Ok(signals.caught().map_or(Ending::Ok, Ending::Signal))
}

fn say_summary(summary: &TapSummary) {
    let per_s = if summary.elapsed_s > 0.0 {
        summary.received as f64 / summary.elapsed_s
    } else {
        0.0
    };
    say(format_args!(
        "{:>15} received in {:.2} s, {} msg/s; {} sent on",
        count(summary.received),
        summary.elapsed_s,
        rate(per_s),
        count(summary.forwarded)
    ));
    if summary.oversize > 0 {
        say(format_args!(
            "{:>15} messages thrown away, since they are larger than 16 MiB",
            count(summary.oversize)
        ));
    }
    say(format_args!(
        "{:>15} subscriptions and cancellations, {} of them forwarded",
        count(summary.subscription_changes),
        count(summary.forwarded_changes)
    ));
    say_losses(summary.lost, &summary.lost_by_subscriber);
    for one in &summary.watchers {
        let skipped = match one.copied.skipped {
            0 => String::new(),
            skipped => format!(", {} skipped", count(skipped)),
        };
        say(format_args!(
            "{:>15} copies to {}, {} lost{skipped}",
            count(one.copied.written),
            one.watcher,
            count(one.copied.lost)
        ));
    }
}
