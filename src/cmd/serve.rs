//! `racerd serve`: settings in, then the server until it is told to stop.

use super::{Failure, given::Given};
use crate::config::{LogLevel, Source};
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
    let listeners = server::given_listeners().map_err(Failure::Usage)?;
    let given = Given::new(args, environment);
    let parsed = given.read_to_serve()?;
    if !parsed.ignored.is_empty() {
        let log = Log::stderr(parsed.settings.log.log_level, parsed.settings.log.log_format);
        log.write(LogLevel::Info, "these variables are no settings", &[("ignored", &parsed.ignored.join(" "))]);
    }
    if !listeners.is_empty() && parsed.source("listen") != Source::Default {
        let log = Log::stderr(parsed.settings.log.log_level, parsed.settings.log.log_format);
        log.write(LogLevel::Warn, "listen is not used, since listeners are given", &[("given", &listeners.len())]);
    }
    let read_again = move || given.read_to_serve().map_err(Failure::into_text);
    server::run(parsed.settings, listeners, Box::new(read_again)).map_err(|error| match error {
        ServeError::Start(text) => Failure::Usage(text),
        ServeError::Failed(text) => Failure::Failed(text),
    })
}
