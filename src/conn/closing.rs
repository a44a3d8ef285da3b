//! The ways in which a connection ends: closed by the peer or by us, ended, drained. What is queued goes out first, then our
//! half is shut, then what still comes is thrown away.

use super::connection::State;
use super::{ConnLimits, Connection, Ending, Kind};
use crate::types::Millis;
use crate::ws;

/// How long the peer's bytes are still taken after our last one (milliseconds), and how many, so that the kernel has no
/// cause for a reset that would eat that last one (RFC 9112 §9.6).
pub(super) const DRAIN_TIME: u64 = 1000;
const DRAIN_BYTES: usize = 4 * 1024 * 1024;
/// The same for HTTP: a body may be on its way that is far too long and was refused for just that, and many clients read
/// no answer before they have sent all of it. There, the time is one of silence, within `header_timeout`.
const DRAIN_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Milliseconds for which the answer to a close waits for the acknowledgements of what was sent before it. Then it goes
/// without them: the client may send those messages again, and their keys make that harmless.
const ACKS_FIRST: u64 = 1000;

/// A WebSocket whose peer has closed it, and has sends that the store has not decided: their acknowledgements come before
/// the answering close frame (RFC 6455 §5.5.1 lets it wait). The session is over.
pub struct Parting {
    /// The peer's code, which goes back.
    code: Option<u16>,
    /// Sends that the store has not answered.
    in_flight: u16,
    pub until: Millis,
}

impl Connection {
    /// The peer has closed the WebSocket: the same code goes back, behind what is queued and, for a moment, behind
    /// acknowledgements that are still to come.
    pub(super) fn close_answering(&mut self, code: Option<u16>, now: Millis) -> Ending {
        let in_flight = self.open().map_or(0, |open| open.in_flight);
        if in_flight > 0 {
            self.state = State::Parting(Parting { code, in_flight, until: now.after(ACKS_FIRST) });
        } else {
            self.answer_close(code, now);
        }
        Ending::PeerClosed(code)
    }

    pub(super) fn answer_close(&mut self, code: Option<u16>, now: Millis) {
        self.push_last(now, |out| ws::close_frame(out, code, ""));
        self.state = State::Flushing { ending: Ending::PeerClosed(code) };
    }

    /// One more send was answered. True if the peer had closed, and only waited for this.
    pub fn answered(&mut self, now: Millis) -> bool {
        match &mut self.state {
            State::Open(open) => open.in_flight = open.in_flight.saturating_sub(1),
            State::Parting(parting) => {
                parting.in_flight = parting.in_flight.saturating_sub(1);
                if parting.in_flight == 0 {
                    let code = parting.code;
                    self.answer_close(code, now);
                    return true;
                }
            }
            _ => {}
        }
        false
    }

    /// Closes the WebSocket for a fault, with the close frame as the last. It does not wait behind a pile that the peer
    /// does not take: of that, frames not begun are dropped. Answers of this turn go out before it. An event stream has
    /// no such last word: it ends behind what is queued.
    pub fn close(&mut self, code: u16, reason: &'static str, now: Millis) -> Ending {
        if self.backed_up && matches!(self.state, State::Open(_)) {
            self.queue.drop_unbegun();
            if let Some(sealing) = &mut self.sealing {
                sealing.drop_plain();
            }
        }
        self.close_politely(code, reason, now)
    }

    /// Closes the WebSocket, or ends the event stream, behind what is queued.
    pub fn close_politely(&mut self, code: u16, reason: &'static str, now: Millis) -> Ending {
        let ending = Ending::Closed(code, reason);
        if let State::Open(_) = self.state {
            self.push_last(now, |out| ws::close_frame(out, Some(code), reason));
        }
        if self.session().is_some() {
            self.state = State::Flushing { ending };
        }
        ending
    }

    /// Ends an HTTP connection once what is queued is written.
    pub fn finish(&mut self, ending: Ending) {
        if let State::Http(_) = self.state {
            self.state = State::Flushing { ending };
        }
    }

    /// The peer's stream ended. What to do: `Some` if the session is over, with true if the connection is, too.
    pub fn ended(&mut self) -> Option<(Ending, bool)> {
        self.eof = true;
        match &self.state {
            // Its half is shut; ours may have something to say yet (RFC 9112 §9.6).
            State::Http(http) if http.is_waiting() => None,
            State::Http(http) => {
                let ending = if http.is_idle() { Ending::Done } else { Ending::Eof };
                let drop = self.queue.is_empty();
                self.state = State::Flushing { ending };
                Some((ending, drop))
            }
            // Without a close frame that is the end (RFC 6455 §7.1.5: 1006).
            State::Open(_) => {
                self.state = State::Flushing { ending: Ending::Eof };
                Some((Ending::Eof, true))
            }
            // A stream without an end has nobody to hear it any more.
            State::Events(_) => {
                self.state = State::Flushing { ending: Ending::Done };
                Some((Ending::Done, true))
            }
            // It has closed, and still hears what it is owed.
            State::Parting(_) => None,
            State::Flushing { ending } => {
                let ending = *ending;
                (self.waiting() == 0).then_some((ending, true))
            }
            State::Draining { ending, .. } => Some((*ending, true)),
        }
    }

    /// After a flush of a closing connection: has its last byte been taken? Then the sending side is to be shut, and
    /// where the peer has ended, too, the connection is over: `Some(true)`.
    pub fn flushed(&mut self, now: Millis, limits: &ConnLimits) -> Option<bool> {
        let State::Flushing { ending } = &self.state else { return None };
        if self.waiting() > 0 {
            return None;
        }
        let until = now.after(DRAIN_TIME);
        let (at_most, left) = match self.kind {
            Kind::WebSocket | Kind::Excess => (until, DRAIN_BYTES),
            Kind::Http | Kind::Events => (until.max(now.after(limits.header_timeout)), DRAIN_BODY_BYTES),
        };
        self.state = State::Draining { ending: *ending, until, at_most, left };
        Some(self.eof)
    }

    /// Has a peer that was told to go away sent too much all the same?
    pub fn is_drained(&self) -> bool {
        matches!(self.state, State::Draining { left: 0, .. })
    }

    /// Why a closing connection closes.
    pub fn ending(&self) -> Ending {
        match &self.state {
            State::Flushing { ending } | State::Draining { ending, .. } => *ending,
            State::Parting(Parting { code, .. }) => Ending::PeerClosed(*code),
            _ => Ending::Stopped,
        }
    }
}
