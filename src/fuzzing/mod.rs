//! The bodies of the fuzz targets, one file each: bytes in, and a panic where a required property does not hold. The
//! program of `fuzz/targets.rs` runs them; `cargo test` replays every file of `fuzz/corpus` through the same bodies.
//! Compiled for tests and fuzzers only; they may use every pure part, and likewise know no socket, file or clock,
//! except for `database`, which tests files.

mod access;
mod at_rest;
mod canary;
#[cfg(feature = "client")]
mod client_hears;
mod client_json;
mod config;
mod database;
mod engine;
mod http_request;
mod input;
mod listener;
#[cfg(feature = "client")]
mod room_body;
mod sealed;
mod sizes;
mod strict_http;
pub mod world;
pub mod ws_stream;

pub use access::access;
pub use at_rest::at_rest;
pub use canary::canary;
#[cfg(feature = "client")]
pub use client_hears::client_hears;
pub use client_json::client_json;
pub use config::config;
pub use database::database;
pub use engine::engine;
pub use http_request::http_request;
#[cfg(feature = "client")]
pub use room_body::room_body;
pub use sealed::sealed;
pub use ws_stream::ws_stream;

/// Runs a target on one input.
pub type Body = fn(&[u8]);

/// The targets by their names. [`client_json`] is separate, since it takes a function that measures allocations.
pub const TARGETS: &[(&str, Body)] = &[
    ("access", access),
    ("at_rest", at_rest),
    #[cfg(feature = "client")]
    ("client_hears", client_hears),
    ("config", config),
    ("database", database),
    ("engine", engine),
    ("http_request", http_request),
    #[cfg(feature = "client")]
    ("room_body", room_body),
    ("sealed", sealed),
    ("ws_stream", ws_stream),
];

#[cfg(test)]
mod replay;
