//! The sandbox: once a server has started, it gives up what it does not need any more, so that a flaw in it is worth
//! less. Files are limited by Landlock, system calls by seccomp; both hold for all threads made later, and for good.

mod admitted;
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")), path = "no_calls.rs")]
mod calls;
mod files;
mod reach;

use std::fmt;

pub use admitted::{Admitted, Use};
pub use reach::Reach;

/// The two halves, each of which some systems lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Files,
    Calls,
}

/// How far the process is sandboxed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub files: Hold,
    pub calls: Hold,
}

/// Whether one half of the sandbox holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    Whole,
    /// It holds, but for this.
    Part(String),
    /// It does not hold, and this is why.
    Missing(String),
}

impl Held {
    /// Returns the parts that are missing, each with its reason, for people.
    pub fn gaps(&self) -> Vec<String> {
        let gap = |what: &str, hold: &Hold| match hold {
            Hold::Whole => None,
            Hold::Part(but) => Some(format!("{what}: {but}")),
            Hold::Missing(reason) => Some(format!("{what}: {reason}")),
        };
        [gap("files", &self.files), gap("system calls", &self.calls)].into_iter().flatten().collect()
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::Whole => f.write_str("yes"),
            Hold::Part(but) => write!(f, "yes, but {but}"),
            Hold::Missing(reason) => write!(f, "no: {reason}"),
        }
    }
}

/// Returns how far a server on this machine would be sandboxed. Changes nothing.
pub fn offered() -> Held {
    Held { files: files::offered(), calls: calls::offered() }
}

/// Sandboxes the calling thread, and all threads that it makes from now on. It cannot be undone. Call it while there is
/// one thread, with the listeners bound and before the database is opened.
pub fn enter(reach: &Reach) -> Held {
    // The files first: the filter of system calls forbids Landlock's own.
    Held { files: enter_half(Half::Files, reach), calls: enter_half(Half::Calls, reach) }
}

/// Enters one half, which is all that some systems offer.
pub fn enter_half(half: Half, reach: &Reach) -> Hold {
    match half {
        Half::Files => files::enter(reach),
        Half::Calls => calls::enter(reach),
    }
}
