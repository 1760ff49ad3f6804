//! Goal: a lane receives by the network card that it is given and by no other, with both engines, by the card's
//! name or its address; it comes back when its card does; and of a feed that comes over two cards nothing is lost
//! where one of them is pulled out. In a lab of network namespaces, which takes root.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rustix::process::{Signal, getuid};
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
    /// Builds one, or says that the test is skipped.
    fn up(test: &str) -> Option<Self> {
        let has_ip = Command::new("ip").arg("-V").output().is_ok();
        if !getuid().is_root() || !has_ip {
            skip("a lab of network namespaces needs root and iproute2");
            return None;
        }
        let lab = Self {
            name: format!("pf{}-{test}", std::process::id()),
            folder: TempDir::new().unwrap(),
        };
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
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lab"));
        command.env("PINFEED_LAB", &self.name).args(arguments);
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
        let _publisher = lab.publisher("b", &["--rate", "20000"]);
        let before = lab.packets();
        let (mut run, socket) = lab.controlled_run(&lane(engine, "b", "nic = \"nic-b\""));
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
        wait_until("messages come again", || came() > at_rest + 1_000);
        run.signal(Signal::INT);
        let summary = run.json(130);
        assert_eq!(summary["balanced"], true, "{engine}");
        // From before and after; what was published in between is known to be missing.
        assert!(number(&summary, "received") > 1_500, "{engine}: {summary}");
        assert!(number(&summary, "lost") > 1_000, "{engine}: {summary}");
        let (made, lost) = (
            number(&summary, "connects"),
            number(&summary, "disconnects"),
        );
        assert_eq!(made, lost + 1, "{engine}");
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
