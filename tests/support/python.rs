//! A Python with pyzmq, for publishers that are not ours.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::skip;

/// Returns a Python that has pyzmq, in a virtual environment below `target`; or says that the test
/// is skipped.
pub fn python() -> Option<PathBuf> {
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
