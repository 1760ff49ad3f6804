//! Goal: a publisher that is not ours, pyzmq's PUB, is ingested whole by either engine: bound and
//! connected, with one frame and with several.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use pinfeed::config::Engine;
use support::{ENGINES, Pinfeed, assert_all_delivered, skip};

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
    let topics = TOPICS.to_string();
    Pinfeed::spawn(
        Command::new(python)
            .arg(script)
            .args([side, endpoint, frames, &topics]),
    )
}

fn ingested_whole(engine: Engine, python: &Path, side: &str, frames: &str, envelope: &str) {
    let messages = MESSAGES.to_string();
    let digests = tempfile::NamedTempFile::new().expect("a file");
    let digests_path = digests.path().to_str().expect("UTF-8");
    let common = [
        "run",
        "--engine",
        engine.name(),
        "--envelope",
        envelope,
        "--messages",
        &messages,
        "--digests",
        digests_path,
        "--json",
    ];
    let (mut run, _publisher);
    if side == "bind" {
        let mut publisher = start_publisher(python, side, "tcp://127.0.0.1:*", frames);
        let endpoint = publisher.wait_for_line("publishing on ");
        run = Pinfeed::start(&[&common[..], &["--connect", &endpoint]].concat());
        _publisher = publisher;
    } else {
        run = Pinfeed::start(&[&common[..], &["--bind", "tcp://127.0.0.1:*"]].concat());
        let endpoint = run.wait_for_line("listening on ");
        _publisher = start_publisher(python, side, &endpoint, frames);
    }
    assert_all_delivered(&run.json(0), MESSAGES);
    // Topics take turns, so a run of messages without a gap has as many of each.
    let counts = fs::read_to_string(digests.path()).expect("the digests");
    let mut topics: Vec<&str> = counts
        .lines()
        .skip(1)
        .map(|row| {
            let mut fields = row.split(',');
            let topic = fields.next().expect("a topic");
            assert_eq!(
                fields.next(),
                Some("500"),
                "{engine:?} {side} {frames} {envelope}: {row}"
            );
            topic
        })
        .collect();
    topics.sort_unstable();
    let expected: Vec<String> = (0..TOPICS).map(|topic| format!("SYM{topic:03}")).collect();
    assert_eq!(topics, expected);
}

#[test]
fn bound_and_connected_with_one_frame_and_several() {
    let Some(python) = python() else { return };
    for engine in ENGINES {
        for side in ["bind", "connect"] {
            ingested_whole(engine, &python, side, "1", "delimited: ");
            ingested_whole(engine, &python, side, "2", "raw");
            ingested_whole(engine, &python, side, "5", "raw");
        }
    }
}
