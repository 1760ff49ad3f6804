//! The commands: one file each. Nothing imports this module but `main`.

mod bench;
mod between;
mod cache;
mod clone;
mod config_file;
mod control;
mod copying;
mod countdown;
mod ctl;
mod demo;
mod doctor;
mod envelope;
mod histograms;
mod intervals;
mod live;
mod outputs;
mod plan;
mod publish;
mod report;
mod run;
mod screen;
mod series;
mod shape;
mod signals;
mod stars;
mod status_line;
mod tap;
mod threads;
mod tui;
mod unreached;

use std::{error::Error as StdError, fmt, process::ExitCode};

use clap::{Parser, Subcommand};

/// Exit code for a run that failed.
const EXIT_FAILURE: u8 = 1;
/// Exit code for bad input or configuration; clap's own for a bad command line, too.
const EXIT_BAD_INPUT: u8 = 2;
/// Exit code for a ledger that does not balance, or for loss.
const EXIT_UNACCOUNTED: u8 = 3;
/// Exit code for messages that were too late for too long.
const EXIT_LATE: u8 = 4;

/// Ingest price feeds published over ZeroMQ: pinned receive threads split topics over a pool of pinned
/// workers, every message is accounted for, and histograms record how long each one waited.
#[derive(Debug, Parser)]
#[command(name = "pinfeed", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 ok, 1 failure while running, a measurement that says nothing, or a host that lacks what is required, 2 bad input or configuration, 3 the ledger does not \
balance, or more messages than --max-loss were lost, 4 messages were too late for too long (policy \
snail), 130/143 ended by SIGINT/SIGTERM after a clean drain (a second signal \
aborts, unless it comes within 0.1 s: then it is taken for the same request).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive feeds, as a feeds.toml or flags say
    Run(Box<run::Args>),
    /// Publish a synthetic exchange or a capture, to test with
    Publish(publish::Args),
    /// Show how an envelope reads messages, from a file or from a publisher
    Envelope(envelope::Args),
    /// Measure what this host carries, and where it breaks
    #[command(subcommand)]
    Bench(bench::Command),
    /// Show results of bench, and logs of run, as one HTML page, as Markdown, or compared
    Report(report::Args),
    /// Judge this host by what is to run on it, and name what mends it
    Doctor(doctor::Args),
    /// Plan threads and cores for a rate or a capture
    Plan(plan::Args),
    /// Forward between publishers and subscribers, and show what passes
    Tap(tap::Args),
    /// Keep the newest message of each topic for subscribers that come late
    Cache(cache::Args),
    /// Ask a running `pinfeed run --control SOCKET` for something
    Ctl(ctl::Args),
    /// Share a state of keys and values between programs: the Guide's Clone pattern
    #[command(subcommand)]
    Clone(clone::Command),
    /// Show publisher and subscriber at work for ten seconds, with nothing to configure
    Demo(demo::Args),
}

/// What a command ended with, apart from errors.
enum Ending {
    Ok,
    Unaccounted,
    /// A measurement says nothing, or not what was asked for; or the host lacks what is required.
    Failed,
    Signal(u8),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Publish(args) => publish::run(&args),
        Command::Envelope(args) => envelope::run(&args),
        Command::Bench(command) => bench::run(&command),
        Command::Report(args) => report::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Tap(args) => tap::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::Ctl(args) => ctl::run(&args),
        Command::Clone(command) => clone::run(&command),
        Command::Demo(args) => demo::run(&args),
    };
    match outcome {
        Ok(Ending::Ok) => ExitCode::SUCCESS,
        Ok(Ending::Failed) => ExitCode::from(EXIT_FAILURE),
        Ok(Ending::Unaccounted) => ExitCode::from(EXIT_UNACCOUNTED),
        Ok(Ending::Signal(number)) => ExitCode::from(128 + number),
        Err(failure) => {
            say(format_args!("Error: {failure}"));
            ExitCode::from(failure.exit_code)
        }
    }
}

/// Why a command failed, and what that makes of the exit code.
#[derive(Debug)]
struct Failure {
    exit_code: u8,
    message: String,
}

impl Failure {
    fn refused(reason: &str) -> Self {
        Self {
            exit_code: EXIT_BAD_INPUT,
            message: reason.to_owned(),
        }
    }

    fn running(what: &str, error: &dyn StdError) -> Self {
        Self {
            exit_code: EXIT_FAILURE,
            message: format!("{what}: {error}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Self {
        Self {
            exit_code: match error {
                crate::Error::Late { .. } => EXIT_LATE,
                _ if error.is_bad_input() => EXIT_BAD_INPUT,
                _ => EXIT_FAILURE,
            },
            message: error.to_string(),
        }
    }
}

/// Writes a line for people, to standard error: on a terminal in place of the live one, should there be one,
/// and after the live view, should there be that. That it went away is no reason to stop.
fn say(line: fmt::Arguments<'_>) {
    use std::io::{IsTerminal, Write};
    if screen::hold(line) {
        return;
    }
    let mut out = std::io::stderr();
    let clear = if out.is_terminal() { "\r\x1b[2K" } else { "" };
    let _ = writeln!(out, "{clear}{line}");
}

/// Writes the one JSON object that a script asked for to standard output.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    use std::io::Write;
    let json =
        serde_json::to_string(value).map_err(|error| Failure::running("writing JSON", &error))?;
    writeln!(std::io::stdout(), "{json}").map_err(|error| Failure::running("writing JSON", &error))
}
