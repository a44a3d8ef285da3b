//! What one read of a socket brought, with TLS or without.

use super::tls::Fault;

/// What one read of a socket brought.
pub enum Received<'a> {
    Some {
        bytes: &'a mut [u8],
        more: bool,
    },
    Nothing,
    End,
    Failed,
    /// Its TLS cannot go on.
    Broken(Fault),
    /// It was to speak TLS, and speaks HTTP without.
    PlainHttp,
}
