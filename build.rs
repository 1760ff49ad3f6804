//! Tells the program which commit it is built from, if it is built from a checkout of its own.

use std::{path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=src");
    // Where this is part of another repository, or none, there is nothing to tell.
    let folder = env!("CARGO_MANIFEST_DIR");
    let is_own = git(&["rev-parse", "--show-toplevel"]).is_some_and(|top| {
        Path::new(&top).canonicalize().ok() == Path::new(folder).canonicalize().ok()
    });
    if !is_own {
        return;
    }
    if let Some(head) = git(&[
        "rev-parse",
        "--path-format=absolute",
        "--git-path",
        "logs/HEAD",
    ]) {
        println!("cargo::rerun-if-changed={head}");
    }
    if let Some(commit) = git(&[
        "describe",
        "--always",
        "--dirty",
        "--exclude=*",
        "--abbrev=12",
    ]) {
        println!("cargo::rustc-env=PINFEED_GIT_COMMIT={commit}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR")])
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
