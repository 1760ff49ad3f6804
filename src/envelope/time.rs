//! Timestamps: a number at a fixed place, or a field of a JSON text.
//!
//! The text is searched for the field's name in quotation marks, wherever it is nested, and only the
//! value behind its first occurrence is looked at: a parser would cost more than everything else a lane
//! does with a message. A value that is no time, `null` for instance, is no reason to reject the
//! message, which then has none. Decimal fractions are read digit by digit, since a
//! 64-bit float of seconds since 1970 is exact to some 200 ns only.

use std::ops::Deref;

use memchr::memmem::Finder;

use crate::{
    envelope::{NumberAt, Place},
    ledger::Rejection,
    message::NO_TIMESTAMP,
};

/// The unit of a time since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// Returns how many digits of it are nanoseconds.
    fn digits(self) -> u32 {
        match self {
            Self::Nanoseconds => 0,
            Self::Microseconds => 3,
            Self::Milliseconds => 6,
            Self::Seconds => 9,
        }
    }

    /// Returns a time of this unit in nanoseconds, where 64 bits hold it.
    fn to_ns(self, time: u64) -> Option<u64> {
        time.checked_mul(10_u64.pow(self.digits()))
    }
}

/// How a JSON field writes a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextTime {
    /// A number of this unit, fractions and quotation marks allowed.
    Number(Unit),
    /// A date like `2020-08-03T11:03:25.661784Z`, with any offset from UTC.
    Iso8601,
}

/// The name of a JSON field, prepared for the search.
#[derive(Clone, Debug)]
pub struct FieldName(Box<Finder<'static>>);

impl FieldName {
    /// Prepares the search for a field of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let quoted = format!("\"{name}\"");
        Self(Box::new(Finder::new(quoted.as_bytes()).into_owned()))
    }

    /// Returns what follows the colon behind the name.
    fn value<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        let mut rest = text;
        loop {
            let at = self.0.find(rest)?;
            rest = rest[at + self.0.needle().len()..].trim_ascii_start();
            // Without a colon it was a value.
            if let Some(value) = rest.strip_prefix(b":") {
                return Some(value.trim_ascii_start());
            }
        }
    }
}

impl PartialEq for FieldName {
    fn eq(&self, other: &Self) -> bool {
        self.0.needle() == other.0.needle()
    }
}

impl Eq for FieldName {}

/// Where the publisher's wall clock stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampAt {
    /// A number of this unit at a fixed place.
    Number(NumberAt, Unit),
    /// A field of the payload, which is JSON.
    Json(FieldName, TextTime),
}

impl TimestampAt {
    /// Reads the time in nanoseconds since 1970; 0 for none.
    #[inline]
    pub(super) fn read<F: Deref<Target = [u8]>>(
        &self,
        frames: &[F],
        payload: Place,
    ) -> Result<u64, Rejection> {
        let time_ns = match self {
            Self::Number(number, unit) => unit.to_ns(number.read(frames)?),
            Self::Json(name, time) => {
                let text = &frames[payload.frame][payload.start..payload.end];
                name.value(text).and_then(|value| time.read(value))
            }
        };
        Ok(time_ns.unwrap_or(NO_TIMESTAMP))
    }
}

impl TextTime {
    /// Reads the time in nanoseconds that `text` starts with.
    fn read(self, text: &[u8]) -> Option<u64> {
        let text = text.strip_prefix(b"\"").unwrap_or(text);
        match self {
            Self::Number(unit) => decimal(text, unit),
            Self::Iso8601 => iso8601(text),
        }
    }
}

/// Counts the digits that `text` starts with.
fn count_digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Returns the value of digits, of which there are at most 19.
fn value_of(digits: &[u8]) -> u64 {
    let value = |number, digit: &u8| 10 * number + u64::from(digit - b'0');
    digits.iter().fold(0, value)
}

/// Reads the digits that `text` starts with, at least one and no more than 64 bits hold for sure.
/// Returns the number and what follows.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    const DIGITS_MAX: usize = 19;
    let count = count_digits(text);
    let (digits, rest) = text.split_at(count);
    (1..=DIGITS_MAX)
        .contains(&count)
        .then(|| (value_of(digits), rest))
}

/// Reads the fraction that follows a number, if one does, as a number of `places` digits.
fn fraction(text: &[u8], places: u32) -> Option<(u64, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let (digits, rest) = text.split_at(count_digits(text));
    let kept = &digits[..digits.len().min(places as usize)];
    let missing = places - kept.len() as u32;
    (!digits.is_empty()).then(|| (value_of(kept) * 10_u64.pow(missing), rest))
}

fn decimal(text: &[u8], unit: Unit) -> Option<u64> {
    let (whole, rest) = number(text)?;
    let (part_ns, rest) = fraction(rest, unit.digits())?;
    if matches!(rest.first(), Some(b'e' | b'E')) {
        return exponential(text, unit);
    }
    unit.to_ns(whole)?.checked_add(part_ns)
}

