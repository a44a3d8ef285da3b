//! The settings that were read, and where each value came from.

use super::error::shown;
use super::{Setting, Settings};
use std::collections::BTreeMap;

/// What [`parse`](super::parse()) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    pub settings: Settings,
    /// Variables that begin with `RACERD_`, are no setting, and are known to mean something else.
    pub ignored: Vec<String>,
    /// The file's name, if there is one.
    pub file: Option<String>,
    pub(super) sources: BTreeMap<&'static str, Source>,
}

impl Parsed {
    /// Where the setting with this field name got its value from.
    pub fn source(&self, field: &str) -> Source {
        self.sources.get(field).copied().unwrap_or(Source::Default)
    }

    /// The same for a person: `default`, `racerd.toml:12`, `RACERD_PING_PERIOD`, `--ping-period`.
    pub fn origin(&self, setting: &Setting) -> String {
        match self.source(setting.field) {
            Source::Default => "default".to_string(),
            Source::File { line } => format!("{}:{line}", self.file.as_deref().unwrap_or_default()),
            Source::Environment => setting.variable(),
            Source::Flag => format!("--{}", setting.flag()),
        }
    }

    /// Setting and value as they were written where the value came from.
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

/// Where a value comes from, the weakest first.
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
