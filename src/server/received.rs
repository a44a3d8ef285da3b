//! The result of one read of a socket, with TLS or without.

use super::tls::Fault;

/// Result of one read of a socket.
pub enum Received<'a> {
    Some {
        bytes: &'a mut [u8],
        more: bool,
    },
    Nothing,
    End,
    Failed,
    /// The TLS session cannot go on.
    Broken(Fault),
    /// TLS was expected, but the peer speaks plain HTTP.
    PlainHttp,
}
