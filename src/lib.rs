//! racerd: a WebSocket chat-room server on one mio loop. The crate behind the binary, so that tests, examples and
//! benches use the real parts. ARCHITECTURE.md follows one message through these modules.
#![forbid(unsafe_code)]

pub mod access;
pub mod api;
pub mod chat;
pub mod client;
pub mod cmd;
pub mod config;
pub mod conn;
pub mod crypto;
pub mod engine;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod hub;
mod json;
mod key_file;
pub mod limits;
mod named_file;
pub mod protocol;
mod random;
pub mod server;
pub mod sqlite;
pub mod store;
#[cfg(any(test, fuzzing, feature = "testing"))]
pub mod testing;
pub mod types;
pub mod web;
pub mod ws;
