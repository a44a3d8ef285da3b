//! `racerd serve`: settings in, then the server until it is told to stop.

use super::{Failure, given::Given, no_signals};
use crate::config::{LogLevel, Source};
use crate::server;
use crate::server::log::Log;
use std::ffi::OsString;

/// Serves until a signal says stop.
///
/// # Errors
/// [`Failure::Usage`] where a person has to change something before a server can start, [`Failure::Failed`] where the
/// system refuses, or it failed later.
pub fn run(args: Vec<OsString>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Failure> {
    // First of all: it clears variables, which is allowed only while there is one thread.
    let listeners = server::given_listeners().map_err(Failure::Usage)?;
    let signals = server::Early::for_server().map_err(no_signals)?;
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
    Ok(server::run(parsed.settings, listeners, Box::new(read_again), signals)?)
}
