//! `pinfeed envelope`: how an envelope reads messages, field by field.
//!
//! Messages of a publisher come through a pipeline that takes them as they are, and are opened in its
//! handler, so that those which do not fit are shown in their places among the others.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use clap::ArgGroup;
use serde::Serialize;

use crate::{
    cli::{EXIT_FAILURE, Ending, Failure, print_json, say, shape::Socket, signals::Signals},
    clock::Deadline,
    config::{Config, SocketKind},
    envelope::{Envelope, Inflater, Preset},
    error::Error,
    lane::Quota,
    ledger::Rejection,
    message::{FRAMES_MAX, Message},
    pipeline::Pipeline,
    worker::Handler,
};

/// Bytes of a payload or of a frame that are shown.
const SHOWN_BYTES_MAX: usize = 64;
/// How often to look whether a run is to end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Envelopes that are no presets, and what they are for.
const OTHERS: [(&str, &str); 3] = [
    ("raw", "any: topic / payload, or one frame that is both"),
    (
        "delimited:C",
        "one frame: topic, one byte, payload; C is an ASCII character or 0xNN",
    ),
    (
        "pinfeed",
        "pinfeed publish: one frame with epoch, sequence by topic and time",
    ),
];

/// Show how an envelope reads messages. Exit code 0 if there were any and all fit it, 1 otherwise.
#[derive(Debug, clap::Args)]
#[command(
    after_help = FILE_HELP,
    group(ArgGroup::new("which").required(true).args(["envelope", "config", "list"])),
    group(
        ArgGroup::new("source").required(true).multiple(true).args(["connect", "bind", "test", "list"])
    ),
)]
pub(super) struct Args {
    /// List the envelopes that have names
    #[arg(long, exclusive = true)]
    list: bool,

    /// The envelope, by name
    #[arg(long, value_name = "NAME")]
    envelope: Option<Envelope>,

    /// The envelope of a feed in this configuration
    #[arg(long, value_name = "FEEDS.toml")]
    config: Option<PathBuf>,

    /// The feed [default: the only one]
    #[arg(long, value_name = "NAME", requires = "config")]
    feed: Option<String>,

    /// Read messages from this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["connect", "bind"])]
    test: Option<PathBuf>,

    /// Read messages of this publisher (repeatable)
    #[arg(long, value_name = "ENDPOINT")]
    connect: Vec<String>,

    /// Read messages of publishers that connect here (repeatable)
    #[arg(long, value_name = "ENDPOINT")]
    bind: Vec<String>,

    /// Only messages that start with this (repeatable) [default: all]
    #[arg(long, value_name = "PREFIX", conflicts_with = "test")]
    subscribe: Vec<String>,

    /// What publishers are connected with [default: sub, or the feed's]
    #[arg(long, value_enum, conflicts_with = "test")]
    socket: Option<Socket>,

    /// Stop after this many messages [default: 10 of a publisher, all of a file]
    #[arg(long, value_name = "N")]
    messages: Option<u64>,

    /// Stop after this time, for instance 10s or 2m [default: 10s]
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "test")]
    run_for: Option<Duration>,

    /// Write what was read to standard output as one JSON object
    #[arg(long)]
    json: bool,
}

const FILE_HELP: &str = "\
FILE holds a message a line: its frames in hexadecimal, with a space between them, and - for an empty \
one. Empty lines and those that start with # are passed over. With pyzmq such a line is written by

  print(*[frame.hex() or '-' for frame in socket.recv_multipart()])";

/// What an envelope made of a message.
#[derive(Clone, Debug, Serialize)]
struct Reading {
    /// Why it does not fit, if it does not.
    rejected: Option<&'static str>,
    topic: Option<String>,
    sequence: Option<u64>,
    epoch: Option<u64>,
    timestamp_ns: Option<u64>,
    payload_bytes: Option<usize>,
    /// What the payload starts with.
    payload: Option<String>,
    /// The length of each frame.
    frames_bytes: Vec<usize>,
    /// What the first frame starts with.
    first_frame: String,
}

impl Reading {
    fn of_nothing(frames: &[&[u8]]) -> Self {
        Self {
            rejected: None,
            topic: None,
            sequence: None,
            epoch: None,
            timestamp_ns: None,
            payload_bytes: None,
            payload: None,
            frames_bytes: frames.iter().map(|frame| frame.len()).collect(),
            first_frame: preview(frames[0]),
        }
    }
}

/// What bytes start with, with all that is not printable ASCII escaped.
fn preview(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let more = if start.len() < bytes.len() { "..." } else { "" };
    format!("{}{more}", start.escape_ascii())
}

