//! Goal: a core that others keep busy and a process that is stopped show in the platform's hiccups, and moments
//! that a hiccup swallowed are made up for.

mod support;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use pinfeed::{
    clock::Deadline,
    host::{pin::pin_current, topology::usable_cores},
    latency::Hiccups,
    stop::Stop,
};
use rustix::process::{Pid, Signal, kill_process};
use support::LIMIT;

const MS: u64 = 1_000_000;

#[test]
fn a_busy_core_shows_to_a_thread_that_sleeps() {
    a_busy_core_shows(Hiccups::start);
}

#[test]
fn a_busy_core_shows_to_a_thread_that_spins() {
    a_busy_core_shows(Hiccups::start_spinning);
}

fn a_busy_core_shows(start: fn(&[usize]) -> pinfeed::Result<Hiccups>) {
    let core = usable_cores()[0];
    let stop = Stop::default();
    thread::scope(|scope| {
        // Also where something fails here, or its threads would be waited for forever.
        let _ending = Ending(&stop);
        for _ in 0..8 {
            scope.spawn(|| {
                pin_current("spinner", Some(core), true).expect("a core of ours");
                while !stop.requested() {
                    std::hint::spin_loop();
                }
            });
        }
        let mut hiccups = start(&[core]).expect("a core of ours");
        let deadline = Deadline::after(LIMIT);
        let mut longest_ns = 0;
        while longest_ns < MS && !deadline.passed() {
            thread::sleep(Duration::from_millis(100));
            longest_ns = longest_ns.max(hiccups.collect()[0].1.max());
        }
        assert!(longest_ns >= MS, "no hiccup above {longest_ns} ns");
    });
}

/// Requests a stop when dropped.
struct Ending<'a>(&'a Stop);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// The example that prints hiccups. Killed when dropped.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The numbers of the next line.
fn next_row(lines: &mut BufReader<ChildStdout>) -> Vec<u64> {
    let mut line = String::new();
    lines.read_line(&mut line).expect("text");
    let fields = line.trim_end().split(',');
    fields
        .map(|field| field.parse().expect("a number"))
        .collect()
}

#[test]
fn a_process_that_is_stopped_shows() {
    let folder = Path::new(env!("CARGO_BIN_EXE_pinfeed")).parent();
    let program = folder.expect("a folder").join("examples/hiccups");
    let core = usable_cores()[0].to_string();
    let mut command = Command::new(program);
    let command = command.arg(core).stdout(Stdio::piped());
    let mut example = Example(command.spawn().expect("the example is built"));
    let mut lines = BufReader::new(example.0.stdout.take().expect("a pipe"));
    lines.read_line(&mut String::new()).expect("a header");
    next_row(&mut lines);
    let stopped_ms = 400;
    let signal = |signal| kill_process(Pid::from_child(&example.0), signal).expect("it runs");
    signal(Signal::STOP);
    thread::sleep(Duration::from_millis(stopped_ms));
    signal(Signal::CONT);
    let deadline = Deadline::after(LIMIT);
    loop {
        let row = next_row(&mut lines);
        let [_, _, of_1_ms, _, _, max_ns] = row[..] else {
            panic!("six columns: {row:?}");
        };
        // Less what was the smallest lateness until then, and the time that a signal takes.
        if max_ns > (stopped_ms - 20) * MS {
            // One a millisecond.
            assert!(of_1_ms > stopped_ms - 40, "{row:?}");
            return;
        }
        assert!(!deadline.passed(), "{row:?}");
    }
}
