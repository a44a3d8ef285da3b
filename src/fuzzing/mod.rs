//! The bodies of the fuzz targets, one file each: bytes in, a panic where something that must hold does not. The targets
//! in `fuzz/` are one line each; `cargo test` replays every file of `fuzz/corpus` through the same bodies. Compiled for
//! tests and fuzzers only; they may name every pure part, and know no socket, file or clock either.

mod at_rest;
mod canary;
mod client_json;
mod config;
mod engine;
mod http_request;
mod input;
pub mod late_store;
mod listener;
mod sealed;
mod strict_http;
pub mod world;
pub mod ws_stream;

pub use at_rest::at_rest;
pub use canary::canary;
pub use client_json::client_json;
pub use config::config;
pub use engine::engine;
pub use http_request::http_request;
pub use sealed::sealed;
pub use ws_stream::ws_stream;

#[cfg(test)]
mod replay;
