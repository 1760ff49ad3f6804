//! Configuration files that are looked at and not run, and where in a file something stands.

use std::path::Path;

use crate::{config::Config, error::Result};

/// Reads a configuration, changes it as flags say, and checks it in itself: for whatever machine. A part of one, which
/// does not say yet where feeds come from, is taken as it is.
pub(super) fn load(path: &Path, change: impl FnOnce(&mut Config)) -> Result<Config> {
    let mut config = Config::load(path)?;
    change(&mut config);
    if !config.feeds.is_empty() {
        let checked = config.check();
        checked.map_err(|error| error.with_key(|key| in_file(path, &key)))?;
    }
    Ok(config)
}

/// A key of a file, with the place where it stands.
pub(super) fn in_file(path: &Path, key: &str) -> String {
    match Config::locate(path, key) {
        Some((line, column)) => format!("{}:{line}:{column}: {key}", path.display()),
        None => format!("{}: {key}", path.display()),
    }
}
