//! A log of one room, and its requests and answers in flight: appends in order, reads in any order.

use std::collections::VecDeque;

use racerd::store::{Append, Appended, Outcome, Page, Read, ReadFailed, ScopedKey, Span, Why};
use racerd::types::{Message, Seq, WallMillis};

#[derive(Clone, Default, Hash)]
pub struct Store {
    pub log: Vec<Message>,
    keys: Vec<(ScopedKey, Seq)>,
    pub appends: VecDeque<Append>,
    /// Decided appends; their answers are in flight, in order.
    pub decided: VecDeque<Appended>,
    pub reads: Vec<Read>,
    /// Completed reads; their answers are in flight, in any order.
    pub answers: Vec<Answer>,
}

#[derive(Clone, Hash)]
pub enum Answer {
    Page(Page),
    Failed(ReadFailed),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Fine,
    /// Stored, although the store cannot say so.
    Unsure,
}

impl Store {
    /// Decides the oldest append.
    pub fn decide(&mut self, fate: Fate) {
        let Some(append) = self.appends.pop_front() else { return };
        let (ticket, room, bytes) = (append.ticket, append.room.clone(), append.body.len());
        let stored = self.append(append);
        let outcome = if fate == Fate::Fine { stored } else { Outcome::Unavailable };
        self.decided.push_back(Appended { ticket, room, bytes, outcome });
    }

    fn append(&mut self, append: Append) -> Outcome {
        let at = WallMillis(0);
        if let Some((_, seq)) = self.keys.iter().find(|(key, _)| Some(*key) == append.key) {
            return Outcome::Duplicate { seq: *seq, at };
        }
        let seq = Seq(self.log.len() as u64 + 1);
        self.keys.extend(append.key.map(|key| (key, seq)));
        let message = Message { room: append.room, seq, at, author: append.author, body: append.body };
        self.log.push(message.clone());
        Outcome::Stored(message)
    }

    /// Carries out a read.
    pub fn read(&mut self, index: usize) {
        let Read { ticket, room, span, limit, .. } = self.reads.remove(index);
        let forwards = matches!(span, Span::After(_));
        let is_in = |m: &&Message| match span {
            Span::After(seq) => m.seq > seq,
            Span::Before(seq) => m.seq < seq,
            Span::Newest => true,
        };
        let wanted: Vec<&Message> = self.log.iter().filter(is_in).collect();
        let count = wanted.len().min(limit as usize);
        let part = if forwards { 0..count } else { wanted.len() - count..wanted.len() };
        let messages = wanted[part].iter().map(|m| (*m).clone()).collect();
        let (oldest, head, more) = (Seq(1), Seq(self.log.len() as u64), count < wanted.len());
        self.answers.push(Answer::Page(Page { ticket, room, span, messages, oldest, head, more }));
    }

    pub fn fail(&mut self, index: usize) {
        let Read { ticket, room, .. } = self.reads.remove(index);
        self.answers.push(Answer::Failed(ReadFailed { ticket, room, why: Why::Disk }));
    }

    /// Kills the process: only committed messages stay.
    pub fn crash(&mut self) {
        *self = Store { log: std::mem::take(&mut self.log), keys: std::mem::take(&mut self.keys), ..Store::default() };
    }
}
