//! Why something that the settings, the arguments or the system offer cannot be used.

use std::error::Error;
use std::fmt;

use super::{Cause, Reason};

/// Why a file, an address, a key or the like cannot be used. Prints as one line: what happened, where, what to do.
#[derive(Debug)]
pub struct Unusable {
    /// Decides whether trying again may help.
    pub cause: Cause,
    pub reason: Reason,
}

impl Unusable {
    /// Returns the refusal with this cause and sentence.
    pub fn new(cause: Cause, reason: impl Into<Reason>) -> Unusable {
        Unusable { cause, reason: reason.into() }
    }

    /// Returns the refusal with this cause and sentence, and the error behind it.
    pub fn with(cause: Cause, text: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Unusable {
        Unusable { cause, reason: Reason::with(text, source) }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl Error for Unusable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}
