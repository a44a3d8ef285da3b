//! Finds the end of a request's head while it arrives, in work proportional to its bytes: the scan looks at each byte
//! once, however the input is split, and [`request::parse`](super::request) parses the whole head once.
//!
//! A head that can only be refused is refused at its first wrong byte, so that no client waits for a deadline to learn
//! it. The verdict depends on the bytes alone, never on how they were split.

use super::headers::Headers;
use super::limits::{HeadLimits, MAX_FIELDS};
use super::problem::Problem;
use super::request::{self, Request};
use super::status::Status;
use crate::types::leading;

/// Longest method, in bytes: longer than any existing one (RFC 9112 §3 then asks for 501).
const MAX_METHOD: usize = 32;
/// Most empty lines before a request line. Old clients sent one after a POST's body (RFC 9112 §2.2).
const MAX_EMPTY_LINES: u8 = 4;

#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    /// More bytes are needed.
    Incomplete,
    /// A request; its head took `used` bytes of the buffer, and its body follows.
    Complete { request: Request, used: usize },
    /// Not a request. The connection must close with the answer, because it is unknown where a next request would
    /// begin.
    Refused(Fault),
}

/// Why a head is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub problem: Problem,
    /// The method was HEAD, so the answer has no body.
    pub to_head: bool,
    /// The header fields if they could be read, else empty; they decide which origins may read the answer.
    pub headers: Headers,
}

/// State of the scan of one head.
#[derive(Clone, Debug, Default)]
pub struct HeadScan {
    /// All bytes before this index have been scanned.
    scanned: usize,
    /// Start of the request line, behind any empty lines.
    start: usize,
    /// Start of the current line.
    line: usize,
    /// Complete lines: the request line, then fields.
    lines: usize,
    empty_lines: u8,
    after_cr: bool,
    place: Place,
    /// Number of bytes looked at, for the tests.
    #[cfg(test)]
    looked_at: usize,
}

/// Position within the request line.
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Method,
    Target {
        from: usize,
    },
    Version,
}

impl HeadScan {
    /// Returns the buffer size, in bytes, with which the scan always reaches a verdict: the longest head, the empty
    /// lines that may come before it, and one excess byte.
    pub fn most(limits: &HeadLimits) -> usize {
        limits.max_head + 2 * usize::from(MAX_EMPTY_LINES) + 1
    }

    /// Scans the new bytes of `buffer`, which holds all bytes since the end of the previous request. After `Complete`
    /// the scan is ready for the next request, whose bytes begin behind the body; after `Refused` it repeats the
    /// refusal.
    pub fn advance(&mut self, buffer: &[u8], limits: &HeadLimits) -> Head {
        loop {
            self.skip_plain(buffer, limits);
            let Some(&byte) = buffer.get(self.scanned) else { return Head::Incomplete };
            #[cfg(test)]
            {
                self.looked_at += 1;
            }
            match self.step(byte, limits) {
                Ok(false) => self.scanned += 1,
                Ok(true) => {
                    let used = self.scanned + 1;
                    let head = buffer.get(self.start..used).unwrap_or_default();
                    let mut headers = Headers::default();
                    return match request::parse(head, limits, &mut headers) {
                        Ok(request) => {
                            *self = HeadScan::default();
                            Head::Complete { request, used }
                        }
                        Err(problem) => self.refused(buffer, problem, headers),
                    };
                }
                Err(problem) => return self.refused(buffer, problem, Headers::default()),
            }
        }
    }

    /// Skips the bytes that [`HeadScan::step`] would accept without a change of state: most of a head, and many at a
    /// time.
    fn skip_plain(&mut self, buffer: &[u8], limits: &HeadLimits) {
        let bound = match (self.lines, self.place) {
            _ if self.after_cr => return,
            (0, Place::Method) => return,
            (0, Place::Target { from }) => limits.max_head.min(from - self.start + limits.max_target),
            (0, Place::Version) => limits.max_head,
            // The first byte of a line has rules of its own.
            _ if self.scanned == self.line => return,
            _ => limits.max_head,
        };
        let end = buffer.len().min(self.start + bound);
        let Some(ahead) = buffer.get(self.scanned..end) else { return };
        let in_target = self.lines == 0 && matches!(self.place, Place::Target { .. });
        let plain = match in_target {
            true => leading(ahead, |byte| (byte > b' ') & (byte != 127)),
            false => leading(ahead, |byte| (byte >= b' ') & (byte != 127)),
        };
        self.scanned += plain;
        #[cfg(test)]
        {
            self.looked_at += plain;
        }
    }

