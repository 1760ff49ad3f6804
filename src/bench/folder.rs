//! A folder of results that is whole or not there: written beside its place and renamed at the end.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process,
};

use hdrhistogram::Histogram;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    clock::wall_ns,
    error::{Error, Result},
    latency::write_percentiles,
};

/// Percentile files are in microseconds.
const NS_PER_US: f64 = 1e3;

/// A folder being filled. Removed, unless it is finished, when dropped.
#[derive(Debug)]
pub struct ResultFolder {
    /// Where the finished folder goes; `None` where results are not kept.
    parent: Option<PathBuf>,
    /// The parent, if it was made for this.
    made: Option<PathBuf>,
    temporary: PathBuf,
}

impl ResultFolder {
    /// Makes a folder in `output`, which is made where it is missing, or one that is not kept.
    ///
    /// # Errors
    /// [`Error::File`] where it can't be made.
    pub fn create(output: Option<&Path>) -> Result<Self> {
        let made = output.filter(|path| !path.exists()).map(Path::to_owned);
        if let Some(path) = output {
            fs::create_dir_all(path).map_err(Error::file(path))?;
        }
        let parent = output.map_or_else(std::env::temp_dir, Path::to_owned);
        // The time beside the number, which may be that of a process that was killed.
        let temporary = parent.join(format!(".pinfeed-bench-{}-{}", process::id(), wall_ns()));
        fs::create_dir(&temporary).map_err(Error::file(&temporary))?;
        Ok(Self {
            parent: output.map(Path::to_owned),
            made,
            temporary,
        })
    }

    /// Returns where a file of this name stands until the folder is finished.
    pub(super) fn path(&self, name: &str) -> PathBuf {
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

    /// Writes `summary.json` and puts the folder in its place, named by `name` and a hash of the summary.
    /// Returns the place, unless results are not kept.
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
        let place = parent.join(format!("{name}-{:08x}", xxh3_64(&json) as u32));
        fs::rename(&self.temporary, &place).map_err(Error::file(&place))?;
        Ok(Some(place))
    }
}

impl Drop for ResultFolder {
    fn drop(&mut self) {
        // Neither is there to be removed once the folder is finished: the parent is not empty then.
        let _ = fs::remove_dir_all(&self.temporary);
        let _ = self.made.as_deref().map(fs::remove_dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
