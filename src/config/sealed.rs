//! Settings: sealed sockets, encryption without certificates.

use super::setting::{Kind, settings};
use super::tls::file;

settings! {
    /// Sealed sockets.
    Sealed in sealed {
        /// The file with the private key of sealed sockets, as racerd keygen writes it; nobody but its owner may have
        /// access to it. A second file has the key before that, which clients may still use. none: racerd-sealed-key
        /// and racerd-sealed-key-old among systemd's credentials, if they are there. Without a key there are no sealed
        /// sockets.
        sealed_key: Vec<String> = "", Kind::List { item: "FILE", one_at_least: false, read: file }, live false;
        /// Refuse all that would carry what is said in the clear: open sockets, event streams, history, publishing,
        /// members. The web page and /healthz and /readyz stay.
        require_sealed: bool = "false", Kind::Flag, live false;
    }
}
