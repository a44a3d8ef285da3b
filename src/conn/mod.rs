//! One connection from accept to close: HTTP, then perhaps WebSocket or an event stream, then closing; its deadlines and its write queue.
//! Bytes in, [`Step`]s out; bytes to write into the queue. It knows no room and no JSON, and what a request means is
//! decided by who takes the steps.

mod bucket;
mod closing;
mod connection;
mod http;
mod peer;
mod queue;
mod sealing;
mod writing;

pub use bucket::{Bucket, Rate, Turns};
pub use connection::{
    ConnLimits, Connection, Counted, EXCESS_TIME, Ending, Form, IDLE_BYTES, Kind, Open, Step, Timeout,
};
pub use http::Reply;
pub use peer::Peer;
pub use queue::{Shared, WriteQueue};
