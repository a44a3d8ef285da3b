//! TLS 1.2 and 1.3 as bytes in and bytes out, by rustls: certificates and keys from their text, and one session. Knows
//! no socket, file or clock; `server/tls` does the reading and writing.

mod certificates;
mod own;
mod session;
#[cfg(test)]
pub mod tests;
mod validity;

pub use certificates::{Certificate, KeyHash, Pair, PairError, config, tickets};
pub use own::{Due, Made, Why, due, made, period};
pub use session::{Fault, RECORD, Session, UNFINISHED};
pub use validity::Validity;

use certificates::USABLE;

pub use rustls::ServerConfig;
pub use rustls::server::ProducesTickets;
