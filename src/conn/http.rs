//! The HTTP phase of a connection: heads and bodies in, one request at a time.

use super::{Bucket, ConnLimits, Step};
use crate::http::authority::CrossOrigin;
use crate::http::head::{Fault, Head, HeadScan};
use crate::http::headers::Headers;
use crate::http::method::Method;
use crate::http::problem::{Problem, Shown};
use crate::http::request::Request;
use crate::http::response::CONTINUE;
use crate::http::status::Status;
use crate::types::Millis;

pub struct Http {
    phase: Phase,
    /// When the current request began, or the last one was answered.
    since: Millis,
    /// The number of requests answered before this one.
    answered: u32,
    /// The rate of requests.
    pub requests: Bucket,
}

enum Phase {
    Head {
        buffer: Vec<u8>,
        scan: HeadScan,
    },
    Body {
        request: Box<Request>,
        body: Vec<u8>,
        length: usize,
    },
    /// A request awaits its answer. Nothing is read meanwhile.
    Waiting(Reply),
}

/// The facts about a request that its answer depends on.
#[derive(Debug, Default)]
pub struct Reply {
    pub keep_alive: bool,
    pub to_head: bool,
    /// How a refusal is to be shown.
    pub shown: Shown,
    pub cross_origin: Option<Box<CrossOrigin>>,
    pub door: Door,
}

/// How far a request for a WebSocket or an event stream has come.
#[derive(Debug, Default)]
pub enum Door {
    /// It has not asked for its handshake.
    #[default]
    Closed,
    /// It waits in line for its handshake.
    Line(Box<Request>),
    /// It was looked at ahead of its turn, and waits for that. Any request may.
    Turn(Box<(Request, Vec<u8>)>),
    /// Its turn has come.
    Open,
}

/// What an expired deadline means.
pub enum Expired {
    /// No request began: close without an answer.
    Silent,
    /// A request did not arrive whole.
    Late(Problem, Headers),
}

impl Http {
    /// Returns the state of a connection that was accepted now.
    pub fn new(now: Millis) -> Http {
        Http { phase: Phase::head(), since: now, answered: 0, requests: Bucket::default() }
    }

    /// Returns the bytes of memory beside this value itself: the head or the body that has come so far, or a request
    /// that waits.
    pub fn memory(&self) -> usize {
        match &self.phase {
            Phase::Head { buffer, .. } => buffer.capacity(),
            Phase::Body { request, body, .. } => size_of::<Request>() + request.headers.memory() + body.capacity(),
            Phase::Waiting(Reply { door: Door::Line(request), .. }) => size_of::<Request>() + request.headers.memory(),
            Phase::Waiting(Reply { door: Door::Turn(held), .. }) => {
                size_of::<(Request, Vec<u8>)>() + held.0.headers.memory() + held.1.capacity()
            }
            Phase::Waiting(_) => 0,
        }
    }

