//! Goal: a disk that is full ends a benchmark with its reason, and leaves nothing behind.

#![allow(missing_docs)]

mod support;

use std::process::Command;

use support::{Pinfeed, skip};
use tempfile::tempdir;

/// Mounts a file system of so many bytes for one command, and says what is left on it afterwards.
const ON_SMALL_DISK: &str = "mount -t tmpfs -o size=$0 tmpfs \"$1\" || exit 77
folder=$1
shift
\"$@\" --output \"$folder\"
code=$?
echo \"left: $(ls -A \"$folder\").\" >&2
exit $code";

/// The exit code where nothing could be mounted.
const NOT_MOUNTED: i32 = 77;

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    // From one page, which not even the logs have room in, to some, which the percentiles have not.
    for bytes in ["4096", "16384", "32768"] {
        let folder = tempdir().unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", ON_SMALL_DISK, bytes])
            .arg(folder.path())
            .arg(env!("CARGO_BIN_EXE_pinfeed"))
            .args(["bench", "latency", "--rate", "2000", "--for", "500ms"])
            .args(["--warm-up", "0s", "--runs", "1"]);
        if Command::new("unshare").arg("--version").output().is_err() {
            return skip("there is no unshare");
        }
        let mut process = Pinfeed::spawn(&mut command);
        let (status, _) = process.finish();
        let said = &process.said;
        if status.code() == Some(NOT_MOUNTED) || said.contains("unshare failed") {
            return skip("mounting a small disk takes root");
        }
        assert_eq!(status.code(), Some(1), "{bytes}: {said}");
        assert!(said.contains("No space left on device"), "{bytes}: {said}");
        assert!(said.ends_with("left: .\n"), "{bytes}: {said}");
    }
}
