//! A Python with a package, for publishers and readers that are not ours.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::skip;

type Prepared = OnceLock<Result<PathBuf, String>>;

/// Returns a Python that has pyzmq; or says that the test is skipped.
pub fn python() -> Option<PathBuf> {
    static PYTHON: Prepared = OnceLock::new();
    python_with(&PYTHON, "pyzmq", "zmq", "pyzmq>=26,<28")
}

/// Returns a Python that has HdrHistogram's package; or says that the test is skipped.
pub fn python_with_hdrhistogram() -> Option<PathBuf> {
    static PYTHON: Prepared = OnceLock::new();
    python_with(&PYTHON, "hdrhistogram", "hdrh", "hdrhistogram>=0.10,<0.11")
}

/// Returns a Python that can import `module`, in a virtual environment below `target`.
fn python_with(
    prepared: &'static Prepared,
    name: &str,
    module: &str,
    requirement: &str,
) -> Option<PathBuf> {
    let prepared = prepared.get_or_init(|| {
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let python = venv.join("bin/python");
        let run = |command: &mut Command| match command.output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let import = format!("import {module}");
        let has_it = |python: &Path| run(Command::new(python).args(["-c", &import]));
        if has_it(&python).is_err() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
                .map_err(|error| format!("there is no Python with venv ({error})"))?;
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet", requirement]))
                .map_err(|error| format!("{name} could not be installed ({error})"))?;
            has_it(&python)?;
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