impl fmt::Display for Reading {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(topic) = &self.topic else {
            let reason = self.rejected.unwrap_or_default();
            let frames = &self.frames_bytes;
            return write!(
                out,
                "REJECTED {reason}  frames of {frames:?} bytes, the first \"{}\"",
                self.first_frame
            );
        };
        let number =
            |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |some| some.to_string());
        let time = self.timestamp_ns.map_or_else(
            || "-".to_owned(),
            |time_ns| {
                let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(time_ns);
                humantime::format_rfc3339_nanos(time).to_string()
            },
        );
        write!(
            out,
            "topic \"{topic}\"  sequence {}  epoch {}  time {time}  {} bytes \"{}\"",
            number(self.sequence),
            number(self.epoch),
            self.payload_bytes.unwrap_or_default(),
            self.payload.as_deref().unwrap_or_default(),
        )
    }
}

/// Opens messages, says each, and keeps what it found.
#[derive(Debug)]
struct Reader {
    envelope: Envelope,
    inflater: Inflater,
    readings: Vec<Reading>,
}

impl Reader {
    fn new(envelope: Envelope) -> Self {
        Self {
            envelope,
            inflater: Inflater::default(),
            readings: Vec::new(),
        }
    }

    fn read(&mut self, frames: &[&[u8]]) {
        let mut reading = Reading::of_nothing(frames);
        if let Err(reason) = self.open(frames, &mut reading) {
            reading.rejected = Some(reason.name());
        }
        say(format_args!("{reading}"));
        self.readings.push(reading);
    }

    fn open(&mut self, frames: &[&[u8]], reading: &mut Reading) -> Result<(), Rejection> {
        if frames.len() > FRAMES_MAX {
            return Err(Rejection::TooManyFrames);
        }
        let mut frames = frames.to_vec();
        if let Some(inflation) = self.envelope.inflation() {
            let frame = frames.get_mut(inflation.frame);
            let frame = frame.ok_or(Rejection::MissingFrame)?;
            *frame = self.inflater.inflate(frame, inflation.bytes_max)?;
        }
        let fields = self.envelope.open(&frames)?;
        let [topic, payload] = [fields.topic, fields.payload]
            .map(|place| &frames[place.frame][place.start..place.end]);
        let stamp = fields.stamp;
        reading.topic = Some(topic.escape_ascii().to_string());
        reading.sequence = stamp.sequence();
        reading.epoch = stamp.epoch();
        reading.timestamp_ns = stamp.timestamp_ns();
        reading.payload_bytes = Some(payload.len());
        reading.payload = Some(preview(payload));
        Ok(())
    }
}

impl Handler for Reader {
    fn on_message(&mut self, message: &Message<'_>) {
        let frames: Vec<&[u8]> = message.frames().collect();
        self.read(&frames);
    }
}

/// What is known at the end.
#[derive(Debug, Serialize)]
struct Report {
    envelope: String,
    messages: usize,
    fit: usize,
    rejected: usize,
    rejected_by_reason: BTreeMap<&'static str, usize>,
    readings: Vec<Reading>,
}

