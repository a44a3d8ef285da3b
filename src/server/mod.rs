//! The edge: one mio loop that owns the listeners, every socket and the clock, feeds input to the engine, and carries
//! out the engine's requests. It makes no decisions about protocols; the order of a turn is
//! [`Turn::run`](crate::engine::Turn::run).

mod accept;
mod access_file;
mod activation;
mod backend;
mod bind;
mod clock;
mod event_loop;
mod facts;
pub mod log;
pub mod machine;
pub mod memory;
mod names;
mod open_files;
mod pace;
mod received;
mod reload;
pub mod sandbox;
mod setup;
mod signals;
mod socket_options;
mod sockets;
mod supervisor;
#[cfg_attr(not(feature = "tls"), path = "tls/absent.rs")]
mod tls;
mod tokens;

pub use accept::Listeners;
pub use activation::given_listeners;
pub use event_loop::{Loop, ServeError};
pub use open_files::{FEW, RESERVED, connections_for, open_files, raise_open_files};
pub use setup::{check, reach, run};
pub use signals::Early;
pub use tokens::WAKER;
