//! Goal: a lane receives by the network card that it is given and by no other, with both engines, by the card's
//! name or its address; it comes back when its card does; and of a feed that comes over two cards nothing is lost
//! where one of them is pulled out. In a lab of network namespaces, which takes root.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rustix::process::{Pid, Signal, getuid, kill_process, kill_process_group};
use support::{
    Pinfeed,
    control::{ask, of_lanes},
    number, skip, wait_until,
};
use tempfile::TempDir;

const MESSAGES: u64 = 100_000;
/// Packets that a card gets besides: of addresses and of neighbours, and resets.
const OTHER_PACKETS: u64 = 200;

/// A lab of its own; taken down when dropped.
struct Lab {
    name: String,
    folder: TempDir,
}

impl Lab {
    /// Names one, or says that the test is skipped.
    fn named(test: &str) -> Option<Self> {
        let has_ip = Command::new("ip").arg("-V").output().is_ok();
        if !getuid().is_root() || !has_ip {
            skip("a lab of network namespaces needs root and iproute2");
            return None;
        }
        Some(Self {
            name: format!("pf{}-{test}", std::process::id()),
            folder: TempDir::new().unwrap(),
        })
    }

    /// Builds one.
    fn up(test: &str) -> Option<Self> {
        let lab = Self::named(test)?;
        let output = lab.command(&["up"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("not permitted") {
            // As in most containers.
            skip("network namespaces are not permitted");
            return None;
        }
        assert!(output.status.success(), "{said}");
        Some(lab)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lab");
        // A shell can't trap what was ignored when it began, as below nohup and in the background of another.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP,INT,TERM").arg(lab);
        command.env("PINFEED_LAB", &self.name);
        command.env("PINFEED", env!("CARGO_BIN_EXE_pinfeed"));
        command.args(arguments);
        command
    }

    fn done(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    }

    /// Starts pinfeed on a side.
    fn pinfeed(&self, side: &str, arguments: &[&str]) -> Pinfeed {
        let pinfeed = env!("CARGO_BIN_EXE_pinfeed");
        Pinfeed::spawn(self.command(&["exec", side, pinfeed]).args(arguments))
    }

    /// Publishes behind a card, at the address that both sides have.
    fn publisher(&self, side: &str, arguments: &[&str]) -> Pinfeed {
        let fixed = ["publish", "--bind", "tcp://*:5556"];
        let mut publisher = self.pinfeed(side, &[&fixed, arguments].concat());
        publisher.wait_for_line("publishing on ");
        publisher
    }

    fn run(&self, feeds: &str, arguments: &[&str]) -> Pinfeed {
        let path: PathBuf = self.folder.path().join("feeds.toml");
        fs::write(&path, feeds).unwrap();
        let fixed = ["run", path.to_str().unwrap(), "--json"];
        self.pinfeed("sub", &[&fixed, arguments].concat())
    }

    /// As [`run`](Self::run), with a socket to ask at.
    fn controlled_run(&self, feeds: &str) -> (Pinfeed, PathBuf) {
        let socket = self.folder.path().join("pinfeed.sock");
        let mut run = self.run(feeds, &["--control", socket.to_str().unwrap()]);
        run.wait_for_line("answering at ");
        (run, socket)
    }

    /// Packets that each card has received.
    fn packets(&self) -> BTreeMap<String, u64> {
        let output = String::from_utf8(self.done(&["counters"]).stdout).unwrap();
        let line = |line: &str| {
            let (card, packets) = line.split_once(' ').unwrap();
            (card.to_owned(), packets.parse().unwrap())
        };
        output.lines().map(line).collect()
    }

    /// The command lines of processes that a script started for this lab, and that have not ended: all inherit its name.
    fn running(&self) -> Vec<String> {
        let name = format!("PINFEED_LAB={}", self.name);
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let has_name = |process: &PathBuf| {
            let all = fs::read(process.join("environ")).unwrap_or_default();
            all.split(|byte| *byte == 0)
                .any(|one| one == name.as_bytes())
        };
        processes
            .map(|process| process.path())
            .filter(has_name)
            .filter_map(|process| fs::read_to_string(process.join("cmdline")).ok())
            .collect()
    }

    /// What a card has received since.
    fn since(&self, before: &BTreeMap<String, u64>, card: &str) -> u64 {
        self.packets()[card] - before[card]
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}

/// A lane on a card that receives a feed from the address that both sides have.
fn lane(engine: &str, side: &str, tied: &str) -> String {
    format!(
        "engine = \"{engine}\"\n[[lane]]\nname = \"{side}\"\n{tied}\n[[feed]]\nname = \"prices\"\n\
         envelope = \"pinfeed\"\n[[feed.line]]\nlane = \"{side}\"\nconnect = [\"tcp://10.77.9.9:5556\"]\n"
    )
}

#[test]
fn a_lane_receives_by_its_own_card_alone() {
    let Some(lab) = Lab::up("own") else {
        return;
    };
    for engine in ["native", "libzmq"] {
        for (side, other, tied) in [
            ("a", "b", "nic = \"nic-a\""),
            ("b", "a", "nic = \"nic-b\""),
            ("a", "b", "source = \"10.77.1.1\""),
            ("b", "a", "source = \"10.77.2.1\""),
        ] {
            let case = format!("{engine}, {tied}");
            // Who is behind which card is told by the epoch of what comes.
            let publish = |side, epoch| {
                let messages = MESSAGES.to_string();
                let rate = ["--rate", "max", "--epoch", epoch, "--messages", &messages];
                lab.publisher(side, &rate)
            };
            let (_right, _wrong) = (publish(side, "1"), publish(other, "2"));
            let before = lab.packets();
            let limit = MESSAGES.to_string();
            let feeds = lane(engine, side, tied);
            let summary = lab.run(&feeds, &["--messages", &limit]).json(0);
            assert_eq!(summary["received"], MESSAGES, "{case}");
            assert_eq!(summary["lost"], 0, "{case}");
            assert_eq!(summary["balanced"], true, "{case}");
            // A card takes up to 64 KiB at once.
            let bytes = MESSAGES * 60;
            let came = lab.since(&before, &format!("nic-{side}"));
            assert!(came > bytes / 65_536, "{case}: {came} packets");
            let strayed = lab.since(&before, &format!("nic-{other}"));
            assert!(
                strayed < OTHER_PACKETS.min(came),
                "{case}: {strayed} by the other"
            );
        }
    }
}

#[test]
fn a_lane_comes_back_with_its_card() {
    let Some(lab) = Lab::up("back") else {
        return;
    };
    for engine in ["native", "libzmq"] {
        // More than the publisher and the kernel hold for a subscriber that is gone: there is more to come when the card
        // is back. Few topics, so that each of them shows what it has lost.
        let published = 4 * MESSAGES;
        let messages = published.to_string();
        let feed = ["--epoch", "3", "--topics", "10", "--messages", &messages];
        let _publisher = lab.publisher("b", &[&feed[..], &["--rate", "50000"]].concat());
        let before = lab.packets();
        // Noticed, and mended, well before the publisher has no more.
        let receive =
            "[receive]\nheartbeat_ms = 200\nheartbeat_timeout_ms = 800\nreconnect_max_ms = 200\n";
        let feeds = lane(engine, "b", "nic = \"nic-b\"") + receive;
        let (mut run, socket) = lab.controlled_run(&feeds);
        let came = || lab.since(&before, "nic-b");
        wait_until("messages come", || came() > 100);
        lab.done(&["link", "b", "down"]);
        let at_rest = came();
        wait_until("the loss of the connection is noticed", || {
            of_lanes(&socket, "disconnects") == 1
        });
        assert_eq!(
            came(),
            at_rest,
            "{engine}: nothing comes by a card pulled out"
        );
        lab.done(&["link", "b", "up"]);
        // It begins with the first subscription, so what has not come is missing, and known to be.
        let accounted = || {
            let status = ask(&socket, "status");
            number(&status, "received") + number(&status, "lost")
        };
        wait_until("all is accounted for", || accounted() == published);
        run.signal(Signal::INT);
        let summary = run.json(130);
        assert_eq!(summary["balanced"], true, "{engine}");
        let (received, lost) = (number(&summary, "received"), number(&summary, "lost"));
        assert_eq!(received + lost, published, "{engine}: {summary}");
        assert!(lost > 1_000, "{engine}: {summary}");
        let (made, ended) = (
            number(&summary, "connects"),
            number(&summary, "disconnects"),
        );
        assert_eq!(made, ended + 1, "{engine}");
    }
}

#[test]
fn of_two_copies_one_card_is_enough() {
    let Some(lab) = Lab::up("copies") else {
        return;
    };
    for engine in ["native", "libzmq"] {
        let messages = (2 * MESSAGES).to_string();
        let copy = ["--epoch", "7", "--rate", "20000", "--messages", &messages];
        let _copies = (lab.publisher("a", &copy), lab.publisher("b", &copy));
        let feeds = format!(
            "{}[[feed.line]]\nlane = \"b\"\nconnect = [\"tcp://10.77.9.9:5556\"]\n\
             [feed.arbitration]\n[[lane]]\nname = \"b\"\nnic = \"nic-b\"\n",
            lane(engine, "a", "nic = \"nic-a\"")
        );
        let before = lab.packets();
        let (mut run, socket) = lab.controlled_run(&feeds);
        let came = || lab.since(&before, "nic-a");
        wait_until("messages come", || came() > 500);
        lab.done(&["link", "a", "down"]);
        wait_until("all has come by the other card", || {
            ask(&socket, "status")["delivered"] == 2 * MESSAGES
        });
        run.signal(Signal::INT);
        let summary = run.json(130);
        lab.done(&["link", "a", "up"]);
        assert_eq!(summary["delivered"], 2 * MESSAGES, "{engine}: {summary}");
        assert_eq!(summary["lost"], 0, "{engine}");
        assert_eq!(summary["balanced"], true, "{engine}");
        assert!(number(&summary, "duplicates") > 1_000, "{engine}");
    }
}

/// To its end, and ended before: with all that run in its terminal, as by Ctrl-C, or alone, as by `kill`.
#[test]
fn a_run_leaves_nothing_behind() {
    let Some(lab) = Lab::named("run") else {
        return;
    };
    // Packets come by both cards; not before the lab is built.
    let comes = || {
        let counted = lab.command(&["counters"]).output().unwrap();
        let counted = String::from_utf8(counted.stdout).unwrap();
        let packets = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        let counts = counted.lines().filter_map(packets);
        counts.filter(|&packets| packets > 100).count() == 2
    };
    type Send = fn(Pid, Signal) -> rustix::io::Result<()>;
    let (all, alone): (Send, Send) = (kill_process_group, kill_process);
    for (end, code) in [
        (None, 0),
        (Some((all, Signal::INT)), 130),
        (Some((all, Signal::TERM)), 143),
        (Some((alone, Signal::INT)), 130),
        (Some((alone, Signal::TERM)), 143),
        (Some((alone, Signal::HUP)), 129),
    ] {
        // Longer than a test waits for anything.
        let seconds = if end.is_some() { "600" } else { "1" };
        let mut run = Pinfeed::spawn(lab.command(&["run", seconds]).process_group(0));
        if let Some((send, signal)) = end {
            wait_until("packets come, or none will", || {
                comes() || !run.is_running()
            });
            // It may have ended, for want of permission.
            let _ = send(Pid::from_raw(run.id().cast_signed()).unwrap(), signal);
        }
        let (status, output) = run.finish();
        if run.said.contains("not permitted") {
            skip("network namespaces are not permitted");
            return;
        }
        assert_eq!(status.code(), Some(code), "{}", run.said);
        assert!(
            run.said.contains("balanced: every message"),
            "{output}{}",
            run.said
        );
        assert_eq!(lab.running(), [""; 0], "{code}");
        for side in ["sub", "a", "b"] {
            let namespace = format!("/var/run/netns/{}-{side}", lab.name);
            assert!(!Path::new(&namespace).exists(), "{code}: {namespace}");
        }
    }
}