    fn refused(&self, buffer: &[u8], problem: Problem, headers: Headers) -> Head {
        let to_head = buffer.get(self.start..).is_some_and(|head| head.starts_with(b"HEAD "));
        Head::Refused(Fault { problem: problem.closing(), to_head, headers })
    }

    /// Takes the byte at `scanned`; returns true if it is the head's last. Changes nothing if it refuses.
    fn step(&mut self, byte: u8, limits: &HeadLimits) -> Result<bool, Problem> {
        let at = self.scanned;
        if at - self.start >= limits.max_head {
            return Err(Problem::new(
                Status::HeaderFieldsTooLarge,
                format!("the request line and headers are longer than {} bytes", limits.max_head),
            ));
        }
        match byte {
            b'\n' if self.after_cr => self.end_line(at),
            // Refused, though RFC 9112 §2.2 allows treating it as a line end: a proxy before us may have read it
            // differently.
            b'\n' => Err(malformed("a line ends in a bare line feed; lines must end in CR LF")),
            _ if self.after_cr => Err(malformed("a carriage return stands without a line feed behind it")),
            b'\r' => {
                self.after_cr = true;
                Ok(false)
            }
            0x16 if at == self.start => Err(malformed(
                "this port speaks plain HTTP, and the request begins like TLS: use http:// or ws://, \
                 or ask the proxy that ends TLS",
            )),
            0..=8 | 10..=31 | 127 => Err(malformed("the request head contains a control character")),
            _ if self.lines == 0 => self.in_request_line(byte, at, limits).map(|()| false),
            _ if at == self.line => self.begin_field(byte).map(|()| false),
            _ => Ok(false),
        }
    }

    /// Ends the current line at the line feed at `at`. A carriage return comes before it, so `at` is not 0.
    fn end_line(&mut self, at: usize) -> Result<bool, Problem> {
        let empty = at - 1 == self.line;
        if empty && self.lines > 0 {
            return Ok(true);
        }
        if empty {
            if self.empty_lines == MAX_EMPTY_LINES {
                return Err(malformed("too many empty lines stand before the request line"));
            }
            self.empty_lines += 1;
            self.start = at + 1;
        } else {
            self.lines += 1;
        }
        self.line = at + 1;
        self.after_cr = false;
        Ok(false)
    }

    fn in_request_line(&mut self, byte: u8, at: usize, limits: &HeadLimits) -> Result<(), Problem> {
        match self.place {
            Place::Method if byte == b' ' => self.place = Place::Target { from: at + 1 },
            Place::Method if at - self.start >= MAX_METHOD => return Err(request::unknown_method()),
            Place::Target { .. } if byte == b' ' => self.place = Place::Version,
            Place::Target { from } if at - from >= limits.max_target => {
                return Err(Problem::new(
                    Status::UriTooLong,
                    format!("the request's path and query are longer than {} bytes", limits.max_target),
                ));
            }
            _ => {}
        }
        Ok(())
    }

    fn begin_field(&self, byte: u8) -> Result<(), Problem> {
        if byte == b' ' || byte == b'\t' {
            // RFC 9112 §5.2; before the first field: §2.2.
            return Err(malformed("a header line begins with a blank; folded headers are obsolete"));
        }
        // One of the lines is the request line.
        if self.lines > MAX_FIELDS {
            return Err(Problem::new(
                Status::HeaderFieldsTooLarge,
                format!("the request has more than {MAX_FIELDS} header fields"),
            ));
        }
        Ok(())
    }
}

fn malformed(detail: &'static str) -> Problem {
    Problem::new(Status::BadRequest, detail)
}

#[cfg(test)]
mod tests;
