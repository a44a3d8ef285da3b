//! Limits the reads in flight, so that a hundred members catching up cannot keep the disk from commits. Further reads
//! wait in line.

use std::collections::VecDeque;

use crate::store::{Read, Span, Ticket};
use crate::types::RoomId;

#[derive(Clone, Hash, Default)]
pub struct Reads {
    waiting: VecDeque<Read>,
    /// At most `reads_in_flight`.
    in_flight: Vec<Asked>,
}

/// A read in flight. An answer must match all of it, so that a repeated answer does not free another read's place.
#[derive(Clone, Hash)]
struct Asked {
    ticket: Ticket,
    room: RoomId,
    span: Span,
}

impl Reads {
    /// Returns the number of waiting reads and reads in flight.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// Returns whether a read of this room waits, or is in flight.
    pub fn has(&self, room: &RoomId) -> bool {
        self.waiting.iter().any(|read| read.room == *room) || self.in_flight.iter().any(|asked| asked.room == *room)
    }

    pub fn push(&mut self, read: Read) {
        self.waiting.push_back(read);
    }

    /// Returns the next read that may go to the store, skipping those that are not wanted any more, and leaving those
    /// that are held back.
    pub fn poll(
        &mut self,
        limit: usize,
        mut is_wanted: impl FnMut(&Read) -> bool,
        is_held: impl Fn(&Read) -> bool,
    ) -> Option<Read> {
        if self.in_flight.len() >= limit {
            return None;
        }
        while let Some(index) = self.waiting.iter().position(|read| !is_held(read)) {
            let Some(read) = self.waiting.remove(index) else { break };
            if is_wanted(&read) {
                self.in_flight.push(Asked { ticket: read.ticket, room: read.room.clone(), span: read.span });
                return Some(read);
            }
        }
        None
    }

    /// Matches an answer with its read; a failure names no span. Returns false if there is no such read, or it was
    /// answered already: the store may repeat an answer.
    pub fn answered(&mut self, ticket: &Ticket, room: &RoomId, span: Option<Span>) -> bool {
        let is_it =
            |asked: &Asked| asked.ticket == *ticket && asked.room == *room && span.is_none_or(|s| s == asked.span);
        let Some(index) = self.in_flight.iter().position(is_it) else { return false };
        self.in_flight.swap_remove(index);
        true
    }
}
