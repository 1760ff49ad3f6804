//! Goal: `tuning/cpuset` gives cores to a process or changes nothing, a dry run changes nothing, and `undo` gives all
//! back. On a made tree of /sys and /proc; and with the machine's own cgroups where these are permitted.

mod support;

use std::{fs, path::Path};

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
