//! What is sealed and how, on well-known libraries: session tokens. Pure: keys and randomness are passed in.

mod token;

pub use token::{Token, TokenSealer};
