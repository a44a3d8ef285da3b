//! A connection and the states of its protocol. The files beside it say what it does: `parsing` bytes, `answering`
//! requests, `writing` frames, `closing`, and minding its `deadlines`.

use core::net::SocketAddr;

use super::bucket::Bucket;
use super::http::Http;
use super::peer::Peer;
use super::queue::WriteQueue;
use super::sealing::Sealing;
use super::{ConnLimits, Ending};
use crate::types::{Millis, SessionSlot};
use crate::ws;

pub struct Connection {
    pub peer: Peer,
    pub wire: Wire,
    pub(super) protocol: Protocol,
    pub(super) state: State,
    /// The bytes for the socket, exactly as it takes them.
    pub queue: WriteQueue,
    /// The extra state of a sealed WebSocket.
    pub(super) sealing: Option<Box<Sealing>>,
    /// Bytes that were read but may not be parsed yet.
    pub input: Vec<u8>,
    /// When the peer's last byte came; see `is_slowed`.
    pub(super) heard: Millis,
    /// When the queue stopped being empty, or moved last; less than that, where it moves more slowly than it must.
    pub(super) progress: Millis,
    /// The last flush left something: the peer reads more slowly than the server sends.
    pub(super) backed_up: bool,
    /// The peer has shut its sending side.
    pub(super) eof: bool,
    /// The peer sends nothing more than what is not read yet.
    pub has_hung_up: bool,
    /// Its TLS handshake waits for its turn, and is not paid for by the wider networks of its address.
    pub owes_tls: bool,
    /// The peer was over a rate: the socket is not read until `heard`, which lies ahead.
    pub(super) is_slowed: bool,
}

/// The protocol that a connection speaks, or spoke until it began to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    /// HTTP for a single answer: the server had reached its connection limit.
    ExcessHttp,
    WebSocket,
    EventStream,
}

/// The encoding of the objects that a session's connection sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// WebSocket frames.
    Frames,
    /// Lines, which a sealed WebSocket turns into frames when it is flushed.
    Lines,
    /// Events of an event stream.
    Events,
}

/// Bytes of one connection with empty buffers.
pub const IDLE_BYTES: usize = size_of::<Connection>() + size_of::<Http>();

/// A WebSocket that its peer has closed while something awaits the store: the acknowledgements of its sends go out
/// before the answering close frame (RFC 6455 §5.5.1 lets it wait), and the end of its session is recorded. The
/// session's use of it is over.
pub(super) struct Parting {
    /// How the peer closed it.
    pub ending: Ending,
    /// Sends, and the end of the session, that the store has not answered.
    pub in_flight: u16,
    /// When the answer goes out at the latest.
    pub until: Millis,
}

pub(super) enum State {
    Http(Box<Http>),
    Open(Open),
    Events(EventStream),
    /// The peer has closed; some of its sends are still to be acknowledged.
    Parting(Parting),
    /// Input is ignored. The queue is written, then the sending side is shut.
    Flushing {
        ending: Ending,
    },
    /// The sending side is shut. Input is discarded.
    Draining {
        ending: Ending,
        until: Millis,
        /// Each further byte moves `until`, but not past this.
        latest: Millis,
        /// The bytes that are still discarded. After them the connection is dropped.
        left: usize,
    },
}

/// An open WebSocket.
pub struct Open {
    pub(super) decoder: ws::Decoder,
    /// The session's slot in the hub.
    pub session: SessionSlot,
    /// Sends that the store has not answered.
    pub in_flight: u16,
    /// What the next request waits for.
    pub waits: Waits,
    pub requests: Bucket,
    pub errors: Bucket,
    /// Pings and pongs.
    pub(super) controls: Bucket,
    pub(super) ping: Ping,
}

/// What a socket's next request waits for, beside its own rate and unanswered sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    Not,
    /// A page of the log, or a parked session.
    Page,
    /// A place at the store for the last request.
    Place,
}

/// An answer without an end.
pub(super) struct EventStream {
    /// The session's slot in the hub.
    pub session: SessionSlot,
    /// The jitter of its comments: see [`Connection::begin_events`].
    pub early: u8,
}

/// The layer below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    Plain,
    /// TLS, of which the peer has said nothing yet.
    SilentTls,
    Tls,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ping {
    None,
    /// The ping is queued. The time for its answer runs from when it is written.
    Queued,
    /// The ping was written at this time.
    Sent(Millis),
}

impl Connection {
    /// Returns a connection that has just been accepted.
    pub fn new(peer: SocketAddr, now: Millis) -> Connection {
        Connection {
            peer: Peer::new(peer),
            wire: Wire::Plain,
            protocol: Protocol::Http,
            state: State::Http(Box::new(Http::new(now))),
            queue: WriteQueue::default(),
            sealing: None,
            input: Vec::new(),
            heard: now,
            progress: now,
            backed_up: false,
            eof: false,
            has_hung_up: false,
            owes_tls: false,
            is_slowed: false,
        }
    }

    /// Returns a connection beyond the connection limit. It gets one answer, if it sends a request within
    /// [`super::EXCESS_TIME`], and ends with it.
    pub fn in_excess(peer: SocketAddr, now: Millis) -> Connection {
        Connection { protocol: Protocol::ExcessHttp, ..Connection::new(peer, now) }
    }

    /// Returns the WebSocket, while it is open.
    pub fn open(&self) -> Option<&Open> {
        match &self.state {
            State::Open(open) => Some(open),
            _ => None,
        }
    }

    pub fn open_mut(&mut self) -> Option<&mut Open> {
        match &mut self.state {
            State::Open(open) => Some(open),
            _ => None,
        }
    }

