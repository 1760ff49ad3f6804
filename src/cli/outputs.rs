//! Files that a command writes: never over one that is there, which becomes `FILE.1`. What a run writes is opened before
//! anything runs.

use std::{fs::File, io, path::Path};

use crate::{
    cli::say,
    error::{Error, Result},
    latency::log::{IntervalLog, keep_old},
};

/// Opens a file to be written, given by `flag`.
///
/// # Errors
/// [`Error::Config`], naming the flag.
pub(super) fn file(flag: &str, path: &Path) -> Result<File> {
    make_room(flag, path)?;
    File::create(path).map_err(|error| refused(flag, path, &error))
}

/// Begins an interval log, given by `flag`, of at most `bytes_max` bytes a file.
///
/// # Errors
/// As [`file`].
pub(super) fn log(flag: &str, path: &Path, bytes_max: u64) -> Result<IntervalLog> {
    make_room(flag, path)?;
    IntervalLog::create(path, bytes_max).map_err(|error| match error {
        Error::File { source, .. } => refused(flag, path, &source),
        other => other,
    })
}

/// Keeps a file that is there, given by `flag`, under another name.
///
/// # Errors
/// [`Error::Config`], naming the flag.
pub(super) fn make_room(flag: &str, path: &Path) -> Result<()> {
    let kept = keep_old(path).map_err(|error| refused(flag, path, &error))?;
    if let Some(kept) = kept {
        say(format_args!(
            "{} was there: it is {} now",
            path.display(),
            kept.display()
        ));
    }
    Ok(())
}

fn refused(flag: &str, path: &Path, error: &io::Error) -> Error {
    Error::config(
        flag,
        path.display(),
        format!("it can't be written ({error})"),
        "give a file in a folder that is there and may be written to",
    )
}
