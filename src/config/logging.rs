//! Settings: what is written to stderr.

use super::setting::{Kind, settings};

settings! {
    /// What is written to stderr.
    Logging in log {
        /// The least important lines that are still written.
        log_level: LogLevel = "info", Kind::Choice(&["error", "warn", "info", "debug"]), live true;
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

impl LogLevel {
    pub const ALL: [LogLevel; 4] = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug];

    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }
}
