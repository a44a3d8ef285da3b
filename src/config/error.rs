//! What a bad setting is told with, and how values stand in messages.

use std::fmt;

/// One line for the person who started racerd: which flag, variable or line, its value, what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    pub(super) fn new(text: &str) -> ConfigError {
        // A value may hold anything; the line stays one line.
        let line = text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() });
        ConfigError(line.collect())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// What follows the name of what is no setting: the nearest, as it is written in that source, or where all are shown.
pub(super) fn unknown(near: Option<String>, all: &str) -> String {
    let hint = near.map_or(all.to_string(), |near| format!("did you mean {near}?"));
    format!("unknown setting; {hint}")
}

/// Returns a value as it is put into a message: without control characters, and not longer than a line when they are
/// escaped.
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
