//! `pinfeed doctor`: whether this host suits a configuration, condition by condition, and what mends it.

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    cli::{Ending, Failure, config_file, countdown::Countdown, print_json, say, signals::Signals},
    clock::{Deadline, Stopwatch},
    error::Error,
    host::{
        cpulist::show,
        doctor::{
            Check, CoreHiccups, Evidence, HotThread, Measured, Outcome, Probed, Severity, Verdict,
            Wanted, checks,
        },
        machine::{Machine, Shape},
    },
    latency::Hiccups,
    report::{count, time},
};

/// How often to look whether a measurement is to end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// From this on a hiccup is counted, in nanoseconds.
const HICCUP_NS: u64 = 1_000_000;

/// Judge this host by what is to run on it, and name what mends each condition that fails
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    /// The configuration to judge by: its cores, cards, buffers and limits. Without one, each core that this
    /// process may use is a candidate but core 0
    #[arg(value_name = "FEEDS.toml")]
    file: Option<PathBuf>,

    /// Write one JSON object to standard output
    #[arg(long)]
    json: bool,

    /// Measure for this long, for instance 5s: what holds up a thread that spins on each hot core, interrupts that
    /// come there, and packets dropped. It keeps these cores busy: not while a feed runs there
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    measure: Option<Duration>,

    /// Judge a recorded machine: the folder that holds its sys and proc
    #[arg(long, value_name = "FOLDER", hide = true, conflicts_with = "measure")]
    root: Option<PathBuf>,
}

const EXIT_CODES: &str = "\
Exit codes: 0 all that is required passed, or can't be told here; 1 a condition of severity `required` failed; 2 bad \
input. Conditions that are `recommended` fail nothing.";

/// What is written as JSON.
#[derive(Serialize)]
struct Report<'a> {
    /// The configuration judged by; without one hot cores are candidates.
    configuration: Option<&'a Path>,
    /// The busy threads of the configuration.
    threads: &'a [HotThread],
    hot_cores: String,
    machine: Shape,
    #[serde(flatten)]
    verdict: Verdict,
    checks: &'a [Check],
    measured: Option<&'a Measured>,
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let root = args.root.as_deref().unwrap_or(Path::new("/"));
    if !root.is_dir() {
        let (problem, remedy) = (
            "there is no such folder",
            "give one that holds sys and proc",
        );
        return Err(Error::config("--root", root.display(), problem, remedy).into());
    }
    let file = args.file.as_deref();
    let config = file.map(|path| config_file::load(path, |_| ()));
    let config = config.transpose()?;
    let machine = Machine::read(root);
    let wanted = match &config {
        Some(config) => config.wanted_on(&machine),
        None => Wanted::candidates(&machine),
    };
    let probed = match args.root {
        Some(_) => Probed::of_recorded(),
        None => Probed::look(&machine, &wanted),
    };
    let mut measured = None;
    if let Some(measure_for) = args.measure {
        let signals = Signals::listen()?;
        measured = Some(measure(&machine, &wanted, measure_for, &signals)?);
        if let Some(number) = signals.caught() {
            return Ok(Ending::Signal(number));
        }
    }
    let evidence = Evidence {
        machine: &machine,
        probed: &probed,
        measured: measured.as_ref(),
    };
    let checks = checks(&evidence, &wanted);
    let report = Report {
        configuration: args.file.as_deref(),
        threads: if config.is_some() {
            &wanted.threads
        } else {
            &[]
        },
        hot_cores: show(&wanted.hot_cores()),
        machine: machine.shape(),
        verdict: Verdict::of(&checks),
        checks: &checks,
        measured: measured.as_ref(),
    };
    show_report(&report);
    if args.json {
        print_json(&report)?;
    }
    Ok(match report.verdict.failed_required {
        0 => Ending::Ok,
        _ => Ending::Failed,
    })
}

/// Looks at the machine, measures hiccups on the hot cores that can be had, and looks again.
fn measure(
    machine: &Machine,
    wanted: &Wanted,
    measure_for: Duration,
    signals: &Signals,
) -> Result<Measured, Failure> {
    let usable = machine.usable_cores();
    let mut cores = wanted.hot_cores();
    cores.retain(|core| usable.contains(core));
    say(format_args!(
        "measuring for {} on {}",
        humantime::format_duration(measure_for),
        show(&cores)
    ));
    let before = Machine::read(Path::new("/"));
    let clock = Stopwatch::start();
    let hiccups = Hiccups::start_spinning(&cores)?;
    let deadline = Deadline::after(measure_for);
    let mut countdown = Countdown::new("measuring", Some(measure_for));
    while !deadline.passed() && !signals.interrupted() {
        thread::sleep(deadline.left().min(LOOK_EVERY));
        countdown.look();
    }
    drop(countdown);
    let recorded = hiccups.stop();
    let elapsed_s = clock.elapsed_ns() as f64 / 1e9;
    let after = Machine::read(Path::new("/"));
    let hiccups = recorded.iter().map(summary_of).collect();
    Ok(Measured::between(
        &before, &after, elapsed_s, hiccups, wanted,
    ))
}

