//! The replay of a capture: raw Binance WebSocket messages as hftbacktest's collector writes them,
//! one a line, `<local receive time in ns> <json>`, plain or gzip.
//!
//! The topic of a message is `binance.` and the name of its stream; a message that names none, such
//! as the answer to a snapshot request, has the topic `binance.other`.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;

use crate::{
    error::{Error, Result},
    publish::{Item, Source},
};

/// The longest line; a capture with a longer one is taken for broken.
const LINE_BYTES_MAX: usize = 16 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// What stands in front of the name of a message's stream, with or without spaces between.
const NAMES_STREAM: [&[u8]; 4] = [b"{", b"\"stream\"", b":", b"\""];

/// How fast to replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was captured.
    Times(f64),
    /// As fast as possible.
    Max,
}

/// A capture being read.
pub struct Capture {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    speed: Speed,
    /// The line read last.
    line: Vec<u8>,
    line_number: u64,
    /// Whether it was read and not yet returned.
    is_ahead: bool,
    first_ns: Option<u64>,
    topics: Vec<Box<[u8]>>,
    indices: HashMap<Box<[u8]>, usize>,
}

impl Capture {
    /// Opens a capture, and looks at its first line.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Capture`] for what is none.
    pub fn open(path: &Path, speed: Speed) -> Result<Self> {
        let mut file = File::open(path)
            .map(BufReader::new)
            .map_err(Error::file(path))?;
        let start = file.fill_buf().map_err(Error::file(path))?;
        let lines: Box<dyn BufRead> = if start.starts_with(&GZIP_MAGIC) {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        let mut capture = Self {
            path: path.into(),
            lines,
            speed,
            line: Vec::new(),
            line_number: 0,
            is_ahead: true,
            first_ns: None,
            topics: Vec::new(),
            indices: HashMap::new(),
        };
        capture.read_line()?;
        if !capture.line.is_empty() {
            capture.split_line()?;
        }
        Ok(capture)
    }

    /// Returns the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a line; an empty one where there are no more.
    fn read_line(&mut self) -> Result<()> {
        self.line.clear();
        std::io::Read::take(&mut self.lines, LINE_BYTES_MAX as u64)
            .read_until(b'\n', &mut self.line)
            .map_err(Error::file(&self.path))?;
        self.line_number += 1;
        Ok(())
    }

    fn split_line(&self) -> Result<(u64, &[u8])> {
        split(&self.line).map_err(|problem| Error::Capture {
            path: self.path.clone(),
            line: self.line_number,
            problem,
        })
    }

    fn topic_index(&mut self, stream: &[u8]) -> usize {
        if let Some(&index) = self.indices.get(stream) {
            return index;
        }
        let index = self.topics.len();
        self.topics.push([b"binance.", stream].concat().into());
        self.indices.insert(stream.into(), index);
        index
    }
}

impl Source for Capture {
    fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<Item>> {
        if !std::mem::take(&mut self.is_ahead) {
            self.read_line()?;
        }
        if self.line.is_empty() {
            return Ok(None);
        }
        let (received_ns, json) = self.split_line()?;
        let start = payload.len();
        payload.extend_from_slice(json);
        let topic = self.topic_index(stream(&payload[start..]));
        let first_ns = *self.first_ns.get_or_insert(received_ns);
        Ok(Some(Item {
            topic,
            due_ns: match self.speed {
                Speed::Times(times) => {
                    Some((received_ns.saturating_sub(first_ns) as f64 / times) as u64)
                }
                Speed::Max => None,
            },
        }))
    }

    fn topic(&self, index: usize) -> &[u8] {
        &self.topics[index]
    }
}

/// Splits a line into its time and its message.
fn split(line: &[u8]) -> std::result::Result<(u64, &[u8]), &'static str> {
    let line = line
        .strip_suffix(b"\n")
        .ok_or("the line does not end: the file was cut off, or is no capture")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let space = memchr::memchr(b' ', line).ok_or("there is no space after the time")?;
    let time = std::str::from_utf8(&line[..space])
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or("it does not start with a time in nanoseconds")?;
    let json = &line[space + 1..];
    if json.first() == Some(&b'{') {
        Ok((time, json))
    } else {
        Err("what follows the time is not a JSON object")
    }
}

