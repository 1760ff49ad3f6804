//! Values as people read them.

use std::path::Path;

use serde_json::{Map, Value};

/// Returns the last part of a path.
pub(super) fn file_name(path: &Path) -> String {
    let name = path.canonicalize().ok();
    let name = name.as_deref().unwrap_or(path).file_name();
    name.unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// Returns nanoseconds for an axis, without digits that say nothing: `50 µs`, `2.5 ms`.
pub(super) fn short_time(ns: f64) -> String {
    let (factor, unit) = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")]
        .into_iter()
        // What is a hair below is meant.
        .find(|(factor, _)| ns >= factor * 0.999)
        .unwrap_or((1.0, "ns"));
    format!("{} {unit}", short(ns / factor))
}

/// Returns a number for an axis: `500`, `20k`, `2.5M`.
pub(super) fn short_count(number: f64) -> String {
    let (factor, unit) = [(1e9, "G"), (1e6, "M"), (1e3, "k")]
        .into_iter()
        .find(|(factor, _)| number >= factor * 0.999_99)
        .unwrap_or((1.0, ""));
    format!("{}{unit}", short(number / factor))
}

/// Returns a number with three digits at most.
pub(super) fn short(number: f64) -> String {
    let decimals = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{number:.decimals$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Returns a command line that a shell takes apart as it was.
pub(super) fn command(words: &[String]) -> String {
    // Only a NUL can't be quoted, and no command line has one.
    let quoted = shlex::try_join(words.iter().map(String::as_str));
    quoted.unwrap_or_else(|_| words.join(" "))
}

/// Returns the pairs of a JSON object for a table. What is nested is named with its parent.
pub(super) fn pairs(object: &Map<String, Value>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (key, value) in object {
        let key = key.replace('_', " ");
        if let Value::Object(inner) = value {
            for (inner_key, value) in self::pairs(inner) {
                pairs.push((format!("{key}: {inner_key}"), value));
            }
        } else {
            pairs.push((key, shown(value)));
        }
    }
    pairs
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "unknown".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(shown).collect();
            values.join(", ")
        }
        Value::Number(number) => match number.as_f64() {
            // Whole numbers without the .0 that JSON has.
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 1e15 => format!("{whole}"),
            _ => number.to_string(),
        },
        Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short_and_whole() {
        assert_eq!(short_time(999.9999), "1 µs");
        assert_eq!(short_time(2_500_000.0), "2.5 ms");
        assert_eq!(short_time(50.0), "50 ns");
        assert_eq!(short(0.0), "0");
        assert_eq!(short(1_000.0), "1000");
        assert_eq!(short_count(2_500_000.0), "2.5M");
        assert_eq!(short_count(999.0), "999");
        let words = ["pinfeed", "bench", "it's"].map(str::to_owned);
        assert_eq!(command(&words), "pinfeed bench \"it's\"");
        let object = serde_json::json!({"a_b": {"c": [1, 2.5]}, "d": null});
        assert_eq!(
            pairs(object.as_object().unwrap()),
            [("a b: c", "1, 2.5"), ("d", "unknown")].map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
    }
}
