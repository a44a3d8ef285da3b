//! Queues a connection's output: where each piece goes, and how lines on a sealed socket become frames.

use super::connection::{Ping, State};
use super::{Connection, Shared, WriteQueue};
use crate::crypto::sealed::{HANDSHAKE_BYTES, Transport};
use crate::types::Millis;

/// Bytes per second that a peer must take of what waits for it. Even a modem of 9,600 bit/s takes more.
const SLOWEST: u64 = 1024;

impl Connection {
    /// Answers the client's handshake message with `answer`, and seals everything after it with `transport`. Works
    /// once, on a sealed socket.
    pub fn begin_sealed(&mut self, answer: &[u8; HANDSHAKE_BYTES], transport: Transport, now: Millis) {
        self.started_writing(now);
        if let Some(sealing) = self.sealing.as_mut().filter(|sealing| sealing.is_new()) {
            sealing.begin(answer, transport, &mut self.queue);
        }
    }

    /// Removes the bytes that the socket took from the queue.
    pub fn wrote(&mut self, taken: usize, now: Millis) {
        self.queue.advance(taken);
        self.backed_up = self.waiting() > 0;
        self.progress = match self.backed_up {
            false if taken > 0 => now,
            false => self.progress,
            // Each byte earns its time, so that one byte now and then keeps nobody's queue alive.
            true => now.min(self.progress.after(taken as u64 * 1000 / SLOWEST)),
        };
        if self.queue.is_empty()
            && let State::Open(open) = &mut self.state
            && open.ping == Ping::Queued
        {
            open.ping = Ping::Sent(now);
        }
    }

    /// Seals waiting lines, as far as the socket may take them soon. Must be called before each flush. `scratch` is a
    /// buffer for the plaintext being sealed.
    pub fn seal(&mut self, now: Millis, scratch: &mut Vec<u8>) {
        let Some(sealing) = self.sealing.as_mut().filter(|sealing| sealing.may_seal(&self.queue)) else { return };
        if let Err(violation) = sealing.seal(&mut self.queue, scratch) {
            sealing.give_up();
            self.close_politely(violation.code, violation.reason, now);
        }
    }

    /// Returns whether something waits to be sealed and the queue has room for it.
    pub fn wants_sealing(&self) -> bool {
        self.sealing.as_ref().is_some_and(|sealing| sealing.may_seal(&self.queue))
    }

    /// Queues objects for this connection only; `write` appends them in the connection's encoding.
    pub fn push_own(&mut self, now: Millis, write: impl FnOnce(&mut Vec<u8>)) {
        self.started_writing(now);
        self.object_queue().push_own(write);
    }

    /// Queues part of a shared buffer, which is in the connection's encoding.
    pub fn push_shared(&mut self, bytes: &Shared, start: u32, end: u32, now: Millis) {
        self.started_writing(now);
        self.object_queue().push_shared(bytes, start, end);
    }

    /// Returns the queue for the session's objects: plaintext first, on a sealed socket.
    fn object_queue(&mut self) -> &mut WriteQueue {
        match &mut self.sealing {
            None => &mut self.queue,
            Some(sealing) => &mut sealing.plain,
        }
    }

    /// Queues a control frame, which is never sealed.
    pub(super) fn push_frame(&mut self, now: Millis, write: impl FnOnce(&mut Vec<u8>)) {
        self.started_writing(now);
        self.queue.push_own(write);
    }

    /// Queues the close frame, behind everything that waits.
    pub(super) fn push_last(&mut self, now: Millis, write: impl FnOnce(&mut Vec<u8>)) {
        self.started_writing(now);
        match &mut self.sealing {
            None => self.queue.push_own(write),
            Some(sealing) => sealing.push_last(write),
        }
    }

    /// Starts the write timeout, if the queue was empty until now.
    pub(super) fn started_writing(&mut self, now: Millis) {
        if self.queue.is_empty() {
            self.progress = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::{ConnLimits, Ending, Timeout};

    /// Returns after how many seconds a peer that takes so many bytes in each is dropped, if that is within 100.
    fn dropped_after(bytes: usize) -> Option<u64> {
        let mut connection = Connection::new(([192, 0, 2, 1], 1).into(), Millis(0));
        connection.queue.push_http(vec![0; 1 << 20]);
        let limits = ConnLimits { header_timeout: 3_600_000, write_wait: 10_000, ..ConnLimits::small() };
        (1..=100).find(|second| {
            let now = Millis(second * 1000);
            let is_over = matches!(connection.timeout(now, &limits), Timeout::Drop(Ending::TooSlow));
            connection.wrote(bytes, now);
            is_over
        })
    }

    #[test]
    fn a_byte_now_and_then_keeps_no_queue_alive() {
        assert_eq!(dropped_after(0), Some(10));
        assert_eq!(dropped_after(1), Some(10));
        assert_eq!(dropped_after(512), Some(19));
        assert_eq!(dropped_after(1024), None);
        assert_eq!(dropped_after(8 * 1024), None);
    }
}