/// Reads a number with an exponent, which some writers of JSON give to large ones.
fn exponential(text: &[u8], unit: Unit) -> Option<u64> {
    let is_part = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let count = text.iter().take_while(is_part).count();
    let number: f64 = str::from_utf8(&text[..count]).ok()?.parse().ok()?;
    let time_ns = number * 10_f64.powi(unit.digits() as i32);
    (time_ns < u64::MAX as f64).then_some(time_ns as u64)
}

/// Reads `YYYY-MM-DD`, `T` or a space, `hh:mm:ss` with a fraction or without, and `Z`, `+hh:mm` or
/// nothing, which is taken for `Z`.
fn iso8601(text: &[u8]) -> Option<u64> {
    const SECOND_NS: u64 = 1_000_000_000;
    let field = |at: usize, bytes: usize, most: u64| {
        let (number, rest) = number(text.get(at..at + bytes)?)?;
        (rest.is_empty() && number <= most).then_some(number)
    };
    for (at, marks) in [
        (4, &b"-"[..]),
        (7, b"-"),
        (10, b"T "),
        (13, b":"),
        (16, b":"),
    ] {
        text.get(at).filter(|mark| marks.contains(mark))?;
    }
    let (year, month, day) = (field(0, 4, 9_999)?, field(5, 2, 12)?, field(8, 2, 31)?);
    let (hour, minute, second) = (field(11, 2, 23)?, field(14, 2, 59)?, field(17, 2, 60)?);
    let (part_ns, zone) = fraction(&text[19..], 9)?;
    let seconds = days_since_1970(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second;
    let seconds = match zone.split_first() {
        Some((sign @ (b'+' | b'-'), zone)) => {
            let (hours, _) = number(zone.get(..2)?)?;
            let zone = zone[2..].strip_prefix(b":").unwrap_or(&zone[2..]);
            let (minutes, _) = zone.get(..2).and_then(number).unwrap_or_default();
            let east = (hours * 60 + minutes) * 60;
            if *sign == b'+' {
                seconds.checked_sub(east)?
            } else {
                seconds + east
            }
        }
        _ => seconds,
    };
    seconds.checked_mul(SECOND_NS)?.checked_add(part_ns)
}

/// Counts days by the Gregorian calendar, in years that begin with March, so that a leap day ends one.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    const DAYS_BEFORE_1970: u64 = 719_468;
    let year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year;
    days.checked_sub(DAYS_BEFORE_1970)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_to_the_last_digit() {
        for (text, unit, expected) in [
            (
                "1596452605.661784,",
                Unit::Seconds,
                Some(1_596_452_605_661_784_000),
            ),
            (
                "1596452605}",
                Unit::Seconds,
                Some(1_596_452_605_000_000_000),
            ),
            (
                "1596452605661",
                Unit::Milliseconds,
                Some(1_596_452_605_661_000_000),
            ),
            (
                "1596452605661.5",
                Unit::Milliseconds,
                Some(1_596_452_605_661_500_000),
            ),
            (
                "\"1596452605661784\"",
                Unit::Microseconds,
                Some(1_596_452_605_661_784_000),
            ),
            ("7.9", Unit::Nanoseconds, Some(7)),
            (
                "1.12345678901234567890123456789",
                Unit::Seconds,
                Some(1_123_456_789),
            ),
            ("1.5e9", Unit::Seconds, Some(1_500_000_000_000_000_000)),
            ("1e300", Unit::Seconds, None),
            ("99999999999999999999", Unit::Nanoseconds, None),
            ("9999999999999", Unit::Seconds, None),
            ("null", Unit::Seconds, None),
            ("-1", Unit::Seconds, None),
            ("1.", Unit::Seconds, None),
            ("", Unit::Seconds, None),
        ] {
            let read = TextTime::Number(unit).read(text.as_bytes());
            assert_eq!(read, expected, "{text} {unit:?}");
        }
    }

    #[test]
    fn dates_are_read() {
        for (text, expected) in [
            (
                "\"2020-08-03T11:03:25.661784Z\"",
                Some(1_596_452_605_661_784_000),
            ),
            ("2020-08-03T13:03:25+02:00", Some(1_596_452_605_000_000_000)),
            ("2020-08-03 06:03:25-0500", Some(1_596_452_605_000_000_000)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00", Some(951_782_400_000_000_000)),
            ("1969-12-31T23:59:59Z", None),
            ("2020-13-01T00:00:00Z", None),
            ("2020-08-03", None),
            ("9999-12-31T23:59:59Z", None),
        ] {
            assert_eq!(TextTime::Iso8601.read(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_field_is_found_by_its_name() {
        let name = FieldName::new("timestamp");
        let text = br#"{"kind":"timestamp", "receipt_timestamp":1, "timestamp" : 25}"#;
        assert_eq!(name.value(text), Some(&b"25}"[..]));
        assert_eq!(name.value(br#"{"receipt_timestamp":1}"#), None);
        assert_eq!(name.value(br#""timestamp"#), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(
            text in "[0-9T:+. eE\"-]{0,40}",
            more: Vec<u8>,
        ) {
            let text = [text.as_bytes(), &more].concat();
            for time in [
                TextTime::Iso8601,
                TextTime::Number(Unit::Seconds),
                TextTime::Number(Unit::Nanoseconds),
            ] {
                let _ = time.read(&text);
            }
        }
    }
}
