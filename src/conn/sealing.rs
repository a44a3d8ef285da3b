//! A sealed WebSocket's own state: what is said in plaintext and waits to be sealed, and what was opened and waits to be
//! looked at. Knows messages of lines, not what they say, and no socket: sealed frames go into the connection's queue.
//!
//! Plaintext is queued like any other form, by reference where many hear it, and sealed when it is flushed: all that waits
//! then goes into one frame, but never much more than the socket is about to take. A slow peer has no pile of ciphertext.

use super::WriteQueue;
use crate::crypto::sealed::{HANDSHAKE_BYTES, MAX_PLAINTEXT, MAX_SEALED, TAG_BYTES, Transport};
use crate::ws::{self, Violation, code};

/// With so many sealed bytes in the queue nothing more is sealed.
const AHEAD: usize = 16 * 1024;
/// About so much plaintext goes into one frame, in bytes. A longer line has a frame for itself.
const FRAME: usize = 16 * 1024;

const DOES_NOT_VERIFY: Violation = Violation { code: code::POLICY, reason: "a sealed message does not verify" };
const EMPTY: Violation = Violation { code: code::POLICY, reason: "a sealed message that says nothing" };
const NO_LINE: Violation = Violation { code: code::POLICY, reason: "a sealed message that does not end with its line" };
const NOT_UTF8: Violation = Violation { code: code::INVALID_DATA, reason: "text that is not UTF-8" };
const TOO_BIG: Violation = Violation { code: code::TOO_BIG, reason: "message too big" };

/// Why a text frame on a sealed socket ends it.
pub const TEXT: Violation = Violation { code: code::POLICY, reason: "text message where sealed ones are spoken" };

#[derive(Debug, Default)]
pub struct Sealing {
    /// None before the handshake.
    transport: Option<Transport>,
    /// The client's handshake message came; there is one.
    asked: bool,
    /// Lines that wait to be sealed.
    pub plain: WriteQueue,
    /// The close frame, behind all of them.
    last: Vec<u8>,
    /// What a sealed message said, and how much of it was looked at.
    opened: Vec<u8>,
    at: usize,
}

impl Sealing {
    // Looking.

    /// Bytes that wait here.
    pub fn len(&self) -> usize {
        self.plain.len() + self.last.len()
    }

    /// Is the handshake still to come?
    pub fn is_new(&self) -> bool {
        self.transport.is_none()
    }

    /// Is this message the client's part of the handshake? The first one is; who gets it wrong has no second try, since each
    /// costs the server two operations on the curve.
    pub fn is_handshake(&mut self) -> bool {
        !std::mem::replace(&mut self.asked, true)
    }

    /// Was something opened that was not looked at?
    pub fn has_lines(&self) -> bool {
        self.at < self.opened.len()
    }

    /// Would [`Sealing::seal`] add something to this queue?
    pub fn may_seal(&self, queue: &WriteQueue) -> bool {
        self.len() > 0 && queue.len() < AHEAD && (!self.is_new() || !self.last.is_empty())
    }

    /// What the codec accepts here: the longest sealed message, in as many fragments as elsewhere.
    pub fn ws_limits(limits: &ws::Limits) -> ws::Limits {
        ws::Limits { max_message: MAX_SEALED, binary: true, ..*limits }
    }

    // In.

    /// Opens a sealed message; its lines come from [`Sealing::next_line`], which has to have given all before.
    ///
    /// # Errors
    /// It does not verify, says nothing, or is no sequence of lines.
    pub fn open(&mut self, sealed: &[u8]) -> Result<(), Violation> {
        debug_assert!(!self.has_lines());
        let Some(transport) = &mut self.transport else { return Err(DOES_NOT_VERIFY) };
        self.opened.clear();
        self.at = 0;
        transport.open_into(&mut self.opened, sealed).map_err(|_| DOES_NOT_VERIFY)?;
        match self.opened.last() {
            Some(b'\n') => Ok(()),
            last => {
                let violation = if last.is_some() { NO_LINE } else { EMPTY };
                // Nothing of it is obeyed.
                self.opened = Vec::new();
                Err(violation)
            }
        }
    }

