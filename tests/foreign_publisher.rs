//! Goal: a publisher that is not ours, pyzmq's PUB, is ingested whole: bound and connected, with one
//! frame and with several.

mod support;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use support::{Pinfeed, assert_all_delivered, number, skip};

const MESSAGES: u64 = 50_000;
const TOPICS: u64 = 100;

/// Returns a Python that has pyzmq, in a virtual environment below `target`; or says that the test
/// is skipped.
fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let prepared = PYTHON.get_or_init(|| {
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pyzmq");
        let python = venv.join("bin/python");
        let run = |command: &mut Command| match command.output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let has_zmq = |python: &Path| run(Command::new(python).args(["-c", "import zmq"]));
        if has_zmq(&python).is_err() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
                .map_err(|error| format!("there is no Python with venv ({error})"))?;
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "pyzmq>=26,<28"]))
                .map_err(|error| format!("pyzmq could not be installed ({error})"))?;
            has_zmq(&python)?;
        }
        Ok(python)
    });
    match prepared {
        Ok(python) => Some(python.clone()),
        Err(reason) => {
            skip(reason);
            None
        }
    }
}

fn start_publisher(python: &Path, side: &str, endpoint: &str, frames: &str) -> Pinfeed {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/publisher.py");
    Pinfeed::spawn(Command::new(python).arg(script).args([
        side,
        endpoint,
        frames,
        &MESSAGES.to_string(),
        &TOPICS.to_string(),
    ]))
}

fn ingested_whole(python: &Path, side: &str, frames: &str, envelope: &str) {
    let messages = MESSAGES.to_string();
    let common = [
        "run",
        "--envelope",
        envelope,
        "--messages",
        &messages,
        "--json",
    ];
    let (mut run, mut publisher);
    if side == "bind" {
        publisher = start_publisher(python, side, "tcp://127.0.0.1:*", frames);
        let endpoint = publisher.wait_for_line("publishing on ");
        run = Pinfeed::start(&[&common[..], &["--connect", &endpoint]].concat());
    } else {
        run = Pinfeed::start(&[&common[..], &["--bind", "tcp://127.0.0.1:*"]].concat());
        let endpoint = run.wait_for_line("listening on ");
        publisher = start_publisher(python, side, &endpoint, frames);
    }
    let summary = run.json(0);
    assert_all_delivered(&summary, MESSAGES);
    assert_eq!(
        number(&summary, "topics"),
        TOPICS,
        "{side} {frames} {envelope}"
    );
    let (status, _) = publisher.finish();
    assert!(status.success(), "{}", publisher.said);
}

#[test]
fn bound_and_connected_with_one_frame_and_several() {
    let Some(python) = python() else { return };
    for side in ["bind", "connect"] {
        ingested_whole(&python, side, "1", "delimited: ");
        ingested_whole(&python, side, "2", "raw");
        ingested_whole(&python, side, "5", "raw");
    }
}
