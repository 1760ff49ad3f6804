//! What is wrong in the text of a `feeds.toml`, in words of the file rather than of the Rust behind it: the place,
//! the key as checks name it, what stands there, and what is wanted.
//!
//! The parser says where and, in serde's words, what. Which key that is follows from the spans of all keys and values:
//! it is that of the smallest one that holds the place.

use std::{ops::Range, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::error::Error;

/// Bytes of a value that are shown.
const SHOWN_BYTES_MAX: usize = 60;
/// Keys of which there may be several, a table each.
const TABLES: [&str; 5] = ["lane", "feed", "line", "policy", "override"];

/// Makes an error for people of the parser's.
pub(super) fn explain(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let span = error.span().unwrap_or(0..0);
    let (line, column) = line_and_column(text, span.start);
    Error::ConfigFile {
        path: path.into(),
        line,
        column,
        problem: problem(text, error.message(), &span),
    }
}

/// Finds a key, as checks name it, or what it would stand below: the line and the character within it, counted from 1.
pub(super) fn locate(text: &str, key: &str) -> Option<(usize, usize)> {
    let table = DeTable::parse(text).ok()?;
    let mut longest: Option<(usize, usize)> = None;
    walk(table.get_ref(), "", &mut |found, at| {
        let rest = key.strip_prefix(found);
        let holds =
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', ' ', ',']));
        // The key of a value comes before it.
        if holds && longest.is_none_or(|(bytes, _)| found.len() > bytes) {
            longest = Some((found.len(), at.start));
        }
    });
    longest.map(|(_, at)| line_and_column(text, at))
}

/// Returns the line of a byte, and the character within it, counted from 1.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let column = 1 + before[line_start..].chars().count();
    (1 + before.matches('\n').count(), column)
}

fn problem(text: &str, message: &str, span: &Range<usize>) -> String {
    let there = text.get(span.clone()).unwrap_or_default();
    if message == "duplicate key" {
        return format!("{there}: it stands there twice; leave one of them out");
    }
    let place = DeTable::parse(text)
        .ok()
        .and_then(|table| smallest(table.get_ref(), span));
    let Some(Place { key, .. }) = place else {
        return message.to_owned();
    };
    // What has a header, or several lines, is not shown.
    let is_shown =
        there.len() <= SHOWN_BYTES_MAX && !there.starts_with("[[") && !there.contains('\n');
    let value = if is_shown && !is_header(text, span) {
        format!(" = {there}")
    } else {
        String::new()
    };
    let said = |what: &str| message.strip_prefix(what)?.split_once(", expected ");
    if let Some((found, expected)) = said("invalid type: ") {
        let wanted = wanted(&key, Some(found), expected);
        return format!("{key}{value}: it is {}; give {wanted}", kind(found));
    }
    if let Some((_, expected)) = said("invalid value: ") {
        return format!(
            "{key}{value}: it is out of range; give {}",
            wanted(&key, None, expected)
        );
    }
    let plain = |names: &str| names.replace("one of ", "").replace('`', "");
    if let Some((_, known)) = said("unknown variant ") {
        return format!(
            "{key}{value}: there is no such choice; give one of {}",
            plain(known)
        );
    }
    if let Some((_, known)) = said("unknown field ") {
        return format!("{key}: there is no such key; give one of {}", plain(known));
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("{key}.{}: it is missing; add it", plain(name));
    }
    if message == "invalid IP address syntax" {
        return format!("{key}{value}: it is no address; give one like \"10.0.1.5\"");
    }
    // Our own words, which name what is within an envelope.
    match message.strip_prefix("envelope.") {
        Some(within) => format!("{key}.{within}"),
        None => format!("{key}: {message}"),
    }
}

/// Tells whether a span is a table's header.
fn is_header(text: &str, span: &Range<usize>) -> bool {
    let line = text[..span.start].rfind('\n').map_or(0, |end| end + 1);
    text[line..].trim_start().starts_with('[')
}

