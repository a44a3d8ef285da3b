//! What is sealed and how, on well-known libraries: session tokens, what lies on the disk, sealed sockets, and messages in
//! rooms that the server cannot read. Pure: keys and randomness are passed in.

pub mod at_rest;
pub mod room_key;
pub mod sealed;
mod token;

pub use token::{Token, TokenSealer};
