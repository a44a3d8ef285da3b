//! What is sealed and how, on well-known libraries: session tokens, sealed sockets. Pure: keys and randomness are passed
//! in.

pub mod sealed;
mod token;

pub use token::{Token, TokenSealer};
