//! The JSON that clients and racerd speak to each other over a socket, and the codes in it. Translates between text and
//! the hub's values; decides nothing. The only place besides `api` that knows JSON; hub types carry no serde.

pub mod body;
pub mod client;
mod cursors;
pub mod encrypted;
pub mod errors;
mod raw;
pub mod reasons;
pub mod server;

pub use client::{Command, Request};
pub use errors::{ErrorCode, Refusal};
