//! The limits of a connection, and the results of its bytes and deadlines.

use std::borrow::Cow;

use super::bucket::Rate;
use crate::http::headers::Headers;
use crate::http::limits::HeadLimits;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::ws;

/// The limits of every connection. Durations are in milliseconds.
#[derive(Clone, Debug)]
pub struct ConnLimits {
    pub head: HeadLimits,
    pub ws: ws::Limits,
    /// High-water mark, in bytes: above it, broadcasts are not queued and no more requests are read.
    pub queue_bytes: usize,
    /// Bytes that may wait beyond `queue_bytes`, for replies. A reply past them closes the connection.
    pub reply_bytes: usize,
    /// Sends that may await their acknowledgement. At this number the socket is not read.
    pub in_flight: u16,
    /// HTTP requests of one connection. Past it the socket is not read for a while.
    pub requests: Rate,
    /// Pings and pongs of one connection, likewise.
    pub controls: Rate,
    pub header_timeout: u64,
    pub keep_alive: u64,
    pub write_wait: u64,
    pub pong_wait: u64,
    pub ping_period: u64,
}

#[cfg(test)]
impl ConnLimits {
    /// Returns limits that a few bytes or a second reach, for tests.
    pub fn small() -> ConnLimits {
        ConnLimits {
            head: HeadLimits::default(),
            ws: ws::Limits { max_message: 100, max_fragments: 1, binary: false },
            queue_bytes: 1000,
            reply_bytes: 1000,
            in_flight: 1,
            requests: Rate::new(0, 1, 1),
            controls: Rate::new(0, 1, 1),
            header_timeout: 1000,
            keep_alive: 1000,
            write_wait: 1000,
            pong_wait: 1000,
            ping_period: 1000,
        }
    }
}

/// The result of parsing some bytes.
pub enum Step<'a> {
    /// A request with its whole body. It must be answered before anything more is read.
    Request(Box<Request>, Vec<u8>),
    /// Bytes that are not a request: refuse them with this and close. With the header fields, if those could be read.
    Malformed(Problem, Headers),
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
    /// Something that the connection handled itself. The bytes may hold more.
    Again,
    /// The connection began to close. The session is over.
    Ended(Ending),
}

/// Why a connection ended, for the log and for the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The last answer was given, or no further request came.
    Done,
    /// The peer closed its WebSocket, with this code.
    PeerClosed(Option<u16>),
    /// A close frame came on a sealed WebSocket, with this code. Nobody sealed it, so anybody on the way may have sent
    /// it.
    UnsealedClose(Option<u16>),
    /// The peer asked for the end of its session.
    PeerEnded,
    /// The server closed the WebSocket, with this code and reason.
    Closed(u16, &'static str),
    /// The peer's stream ended without a close, or within a request.
    Eof,
    /// The socket failed.
    Reset,
    /// No request came in time, or its place was needed before one came.
    Idle,
    /// Its address has too many connections, and few places are free.
    Refused,
    /// The peer took no byte for the write timeout.
    TooSlow,
    /// The server was short of memory, and this connection held much.
    NoMemory,
    /// The server shut down and waited no longer.
    Stopped,
}

/// The result of an expired deadline.
pub enum Timeout {
    /// Nothing that concerns the caller: the deadline has moved, or a ping was queued.
    Nothing,
    /// A request did not arrive whole: refuse it with this and close. With its header fields, if those had arrived.
    Late(Problem, Headers),
    /// No request came, and the server is full: say so and close.
    Full,
    /// The peer was over its rate, and has waited: it may be read again.
    Waited,
    /// The connection began to close. The session is over.
    Ended(Ending),
    /// The connection is to be dropped at once.
    Drop(Ending),
}