impl Report {
    fn new(envelope: &Envelope, readings: Vec<Reading>) -> Self {
        let mut rejected_by_reason = BTreeMap::new();
        for reason in readings.iter().filter_map(|reading| reading.rejected) {
            *rejected_by_reason.entry(reason).or_default() += 1;
        }
        let rejected = rejected_by_reason.values().sum();
        Self {
            envelope: envelope.to_string(),
            messages: readings.len(),
            fit: readings.len() - rejected,
            rejected,
            rejected_by_reason,
            readings,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    if args.list {
        list();
        return Ok(Ending::Ok);
    }
    let (envelope, socket) = args.envelope()?;
    let mut reader = Reader::new(envelope.clone());
    let mut ending = Ending::Ok;
    match &args.test {
        Some(path) => {
            let limit = args.messages.unwrap_or(u64::MAX) as usize;
            for message in read_file(path)?.iter().take(limit) {
                let frames: Vec<&[u8]> = message.iter().map(Vec::as_slice).collect();
                reader.read(&frames);
            }
        }
        None => (reader, ending) = receive(args, reader, socket)?,
    }
    let report = Report::new(&envelope, reader.readings);
    let reasons = report.rejected_by_reason.iter();
    let reasons: String = reasons
        .map(|(reason, number)| format!(", {number} {reason}"))
        .collect();
    say(format_args!(
        "{} message(s) read as {envelope}: {} fit, {} rejected{reasons}",
        report.messages, report.fit, report.rejected
    ));
    if args.json {
        print_json(&report)?;
    }
    if report.messages == 0 || report.rejected > 0 {
        return Err(Failure {
            exit_code: EXIT_FAILURE,
            message: if report.messages == 0 {
                "there was no message to read".to_owned()
            } else {
                format!("not all messages are {envelope}")
            },
        });
    }
    Ok(ending)
}

fn list() {
    use std::io::Write;
    let presets = Preset::ALL.iter();
    let presets = presets.map(|preset| (preset.name, preset.description));
    for (name, description) in OTHERS.into_iter().chain(presets) {
        // That the reader has gone is no reason to complain.
        let _ = writeln!(std::io::stdout(), "{name:<12} {description}");
    }
}

impl Args {
    /// Returns the envelope asked for, and the kind of socket its messages come by.
    fn envelope(&self) -> Result<(Envelope, SocketKind), Failure> {
        let socket = self.socket.map(Socket::kind);
        let Some(path) = &self.config else {
            let envelope = self.envelope.clone().unwrap_or(Envelope::Raw);
            return Ok((envelope, socket.unwrap_or_default()));
        };
        let feeds = Config::load(path)?.feeds;
        let names: Vec<String> = feeds.iter().map(|feed| feed.name.clone()).collect();
        let mut named = feeds.into_iter().filter(|feed| match &self.feed {
            Some(name) => feed.name == *name,
            None => names.len() == 1,
        });
        let Some(feed) = named.next() else {
            return Err(Error::config(
                "--feed",
                self.feed.as_deref().unwrap_or_default(),
                format!("{} has these feeds: {}", path.display(), names.join(", ")),
                "give one of them",
            )
            .into());
        };
        Ok((feed.envelope, socket.unwrap_or(feed.socket)))
    }
}

/// Reads messages of publishers.
fn receive(args: &Args, reader: Reader, socket: SocketKind) -> Result<(Reader, Ending), Failure> {
    let signals = Signals::listen()?;
    let mut config = Config::one_lane(Envelope::Raw);
    let feed = &mut config.feeds[0];
    feed.socket = socket;
    feed.subscribe = args.subscribe.clone();
    (feed.lines[0].connect, feed.lines[0].bind) = (args.connect.clone(), args.bind.clone());
    config.workers.count = 1;
    let quota = Quota::of(args.messages.unwrap_or(10));
    let deadline = Deadline::after(args.run_for.unwrap_or(Duration::from_secs(10)));
    let envelope = reader.envelope.clone();
    let mut first = Some(reader);
    let make = |_| {
        first
            .take()
            .unwrap_or_else(|| Reader::new(envelope.clone()))
    };
    let pipeline = Pipeline::start(&config, quota, signals.stop().clone(), make)?;
    for endpoint in pipeline.endpoints() {
        say(format_args!("listening on {endpoint}"));
    }
    while !pipeline.is_finished() {
        if deadline.passed() {
            signals.stop().request();
        }
        thread::sleep(LOOK_EVERY);
    }
    let mut outcome = pipeline.finish();
    if let Some(failure) = outcome.failure {
        return Err(failure.into());
    }
    let reader = outcome.handlers.pop().expect("there was one worker");
    let ending = signals.caught().map_or(Ending::Ok, Ending::Signal);
    Ok((reader, ending))
}

/// Reads the messages of a file, each as its frames.
fn read_file(path: &Path) -> Result<Vec<Vec<Vec<u8>>>, Failure> {
    let text = fs::read_to_string(path).map_err(Error::file(path))?;
    let mut messages = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let frames: Option<Vec<Vec<u8>>> = line.split_whitespace().map(parse_frame).collect();
        let frames = frames.ok_or_else(|| Error::Capture {
            path: path.into(),
            line: number,
            problem: "it is not frames in hexadecimal; write two digits for each byte, a space \
                      between frames, and - for an empty one",
        })?;
        messages.push(frames);
    }
    Ok(messages)
}

fn parse_frame(text: &str) -> Option<Vec<u8>> {
    if text == "-" {
        return Some(Vec::new());
    }
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).map(|value| value as u8))
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_written_in_hexadecimal() {
        assert_eq!(parse_frame("-"), Some(Vec::new()));
        assert_eq!(parse_frame("00fF7c"), Some(vec![0, 0xff, 0x7c]));
        for wrong in ["0", "0x00", "zz", "0 "] {
            assert_eq!(parse_frame(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_does_not_fit_stands_among_what_does() {
        let mut reader = Reader::new("bitcoind".parse().unwrap());
        reader.read(&[b"hashtx", b"body", b"\x07\0\0\0"]);
        reader.read(&[b"hashtx", b"body", b"\x07"]);
        let texts: Vec<String> = reader.readings.iter().map(Reading::to_string).collect();
        assert_eq!(
            texts[0],
            r#"topic "hashtx"  sequence 7  epoch -  time -  4 bytes "body""#
        );
        assert!(
            texts[1].starts_with("REJECTED truncated_field"),
            "{}",
            texts[1]
        );
        let report = Report::new(&reader.envelope, reader.readings);
        assert_eq!((report.messages, report.fit, report.rejected), (2, 1, 1));
    }
}
