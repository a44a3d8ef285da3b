//! A connection: the states of its protocol, its deadlines, and the steps that its bytes amount to.

use core::net::{IpAddr, SocketAddr};
use std::borrow::Cow;

use super::bucket::{Bucket, Rate};
use super::closing::{DRAIN_TIME, Parting};
use super::http::{Expired, Http, Reply};
use super::peer::Peer;
use super::queue::WriteQueue;
use super::sealing::Sealing;
use crate::http::event_stream;
use crate::http::headers::Headers;
use crate::http::limits::HeadLimits;
use crate::http::problem::{Problem, Shown};
use crate::http::request::Request;
use crate::http::response::{Response, Sending};
use crate::types::{Millis, RoomId};
use crate::ws;
use crate::ws::code;

/// What every connection keeps within. Durations are milliseconds.
#[derive(Clone, Debug)]
pub struct ConnLimits {
    pub head: HeadLimits,
    pub ws: ws::Limits,
    /// Past so many waiting bytes nothing that many hear is queued, and no further request is read.
    pub queue_bytes: usize,
    /// So many more may wait, for replies; past that the connection ends.
    pub reply_bytes: usize,
    /// Sends not yet acknowledged; past it the socket is not read.
    pub in_flight: u16,
    pub header_timeout: u64,
    pub keep_alive: u64,
    pub write_wait: u64,
    pub pong_wait: u64,
    pub ping_period: u64,
}

/// What came of some bytes.
pub enum Step<'a> {
    /// A request with its whole body. It must be answered before anything more is read.
    Request(Box<Request>, Vec<u8>),
    /// Bytes that are no request; to be answered and closed. With the header fields, where those could be read.
    Malformed(Problem, Headers),
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
    /// Something was dealt with here; there may be more in the bytes.
    Again,
    /// The connection began to close; the session is over.
    Ended(Ending),
}

/// Why a connection ended, for the log and for the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The last answer was given, or nothing more was asked.
    Done,
    /// The peer closed its WebSocket, with this code.
    PeerClosed(Option<u16>),
    /// We closed the WebSocket, with this code and reason.
    Closed(u16, &'static str),
    /// The peer's stream ended, or broke off.
    Eof,
    Reset,
    /// No request came.
    Idle,
    /// Took no byte for the write timeout.
    TooSlow,
    /// The server stops and waits no longer.
    Stopped,
}

/// What a deadline brought.
pub enum Timeout {
    /// It was moved meanwhile.
    Nothing,
    /// A request did not come whole: answer this and close. With its header fields, where those had come.
    Late(Problem, Headers),
    /// No request came, and the server is full: say that and close.
    Full,
    /// Closing began: the session is over.
    Ended(Ending),
    /// The connection is to be dropped at once.
    Drop(Ending),
}

pub struct Connection {
    pub peer: Peer,
    pub counted: Counted,
    /// Its bytes are encrypted on their way, below this.
    pub secure: bool,
    pub(super) kind: Kind,
    pub(super) state: State,
    /// What the socket is to take, as it takes it.
    pub queue: WriteQueue,
    /// What a sealed WebSocket has beside the others.
    pub(super) sealing: Option<Box<Sealing>>,
    /// Bytes that were read but may not be looked at yet.
    pub input: Vec<u8>,
    /// When the peer's last byte came.
    heard: Millis,
    /// When the queue last moved or ceased to be empty.
    pub(super) progress: Millis,
    /// The deadline that is armed for this connection; none is `u64::MAX`.
    pub armed: Millis,
    /// The last flush left something: the peer takes less than there is.
    pub(super) backed_up: bool,
    /// The peer sends nothing more.
    pub(super) eof: bool,
    /// Stands in the list of those to flush.
    pub dirty: bool,
    /// Was refused reading; whoever removes the cause has to say so.
    pub stalled: bool,
    /// Stands in the list of those that wait for the congestion to end.
    pub congested: bool,
    /// Somebody wants to hear when the queue has drained.
    pub wants_drained: bool,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    /// HTTP for one answer: there are as many connections as there may be, without this one.
    Excess,
    WebSocket,
    Events,
}

