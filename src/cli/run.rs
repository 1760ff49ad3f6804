//! `pinfeed run`: receive until told to stop.

use std::{
    fs::File,
    io::{BufWriter, Write, stderr},
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use serde::Serialize;

use crate::{
    cli::{
        Ending, Failure,
        control::Control,
        copying::{Copying, Taken, Taking},
        histograms::HistogramFiles,
        live::{self, Ends, Show},
        outputs, print_json, say, screen,
        series::Series,
        shape::Shape,
        signals::Signals,
        stars,
        tui::{self, Board},
        unreached::{self, Awaited},
    },
    clock::Deadline,
    config::Config,
    error::Error,
    flight::FlightRecord,
    host::{pin::Placement, topology},
    lane::{Quota, Unreached},
    ledger::Totals,
    pipeline::{Outcome, Pipeline},
    report::{Summary, count, counted},
    worker::{
        Handler,
        handlers::{Count, Null, Print, Tapped, TopicCount},
    },
};

/// Receive feeds, as a feeds.toml or flags say.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Stop when standard input ends: so that it does not outlive the command that started it
    #[arg(long, hide = true)]
    until_stdin_ends: bool,

    #[command(flatten)]
    shape: Shape,

    /// What to do with messages
    #[arg(long, value_enum, default_value_t = HandlerName::Count)]
    handler: HandlerName,

    /// With --handler count: show this many of the busiest topics
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,

    /// With --handler count: write all topics to this file, as CSV with digests of their payloads. A file
    /// that is there becomes FILE.1
    #[arg(long, value_name = "FILE")]
    digests: Option<PathBuf>,

    /// With --handler print: show every Nth message of each worker
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,

    /// Stop after this many messages
    #[arg(long, value_name = "N")]
    messages: Option<u64>,

    /// Stop after this time, for instance 10s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    run_for: Option<Duration>,

    /// Leave the times of this long after the first message out of the latencies
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "tui")]
    warm_up: Option<Duration>,

    /// Fail with exit code 3 where more messages than this are lost, as far as their numbers tell
    #[arg(long, value_name = "N", value_parser = parse_count, allow_negative_numbers = true)]
    max_loss: Option<u64>,

    /// Listen at this path for what `pinfeed ctl` asks for: a Unix socket, of this user alone
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,

    #[command(flatten)]
    copying: Copying,

    #[command(flatten)]
    histogram_files: HistogramFiles,

    /// Write the CPU share of each thread and the batches that wait for each worker to this file, a line each
    /// a second, as CSV
    #[arg(long, value_name = "FILE", conflicts_with = "tui")]
    series: Option<PathBuf>,

    /// Write the summary to standard output as one JSON object
    #[arg(long)]
    json: bool,

    /// Show what happens on the whole terminal; not with --handler print. p holds the picture, s sorts otherwise, ?
    /// helps, q ends the run, again at once
    #[arg(long)]
    tui: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HandlerName {
    /// Count messages and bytes by topic
    Count,
    /// Print messages to standard error: sequence number or -, topic, payload
    Print,
    /// Do nothing
    Null,
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    if args.digests.is_some() && args.handler != HandlerName::Count {
        return Err(Error::config(
            "--digests",
            args.digests.as_deref().unwrap_or(Path::new("")).display(),
            "only --handler count has digests",
            "leave one of the two out",
        )
        .into());
    }
    if args.tui {
        if args.handler == HandlerName::Print {
            return Err(Error::config(
                "--tui",
                "",
                "--handler print writes to the same terminal",
                "leave one of the two out",
            )
            .into());
        }
        screen::check()?;
    }
    let config = args.shape.config()?;
    // Opened first: after the run it would be too late to learn that it can't be written.
    let digests = args
        .digests
        .as_deref()
        .map(DigestFile::create)
        .transpose()?;
    let evaluate = |handlers: Vec<Count>| {
        let uncounted: u64 = handlers.iter().map(Count::uncounted).sum();
        let rows = Count::merge(handlers);
        show_top(&rows, args.top, uncounted);
        let written = digests.map_or(Ok(()), |file| file.write(&rows));
        (Some(rows.len() as u64), written)
    };
    match args.handler {
        HandlerName::Count if args.tui => {
            let board = Board::new(config.workers.count);
            receive(
                args,
                &config,
                Some(&board),
                |worker| board.handler(worker),
                |handlers| evaluate(handlers.into_iter().map(|one| one.count).collect()),
            )
        }
        HandlerName::Count => receive(args, &config, None, |_| Count::default(), evaluate),
        HandlerName::Print => receive(
            args,
            &config,
            None,
            |_| Print::new(args.every, stderr()),
            |_| (None, Ok(())),
        ),
        HandlerName::Null => receive(args, &config, None, |_| Null, |_| (None, Ok(()))),
    }
}

