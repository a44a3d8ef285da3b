//! One connection from accept to close: HTTP, then perhaps a WebSocket or an event stream, then closing; its deadlines
//! and its write queue. Bytes go in and [`Step`]s come out; bytes to write go into the queue. It knows no room, and
//! no JSON but the line that tells of a sealed close: the caller takes the steps, and decides what a request means.

mod answering;
mod bucket;
mod closing;
mod connection;
mod deadlines;
mod http;
mod parsing;
mod peer;
mod queue;
mod sealing;
mod values;
mod writing;

pub use bucket::{Bucket, Rate, RetrySlots};
pub use connection::{Connection, Encoding, IDLE_BYTES, Open, Protocol, Waits, Wire};
pub use deadlines::EXCESS_TIME;
pub use http::{Door, Reply};
pub use peer::Peer;
pub use queue::{Ledger, Shared, SharedBytes, WriteQueue};
pub use values::{ConnLimits, Ending, Step, Timeout};
