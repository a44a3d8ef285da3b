//! The connections and the application behind them, as one pure machine. It is fed [`Input`]s, and drained of
//! [`Output`]s, store requests and bytes to write. It has no socket, thread, file or clock, and knows no room and no
//! JSON. The same code runs under the server's loop, in tests and under fuzzers.
//!
//! [`Turn::run`] is the order in which a loop does so.

mod admission;
mod app;
mod client_rates;
mod connections;
mod crowd;
#[allow(clippy::module_inception)]
mod engine;
mod fair_line;
mod handshake_line;
mod handshakes;
mod lifecycle;
mod line;
mod memory;
mod payer;
mod places;
mod reading;
mod returns;
mod slot;
mod timers;
mod turn;
mod values;
mod weighing;
mod writing;

pub use admission::Admission;
pub use app::App;
pub use client_rates::{CLIENT_BYTES, MAX_CLIENTS};
pub use connections::Connections;
pub use engine::{Engine, SHORT_OF_MEMORY};
pub use handshake_line::{Coming, LONGEST_WAIT, MOST_WAITING};
pub use handshakes::Admitted;
pub use memory::Budget;
pub use payer::Payer;
pub use places::kept_places;
pub use returns::{MAX_RETURNS, RETURN_BYTES, SessionMark};
pub use slot::SLOT_BYTES;
pub use turn::{Edge, Part, Turn, Written};
pub use values::{Fact, Input, Limits, Now, Output};
