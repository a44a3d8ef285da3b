//! What is sealed and how, on well-known libraries: session tokens, TLS. Pure: keys and randomness are passed in (but
//! for TLS, whose library draws its own).

#[cfg(feature = "tls")]
pub mod tls;
mod token;

pub use token::{Token, TokenSealer};
