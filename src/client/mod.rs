//! A client of racerd for the command line: one room over one blocking connection, which it restores by itself.
//! `session` decides what to send and how to react to each text that arrives; it is pure, like `heard`,
//! `outbox`, `server_message` and `target`. `run` is the loop around it, `stdin_lines` its input, `connection` and
//! `handshake` the WebSocket, `dial`, `pipe` and `tls` the transport below. The client prints nothing: its caller is
//! handed events.
//! A build without the feature `client` has only what `racerd health` needs: the transport, and the reading of a host.

#[cfg(feature = "client")]
mod connection;
mod dial;
mod error;
#[cfg(feature = "client")]
mod handshake;
#[cfg(feature = "client")]
mod heard;
mod host;
#[cfg(feature = "client")]
mod outbox;
mod pipe;
#[cfg(feature = "client")]
mod run;
#[cfg(feature = "client")]
mod sealed_lines;
mod server_message;
#[cfg(feature = "client")]
mod session;
#[cfg(feature = "client")]
mod stdin_lines;
#[cfg(feature = "client")]
mod target;
#[cfg(feature = "tls")]
mod tls;

#[cfg(not(feature = "tls"))]
pub use dial::no_tls;
pub use dial::{Trust, connect};
pub use error::{ConnectionError, RunError};
#[cfg(feature = "client")]
pub use heard::{Heard, Judged, Marks};
pub use host::{host_and_port, without_zone};
#[cfg(feature = "client")]
pub use run::{RunOptions, run};
#[cfg(all(feature = "client", any(test, fuzzing)))]
pub use sealed_lines::{SealedLineError, SealedLines};
pub use server_message::{ServerMessage, detail_of};
#[cfg(feature = "client")]
pub use session::{Begin, ClientSession, Event};
#[cfg(feature = "client")]
pub use stdin_lines::StdinLines;
#[cfg(feature = "client")]
pub use target::Target;