fn parse_count(text: &str) -> Result<u64, &'static str> {
    text.parse()
        .map_err(|_| "give a whole number of messages, 0 or more")
}

/// Runs the pipeline, with copies where they are wanted, and sums it up. `board` is where handlers note down topics,
/// if they do. `evaluate` makes what it likes of the handlers, and returns the number of distinct topics if it
/// knows, and whether it succeeded.
fn receive<H: Handler>(
    args: &Args,
    config: &Config,
    board: Option<&Board>,
    mut handler: impl FnMut(usize) -> H,
    evaluate: impl FnOnce(Vec<H>) -> (Option<u64>, Result<(), Failure>),
) -> Result<Ending, Failure> {
    let signals = Signals::listen()?;
    let shaped = (&args.shape, config);
    let mut taking = args.copying.start(shaped, signals.stop())?;
    let Some(copiers) = taking.as_ref().map(Taking::copiers) else {
        return conduct(
            args,
            config,
            &signals,
            (board, &mut None),
            handler,
            evaluate,
        );
    };
    let beside = (board, &mut taking);
    let tapped = move |worker| Tapped::new(handler(worker), copiers.clone());
    let ending = conduct(args, config, &signals, beside, tapped, |handlers| {
        evaluate(handlers.into_iter().map(Tapped::into_handler).collect())
    });
    // Nothing was run: their threads are to let go of what they have bound.
    if let Some(taking) = taking {
        taking.finish();
    }
    ending
}

