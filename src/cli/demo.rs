//! `pinfeed demo`: a publisher and the black box at work, with nothing to configure.
//!
//! The publisher is this same program in a process of its own, so that what the summary says of CPU
//! time is the subscriber's alone, and messages really cross TCP.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use crossbeam::channel::{self, Receiver};

use crate::{
    cli::{
        Ending, Failure,
        copying::Taken,
        histograms::Histograms,
        live::{self, Ends, Show},
        publish::{Rate, parse_rate},
        run::{conclude, warn_of_placements},
        say, screen,
        signals::Signals,
        tui::{self, Board, Watched},
    },
    clock::Deadline,
    config::Config,
    envelope::Envelope,
    lane::Quota,
    ledger::Totals,
    pipeline::Pipeline,
    publish::Published,
    report::{Summary, count},
    worker::handlers::Count,
};

/// How long to wait, once the publisher is done, for what is still under way.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(5);

/// Show publisher and subscriber at work for ten seconds, with nothing to configure.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Messages a second, or max
    #[arg(long, value_name = "N", default_value = "200000", value_parser = parse_rate, allow_negative_numbers = true)]
    rate: Rate,

    /// How long to publish
    #[arg(long = "for", value_name = "TIME", default_value = "9s", value_parser = humantime::parse_duration)]
    run_for: Duration,

    /// The number of workers
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,

    /// Write the summary to standard output as one JSON object
    #[arg(long)]
    json: bool,

    /// Show what happens on the whole terminal, until all is published. p holds the picture, s sorts otherwise, ? helps,
    /// q ends the demo, again at once
    #[arg(long)]
    tui: bool,
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let mut config = Config::bind("tcp://127.0.0.1:*", Envelope::Pinfeed);
    config.workers.count = args.workers;

    if args.tui {
        screen::check()?;
    }
    let signals = Signals::listen()?;
    let (stop, board) = (signals.stop().clone(), Board::new(args.workers));
    let pipeline = Pipeline::start(&config, Quota::unlimited(), stop, |worker| {
        board.handler(worker)
    })
    .map_err(|error| error.by_flag("workers.count", "--workers"))?;
    warn_of_placements(&pipeline, &config);
    let endpoint = &pipeline.endpoints()[0];
    say(format_args!(
        "a synthetic exchange publishes 1,000 topics at {} msg/s to {endpoint} for {}",
        args.rate,
        humantime::format_duration(args.run_for),
    ));
    let mut publisher = PublisherProcess::start(args, endpoint)?;

    let mut arrival = None;
    let tick = |_: &mut Pipeline<_>, totals: &Totals| {
        if let Some(published) = publisher.finished() {
            let deadline = *arrival.get_or_insert_with(|| Deadline::after(ARRIVAL_LIMIT));
            if totals.received >= published || deadline.passed() {
                signals.stop().request();
            }
        }
    };
    let mut histograms = Histograms::default();
    let mut outcome = if args.tui {
        tui::watch(
            pipeline,
            &config,
            Some(board),
            &mut histograms,
            &signals,
            tick,
        )?
    } else {
        let ends = Ends {
            at: Some(Deadline::after(args.run_for)),
            messages: None,
        };
        let show = (Show::Always, ends);
        live::watch(pipeline, show, None, &mut histograms, None, tick)
    };
    // After a signal nobody waited for what was still under way, nor for the publisher: in a terminal
    // the signal may have met it, too.
    let interrupted = signals.interrupted();
    let published = if interrupted {
        None
    } else {
        publisher.result()?
    };
    let handlers = std::mem::take(&mut outcome.handlers).into_iter();
    let rows = Count::merge(handlers.map(|handler: Watched| handler.count));
    let mut summary = Summary::new(&outcome, Some(rows.len() as u64));
    if let Some(published) = published {
        summary.lost = Some(published.published.saturating_sub(summary.received));
        say(format_args!(
            "{:<14}{:>15}",
            "published",
            count(published.published)
        ));
    } else {
        say(format_args!(
            "stopped before all was published: lost is what the numbers of messages show"
        ));
    }
    conclude(
        &summary,
        outcome,
        &Taken::default(),
        Some(0),
        args.json,
        &signals,
    )
}

/// The publisher's process. Ends it, should it still run, when dropped.
struct PublisherProcess {
    child: Child,
    /// Ends when the demo does, however that ends, and the publisher with it.
    _stdin: Option<ChildStdin>,
    /// What it says when it has published all, which is before it ends.
    word: Receiver<Result<Published, Failure>>,
    outcome: Option<Result<Published, Failure>>,
}

impl PublisherProcess {
    fn start(args: &Args, endpoint: &str) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::running("starting the publisher", &error);
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["publish", "--until-stdin-ends", "--json"])
            .args(["--connect", endpoint, "--rate"])
            .args([&args.rate.to_string(), "--for"])
            .arg(humantime::format_duration(args.run_for).to_string())
            // A Ctrl-C is for the demo, which ends its publisher itself.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (say, word) = channel::bounded(1);
        // Where nobody listens any more, nobody has to know.
        thread::spawn(move || drop(say.send(read_outcome(stdout, stderr))));
        Ok(Self {
            child,
            _stdin: stdin,
            word,
            outcome: None,
        })
    }

    /// Returns the number of messages published, 0 if it failed, once it has published all.
    fn finished(&mut self) -> Option<u64> {
        if self.outcome.is_none() {
            self.outcome = self.word.try_recv().ok();
        }
        let outcome = self.outcome.as_ref()?;
        Some(outcome.as_ref().map_or(0, |done| done.published))
    }

    /// Returns what was published, or `None` where the demo was stopped before all was.
    fn result(mut self) -> Result<Option<Published>, Failure> {
        self.outcome.take().transpose()
    }
}

/// Reads what the publisher has published, or why it failed.
fn read_outcome(
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
) -> Result<Published, Failure> {
    let mut line = String::new();
    let read = stdout.map_or(Ok(0), |pipe| BufReader::new(pipe).read_line(&mut line));
    read.map_err(|error| Failure::running("the publisher", &error))?;
    serde_json::from_str(&line).map_err(|_| {
        let mut words = String::new();
        // Without its words there is still the fact that it failed.
        let _ = stderr.map(|mut pipe| pipe.read_to_string(&mut words));
        Failure {
            exit_code: super::EXIT_FAILURE,
            message: format!("the publisher failed: {}", words.trim_end()),
        }
    })
}

impl Drop for PublisherProcess {
    fn drop(&mut self) {
        // It fails where the process has ended, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
