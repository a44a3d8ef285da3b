//! Turns the bytes that a connection's peer sends into steps, one at a time.

use std::borrow::Cow;

use super::closing::DRAIN_TIME;
use super::connection::{Ping, State};
use super::sealing::Sealing;
use super::{ConnLimits, Connection, Step};
use crate::types::Millis;
use crate::ws;

impl Connection {
    /// Parses bytes from the front of `input`. Returns how many it used, and the step that they completed; `None` if
    /// more are needed. Must not be called while [`Connection::is_held`].
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
                    // Lines of an earlier sealed message come before these bytes.
                    Some(sealing) if sealing.has_lines() => match sealing.next_line(limits.ws.max_message) {
                        Some(Ok(line)) => return (0, Some(Step::Text(Cow::Owned(line)))),
                        Some(Err(violation)) => Err(violation),
                        None => return (0, Some(Step::Again)),
                    },
                    Some(_) => open.decoder.next(input, &Sealing::ws_limits(&limits.ws)),
                };
                match next
                    .and_then(|(used, message)| Ok((used, message.map(|m| self.step_of(m, now, limits)).transpose()?)))
                {
                    Ok(done) => done,
                    Err(violation) => {
                        let ending = self.close(violation.code, violation.reason, now);
                        // The rest of the bytes is ignored.
                        (length, Some(Step::Ended(ending)))
                    }
                }
            }
            // An event stream has no second request: everything that its client sends is discarded.
            State::Events(_) | State::Parting(_) | State::Flushing { .. } => (length, None),
            State::Draining { until, latest, left, .. } => {
                *left = left.saturating_sub(length);
                *until = now.after(DRAIN_TIME).min(*latest);
                (length, None)
            }
        }
    }

    /// Takes a ping or a pong of the peer from its rate.
    fn spend_control(&mut self, limits: &ConnLimits, now: Millis) {
        if let State::Open(open) = &mut self.state {
            let until = open.controls.spend(limits.controls, 1, now);
            self.slow_until(until, now);
        }
    }

    /// Turns a WebSocket message into a step, and answers control frames.
    fn step_of<'a>(
        &mut self,
        message: ws::Message<'a>,
        now: Millis,
        limits: &ConnLimits,
    ) -> Result<Step<'a>, ws::Violation> {
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
            (ws::Message::Pong, _) => {
                self.spend_control(limits, now);
                Step::Again
            }
            (ws::Message::Ping(payload), _) => {
                self.spend_control(limits, now);
                self.push_frame(now, |out| ws::pong_frame(out, &payload));
                Step::Again
            }
            (ws::Message::Close(code), _) => Step::Ended(self.close_answering(code, now)),
        })
    }
}
