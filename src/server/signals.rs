//! SIGTERM and SIGINT as events of the loop. SIGPIPE is ignored by Rust's runtime, so a write to a peer or a log that
//! is gone is an error like any other.

use std::io;

use mio::Registry;
use signal_hook::consts::{SIGINT, SIGTERM};

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

pub struct Signals(signal_hook_mio::v1_0::Signals);

impl Signals {
    pub fn new(registry: &Registry) -> io::Result<Signals> {
        let mut signals = signal_hook_mio::v1_0::Signals::new([SIGTERM, SIGINT])?;
        registry.register(&mut signals, SIGNALS, mio::Interest::READABLE)?;
        Ok(Signals(signals))
    }

    pub fn take(&mut self, is_stopping: bool) -> Wish {
        match self.0.pending().count() {
            0 => Wish::Go,
            1 if !is_stopping => Wish::Stop,
            _ => Wish::Now,
        }
    }
}
