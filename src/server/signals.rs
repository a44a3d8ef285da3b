//! SIGTERM, SIGINT and SIGHUP as events of the loop. SIGPIPE is ignored by Rust's runtime, so a write to a peer or a log that
//! is gone is an error like any other.

use std::io;

use mio::Registry;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::tokens::SIGNALS;

/// What the signals so far ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Go,
    /// Stop in order.
    Stop,
    /// Stop at once: the second signal.
    Now,
}

/// What the signals since the last look ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub wish: Wish,
    /// Read the settings again. However many signals have asked for it, once.
    pub reload: bool,
}

impl Asked {
    pub const NOTHING: Asked = Asked { wish: Wish::Go, reload: false };
}

pub struct Signals(signal_hook_mio::v1_0::Signals);

impl Signals {
    pub fn new(registry: &Registry) -> io::Result<Signals> {
        let mut signals = signal_hook_mio::v1_0::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        registry.register(&mut signals, SIGNALS, mio::Interest::READABLE)?;
        Ok(Signals(signals))
    }

    pub fn take(&mut self, is_stopping: bool) -> Asked {
        let mut asked = Asked::NOTHING;
        // Each signal comes once, however often it was sent.
        for signal in self.0.pending() {
            asked.wish = match (signal, asked.wish) {
                (SIGHUP, wish) => {
                    asked.reload = true;
                    wish
                }
                (_, Wish::Go) if !is_stopping => Wish::Stop,
                _ => Wish::Now,
            };
        }
        asked
    }
}
