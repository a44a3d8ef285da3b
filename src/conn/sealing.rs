//! The state of a sealed WebSocket: plaintext that waits to be sealed, and opened lines that wait to be parsed. It
//! knows messages made of lines, but not what they mean; the only one that it writes itself tells of a close. Sealed
//! frames go into the connection's queue.
//!
//! Plaintext is queued like any other encoding, by reference where it is shared, and sealed when it is flushed.
//! Everything that waits then goes into one frame, but never much more than the socket is about to take, so that a slow
//! peer has no backlog of ciphertext.

use super::WriteQueue;
use crate::crypto::sealed::{HANDSHAKE_BYTES, MAX_PLAINTEXT, MAX_SEALED, TAG_BYTES, Transport};
use crate::json::Object;
use crate::ws::{self, Violation, code};

/// High-water mark of sealed bytes in the queue: above it nothing more is sealed.
const AHEAD: usize = 16 * 1024;
/// Bytes of plaintext that go into one frame, roughly. A longer line gets a frame of its own.
const FRAME: usize = 16 * 1024;

const DOES_NOT_VERIFY: Violation = Violation { code: code::POLICY, reason: "a sealed message does not verify" };
const EMPTY: Violation = Violation { code: code::POLICY, reason: "empty sealed message" };
const NO_LINE: Violation = Violation { code: code::POLICY, reason: "a sealed message must end with a newline" };
const NOT_UTF8: Violation = Violation { code: code::INVALID_DATA, reason: "text that is not UTF-8" };
const TOO_BIG: Violation = Violation { code: code::TOO_BIG, reason: "message too big" };

/// The violation of a text message on a sealed socket.
pub const TEXT: Violation = Violation { code: code::POLICY, reason: "text message on a sealed socket" };

#[derive(Debug, Default)]
pub struct Sealing {
    /// `None` before the handshake.
    transport: Option<Transport>,
    /// The client's one handshake message has come.
    has_handshake: bool,
    /// Lines that wait to be sealed.
    pub plain: WriteQueue,
    /// The last frame ended within a line.
    is_within_line: bool,
    /// The close frame, which follows all of them.
    last: Vec<u8>,
    /// The lines of the last sealed message, and how many of their bytes were parsed.
    opened: Vec<u8>,
    at: usize,
}

impl Sealing {
    /// Returns the bytes that wait here.
    pub fn len(&self) -> usize {
        self.plain.len() + self.last.len()
    }

    /// Returns the bytes of memory of what waits here, and of the opened lines.
    pub fn memory(&self) -> usize {
        size_of::<Sealing>() + self.plain.memory() + self.last.capacity() + self.opened.capacity()
    }

    /// Returns whether the handshake is still to come.
    pub fn is_new(&self) -> bool {
        self.transport.is_none()
    }

    /// Returns whether this message is the client's part of the handshake. Only the first one is: a second try is not
    /// granted, since each costs the server two operations on the curve.
    pub fn is_handshake(&mut self) -> bool {
        !std::mem::replace(&mut self.has_handshake, true)
    }

    /// Returns whether opened lines wait to be parsed.
    pub fn has_lines(&self) -> bool {
        self.at < self.opened.len()
    }

    /// Returns whether [`Sealing::seal`] would add something to this queue.
    pub fn may_seal(&self, queue: &WriteQueue) -> bool {
        self.len() > 0 && queue.len() < AHEAD && (!self.is_new() || !self.last.is_empty())
    }

    /// Returns the codec's limits on a sealed socket: the longest sealed message, in as many fragments as elsewhere.
    pub fn ws_limits(limits: &ws::Limits) -> ws::Limits {
        ws::Limits { max_message: MAX_SEALED, binary: true, ..*limits }
    }

