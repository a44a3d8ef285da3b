//! A store for the hub alone, around a naive log: requests wait until the test decides them, and answers until it
//! delivers them, so that reads and appends overtake each other in every possible way.

use std::collections::VecDeque;

use super::NaiveLog;
use crate::store::{Append, Appended, Outcome, Page, Read, ReadFailed, StoreEvent, Why};
use crate::types::Era;

/// Requests and answers in flight. Appends keep their order; reads do not.
#[derive(Clone, Debug, Default, Hash)]
pub struct Store {
    pub log: NaiveLog,
    pub appends: VecDeque<Append>,
    /// Decided appends; their answers are in flight, in order.
    pub decided: VecDeque<Appended>,
    pub reads: Vec<Read>,
    /// Completed reads; their answers are in flight, in any order.
    pub answers: Vec<Result<Page, ReadFailed>>,
}

/// What becomes of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Fine,
    Fails,
    /// Stored, although the store cannot say so.
    Unsure,
}

impl Store {
    /// Decides the oldest waiting append.
    pub fn decide(&mut self, fate: Fate) {
        let Some(append) = self.appends.pop_front() else { return };
        let outcome = match fate {
            Fate::Fine => self.log.append(&append),
            Fate::Fails => Outcome::Unavailable,
            Fate::Unsure => {
                self.log.append(&append);
                Outcome::Unavailable
            }
        };
        let (ticket, room, bytes) = (append.ticket, append.room, append.body.len());
        let era = (outcome != Outcome::Unavailable).then_some(Era::FIRST);
        self.decided.push_back(Appended { ticket, room, bytes, era, outcome });
    }

    /// Carries out one of the waiting reads, on the log as it is now, or has it fail. The index counts around.
    pub fn read(&mut self, index: usize, works: bool) {
        if self.reads.is_empty() {
            return;
        }
        let read = self.reads.remove(index % self.reads.len());
        self.answers.push(match works {
            true => Ok(self.log.read(&read)),
            false => Err(ReadFailed { ticket: read.ticket, room: read.room, why: Why::Disk }),
        });
    }

    /// Takes one of the answers to reads, for delivery. The index counts around.
    pub fn arrive(&mut self, index: usize) -> Option<StoreEvent> {
        if self.answers.is_empty() {
            return None;
        }
        let answer = self.answers.remove(index % self.answers.len());
        Some(answer.map_or_else(StoreEvent::ReadFailed, StoreEvent::Page))
    }

    /// Loses everything but the log, as the end of the process does.
    pub fn crash(&mut self) {
        *self = Store { log: std::mem::take(&mut self.log), ..Store::default() };
    }

    pub fn is_idle(&self) -> bool {
        self.appends.is_empty() && self.decided.is_empty() && self.reads.is_empty() && self.answers.is_empty()
    }
}
