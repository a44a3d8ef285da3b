//! The values at the engine's edge: its clock, its events ([`Input`]), and its requests ([`Output`]).

use core::net::{IpAddr, SocketAddr};

use super::{Admission, Budget};
use crate::conn::{ConnLimits, Ending, Protocol};
use crate::store::{About, StoreEvent};
use crate::types::{ConnId, Millis, WallMillis};

/// The two clocks. Durations come from the monotonic one alone, times for people from the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub mono: Millis,
    pub wall: WallMillis,
}

/// The limits of everything that an engine runs; `L` are those of the app.
#[derive(Debug)]
pub struct Limits<L> {
    pub connections: ConnLimits,
    pub admission: Admission,
    pub memory: Budget,
    /// How long a graceful shutdown may take, in milliseconds.
    pub drain_timeout: u64,
    pub app: L,
}

/// An event for the engine. Events of connections that are gone are legal, and ignored.
#[derive(Debug)]
pub enum Input<'a> {
    /// A connection was accepted.
    Opened {
        conn: ConnId,
        peer: SocketAddr,
        /// A layer below, TLS, encrypts its bytes.
        secure: bool,
    },
    /// A connection was accepted beyond the connection limit. It is answered once and closed: a health request
    /// truthfully, every other one with 503.
    Excess { conn: ConnId, peer: SocketAddr, secure: bool },
    /// The peer sent bytes. They are unmasked in place, so their content is lost.
    Bytes { conn: ConnId, bytes: &'a mut [u8] },
    /// The peer's first bytes are of another protocol than this listener's, such as plain HTTP where TLS is expected.
    /// `detail` says what to do instead.
    WrongProtocol { conn: ConnId, detail: &'static str },
    /// The peer has shut its sending side, and all that it sent was read.
    Ended { conn: ConnId },
    /// The peer has shut its sending side, or the socket has failed, and what it sent before may not be read yet.
    HungUp { conn: ConnId },
    /// The socket failed.
    Lost { conn: ConnId },
    /// The socket took this many bytes of the queue.
    Wrote { conn: ConnId, taken: usize },
    /// The store answered a request, or has something to report.
    Store(StoreEvent),
    /// Shut down gracefully, within the drain timeout.
    Stop,
}

/// An action that the engine requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Shut the socket's sending side and go on reading.
    Shutdown(ConnId),
    /// Close the socket. Its id may be used again after the turn.
    Close(ConnId),
    /// Count this socket, which came beyond the connection limit, among the others: it has a place now.
    Keep(ConnId),
    /// Read the socket again: [`super::Engine::may_read`] refused it, and now allows it.
    Resume(ConnId),
    /// Write this fact to the log.
    Log(Fact),
}

/// A fact worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A connection is closed. `client` is the client of its WebSocket or event stream, where a trusted proxy named
    /// one.
    Closed { conn: ConnId, peer: SocketAddr, client: Option<IpAddr>, ending: Ending, protocol: Protocol },
    /// A request was refused. `client` is the client that made it, where a trusted proxy named one.
    Refused {
        conn: ConnId,
        peer: SocketAddr,
        client: Option<IpAddr>,
        status: u16,
        detail: String,
        /// The method and the path, where they could be read. The query is left out, since it contains names.
        asked: Option<String>,
    },
    /// So many connections were closed, since too much memory was held.
    ShortOfMemory { closed: usize },
    /// So many sealed handshakes used the key before the present one, since this was last said.
    EarlierKey { clients: u64 },
    /// The store accepts no messages.
    StoreFailed { reason: String },
    /// The store accepts messages again.
    StoreRecovered,
    /// The store has something to tell the operator.
    StoreRemark { line: String },
    /// The store works, except for this; `None` ends an earlier note about the same matter.
    StoreNote { about: About, text: Option<String> },
    /// A page of the log cannot be read.
    StoreUnreadable { reason: String },
}
