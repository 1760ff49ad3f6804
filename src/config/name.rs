//! Values that a `feeds.toml` writes as names.

use std::{fmt, str::FromStr};

use serde::Deserialize;

/// Reads a value that the file writes as a name, or not at all.
pub(super) fn from_optional_name<'de, D, T>(
    deserializer: D,
) -> std::result::Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    from_name(deserializer).map(Some)
}

/// Reads a value that the file writes as a name.
pub(super) fn from_name<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let name = String::deserialize(deserializer)?;
    name.parse()
        .map_err(|problem| serde::de::Error::custom(format!("\"{name}\" is {problem}")))
}
