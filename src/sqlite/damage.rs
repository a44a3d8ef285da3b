//! Damage: bytes written by racerd have changed since. A disk that does not answer is another matter.

use rusqlite::{Error, ErrorCode};
use serde::de::IgnoredAny;

use crate::types::harmless_start;

/// Maximum number of characters of a description of damage.
pub(super) const LONGEST_TOLD: usize = 500;

/// Returns whether a plain body is complete, which only the sender's JSON can tell. (serde_json skips over strings
/// without checking that they are UTF-8.)
pub(super) fn is_whole(body: &[u8]) -> bool {
    str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// Returns whether this error means that the bytes are wrong.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || matches!(
            error,
            Error::InvalidColumnType(..)
                | Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::Utf8Error(..)
        )
}

/// Formats the result of an SQLite check for one line, without the line that only names the database. Escapes it, since
/// it may quote a damaged schema.
pub(super) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("***") && !line.is_empty()).collect();
    harmless_start(&lines.join(", "), LONGEST_TOLD)
}
