//! The settings that were read, and the source of each value.

use super::error::shown;
use super::{Setting, Settings};
use std::collections::BTreeMap;

/// The result of [`parse`](super::parse()).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    pub settings: Settings,
    /// Variables that begin with `RACERD_`, are not settings, and are known to mean something else.
    pub ignored: Vec<String>,
    /// The file's name, if there is one.
    pub file: Option<String>,
    pub(super) sources: BTreeMap<&'static str, Source>,
}

impl Parsed {
    /// Returns the source of the value of the setting with this field name.
    pub fn source(&self, field: &str) -> Source {
        self.sources.get(field).copied().unwrap_or(Source::Default)
    }

    /// Returns the same as text for the user: `default`, `racerd.toml:12`, `RACERD_PING_PERIOD`, `--ping-period`.
    pub fn origin(&self, setting: &Setting) -> String {
        match self.source(setting.field) {
            Source::Default => "default".to_string(),
            Source::File { line } => format!("{}:{line}", self.file.as_deref().unwrap_or_default()),
            Source::Environment => setting.variable(),
            Source::Flag => format!("--{}", setting.flag()),
        }
    }

    /// Returns setting and value in the notation of the value's source.
    pub(super) fn spelled(&self, setting: &Setting) -> String {
        let value = match shown(&setting.show(&self.settings)) {
            none if none.is_empty() => "none".to_string(),
            value => value,
        };
        match self.source(setting.field) {
            Source::Default => format!("{} {value} (default)", setting.flag()),
            Source::File { .. } => format!("{}: {} = {value}", self.origin(setting), setting.field),
            Source::Environment => format!("{}={value}", setting.variable()),
            Source::Flag => format!("--{} {value}", setting.flag()),
        }
    }
}

/// The source of a value; the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Default,
    File {
        /// Counted from 1.
        line: u32,
    },
    Environment,
    Flag,
}
