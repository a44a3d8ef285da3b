//! A bound on reads: so many are with the store at once, the others wait in line, so that a hundred members who catch up
//! cannot keep the disk from commits.

use std::collections::VecDeque;

use crate::store::Read;

#[derive(Default)]
pub struct Reads {
    waiting: VecDeque<Read>,
    in_flight: usize,
}

impl Reads {
    pub fn push(&mut self, read: Read) {
        self.waiting.push_back(read);
    }

    /// The next read that may go to the store.
    pub fn poll(&mut self, limit: usize) -> Option<Read> {
        if self.in_flight >= limit {
            return None;
        }
        let read = self.waiting.pop_front()?;
        self.in_flight += 1;
        Some(read)
    }

    /// One was answered. An answer too many is no fault of ours: the store may repeat itself.
    pub fn answered(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }
}
