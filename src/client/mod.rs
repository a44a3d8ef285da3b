//! A client of racerd for the command line: one room, blocking, back by itself after a loss. `talk` decides what is said
//! and what is made of what is heard; it is pure, like `target` and `heard`. `run` is the loop around it, `line` the
//! connection, `pipe` and `tls` what that runs over. Prints nothing: whoever runs it is handed what was heard.

mod heard;
mod line;
mod pipe;
mod run;
mod sealed_lines;
mod talk;
mod target;
#[cfg(feature = "tls")]
mod tls;

pub use heard::Heard;
pub use line::{Fault, Trust, connect};
pub use run::{Errand, Lines, run};
#[cfg(any(test, fuzzing))]
pub use sealed_lines::{Fault as SealedFault, SealedLines};
pub use talk::{Begin, Event, Talk};
pub use target::{Target, host_and_port};

use crate::types::Cause;

/// Why a run ended before its errand was done: one line for a person each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A file that it was given cannot be used; it asked nobody.
    NotBegun(Cause, String),
    /// The server does not take it, or ended it for good.
    Refused(String),
    /// There was no connection for as long as one was waited for.
    Unreached(String),
    /// Who answers is not who was asked for: another pin, a certificate that is not trusted.
    Mismatch(String),
    /// Nobody reads any more what is written.
    Unread,
}
