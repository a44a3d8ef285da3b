//! Settings: the limits of the process once it has started.

use super::setting::{Choice, Kind, settings};

settings! {
    /// Limits the process to what a running server needs.
    Sandbox in sandbox {
        /// on: once it has started, racerd can write only the folders of its database and of the certificate that it
        /// makes itself, read only these and the folders of its configuration, certificates and keys, and make only
        /// the system calls that it needs. What the system does not offer of that is left out, with a warning. off:
        /// none of that.
        sandbox: SandboxMode = "on", Kind::Choice(&["on", "off"]), live false;
    }
}

/// Whether the server gives up the rights that it does not need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxMode {
    On,
    Off,
}

impl Choice for SandboxMode {
    const ALL: &'static [SandboxMode] = &[SandboxMode::On, SandboxMode::Off];

    fn as_str(self) -> &'static str {
        match self {
            SandboxMode::On => "on",
            SandboxMode::Off => "off",
        }
    }
}
