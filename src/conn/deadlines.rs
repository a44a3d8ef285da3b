//! A connection's deadlines: for requests, for pings and their answers, for writes, and for closing.

use super::connection::{Ping, State};
use super::http::Expired;
use super::{ConnLimits, Connection, Ending, Timeout};
use crate::http::event_stream;
use crate::http::problem::Problem;
use crate::types::Millis;
use crate::ws;
use crate::ws::code;

/// Milliseconds that a connection in excess has to send its request, and then to take the answer.
pub const EXCESS_TIME: u64 = 2000;

/// The jitter of an event stream's comments, as a divisor of `ping_period`.
const JITTER_PART: u64 = 8;

impl Connection {
    /// Returns when [`Connection::timeout`] is due, if nothing happens before.
    pub fn deadline(&self, limits: &ConnLimits) -> Option<Millis> {
        let write = (!self.queue.is_empty()).then(|| self.progress.after(self.time(limits.write_wait)));
        let own = match &self.state {
            // It is the server that does not read.
            State::Http(_) | State::Open(_) if self.is_slowed => Some(self.heard),
            // A peer that still has answers to take is not idle.
            State::Http(http) if http.is_idle() && !self.queue.is_empty() => None,
            State::Http(http) => http.deadline(self.progress, limits.keep_alive, self.time(limits.header_timeout)),
            // Its bytes are not read, so silence proves nothing.
            State::Open(_) if self.is_held(limits) => Some(self.heard.after(limits.ping_period)),
            State::Open(open) => match open.ping {
                Ping::None => Some(self.heard.after(limits.ping_period)),
                Ping::Queued => None,
                Ping::Sent(at) => Some(at.max(self.heard).after(limits.pong_wait)),
            },
            State::Events(_) if !self.queue.is_empty() => None,
            State::Events(stream) => {
                let early = limits.ping_period / JITTER_PART * u64::from(stream.early) / 256;
                Some(self.progress.after(limits.ping_period - early))
            }
            State::Parting(parting) => Some(parting.until),
            State::Flushing { .. } => None,
            State::Draining { until, .. } => Some(*until),
        };
        [write, own].into_iter().flatten().min()
    }

    /// Handles the deadline, if it has come.
    pub fn timeout(&mut self, now: Millis, limits: &ConnLimits) -> Timeout {
        let Some(due) = self.deadline(limits) else { return Timeout::Nothing };
        if due > now {
            return Timeout::Nothing;
        }
        if !self.queue.is_empty() && self.progress.after(self.time(limits.write_wait)) <= now {
            // A peer that reads nothing would not read a close frame either.
            self.state = State::Flushing { ending: Ending::TooSlow };
            return Timeout::Drop(Ending::TooSlow);
        }
        if self.is_slowed && matches!(self.state, State::Http(_) | State::Open(_)) {
            self.is_slowed = false;
            self.heard = now;
            if let State::Http(http) = &mut self.state {
                http.waited(now);
            }
            return Timeout::Waited;
        }
        let held = self.is_held(limits);
        match &mut self.state {
            State::Http(http) => match http.expire() {
                Expired::Late(_, headers) if self.is_excess() => Timeout::Late(Problem::full(), headers),
                Expired::Silent if self.is_excess() => Timeout::Full,
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
                // While bytes wait to be written, their progress shows whether the peer is alive.
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
                self.answer_close(self.ending(), now);
                Timeout::Nothing
            }
            State::Flushing { ending } => Timeout::Drop(*ending),
            State::Draining { ending, .. } => Timeout::Drop(*ending),
        }
    }

    /// Shortens a timeout of the settings for a connection in excess, since others wait for its place.
    fn time(&self, setting: u64) -> u64 {
        if self.is_excess() { setting.min(EXCESS_TIME) } else { setting }
    }
}
