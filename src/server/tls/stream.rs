//! TLS between a socket and the engine, which sees plaintext only: complete records are decrypted as soon as they are
//! read, and the queue is encrypted only as fast as the socket accepts it. The buffers belong to the loop; an idle
//! connection has none.

use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::conn::WriteQueue;
use crate::crypto::tls::{Fault, RECORD, ServerConfig, Session, UNFINISHED};
use crate::engine::Written;
use crate::server::received::Received;

/// Most bytes of ciphertext that wait for one socket. The bound is for a client that keeps requesting answers of the
/// TLS protocol itself, and reads none.
const WAITING: usize = 64 * 1024;

/// Bytes of memory that TLS may take at worst for one connection: its keys (3.4 KiB as measured, which is all that an
/// idle connection needs), incomplete records, and waiting ciphertext.
pub const WORST_BYTES: Option<usize> = Some(4096 + UNFINISHED + WAITING + RECORD);

/// TLS state of a socket.
pub struct TlsStream {
    session: Session,
    /// Ciphertext that the socket has not accepted yet: a record, or part of a handshake.
    waiting: Vec<u8>,
    /// Bytes of `waiting` already written.
    sent: usize,
    /// The queue's last byte is encrypted, but stays in the queue until the socket has accepted its record. The engine
    /// thus correctly sees a non-empty queue: its deadlines apply, and nothing is shut down too early.
    owed: bool,
    /// The bytes held when [`TlsStream::growth`] was last asked for.
    told_bytes: usize,
    /// The end of the peer's stream was reported.
    told: bool,
    /// Our close_notify or alert is queued or sent, or there is none to send.
    closed: bool,
}

/// Buffers that all connections use in turn.
#[derive(Default)]
pub struct Scratch {
    cipher: Vec<u8>,
    plain: Vec<u8>,
    out: Vec<u8>,
}

impl TlsStream {
    /// Creates the TLS state of a newly accepted socket.
    ///
    /// # Errors
    /// The library cannot make a session from the settings.
    pub fn new(config: Arc<ServerConfig>) -> Result<TlsStream, Fault> {
        let session = Session::new(config)?;
        Ok(TlsStream { session, waiting: Vec::new(), sent: 0, owed: false, told_bytes: 0, told: false, closed: false })
    }

    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Returns how many bytes of memory this stream holds more than when it was asked last, or less.
    pub fn growth(&mut self) -> i64 {
        let held = self.waiting.capacity() + self.session.unfinished_bytes();
        held as i64 - std::mem::replace(&mut self.told_bytes, held) as i64
    }

    /// Reports whether there is ciphertext for the socket.
    pub fn wants_write(&self) -> bool {
        self.sent < self.waiting.len()
    }

