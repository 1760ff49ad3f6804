use std::{fs, path::PathBuf, time::Duration};

use hdrhistogram::Histogram;
use tempfile::TempDir;

use super::*;
use crate::{error::Error, latency::Stages};

const SECOND: Duration = Duration::from_secs(1);
const START: Duration = Duration::from_millis(1_760_000_000_123);

fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.hlog");
    (folder, path)
}

fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
    let mut histogram = Stages::default().queue;
    for value in values {
        histogram.record(value).unwrap();
    }
    histogram
}

/// The error of a log with this text, and the line that it names.
fn error_of(text: &[u8]) -> (String, u64) {
    let (_folder, path) = folder();
    fs::write(&path, text).unwrap();
    match read(&path) {
        Err(error @ Error::IntervalLog { line, .. }) => (error.to_string(), line),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_read() {
    let (_folder, path) = folder();
    let (queue, handler, empty) = (
        histogram(1..5_000),
        histogram([0, 7, 3_600_000_000_000]),
        histogram([]),
    );
    let mut log = IntervalLog::create(&path, 1 << 20).unwrap();
    for second in 0..3 {
        let tagged = [(QUEUE, &queue), (HANDLER, &handler), (FEED, &empty)];
        log.write(START + second * SECOND, SECOND, &tagged).unwrap();
    }
    let intervals = read(&path).unwrap();
    assert_eq!(intervals.len(), 9);
    for (index, interval) in intervals.iter().enumerate() {
        let expected = [(QUEUE, &queue), (HANDLER, &handler), (FEED, &empty)][index % 3];
        assert_eq!((interval.tag.as_str(), &interval.histogram), expected);
        let second = (index / 3) as f64;
        assert!((interval.start_s - 1_760_000_000.123 - second).abs() < 1e-6);
        assert!((interval.duration_s - 1.0).abs() < f64::EPSILON);
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("#[Histogram log format version 1.3]\n"),
        "{text}"
    );
    assert!(
        text.contains("#[StartTime: 1760000000.123 (seconds since epoch)]\n"),
        "{text}"
    );
    // The longest, in milliseconds.
    assert!(
        text.contains("\nTag=queue,1760000000.123,1.000,0.005,HISTF"),
        "{text}"
    );
}

#[test]
fn full_files_are_shifted_and_the_oldest_given_up() {
    let (folder, path) = folder();
    let queue = histogram(1..100);
    let mut log = IntervalLog::create(&path, 1_000).unwrap();
    let intervals = 100;
    for second in 0..intervals {
        log.write(START + second * SECOND, SECOND, &[(QUEUE, &queue)])
            .unwrap();
    }
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files as u32, ROTATED_MAX + 1);
    // From the oldest file to the one that was written last, no interval is missing.
    let mut starts = Vec::new();
    for number in (0..=ROTATED_MAX).rev() {
        let path = match number {
            0 => path.clone(),
            _ => path.with_extension(format!("hlog.{number}")),
        };
        assert!(fs::metadata(&path).unwrap().len() <= 1_000);
        starts.extend(
            read(&path)
                .unwrap()
                .iter()
                .map(|interval| interval.start_s as u64),
        );
    }
    let last = START.as_secs() + u64::from(intervals) - 1;
    let expected: Vec<u64> = (last + 1 - starts.len() as u64..=last).collect();
    assert_eq!(starts, expected);
}

#[test]
fn a_log_that_is_there_is_kept() {
    let (_folder, path) = folder();
    fs::write(&path, "of another run").unwrap();
    let mut log = IntervalLog::create(&path, 1 << 20).unwrap();
    log.write(START, SECOND, &[]).unwrap();
    let kept = fs::read_to_string(path.with_extension("hlog.1")).unwrap();
    assert_eq!(kept, "of another run");
    assert_eq!(read(&path).unwrap(), []);
}

#[test]
fn a_device_that_is_full_is_reported_once_and_not_renamed() {
    let mut log = IntervalLog::create("/dev/full", 1).unwrap();
    let queue = histogram([5]);
    let mut write = || log.write(START, SECOND, &[(QUEUE, &queue)]);
    let error = write().unwrap_err().to_string();
    assert!(
        error.starts_with("/dev/full: No space left on device"),
        "{error}"
    );
    write().unwrap();
    write().unwrap();
    assert_eq!(log.unwritten(), 3);
    assert!(fs::metadata("/dev/full").is_ok());
}

#[test]
fn a_tag_that_would_break_the_line_is_refused() {
    let (_folder, path) = folder();
    let mut log = IntervalLog::create(&path, 1 << 20).unwrap();
    let error = log
        .write(START, SECOND, &[("a,b", &histogram([]))])
        .unwrap_err();
    assert!(error.to_string().contains("tag = a,b"), "{error}");
    assert_eq!(log.unwritten(), 0);
}

#[test]
fn damage_is_found_where_it_is() {
    let (_folder, path) = folder();
    let mut log = IntervalLog::create(&path, 1 << 20).unwrap();
    log.write(
        START,
        SECOND,
        &[(QUEUE, &histogram(1..50)), (FEED, &histogram([1]))],
    )
    .unwrap();
    let (whole, expected) = (fs::read(&path).unwrap(), read(&path).unwrap());
    let lines = whole.split_inclusive(|&byte| byte == b'\n').count() as u64;
    let queue_line = lines - 1;
    // Cut anywhere but at the end of a line.
    for end in (1..whole.len()).filter(|&end| whole[end - 1] != b'\n') {
        let (error, line) = error_of(&whole[..end]);
        assert!(error.contains("truncated"), "{error}");
        let before = whole[..end].iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(line, before as u64 + 1);
    }
    // Any character of the histogram changed.
    let text = str::from_utf8(&whole).unwrap();
    let first = text.find("HISTF").unwrap();
    let length = text[first..].find('\n').unwrap();
    for place in first..first + length {
        let mut damaged = whole.clone();
        damaged[place] = if damaged[place] == b'Q' { b'R' } else { b'Q' };
        fs::write(&path, &damaged).unwrap();
        match read(&path) {
            // A bit that means nothing, between the end of the compressed data and its checksum.
            Ok(intervals) => assert!(intervals == expected),
            Err(Error::IntervalLog { line, .. }) => assert_eq!(line, queue_line),
            Err(error) => panic!("{error}"),
        }
    }
    // Lines that ran into each other.
    let joined = text.replacen("\nTag=feed", "Tag=feed", 1);
    assert_eq!(error_of(joined.as_bytes()).1, queue_line);
}

#[test]
fn what_is_no_log_is_an_error() {
    for text in [
        &b""[..],
        b"\xff\xfe\n",
        b"#\n1.0,1.0\n",
        b"Tag=a,1.0,1.0,1.0,\n",
        b"1.0,1.0,1.0,AAAA\n",
    ] {
        let (error, line) = error_of(text);
        assert!(line <= 2 && error.contains("; "), "{error}");
    }
}

#[test]
fn timestamps_of_other_writers_count_from_their_base() {
    let (_folder, path) = folder();
    let mut log = IntervalLog::create(&path, 1 << 20).unwrap();
    log.write(5 * SECOND, SECOND, &[(QUEUE, &histogram([1]))])
        .unwrap();
    let own = fs::read_to_string(&path).unwrap();
    let line = own.lines().last().unwrap();
    let start_of = |header: &str| {
        fs::write(&path, format!("{header}\n\n{line}\r\n")).unwrap();
        read(&path).unwrap()[0].start_s
    };
    assert_eq!(start_of("# none"), 5.0);
    assert_eq!(
        start_of("#[StartTime: 1760000000.000 (seconds since epoch)]"),
        1_760_000_005.0
    );
    assert_eq!(start_of("#[StartTime: 7.000 (seconds since epoch)]"), 5.0);
    let both = "#[StartTime: 1760000000.000 (seconds since epoch)]\n#[BaseTime: 100.000 (seconds since epoch)]";
    assert_eq!(start_of(both), 105.0);
}

#[test]
fn a_log_that_is_being_written_is_followed() {
    let (_folder, path) = folder();
    let mut follower = Follower::new(path.clone());
    assert_eq!(follower.read_on().unwrap(), [], "it is not there yet");
    let mut log = IntervalLog::create(&path, 1 << 20).unwrap();
    for second in 0..3 {
        let queue = histogram(1..100 * u64::from(second + 1));
        log.write(START + second * SECOND, SECOND, &[(QUEUE, &queue)])
            .unwrap();
        let read = follower.read_on().unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].tag.as_str(), &read[0].histogram), (QUEUE, &queue));
        assert_eq!(follower.read_on().unwrap(), []);
    }
    // A line is read when it is whole.
    let text = fs::read_to_string(&path).unwrap();
    let line = text.lines().last().unwrap().to_owned() + "\n";
    let (start, end) = line.split_at(20);
    fs::write(&path, text.clone() + start).unwrap();
    assert_eq!(follower.read_on().unwrap(), []);
    fs::write(&path, text.clone() + start + end).unwrap();
    assert_eq!(follower.read_on().unwrap().len(), 1);
    fs::write(&path, text + start + end + "Tag=queue,x\n").unwrap();
    let error = follower.read_on().unwrap_err().to_string();
    assert!(error.contains("run.hlog:10: "), "{error}");
}
