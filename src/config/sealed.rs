//! Settings: sealed sockets, encryption without certificates.

use super::setting::{Kind, settings};
use std::path::PathBuf;

settings! {
    /// Sealed sockets.
    Sealed in sealed {
        /// The file with the private key of sealed sockets, as racerd keygen writes it; nobody but its owner may have
        /// access to it. Without it there are no sealed sockets.
        sealed_key: Option<PathBuf> = "", Kind::PathOrNone, live false;
        /// Refuse all that would carry what is said in the clear: open sockets, event streams, history, publishing,
        /// members. The web page and /healthz and /readyz stay.
        require_sealed: bool = "false", Kind::Flag, live false;
    }
}
