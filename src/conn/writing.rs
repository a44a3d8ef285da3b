//! What a connection queues to be written: where each piece goes, and how what is said on a sealed socket becomes frames.

use super::{Connection, Shared, WriteQueue};
use crate::crypto::sealed::{HANDSHAKE_BYTES, Transport};
use crate::types::Millis;

impl Connection {
    /// The client's handshake message was good: this answers it, and this seals what follows. Only once, on a sealed socket.
    pub fn begin_sealed(&mut self, answer: &[u8; HANDSHAKE_BYTES], transport: Transport, now: Millis) {
        self.started_writing(now);
        if let Some(sealing) = self.sealing.as_mut().filter(|sealing| sealing.is_new()) {
            sealing.begin(answer, transport, &mut self.queue);
        }
    }

    /// Seals what waits, as far as the socket may take it soon; `scratch` is a buffer for what is being sealed. Before each flush.
    pub fn seal(&mut self, now: Millis, scratch: &mut Vec<u8>) {
        let Some(sealing) = self.sealing.as_mut().filter(|sealing| sealing.may_seal(&self.queue)) else { return };
        if let Err(violation) = sealing.seal(&mut self.queue, scratch) {
            sealing.drop_plain();
            self.close_politely(violation.code, violation.reason, now);
        }
    }

    /// Is there more to seal than was sealed, and room for it?
    pub fn wants_sealing(&self) -> bool {
        self.sealing.as_ref().is_some_and(|sealing| sealing.may_seal(&self.queue))
    }

    /// Queues objects, in the form that it takes, for this connection only.
    pub fn push_own(&mut self, now: Millis, write: impl FnOnce(&mut Vec<u8>)) {
        self.started_writing(now);
        self.said().push_own(write);
    }

    /// Queues part of a shared buffer, likewise.
    pub fn push_shared(&mut self, bytes: &Shared, start: u32, end: u32, now: Millis) {
        self.started_writing(now);
        self.said().push_shared(bytes, start, end);
    }

    /// Where that goes which is said.
    fn said(&mut self) -> &mut WriteQueue {
        match &mut self.sealing {
            None => &mut self.queue,
            Some(sealing) => &mut sealing.plain,
        }
    }

    /// Queues a frame that is never sealed: control frames.
    pub(super) fn push_frame(&mut self, now: Millis, write: impl FnOnce(&mut Vec<u8>)) {
        self.started_writing(now);
        self.queue.push_own(write);
    }

    /// Queues the close frame, behind all that waits.
    pub(super) fn push_last(&mut self, now: Millis, write: impl FnOnce(&mut Vec<u8>)) {
        self.started_writing(now);
        match &mut self.sealing {
            None => self.queue.push_own(write),
            Some(sealing) => sealing.push_last(write),
        }
    }

    pub(super) fn started_writing(&mut self, now: Millis) {
        if self.queue.is_empty() {
            self.progress = now;
        }
    }
}
