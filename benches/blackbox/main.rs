//! The whole black box against its baselines, in one run, in turn, with the same publisher: how many
//! messages it takes a second, what each costs, and how late they are.
//!
//! `subjects.rs` has what is measured, `cases.rs` what is compared with what and the ratios that should
//! come out, `publisher.rs` the publisher: a process of its own that sends frames encoded beforehand, so
//! that nearly all of the machine is left to the subscriber. Each run checks that every message came.
//! `skew.rs` has workers whose shards move meanwhile, `stall.rs` one that stands still.
//! `prediction.rs` has no cases: it compares what `pinfeed plan` says with what the command then does.
//!
//! Latencies are measured with the publisher on a core of its own, and the subject on the others.
//!
//! `cargo bench --bench blackbox` prints Markdown tables; `-- --help` tells what can be chosen. What is
//! unplaced varies much from run to run, since the kernel decides whether two threads share a core. So:
//! compare only within one run, and only ratios.

mod cases;
mod middle;
mod prediction;
mod publisher;
mod skew;
mod stall;
mod subjects;
mod tables;

use std::fmt;

use clap::Parser;
use pinfeed::{
    clock::{Clock, Stopwatch},
    host::{huge_pages, pin::confine_current, topology::usable_cores},
};

use cases::{Case, groups, targets};
use middle::stand_if_asked;
use publisher::{Feed, Publisher, serve_if_asked};
use tables::{Measured, print_group, print_targets};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a case of a million messages is cut to when it is only to be seen to work.
const SMALL: f64 = 0.002;

/// Compare pinfeed with its baselines.
#[derive(Debug, Parser)]
#[command(name = "blackbox")]
struct Arguments {
    /// Only these groups: throughput, frames, topics, accounting, connections, between, skew, latency,
    /// stall, prediction
    groups: Vec<String>,

    /// How often each case runs, in turn with the others of its group
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Send this many times as many messages
    #[arg(long, value_name = "TIMES", default_value_t = 1.0)]
    scale: f64,

    /// Measure; cargo bench says so, and cargo test, which only wants to know whether it works, doesn't
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    // As the command does; and for the baselines likewise.
    huge_pages::decline();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if serve_if_asked(&words) || stand_if_asked(&words) {
        return;
    }
    let mut arguments = Arguments::parse();
    if !arguments.bench {
        (arguments.rounds, arguments.scale) = (1, SMALL);
    }
    // The first clock of a process takes a while.
    let _ = Clock::start();
    let mut groups = groups();
    for word in &arguments.groups {
        if word != prediction::WORD && !groups.iter().any(|group| group.word == word) {
            eprintln!("Error: there is no group {word}; --help lists them");
            std::process::exit(2);
        }
    }
    let is_wanted =
        |word: &str| arguments.groups.is_empty() || arguments.groups.iter().any(|one| one == word);
    groups.retain(|group| is_wanted(group.word));
    let cases: usize = groups.iter().map(|group| group.cases.len()).sum();
    let mut left = TimeLeft::new(cases * arguments.rounds as usize);
    let mut measured = Vec::new();
    for mut group in groups {
        let cases = std::mem::take(&mut group.cases);
        let these = measure(cases, &arguments, &mut left);
        if arguments.bench {
            print_group(&group, &these);
        }
        measured.extend(these);
    }
    if is_wanted(prediction::WORD) {
        predict(arguments.bench);
    }
    if arguments.bench && !measured.is_empty() {
        print_targets(&targets(), &measured);
    }
}

/// How much time is left, if runs go on taking what they took on average.
struct TimeLeft {
    since: Stopwatch,
    runs_done: usize,
    runs: usize,
}

impl TimeLeft {
    fn new(runs: usize) -> Self {
        Self {
            since: Stopwatch::start(),
            runs_done: 0,
            runs,
        }
    }
}

impl fmt::Display for TimeLeft {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.runs_done == 0 {
            return Ok(());
        }
        let run_s = self.since.elapsed_ns() as f64 / 1e9 / self.runs_done as f64;
        let left_s = run_s * (self.runs - self.runs_done) as f64;
        write!(out, " ({left_s:.0} s left)")
    }
}

fn predict(in_earnest: bool) {
    if !in_earnest {
        prediction::measure(&prediction::Length::SHORT);
        return;
    }
    eprintln!("{}", prediction::WORD);
    prediction::print(&prediction::measure(&prediction::Length::MEASURED));
}

fn measure(cases: Vec<Case>, arguments: &Arguments, left: &mut TimeLeft) -> Vec<Measured> {
    let mut measured: Vec<Measured> = cases
        .into_iter()
        .map(|mut case| {
            case.messages = (case.messages as f64 * arguments.scale) as u64;
            let costs = Vec::new();
            Measured { case, costs }
        })
        .collect();
    for round in 1..=arguments.rounds {
        for Measured { case, costs } in &mut measured {
            if arguments.bench {
                eprintln!("round {round} of {}: {}{left}", arguments.rounds, case.name);
            }
            let cores = Cores::share_out(&case.feed);
            confine(&cores.publisher);
            let publisher = Publisher::start(&case.feed, case.messages);
            confine(&cores.subject);
            costs.push(
                case.subject
                    .run(&case.feed, &publisher.endpoints, case.messages),
            );
            confine(&cores.all);
            left.runs_done += 1;
        }
    }
    measured
}

/// Who may run where.
struct Cores {
    publisher: Vec<usize>,
    subject: Vec<usize>,
    all: Vec<usize>,
}

impl Cores {
    /// A publisher that keeps to a rate never rests, and what shares its core makes it late: it gets one of its own, and
    /// the subject the others. Flat out, all have all.
    fn share_out(feed: &Feed) -> Self {
        let all = usable_cores();
        let (publisher, subject) = match (feed.rate, &all[..]) {
            (Some(_), [first, others @ ..]) if !others.is_empty() => {
                (vec![*first], others.to_vec())
            }
            _ => (all.clone(), all.clone()),
        };
        Self {
            publisher,
            subject,
            all,
        }
    }
}

fn confine(cores: &[usize]) {
    confine_current(cores).expect("they are usable");
}
