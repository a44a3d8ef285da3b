//! The messages that the server has not acknowledged: which of them wait, which are under way, and when the next may go
//! out, so that the server need not refuse any. Pure.

use std::collections::VecDeque;

/// Whether the server has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendState {
    /// It does not, or may be sent the message again: the key is the same.
    Queued,
    /// Sent on this connection, in the request with this id.
    InFlight(u64),
    /// Sent on a connection that is lost: the server may or may not have it.
    Unknown,
}

/// One message.
#[derive(Debug)]
pub struct Send {
    /// The line of the input that it came from; 0 where it is the only message.
    pub line: u64,
    pub key: String,
    /// JSON.
    pub body: String,
    state: SendState,
}

/// Messages in the order in which they are to be sent.
#[derive(Debug)]
pub struct Outbox {
    sends: VecDeque<Send>,
    /// Requests that may be under way at a time.
    max_in_flight: usize,
    /// Requests per second; 0 is no limit.
    rate: u64,
    /// Requests that may go out at once, at most a second's worth of them.
    tokens: f64,
    /// When the tokens were counted.
    counted_at: u64,
    /// When the server, which has refused a message for now, may be sent one again.
    paused_until: u64,
}

impl Outbox {
    pub fn new() -> Outbox {
        Outbox { sends: VecDeque::new(), max_in_flight: 1, rate: 0, tokens: 0.0, counted_at: 0, paused_until: 0 }
    }

    /// Applies the limits that the server has announced: requests under way at a time, and per second (0: no limit).
    pub fn set_limits(&mut self, max_in_flight: usize, rate: u64) {
        (self.max_in_flight, self.rate) = (max_in_flight, rate);
    }

    pub fn push(&mut self, line: u64, key: String, body: String) {
        self.sends.push_back(Send { line, key, body, state: SendState::Queued });
    }

    pub fn len(&self) -> usize {
        self.sends.len()
    }

    pub fn get(&self, index: usize) -> Option<&Send> {
        self.sends.get(index)
    }

    pub fn remove(&mut self, index: usize) -> Option<Send> {
        self.sends.remove(index)
    }

    /// Returns the message that may go out now, if there is one.
    pub fn next(&mut self, now: u64) -> Option<usize> {
        let in_flight = self.sends.iter().filter(|send| matches!(send.state, SendState::InFlight(_))).count();
        if now < self.paused_until || in_flight >= self.max_in_flight {
            return None;
        }
        let index = self.sends.iter().position(|send| send.state == SendState::Queued)?;
        (self.wait(now) == 0).then_some(index)
    }

    /// Marks a message as sent in the request with this id.
    pub fn set_in_flight(&mut self, index: usize, id: u64) {
        if let Some(send) = self.sends.get_mut(index) {
            send.state = SendState::InFlight(id);
            self.tokens -= 1.0;
        }
    }

    /// Queues a message that the server refused for now, and pauses until the server may be asked again.
    pub fn defer(&mut self, index: usize, until: u64) {
        // Perhaps the server has stored it: under the same key, that is harmless.
        if let Some(send) = self.sends.get_mut(index) {
            send.state = SendState::Queued;
        }
        self.paused_until = until;
    }

    /// Returns the message that was sent in the request with this id.
    pub fn position(&self, id: Option<u64>) -> Option<usize> {
        self.sends.iter().position(|send| matches!(send.state, SendState::InFlight(own) if Some(own) == id))
    }

    /// Returns the longest message under way.
    pub fn longest_in_flight(&self) -> Option<usize> {
        let in_flight = self.sends.iter().enumerate().filter(|(_, send)| matches!(send.state, SendState::InFlight(_)));
        in_flight.max_by_key(|(_, send)| send.body.len()).map(|(index, _)| index)
    }

    /// Notes that the connection is lost.
    pub fn connection_lost(&mut self) {
        for send in &mut self.sends {
            if matches!(send.state, SendState::InFlight(_)) {
                send.state = SendState::Unknown;
            }
        }
    }

    /// Queues everything for a session that begins or was resumed at `now`, with a full second's worth of requests.
    pub fn restart(&mut self, now: u64) {
        (self.tokens, self.counted_at, self.paused_until) = (self.rate as f64, now, 0);
        for send in &mut self.sends {
            send.state = SendState::Queued;
        }
    }

    /// Drops the messages that may or may not be stored, and returns their number.
    pub fn drop_unknown(&mut self) -> usize {
        let before = self.sends.len();
        self.sends.retain(|send| send.state != SendState::Unknown);
        before - self.sends.len()
    }

    /// Returns the milliseconds after which the next message may go out; `None` where that is now, or none waits.
    pub fn next_in(&mut self, now: u64) -> Option<u64> {
        if !self.sends.iter().any(|send| send.state == SendState::Queued) {
            return None;
        }
        let wait = self.wait(now).max(self.paused_until.saturating_sub(now));
        Some(wait).filter(|wait| *wait > 0)
    }

    /// Returns the milliseconds until the rate allows one more request.
    fn wait(&mut self, now: u64) -> u64 {
        let rate = self.rate as f64;
        if rate == 0.0 {
            return 0;
        }
        self.tokens = (self.tokens + now.saturating_sub(self.counted_at) as f64 * rate / 1000.0).min(rate);
        self.counted_at = now;
        if self.tokens >= 1.0 { 0 } else { ((1.0 - self.tokens) * 1000.0 / rate).ceil() as u64 }
    }
}
