//! How a connection ends: closed by its peer or by the server, at the end of the peer's stream, or drained. The queue
//! goes out first, then the sending side is shut, then further input is discarded.

use super::connection::{Parting, State};
use super::{ConnLimits, Connection, Ending, Protocol};
use crate::types::Millis;
use crate::ws::{self, code};

/// Milliseconds for which the peer's bytes are still read after the server's last one. If they were not, the kernel
/// would send a reset, which may destroy that last byte on its way (RFC 9112 §9.6).
pub(super) const DRAIN_TIME: u64 = 1000;
/// Maximum bytes that are read in this time.
const DRAIN_BYTES: usize = 4 * 1024 * 1024;
/// Maximum bytes that are read after an HTTP answer: the body may have been refused for its size while it is still
/// coming, and many clients read no answer before they have sent all of it. For HTTP, each byte restarts the time,
/// within `header_timeout`.
const DRAIN_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Milliseconds for which the answer to a close waits for the acknowledgements of earlier sends. After that it goes out
/// without them: the client may send those messages again, and their idempotency keys make that harmless.
const ACKS_FIRST: u64 = 1000;

/// The reason of the close that answers the end of a session.
const ENDED: &str = "the session has ended";

impl Connection {
    /// Answers the peer's close frame with the same code, once [`Connection::settle_close`] is called.
    pub(super) fn close_answering(&mut self, code: Option<u16>, now: Millis) -> Ending {
        let ending = if self.is_sealed() { Ending::UnsealedClose(code) } else { Ending::PeerClosed(code) };
        self.part(ending, now);
        ending
    }

    /// Closes the WebSocket because its peer has ended the session, once [`Connection::settle_close`] is called; `None`
    /// if it closes already.
    pub fn end(&mut self, now: Millis) -> Option<Ending> {
        self.open()?;
        self.part(Ending::PeerEnded, now);
        Some(Ending::PeerEnded)
    }

    /// Waits with the answer to the peer's close for acknowledgements that are still to come, and for what is found out
    /// to be awaited beside them, but for at most [`ACKS_FIRST`].
    fn part(&mut self, ending: Ending, now: Millis) {
        let in_flight = self.open().map_or(0, |open| open.in_flight);
        self.state = State::Parting(Parting { ending, in_flight, until: now.after(ACKS_FIRST) });
    }

    /// Makes the answer to the peer's close wait for one thing more, of which [`Connection::answered`] tells.
    pub fn hold_close(&mut self) {
        if let State::Parting(parting) = &mut self.state {
            parting.in_flight = parting.in_flight.saturating_add(1);
        }
    }

    /// Answers the peer's close behind the queue, if it waits for nothing. Returns whether it did.
    pub fn settle_close(&mut self, now: Millis) -> bool {
        let State::Parting(Parting { ending, in_flight: 0, .. }) = self.state else { return false };
        self.answer_close(ending, now);
        true
    }

    pub(super) fn answer_close(&mut self, ending: Ending, now: Millis) {
        let code = match ending {
            Ending::PeerClosed(code) | Ending::UnsealedClose(code) => code,
            _ => Some(code::NORMAL),
        };
        if let (Ending::PeerEnded, Some(sealing)) = (ending, &mut self.sealing) {
            sealing.announce_close(code::NORMAL, ENDED);
        }
        self.push_last(now, |out| ws::close_frame(out, code, ""));
        self.state = State::Flushing { ending };
    }

    /// Records that one more send was answered, or the end of the session recorded. Returns true if the answer to the
    /// peer's close waited for this.
    pub fn answered(&mut self, now: Millis) -> bool {
        match &mut self.state {
            State::Open(open) => open.in_flight = open.in_flight.saturating_sub(1),
            State::Parting(parting) => {
                parting.in_flight = parting.in_flight.saturating_sub(1);
                return self.settle_close(now);
            }
            _ => {}
        }
        false
    }

