//! The error of a bad setting, and how messages quote values.

use std::error::Error;
use std::fmt;

use crate::types::{Cause, Reason, Unusable};

/// Why the settings cannot be used. Prints as one line for the user: the flag, variable or line of the file, its value,
/// and the allowed values.
#[derive(Debug)]
pub struct ConfigError(Reason);

impl ConfigError {
    /// Returns the error with this text.
    pub fn new(text: &str) -> ConfigError {
        ConfigError(one_line(text).into())
    }

    /// Returns the error with this text, and the error behind it.
    pub fn with(text: &str, source: impl Error + Send + Sync + 'static) -> ConfigError {
        ConfigError(Reason::with(one_line(text), source))
    }
}

/// Escapes control characters: a value may contain any, and the message must stay one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl From<ConfigError> for Unusable {
    fn from(error: ConfigError) -> Unusable {
        Unusable { cause: Cause::Settings, reason: Reason::of(error) }
    }
}

/// Returns the text after an unknown name: the nearest one, spelled as in that source, or where all are shown.
pub(super) fn unknown(near: Option<String>, all: &str) -> String {
    let hint = near.map_or(all.to_string(), |near| format!("did you mean {near}?"));
    format!("unknown setting; {hint}")
}

/// Returns a value for use in a message: control characters escaped, and cut to the length of a line after that.
pub fn shown(value: &str) -> String {
    const LONGEST: usize = 80;
    let mut out = String::new();
    let mut length = 0;
    for c in value.chars() {
        let escaped = c.is_control().then(|| c.escape_default());
        length += escaped.as_ref().map_or(1, |escaped| escaped.len());
        if length > LONGEST {
            out.push_str("...");
            break;
        }
        match escaped {
            Some(escaped) => out.extend(escaped),
            None => out.push(c),
        }
    }
    out
}
