//! What is sealed and how, on well-known libraries: session tokens, what lies on the disk, sealed sockets, and messages
//! in rooms that the server cannot read, TLS. Pure: keys and randomness are passed in (but for TLS, whose library draws
//! its own).

pub mod at_rest;
pub mod room_key;
pub mod sealed;
#[cfg(feature = "tls")]
pub mod tls;
mod token;

pub use token::{Token, TokenSealer};
