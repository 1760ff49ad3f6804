//! Goal: `--tui` draws on a real terminal of any size, takes its keys, and gives the terminal back on every way
//! out. The terminal is tmux's; without tmux the tests skip with a line.

mod support;

use std::{
    fs,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use pinfeed::{clock::Deadline, host::topology::usable_cores};
use rustix::thread::{CpuSet, Pid, sched_setaffinity};
use support::{LIMIT, Pinfeed, publisher, skip};

/// A shell on a terminal of its own, in a tmux server of its own.
struct Terminal {
    socket: tempfile::TempDir,
}

impl Terminal {
    /// Opens one, or says that the test is skipped.
    fn open(width: u16, height: u16) -> Option<Self> {
        let version = Command::new("tmux")
            .arg("-V")
            .stdout(Stdio::null())
            .status();
        if !version.is_ok_and(|status| status.success()) {
            skip("there is no tmux");
            return None;
        }
        let terminal = Self {
            socket: tempfile::tempdir().expect("a folder"),
        };
        let (width, height) = (width.to_string(), height.to_string());
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            "env PS1='ready> ' sh",
        ]);
        terminal.wait_for("ready>");
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(self.socket.path().join("tmux"))
            .args(arguments)
            .output()
            .expect("tmux starts");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn type_line(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press("Enter");
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn shown(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn resize(&self, width: u16, height: u16) {
        let (width, height) = (width.to_string(), height.to_string());
        self.tmux(&["resize-window", "-x", &width, "-y", &height]);
    }

    /// Waits until a text is shown, and returns all that is.
    fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |shown| shown.contains(text))
    }

    fn wait_until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let deadline = Deadline::after(LIMIT);
        loop {
            let shown = self.shown();
            if holds(&shown) {
                return shown;
            }
            assert!(!deadline.passed(), "waited too long for {what:?}:\n{shown}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end of a command that shows its exit code, and checks that it is one of these.
    fn wait_for_end(&self, codes: &[u8]) -> String {
        let shown = self.wait_for("ended with ");
        let ended = |code| {
            let end = format!("ended with {code}");
            shown.lines().any(|line| line.ends_with(&end))
        };
        assert!(codes.iter().any(ended), "not with {codes:?}:\n{shown}");
        shown
    }

    /// Checks that the shell has its terminal back: what is typed is echoed, once, and lines are whole.
    fn assert_usable(&self) {
        static TIMES: AtomicUsize = AtomicUsize::new(0);
        // Another word each time: what the last one left may still be shown.
        let word = format!("back{}", TIMES.fetch_add(1, SeqCst));
        // A key that came too late may stand in front of the prompt.
        self.wait_until("the prompt", |shown| shown.trim_end().ends_with("ready>"));
        self.tmux(&["clear-history"]);
        self.type_line(&format!(
            "clear; stty -a | grep -c -w -e '-echo' -e '-icanon'; echo {word}"
        ));
        let back = format!("\n{word}\nready>");
        let shown = self.wait_until("the shell", |shown| shown.contains(&back));
        assert!(
            shown.lines().any(|line| line == "0"),
            "echo and lines:\n{shown}"
        );
        self.type_line("echo typed");
        self.wait_until("an echo", |shown| {
            shown.contains("ready> echo typed\ntyped\nready>")
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let socket = self.socket.path().join("tmux");
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(socket)
            .arg("kill-server")
            .status();
    }
}

/// The command line of a demo that shows its exit code at the end. Standard output goes to `output`.
fn demo(arguments: &str, output: &std::path::Path) -> String {
    let program = env!("CARGO_BIN_EXE_pinfeed");
    let output = output.display();
    format!("{program} demo --tui --rate 20000 {arguments} >{output}; echo ended with $?")
}

#[test]
fn the_view_fills_terminals_of_any_size_and_takes_keys() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let summary = folder.path().join("summary");
    terminal.type_line(&demo("--for 120s --json", &summary));
    let shown = terminal.wait_until("messages", |shown| {
        shown.contains("receiving") && shown.contains("worker-1")
    });
    for panel in [
        "msg/s, the last minute",
        "latency",
        "lanes",
        "workers",
        "losses",
        "what went wrong",
    ] {
        assert!(shown.contains(panel), "{panel:?} is not in\n{shown}");
    }
    assert!(
        !shown.contains("busiest topics"),
        "no room for that:\n{shown}"
    );
    assert!(shown.lines().count() == 24 && shown.lines().all(|line| line.chars().count() <= 80));
    terminal.resize(200, 50);
    let shown = terminal.wait_until("all panels", |shown| {
        shown.contains("busiest topics") && shown.contains("sim.0")
    });
    for panel in ["feeds", "threads", "lines that are copies"] {
        assert!(shown.contains(panel), "{panel:?} is not in\n{shown}");
    }
    terminal.resize(30, 6);
    terminal.wait_for("is too small");
    terminal.resize(80, 24);
    terminal.press("s");
    terminal.wait_for("sort: by rate");
    terminal.press("?");
    terminal.wait_for("end cleanly");
    terminal.press("?");
    terminal.press("p");
    let held = terminal.wait_for("PAUSED");
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(
        terminal.shown(),
        held,
        "a picture that is held does not change"
    );
    terminal.press("p");
    terminal.wait_until("the picture to go on", |shown| shown.contains("receiving"));
    terminal.press("q");
    let shown = terminal.wait_for("ended with 0");
    assert!(
        shown.contains("balanced: every message"),
        "the summary follows:\n{shown}"
    );
    terminal.assert_usable();
    let summary = std::fs::read_to_string(summary).expect("a file");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("one JSON object");
    assert_eq!(summary["balanced"], true, "{summary}");
}

#[test]
fn the_terminal_is_given_back_after_keys_and_signals() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    let nothing = std::path::Path::new("/dev/null");
    terminal.type_line(&demo("--for 120s", nothing));
    terminal.wait_for("receiving");
    terminal.press("C-c");
    let shown = terminal.wait_for("ended with 130");
    assert!(
        shown.contains("balanced: every message"),
        "after a clean drain:\n{shown}"
    );
    terminal.assert_usable();

    // By itself, when all is published.
    terminal.type_line(&demo("--for 1s", nothing));
    terminal.wait_for("ended with 0");
    terminal.assert_usable();

    let program = env!("CARGO_BIN_EXE_pinfeed");
    terminal.type_line(&format!(
        "timeout --foreground --preserve-status 8 {program} run --tui --bind tcp://127.0.0.1:*; \
         echo ended with $?"
    ));
    terminal.wait_for("not connected");
    terminal.wait_for("ended with 143");
    terminal.assert_usable();

    // Twice at once: the second one does not wait for what the first one asked for, unless that was done before.
    terminal.type_line(&demo("--for 120s", nothing));
    terminal.wait_for("receiving");
    terminal.tmux(&["send-keys", "q", "q"]);
    terminal.wait_until("its end", |shown| {
        shown.contains("ended with 130") || shown.contains("ended with 0")
    });
    // A key that came too late is the shell's.
    terminal.press("C-u");
    terminal.assert_usable();
}

/// A thread of another process, as the kernel tells of it.
struct Thread(String);

impl Thread {
    /// Finds it by its name.
    fn of(process: &str, name: &str) -> Self {
        let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
        let folders = threads.map(|thread| thread.expect("a thread").path().display().to_string());
        let mut named = folders.filter(|thread| {
            let found = fs::read_to_string(format!("{thread}/comm"));
            found.is_ok_and(|found| found.trim_end() == name)
        });
        Self(named.next().expect("there is one with this name"))
    }

    fn id(&self) -> Pid {
        let (_, id) = self.0.rsplit_once('/').expect("a path");
        let id = id.parse().expect("a number");
        Pid::from_raw(id).expect("not 0")
    }

    /// What stands behind a word in one of its files, if the kernel has that.
    fn counter(&self, file: &str, word: &str) -> Option<u64> {
        let text = fs::read_to_string(format!("{}/{file}", self.0)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(word))?;
        line.trim_matches([' ', ':', '\t']).parse().ok()
    }

    fn core(&self) -> String {
        let stat = fs::read_to_string(format!("{}/stat", self.0)).expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let core = fields.split_whitespace().nth(36);
        core.expect("the field 39 of proc(5)").to_owned()
    }
}

/// What the panel of threads shows in a thread's row below a title. Numbers end where their titles do.
fn of_thread(shown: &str, name: &str, title: &str) -> Option<String> {
    let mut lines = shown
        .lines()
        .map(|line| line.chars().collect::<Vec<char>>());
    let place = |line: &[char], text: &str| {
        let text: Vec<char> = text.chars().collect();
        line.windows(text.len()).position(|here| here == text)
    };
    // Another panel stands to its left.
    let (left, right) = lines.find_map(|line| {
        let end = place(&line, title)? + title.len();
        place(&line, "tied to").and(Some((place(&line, "thread")?, end)))
    })?;
    let row = lines.find(|line| {
        line.get(left..)
            .is_some_and(|row| place(row, name) == Some(0))
    })?;
    let cell: String = row.get(left..right)?.iter().collect();
    cell.split_whitespace().last().map(str::to_owned)
}

/// Of a run on cores that are named, by what the kernel tells of its threads; also once one is moved to another core.
#[test]
fn the_view_shows_where_threads_run_and_what_moves_them() {
    let [first, .., last] = usable_cores()[..] else {
        skip("threads that are moved take two cores");
        return;
    };
    let Some(terminal) = Terminal::open(200, 50) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("process");
    let (_publisher, endpoint) = publisher(&["--rate", "1000", "--for", "120s"]);
    let program = env!("CARGO_BIN_EXE_pinfeed");
    // In the order that no kernel chooses by itself, and one core for both once the lane is moved.
    terminal.type_line(&format!(
        "sh -c 'echo $$ >{}; exec {program} run --tui --envelope pinfeed --connect {endpoint} --workers 1 \
         --cores {last},{first}'; echo ended with $?",
        file.display()
    ));
    let shows = |name: &str, title: &str, expected: &str| {
        terminal.wait_until(&format!("{expected} as {title} of {name}"), |shown| {
            of_thread(shown, name, title).as_deref() == Some(expected)
        });
    };
    for (name, core) in [("lane-0", last), ("worker-0", first)] {
        for title in ["core", "wanted", "tied to"] {
            shows(name, title, &core.to_string());
        }
    }
    let process = fs::read_to_string(file).expect("it was written");
    let lane = Thread::of(process.trim_end(), "lane-0");
    assert_eq!(lane.core(), last.to_string());
    let moves = || lane.counter("sched", "se.nr_migrations");
    let moves_before = moves();

    let mut other = CpuSet::new();
    other.set(first);
    sched_setaffinity(Some(lane.id()), &other).expect("it is ours");
    shows("lane-0", "tied to", &first.to_string());
    shows("lane-0", "core", &first.to_string());
    shows("lane-0", "wanted", &last.to_string());
    assert_eq!(lane.core(), first.to_string());
    match moves() {
        Some(moves) => {
            assert!(Some(moves) > moves_before, "{moves} {moves_before:?}");
            shows("lane-0", "moved", &moves.to_string());
        }
        None => shows("lane-0", "moved", "-"),
    }
    // It goes on growing, where others want the core.
    let taken = || {
        lane.counter("status", "nonvoluntary_ctxt_switches")
            .expect("all kernels do")
    };
    let least = taken();
    let shown = |shown: &str| of_thread(shown, "lane-0", "taken")?.parse::<u64>().ok();
    let all = terminal.wait_until("switches as counted", |all| {
        shown(all).is_none_or(|shown| shown >= least)
    });
    let most = taken();
    match shown(&all) {
        Some(shown) => assert!((least..=most).contains(&shown), "{least} {shown} {most}"),
        // Thousands are shown as 1.00k.
        None => assert!(most >= 1_000, "{most}:\n{all}"),
    }
    terminal.press("q");
    terminal.wait_for("ended with 0");
    terminal.assert_usable();
}

#[test]
fn without_a_terminal_the_view_is_refused() {
    for arguments in [
        &["demo", "--tui"][..],
        &["run", "--tui", "--connect", "tcp://127.0.0.1:5556"],
    ] {
        let mut process = Pinfeed::start(arguments);
        let (status, output) = process.finish();
        assert_eq!(
            (status.code(), &output[..]),
            (Some(2), ""),
            "{}",
            process.said
        );
        assert!(
            process
                .said
                .contains("--tui: standard error is no terminal"),
            "{}",
            process.said
        );
    }
}

/// The command line of a benchmark on the whole terminal that shows its exit code at the end.
fn bench(arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_pinfeed");
    format!("{program} bench {arguments} --tui; echo ended with $?")
}

#[test]
fn a_benchmark_is_shown_as_it_goes() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.type_line(&bench(
        "latency --rate 2000 --for 3s --warm-up 0s --runs 30 --hiccups",
    ));
    let shown = terminal.wait_until("a run that is over", |shown| {
        let second = shown.contains("run-2, for");
        let row = |line: &str| line.starts_with("run-1 ") && line.contains("µs");
        second && shown.lines().any(row) && shown.contains("longest hiccup")
    });
    for part in [
        "pinfeed bench latency at 2.00k msg/s",
        " left",
        "█",
        "latency, the last second",
        "msg/s, second by second",
        "late p99",
        "q end",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    assert!(shown.lines().count() == 24 && shown.lines().all(|line| line.chars().count() <= 80));
    terminal.wait_until("latencies", |shown| {
        let feed = shown.lines().find(|line| line.starts_with("feed "));
        feed.is_some_and(|feed| feed.contains("µs") || feed.contains("ms"))
    });
    terminal.resize(200, 50);
    terminal.wait_until("all columns", |shown| {
        shown.contains("CPU/msg") && shown.lines().count() == 50
    });
    terminal.resize(30, 6);
    terminal.wait_for("is too small");
    terminal.resize(80, 24);
    terminal.press("p");
    terminal.wait_for("PAUSED");
    terminal.press("p");
    terminal.wait_until("the picture to go on", |shown| !shown.contains("PAUSED"));
    terminal.press("q");
    let shown = terminal.wait_for("ended with 130");
    assert!(
        shown.contains(": generator is process"),
        "what was said follows:\n{shown}"
    );
    terminal.assert_usable();
}

#[test]
fn every_benchmark_has_its_view() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let capture = folder.path().join("captured");
    let line = |message: u64| {
        let time_ns = 1_723_000_000_000_000_000 + message * 1_000_000;
        format!("{time_ns} {{\"stream\":\"btcusdt@trade\",\"data\":{message}}}\n")
    };
    std::fs::write(&capture, (0..1_000).map(line).collect::<String>()).expect("a capture");
    let replay = format!(
        "replay {} --speeds 1,2,4,8 --objective max\\<1h --for 500ms --warm-up 0s",
        capture.display()
    );
    for (arguments, title, row, end, codes) in [
        (
            // So many that the view is there for some seconds: three are over between two looks of a busy machine.
            "throughput --runs 20 --messages 40000",
            "bench throughput",
            "pinfeed, native",
            "pinfeed, native to, median of the rounds",
            &[0][..],
        ),
        (
            "sweep --vary workers=1,2 --runs 20 --messages 40000",
            "bench sweep of workers",
            "workers=2",
            "workers         msg/s   lowest - highest",
            &[0],
        ),
        (
            "capacity --objective queue.max\\<1ns --from 2000 --for 2s --warm-up 0s",
            "bench capacity for queue.max<1ns",
            "2.00k msg/s ",
            "p99.99       max  verdict",
            // No rate holds that.
            &[1],
        ),
        // 1 where a busy machine keeps the generator from its rate.
        (&replay, "bench replay of captured", "1x ", "1h", &[0, 1]),
    ] {
        terminal.type_line(&format!("clear; {}", bench(arguments)));
        let shown = terminal.wait_until(row, |shown| {
            let has_row = |line: &str| line.starts_with(row) && !line.contains("for 0:");
            shown.contains("results so far") && shown.lines().any(has_row)
        });
        assert!(shown.contains(title), "{shown}");
        let shown = terminal.wait_for_end(codes);
        assert!(shown.contains(end), "{end:?} is not in\n{shown}");
        terminal.assert_usable();
    }
}

#[test]
fn long_commands_say_how_much_time_is_left() {
    let Some(terminal) = Terminal::open(100, 24) else {
        return;
    };
    let program = env!("CARGO_BIN_EXE_pinfeed");
    for (arguments, codes) in [
        (
            "publish --bind tcp://127.0.0.1:* --wait-for 0 --rate 1000 --for 3s",
            &[0][..],
        ),
        ("run --bind tcp://127.0.0.1:* --for 3s", &[0]),
        // 1 where this host fails what is required.
        ("doctor --measure 3s", &[0, 1]),
        ("plan --measure 3s", &[0]),
        ("demo --for 3s --rate 1000", &[0]),
        // 1 where a busy machine keeps the generator from its rate.
        (
            "bench latency --rate 2000 --for 2s --warm-up 0s --runs 1",
            &[0, 1],
        ),
    ] {
        terminal.type_line(&format!("clear; {program} {arguments}; echo ended with $?"));
        terminal.wait_for(" s left");
        terminal.wait_for_end(codes);
    }
}
