//! SIGHUP: the settings are read again, and what may change while running changes at once, everywhere or nowhere. What
//! a changed setting reaches is written down in [`Parts::apply`], once.

use super::accept::Listeners;
use super::log::Log;
use super::setup::{admission, conn_limits, connections_for, raise_open_files, store_bounds};
use super::tls::Tls;
use crate::config::{Change, Changed, Parsed, Settings};
use crate::engine::{App, Engine};
use crate::store::Store;

/// Reads file, environment and flags again: what they say, or in one line why not.
pub type Read = Box<dyn Fn() -> Result<Parsed, String>>;

/// What a running server needs to change its settings.
pub struct Reload {
    running: Settings,
    read: Read,
}

/// The parts of a running server that hold something of the settings.
pub struct Parts<'a, A> {
    pub engine: &'a mut Engine<A>,
    pub store: &'a mut dyn Store,
    pub listeners: &'a mut Listeners,
    pub log: &'a mut Log,
    pub tls: Option<&'a mut Tls>,
    /// As long as a connection's share of a turn.
    pub buffer: &'a mut Vec<u8>,
}

impl Reload {
    /// `running` are the settings with which the server was started.
    pub fn new(running: Settings, read: Read) -> Reload {
        Reload { running, read }
    }

    /// Reads and checks all, then changes all that may change, or nothing; says in the log what came of it. The loop waits
    /// for the file.
    pub fn run<A: App>(&mut self, parts: &mut Parts<'_, A>) {
        let read = match (self.read)() {
            Ok(parsed) if parsed.file.is_none() => {
                return parts.log.warn("no settings to read again: racerd was started without --config", &[]);
            }
            Ok(parsed) => parsed,
            Err(reason) => return parts.log.error("the settings stay as they were", &[("reason", &reason)]),
        };
        let change = Change::between(&self.running, &read.settings);
        if let Err(reason) = parts.apply(&change.settings, raise_open_files()) {
            return parts.log.error("the settings stay as they were", &[("reason", &reason)]);
        }
        self.running = change.settings;
        for Changed { field, old, new } in &change.taken {
            parts.log.info("setting changed", &[("name", field), ("old", old), ("new", new)]);
        }
        for Changed { field, old, new } in &change.waiting {
            parts.log.warn("setting needs a restart", &[("name", field), ("running", old), ("read", new)]);
        }
        let (taken, waiting) = (change.taken.len(), change.waiting.len());
        let file = read.file.as_deref().unwrap_or_default();
        parts.log.info("settings read again", &[("file", &file), ("changed", &taken), ("need_restart", &waiting)]);
    }
}

impl<A: App> Parts<'_, A> {
    /// Hands the settings to every part that holds something of them.
    ///
    /// # Errors
    /// A value that one of them cannot use; then nothing has changed.
    fn apply(&mut self, settings: &Settings, open_files: Option<u64>) -> Result<(), String> {
        // First the one that may refuse.
        self.engine.configure(settings, conn_limits(settings), admission(settings))?;
        self.log.set(settings.log.log_level, settings.log.log_format);
        let wanted = settings.limits.max_connections;
        self.listeners.keep_within(connections_for(open_files, wanted), wanted);
        if let Some(tls) = &mut self.tls {
            tls.set_hosts(&settings.listening.host);
        }
        if self.buffer.len() != settings.limits.read_budget {
            *self.buffer = vec![0; settings.limits.read_budget];
        }
        let bounds = store_bounds(settings);
        if bounds != self.store.bounds() {
            self.store.set_bounds(bounds);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