/// What stands there, by serde's name of its type, which the value may follow.
fn kind(found: &str) -> &'static str {
    match found.split(' ').next().unwrap_or_default() {
        "string" => "text",
        "integer" if found.ends_with("128") => "too large a number",
        "integer" => "a whole number",
        "floating" => "a number with a point",
        "boolean" => "true or false",
        "sequence" => "a list",
        "map" => "a table",
        _ => "of another kind",
    }
}

/// What should stand there, by serde's name of its type. `found` is the name of what does, where that is of another.
fn wanted(key: &str, found: Option<&str>, expected: &str) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    let of = match name {
        name if name.ends_with("_ms") => " of milliseconds",
        name if name.ends_with("_us") => " of microseconds",
        name if name.contains("bytes") => " of bytes",
        _ => "",
    };
    let is_table = found == Some("map") || TABLES.contains(&name);
    match expected {
        "u32" if found.is_none() => format!("a whole number{of}, from 0 to {}", u32::MAX),
        "u32" | "u64" | "usize" => format!("a whole number{of}, 0 or more"),
        "i32" => format!("a whole number{of}"),
        "a boolean" => "true or false, without quotes".to_owned(),
        "a string" => "text in quotes, like \"text\"".to_owned(),
        "a sequence" if is_table => format!("one or more, each below a header [[{}]]", header(key)),
        "a sequence" => "a list in brackets, like [\"a\", \"b\"] or [1, 2]".to_owned(),
        table if table == "a map" || table.starts_with("struct ") => {
            format!("a table, below a header [{}]", header(key))
        }
        other => other.to_owned(),
    }
}

/// A key as headers have it: without the places of tables among others of the same.
fn header(key: &str) -> String {
    let names = key.split('.').map(|name| name.split('[').next());
    names.flatten().collect::<Vec<_>>().join(".")
}

/// A key or value that holds a span, and how long it is in bytes.
struct Place {
    key: String,
    bytes: usize,
}

fn smallest(table: &DeTable<'_>, span: &Range<usize>) -> Option<Place> {
    let mut best: Option<Place> = None;
    walk(table, "", &mut |key, at| {
        let holds = at.start <= span.start && span.end <= at.end;
        // Of several the deepest, which comes last.
        if holds && best.as_ref().is_none_or(|best| at.len() <= best.bytes) {
            best = Some(Place {
                key: key.to_owned(),
                bytes: at.len(),
            });
        }
    });
    best
}

/// Visits each key and each value below a table, as checks name it, with its span, from the top down. A table's header is
/// all that its span holds.
fn walk(table: &DeTable<'_>, above: &str, visit: &mut dyn FnMut(&str, Range<usize>)) {
    for (name, value) in table {
        let key = match above {
            "" => name.get_ref().to_string(),
            _ => format!("{above}.{}", name.get_ref()),
        };
        visit(&key, name.span());
        walk_value(value, &key, visit);
    }
}

