//! A host for the scripts of `tuning/`: a made tree of /sys and /proc, with an `ethtool` of its own.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// What the kernel refuses to take a core in, also from root, and what it lets nobody open for writing.
pub const REFUSES: &str = "/proc/self/setgroups";
pub const UNWRITABLE: &str = "/proc/sys/kernel/ostype";

/// Settings of a card, as files that the `ethtool` of these tests keeps.
pub const SETTINGS: [&str; 4] = ["adaptive-rx", "rx-usecs", "rx-frames", "combined"];

/// A tree with four cores, cards and a cgroup.
pub struct Host {
    root: TempDir,
}

impl Host {
    pub fn new() -> Self {
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

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn put(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Has a file lead to one of the kernel's.
    pub fn lead(&self, path: &str, to: &str) {
        fs::remove_file(self.path(path)).unwrap();
        symlink(to, self.path(path)).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Has a card that the `ethtool` of these tests sets.
    pub fn put_card(&self, card: &str, values: [&str; 4]) {
        self.put(&format!("sys/class/net/{card}/mtu"), "1500\n");
        for (setting, value) in SETTINGS.iter().zip(values) {
            self.put(&format!("cards/{card}/{setting}"), &format!("{value}\n"));
        }
    }

    /// What that one sets.
    pub fn card(&self, card: &str) -> [String; 4] {
        let setting = |name| self.read(&format!("cards/{card}/{name}"));
        SETTINGS.map(|name| setting(name).trim().to_owned())
    }

    pub fn command(&self, script: &str, arguments: &[&str]) -> Command {
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

    pub fn done(&self, script: &str, arguments: &[&str]) -> String {
        done(&mut self.command(script, arguments))
    }

    /// Asserts that a command fails with one error that has `text` in it, and changes nothing.
    pub fn refused(&self, script: &str, arguments: &[&str], code: i32, text: &str) {
        let before = self.all();
        let output = self.command(script, arguments).output().unwrap();
        refused(&output, code, text);
        assert_eq!(self.all(), before, "{script} {arguments:?}");
    }

    /// Asserts that a command changes nothing where it can't save what there was.
    pub fn refused_unsaved(&self, script: &str, arguments: &[&str]) {
        let before = self.all();
        let output = self
            .command(script, arguments)
            .env("PINFEED_STATE", self.path("proc/interrupts/state"))
            .output()
            .unwrap();
        refused(&output, 1, "PINFEED_STATE");
        assert_eq!(self.all(), before, "{script} {arguments:?}");
    }

    /// Every folder and file, with its content or where it leads.
    pub fn all(&self) -> BTreeMap<PathBuf, Vec<u8>> {
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

pub fn affinity(interrupt: u32) -> String {
    format!("proc/irq/{interrupt}/smp_affinity_list")
}

/// What the kernel says of a process with an odd name, by its parent and when it was started.
pub fn stat(process: u32, parent: u32, start: u32) -> String {
    let between = " 0".repeat(17);
    format!("{process} (a) b) S {parent}{between} {start} 0\n")
}

pub fn tuning(script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning");
    let mut command = Command::new(folder.join(script));
    command.env_remove("PINFEED_STATE").stdin(Stdio::null());
    command
}

pub fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn refused(output: &Output, code: i32, text: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(said.matches("Error: ").count(), 1, "{said}");
    let error = said.lines().last().unwrap();
    assert!(
        error.starts_with("Error: ") && error.contains(text),
        "{said}"
    );
}

pub fn exists(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Asserts that a script says what it does when asked, and when it is told nothing.
pub fn assert_explains_itself(script: &str) {
    let help = done(tuning(script).arg("--help"));
    for word in ["--dry-run", "undo", "Exit codes"] {
        assert!(help.contains(word), "{script}: {help}");
    }
    let output = tuning(script).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{script} without arguments");
}
