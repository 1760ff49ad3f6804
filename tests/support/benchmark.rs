//! What tests of benchmarks share.

use std::{
    fs,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

use crate::support::{Pinfeed, number};

/// Starts `pinfeed bench` with these arguments.
pub fn bench(arguments: &[&str]) -> Pinfeed {
    Pinfeed::start(&[&["bench"], arguments].concat())
}

/// Generators poll the clock: two at a time would make each other late.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Repeats what a busy machine may have made invalid, as a user would, until it is not.
pub fn until_valid<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    const ATTEMPTS: usize = 8;
    let valid = (0..ATTEMPTS).find_map(|_| attempt());
    valid.expect("one of several runs has a generator that holds its rate")
}

/// Returns the names of what is in a folder, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("an entry").file_name();
        name.into_string().expect("text")
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// Counts of each stage of a run.
pub fn count(run: &Value, stage: &str) -> u64 {
    number(&run["latency_ns"][stage], "count")
}
