//! Goal: `tuning/cpuset` gives cores to a process or changes nothing, a dry run changes nothing, and `undo` gives all
//! back. On a made tree of /sys and /proc; and with the machine's own cgroups where these are permitted.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::getuid;
use support::{
    skip,
    tuned_host::{Host, REFUSES, assert_explains_itself, done, refused, stat, tuning},
};
use tempfile::TempDir;

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

/// The machine's own cgroups, with a cpuset of this test's name.
struct Kernel {
    name: String,
    /// The last core there is.
    core: String,
    state: TempDir,
    /// What its root shares out to cgroups.
    control: String,
    _alone: MutexGuard<'static, ()>,
}

const CGROUPS: &str = "/sys/fs/cgroup";
/// There is one last core, and one controller to turn on and off.
static ALONE: Mutex<()> = Mutex::new(());

fn of_root(file: &str) -> String {
    fs::read_to_string(format!("{CGROUPS}/{file}")).unwrap_or_default()
}

impl Kernel {
    /// Finds them, or says that the test is skipped.
    fn named(test: &str) -> Option<Self> {
        let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
        let core = online.trim().rsplit([',', '-']).next().unwrap().to_owned();
        let has_cpuset = of_root("cgroup.controllers").contains("cpuset");
        if !getuid().is_root() || !has_cpuset || core == "0" {
            skip("a cpuset takes root, cgroup v2 with its cpuset controller, and two cores");
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Self {
            _alone: alone,
            name: format!("pf{}-{test}", std::process::id()),
            core,
            state: TempDir::new().unwrap(),
            control: of_root("cgroup.subtree_control"),
        })
    }

    fn cpuset(&self, arguments: &[&str]) -> Command {
        let mut command = tuning("cpuset");
        command.env("PINFEED_STATE", self.state.path().join("saved"));
        command.env("PINFEED_CPUSET", &self.name).args(arguments);
        command
    }

    /// What a command said; none, and the test is skipped, where the kernel gives no cpuset.
    fn taken(&self, arguments: &[&str]) -> Option<String> {
        let output = self.cpuset(arguments).output().unwrap();
        if output.status.success() {
            return Some(String::from_utf8(output.stdout).unwrap());
        }
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
        None
    }

    fn assert_nothing_is_left(&self) {
        assert!(!Path::new(CGROUPS).join(&self.name).exists());
        assert_eq!(of_root("cgroup.subtree_control"), self.control);
        assert!(!self.state.path().join("saved").exists());
    }
}

impl Drop for Kernel {
    /// Gives the core back where a test has failed.
    fn drop(&mut self) {
        if self.state.path().join("saved").exists() {
            let _ = self.cpuset(&["undo"]).output();
        }
    }
}

#[test]
fn a_real_cpuset_leaves_nothing_behind() {
    let Some(kernel) = Kernel::named("runs") else {
        return;
    };
    let shows = "cat /proc/self/cgroup; grep Cpus_allowed_list /proc/self/status";
    for partition in ["isolated", "root"] {
        let core = &kernel.core;
        let arguments = ["--partition", partition, core, "--", "sh", "-c", shows];
        if let Some(said) = kernel.taken(&arguments) {
            let group = format!("0::/{}\n", kernel.name);
            assert!(said.contains(&group), "{said}");
            let allowed = format!("Cpus_allowed_list:\t{core}\n");
            assert!(said.contains(&allowed), "{said}");
            done(&mut kernel.cpuset(&["undo"]));
        }
        kernel.assert_nothing_is_left();
    }
}

/// A process in a cgroup of its own; both gone when dropped.
struct AtHome {
    process: Child,
    home: PathBuf,
}

impl AtHome {
    /// Starts one, or says that the test is skipped.
    fn start(name: &str) -> Option<Self> {
        let home = Path::new(CGROUPS).join(name);
        if let Err(refused) = fs::create_dir(&home) {
            skip(&format!("no cgroup can be made here: {refused}"));
            return None;
        }
        let process = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(home.join("cgroup.procs"), process.id().to_string()).unwrap();
        Some(Self { process, home })
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.process.id())).unwrap()
    }

    fn cgroup(&self) -> String {
        let all = self.file("cgroup");
        let own = all.lines().find_map(|line| line.strip_prefix("0::/"));
        own.unwrap().to_owned()
    }

    fn cores(&self) -> String {
        let status = self.file("status");
        let mut lines = status.lines();
        let cores = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
        cores.unwrap().to_owned()
    }
}

impl Drop for AtHome {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir(&self.home);
    }
}

#[test]
fn a_real_cpuset_takes_a_core_from_all_others_and_gives_it_back() {
    let Some(kernel) = Kernel::named("takes") else {
        return;
    };
    let home = format!("{}-home", kernel.name);
    let beside = format!("{home}-beside");
    let (Some(inside), Some(beside)) = (AtHome::start(&home), AtHome::start(&beside)) else {
        return;
    };
    let (core, cores) = (&kernel.core, inside.cores());
    let everyones = of_root("cpuset.cpus.effective");
    let process = inside.process.id().to_string();
    if kernel.taken(&[core, "--pid", &process]).is_some() {
        assert_eq!(
            (inside.cgroup(), inside.cores()),
            (kernel.name.clone(), core.clone())
        );
        let partition = of_root(&format!("{}/cpuset.cpus.partition", kernel.name));
        assert_eq!(partition, "isolated\n");
        assert_ne!(of_root("cpuset.cpus.effective"), everyones);
        let others = beside.cores();
        let last = others.rsplit([',', '-']).next().unwrap();
        assert_ne!(last, core, "{others}");
        done(&mut kernel.cpuset(&["undo"]));
    }
    assert_eq!((inside.cgroup(), inside.cores()), (home, cores.clone()));
    assert_eq!(beside.cores(), cores);
    assert_eq!(of_root("cpuset.cpus.effective"), everyones);
    kernel.assert_nothing_is_left();
}

#[test]
fn bad_input_is_one_error_and_no_change() {
    let host = Host::new();
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
    for arguments in [&["2"][..], &["2", "--pid", "777"]] {
        host.refused_unsaved("cpuset", arguments);
    }
}

#[test]
fn it_explains_itself() {
    assert_explains_itself("cpuset");
}