    /// Opens a sealed message, whose lines [`Sealing::next_line`] returns. All lines of the one before must have been
    /// taken.
    ///
    /// # Errors
    /// The message does not verify, is empty, or does not consist of whole lines.
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
                // None of its lines may take effect.
                self.opened = Vec::new();
                Err(violation)
            }
        }
    }

    /// Returns the next opened line without its newline; `None` if there is none.
    ///
    /// # Errors
    /// The line is longer than `max_bytes`, or not UTF-8.
    pub fn next_line(&mut self, max_bytes: usize) -> Option<Result<String, Violation>> {
        let rest = self.opened.get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let line = if self.at == 0 && length + 1 == rest.len() {
            // The usual case of a single request needs no copy.
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
        if line.len() > max_bytes {
            return Some(Err(TOO_BIG));
        }
        Some(String::from_utf8(line).map_err(|_| NOT_UTF8))
    }

    /// Completes the handshake: queues its answer, and seals everything that follows.
    pub fn begin(&mut self, answer: &[u8; HANDSHAKE_BYTES], transport: Transport, queue: &mut WriteQueue) {
        queue.push_own(|out| ws::data_frame(out, false, answer));
        self.transport = Some(transport);
    }

    /// Queues the close frame, behind everything that waits.
    pub fn push_last(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.last);
    }

    /// Queues the line that tells the client of a close, behind everything that waits: the close frame itself is not
    /// sealed, and proves nothing to it. Before the handshake there is nobody to tell.
    pub fn announce_close(&mut self, code: u16, reason: &str) {
        if self.transport.is_none() {
            return;
        }
        self.plain.push_own(|out| {
            Object::of_type(out, "closing").number("code", code.into()).string("reason", reason).end();
            out.push(b'\n');
        });
    }

    /// Drops the lines that are not sealed yet, but for the rest of one that is sealed in part: the next line must not
    /// go on in it.
    pub fn drop_plain(&mut self) {
        let mut rest = Vec::new();
        let pieces = self.is_within_line.then(|| self.plain.pieces());
        for piece in pieces.into_iter().flatten() {
            let end = piece.iter().position(|&byte| byte == b'\n');
            rest.extend_from_slice(end.map_or(piece, |at| &piece[..=at]));
            if end.is_some() {
                break;
            }
        }
        self.plain = WriteQueue::default();
        self.plain.push_own(|out| out.append(&mut rest));
    }

    /// Seals nothing more: only the close frame goes out.
    pub fn give_up(&mut self) {
        self.transport = None;
        self.plain = WriteQueue::default();
    }

    /// Seals waiting lines into the queue, as far as the socket may take them soon. `scratch` is a buffer shared by all
    /// connections, in which scattered pieces are put together.
    ///
    /// # Errors
    /// 2^64 messages have been sealed.
    pub fn seal(&mut self, queue: &mut WriteQueue, scratch: &mut Vec<u8>) -> Result<(), Violation> {
        match &mut self.transport {
            Some(transport) => {
                while !self.plain.is_empty() && queue.len() < AHEAD {
                    let taken = next_frame(&self.plain, scratch);
                    let mut done = Ok(());
                    queue.push_own(|out| {
                        ws::binary_header(out, taken + TAG_BYTES);
                        let lines = match self.plain.pieces().next() {
                            Some(piece) if piece.len() >= taken => &piece[..taken],
                            _ => scratch.get(..taken).unwrap_or_default(),
                        };
                        self.is_within_line = lines.last() != Some(&b'\n');
                        done = transport.seal_into(out, lines);
                    });
                    done.map_err(|_| Violation { code: code::POLICY, reason: "no more messages can be sealed" })?;
                    self.plain.advance(taken);
                }
            }
            // Without a handshake nobody could read it.
            None if !self.last.is_empty() => self.give_up(),
            None => {}
        }
        if self.plain.is_empty() && !self.last.is_empty() && queue.len() < AHEAD {
            let last = std::mem::take(&mut self.last);
            queue.push_own(|out| out.extend_from_slice(&last));
        }
        Ok(())
    }
}

/// Returns how many bytes of plaintext the next frame takes: as many whole lines as fit into [`FRAME`], or one longer
/// line. A line longer than any frame continues in the next. Scattered pieces are put together in `scratch`.
fn next_frame(plain: &WriteQueue, scratch: &mut Vec<u8>) -> usize {
    let mut pieces = plain.pieces();
    let Some(first) = pieces.next() else { return 0 };
    if first.len() == plain.len() && first.len() <= FRAME {
        // Everything that is queued ends with a whole line.
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

/// Returns how many of these bytes one frame takes. They are all that wait, or more than one frame takes.
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
