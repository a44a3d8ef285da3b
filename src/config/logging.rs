//! Settings: the log on stderr.

use super::setting::{Choice, Kind, settings};

settings! {
    /// What is written to stderr.
    Logging in log {
        /// The least important lines that are still written.
        log_level: LogLevel = "info", Kind::Choice(&["error", "warn", "info", "debug"]), live true;
        /// How lines are written. text: time, level, message, key=value. json: one JSON object a line, for collectors;
        /// also for the lines on stdout that say where racerd listens. Why it cannot start is always text.
        log_format: LogFormat = "text", Kind::Choice(&["text", "json"]), live true;
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Choice for LogFormat {
    const ALL: &'static [LogFormat] = &[LogFormat::Text, LogFormat::Json];

    fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// How important a log line is; the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

impl Choice for LogLevel {
    const ALL: &'static [LogLevel] = &[LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug];

    fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }
}
