//! A client of racerd for the command line: one room over one blocking connection, which it restores by itself.
//! `session` decides what to send and how to react to each text that arrives; it is pure, like `outbox`,
//! `server_message` and `target`. `run` is the loop around it, `stdin_lines` its input, `connection` and `handshake`
//! the WebSocket, `pipe` and `tls` the transport below. The client prints nothing: its caller is handed events.

mod connection;
mod error;
mod handshake;
mod outbox;
mod pipe;
mod run;
mod sealed_lines;
mod server_message;
mod session;
mod stdin_lines;
mod target;
#[cfg(feature = "tls")]
mod tls;

pub use connection::{Trust, connect};
pub use error::{ConnectionError, RunError};
pub use handshake::detail_of;
pub use run::{RunOptions, run};
#[cfg(any(test, fuzzing))]
pub use sealed_lines::{SealedLineError, SealedLines};
pub use server_message::ServerMessage;
pub use session::{Begin, ClientSession, Event};
pub use stdin_lines::StdinLines;
pub use target::{Target, host_and_port, without_zone};
