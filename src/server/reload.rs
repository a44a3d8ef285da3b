//! Reload on SIGHUP: the settings are read again, and those that may change in a running server change at once,
//! everywhere or nowhere. [`Parts::apply`] is the only place that lists the parts which a changed setting reaches.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::accept::Listeners;
use super::log::Log;
use super::open_files::{connections_for, raise_open_files};
use super::sandbox::{Admitted, Use};
use super::tls::Tls;
use crate::config::{Change, Changed, ConfigError, LogLevel, Parsed, Settings};
use crate::engine::{self, App, Engine};
use crate::limits;
use crate::store::Store;

/// Reads file, environment and flags again; the error says in one line why they cannot be used.
pub type Read = Box<dyn Fn() -> Result<Parsed, ConfigError>>;

/// Computes the engine's limits from the settings; the error says in one line why a value cannot be used.
pub type LimitsOf<L> = Box<dyn Fn(&Settings) -> Result<engine::Limits<L>, ConfigError>>;

/// State for changing the settings of a running server; `L` are the limits of the app behind its engine.
pub struct Reload<L> {
    running: Settings,
    read: Read,
    limits: LimitsOf<L>,
    /// The configuration file, if there is one.
    file: Option<PathBuf>,
    admitted: Admitted,
}

/// The parts of a running server that depend on settings.
pub struct Parts<'a, A> {
    pub engine: &'a mut Engine<A>,
    pub store: &'a mut dyn Store,
    pub listeners: &'a mut Listeners,
    pub log: &'a mut Log,
    pub tls: Option<&'a mut Tls>,
    /// The read buffer: as long as the read budget of one connection per turn.
    pub buffer: &'a mut Vec<u8>,
}

impl<L> Reload<L> {
    /// Creates the reload state; `running` are the settings with which the server was started.
    pub fn new(running: Settings, read: Read, limits: LimitsOf<L>) -> Reload<L> {
        Reload { running, read, limits, file: None, admitted: Admitted::Everything }
    }

    /// Explains refusals of the sandbox, which admits no more than this.
    pub fn sandboxed(mut self, file: Option<&Path>, admitted: Admitted) -> Reload<L> {
        self.file = file.map(Path::to_path_buf);
        self.admitted = admitted;
        self
    }

    /// Reads and checks all settings, then changes all that may change, or nothing; logs the outcome. The loop waits
    /// for the file.
    pub fn run<A: App<Limits = L>>(&mut self, parts: &mut Parts<'_, A>) {
        let read = match (self.read)() {
            Ok(parsed) if parsed.file.is_none() && parsed.settings.access.access_file.is_none() => {
                let level = match parts.tls {
                    // SIGHUP has read them again, which is all that was asked for.
                    Some(_) => LogLevel::Info,
                    None => LogLevel::Warn,
                };
                return parts.log.write(level, "no settings to read again: racerd was started without --config", &[]);
            }
            Ok(parsed) => parsed,
            Err(reason) => {
                let refusal = self.file.as_deref().and_then(|file| self.admitted.refusal(file, Use::Read, &reason));
                let reason: &dyn Display = refusal.as_ref().map_or(&reason, |refusal| refusal);
                return parts.log.error("the settings stay as they were", &[("reason", reason)]);
            }
        };
        let change = Change::between(&self.running, &read.settings);
        // All steps that can fail come before the first change.
        let limits = match (self.limits)(&change.settings) {
            Ok(limits) => limits,
            Err(reason) => {
                let file = self.running.access.access_file.as_deref();
                let refusal = file.and_then(|file| self.admitted.refusal(file, Use::Read, &reason));
                let reason: &dyn Display = refusal.as_ref().map_or(&reason, |refusal| refusal);
                return parts.log.error("the settings stay as they were", &[("reason", reason)]);
            }
        };
        parts.apply(&change.settings, limits, raise_open_files());
        self.running = change.settings;
        for Changed { field, old, new } in &change.taken {
            parts.log.info("setting changed", &[("name", field), ("old", old), ("new", new)]);
        }
        for Changed { field, old, new } in &change.waiting {
            parts.log.warn("setting needs a restart", &[("name", field), ("running", old), ("read", new)]);
        }
        if let Some(file) = &self.running.access.access_file {
            parts.log.info("who is known read again", &[("file", &file.display())]);
        }
        let (taken, waiting) = (change.taken.len(), change.waiting.len());
        if let Some(file) = read.file {
            parts.log.info("settings read again", &[("file", &file), ("changed", &taken), ("need_restart", &waiting)]);
        }
    }
}

impl<A: App> Parts<'_, A> {
    /// Passes the settings to every part that depends on them.
    fn apply(&mut self, settings: &Settings, limits: engine::Limits<A::Limits>, open_files: Option<u64>) {
        self.engine.set_limits(limits);
        self.log.set(settings.log.log_level, settings.log.log_format);
        let wanted = settings.limits.max_connections;
        self.listeners.set_limits(connections_for(open_files, wanted), wanted);
        if let Some(tls) = &mut self.tls {
            tls.set_hosts(&settings.listening.host);
        }
        if self.buffer.len() != settings.limits.read_budget {
            *self.buffer = vec![0; settings.limits.read_budget];
        }
        let bounds = limits::store(settings);
        if bounds != self.store.bounds() {
            self.store.set_bounds(bounds);
        }
    }
}

#[cfg(test)]
mod tests;