    /// Returns whether a request awaits its answer.
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_))
    }

    /// Returns when the current request began, or the last one was answered.
    pub fn since(&self) -> Millis {
        self.since
    }

    /// Returns whether nothing has come since the connection was accepted.
    pub fn is_fresh(&self) -> bool {
        self.answered == 0 && self.is_idle()
    }

    /// Returns whether no byte of a request has come.
    pub fn is_idle(&self) -> bool {
        matches!(&self.phase, Phase::Head { buffer, .. } if buffer.is_empty())
    }

    /// Parses bytes from the front of `input`. Returns how many it used, and the step that they completed. Appends to
    /// `out` the bytes to write at once (100 Continue).
    pub fn next(
        &mut self,
        input: &[u8],
        now: Millis,
        limits: &ConnLimits,
        out: &mut Vec<u8>,
    ) -> (usize, Option<Step<'static>>) {
        match &mut self.phase {
            Phase::Waiting(_) => (0, None),
            Phase::Head { buffer, scan } => {
                if buffer.is_empty() && self.answered > 0 && !input.is_empty() {
                    self.since = now;
                }
                let before = buffer.len();
                // At least one byte more, so that the scan sees the excess, even if the bound was lowered below the
                // bytes that are already here.
                let more = input.len().min(HeadScan::most(&limits.head).max(before + 1) - before);
                buffer.extend_from_slice(&input[..more]);
                match scan.advance(buffer, &limits.head) {
                    Head::Incomplete => (more, None),
                    Head::Refused(fault) => (more, Some(self.refused(fault))),
                    Head::Complete { request, used } => {
                        let taken = used.saturating_sub(before);
                        let length = request.body.bytes();
                        if length == 0 {
                            return (taken, Some(self.hand_out(request, Vec::new())));
                        }
                        if request.expects_continue && input.len() == taken {
                            out.extend_from_slice(CONTINUE);
                        }
                        self.since = now;
                        self.phase = Phase::Body { request: Box::new(request), body: Vec::new(), length };
                        (taken, Some(Step::Again))
                    }
                }
            }
            Phase::Body { body, length, .. } => {
                let more = input.len().min(*length - body.len());
                body.extend_from_slice(&input[..more]);
                if body.len() < *length {
                    return (more, None);
                }
                let phase = std::mem::replace(&mut self.phase, Phase::Waiting(Reply::default()));
                let Phase::Body { request, body, .. } = phase else { return (more, None) };
                (more, Some(self.hand_out(*request, body)))
            }
        }
    }

    fn refused(&mut self, fault: Fault) -> Step<'static> {
        let shown = Shown::of(fault.headers.tokens("Accept"), None);
        self.phase = Phase::Waiting(Reply { to_head: fault.to_head, shown, ..Reply::default() });
        Step::Malformed(fault.problem, fault.headers)
    }

    fn hand_out(&mut self, request: Request, body: Vec<u8>) -> Step<'static> {
        self.phase = Phase::Waiting(Reply {
            keep_alive: request.keep_alive,
            to_head: request.method == Method::Head,
            shown: Shown::of(request.headers.tokens("Accept"), request.target.depth()),
            cross_origin: None,
            door: Door::Closed,
        });
        Step::Request(Box::new(request), body)
    }

    /// Returns the facts about the awaited request that its answer depends on.
    pub fn reply_mut(&mut self) -> Option<&mut Reply> {
        match &mut self.phase {
            Phase::Waiting(reply) => Some(reply),
            _ => None,
        }
    }

    /// Returns how far the awaited request has come with its handshake; `None` if no request is awaited.
    pub fn door(&self) -> Option<&Door> {
        match &self.phase {
            Phase::Waiting(reply) => Some(&reply.door),
            _ => None,
        }
    }

    /// Returns how a refusal of the awaited request is to be shown.
    pub fn shown(&self) -> Shown {
        match &self.phase {
            Phase::Waiting(reply) => reply.shown,
            _ => Shown::default(),
        }
    }

    /// Records that the awaited request was answered, and prepares for the next one. Returns `None` if none was
    /// awaited.
    pub fn answered(&mut self, now: Millis) -> Option<Reply> {
        if !self.is_waiting() {
            return None;
        }
        self.since = now;
        self.answered = self.answered.saturating_add(1);
        match std::mem::replace(&mut self.phase, Phase::head()) {
            Phase::Waiting(reply) => Some(reply),
            _ => None,
        }
    }

    /// Counts the peer's time from now on: it was not read meanwhile.
    pub fn waited(&mut self, now: Millis) {
        self.since = now;
    }

    /// Returns when this connection times out, if it waits for its peer. `written` is when the peer last took bytes of
    /// an answer: a connection is idle once its peer has taken the whole answer. `keep_alive` and `header_timeout` are
    /// milliseconds.
    pub fn deadline(&self, written: Millis, keep_alive: u64, header_timeout: u64) -> Option<Millis> {
        match &self.phase {
            Phase::Waiting(_) => None,
            Phase::Head { buffer, .. } if buffer.is_empty() && self.answered > 0 => {
                Some(self.since.max(written).after(keep_alive))
            }
            _ => Some(self.since.after(header_timeout)),
        }
    }

    /// Returns what the expired deadline means. A request that did not arrive whole now awaits its refusal.
    pub fn expire(&mut self) -> Expired {
        if self.is_idle() {
            return Expired::Silent;
        }
        let waiting = |to_head| Phase::Waiting(Reply { to_head, ..Reply::default() });
        let (what, headers) = match std::mem::replace(&mut self.phase, waiting(false)) {
            Phase::Body { request, .. } => {
                self.phase = waiting(request.method == Method::Head);
                ("body", request.headers)
            }
            _ => ("head", Headers::default()),
        };
        let detail = format!("the request's {what} did not arrive in time");
        Expired::Late(Problem::new(Status::RequestTimeout, detail).closing(), headers)
    }
}

impl Phase {
    fn head() -> Phase {
        Phase::Head { buffer: Vec::new(), scan: HeadScan::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::limits::HeadLimits;

    fn limits(max_head: usize) -> ConnLimits {
        ConnLimits { head: HeadLimits { max_head, ..HeadLimits::default() }, ..ConnLimits::small() }
    }

    #[test]
    fn a_head_that_is_longer_than_a_lowered_bound_is_refused_at_its_next_byte() {
        let mut http = Http::new(Millis(0));
        let mut feed = |bytes: &[u8], max_head| http.next(bytes, Millis(0), &limits(max_head), &mut Vec::new());
        let begun = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 200]].concat();
        assert!(matches!(feed(&begun, 1000), (219, None)));
        match feed(b"\r\nHost: a\r\n\r\n", 100) {
            (1, Some(Step::Malformed(problem, _))) => assert_eq!(problem.status, Status::HeaderFieldsTooLarge),
            (used, step) => panic!("{used} bytes used, and a step: {}", step.is_some()),
        }
    }
}