/// In what form a session's connection takes what it is to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Frames of a WebSocket.
    Frames,
    /// Lines of a sealed WebSocket, which become frames when they are flushed.
    Lines,
    /// Events of an event stream.
    Events,
}
/// Against whose limit a connection counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Not,
    Peer,
    Client,
}

/// Bytes of one connection with nothing in its buffers.
pub const IDLE_BYTES: usize = size_of::<Connection>() + size_of::<Http>();

pub(super) enum State {
    Http(Box<Http>),
    Open(Open),
    Events(Events),
    /// Closed by its peer; some of what that sent is still to be acknowledged.
    Parting(Parting),
    /// Nothing more is obeyed; what is queued is written, then the sending side shut.
    Flushing {
        ending: Ending,
    },
    /// The sending side is shut; what still comes is thrown away.
    Draining {
        ending: Ending,
        until: Millis,
        /// `until` moves with each byte that comes, to here at most.
        at_most: Millis,
        /// Bytes that are still thrown away.
        left: usize,
    },
}

/// A WebSocket that is open.
pub struct Open {
    decoder: ws::Decoder,
    /// The session's place in the hub.
    pub session: u32,
    /// The room that the socket was opened on.
    pub room: Option<RoomId>,
    /// Sends that the store has not answered.
    pub in_flight: u16,
    /// A read of history is on its way.
    pub reading: bool,
    pub requests: Bucket,
    pub errors: Bucket,
    ping: Ping,
}

/// An answer without an end: an event stream.
pub(super) struct Events {
    /// The session's place in the hub.
    session: u32,
    /// Its comments come earlier than they must, by so many 256ths of [`SPREAD`]: what many hear at the same moment must
    /// not make them all due at another.
    early: u8,
}

/// Milliseconds in which a connection in excess has to ask what it wants, and then to take the answer.
pub const EXCESS_TIME: u64 = 2000;

/// The part of `ping_period` over which comments are spread, as its divisor.
const SPREAD: u64 = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ping {
    None,
    /// In the queue; the peer has to answer only from when it is written.
    Queued,
    /// Written at this time.
    Sent(Millis),
}

impl Connection {
    pub fn new(peer: SocketAddr, now: Millis) -> Connection {
        Connection {
            peer: Peer::new(peer),
            counted: Counted::Not,
            secure: false,
            kind: Kind::Http,
            state: State::Http(Box::new(Http::new(now))),
            queue: WriteQueue::default(),
            sealing: None,
            input: Vec::new(),
            heard: now,
            progress: now,
            armed: Millis(u64::MAX),
            backed_up: false,
            eof: false,
            dirty: false,
            stalled: false,
            congested: false,
            wants_drained: false,
        }
    }

    /// A connection beyond those that there may be. It asks one thing, within [`EXCESS_TIME`], and ends with the answer.
    pub fn in_excess(peer: SocketAddr, now: Millis) -> Connection {
        Connection { kind: Kind::Excess, ..Connection::new(peer, now) }
    }

    // Looking.

    /// The address against whose limit it counts.
    pub fn counted_address(&self) -> Option<IpAddr> {
        match self.counted {
            Counted::Not => None,
            Counted::Peer => Some(self.peer.address().ip()),
            Counted::Client => self.peer.client(),
        }
    }

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

    /// The form in which this connection hears what it is told; `None` while it is HTTP, and when nothing more is said.
    pub fn form(&self) -> Option<Form> {
        match &self.state {
            State::Open(_) | State::Parting(_) => Some(if self.is_sealed() { Form::Lines } else { Form::Frames }),
            State::Events(_) => Some(Form::Events),
            State::Http(_) | State::Flushing { .. } | State::Draining { .. } => None,
        }
    }

    /// Does it speak sealed?
    pub fn is_sealed(&self) -> bool {
        self.sealing.is_some()
    }

    /// Can nobody on the way read what is said here?
    pub fn is_private(&self) -> bool {
        self.secure || self.is_sealed()
    }

    /// Bytes that wait to be written, sealed or not.
    pub fn waiting(&self) -> usize {
        self.queue.len() + self.sealing.as_ref().map_or(0, |sealing| sealing.len())
    }