    /// Reads once, at most `most` bytes, and decrypts all complete records. With `hung_up`, `more` is always reported.
    pub fn read<'a>(
        &mut self,
        socket: &mut (impl Read + Write),
        scratch: &'a mut Scratch,
        most: usize,
        hung_up: bool,
    ) -> Received<'a> {
        if self.session.has_ended() && !self.told {
            self.told = true;
            return Received::End;
        }
        let Scratch { cipher, plain, out } = scratch;
        plain.clear();
        out.clear();
        // As long as any read needs, and never shortened, so that nothing is cleared between two reads.
        cipher.resize(cipher.len().max(UNFINISHED + most), 0);
        let before = self.session.put_unfinished(cipher);
        let buffer = cipher.get_mut(before..before + most).unwrap_or_default();
        let read = loop {
            match socket.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let new = match read {
            Ok(0) if self.told => return Received::Nothing,
            // No byte was exchanged: the peer was a port probe.
            Ok(0) if self.session.is_fresh() => return Received::End,
            // Our close_notify was sent, and many peers answer it with a bare end of stream.
            Ok(0) if self.closed => return Received::End,
            Ok(0) => return Received::Broken(Fault::Truncated),
            Ok(new) => new,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Nothing,
            Err(_) => return Received::Failed,
        };
        let more = new == most || hung_up;
        if self.told {
            // Data after the peer's close_notify is ignored.
            return Received::Some { bytes: &mut [], more };
        }
        let bytes = cipher.get_mut(..before + new).unwrap_or_default();
        if self.session.is_fresh() && bytes.first().is_some_and(u8::is_ascii_uppercase) {
            return Received::PlainHttp;
        }
        let received = self.session.receive(bytes, new, plain, out);
        self.waiting.extend_from_slice(out);
        if let Err(fault) = received {
            // The alert gives the reason; the result is the same whether or not it reaches the peer.
            self.closed = true;
            let _ = self.flush(socket);
            return Received::Broken(fault);
        }
        if self.waiting.len() - self.sent > WAITING {
            return Received::Failed;
        }
        // An end that came with the last bytes is reported by the next read.
        Received::Some { bytes: plain, more: more || self.session.has_ended() }
    }

    /// Writes waiting ciphertext, and then as much of the queue as the socket accepts; returns the number of the
    /// queue's bytes that are done. Sets `blocked` if the socket accepted only a part.
    pub fn write(
        &mut self,
        socket: &mut impl Write,
        queue: &WriteQueue,
        scratch: &mut Scratch,
        blocked: &mut bool,
    ) -> Written {
        match self.flush(socket) {
            Ok(true) => {}
            Ok(false) => {
                *blocked = true;
                return Written::Some(0);
            }
            Err(_) => return Written::Failed,
        }
        if self.session.is_handshaking() || self.closed {
            return Written::Some(0);
        }
        // The record that held the queue's first byte was accepted just now.
        let mut taken = usize::from(std::mem::take(&mut self.owed));
        let mut rest = Rest::of(queue, taken);
        let Scratch { plain, out, .. } = scratch;
        loop {
            plain.clear();
            out.clear();
            rest.fill(plain);
            if plain.is_empty() {
                return Written::Some(taken);
            }
            if self.session.encrypt(plain, out).is_err() {
                return Written::Failed;
            }
            taken += plain.len();
            let Ok(sent) = write_once(socket, out) else { return Written::Failed };
            if let Some(left) = out.get(sent..).filter(|left| !left.is_empty()) {
                (self.waiting, self.sent) = (left.to_vec(), 0);
                *blocked = true;
                if taken == queue.len() {
                    self.owed = true;
                    taken -= 1;
                }
                return Written::Some(taken);
            }
        }
    }

    /// Sends a close_notify (RFC 8446 §6.1); true once the socket has accepted everything and can be shut down.
    /// Otherwise another [`TlsStream::write`] sends the rest.
    pub fn close(&mut self, socket: &mut impl Write) -> bool {
        if !std::mem::replace(&mut self.closed, true) {
            if self.sent == self.waiting.len() {
                (self.waiting, self.sent) = (Vec::new(), 0);
            }
            self.session.close_notify(&mut self.waiting);
        }
        // A failed socket has no more to send.
        self.flush(socket).unwrap_or(true)
    }

    /// Reports whether the socket has accepted our close_notify or alert, if there is one to send.
    pub fn is_closed(&self) -> bool {
        self.closed && !self.wants_write()
    }

    /// Writes waiting ciphertext; true if none is left.
    fn flush(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        if let Some(waiting) = self.waiting.get(self.sent..).filter(|waiting| !waiting.is_empty()) {
            self.sent += write_once(socket, waiting)?;
            if self.sent < self.waiting.len() {
                return Ok(false);
            }
        }
        (self.waiting, self.sent) = (Vec::new(), 0);
        Ok(true)
    }
}

/// The part of a queue that is still to be encrypted.
struct Rest<'a, I> {
    pieces: I,
    piece: &'a [u8],
}

impl<'a> Rest<'a, ()> {
    fn of(queue: &'a WriteQueue, skip: usize) -> Rest<'a, impl Iterator<Item = &'a [u8]>> {
        let mut pieces = queue.pieces();
        let piece = pieces.next().unwrap_or_default();
        // `skip` is at most one byte, and no piece is empty.
        Rest { pieces, piece: piece.get(skip..).unwrap_or_default() }
    }
}

impl<'a, I: Iterator<Item = &'a [u8]>> Rest<'a, I> {
    /// Fills a buffer with the plaintext of one record.
    fn fill(&mut self, record: &mut Vec<u8>) {
        while record.len() < RECORD {
            if self.piece.is_empty() {
                let Some(next) = self.pieces.next() else { return };
                self.piece = next;
            }
            let (now, later) = self.piece.split_at(self.piece.len().min(RECORD - record.len()));
            record.extend_from_slice(now);
            self.piece = later;
        }
    }
}

/// Writes once; returns 0 if the socket accepts nothing now.
fn write_once(socket: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests;
