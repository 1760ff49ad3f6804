//! Goal: the scripts of `tuning/` do all of what they are asked or nothing of it, a dry run changes nothing, and `undo`
//! restores every byte. On a made tree of /sys and /proc; cards of a network namespace and the machine's own cgroups
//! where these are permitted.

mod support;

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rustix::process::getuid;
use support::skip;
use tempfile::TempDir;

/// What the kernel refuses to take a core in, also from root, and what it lets nobody open for writing.
const REFUSES: &str = "/proc/self/setgroups";
const UNWRITABLE: &str = "/proc/sys/kernel/ostype";

/// Settings of a card, as files that the `ethtool` of these tests keeps.
const SETTINGS: [&str; 4] = ["adaptive-rx", "rx-usecs", "rx-frames", "combined"];

/// A tree with four cores, cards and a cgroup.
struct Host {
    root: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            root: TempDir::new().unwrap(),
        };
        host.put("sys/devices/system/cpu/online", "0-3\n");
        host.put("sys/devices/system/cpu/isolated", "\n");
        host.put("proc/sys/kernel/random/boot_id", "a\n");
        // 99 is a vector that the driver does not use.
        for vector in [40, 41, 42, 99] {
            let path = format!("sys/class/net/eth1/device/msi_irqs/{vector}");
            host.put(&path, "msix\n");
        }
        for (interrupt, cores) in [(40, "0-3"), (41, "2"), (42, "0,3"), (50, "1-2"), (60, "3")] {
            host.put(&affinity(interrupt), &format!("{cores}\n"));
        }
        // This one is known by its interrupts' names alone; eth10 is another.
        host.put("sys/class/net/eth2/mtu", "1500\n");
        host.put(
            "proc/interrupts",
            "      CPU0  CPU1  CPU2  CPU3\n 41: 1 2 3 4 PCI-MSI eth10-rx-0\n 50: 1 2 3 4 PCI-MSI eth2-rx-0\n",
        );
        // And this one has them a level up.
        host.put("sys/devices/pci/msi_irqs/60", "msix\n");
        host.put("sys/devices/pci/virtio2/status", "\n");
        host.put("sys/class/net/eth3/mtu", "1500\n");
        let device = host.path("sys/class/net/eth3/device");
        symlink("../../../devices/pci/virtio2", device).unwrap();
        host.put("sys/class/net/lo/mtu", "65536\n");
        host.put("sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory\n");
        host.put("sys/fs/cgroup/cgroup.subtree_control", "cpuset cpu\n");
        host.put("sys/fs/cgroup/cgroup.procs", "");
        host.put("sys/fs/cgroup/user/cgroup.procs", "777\n");
        host.put("proc/777/cgroup", "0::/user\n");
        host.put("proc/777/comm", "cat\n");
        host.put("proc/777/stat", &stat(777, 1, 100));
        fs::create_dir_all(host.path("var/lib")).unwrap();
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Has a file lead to one of the kernel's.
    fn lead(&self, path: &str, to: &str) {
        fs::remove_file(self.path(path)).unwrap();
        symlink(to, self.path(path)).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Has a card that the `ethtool` of these tests sets.
    fn put_card(&self, card: &str, values: [&str; 4]) {
        self.put(&format!("sys/class/net/{card}/mtu"), "1500\n");
        for (setting, value) in SETTINGS.iter().zip(values) {
            self.put(&format!("cards/{card}/{setting}"), &format!("{value}\n"));
        }
    }

    /// What that one sets.
    fn card(&self, card: &str) -> [String; 4] {
        let setting = |name| self.read(&format!("cards/{card}/{name}"));
        SETTINGS.map(|name| setting(name).trim().to_owned())
    }

    fn command(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = tuning(script);
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fake");
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([fake].into_iter().chain(env::split_paths(&path)));
        command
            .env("PINFEED_ROOT", self.root.path())
            .env("FAKE_CARDS", self.path("cards"))
            .env("PATH", path.unwrap())
            .args(arguments);
        command
    }

    fn done(&self, script: &str, arguments: &[&str]) -> String {
        done(&mut self.command(script, arguments))
    }

    /// Asserts that a command fails with one error that has `text` in it, and changes nothing.
    fn refused(&self, script: &str, arguments: &[&str], code: i32, text: &str) {
        let before = self.all();
        let output = self.command(script, arguments).output().unwrap();
        refused(&output, code, text);
        assert_eq!(self.all(), before, "{script} {arguments:?}");
    }

    /// Every folder and file, with its content or where it leads.
    fn all(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let content = if path.is_symlink() {
                    let to = fs::read_link(&path).unwrap();
                    to.into_os_string().into_encoded_bytes()
                } else if path.is_dir() {
                    folders.push(path.clone());
                    Vec::new()
                } else {
                    fs::read(&path).unwrap()
                };
                all.insert(path, content);
            }
        }
        all
    }
}