fn walk_value(value: &Spanned<DeValue<'_>>, key: &str, visit: &mut dyn FnMut(&str, Range<usize>)) {
    visit(key, value.span());
    match value.get_ref() {
        DeValue::Table(table) => walk(table, key, visit),
        DeValue::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                walk_value(value, &format!("{key}[{index}]"), visit);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn mistakes_are_told_in_words_of_the_file() {
        const FEED: &str = "[[feed]]\nname = \"x\"\nenvelope = \"raw\"\n";
        for (text, expected) in [
            (
                "[workers]\ncount = \"4\"",
                "2:9: workers.count = \"4\": it is text; give a whole number, 0 or more",
            ),
            (
                "[workers]\ncount = -4",
                "2:9: workers.count = -4: it is out of range; give a whole number, 0 or more",
            ),
            (
                "[workers]\ncuont = 4",
                "2:1: workers.cuont: there is no such key; give one of count, cores, handler_panic",
            ),
            (
                "[workers]\ncores = [1, \"2\"]",
                "2:13: workers.cores[1] = \"2\": it is text; give a whole number, 0 or more",
            ),
            (
                "workers = 3",
                "1:11: workers = 3: it is a whole number; give a table, below a header [workers]",
            ),
            (
                "[receive]\nheartbeat_ms = \"1s\"",
                "2:16: receive.heartbeat_ms = \"1s\": it is text; give a whole number of milliseconds, 0 or more",
            ),
            (
                "[receive]\nmessage_bytes_max = 5000000000",
                "2:21: receive.message_bytes_max = 5000000000: it is out of range; give a whole number of bytes, \
                 from 0 to 4294967295",
            ),
            (
                "[receive]\nno_delay = \"yes\"",
                "2:12: receive.no_delay = \"yes\": it is text; give true or false, without quotes",
            ),
            (
                "wait = 3",
                "1:8: wait = 3: it is a whole number; give text in quotes, like \"text\"",
            ),
            (
                "wait = \"busy\"",
                "1:8: wait: \"busy\" is not a way to wait; give spin, park or adaptive",
            ),
            (
                "pin = \"loose\"",
                "1:7: pin = \"loose\": there is no such choice; give one of strict or best-effort",
            ),
            (
                "[lane]\nname = \"a\"",
                "1:1: lane: it is a table; give one or more, each below a header [[lane]]",
            ),
            (
                "[[lane]]\nname = \"a\"\n[[lane]]\ncore = 1",
                "3:1: lane[1].name: it is missing; add it",
            ),
            (
                "[[lane]]\nname = \"a\"\nsource = \"eth0\"",
                "3:10: lane[0].source = \"eth0\": it is no address; give one like \"10.0.1.5\"",
            ),
            (
                &format!("{FEED}line = \"a\""),
                "4:8: feed[0].line = \"a\": it is text; give one or more, each below a header [[feed.line]]",
            ),
            (
                &format!("{FEED}subscribe = \"BTC\""),
                "4:13: feed[0].subscribe = \"BTC\": it is text; give a list in brackets, like [\"a\", \"b\"] or [1, 2]",
            ),
            (
                "[[feed]]\nname = \"x\"\n[feed.envelope]\ntopic = { frame = \"0\" }",
                "4:19: feed[0].envelope.topic.frame = \"0\": it is text; give a whole number, 0 or more",
            ),
            (
                "[[feed]]\nname = \"x\"\n[feed.envelope]\ntopic = { frame = 0, bytes = 99999999 }",
                "3:1: feed[0].envelope.topic.bytes = 99999999: it is out of range; give from 1 to 65536",
            ),
            (
                "pin = 1\npin = 1",
                "2:1: pin: it stands there twice; leave one of them out",
            ),
            ("[[lane]\n", "1:8: unclosed array table, expected `]`"),
        ] {
            let error = toml::from_str::<Config>(text).unwrap_err();
            let explained = explain("f.toml".as_ref(), text, &error).to_string();
            assert_eq!(explained, format!("f.toml:{expected}"));
        }
    }

    #[test]
    fn keys_are_found_where_they_stand() {
        const TEXT: &str = "wait = \"park\"\n[[lane]]\nname = \"a\"\n  core = 4\n[[lane]]\nname = \"b\"\n[[feed]]\n\
                            name = \"f\"\nsequence = { scope = \"line\", limit = 3 }\n[[feed.line]]\nlane = \"a\"\n\
                            connect = [\"tcp://a:1\",\n  \"tcp://b:1\"]\n";
        for (key, line, column) in [
            ("wait", 1, 1),
            ("lane", 2, 3),
            ("lane[0].core", 4, 3),
            ("lane[1]", 5, 1),
            ("lane[1].nic", 5, 1),
            ("feed[0].sequence.limit", 9, 30),
            ("feed[0].line[0].lane", 11, 1),
            ("feed[0].line[0].connect[1]", 13, 3),
            ("feed[0].topics[0]", 7, 1),
            ("feed[0].sequence (both)", 9, 1),
            ("wait, pin or cores", 1, 1),
        ] {
            assert_eq!(locate(TEXT, key), Some((line, column)), "{key}");
        }
        assert_eq!(locate(TEXT, "workers.count"), None);
        assert_eq!(locate(TEXT, "lanes"), None);
        assert_eq!(locate("[[lane]\n", "lane"), None);
    }
}
