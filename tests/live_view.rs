//! Goal: `--tui` draws on a real terminal of any size, takes its keys, and gives the terminal back on every way
//! out. The terminal is tmux's; without tmux the tests skip with a line.

mod support;

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use pinfeed::clock::Deadline;
use support::{LIMIT, Pinfeed, skip};

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

    /// Checks that the shell has its terminal back: what is typed is echoed, once, and lines are whole.
    fn assert_usable(&self) {
        self.tmux(&["clear-history"]);
        self.type_line("clear; stty -a | grep -c -w -e '-echo' -e '-icanon'; echo back");
        let shown = self.wait_until("the shell", |shown| shown.contains("\nback"));
        assert!(
            shown.lines().any(|line| line == "0"),
            "echo and lines:\n{shown}"
        );
        self.type_line("echo typed");
        self.wait_until("an echo", |shown| {
            shown.contains("ready> echo typed") && shown.lines().any(|line| line == "typed")
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
                .contains("--tui = true: standard error is no terminal"),
            "{}",
            process.said
        );
    }
}
