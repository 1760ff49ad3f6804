//! Goal: `tuning/nic-latency` sets all of what it is asked at all cards or nothing of it, a dry run changes
//! nothing, and `undo` restores everything. With an `ethtool` of its own; and with cards of a network namespace
//! where these are permitted.

mod support;

use std::{env, fs, os::unix::fs::symlink, process::Command};

use rustix::process::getuid;
use support::{
    skip,
    tuned_host::{Host, assert_explains_itself, done, exists, refused, tuning},
};
use tempfile::TempDir;

/// A network namespace with a card of four queues; gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new(test: &str) -> Option<Self> {
        if !getuid().is_root() || !exists("ip") || !exists("ethtool") {
            skip("a card to set takes root, iproute2 and ethtool");
            return None;
        }
        let name = format!("pf{}-{test}", std::process::id());
        let output = Command::new("ip").args(["netns", "add", &name]).output();
        let said = String::from_utf8(output.unwrap().stderr).unwrap();
        if said.contains("not permitted") {
            skip("network namespaces are not permitted");
            return None;
        }
        assert_eq!(said, "");
        let namespace = Self(name);
        let card = "link add card numrxqueues 4 numtxqueues 4 type veth peer name other";
        done(namespace.run("ip").args(card.split(' ')));
        Some(namespace)
    }

    /// Adds a card that gathers packets, by number only; tells whether this kernel has such.
    fn add_tap(&self) -> bool {
        let added = self
            .run("ip")
            .args(["tuntap", "add", "tap", "mode", "tap"])
            .output();
        let output = added.unwrap();
        if !output.status.success() {
            skip(&format!(
                "no tap device: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ));
            return false;
        }
        true
    }

    /// How many packets a card gathers, as `ethtool -c` tells.
    fn gathers(&self, card: &str) -> String {
        let told = done(self.run("ethtool").args(["-c", card]));
        let line = told.lines().find(|line| line.starts_with("rx-frames:"));
        line.expect("it tells")
            .replace("rx-frames:", "")
            .trim()
            .to_owned()
    }

    /// The script, run beside these cards.
    fn nic_latency(&self, state: &TempDir, arguments: &[&str]) -> Command {
        let script = tuning("nic-latency");
        let mut command = self.run(script.get_program().to_str().unwrap());
        command.env("PINFEED_STATE", state.path().join("saved"));
        command.env_remove("PINFEED_ROOT").args(arguments);
        command
    }

    fn run(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }

    fn queues(&self) -> String {
        done(self.run("ethtool").args(["-l", "card"]))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

#[test]
fn a_card_gets_its_queues_and_goes_back() {
    let Some(namespace) = Namespace::new("queues") else {
        return;
    };
    let state = TempDir::new().unwrap();
    let latency = |arguments: &[&str]| namespace.nic_latency(&state, arguments);
    let before = namespace.queues();
    let plan = done(&mut latency(&["--dry-run", "--queues", "2", "card"]));
    assert_eq!(plan, "card: rx 4 -> 2\n");
    assert_eq!(namespace.queues(), before, "a dry run changes nothing");
    for (arguments, text) in [
        (&["--queues", "5", "card"][..], "card has at most 4 queues"),
        (&["--queues", "2", "card", "none"], "no network card none"),
        (&["undo"], "nothing to undo"),
    ] {
        refused(&latency(arguments).output().unwrap(), 2, text);
        assert_eq!(namespace.queues(), before, "{arguments:?}");
    }

    let output = latency(&["--queues", "2", "card"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("no rx-usecs to set"),
        "{output:?}"
    );
    assert!(
        namespace
            .queues()
            .ends_with("RX:\t\t2\nTX:\t\t4\nOther:\t\tn/a\nCombined:\tn/a\n")
    );
    done(&mut latency(&["--queues", "3", "card"]));
    assert_eq!(
        done(&mut latency(&["undo", "--dry-run"])),
        "card: rx 3 -> 4\n"
    );
    done(&mut latency(&["undo"]));
    assert_eq!(namespace.queues(), before);
    assert!(!state.path().join("saved").exists());
}

/// A real driver's, though one that knows no time to gather for.
#[test]
fn a_card_tells_at_once_and_goes_back() {
    let Some(namespace) = Namespace::new("tells") else {
        return;
    };
    if !namespace.add_tap() {
        return;
    }
    let state = TempDir::new().unwrap();
    let latency = |arguments: &[&str]| done(&mut namespace.nic_latency(&state, arguments));
    done(
        namespace
            .run("ethtool")
            .args(["-C", "tap", "rx-frames", "8"]),
    );
    assert_eq!(latency(&["--dry-run", "tap"]), "tap: rx-frames 8 -> 1\n");
    assert_eq!(namespace.gathers("tap"), "8", "a dry run changes nothing");
    latency(&["tap"]);
    assert_eq!(namespace.gathers("tap"), "1");
    assert!(latency(&["tap"]).starts_with("nothing to change"));
    // All cards change or none: a veth has no settings, but 9 queues are too many for it.
    let refusal = namespace
        .nic_latency(&state, &["--queues", "9", "tap", "card"])
        .output();
    refused(&refusal.unwrap(), 2, "at most");
    assert_eq!(latency(&["undo", "--dry-run"]), "tap: rx-frames 1 -> 8\n");
    latency(&["undo"]);
    assert_eq!(namespace.gathers("tap"), "8");
}

#[test]
fn a_card_that_forgets_with_new_queues_is_set_again() {
    let host = Host::new();
    host.put_card("eth1", ["on", "8", "32", "8"]);
    // All but the queues is right, until these change.
    host.put_card("eth2", ["off", "0", "1", "8"]);
    // Nothing is to change here.
    host.put_card("eth3", ["off", "0", "0", "4"]);
    let before = host.all();
    let arguments = ["--queues", "4", "eth1", "eth2", "eth3"];
    let plan = host.done("nic-latency", &[&["--dry-run"], &arguments[..]].concat());
    let wanted = [
        "eth1: adaptive-rx on -> off",
        "eth1: rx-usecs 8 -> 0",
        "eth1: rx-frames 32 -> 1",
        "eth1: combined 8 -> 4",
        "eth2: combined 8 -> 4",
    ];
    assert_eq!(plan.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(host.all(), before, "a dry run changes nothing");

    host.done("nic-latency", &arguments);
    assert_eq!(host.card("eth1"), ["off", "0", "1", "4"]);
    assert_eq!(host.card("eth2"), ["off", "0", "1", "4"]);
    assert_eq!(host.card("eth3"), ["off", "0", "0", "4"]);
    let again = host.done("nic-latency", &arguments);
    assert!(again.starts_with("nothing to change"), "{again}");

    let set = host.all();
    let plan = host.done("nic-latency", &["undo", "--dry-run"]);
    assert!(plan.contains("eth1: rx-usecs 0 -> 8\n"), "{plan}");
    assert_eq!(host.all(), set, "a dry run changes nothing");
    host.done("nic-latency", &["undo"]);
    assert_eq!(
        host.all(),
        before,
        "also what was forgotten on the way back"
    );
}

#[test]
fn all_cards_change_or_none() {
    let host = Host::new();
    host.put_card("eth1", ["on", "8", "32", "8"]);
    // As it is with new queues: it can go back without being asked.
    host.put_card("eth2", ["on", "50", "32", "8"]);
    host.put_card("eth3", ["on", "8", "32", "8"]);
    // A card in the middle refuses its queues, or what comes after them, or does not do what it has not refused.
    let error = "netlink error: Operation not supported";
    for (file, reason) in [
        ("refuses-L", error),
        ("refuses-C", error),
        ("keeps-rx-frames", "rx-frames stays 32"),
    ] {
        let refuses = format!("cards/eth2/{file}");
        host.put(&refuses, "");
        let text = format!("eth2 refuses ({reason}; be root?), so nothing");
        let arguments = ["--queues", "4", "eth1", "eth2", "eth3"];
        host.refused("nic-latency", &arguments, 1, &text);
        fs::remove_file(host.path(&refuses)).unwrap();
    }
    // What can't be put back is said, and can be put back later.
    host.put_card("eth2", ["on", "8", "32", "8"]);
    let before = host.all();
    host.put("cards/eth2/refuses-C", "");
    let arguments = ["--queues", "4", "eth1", "eth2"];
    let output = host.command("nic-latency", &arguments).output().unwrap();
    refused(&output, 1, "did not all go back: undo tries again");
    assert_eq!(host.card("eth1"), ["on", "8", "32", "8"]);
    assert_eq!(host.card("eth2"), ["on", "50", "32", "8"]);
    host.refused("nic-latency", &["undo"], 1, "eth2 (netlink error");
    fs::remove_file(host.path("cards/eth2/refuses-C")).unwrap();
    host.done("nic-latency", &["undo"]);
    assert_eq!(host.all(), before);
}

/// It says nothing for a moment, once or many times: either all is set in the end or the script says that it is not.
#[test]
fn a_card_that_cannot_be_asked_is_not_one_with_nothing_to_set() {
    for questions in (1..12).chain([1_000]) {
        let host = Host::new();
        let before = ["on", "8", "32", "8"];
        host.put_card("eth1", before);
        host.put("cards/eth1/silent", &format!("{questions}\n"));
        let arguments = ["--queues", "4", "eth1"];
        let output = host.command("nic-latency", &arguments).output().unwrap();
        if output.status.success() {
            assert_eq!(host.card("eth1"), ["off", "0", "1", "4"], "{questions}");
            assert!(questions < 12);
        } else {
            refused(&output, 1, "eth1 refuses (");
            if host.card("eth1") != before {
                refused(&output, 1, "did not all go back: undo tries again");
            }
        }
        fs::remove_file(host.path("cards/eth1/silent")).unwrap();
        host.put("cards/eth1/left", "0\n");
        if host.path("var/lib/pinfeed").exists() {
            host.done("nic-latency", &["undo"]);
        }
        assert_eq!(host.card("eth1"), before, "{questions}");
    }
}

#[test]
fn without_ethtool_its_package_is_named() {
    let host = Host::new();
    let programs = TempDir::new().unwrap();
    let path = env::var_os("PATH").unwrap();
    for program in ["sh", "dirname", "basename", "cat"] {
        let found = env::split_paths(&path)
            .map(|folder| folder.join(program))
            .find(|program| program.is_file());
        symlink(found.unwrap(), programs.path().join(program)).unwrap();
    }
    let mut command = host.command("nic-latency", &["eth1"]);
    let output = command.env("PATH", programs.path()).output().unwrap();
    refused(&output, 2, "no ethtool; the package");
}

#[test]
fn bad_input_is_one_error_and_no_change() {
    let host = Host::new();
    for (arguments, text) in [
        (&["eth9"][..], "no network card eth9"),
        (&["--queues", "0", "eth1"], "no number of queues"),
        (&["--queues", "many", "eth1"], "no number of queues"),
    ] {
        host.refused("nic-latency", arguments, 2, text);
    }
}

#[test]
fn it_explains_itself() {
    assert_explains_itself("nic-latency");
}
