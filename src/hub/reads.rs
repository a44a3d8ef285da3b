//! A bound on reads: so many are with the store at once, the others wait in line, so that a hundred members who catch up
//! cannot keep the disk from commits.

use std::collections::VecDeque;

use crate::store::{Read, Span, Ticket};
use crate::types::RoomId;

#[derive(Clone, Hash, Default)]
pub struct Reads {
    waiting: VecDeque<Read>,
    /// At most as many as the bound.
    in_flight: Vec<Asked>,
}

/// What an answer has to match, so that a repeated one opens no place that is taken.
#[derive(Clone, Hash)]
struct Asked {
    ticket: Ticket,
    room: RoomId,
    span: Span,
}

impl Reads {
    /// Those that wait and those that are under way.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    pub fn push(&mut self, read: Read) {
        self.waiting.push_back(read);
    }

    /// The next read that may go to the store. Those that nobody wants any more are left out.
    pub fn poll(&mut self, limit: usize, mut is_wanted: impl FnMut(&Read) -> bool) -> Option<Read> {
        if self.in_flight.len() >= limit {
            return None;
        }
        while let Some(read) = self.waiting.pop_front() {
            if is_wanted(&read) {
                self.in_flight.push(Asked { ticket: read.ticket, room: read.room.clone(), span: read.span });
                return Some(read);
            }
        }
        None
    }

    /// An answer came; a failure names no span. False if nothing like it was asked, or it was answered already: the
    /// store may repeat itself.
    pub fn answered(&mut self, ticket: &Ticket, room: &RoomId, span: Option<Span>) -> bool {
        let is_it =
            |asked: &Asked| asked.ticket == *ticket && asked.room == *room && span.is_none_or(|s| s == asked.span);
        let Some(index) = self.in_flight.iter().position(is_it) else { return false };
        self.in_flight.swap_remove(index);
        true
    }
}
