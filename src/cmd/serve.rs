//! `racerd serve`: settings in, then the server until it is told to stop.

use super::Failure;
use crate::config::{self, LogLevel, Source};
use crate::server::log::Log;
use crate::server::{self, ServeError};
use std::ffi::OsString;

/// Serves until a signal says stop.
///
/// # Errors
/// [`Failure::Usage`] where a setting is wrong or the server cannot start with it, [`Failure::Failed`] where it failed
/// later.
pub fn run(args: Vec<OsString>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Failure> {
    // First of all: it clears variables, which is allowed only while there is one thread.
    let given = server::given_listeners().map_err(Failure::Usage)?;
    let parsed = config::parse(args, environment).map_err(|error| Failure::Usage(error.to_string()))?;
    config::exposed(&parsed.settings).map_err(Failure::Usage)?;
    if !parsed.ignored.is_empty() {
        let log = Log::stderr(parsed.settings.log.log_level);
        log.write(LogLevel::Info, "these variables are no settings", &[("ignored", &parsed.ignored.join(" "))]);
    }
    if !given.is_empty() && parsed.source("listen") != Source::Default {
        let log = Log::stderr(parsed.settings.log.log_level);
        log.write(LogLevel::Warn, "listen is not used, since listeners are given", &[("given", &given.len())]);
    }
    server::run(parsed.settings, given).map_err(|error| match error {
        ServeError::Start(text) => Failure::Usage(text),
        ServeError::Failed(text) => Failure::Failed(text),
    })
}