    /// Closes the WebSocket for a fault. The close frame does not wait behind a backlog that the peer does not take:
    /// queued frames that are not partly written are dropped, but not those that are sealed already. Without a backlog,
    /// this turn's answers go out before it. An event stream has no close frame, and ends behind its queue.
    pub fn close(&mut self, code: u16, reason: &'static str, now: Millis) -> Ending {
        if self.backed_up && matches!(self.state, State::Open(_)) {
            match &mut self.sealing {
                None => self.queue.drop_unbegun(),
                // The few frames that are sealed stay: without them, the client could open none behind them.
                Some(sealing) => sealing.drop_plain(),
            }
        }
        self.close_politely(code, reason, now)
    }

    /// Closes the WebSocket, or ends the event stream, behind its queue.
    pub fn close_politely(&mut self, code: u16, reason: &'static str, now: Millis) -> Ending {
        let ending = Ending::Closed(code, reason);
        if let State::Open(_) = self.state {
            if let Some(sealing) = &mut self.sealing {
                sealing.announce_close(code, reason);
            }
            self.push_last(now, |out| ws::close_frame(out, Some(code), reason));
        }
        if self.session().is_some() {
            self.state = State::Flushing { ending };
        }
        ending
    }

    /// Ends an HTTP connection once its queue is written.
    pub fn finish(&mut self, ending: Ending) {
        if let State::Http(_) = self.state {
            self.state = State::Flushing { ending };
        }
    }

    /// Handles the end of the peer's stream. Returns `Some` if the session is over, with true if the connection is,
    /// too.
    pub fn ended(&mut self) -> Option<(Ending, bool)> {
        self.eof = true;
        match &self.state {
            // Only the peer's side is shut: it may still read its answer (RFC 9112 §9.6).
            State::Http(http) if http.is_waiting() => None,
            State::Http(http) => {
                let ending = if http.is_idle() { Ending::Done } else { Ending::Eof };
                let drop = self.queue.is_empty();
                self.state = State::Flushing { ending };
                Some((ending, drop))
            }
            // An end without a close frame is abnormal (RFC 6455 §7.1.5: 1006).
            State::Open(_) => {
                self.state = State::Flushing { ending: Ending::Eof };
                Some((Ending::Eof, true))
            }
            // Nobody reads this stream any more.
            State::Events(_) => {
                self.state = State::Flushing { ending: Ending::Done };
                Some((Ending::Done, true))
            }
            // It has closed properly, and still gets its acknowledgements.
            State::Parting(_) => None,
            State::Flushing { ending } => {
                let ending = *ending;
                (self.waiting() == 0).then_some((ending, true))
            }
            State::Draining { ending, .. } => Some((*ending, true)),
        }
    }

    /// Returns `Some` after the flush that wrote a closing connection's last byte: its sending side is to be shut now.
    /// With true, the peer has shut its own side, too, and the connection is over.
    pub fn flushed(&mut self, now: Millis, limits: &ConnLimits) -> Option<bool> {
        let State::Flushing { ending } = &self.state else { return None };
        if self.waiting() > 0 {
            return None;
        }
        let until = now.after(DRAIN_TIME);
        let (latest, left) = match self.protocol {
            Protocol::WebSocket | Protocol::ExcessHttp => (until, DRAIN_BYTES),
            Protocol::Http | Protocol::EventStream => (until.max(now.after(limits.header_timeout)), DRAIN_BODY_BYTES),
        };
        self.state = State::Draining { ending: *ending, until, latest, left };
        Some(self.eof)
    }

    /// Returns whether the peer has sent as much as is discarded after the server's last byte: the connection is to be
    /// dropped.
    pub fn is_drained(&self) -> bool {
        matches!(self.state, State::Draining { left: 0, .. })
    }

    /// Returns why a closing connection closes.
    pub fn ending(&self) -> Ending {
        match &self.state {
            State::Flushing { ending } | State::Draining { ending, .. } => *ending,
            State::Parting(Parting { ending, .. }) => *ending,
            _ => Ending::Stopped,
        }
    }
}