/// Finds the name of a message's stream.
fn stream(json: &[u8]) -> &[u8] {
    let mut tokens = NAMES_STREAM.iter();
    tokens
        .try_fold(json, |rest, token| {
            rest.trim_ascii_start().strip_prefix(*token)
        })
        .and_then(|rest| Some(&rest[..memchr::memchr(b'"', rest)?]))
        .unwrap_or(b"other")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn spaces_do_not_hide_a_stream() {
        for json in [
            "{\"stream\":\"a@trade\",\"data\":{}}",
            "{ \"stream\" : \"a@trade\", \"data\": {}}",
        ] {
            assert_eq!(stream(json.as_bytes()), b"a@trade", "{json}");
        }
        for json in ["{\"streams\":\"a\"}", "{\"stream\":1}", "{\"stream\":\"a"] {
            assert_eq!(stream(json.as_bytes()), b"other", "{json}");
        }
    }

    const LINES: &str = "1000 {\"stream\":\"btcusdt@trade\",\"data\":{\"p\":\"61800.30\"}}\n\
                         3000 {\"lastUpdateId\":1}\n\
                         2000 {\"stream\":\"btcusdt@trade\",\"data\":{}}\n";

    fn read(bytes: &[u8], speed: Speed) -> Result<Vec<(String, String, Option<u64>)>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut capture = Capture::open(file.path(), speed)?;
        let mut messages = Vec::new();
        let mut payload = Vec::new();
        while let Some(item) = capture.next(&mut payload)? {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            messages.push((text(capture.topic(item.topic)), text(&payload), item.due_ns));
            payload.clear();
        }
        Ok(messages)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_gzip_read_the_same() {
        let plain = read(LINES.as_bytes(), Speed::Times(2.0)).unwrap();
        assert_eq!(
            read(&gzip(LINES.as_bytes()), Speed::Times(2.0)).unwrap(),
            plain
        );
        let topics: Vec<&str> = plain.iter().map(|(topic, ..)| topic.as_str()).collect();
        assert_eq!(
            topics,
            [
                "binance.btcusdt@trade",
                "binance.other",
                "binance.btcusdt@trade"
            ]
        );
        assert_eq!(plain[1].1, "{\"lastUpdateId\":1}");
        let due: Vec<_> = plain.iter().map(|(.., due_ns)| *due_ns).collect();
        assert_eq!(due, [Some(0), Some(1_000), Some(500)]);
        let max = read(LINES.as_bytes(), Speed::Max).unwrap();
        assert!(max.iter().all(|(.., due_ns)| due_ns.is_none()));
    }

    #[test]
    fn a_broken_line_is_named() {
        for (broken, problem) in [
            (
                "1000 {\"stream\":\"a\"}\n12 [1]\n",
                ":2: what follows the time",
            ),
            ("{\"stream\":\"a\"} x\n", ":1: it does not start"),
            ("nospace\n", ":1: there is no space"),
            ("1000 {\"cut\":", ":1: the line does not end"),
        ] {
            let error = read(broken.as_bytes(), Speed::Max).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_capture_is_looked_at_when_it_is_opened() {
        let open = |bytes: &[u8]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            Capture::open(file.path(), Speed::Max)
        };
        for bytes in [b"[workers]\n".to_vec(), gzip(b"[workers]\n")] {
            let error = open(&bytes).err().expect("it is none").to_string();
            assert!(error.contains(":1: there is no space"), "{error}");
        }
        for bytes in [Vec::new(), gzip(b"")] {
            let mut empty = open(&bytes).unwrap();
            for _ in 0..2 {
                assert_eq!(
                    empty.next(&mut Vec::new()).unwrap().map(|item| item.topic),
                    None
                );
            }
        }
    }

    #[test]
    fn a_cut_off_gzip_file_is_an_error() {
        let whole = gzip(LINES.as_bytes());
        let error = read(&whole[..whole.len() - 9], Speed::Max).unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error}");
    }
}