fn affinity(interrupt: u32) -> String {
    format!("proc/irq/{interrupt}/smp_affinity_list")
}

/// What the kernel says of a process with an odd name, by its parent and when it was started.
fn stat(process: u32, parent: u32, start: u32) -> String {
    let between = " 0".repeat(17);
    format!("{process} (a) b) S {parent}{between} {start} 0\n")
}

fn tuning(script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning");
    let mut command = Command::new(folder.join(script));
    command.env_remove("PINFEED_STATE").stdin(Stdio::null());
    command
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(output: &Output, code: i32, text: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(said.matches("Error: ").count(), 1, "{said}");
    let error = said.lines().last().unwrap();
    assert!(
        error.starts_with("Error: ") && error.contains(text),
        "{said}"
    );
}

fn exists(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[test]
fn interrupts_move_to_the_given_cores_and_back() {
    let host = Host::new();
    let before = host.all();
    let plan = host.done(
        "irq-affinity",
        &["--dry-run", "0-1", "eth1", "eth2", "eth3"],
    );
    let wanted = [
        "interrupt 40 of eth1: 0-3 -> 0",
        "interrupt 41 of eth1: 2 -> 1",
        "interrupt 42 of eth1: 0,3 -> 0",
        "interrupt 50 of eth2: 1-2 -> 1",
        "interrupt 60 of eth3: 3 -> 0",
    ];
    assert_eq!(plan.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(host.all(), before, "a dry run changes nothing");

    host.done("irq-affinity", &["0-1", "eth1", "eth2", "eth3"]);
    for (interrupt, core) in [(40, 0), (41, 1), (42, 0), (50, 1), (60, 0)] {
        assert_eq!(host.read(&affinity(interrupt)), format!("{core}\n"));
    }
    let again = host.done("irq-affinity", &["0-1", "eth1", "eth2", "eth3"]);
    assert!(again.starts_with("nothing to change"), "{again}");
    // What was there first is what counts, not what another move found.
    host.done("irq-affinity", &["3", "eth1"]);
    assert_eq!(host.read(&affinity(40)), "3\n");

    let moved = host.all();
    let plan = host.done("irq-affinity", &["undo", "--dry-run"]);
    assert!(plan.contains("interrupt 40: 3 -> 0-3\n"), "{plan}");
    assert_eq!(host.all(), moved, "a dry run changes nothing");
    host.done("irq-affinity", &["undo"]);
    assert_eq!(host.all(), before);
}

#[test]
fn all_interrupts_move_or_none() {
    let host = Host::new();
    host.lead(&affinity(42), REFUSES);
    host.refused("irq-affinity", &["3", "eth1"], 1, "interrupt 42 of eth1");
    // Also where some were moved before, which can still be undone.
    let before = host.all();
    host.done("irq-affinity", &["3", "eth2"]);
    host.refused("irq-affinity", &["3", "eth1"], 1, "interrupt 42 of eth1");
    host.done("irq-affinity", &["undo"]);
    assert_eq!(host.all(), before);

    host.lead(&affinity(42), UNWRITABLE);
    host.refused("irq-affinity", &["3", "eth1"], 1, "be root");
}

#[test]
fn an_interrupt_that_is_of_another_card_by_now_is_left_alone() {
    let host = Host::new();
    host.done("irq-affinity", &["3", "eth1", "eth2", "eth3"]);
    let vector = |card, irq| format!("sys/class/net/{card}/device/msi_irqs/{irq}");
    fs::remove_file(host.path(&vector("eth1", 42))).unwrap();
    host.put(&vector("eth4", 42), "msix\n");
    // And a card that is gone altogether.
    host.put("proc/interrupts", "      CPU0  CPU1  CPU2  CPU3\n");
    let output = host.command("irq-affinity", &["undo"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("interrupt 42, which went to cores 0,3, is not of eth1"));
    assert!(said.contains("interrupt 50, which went to cores 1-2, is not of eth2"));
    for (interrupt, cores) in [(40, "0-3"), (41, "2"), (42, "3"), (50, "3"), (60, "3")] {
        assert_eq!(host.read(&affinity(interrupt)), format!("{cores}\n"));
    }
}

#[test]
fn bad_input_is_one_error_and_no_change() {
    let host = Host::new();
    for (arguments, text) in [
        (&["0", "eth9"][..], "no network card eth9"),
        (&["0", "eth1", "eth9"], "no network card eth9"),
        (&["0", "../net/eth1"], "no name of a network card"),
        (&["4", "eth1"], "core 4 is not online"),
        (&["2-5", "eth1"], "core 4 is not online"),
        (&["3-2", "eth1"], "no list of cores"),
        (&["0,,1", "eth1"], "no list of cores"),
        (&["0-99999999", "eth1"], "no list of cores"),
        (&["", "eth1"], "no list of cores"),
        (&["0"], "give the cards"),
        (&["0", "lo"], "no interrupts"),
        (&["--fast", "0", "eth1"], "no option --fast"),
        (&["undo"], "nothing to undo"),
    ] {
        host.refused("irq-affinity", arguments, 2, text);
    }
    for (arguments, text) in [
        (&["eth9"][..], "no network card eth9"),
        (&["--queues", "0", "eth1"], "no number of queues"),
        (&["--queues", "many", "eth1"], "no number of queues"),
    ] {
        host.refused("nic-latency", arguments, 2, text);
    }
    for (arguments, text) in [
        (&["4"][..], "core 4 is not online"),
        (&["0-3"], "leave at least one"),
        (&["2", "--partition", "member"], "give isolated or root"),
        (&["2", "--pid", "778"], "no process 778"),
        (&["2", "--pid", "x"], "no process id"),
        (&["2", "3"], "a command comes after --"),
        (&["2", "--"], "give a command"),
        (
            &["2", "--pid", "777", "--", "true"],
            "either --pid or a command",
        ),
        (&["undo"], "nothing to undo"),
    ] {
        host.refused("cpuset", arguments, 2, text);
    }
}

#[test]
fn where_nothing_can_be_saved_nothing_is_changed() {
    let host = Host::new();
    let state = host.path("proc/interrupts/state");
    let before = host.all();
    for (script, arguments) in [
        ("irq-affinity", &["3", "eth1"][..]),
        ("cpuset", &["2"]),
        ("cpuset", &["2", "--pid", "777"]),
    ] {
        let output = host
            .command(script, arguments)
            .env("PINFEED_STATE", &state)
            .output()
            .unwrap();
        refused(&output, 1, "PINFEED_STATE");
        assert_eq!(host.all(), before, "{script}");
    }
}

#[test]
fn what_was_saved_before_a_restart_is_not_put_back() {
    let host = Host::new();
    host.done("irq-affinity", &["3", "eth1"]);
    host.put("proc/sys/kernel/random/boot_id", "b\n");
    host.put(&affinity(40), "0-1\n");
    host.refused("irq-affinity", &["undo"], 2, "nothing to undo");
    let before = host.read(&affinity(40));
    host.done("irq-affinity", &["2", "eth1"]);
    host.done("irq-affinity", &["undo"]);
    assert_eq!(host.read(&affinity(40)), before);
}

#[test]
fn who_moves_interrupts_back_is_named() {
    let host = Host::new();
    host.put("sys/devices/system/cpu/isolated", "3\n");
    let said = |core| {
        let output = host.command("irq-affinity", &[core, "eth1"]).output();
        String::from_utf8(output.unwrap().stderr).unwrap()
    };
    assert_eq!(said("0"), "");
    assert!(said("3").contains("core 3 is isolated"));
    host.put("proc/777/comm", "irqbalance\n");
    assert!(said("0").contains("IRQBALANCE_BANNED_CPULIST"));
}

#[test]
fn a_cpuset_takes_a_process_and_gives_it_back() {
    let host = Host::new();
    let before = host.all();
    let plan = host.done("cpuset", &["--dry-run", "2-3", "--pid", "777"]);
    assert!(
        plan.contains("none -> cores 2-3, partition isolated\n"),
        "{plan}"
    );
    assert!(plan.contains("process 777: /user -> /pinfeed\n"), "{plan}");
    assert_eq!(host.all(), before, "a dry run changes nothing");

    host.done("cpuset", &["2-3", "--pid", "777"]);
    let group = "sys/fs/cgroup/pinfeed";
    assert_eq!(host.read(&format!("{group}/cpuset.cpus")), "2-3\n");
    assert_eq!(
        host.read(&format!("{group}/cpuset.cpus.partition")),
        "isolated\n"
    );
    assert_eq!(host.read(&format!("{group}/cgroup.procs")), "777\n");
    host.refused("cpuset", &["2"], 2, "with cores 2-3");
    host.refused(
        "cpuset",
        &["2-3", "--partition", "root"],
        2,
        "partition isolated",
    );

    let there = host.all();
    host.done("cpuset", &["undo", "--dry-run"]);
    assert_eq!(host.all(), there, "a dry run changes nothing");
    // The kernel takes a process out of one when it goes to the other.
    host.put("sys/fs/cgroup/user/cgroup.procs", "");
    host.done("cpuset", &["undo"]);
    assert_eq!(host.all(), before);

    host.put(&format!("{group}/cpuset.cpus"), "1\n");
    host.refused("cpuset", &["2-3"], 2, "not of this script");
}

#[test]
fn what_runs_in_a_cpuset_goes_where_it_came_from() {
    // Its parent tells, also of a number that was another process's; the last to come tells of what has none.
    for (process, parent, home) in [(778, 777, "user"), (888, 777, "user"), (779, 1, "session")] {
        let host = Host::new();
        host.put("proc/888/cgroup", "0::/session\n");
        host.put("proc/888/stat", &stat(888, 1, 200));
        host.put("sys/fs/cgroup/session/cgroup.procs", "");
        host.done("cpuset", &["2", "--pid", "777"]);
        host.done("cpuset", &["2", "--pid", "888"]);
        host.put(&format!("proc/{process}/stat"), &stat(process, parent, 300));
        let inside = "sys/fs/cgroup/pinfeed/cgroup.procs";
        host.put(inside, &format!("{process}\n"));
        host.done("cpuset", &["undo"]);
        let home = format!("sys/fs/cgroup/{home}/cgroup.procs");
        assert_eq!(host.read(&home), format!("{process}\n"), "of {parent}");
        assert_eq!(host.read("sys/fs/cgroup/cgroup.procs"), "");
    }
}

#[test]
fn a_process_that_cannot_be_moved_changes_nothing() {
    let host = Host::new();
    let before = host.all();
    host.done("cpuset", &["2"]);
    let inside = "sys/fs/cgroup/pinfeed/cgroup.procs";
    host.put(inside, "");
    host.lead(inside, REFUSES);
    for home in ["/user", "/pinfeed"] {
        host.put("proc/777/cgroup", &format!("0::{home}\n"));
        host.refused("cpuset", &["2", "--pid", "777"], 1, "can't be moved");
    }
    fs::remove_file(host.path(inside)).unwrap();
    host.put("proc/777/cgroup", "0::/user\n");
    host.done("cpuset", &["undo"]);
    assert_eq!(host.all(), before);
}

#[test]
fn a_controller_that_others_use_stays_on() {
    let control = "sys/fs/cgroup/cgroup.subtree_control";
    for (file, stays) in [
        ("cpuset.cpus", true),
        ("cpuset.mems", true),
        ("memory.max", false),
    ] {
        let host = Host::new();
        host.put(control, "cpu\n");
        host.done("cpuset", &["2"]);
        // In a made tree this is all that is there.
        assert_eq!(host.read(control), "+cpuset\n");
        host.put(&format!("sys/fs/cgroup/user/{file}"), "0-1\n");
        let output = host.command("cpuset", &["undo"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.contains("it stays on"), stays, "{file}: {said}");
        let now = if stays { "+cpuset\n" } else { "-cpuset\n" };
        assert_eq!(host.read(control), now, "{file}");
    }
}

#[test]
fn a_cpuset_runs_a_command() {
    let host = Host::new();
    let before = host.all();
    let command = [
        "2",
        "--partition",
        "root",
        "--",
        "sh",
        "-c",
        "echo $$; exit 7",
    ];
    let output = host.command("cpuset", &command).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let process = String::from_utf8(output.stdout).unwrap();
    let group = "sys/fs/cgroup/pinfeed";
    assert_eq!(host.read(&format!("{group}/cgroup.procs")), process);
    assert_eq!(
        host.read(&format!("{group}/cpuset.cpus.partition")),
        "root\n"
    );
    // It has ended.
    host.put(&format!("{group}/cgroup.procs"), "");
    host.done("cpuset", &["undo"]);
    assert_eq!(host.all(), before);
}

#[test]
fn a_cpuset_needs_its_controller() {
    let host = Host::new();
    host.put("sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
    host.refused("cpuset", &["2"], 2, "no cpuset controller");
    fs::remove_file(host.path("sys/fs/cgroup/cgroup.controllers")).unwrap();
    host.refused("cpuset", &["2"], 2, "no cgroup v2");
}

#[test]
fn a_real_cpuset_leaves_nothing_behind() {
    let all = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_to_string(all.join("cgroup.controllers")).unwrap_or_default();
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let last = online.trim().rsplit([',', '-']).next().unwrap().to_owned();
    if !getuid().is_root() || !controllers.contains("cpuset") || last == "0" {
        skip("a cpuset takes root, cgroup v2 with its cpuset controller, and two cores");
        return;
    }
    let state = TempDir::new().unwrap();
    let name = format!("pf{}-cpuset", std::process::id());
    let cpuset = |arguments: &[&str]| {
        let mut command = tuning("cpuset");
        command.env("PINFEED_STATE", state.path().join("saved"));
        command.env("PINFEED_CPUSET", &name).args(arguments);
        command
    };
    let control = all.join("cgroup.subtree_control");
    let before = fs::read_to_string(&control).unwrap();
    let shows = "cat /proc/self/cgroup; grep Cpus_allowed_list /proc/self/status";
    let output = cpuset(&[&last, "--", "sh", "-c", shows]).output().unwrap();
    if output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&format!("0::/{name}\n")), "{said}");
        assert!(
            said.contains(&format!("Cpus_allowed_list:\t{last}\n")),
            "{said}"
        );
        done(&mut cpuset(&["undo"]));
    } else {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // An older kernel, a host that has given its cores away, and containers.
        let known = [
            "the kernel knows no partition",
            "do not become a partition: the kernel says",
            "the cpuset controller can't be turned on",
            "cannot write /sys/fs/cgroup/",
            "the kernel refuses cores",
        ];
        let known = known.into_iter().find(|text| said.contains(text));
        refused(&output, 1, known.unwrap_or("none of what is known"));
        skip(&format!("the kernel gives no cpuset here: {}", said.trim()));
    }
    assert!(!all.join(&name).exists());
    assert_eq!(fs::read_to_string(&control).unwrap(), before);
    assert!(!state.path().join("saved").exists());
}

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
fn scripts_explain_themselves() {
    for script in ["irq-affinity", "nic-latency", "cpuset"] {
        let help = done(tuning(script).arg("--help"));
        for word in ["--dry-run", "undo", "Exit codes"] {
            assert!(help.contains(word), "{script}: {help}");
        }
        let output = tuning(script).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{script} without arguments");
    }
}

#[test]
fn the_service_is_one_that_systemd_takes() {
    if !exists("systemd-analyze") {
        skip("there is no systemd-analyze");
        return;
    }
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/pinfeed.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(unit.contains("\nExecStart=/usr/local/bin/pinfeed run "));
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pinfeed.service");
    let here = unit.replace("/usr/local/bin/pinfeed", env!("CARGO_BIN_EXE_pinfeed"));
    fs::write(&path, here).unwrap();
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command.args(arguments).arg(&path).output().unwrap()
    };
    let output = analyze(&["verify"]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !said.contains("pinfeed.service"),
        "nothing to complain of: {said}"
    );
    // Ten times its exposure, from 0 to 100.
    let output = analyze(&["security", "--offline=true", "--no-pager", "--threshold=20"]);
    assert!(output.status.success(), "{output:?}");
}