/// Does what [`receive`] does, with those who take copies, if there are any. It waits for them itself once it has run.
fn conduct<H: Handler>(
    args: &Args,
    config: &Config,
    signals: &Signals,
    (board, taking): (Option<&Board>, &mut Option<Taking>),
    handler: impl FnMut(usize) -> H,
    evaluate: impl FnOnce(Vec<H>) -> (Option<u64>, Result<(), Failure>),
) -> Result<Ending, Failure> {
    let mut histograms = args.histogram_files.open()?;
    let series = args.series.as_deref().map(Series::create).transpose()?;
    let mut control = Control::new(args.control.as_deref(), config)?;
    if args.until_stdin_ends {
        signals.stop_when_stdin_ends();
    }
    let quota = args.messages.map_or(Quota::unlimited(), Quota::of);
    let pipeline = Pipeline::start(config, quota, signals.stop().clone(), handler)
        .map_err(|error| args.shape.name_flags(error))?;
    warn_of_placements(&pipeline, config);
    for endpoint in pipeline.endpoints() {
        say(format_args!("listening on {endpoint}"));
    }
    if let Some(path) = &args.control {
        say(format_args!("answering at {}", path.display()));
    }
    let unnumbered = config.unnumbered();
    if args.max_loss.is_some() && !unnumbered.is_empty() {
        say(format_args!(
            "warning: --max-loss sees no loss of {}, whose messages have no numbers that are looked at: give an \
             envelope with sequence numbers and `track = true`",
            unnumbered.join(", ")
        ));
    }
    let feeds = config.feeds.iter();
    let topics = feeds.clone().flat_map(|feed| &feed.topics);
    stars::warn(feeds.flat_map(|feed| &feed.subscribe), topics);
    let deadline = args.run_for.map(Deadline::after);
    let show = match args.handler {
        // Its lines and the live one would write over each other.
        HandlerName::Print => Show::Never,
        _ if args.copying.shows() => Show::Never,
        HandlerName::Count | HandlerName::Null => Show::OnTerminal,
    };
    let flight = pipeline.flight_record().clone();
    let mut awaited = Awaited::new();
    let tick = |pipeline: &mut Pipeline<H>, _: &Totals| {
        control.serve(pipeline);
        awaited.look(|| pipeline.unreached());
        taking.iter_mut().for_each(Taking::say_news);
        if signals.asked() {
            say_flight(&flight);
        }
        if deadline.is_some_and(|deadline| deadline.passed()) {
            signals.stop().request();
        }
    };
    let mut outcome = if args.tui {
        let board = board.cloned();
        tui::watch(pipeline, config, board, &mut histograms, signals, tick)?
    } else {
        // What a benchmark reads is not for people.
        let ends = Ends {
            at: deadline,
            messages: args.messages,
        };
        let ends = if args.until_stdin_ends {
            Ends::default()
        } else {
            ends
        };
        let show = (show, ends);
        live::watch(pipeline, show, args.warm_up, &mut histograms, series, tick)
    };
    let (topics, evaluated) = evaluate(std::mem::take(&mut outcome.handlers));
    let summary = Summary::new(&outcome, topics);
    let written = histograms.finish(&outcome.stages);
    let end = if outcome.abandoned.is_empty() {
        Taking::finish
    } else {
        Taking::leave
    };
    let mut taken = taking.take().map(end).unwrap_or_default();
    let taken_well = taken.failure.take().map_or(Ok(()), Err);
    let ending = conclude(&summary, outcome, &taken, args.max_loss, args.json, signals)?;
    evaluated.and(written).and(taken_well).map(|()| ending)
}

/// Says what went wrong so far.
fn say_flight(flight: &FlightRecord) {
    let entries = flight.entries();
    let number = counted(entries.len() as u64, ("entry", "entries"));
    let forgotten = match flight.forgotten() {
        0 => String::new(),
        forgotten => format!(", {} before them forgotten", count(forgotten)),
    };
    say(format_args!("flight record: {number}{forgotten}"));
    for entry in entries {
        say(format_args!("{entry}"));
    }
}

/// What a run says of itself in JSON.
#[derive(Serialize)]
struct Concluded<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    /// What made it fail, if anything did.
    failure: Option<String>,
    /// Workers, counted from 0, whose handler did not return in time.
    abandoned: &'a [usize],
    /// Endpoints that were to be connected to and never were, and those that nobody connected to.
    unreached: &'a [Unreached],
    #[serde(flatten)]
    taken: &'a Taken,
}

/// Prints the summary and decides how the command ends. Without `max_loss` any number may be lost.
pub(super) fn conclude<H>(
    summary: &Summary,
    outcome: Outcome<H>,
    taken: &Taken,
    max_loss: Option<u64>,
    json: bool,
    signals: &Signals,
) -> Result<Ending, Failure> {
    if matches!(outcome.failure, Some(Error::Late { .. })) {
        say_flight(&outcome.flight);
    }
    say(format_args!("{}", summary.to_string().trim_end()));
    unreached::warn(&outcome.unreached);
    for worker in &outcome.abandoned {
        say(format_args!(
            "warning: worker-{worker} did not return from its handler in time, and what it still has is under way"
        ));
    }
    taken.say();
    if json {
        print_json(&Concluded {
            taken,
            summary,
            failure: outcome.failure.as_ref().map(Error::to_string),
            abandoned: &outcome.abandoned,
            unreached: &outcome.unreached,
        })?;
    }
    match (outcome.failure, signals.caught()) {
        (Some(failure), _) => Err(failure.into()),
        _ if !summary.balanced
            || !taken.is_balanced()
            || summary.lost.unwrap_or(0) > max_loss.unwrap_or(u64::MAX) =>
        {
            Ok(Ending::Unaccounted)
        }
        (None, Some(signal)) => Ok(Ending::Signal(signal)),
        (None, None) => Ok(Ending::Ok),
    }
}

