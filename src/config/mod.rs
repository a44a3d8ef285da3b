//! The settings: each is declared once, as data, in the file of its group (`listening`, `access`, `tls`, `sealed`,
//! `storage`, `limits`, `time`, `logging`, `sandbox`). Flags, environment variables, the file's keys, `--help`, the
//! checks and the typed [`Settings`] all come from that declaration. Knows no socket, file, clock or process:
//! arguments, environment and text are passed in.

mod access;
mod change;
mod error;
mod example;
mod file;
mod help;
mod limits;
mod listening;
mod logging;
mod parse;
mod parsed;
mod relations;
mod sandbox;
mod sealed;
mod setting;
mod spelling;
mod storage;
#[cfg(test)]
mod table;
mod text;
mod time;
mod tls;

pub use access::{Access, Guests};
pub use change::{Change, Changed};
pub use error::{ConfigError, shown};
pub use example::example;
pub use file::{File, kind_of};
pub use help::{help, help_on};
pub use limits::Limits;
pub use listening::Listening;
pub use logging::{LogFormat, LogLevel, Logging};
pub use parse::{file_name, flag_names, flag_takes_value, parse, separate_value};
pub use parsed::{Parsed, Source};
pub use relations::{MAX_LISTENERS, exposed};
pub use sandbox::{Sandbox, SandboxMode};
pub use sealed::Sealed;
pub use setting::{Choice, Kind, Setting, Value};
pub use spelling::nearest;
pub use storage::Storage;
pub use text::{duration, wrap};
pub use time::Times;
pub use tls::Tls;

/// Every setting's value, by group. Sizes are in bytes, durations in milliseconds, rates in events per the unit that
/// the field's text names (0: no limit).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub listening: Listening,
    pub access: Access,
    pub tls: Tls,
    pub sealed: Sealed,
    pub storage: Storage,
    pub limits: Limits,
    pub time: Times,
    pub log: Logging,
    pub sandbox: Sandbox,
}

/// One group of settings, as `--help` prints it.
#[derive(Clone, Copy)]
pub struct Group {
    pub title: &'static str,
    pub settings: &'static [Setting],
}

/// The declaration: every group in the order in which it is shown.
pub static GROUPS: [Group; 9] = [
    Group { title: "Listening", settings: listening::SETTINGS },
    Group { title: "Access", settings: access::SETTINGS },
    Group { title: "TLS", settings: tls::SETTINGS },
    Group { title: "Sealed sockets", settings: sealed::SETTINGS },
    Group { title: "Storage", settings: storage::SETTINGS },
    Group { title: "Limits", settings: limits::SETTINGS },
    Group { title: "Time", settings: time::SETTINGS },
    Group { title: "Log", settings: logging::SETTINGS },
    Group { title: "Sandbox", settings: sandbox::SETTINGS },
];

/// Returns every setting, in the order of the declaration.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

#[cfg(test)]
mod tests;
