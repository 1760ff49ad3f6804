//! Goal: the service of `tuning/` is one that systemd takes, and that is well shut in.

mod support;

use std::{fs, path::Path, process::Command};

use support::{skip, tuned_host::exists};
use tempfile::TempDir;

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
