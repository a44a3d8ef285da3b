//! Settings: what the process may still do once it has started.

use super::setting::{Field, Kind, Value, settings};

settings! {
    /// What the process may still do once it has started.
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

impl SandboxMode {
    pub const ALL: [SandboxMode; 2] = [SandboxMode::On, SandboxMode::Off];

    pub fn as_str(self) -> &'static str {
        match self {
            SandboxMode::On => "on",
            SandboxMode::Off => "off",
        }
    }
}

impl Field for SandboxMode {
    fn take(value: Value) -> Option<SandboxMode> {
        let Value::Text(word) = value else { return None };
        SandboxMode::ALL.into_iter().find(|mode| mode.as_str() == word)
    }

    fn give(&self) -> Value {
        Value::Text(self.as_str().to_string())
    }
}
