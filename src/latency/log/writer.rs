//! Writing: whole intervals at once, and files of a bounded size.
//!
//! An interval's lines are rendered in memory and written by one call. Where that fails, the file is cut
//! back to the interval before, so that what a full disk leaves can be read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    mem,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use hdrhistogram::{
    Histogram,
    serialization::{
        V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, Tag},
    },
};

use crate::error::{Error, Result};

/// Full files that are kept beside the one that is written: `FILE.1`, the latest, to `FILE.9`.
pub const ROTATED_MAX: u32 = 9;

/// Nanoseconds in the unit of `Interval_Max`.
const NS_PER_MS: f64 = 1e6;
const LEGEND: &[u8] =
    b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";

/// A log being written.
///
/// ```no_run
/// use hdrhistogram::Histogram;
/// use pinfeed::latency::log::{IntervalLog, QUEUE, read};
/// use std::time::Duration;
///
/// let mut log = IntervalLog::create("run.hlog", 64 << 20)?;
/// let mut queue_ns = Histogram::new(3).expect("three digits");
/// queue_ns.saturating_record(4_200);
/// let (start, length) = (Duration::from_secs(1_760_000_000), Duration::from_secs(1));
/// log.write(start, length, &[(QUEUE, &queue_ns)])?;
/// assert_eq!(read("run.hlog")?[0].histogram, queue_ns);
/// # Ok::<(), pinfeed::Error>(())
/// ```
#[derive(Debug)]
pub struct IntervalLog {
    path: PathBuf,
    file: File,
    /// Whether it can be renamed and cut: no device and no pipe.
    is_regular: bool,
    /// Bytes of whole intervals, and of the header, in the file.
    bytes: u64,
    bytes_max: u64,
    is_failing: bool,
    unwritten: u64,
}

impl IntervalLog {
    /// Begins a log of at most `bytes_max` bytes a file. A file that is there already becomes `FILE.1`.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn create(path: impl Into<PathBuf>, bytes_max: u64) -> Result<Self> {
        let path = path.into();
        keep_old(&path).map_err(Error::file(&path))?;
        let file = open(&path).map_err(Error::file(&path))?;
        let is_regular = file.metadata().map_err(Error::file(&path))?.is_file();
        Ok(Self {
            path,
            file,
            is_regular,
            bytes: 0,
            bytes_max,
            is_failing: false,
            unwritten: 0,
        })
    }

    /// Writes an interval: a line for each tag and its histogram, whose values are nanoseconds. `start` is
    /// the time since 1970. All lines are written or none.
    ///
    /// # Errors
    /// [`Error::File`], where it cannot be written; the next interval is tried again, and another
    /// error comes only after one that could be written. [`Error::Config`] for a tag with a comma or
    /// space in it.
    pub fn write(
        &mut self,
        start: Duration,
        length: Duration,
        tagged: &[(&str, &Histogram<u64>)],
    ) -> Result<()> {
        let written = lines(start, length, tagged)?
            .map_err(io::Error::other)
            .and_then(|lines| self.append(start, &lines));
        let was_failing = mem::replace(&mut self.is_failing, written.is_err());
        let Err(error) = written else { return Ok(()) };
        self.unwritten += 1;
        if was_failing {
            Ok(())
        } else {
            Err(Error::file(&self.path)(error))
        }
    }

    /// Returns how many intervals could not be written so far.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.unwritten
    }

    /// Returns the file that is written.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn append(&mut self, start: Duration, lines: &[u8]) -> io::Result<()> {
        let is_full = self.bytes + lines.len() as u64 > self.bytes_max;
        if self.is_regular && is_full && self.bytes > 0 {
            shift(&self.path)?;
            self.file = open(&self.path)?;
            self.bytes = 0;
        }
        let mut text = Vec::new();
        if self.bytes == 0 {
            text = header(start)?;
        }
        text.extend_from_slice(lines);
        if let Err(error) = self.file.write_all(&text) {
            if self.is_regular {
                self.file.set_len(self.bytes)?;
            }
            return Err(error);
        }
        self.bytes += text.len() as u64;
        Ok(())
    }
}

/// Makes room for a new file: one with something in it that is there becomes `FILE.1`, whose path is returned.
pub(crate) fn keep_old(path: &Path) -> io::Result<Option<PathBuf>> {
    let old = fs::metadata(path).ok();
    if !old.is_some_and(|old| old.is_file() && old.len() > 0) {
        return Ok(None);
    }
    shift(path)?;
    Ok(Some(rotated(path, 1)))
}

/// Opens for appending, so that what was cut off leaves no hole.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Moves a file to `FILE.1`, that to `FILE.2` and so on; the last one is replaced.
fn shift(path: &Path) -> io::Result<()> {
    // Where an attempt before this one got half way there is nothing to make room for.
    if !path.exists() {
        return Ok(());
    }
    for number in (1..ROTATED_MAX).rev() {
        match fs::rename(rotated(path, number), rotated(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, rotated(path, 1))
}

fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn header(start: Duration) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(concat!(
            "[pinfeed ",
            env!("CARGO_PKG_VERSION"),
            ": values in nanoseconds, Interval_Max in milliseconds]"
        ))
        .with_start_time(UNIX_EPOCH + start)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut header, &mut V2DeflateSerializer::new())?;
    header.extend_from_slice(LEGEND);
    Ok(header)
}

/// Renders the lines of an interval; the inner error is the serializer's.
fn lines(
    start: Duration,
    length: Duration,
    tagged: &[(&str, &Histogram<u64>)],
) -> Result<std::result::Result<Vec<u8>, String>> {
    let (mut lines, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let begun = IntervalLogWriterBuilder::new()
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut lines, &mut serializer);
    let mut writer = match begun {
        Ok(writer) => writer,
        Err(error) => return Ok(Err(error.to_string())),
    };
    for &(tag, histogram) in tagged {
        let Some(tag) = Tag::new(tag) else {
            return Err(Error::config(
                "tag",
                tag,
                "the format has no tags with commas, spaces or line ends",
                "leave them out",
            ));
        };
        if let Err(error) = writer.write_histogram(histogram, start, length, Some(tag)) {
            return Ok(Err(error.to_string()));
        }
    }
    // The divisor, which the writer says first, stands in the file's header.
    let first = lines.iter().position(|&byte| byte == b'\n');
    lines.drain(..first.map_or(0, |end| end + 1));
    Ok(Ok(lines))
}
