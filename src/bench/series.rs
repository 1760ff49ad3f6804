//! What a process does second by second, as CSV: a line a second and thread.
//!
//! ```text
//! time_s,up_s,thread,cpu_share,batches
//! 1760000001.0,1.0,lane-0,0.41,
//! 1760000001.0,1.0,worker-0,0.12,3
//! ```
//!
//! | column | unit |
//! |---|---|
//! | `time_s` | seconds since 1970 |
//! | `up_s` | seconds since the pipeline was started: the clock of its anomalies |
//! | `cpu_share` | of a core, since the line before of this thread |
//! | `batches` | batches under way to this worker; of other threads none |

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A thread at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Seconds since 1970.
    pub time_s: f64,
    /// Seconds since the pipeline was started.
    pub up_s: f64,
    /// The thread's name.
    pub thread: String,
    /// The part of a core that it used since the row before.
    pub cpu_share: f64,
    /// Batches under way to it, where it is a worker.
    pub batches: Option<u64>,
}

/// A series being written.
#[derive(Debug)]
pub struct SeriesWriter {
    path: PathBuf,
    out: csv::Writer<File>,
}

impl SeriesWriter {
    /// Begins in an empty file. `path` is what errors name.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn new(path: impl Into<PathBuf>, file: File) -> Result<Self> {
        let path = path.into();
        let mut writer = Self {
            path,
            out: csv::WriterBuilder::new()
                .has_headers(false)
                .from_writer(file),
        };
        let head = ["time_s", "up_s", "thread", "cpu_share", "batches"];
        let written = writer.out.write_record(head);
        writer.check(written)?;
        writer.write(&[])?;
        Ok(writer)
    }

    /// Writes the rows of a moment.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&mut self, rows: &[Row]) -> Result<()> {
        for row in rows {
            let written = self.out.serialize(row);
            self.check(written)?;
        }
        self.out.flush().map_err(Error::file(&self.path))
    }

    fn check(&self, written: csv::Result<()>) -> Result<()> {
        written.map_err(|error| Error::file(&self.path)(error.into()))
    }
}

/// Reads a whole series.
///
/// # Errors
/// [`Error::File`], and [`Error::Results`] for the first line that is damaged or ends early.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let text = std::fs::read(path).map_err(Error::file(path))?;
    let damaged = |line: usize, problem: &str| Error::Results {
        path: path.to_owned(),
        problem: format!("line {line}: {problem}"),
        remedy: "delete this line if those before it are enough, or run the benchmark again",
    };
    let lines = text.iter().filter(|&&byte| byte == b'\n').count();
    if !text.ends_with(b"\n") {
        return Err(damaged(
            lines + 1,
            "it ends in its middle, the file is truncated",
        ));
    }
    let mut rows = Vec::new();
    for row in csv::Reader::from_reader(&text[..]).deserialize::<Row>() {
        let at = rows.len() + 2;
        let row = row.map_err(|error| damaged(at, &error.to_string()))?;
        let numbers = [row.time_s, row.up_s, row.cpu_share];
        if !numbers
            .iter()
            .all(|number| number.is_finite() && *number >= 0.0)
        {
            return Err(damaged(at, "a number is negative or none"));
        }
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("series.csv");
        let mut writer = SeriesWriter::new(&path, File::create(&path).unwrap()).unwrap();
        assert_eq!(read(&path).unwrap(), []);
        let row = |thread: &str, batches| Row {
            time_s: 1_760_000_000.25,
            up_s: 1.5,
            thread: thread.to_owned(),
            cpu_share: 0.5,
            batches,
        };
        let rows = [row("lane-0", None), row("a,\"b\"", Some(3))];
        writer.write(&rows).unwrap();
        assert_eq!(read(&path).unwrap(), rows);

        let whole = std::fs::read_to_string(&path).unwrap();
        for (text, said) in [
            (&whole[..whole.len() - 3], "line 3: it ends in its middle"),
            (&whole.replace("0.5,3", "0.5,x"), "line 3: "),
            (&whole.replace("0.5,3", "inf,3"), "line 3: a number is"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