    /// Does something of what came wait to be looked at?
    pub fn has_input(&self) -> bool {
        let has_lines = || self.sealing.as_ref().is_some_and(|sealing| sealing.has_lines());
        !self.input.is_empty() || matches!(self.state, State::Open(_)) && has_lines()
    }

    /// The session that this connection is for; `None` before there is one, and when it is over.
    pub fn session(&self) -> Option<u32> {
        match &self.state {
            State::Open(open) => Some(open.session),
            State::Events(events) => Some(events.session),
            State::Http(_) | State::Parting(_) | State::Flushing { .. } | State::Draining { .. } => None,
        }
    }

    /// The last request's answer is still to come.
    pub fn is_waiting(&self) -> bool {
        matches!(&self.state, State::Http(http) if http.is_waiting())
    }

    pub fn is_http(&self) -> bool {
        matches!(self.state, State::Http(_))
    }

    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Parting(_) | State::Flushing { .. } | State::Draining { .. })
    }

    /// What is queued is the last that will be.
    pub fn is_flushing(&self) -> bool {
        matches!(self.state, State::Flushing { .. })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn is_excess(&self) -> bool {
        self.kind == Kind::Excess
    }

    /// Shortens a time of the settings for a connection in excess, whose place is the next one's.
    fn time(&self, setting: u64) -> u64 {
        if self.is_excess() { setting.min(EXCESS_TIME) } else { setting }
    }

    /// May nothing more be read for now, since something must happen first: an answer, an acknowledgement, a flush?
    pub fn is_held(&self, limits: &ConnLimits) -> bool {
        match &self.state {
            State::Http(http) => http.is_waiting() || self.waiting() > limits.queue_bytes,
            State::Open(open) => {
                open.in_flight >= limits.in_flight || open.reading || self.waiting() > limits.queue_bytes
            }
            State::Events(_) | State::Parting(_) | State::Flushing { .. } | State::Draining { .. } => false,
        }
    }

    /// When this connection wants to be looked at by the clock, if nothing happens before.
    pub fn deadline(&self, limits: &ConnLimits) -> Option<Millis> {
        let write = (!self.queue.is_empty()).then(|| self.progress.after(self.time(limits.write_wait)));
        let own = match &self.state {
            // Who has answers to take is not idle.
            State::Http(http) if http.is_idle() && !self.queue.is_empty() => None,
            State::Http(http) => http.deadline(self.progress, limits.keep_alive, self.time(limits.header_timeout)),
            // Its bytes are not looked at, so silence says nothing.
            State::Open(_) if self.is_held(limits) => Some(self.heard.after(limits.ping_period)),
            State::Open(open) => match open.ping {
                Ping::None => Some(self.heard.after(limits.ping_period)),
                Ping::Queued => None,
                Ping::Sent(at) => Some(at.max(self.heard).after(limits.pong_wait)),
            },
            State::Events(_) if !self.queue.is_empty() => None,
            State::Events(events) => {
                let early = limits.ping_period / SPREAD * u64::from(events.early) / 256;
                Some(self.progress.after(limits.ping_period - early))
            }
            State::Parting(parting) => Some(parting.until),
            State::Flushing { .. } => None,
            State::Draining { until, .. } => Some(*until),
        };
        [write, own].into_iter().flatten().min()
    }

    // Feeding.

    /// Takes bytes from the front of `input`: how many, and what came of them; `None` when more are needed. Not to be
    /// called while [`Connection::is_held`].
    pub fn next<'a>(&mut self, input: &'a mut [u8], now: Millis, limits: &ConnLimits) -> (usize, Option<Step<'a>>) {
        self.heard = now;
        let length = input.len();
        match &mut self.state {
            State::Http(http) => {
                let mut out = Vec::new();
                let (used, step) = http.next(input, now, limits, &mut out);
                if !out.is_empty() {
                    self.started_writing(now);
                    self.queue.push_http(out);
                }
                (used, step)
            }
            State::Open(open) => {
                open.ping = if open.ping == Ping::Queued { Ping::Queued } else { Ping::None };
                let next = match &mut self.sealing {
                    None => open.decoder.next(input, &limits.ws),
                    // Lines that came before these bytes.
                    Some(sealing) if sealing.has_lines() => match sealing.next_line(limits.ws.max_message) {
                        Some(Ok(line)) => return (0, Some(Step::Text(Cow::Owned(line)))),
                        Some(Err(violation)) => Err(violation),
                        None => return (0, Some(Step::Again)),
                    },
                    Some(_) => open.decoder.next(input, &Sealing::ws_limits(&limits.ws)),
                };
                match next.and_then(|(used, message)| Ok((used, message.map(|m| self.take(m, now)).transpose()?))) {
                    Ok(done) => done,
                    Err(violation) => {
                        let ending = self.close(violation.code, violation.reason, now);
                        // Nothing of the rest is obeyed.
                        (length, Some(Step::Ended(ending)))
                    }
                }
            }
            // A stream has no second request: what its client sends is thrown away.
            State::Events(_) | State::Parting(_) | State::Flushing { .. } => (length, None),
            State::Draining { until, at_most, left, .. } => {
                *left = left.saturating_sub(length);
                *until = now.after(DRAIN_TIME).min(*at_most);
                (length, None)
            }
        }
    }

    fn take<'a>(&mut self, message: ws::Message<'a>, now: Millis) -> Result<Step<'a>, ws::Violation> {
        Ok(match (message, &mut self.sealing) {
            (ws::Message::Text(_), Some(_)) => return Err(super::sealing::TEXT),
            (ws::Message::Text(text), None) => Step::Text(text),
            (ws::Message::Binary(bytes), Some(sealing)) => match sealing.is_handshake() {
                true => Step::Binary(bytes),
                false => {
                    sealing.open(&bytes)?;
                    Step::Again
                }
            },
            (ws::Message::Binary(bytes), None) => Step::Binary(bytes),
            (ws::Message::Pong, _) => Step::Again,
            (ws::Message::Ping(payload), _) => {
                self.push_frame(now, |out| ws::pong_frame(out, &payload));
                Step::Again
            }
            (ws::Message::Close(code), _) => Step::Ended(self.close_answering(code, now)),
        })
    }

    /// So many bytes of the queue were taken by the socket. True if a reader of the log may go on now.
    pub fn wrote(&mut self, taken: usize, now: Millis, limits: &ConnLimits) -> bool {
        self.queue.advance(taken);
        self.backed_up = self.waiting() > 0;
        if taken > 0 {
            self.progress = now;
        }
        if self.queue.is_empty()
            && let State::Open(open) = &mut self.state
            && open.ping == Ping::Queued
        {
            open.ping = Ping::Sent(now);
        }
        let drained = self.wants_drained && self.waiting() <= limits.queue_bytes / 4;
        self.wants_drained &= !drained;
        drained
    }

    /// A deadline came.
    pub fn timeout(&mut self, now: Millis, limits: &ConnLimits) -> Timeout {
        let Some(due) = self.deadline(limits) else { return Timeout::Nothing };
        if due > now {
            return Timeout::Nothing;
        }
        if !self.queue.is_empty() && self.progress.after(self.time(limits.write_wait)) <= now {
            // Nothing taken for so long: whatever one would still say stays unheard.
            self.state = State::Flushing { ending: Ending::TooSlow };
            return Timeout::Drop(Ending::TooSlow);
        }
        let held = self.is_held(limits);
        match &mut self.state {
            State::Http(http) => match http.expire() {
                Expired::Late(_, headers) if self.kind == Kind::Excess => Timeout::Late(Problem::full(), headers),
                Expired::Silent if self.kind == Kind::Excess => Timeout::Full,
                Expired::Late(problem, headers) => Timeout::Late(problem, headers),
                Expired::Silent => Timeout::Drop(Ending::Idle),
            },
            State::Open(_) if held => {
                self.heard = now;
                Timeout::Nothing
            }
            State::Open(open) => match open.ping {
                Ping::Sent(_) => Timeout::Ended(self.close(code::NO_PONG, "no pong in time", now)),
                Ping::Queued => Timeout::Nothing,
                // While something is being written, progress of the writing shows whether the peer lives.
                Ping::None if !self.queue.is_empty() => {
                    self.heard = now;
                    Timeout::Nothing
                }
                Ping::None => {
                    open.ping = Ping::Queued;
                    self.push_frame(now, ws::ping_frame);
                    Timeout::Nothing
                }
            },
            State::Events(_) => {
                self.push_frame(now, |out| out.extend_from_slice(event_stream::COMMENT));
                Timeout::Nothing
            }
            State::Parting(_) => {
                let Ending::PeerClosed(code) = self.ending() else { return Timeout::Nothing };
                self.answer_close(code, now);
                Timeout::Nothing
            }
            State::Flushing { ending } => Timeout::Drop(*ending),
            State::Draining { ending, .. } => Timeout::Drop(*ending),
        }
    }

    // Commands.

    /// What the answer being awaited has to know of its request.
    pub fn reply_mut(&mut self) -> Option<&mut Reply> {
        match &mut self.state {
            State::Http(http) => http.reply_mut(),
            _ => None,
        }
    }

    /// Takes one HTTP request from the connection's rate.
    ///
    /// # Errors
    /// The milliseconds until one more is free.
    pub fn take_request(&mut self, rate: Rate, now: Millis) -> Result<(), u64> {
        match &mut self.state {
            State::Http(http) => http.requests.take(rate, now),
            _ => Ok(()),
        }
    }

    /// How a refusal of the request that was handed out is to be shown.
    pub fn shown(&self) -> Shown {
        match &self.state {
            State::Http(http) => http.shown(),
            _ => Shown::default(),
        }
    }

    /// Answers the request that was handed out. With `close`, or if the request wants it, the connection ends with the
    /// answer, and so does the session: `Some`.
    pub fn respond(&mut self, mut response: Response, close: bool, date: &str, now: Millis) -> Option<Ending> {
        let keep_alive = self.write_answer(&mut response, close, date, now)?;
        if keep_alive {
            return None;
        }
        self.state = State::Flushing { ending: Ending::Done };
        Some(Ending::Done)
    }

    /// Answers the request that was handed out with the head of an event stream, which this session is to hear. `early`
    /// spreads the comments of many. Nothing happens where no answer is awaited.
    pub fn begin_events(&mut self, mut head: Response, session: u32, early: u8, date: &str, now: Millis) {
        if self.write_answer(&mut head, true, date, now).is_some() {
            self.kind = Kind::Events;
            self.state = State::Events(Events { session, early });
        }
    }

    /// Queues the answer that is awaited, if one is: may another request follow it?
    fn write_answer(&mut self, response: &mut Response, close: bool, date: &str, now: Millis) -> Option<bool> {
        let State::Http(http) = &mut self.state else { return None };
        let reply = http.answered(now)?;
        let keep_alive = reply.keep_alive && !close && !self.eof && self.kind != Kind::Excess;
        if let Some(origin) = &reply.cross_origin {
            for (name, value) in origin.headers() {
                response.add_header(name, value);
            }
        }
        let mut out = Vec::new();
        let sending = Sending { date: Some(date), keep_alive, to_head: reply.to_head };
        let body = response.write_uncopied(&mut out, sending);
        self.started_writing(now);
        self.queue.push_http(out);
        self.queue.push_body(body);
        Some(keep_alive)
    }

    /// Answers before anything was asked, and closes.
    pub fn turn_away(&mut self, response: Response, date: &str, now: Millis) {
        let mut out = Vec::new();
        response.write(&mut out, Sending { date: Some(date), keep_alive: false, to_head: false });
        self.started_writing(now);
        self.queue.push_http(out);
        self.state = State::Flushing { ending: Ending::Done };
    }

    /// Answers a request for an upgrade: what follows are frames.
    pub fn upgrade(&mut self, upgrade: &ws::handshake::Upgrade, session: u32, room: Option<RoomId>, now: Millis) {
        let mut out = Vec::new();
        upgrade.write(&mut out);
        self.started_writing(now);
        self.queue.push_http(out);
        self.kind = Kind::WebSocket;
        self.sealing = (upgrade.spoken() == ws::handshake::Spoken::Sealed).then(Box::default);
        self.state = State::Open(Open {
            decoder: ws::Decoder::default(),
            session,
            room,
            in_flight: 0,
            reading: false,
            requests: Bucket::default(),
            errors: Bucket::default(),
            ping: Ping::None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand idle ones should cost little: what few of them have is boxed.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Connection>() <= 216, "{}", size_of::<Connection>());
    }
}