/// Says once what is not as it should be with cores.
pub(super) fn warn_of_placements<H: Handler>(pipeline: &Pipeline<H>, config: &Config) {
    let placements = pipeline.placements();
    let names = |wanted: fn(&Placement) -> bool| {
        let names = placements.iter().filter(|placement| wanted(placement));
        let names: Vec<&str> = names.map(|placement| placement.name.as_str()).collect();
        names.join(", ")
    };
    let failed = names(Placement::failed);
    let (cores, threads) = (topology::usable_cores().len(), config.threads());
    if !failed.is_empty() {
        say(format_args!(
            "warning: not on the core asked for: {failed}; --pin strict makes this an error"
        ));
    } else if cores < threads {
        let free = names(|placement| placement.core_wanted.is_none());
        let free = if free.is_empty() {
            free
        } else {
            format!("; on any core: {free}")
        };
        say(format_args!(
            "warning: {threads} busy threads have to share the {cores} cores that this process may use{free}"
        ));
    }
}

fn show_top(rows: &[TopicCount], top: usize, uncounted: u64) {
    if rows.is_empty() || top == 0 {
        return;
    }
    let all: u64 = rows.iter().map(|row| row.messages).sum();
    say(format_args!(
        "{:>15}{:>8}{:>17}  {:<16}  topic",
        "messages", "share", "payload bytes", "digest"
    ));
    for row in rows.iter().take(top) {
        say(format_args!(
            "{:>15}{:>7.1}%{:>17}  {:<16}  {}",
            count(row.messages),
            100.0 * row.messages as f64 / all as f64,
            count(row.payload_bytes),
            row.digest.map_or("-".to_owned(), hexadecimal),
            row.topic.escape_ascii(),
        ));
    }
    if rows.len() > top {
        say(format_args!(
            "{:>15} more topics",
            count((rows.len() - top) as u64)
        ));
    }
    if uncounted > 0 {
        say(format_args!(
            "{:>15} messages of topics beyond what is counted apart",
            count(uncounted)
        ));
    }
}

fn hexadecimal(digest: NonZeroU64) -> String {
    format!("{digest:016x}")
}

/// The file that `--digests` asked for.
struct DigestFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl DigestFile {
    fn create(path: &Path) -> Result<Self, Failure> {
        Ok(Self {
            path: path.into(),
            file: BufWriter::new(outputs::file("--digests", path)?),
        })
    }

    /// Writes all topics, the busiest first.
    fn write(mut self, rows: &[TopicCount]) -> Result<(), Failure> {
        let mut write = || {
            writeln!(self.file, "topic,messages,payload_bytes,digest")?;
            for row in rows {
                let topic = csv_field(&row.topic);
                let (messages, bytes) = (row.messages, row.payload_bytes);
                let digest = row.digest.map(hexadecimal).unwrap_or_default();
                writeln!(self.file, "{topic},{messages},{bytes},{digest}")?;
            }
            self.file.flush()
        };
        write().map_err(|error| Failure::running(&self.path.display().to_string(), &error))
    }
}

/// Writes bytes so that they read back as themselves and need no quotation marks: what is not
/// printable ASCII, and comma, quotation mark and backslash, as `\xNN`.
fn csv_field(bytes: &[u8]) -> String {
    let mut field = String::new();
    for &byte in bytes {
        match byte {
            b',' | b'"' | b'\\' => field += &format!("\\x{byte:02x}"),
            b' '..=b'~' => field.push(char::from(byte)),
            _ => field += &format!("\\x{byte:02x}"),
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_fields_are_unambiguous() {
        assert_eq!(
            csv_field(b"binance.btcusdt@trade 1"),
            "binance.btcusdt@trade 1"
        );
        assert_eq!(
            csv_field(b"a,b\"c\\x2c\n\xff"),
            r"a\x2cb\x22c\x5cx2c\x0a\xff"
        );
    }
}