    /// The next line of what was opened, without its end; `None` where there is none. `longest` in bytes.
    ///
    /// # Errors
    /// The line is longer, or no UTF-8.
    pub fn next_line(&mut self, longest: usize) -> Option<Result<String, Violation>> {
        let rest = self.opened.get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let line = if self.at == 0 && length + 1 == rest.len() {
            // The usual case, one request: no copy.
            let mut line = std::mem::take(&mut self.opened);
            line.truncate(length);
            line
        } else {
            let line = rest.get(..length).unwrap_or_default().to_vec();
            self.at += length + 1;
            if !self.has_lines() {
                self.opened = Vec::new();
                self.at = 0;
            }
            line
        };
        if line.len() > longest {
            return Some(Err(TOO_BIG));
        }
        Some(String::from_utf8(line).map_err(|_| NOT_UTF8))
    }

    // Out.

    /// The handshake is done: its answer goes out, and what follows is sealed.
    pub fn begin(&mut self, answer: &[u8; HANDSHAKE_BYTES], transport: Transport, queue: &mut WriteQueue) {
        queue.push_own(|out| ws::data_frame(out, false, answer));
        self.transport = Some(transport);
    }

    /// Queues the close frame: the last, behind all that waits.
    pub fn push_last(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.last);
    }

    /// Forgets the lines that are not sealed yet.
    pub fn drop_plain(&mut self) {
        self.plain = WriteQueue::default();
    }

    /// Seals what waits into the queue, as far as the socket may take it soon. `scratch` is a buffer that all share, to put
    /// together what lies in pieces.
    ///
    /// # Errors
    /// After 2^64 messages.
    pub fn seal(&mut self, queue: &mut WriteQueue, scratch: &mut Vec<u8>) -> Result<(), Violation> {
        match &mut self.transport {
            Some(transport) => {
                while !self.plain.is_empty() && queue.len() < AHEAD {
                    let taken = next_frame(&self.plain, scratch);
                    let mut done = Ok(());
                    queue.push_own(|out| {
                        ws::binary_header(out, taken + TAG_BYTES);
                        done = match self.plain.pieces().next() {
                            Some(piece) if piece.len() >= taken => transport.seal_into(out, &piece[..taken]),
                            _ => transport.seal_into(out, scratch.get(..taken).unwrap_or_default()),
                        };
                    });
                    done.map_err(|_| Violation { code: code::POLICY, reason: "no more messages can be sealed" })?;
                    self.plain.advance(taken);
                }
            }
            // Nobody is there who could read it.
            None if !self.last.is_empty() => self.drop_plain(),
            None => {}
        }
        if self.plain.is_empty() && !self.last.is_empty() && queue.len() < AHEAD {
            let last = std::mem::take(&mut self.last);
            queue.push_own(|out| out.extend_from_slice(&last));
        }
        Ok(())
    }
}

/// How many bytes of what waits the next frame takes: as many whole lines as fit into [`FRAME`], or one that is longer. A
/// line longer than any frame goes on in the next. What does not lie in one piece is put together in `scratch`.
fn next_frame(plain: &WriteQueue, scratch: &mut Vec<u8>) -> usize {
    let mut pieces = plain.pieces();
    let Some(first) = pieces.next() else { return 0 };
    if first.len() == plain.len() && first.len() <= FRAME {
        // Whatever is queued ends with a line.
        return first.len();
    }
    if first.len() >= MAX_PLAINTEXT {
        return cut(first.get(..MAX_PLAINTEXT).unwrap_or(first));
    }
    scratch.clear();
    for piece in std::iter::once(first).chain(pieces) {
        let room = MAX_PLAINTEXT - scratch.len();
        scratch.extend_from_slice(piece.get(..room).unwrap_or(piece));
        if scratch.len() >= MAX_PLAINTEXT || scratch.len() >= FRAME && scratch.ends_with(b"\n") {
            break;
        }
    }
    cut(scratch)
}

/// How much of these bytes one frame takes; they are all that there is, or more than one frame takes.
fn cut(bytes: &[u8]) -> usize {
    let after = |at: usize| at + 1;
    if bytes.len() <= FRAME {
        return bytes.len();
    }
    let (head, tail) = bytes.split_at(FRAME);
    if let Some(at) = head.iter().rposition(|&byte| byte == b'\n') {
        return after(at);
    }
    tail.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| FRAME + after(at))
}

#[cfg(test)]
mod tests;
