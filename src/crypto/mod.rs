//! Cryptography on well-known libraries: session tokens, encryption at rest, sealed sockets, end-to-end encrypted
//! messages that the server cannot read, and TLS. Pure: keys and randomness are passed in (except for TLS, whose
//! library draws its own).

pub mod at_rest;
pub mod room_key;
pub mod sealed;
#[cfg(feature = "tls")]
pub mod tls;
mod token;

pub use token::{Nonces, Token, TokenSealer};
