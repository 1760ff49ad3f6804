//! Numbers as people read them.

use std::fmt::Write;

/// Writes how often something happened.
#[must_use]
pub fn times(number: u64) -> String {
    match number {
        1 => "once".to_owned(),
        _ => format!("{} times", count(number)),
    }
}

/// Writes a number of things, whose names are those of one and of several.
#[must_use]
pub fn counted(number: u64, (one, several): (&str, &str)) -> String {
    format!(
        "{} {}",
        count(number),
        if number == 1 { one } else { several }
    )
}

/// Writes a count with a comma between thousands.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a number a second with three digits and a factor: `412k`, `3.41M`.
#[must_use]
pub fn rate(per_s: f64) -> String {
    scaled(per_s, &[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")])
}

/// Writes nanoseconds with three digits and a unit: `850 ns`, `12.4 µs`, `1.07 ms`, `2.50 s`.
#[must_use]
pub fn time(ns: f64) -> String {
    scaled(ns, &[(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")])
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let (factor, unit) = units
        .iter()
        .find(|(factor, _)| value >= *factor)
        .or(units.last())
        .expect("there are units");
    let value = value / factor;
    let decimals = match value {
        value if *factor == 1.0 || value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let mut text = String::new();
    write!(text, "{value:.decimals$}{unit}").expect("writing to a string");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(
            (times(1), times(1_201)),
            ("once".to_owned(), "1,201 times".to_owned())
        );
        assert_eq!(rate(412_345.0), "412k");
        assert_eq!(rate(3_412_345.0), "3.41M");
        assert_eq!(time(850.0), "850 ns");
        assert_eq!(time(12_400.0), "12.4 µs");
        assert_eq!(time(2_500_000_000.0), "2.50 s");
        assert_eq!(time(0.0), "0 ns");
    }
}