fn summary_of((core, gaps_ns): &(usize, Histogram<u64>)) -> CoreHiccups {
    CoreHiccups {
        core: *core,
        count: gaps_ns.len(),
        over_1_ms: gaps_ns.count_between(HICCUP_NS, u64::MAX),
        p99_ns: gaps_ns.value_at_quantile(0.99),
        p99_9_ns: gaps_ns.value_at_quantile(0.999),
        max_ns: gaps_ns.max(),
        stolen_ns: (gaps_ns.mean() * gaps_ns.len() as f64) as u64,
    }
}

fn show_report(report: &Report) {
    say(format_args!("{}", report.machine));
    match report.configuration {
        Some(path) => {
            let threads = report.threads.iter().map(|thread| match thread.core {
                Some(core) => format!("{} on {core}", thread.name),
                None => format!("{} on any core", thread.name),
            });
            let threads: Vec<String> = threads.collect();
            say(format_args!(
                "judged by {}: {}",
                path.display(),
                threads.join(", ")
            ));
        }
        None => say(format_args!(
            "judged without a configuration: every core that this process may use is a candidate but \
             core 0, so hot cores are {}; `pinfeed doctor FEEDS.toml` judges by its cores and cards",
            report.hot_cores
        )),
    }
    say(format_args!(""));
    show_row(["condition", "required", "current", "severity", "result"]);
    for check in report.checks {
        let severity = match check.severity {
            Severity::Required => "required",
            Severity::Recommended => "recommended",
        };
        let outcome = match check.outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::Unavailable => "unavailable",
        };
        let (required, current) = (&check.required, &check.current);
        show_row([check.condition, required, current, severity, outcome]);
        if let Some(mend) = &check.mend {
            say(format_args!("  mend: {mend}"));
        }
    }
    if let Some(measured) = report.measured {
        show_hiccups(measured);
    }
    let verdict = &report.verdict;
    say(format_args!(
        "\n{} passed, {} failed ({} of them required), {} unavailable",
        verdict.passed, verdict.failed, verdict.failed_required, verdict.unavailable
    ));
}

/// Characters of each column; the last is as wide as it is.
const WIDTHS: [usize; 4] = [24, 36, 44, 11];

/// Writes a row, its texts broken into as many lines as they take.
fn show_row(cells: [&str; 5]) {
    let [condition, required, current, severity, outcome] = cells;
    let columns: Vec<Vec<String>> = [condition, required, current, severity]
        .into_iter()
        .zip(WIDTHS)
        .map(|(text, width)| wrap(text, width))
        .collect();
    let lines = columns.iter().map(Vec::len).max().unwrap_or_default();
    for line in 0..lines {
        let mut row = String::new();
        for (column, width) in columns.iter().zip(WIDTHS) {
            let text = column.get(line).map_or("", String::as_str);
            row += &format!("{text:<width$}  ");
        }
        if line == 0 {
            row += outcome;
        }
        say(format_args!("{}", row.trim_end()));
    }
}

/// Breaks a text between words, and a word that is too long within.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        while !word.is_empty() {
            let last = lines.len() - 1;
            let used = lines[last].chars().count();
            let gap = usize::from(used > 0);
            if used + gap + word.len() <= width || used == 0 {
                let rest = word.split_off(word.len().min(width));
                lines[last] += &" ".repeat(gap);
                lines[last].extend(word);
                word = rest;
            } else {
                lines.push(String::new());
            }
        }
    }
    lines
}

fn show_hiccups(measured: &Measured) {
    say(format_args!(
        "\nhiccups in {:.1} s{:>10}{:>12}{:>10}{:>10}{:>10}{:>10}",
        measured.elapsed_s, "counts", "over 1 ms", "p99", "p99.9", "max", "in all"
    ));
    for core in &measured.hiccups {
        let times = [core.p99_ns, core.p99_9_ns, core.max_ns, core.stolen_ns];
        let [p99, p99_9, max, in_all] = times.map(|time_ns| time(time_ns as f64));
        say(format_args!(
            "  core {:<11}{:>10}{:>12}{p99:>10}{p99_9:>10}{max:>10}{in_all:>10}",
            core.core,
            count(core.count),
            count(core.over_1_ms),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_break_between_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("0123456789 a", 4), ["0123", "4567", "89 a"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