    /// Returns the encoding of the objects that this connection sends; `None` while it is HTTP, and when nothing more
    /// is sent.
    pub fn encoding(&self) -> Option<Encoding> {
        match &self.state {
            State::Open(_) | State::Parting(_) => {
                Some(if self.is_sealed() { Encoding::Lines } else { Encoding::Frames })
            }
            State::Events(_) => Some(Encoding::Events),
            State::Http(_) | State::Flushing { .. } | State::Draining { .. } => None,
        }
    }

    /// Returns whether this is a sealed WebSocket.
    pub fn is_sealed(&self) -> bool {
        self.sealing.is_some()
    }

    /// Returns whether the bytes of this connection cannot be read in transit.
    pub fn is_private(&self) -> bool {
        self.wire != Wire::Plain || self.is_sealed()
    }

    /// Returns the bytes that wait to be written, sealed or not.
    pub fn waiting(&self) -> usize {
        self.queue.len() + self.sealing.as_ref().map_or(0, |sealing| sealing.len())
    }

    /// Returns the bytes of memory that this connection takes beside an idle one: what waits for the peer and is not
    /// shared, and what has come of requests and messages.
    pub fn memory(&self) -> usize {
        let state = match &self.state {
            State::Http(http) => http.memory(),
            State::Open(open) => open.decoder.memory(),
            State::Events(_) | State::Parting(_) | State::Flushing { .. } | State::Draining { .. } => 0,
        };
        let sealing = self.sealing.as_ref().map_or(0, |sealing| sealing.memory());
        state + sealing + self.queue.memory() + self.input.capacity()
    }

    /// Returns whether the kernel holds as much for the peer as it may: the last flush left something.
    pub fn is_backed_up(&self) -> bool {
        self.backed_up
    }

    /// Returns whether received bytes or lines wait to be parsed.
    pub fn has_input(&self) -> bool {
        let has_lines = || self.sealing.as_ref().is_some_and(|sealing| sealing.has_lines());
        !self.input.is_empty() || matches!(self.state, State::Open(_)) && has_lines()
    }

    /// Returns the connection's session; `None` before there is one, and when it is over.
    pub fn session(&self) -> Option<SessionSlot> {
        match &self.state {
            State::Open(open) => Some(open.session),
            State::Events(stream) => Some(stream.session),
            State::Http(_) | State::Parting(_) | State::Flushing { .. } | State::Draining { .. } => None,
        }
    }

    /// Returns whether the last request awaits its answer.
    pub fn is_waiting(&self) -> bool {
        matches!(&self.state, State::Http(http) if http.is_waiting())
    }

    pub fn is_http(&self) -> bool {
        matches!(self.state, State::Http(_))
    }

    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Parting(_) | State::Flushing { .. } | State::Draining { .. })
    }

    /// Returns whether the connection closes once its queue is written.
    pub fn is_flushing(&self) -> bool {
        matches!(self.state, State::Flushing { .. })
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub fn is_excess(&self) -> bool {
        self.protocol == Protocol::ExcessHttp
    }

    /// Gives a connection beyond the connection limit a place among the others. Returns false if it has one, or closes.
    pub fn keep(&mut self) -> bool {
        let is_kept = self.is_excess() && self.is_http();
        if is_kept {
            self.protocol = Protocol::Http;
        }
        is_kept
    }

    /// Returns since when this is an HTTP connection that asks for nothing and awaits nothing; `None` if it is not, or
    /// beyond the connection limit.
    pub fn idle_since(&self) -> Option<Millis> {
        match &self.state {
            State::Http(http) if http.is_idle() && self.queue.is_empty() && !self.is_excess() && !self.is_slowed => {
                Some(http.since().max(self.progress))
            }
            _ => None,
        }
    }

    /// Returns whether this is a TLS connection of which nothing has come that is encrypted.
    pub fn is_before_tls(&self) -> bool {
        self.wire != Wire::Plain && matches!(&self.state, State::Http(http) if http.is_fresh())
    }

    /// Returns whether this is a TLS connection whose handshake goes on, or is just over: the peer has begun it, and
    /// nothing has come that is encrypted.
    pub fn is_beginning_tls(&self) -> bool {
        self.wire == Wire::Tls && self.is_before_tls()
    }

    /// Does not read the peer until this time, since it was over a rate.
    pub fn slow_until(&mut self, until: Millis, now: Millis) {
        if until > now {
            self.heard = if self.is_slowed { self.heard.max(until) } else { until };
            self.is_slowed = true;
        }
    }

    /// Returns until when the peer is not read because it was over a rate, if it was.
    pub fn slowed_until(&self) -> Option<Millis> {
        self.is_slowed.then_some(self.heard)
    }

    /// Returns whether reading must pause until something else happens: an answer, an acknowledgement, a flush, or the
    /// end of a wait.
    pub fn is_held(&self, limits: &ConnLimits) -> bool {
        let is_held = self.is_slowed || self.waiting() > limits.queue_bytes;
        match &self.state {
            State::Http(http) => is_held || http.is_waiting(),
            State::Open(open) => is_held || open.in_flight >= limits.in_flight || open.waits != Waits::Not,
            State::Events(_) | State::Parting(_) | State::Flushing { .. } | State::Draining { .. } => false,
        }
    }

    /// Returns whether reading pauses for longer than an answer takes, so that what the peer goes on sending fills the
    /// kernel's buffer.
    pub fn is_stalled(&self, limits: &ConnLimits) -> bool {
        let is_over = self.is_slowed || self.waiting() > limits.queue_bytes;
        is_over || self.open().is_some_and(|open| open.in_flight >= limits.in_flight || open.waits == Waits::Place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand idle connections should cost little: state that few of them have is boxed.
    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Connection>() <= 208, "{}", size_of::<Connection>());
    }
}
