//! A folder of results that is whole or not there: written beside its place and renamed at the end.
//!
//! While it is filled it is locked (`flock`), which ends with the process however that ends: an unlocked one is what a
//! killed benchmark left. Where a file system has no locks, nothing is taken for that.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process,
};

use hdrhistogram::Histogram;
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    io::Errno,
};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    clock::wall_ns,
    error::{Error, Result},
    latency::write_percentiles,
};

/// How folders that are being filled are called, before the process that fills them.
const TEMPORARY: &str = ".pinfeed-bench-";
/// The most bytes of a name, on all usual file systems.
const NAME_BYTES_MAX: usize = 255;
/// How often another place is tried where the last one was taken for a leftover before it was locked.
const PLACES_MAX: usize = 8;
/// Percentile files are in microseconds.
const NS_PER_US: f64 = 1e3;

/// A folder being filled. Removed, unless it is finished, when dropped.
#[derive(Debug)]
pub struct ResultFolder {
    /// Where the finished folder goes; `None` where results are not kept.
    parent: Option<PathBuf>,
    /// The parent and those above it, as far as they were made for this, the deepest first.
    made: Vec<PathBuf>,
    temporary: PathBuf,
    /// The folder itself, locked.
    _lock: Option<File>,
}

impl ResultFolder {
    /// Makes a folder in `output`, which is made where it is missing, or one that is not kept.
    ///
    /// # Errors
    /// [`Error::Config`], naming the flag `--output`, and [`Error::File`], where it can't be made.
    pub fn create(output: Option<&Path>) -> Result<Self> {
        let parent = output.map_or_else(std::env::temp_dir, Path::to_owned);
        let missing = parent
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        // From here on what is made is removed where something fails.
        let mut folder = Self {
            parent: output.map(Path::to_owned),
            made: missing.map(Path::to_owned).collect(),
            temporary: PathBuf::new(),
            _lock: None,
        };
        let made = fs::create_dir_all(&parent).and_then(|()| folder.make(&parent));
        made.map_err(|error| match output {
            Some(output) => Error::config(
                "--output",
                output.display(),
                format!("no folder can be made there ({error})"),
                "give a folder that you may write to, or a place for one",
            ),
            None => Error::file(&parent)(error),
        })?;
        Ok(folder)
    }

    /// Makes the folder to be filled, and locks it.
    fn make(&mut self, parent: &Path) -> io::Result<()> {
        for _ in 0..PLACES_MAX {
            // The time beside the number, which may be that of a process that was killed.
            let name = format!("{TEMPORARY}{}-{}", process::id(), wall_ns());
            self.temporary = parent.join(name);
            fs::create_dir(&self.temporary)?;
            self._lock = match lock(&self.temporary) {
                // Another benchmark takes it for a leftover, and is about to remove it.
                Err(Errno::WOULDBLOCK) => continue,
                lock => lock.ok(),
            };
            if self.temporary.exists() {
                return Ok(());
            }
        }
        Err(io::Error::other(
            "another process took each that was made for a leftover",
        ))
    }

    /// Removes what processes that are no more left beside this folder, and returns it.
    #[must_use]
    pub fn remove_leftovers(&self) -> Vec<PathBuf> {
        let beside = self.temporary.parent().map(fs::read_dir);
        let entries = beside.into_iter().flatten().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| remove_leftover(path))
            .collect()
    }

    /// Returns where a file of this name stands until the folder is finished.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temporary.join(name)
    }

    /// Writes a file as a whole.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_with(name, |out| out.write_all(bytes))
    }

    /// Writes a histogram of nanoseconds as percentiles in microseconds.
    pub(super) fn write_percentiles(&self, name: &str, histogram: &Histogram<u64>) -> Result<()> {
        self.write_with(name, |out| write_percentiles(out, histogram, NS_PER_US))
    }

    fn write_with(
        &self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<()> {
        let path = self.path(name);
        let mut out = BufWriter::new(File::create(&path).map_err(Error::file(&path))?);
        write(&mut out)
            .and_then(|()| out.flush())
            .and_then(|()| out.get_ref().sync_all())
            .map_err(Error::file(&path))
    }

    /// Writes `summary.json` and puts the folder in its place, named by `name`, cut short where it is too long for a
    /// name, and a hash of the summary. Returns the place, unless results are not kept.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn finish(self, name: &str, summary: &impl Serialize) -> Result<Option<PathBuf>> {
        let Some(parent) = &self.parent else {
            return Ok(None);
        };
        let json = serde_json::to_vec_pretty(summary)
            .map_err(|error| Error::file(self.path("summary.json"))(error.into()))?;
        self.write("summary.json", &json)?;
        let hash = format!("-{:08x}", xxh3_64(&json) as u32);
        let mut name = name.to_owned();
        while name.len() + hash.len() > NAME_BYTES_MAX {
            name.pop();
        }
        let place = parent.join(name + &hash);
        fs::rename(&self.temporary, &place).map_err(Error::file(&place))?;
        Ok(Some(place))
    }
}

