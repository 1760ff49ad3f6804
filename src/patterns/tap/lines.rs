//! Copies as lines: for people, and as a capture.
//!
//! A capture is what [`Capture`](crate::publish::capture::Capture) reads, `<nanoseconds> <json>`. A message whose
//! last frame is a JSON object on one line goes there as it is, so that a capture of a replayed capture is the
//! same again; any other as an object of its own, with topic and frames.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::patterns::copies::{Kind, Passed};

/// Bytes of a frame that are shown to people.
const SHOWN_BYTES_MAX: usize = 256;

/// How bytes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// As text, what is not printable ASCII escaped.
    Text,
    /// As hexadecimal digits.
    Hex,
}

/// Appends a line for people: when, what, and its frames.
pub fn for_people(bytes: Bytes, copy: &Passed<'_>, out: &mut Vec<u8>) {
    let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(copy.at_ns);
    let what = match copy.kind {
        Kind::Message => "message",
        Kind::Subscription => "subscribe",
        Kind::Cancellation => "cancel",
        Kind::Upstream => "upstream",
    };
    let mut text = format!("{} {what}", humantime::format_rfc3339_micros(at));
    for frame in copy.frames {
        let shown = &frame[..frame.len().min(SHOWN_BYTES_MAX)];
        text.push_str("  ");
        match bytes {
            Bytes::Text => text.push_str(&shown.escape_ascii().to_string()),
            Bytes::Hex => shown
                .iter()
                .for_each(|byte| text.push_str(&format!("{byte:02x}"))),
        }
        if shown.len() < frame.len() {
            text.push_str(&format!("... {} bytes", frame.len()));
        }
    }
    text.push('\n');
    out.extend_from_slice(text.as_bytes());
}

/// Appends a line of a capture.
pub fn for_capture(copy: &Passed<'_>, out: &mut Vec<u8>) {
    // Into memory, where nothing fails.
    let _ = write!(out, "{} ", copy.at_ns);
    match copy.frames.last() {
        Some(last) if copy.kind == Kind::Message && is_json_line(last) => {
            out.extend_from_slice(last);
        }
        _ => {
            let first = copy.frames.first().copied().unwrap_or_default();
            let topic = copy.topic_bytes.and_then(|bytes| first.get(..bytes));
            let stream = String::from_utf8_lossy(topic.unwrap_or(first));
            let frames: Vec<Value> = copy.frames.iter().map(|frame| value(frame)).collect();
            // The order of keys matters: a capture's messages start with their stream.
            let stream = Value::from(stream);
            let (key, value) = match copy.kind {
                Kind::Message => ("frames", json!(frames)),
                Kind::Upstream => ("upstream", json!(frames)),
                Kind::Subscription => ("subscribed", json!(frames[0])),
                Kind::Cancellation => ("cancelled", json!(frames[0])),
            };
            let _ = if copy.kind == Kind::Message {
                write!(out, "{{\"stream\":{stream},\"{key}\":{value}}}")
            } else {
                write!(out, "{{\"{key}\":{value}}}")
            };
        }
    }
    out.push(b'\n');
}

fn is_json_line(frame: &[u8]) -> bool {
    frame.first() == Some(&b'{')
        && frame.last() == Some(&b'}')
        && memchr::memchr2(b'\n', b'\r', frame).is_none()
}

/// A frame as text, or else as an object with its bytes in Base64.
fn value(frame: &[u8]) -> Value {
    match std::str::from_utf8(frame) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "base64": STANDARD.encode(frame) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::{
        Source,
        capture::{Capture, Speed},
    };

    fn copy<'a>(kind: Kind, frames: &'a [&'a [u8]]) -> Passed<'a> {
        Passed {
            at_ns: 1_700_000_000_123_456_789,
            kind,
            topic_bytes: None,
            frames,
        }
    }

    #[test]
    fn people_see_time_kind_and_frames() {
        for (bytes, kind, frames, expected) in [
            (
                Bytes::Text,
                Kind::Message,
                &[&b"BTC"[..], b"1\n\xff"][..],
                "2023-11-14T22:13:20.123456Z message  BTC  1\\n\\xff\n",
            ),
            (
                Bytes::Hex,
                Kind::Subscription,
                &[b"BTC"],
                "2023-11-14T22:13:20.123456Z subscribe  425443\n",
            ),
            (
                Bytes::Text,
                Kind::Cancellation,
                &[b""],
                "2023-11-14T22:13:20.123456Z cancel  \n",
            ),
        ] {
            let mut line = Vec::new();
            for_people(bytes, &copy(kind, frames), &mut line);
            assert_eq!(String::from_utf8(line).unwrap(), expected);
        }
        let mut line = Vec::new();
        for_people(
            Bytes::Text,
            &copy(Kind::Message, &[&[b'x'; 300]]),
            &mut line,
        );
        assert!(line.ends_with(b"xx... 300 bytes\n"));
    }

    #[test]
    fn a_capture_is_read_back() {
        let json = br#"{"stream":"btcusdt@trade","data":{"p":"1"}}"#;
        let mut lines = Vec::new();
        for (kind, frames) in [
            (Kind::Message, &[&b"binance.btcusdt@trade"[..], json][..]),
            (Kind::Message, &[b"BTC", b"17"]),
            (Kind::Message, &[b"BTC", b"\xff"]),
            (Kind::Message, &[b"{\"a\":1}\n"]),
            (Kind::Subscription, &[b"BT"]),
            (Kind::Cancellation, &[b"BT"]),
            (Kind::Upstream, &[b"hello"]),
        ] {
            for_capture(&copy(kind, frames), &mut lines);
        }
        let topic_bytes = Some(3);
        let with_topic = Passed {
            topic_bytes,
            ..copy(Kind::Message, &[b"BTC 17"])
        };
        for_capture(&with_topic, &mut lines);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &lines).unwrap();
        let mut capture = Capture::open(file.path(), Speed::Max).unwrap();
        let mut found = Vec::new();
        let mut payload = Vec::new();
        while let Some(item) = capture.next(&mut payload).unwrap() {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let whole: Value = serde_json::from_slice(&payload).unwrap();
            assert!(whole.is_object());
            found.push((text(capture.topic(item.topic)), text(&payload)));
            payload.clear();
        }
        let expected = [
            ("binance.btcusdt@trade", std::str::from_utf8(json).unwrap()),
            ("binance.BTC", r#"{"stream":"BTC","frames":["BTC","17"]}"#),
            (
                "binance.BTC",
                r#"{"stream":"BTC","frames":["BTC",{"base64":"/w=="}]}"#,
            ),
            (
                r#"binance.{\"#,
                r#"{"stream":"{\"a\":1}\n","frames":["{\"a\":1}\n"]}"#,
            ),
            ("binance.other", r#"{"subscribed":"BT"}"#),
            ("binance.other", r#"{"cancelled":"BT"}"#),
            ("binance.other", r#"{"upstream":["hello"]}"#),
            ("binance.BTC", r#"{"stream":"BTC","frames":["BTC 17"]}"#),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(topic, payload)| ((*topic).to_owned(), (*payload).to_owned()))
            .collect();
        assert_eq!(found, expected);
    }
}
