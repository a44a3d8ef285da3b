//! What is sealed and how, on well-known libraries: session tokens, and what lies on the disk. Pure: keys and randomness
//! are passed in.

pub mod at_rest;
mod token;

pub use token::{Token, TokenSealer};