impl Drop for ResultFolder {
    fn drop(&mut self) {
        // Neither is there to be removed once the folder is finished: the parent is not empty then.
        let _ = fs::remove_dir_all(&self.temporary);
        for made in &self.made {
            let _ = fs::remove_dir(made);
        }
    }
}

/// Locks a folder until the file is dropped.
///
/// # Errors
/// [`Errno::WOULDBLOCK`] where another one has it locked; others where it is gone, or there are no locks.
fn lock(folder: &Path) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let file = File::from(open(folder, flags, Mode::empty())?);
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// Removes a folder that nobody fills any more, and returns whether it was one.
fn remove_leftover(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    if !name.is_some_and(|name| name.starts_with(TEMPORARY)) || !path.is_dir() {
        return false;
    }
    // Locked meanwhile, so that two do not remove the same one.
    let lock = lock(path);
    // What can't be removed is another one's.
    lock.is_ok() && fs::remove_dir_all(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_folder_is_whole_or_not_there() {
        let parent = tempfile::tempdir().unwrap();
        let output = parent.path().join("results");
        let given_up = ResultFolder::create(Some(&output)).unwrap();
        given_up.write("runs.csv", b"half").unwrap();
        drop(given_up);
        assert!(!output.exists(), "what was made for it is gone, too");

        let folder = ResultFolder::create(Some(&output)).unwrap();
        folder.write("runs.csv", b"run\n").unwrap();
        let place = folder.finish("latency", &[1, 2]).unwrap().unwrap();
        assert_eq!(
            names(&output),
            [place.file_name().unwrap().to_str().unwrap()]
        );
        let mut files = names(&place);
        files.sort();
        assert_eq!(files, ["runs.csv", "summary.json"]);
    }

    #[test]
    fn parents_that_were_made_are_removed_as_well() {
        let parent = tempfile::tempdir().unwrap();
        let output = parent.path().join("a/b/c");
        drop(ResultFolder::create(Some(&output)).unwrap());
        assert_eq!(names(parent.path()), [""; 0]);

        fs::create_dir(parent.path().join("a")).unwrap();
        drop(ResultFolder::create(Some(&output)).unwrap());
        assert_eq!(names(parent.path()), ["a"], "it was there before");

        let in_the_way = parent.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        let error = ResultFolder::create(Some(&in_the_way.join("x/y"))).unwrap_err();
        assert!(error.to_string().starts_with("--output = "), "{error}");
    }

    #[test]
    fn what_the_dead_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        // As if of this process, which lives: what counts is who holds the lock.
        let dead = parent
            .path()
            .join(format!("{TEMPORARY}{}-1", process::id()));
        let other = parent.path().join("latency-rate1");
        for path in [&dead, &other] {
            fs::create_dir(path).unwrap();
        }
        fs::write(dead.join("run-1.hlog"), "half").unwrap();
        let alive = ResultFolder::create(Some(parent.path())).unwrap();
        let folder = ResultFolder::create(Some(parent.path())).unwrap();
        assert_eq!(folder.remove_leftovers(), slice::from_ref(&dead));
        assert!(!dead.exists() && alive.temporary.exists() && other.exists());
        alive.write("runs.csv", b"run\n").unwrap();
    }

    #[test]
    fn a_name_that_is_too_long_is_cut() {
        let parent = tempfile::tempdir().unwrap();
        let folder = ResultFolder::create(Some(parent.path())).unwrap();
        let name = format!("sweep-topics{}", "é".repeat(300));
        let place = folder.finish(&name, &[1]).unwrap().unwrap();
        let [kept] = &names(parent.path())[..] else {
            panic!("one folder: {:?}", names(parent.path()));
        };
        assert!(
            place.ends_with(kept) && kept.len() <= NAME_BYTES_MAX,
            "{kept}"
        );
        let (start, hash) = kept.rsplit_once('-').unwrap();
        assert!(name.starts_with(start) && hash.len() == 8, "{kept}");
    }

    #[test]
    fn a_full_disk_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let folder = ResultFolder::create(Some(parent.path())).unwrap();
        // What is written there finds no space.
        std::os::unix::fs::symlink("/dev/full", folder.path("runs.csv")).unwrap();
        let error = folder.write("runs.csv", &[b'x'; 100_000]).unwrap_err();
        assert!(error.to_string().contains("runs.csv"), "{error}");
        drop(folder);
        assert_eq!(names(parent.path()), [""; 0]);
    }
}
