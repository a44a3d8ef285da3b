//! The wiring: connections, the application behind them, and the store's answers, as one pure machine. It is fed
//! [`Input`]s and drained of [`Output`]s, store requests and bytes to write; it has no socket, thread, file or clock.
//! The same code runs under the loop, in tests and under fuzzers.
//!
//! [`Turn::run`] is the order in which a loop does so.

mod admission;
mod app;
mod client_rates;
mod connections;
#[allow(clippy::module_inception)]
mod engine;
mod turn;

pub use admission::Admission;
pub use app::App;
pub use client_rates::{CLIENT_BYTES, MOST as MOST_CLIENTS};
pub use connections::Connections;
pub use engine::{Engine, Fact, Input, Limits, Now, Output};
pub use turn::{Edge, Turn, Written};
