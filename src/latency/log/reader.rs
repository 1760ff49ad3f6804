//! Reading, line by line, so that damage is found where it is.

use std::{
    fmt,
    fs::{self, File},
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::read::ZlibDecoder;
use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer,
        interval_log::{IntervalLogHistogram, IntervalLogIterator, LogEntry, Tag},
    },
};

use crate::error::{Error, Result};

/// The first bytes of a compressed histogram, format V2.
const COMPRESSED: [u8; 4] = [0x1c, 0x84, 0x93, 0x14];
/// Bytes before an inflated histogram's counts. The first four say which format, four after them how
/// many bytes of counts there are.
const HEADER_BYTES: usize = 40;
/// The most bytes a histogram is inflated to; one of five digits up to `u64::MAX` has fewer.
const INFLATED_BYTES_MAX: u64 = 64 << 20;
/// Timestamps this much before `StartTime` count from it, as HdrHistogram's own reader has it.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

const WRONG_LENGTH: &str = "the histogram is not as long as it says";

/// What a line of an interval log says.
#[derive(Clone, PartialEq)]
pub struct Interval {
    /// What was measured; empty where the line has no tag.
    pub tag: String,
    /// When it began, in seconds since 1970.
    pub start_s: f64,
    /// How long it was, in seconds.
    pub duration_s: f64,
    /// What was recorded; in nanoseconds where pinfeed wrote it.
    pub histogram: Histogram<u64>,
}

impl fmt::Debug for Interval {
    /// Without the histogram's counts, which are thousands.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Interval")
            .field("tag", &self.tag)
            .field("start_s", &self.start_s)
            .field("duration_s", &self.duration_s)
            .field("count", &self.histogram.len())
            .finish_non_exhaustive()
    }
}

/// Reads a whole interval log, in the order of its lines.
///
/// # Errors
/// [`Error::File`], and [`Error::IntervalLog`] for the first line that is damaged or ends early.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<Interval>> {
    let mut parser = Parser::new(path.as_ref().to_owned());
    let text = fs::read(&parser.path).map_err(Error::file(&parser.path))?;
    if text.is_empty() {
        let remedy = "give one that a program has written to";
        parser.line = 1;
        return Err(parser.damaged("the file is empty".to_owned(), remedy));
    }
    let whole = Parser::whole_lines(&text);
    let intervals = parser.parse(whole)?;
    if whole.len() < text.len() {
        parser.line += 1;
        let remedy = "delete this line; those before it are whole";
        let problem = "the line ends in its middle, the file is truncated".to_owned();
        return Err(parser.damaged(problem, remedy));
    }
    Ok(intervals)
}

/// Reads a log that is being written, bit by bit.
#[derive(Debug)]
pub struct Follower {
    parser: Parser,
    /// Bytes read so far.
    offset: u64,
}

impl Follower {
    /// Begins before the first line. The file may not be there yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            parser: Parser::new(path),
            offset: 0,
        }
    }

    /// Returns the intervals that were written whole since the last call; none where there is no file.
    ///
    /// # Errors
    /// As [`read`], but for a file that is not there, or ends within a line.
    pub fn read_on(&mut self) -> Result<Vec<Interval>> {
        let path = &self.parser.path;
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file(path)(error)),
        };
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(self.offset))
            .and_then(|_| file.read_to_end(&mut text))
            .map_err(Error::file(path))?;
        let whole = Parser::whole_lines(&text);
        self.offset += whole.len() as u64;
        self.parser.parse(whole)
    }
}

/// What is known from the lines read so far.
#[derive(Debug)]
struct Parser {
    path: PathBuf,
    origin: Origin,
    /// The number of the last line, counted from 1.
    line: u64,
}

impl Parser {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            origin: Origin::default(),
            line: 0,
        }
    }

    /// Returns a text without what follows its last line end.
    fn whole_lines(text: &[u8]) -> &[u8] {
        let end = text.iter().rposition(|&byte| byte == b'\n');
        &text[..end.map_or(0, |end| end + 1)]
    }

    fn parse(&mut self, lines: &[u8]) -> Result<Vec<Interval>> {
        let mut intervals = Vec::new();
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            self.line += 1;
            let interval = match IntervalLogIterator::new(line).next() {
                _ if line.trim_ascii().is_empty() => continue,
                None => continue,
                Some(Ok(LogEntry::StartTime(start))) => {
                    self.origin.start = Some(start);
                    continue;
                }
                Some(Ok(LogEntry::BaseTime(base))) => {
                    self.origin.base = Some(base);
                    continue;
                }
                Some(Ok(LogEntry::Interval(interval))) => self.origin.interval(&interval),
                Some(Err(_)) => Err(
                    "this is neither a comment nor tag, start, length, max, histogram".to_owned(),
                ),
            };
            let remedy = "delete this line to read the others, if this is an interval log";
            intervals.push(interval.map_err(|problem| self.damaged(problem, remedy))?);
        }
        Ok(intervals)
    }

    fn damaged(&self, problem: String, remedy: &'static str) -> Error {
        Error::IntervalLog {
            path: self.path.clone(),
            line: self.line,
            problem,
            remedy,
        }
    }
}

/// What the timestamps of intervals count from.
#[derive(Debug, Default)]
struct Origin {
    start: Option<Duration>,
    base: Option<Duration>,
}

impl Origin {
    fn interval(&self, line: &IntervalLogHistogram<'_>) -> std::result::Result<Interval, String> {
        let stamp = line.start_timestamp();
        let from = match (self.base, self.start) {
            (Some(base), _) => base,
            (None, Some(start)) if stamp.saturating_add(YEAR) < start => start,
            _ => Duration::ZERO,
        };
        Ok(Interval {
            tag: line.tag().as_ref().map_or("", Tag::as_str).to_owned(),
            start_s: from.as_secs_f64() + stamp.as_secs_f64(),
            duration_s: line.duration().as_secs_f64(),
            histogram: decode(line.encoded_histogram())?,
        })
    }
}

/// Decodes a histogram. It is inflated as a whole first: the checksum at its end is what tells damage,
/// and what it claims of its own size is not believed.
fn decode(encoded: &str) -> std::result::Result<Histogram<u64>, String> {
    let mut bytes = BASE64_STANDARD
        .decode(encoded)
        .map_err(|error| format!("the histogram is not Base64 ({error})"))?;
    if bytes.starts_with(&COMPRESSED) {
        let compressed = bytes.get(8..).unwrap_or_default();
        if !starts_with_length(&bytes[4..], compressed.len()) {
            return Err(WRONG_LENGTH.to_owned());
        }
        let mut inflated = Vec::new();
        ZlibDecoder::new(compressed)
            .take(INFLATED_BYTES_MAX)
            .read_to_end(&mut inflated)
            .map_err(|error| format!("the histogram cannot be inflated ({error})"))?;
        bytes = inflated;
    }
    let counts_bytes = bytes.len().saturating_sub(HEADER_BYTES);
    if !starts_with_length(bytes.get(4..).unwrap_or_default(), counts_bytes) {
        return Err(WRONG_LENGTH.to_owned());
    }
    Deserializer::new()
        .deserialize(&mut &bytes[..])
        .map_err(|error| format!("the histogram is damaged ({error})"))
}

fn starts_with_length(bytes: &[u8], length: usize) -> bool {
    u32::try_from(length).is_ok_and(|length| bytes.starts_with(&length.to_be_bytes()))
}
