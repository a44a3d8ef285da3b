//! Answers to HTTP requests. With its answer, a connection may become a WebSocket or an event stream, or close.

use super::bucket::{Bucket, Rate};
use super::connection::{EventStream, Open, Ping, State, Waits};
use super::http::{Door, Reply};
use super::{Connection, Ending, Protocol};
use crate::http::problem::Shown;
use crate::http::response::{Response, Sending};
use crate::types::{Millis, SessionSlot};
use crate::ws;

impl Connection {
    /// Returns the facts about the awaited request that its answer depends on.
    pub fn reply_mut(&mut self) -> Option<&mut Reply> {
        match &mut self.state {
            State::Http(http) => http.reply_mut(),
            _ => None,
        }
    }

    /// Returns how far the awaited request has come with its handshake; `None` if no request is awaited.
    pub fn door(&self) -> Option<&Door> {
        match &self.state {
            State::Http(http) => http.door(),
            _ => None,
        }
    }

    /// Takes one HTTP request from the connection's rate, also beyond it. Returns when one more is free.
    pub fn spend_request(&mut self, rate: Rate, now: Millis) -> Millis {
        match &mut self.state {
            State::Http(http) => http.requests.spend(rate, 1, now),
            _ => now,
        }
    }

    /// Takes one HTTP request from the connection's rate.
    ///
    /// # Errors
    /// The rate is spent: the milliseconds until one more is free.
    pub fn take_request(&mut self, rate: Rate, now: Millis) -> Result<(), u64> {
        match &mut self.state {
            State::Http(http) => http.requests.take(rate, now),
            _ => Ok(()),
        }
    }

    /// Returns how a refusal of the awaited request is to be shown.
    pub fn shown(&self) -> Shown {
        match &self.state {
            State::Http(http) => http.shown(),
            _ => Shown::default(),
        }
    }

    /// Answers the awaited request. With `close`, or if the request asks for it, the connection ends with the answer:
    /// `Some`.
    pub fn respond(&mut self, mut response: Response, close: bool, date: &str, now: Millis) -> Option<Ending> {
        let keep_alive = self.write_answer(&mut response, close, date, now)?;
        if keep_alive {
            return None;
        }
        self.state = State::Flushing { ending: Ending::Done };
        Some(Ending::Done)
    }

    /// Answers the awaited request with the head of an event stream for this session. `early` is the jitter of its
    /// comments, in 1/256 of `ping_period / 8`: streams that share a broadcast must not all be pinged at once. Does
    /// nothing if no request awaits its answer.
    pub fn begin_events(&mut self, mut head: Response, session: SessionSlot, early: u8, date: &str, now: Millis) {
        if self.write_answer(&mut head, true, date, now).is_some() {
            self.protocol = Protocol::EventStream;
            self.state = State::Events(EventStream { session, early });
        }
    }

    /// Queues the answer to the awaited request, if there is one. Returns whether another request may follow.
    fn write_answer(&mut self, response: &mut Response, close: bool, date: &str, now: Millis) -> Option<bool> {
        let State::Http(http) = &mut self.state else { return None };
        let reply = http.answered(now)?;
        let keep_alive = reply.keep_alive && !close && !self.eof && !self.is_excess();
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

    /// Answers before any request came, and closes.
    pub fn turn_away(&mut self, response: Response, date: &str, now: Millis) {
        let mut out = Vec::new();
        response.write(&mut out, Sending { date: Some(date), keep_alive: false, to_head: false });
        self.started_writing(now);
        self.queue.push_http(out);
        self.state = State::Flushing { ending: Ending::Done };
    }

    /// Answers a request for an upgrade. WebSocket frames follow.
    pub fn upgrade(&mut self, upgrade: &ws::handshake::Upgrade, session: SessionSlot, now: Millis) {
        let mut out = Vec::new();
        upgrade.write(&mut out);
        self.started_writing(now);
        self.queue.push_http(out);
        self.protocol = Protocol::WebSocket;
        self.sealing = (upgrade.spoken() == ws::handshake::Spoken::Sealed).then(Box::default);
        self.state = State::Open(Open {
            decoder: ws::Decoder::default(),
            session,
            in_flight: 0,
            waits: Waits::Not,
            requests: Bucket::default(),
            errors: Bucket::default(),
            controls: Bucket::default(),
            ping: Ping::None,
        });
    }
}
