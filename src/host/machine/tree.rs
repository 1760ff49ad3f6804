//! The kernel's files under one root, `/` in earnest and a recorded machine in tests, with the reason
//! where one can't be read.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Serialize;

use crate::host::cpulist;

/// Bytes read of a file at most: `/proc/interrupts` of a thousand cores has some ten million.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// Characters shown of a file that makes no sense.
const SHOWN_MAX: usize = 32;

/// What the kernel says, or why that can't be told.
pub type Fact<T> = Result<T, Unavailable>;

/// Why something can't be told. On virtual machines and in containers much can't.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Unavailable {
    /// The file or the program that should have told it.
    pub path: String,
    /// What it did instead.
    pub reason: String,
}

impl Unavailable {
    /// Makes one of a file or program and its failure.
    pub(crate) fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            reason: reason.into(),
        }
    }
}

/// The root. Paths are given as the kernel's documentation writes them, with the slash in front.
#[derive(Clone, Debug)]
pub(crate) struct Tree(PathBuf);

impl Tree {
    pub(crate) fn at(root: &Path) -> Self {
        Self(root.to_owned())
    }

    fn place(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// Reads a file as text, without white space around it.
    pub(crate) fn text(&self, path: &str) -> Fact<String> {
        let read = || {
            let mut text = String::new();
            let file = File::open(self.place(path))?;
            file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
            Ok(text.trim().to_owned())
        };
        read().map_err(|error: io::Error| Unavailable::new(path, reason(&error)))
    }

    /// Reads a file that `parse` makes sense of. `what` says what it should be.
    pub(crate) fn parse<T>(
        &self,
        path: &str,
        what: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Fact<T> {
        let text = self.text(path)?;
        parse(&text).ok_or_else(|| {
            let shown: String = text.chars().take(SHOWN_MAX).collect();
            Unavailable::new(path, format!("\"{}\" is not {what}", shown.escape_debug()))
        })
    }

    pub(crate) fn number<T: FromStr>(&self, path: &str) -> Fact<T> {
        self.parse(path, "a number", |text| text.parse().ok())
    }

    pub(crate) fn cores(&self, path: &str) -> Fact<Vec<usize>> {
        self.parse(path, "a list of cores", |text| {
            cpulist::parse_kernel(text).ok()
        })
    }

    /// Returns what is in a folder, sorted; nothing where it can't be read.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.place(path)).into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// Returns the numbers of what is in a folder and called `prefix` and a number, ascending.
    pub(crate) fn numbered(&self, path: &str, prefix: &str) -> Vec<usize> {
        let names = self.names(path);
        let numbers = names.iter().filter_map(|name| name.strip_prefix(prefix));
        let mut numbers: Vec<usize> = numbers.filter_map(|number| number.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "not there".to_owned(),
        io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        io::ErrorKind::InvalidData => "not text".to_owned(),
        // Without the number that the standard library adds.
        _ => error
            .to_string()
            .split(" (os error")
            .next()
            .map_or_else(String::new, str::to_owned),
    }
}
